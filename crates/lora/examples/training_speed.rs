//! Speed and memory of training, as `benches/pytorch.py` measures PEFT: rows of random tokens, every token scored.
//!
//! `cargo run --release -p billion-lora --example training_speed -- MODEL [--rows N] [--len L] [--batch B] [--rank R]
//! [--steps S] [--threads T] [--recompute] [--targets a,b] [--forecast]` prints one line of JSON. tokens_per_cpu_s counts the
//! process's own work: with --threads 1 other programs on the machine hardly change it.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use billion_llm::load::ModelFiles;
use billion_lora::dataset::Example;
use billion_lora::train::{Recompute, TrainEvent, TrainOptions, TrainingRows, forecast, train};

/// Peak of this process's resident memory, in bytes (Linux).
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Seconds that the cores have worked for this process (Linux, ticks of a hundredth).
fn own_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks = |text: Option<&str>| text?.parse::<f64>().ok();
    Some((ticks(fields.next())? + ticks(fields.next())?) / 100.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(String::as_str)
    };
    let number = |name: &str, usual: u32| -> Result<u32, Box<dyn Error>> {
        Ok(value(name).map_or(Ok(usual), str::parse)?)
    };
    let model = args.first().ok_or("MODEL is missing")?;
    let files = ModelFiles::open(Path::new(model))?;
    let (len, steps, batch) = (
        number("--len", 128)?,
        number("--steps", 4)?,
        number("--batch", 4)?,
    );
    let rows = number("--rows", batch * steps)?;
    let mut state = 1_u64;
    let train_rows: Vec<Example> = (1..=rows)
        .map(|row| Example {
            tokens: (0..len)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    ((state >> 33) % files.spec().vocab_size as u64) as u32
                })
                .collect(),
            scored: (0..len).map(|i| i > 0).collect(),
            row,
        })
        .collect();
    let options = TrainOptions {
        epochs: 1,
        batch,
        rank: number("--rank", 8)?,
        threads: value("--threads").map(str::parse).transpose()?,
        recompute: if args.iter().any(|arg| arg == "--recompute") {
            Recompute::EveryBlock
        } else {
            Recompute::Auto
        },
        targets: value("--targets").map_or(Vec::new(), |names| {
            names.split(',').map(str::to_owned).collect()
        }),
        ..TrainOptions::default()
    };
    let rows = TrainingRows {
        train: &train_rows,
        held_out: &[],
    };
    let forecast = if args.iter().any(|arg| arg == "--forecast") {
        Some(forecast(&files, rows, &options)?)
    } else {
        None
    };
    let folder = std::env::temp_dir().join(format!("training-speed-{}", std::process::id()));
    let mut speeds = Vec::new();
    let mut counted = 0;
    // Work and tokens behind the first step, which reads the weights from disk.
    let (mut own, mut own_tokens) = (Vec::new(), 0);
    let outcome = train(&files, rows, &options, (&folder, false), &mut |event| {
        match event {
            TrainEvent::Step(step) => {
                speeds.push(step.tokens_per_s);
                own_tokens += if step.step > 1 { step.tokens } else { 0 };
                own.push(own_seconds().unwrap_or(f64::NAN));
            }
            TrainEvent::Forecast(forecast) => counted = forecast.peak_bytes,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    std::fs::remove_dir_all(&folder)?;
    let outcome = outcome?;
    let worked = own
        .last()
        .zip(own.first())
        .map_or(f64::NAN, |(last, first)| last - first);
    let mut warm = speeds.split_off(1.min(speeds.len()));
    warm.sort_by(f64::total_cmp);
    println!(
        "{{\"tokens_per_s\": {:.1}, \"tokens_per_cpu_s\": {:.1}, \"seconds\": {:.2}, \"peak_rss\": {}, \"counted\": {counted}, \"first_loss\": {:.4}, \"last_loss\": {:.4}, \"forecast_s\": {:.2}, \"forecast_bytes\": {}}}",
        warm.get(warm.len() / 2)
            .copied()
            .unwrap_or(outcome.tokens_per_s),
        own_tokens as f64 / worked,
        outcome.train_seconds,
        peak_rss().unwrap_or(0),
        outcome.losses.first().map_or(f64::NAN, |(_, loss)| *loss),
        outcome.losses.last().map_or(f64::NAN, |(_, loss)| *loss),
        forecast.map_or(f64::NAN, |forecast| forecast.seconds),
        forecast.map_or(0, |forecast| forecast.peak_bytes),
    );
    Ok(())
}
