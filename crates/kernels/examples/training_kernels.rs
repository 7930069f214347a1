//! How near products with frozen weights come to the machine in training: operations a second forward and backward, by
//! format, threads and rows.
//!
//! `cargo run --release -p billion-kernels --example training_kernels [-- FORMAT...]`

use billion_kernels::training::{Arithmetic, PackedRows, Stored, backward, forward};
use billion_kernels::{Format, Isa, Pool, quantize};
use std::time::{Duration, Instant};

/// Shape of a feed-forward matrix of a 1.1B Llama.
const COLS: usize = 2048;
const ROWS: usize = 5632;

/// Time each figure is measured for; the best pass counts, since other programs only slow it down.
const MEASURE: Duration = Duration::from_millis(400);

/// Seconds: of this thread's own work where it works alone, so that other programs do not count; else of the clock.
#[cfg(unix)]
fn seconds(alone: bool) -> f64 {
    let clock = if alone {
        libc::CLOCK_THREAD_CPUTIME_ID
    } else {
        libc::CLOCK_MONOTONIC
    };
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
fn seconds(_alone: bool) -> f64 {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

fn best(alone: bool, mut pass: impl FnMut()) -> f64 {
    pass();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < MEASURE {
        let pass_start = seconds(alone);
        pass();
        best = best.min(seconds(alone) - pass_start);
    }
    best
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    println!("format  arithmetic    threads  rows  forward GFLOP/s  backward GFLOP/s");
    for format in Format::ALL {
        if !asked.is_empty() && !asked.iter().any(|name| name == format.name()) {
            continue;
        }
        let w: Vec<f32> = (0..COLS * ROWS)
            .map(|i| ((i * 7919) % 8191) as f32 / 4096.0 - 1.0)
            .collect();
        let mut bytes = vec![0; format.row_bytes(w.len()).expect("whole blocks")];
        quantize(format, &w, &mut bytes);
        let stored = Stored::new(format, (ROWS, COLS), &bytes, None).expect("a valid shape");
        let arithmetic = Arithmetic::choose(Isa::detect(), format == Format::F32);
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            for rows in [128, 512] {
                let mut packed = PackedRows::new();
                let (mut x, mut y) = (vec![0.5; rows * COLS], vec![0.5; rows * ROWS]);
                let ahead = best(threads == 1, || {
                    packed.pack(arithmetic, &pool, &x, COLS);
                    forward(arithmetic, &pool, &packed, &mut [(&stored, &mut y)]);
                });
                let back = best(threads == 1, || {
                    packed.pack(arithmetic, &pool, &y, ROWS);
                    backward(arithmetic, &pool, &[(&packed, &stored)], &mut x, false);
                });
                let gflops = |seconds: f64| (2 * rows * ROWS * COLS) as f64 / seconds / 1e9;
                println!(
                    "{:6}  {:12} {threads:8} {rows:5} {:16.0} {:17.0}",
                    format.name(),
                    arithmetic.name(),
                    gflops(ahead),
                    gflops(back)
                );
            }
        }
    }
}
