//! How near the kernels come to the machine: for each format and thread count the bytes a second of a product with one
//! row (bound by memory) and the operations a second with many rows (bound by arithmetic), beside a plain read of the
//! same size. Eight rows come twice: with weights from the third-level cache and from memory; where the second is much the
//! slower, reading and arithmetic do not overlap. Before the table stands what the multipliers of one core reach without loading
//! anything; two int8 lines cost two multiplications of bytes a weight, twelve bits one and a half.
//!
//! `cargo run --release -p billion-kernels --example roofline [-- FORMAT...]`, or `-- read THREADS` for the plain read alone, of a
//! gigabyte, in GB/s.

mod peaks;

use billion_kernels::{Activations, Format, Isa, Matrix, Pool, matmul, quantize};
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Shape of a feed-forward matrix of a 1.1B Llama.
const COLS: usize = 2048;
const ROWS: usize = 5632;

/// Rows of a matrix that stays in the second-level cache, to see what arithmetic alone allows.
const L2_ROWS: usize = 512;

/// Copies of the matrix, so that one row's product reads more than any cache holds.
const COPIES: usize = 12;

/// Time each figure is measured for; the best pass counts, since other programs only slow it down.
const MEASURE: Duration = Duration::from_millis(250);

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

/// Seconds in which a plain read passes over `bytes` bytes of memory, on huge pages where the system has them, as weights lie.
fn plain_read(pool: &Pool, bytes: usize) -> f64 {
    let mut plain: Vec<u64> = Vec::with_capacity(bytes / 8);
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let skip = plain.as_ptr().cast::<u8>().align_offset(PAGE);
        // SAFETY: whole pages inside the vector's memory; the advice changes how they are backed. Refusal is harmless.
        unsafe {
            let start = plain.as_mut_ptr().cast::<u8>().add(skip);
            libc::madvise(
                start.cast(),
                (bytes - skip) / PAGE * PAGE,
                libc::MADV_HUGEPAGE,
            );
        }
    }
    plain.resize(bytes / 8, 1);
    best(pool.threads() == 1, || {
        let sums = Mutex::new(0_u64);
        pool.run(64, &|chunk| {
            let len = plain.len() / 64;
            let sum = peaks::read(&plain[chunk * len..(chunk + 1) * len]);
            *sums.lock().expect("no panic") ^= sum;
        });
        black_box(sums.into_inner().expect("no panic"));
    })
}

fn main() {
    let isa = Isa::detect();
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let [read, threads] = &asked[..]
        && read == "read"
    {
        let threads = threads.parse().expect("a number of threads");
        let bytes = 1 << 30;
        let seconds = plain_read(&Pool::new(threads), bytes);
        println!("{:.1}", bytes as f64 / seconds / 1e9);
        return;
    }
    println!("{}; {ROWS} x {COLS}, {COPIES} copies", isa.name());
    for (name, pass) in peaks::peaks() {
        const ROUNDS: usize = 1 << 16;
        let mut operations = 0;
        let seconds = best(true, || operations = pass(ROUNDS) * ROUNDS);
        println!(
            "peak of one core, {name}: {:.0} GOP/s",
            operations as f64 / seconds / 1e9
        );
    }
    println!(
        "format threads  pack GB/s  read GB/s  M=1 GB/s  in L2 GB/s  M=8 GOP/s  from memory  M=128 GOP/s  M=512 GOP/s"
    );
    for format in Format::ALL {
        if !asked.is_empty() && !asked.iter().any(|name| name == format.name()) {
            continue;
        }
        let w: Vec<f32> = (0..COLS * ROWS)
            .map(|i| ((i * 7919) % 8191) as f32 / 4096.0 - 1.0)
            .collect();
        let mut bytes = vec![0; format.row_bytes(w.len()).expect("whole blocks")];
        quantize(format, &w, &mut bytes);
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            let start = seconds(threads == 1);
            let matrices: Vec<Matrix> = (0..COPIES)
                .map(|_| {
                    Matrix::pack(isa, &pool, format, ROWS, COLS, &bytes).expect("a valid shape")
                })
                .collect();
            let pack = (bytes.len() * COPIES) as f64 / (seconds(threads == 1) - start);
            let resident: usize = matrices.iter().map(Matrix::bytes).sum();
            let read = plain_read(&pool, resident);
            let mut x = Activations::new();
            let mut y = vec![0.0; 512 * ROWS];
            let mut product = |rows: usize, copies: usize| {
                x.begin(rows, COLS).fill(0.5);
                x.finish(isa, &pool, &[&matrices[0]]);
                best(threads == 1, || {
                    for matrix in &matrices[..copies] {
                        matmul(isa, &pool, &x, &mut [(matrix, &mut y[..rows * ROWS])]);
                    }
                })
            };
            let one = product(1, COPIES);
            let small = Matrix::pack(
                isa,
                &pool,
                format,
                L2_ROWS,
                COLS,
                &bytes[..bytes.len() / ROWS * L2_ROWS],
            )
            .expect("a valid shape");
            let in_cache = {
                let mut x = Activations::new();
                x.begin(1, COLS).fill(0.5);
                x.finish(isa, &pool, &[&small]);
                let mut y = vec![0.0; L2_ROWS];
                best(threads == 1, || {
                    for _ in 0..100 {
                        matmul(isa, &pool, &x, &mut [(&small, &mut y)]);
                    }
                }) / 100.0
            };
            let gops = |rows: usize, seconds: f64| (2 * rows * ROWS * COLS) as f64 / seconds / 1e9;
            let (m8, m128, m512) = (product(8, 1), product(128, 1), product(512, 1));
            let m8_from_memory = product(8, COPIES) / COPIES as f64;
            println!(
                "{:6} {threads:7} {:10.1} {:10.1} {:9.1} {:11.1} {:10.0} {:12.0} {:12.0} {:12.0}",
                format.name(),
                pack / 1e9,
                resident as f64 / read / 1e9,
                resident as f64 / one / 1e9,
                small.bytes() as f64 / in_cache / 1e9,
                gops(8, m8),
                gops(8, m8_from_memory),
                gops(128, m128),
                gops(512, m512)
            );
        }
    }
}
