//! Times the CPU executor alone on a model file: prefill, decode, and where a token's time goes.
//!
//!     cargo run --release -p billion-llm --example cpu_speed -- MODEL [threads=N] [prefill=N] [decode=N] [batch=N] [repeats=N]
//!
//! `billion bench speed` is the measurement that users see; this one needs no tokenizer and no worker, for work on kernels.

use billion_llm::cpu::{CpuDecoder, CpuOptions};
use billion_llm::decoder::{Decoder, Run};
use billion_llm::models;
use billion_llm::weights::Weights;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Seconds that this thread has been on a core (Linux), so that other load does not count; with one thread, the cost itself.
fn on_core_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns: f64 = text
        .split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(0.0);
    ns / 1e9
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or("usage: cpu_speed MODEL [threads=N] [prefill=N] [decode=N] [batch=N] [repeats=N]")?;
    let mut options = CpuOptions::default();
    let (mut prefill, mut decode, mut batch, mut repeats) = (512, 64, 1, 3);
    for arg in args {
        let (name, value) = arg.split_once('=').ok_or("NAME=NUMBER")?;
        let value: usize = value.parse()?;
        match name {
            "threads" => options.threads = value,
            "prefill" => prefill = value,
            "decode" => decode = value,
            "batch" => batch = value.max(1),
            "repeats" => repeats = value,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let start = Instant::now();
    let weights = Weights::open(Path::new(&path))?;
    let description = models::describe(&weights)?;
    let tensors = models::tensors(&weights, &description)?;
    let mut decoder = CpuDecoder::load(&description.spec, &tensors, &options)?;
    println!(
        "loaded in {:.2} s: {} MB of weights, {}, {} threads",
        start.elapsed().as_secs_f64(),
        decoder.weights_bytes() / 1_000_000,
        decoder.isa().name(),
        decoder.threads()
    );
    let vocab = decoder.vocab_size() as u32;
    let prompt: Vec<u32> = (0..prefill as u32)
        .map(|i| i.wrapping_mul(7919) % vocab)
        .collect();
    for _ in 0..repeats {
        let seq = decoder.open()?;
        let (start, core) = (Instant::now(), on_core_s());
        decoder.forward(&[Run {
            seq,
            tokens: &prompt,
            want: &[prompt.len() - 1],
        }])?;
        let prefill_s = start.elapsed().as_secs_f64();
        let prefill_core_s = on_core_s() - core;
        decoder.close(seq);
        let seqs = (0..batch)
            .map(|_| decoder.open())
            .collect::<Result<Vec<_>, _>>()?;
        let pass = |decoder: &mut CpuDecoder, token: u32| {
            let tokens = [token % vocab];
            let runs: Vec<Run<'_>> = seqs
                .iter()
                .map(|&seq| Run {
                    seq,
                    tokens: &tokens,
                    want: &[0],
                })
                .collect();
            let logits = decoder.forward(&runs)?;
            decoder.recycle(logits);
            Ok::<_, billion_llm::decoder::DecodeError>(())
        };
        pass(&mut decoder, 1)?;
        let (start, core) = (Instant::now(), on_core_s());
        for token in 0..decode as u32 {
            pass(&mut decoder, token)?;
        }
        let decode_s = start.elapsed().as_secs_f64();
        let decode_core_s = on_core_s() - core;
        for seq in seqs {
            decoder.close(seq);
        }
        let decoded = (decode * batch) as f64;
        println!(
            "prefill {prefill}: {:.1} tokens/s, {:.3} ms of this thread a token   decode {decode} x {batch}: {:.1} tokens/s, {:.3} ms",
            prefill as f64 / prefill_s,
            1e3 * prefill_core_s / prefill as f64,
            decoded / decode_s,
            1e3 * decode_core_s / decoded
        );
    }
    Ok(())
}
