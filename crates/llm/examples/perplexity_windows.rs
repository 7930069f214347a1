//! Perplexity of a text as llama.cpp's `llama-perplexity` counts it, so that the two engines can be compared on one file.
//!
//!     cargo run --release -p billion-llm --example perplexity_windows -- MODEL TEXT [window=512] [chunks=N] [threads=N] [executor=cpu|reference]
//!
//! The text, short of one final line break, is encoded once and cut into windows; what is left over is dropped. The first
//! token of a window gives way to BOS where the model wants BOS. The second half of each window is scored, from its first
//! token's successor on, so that every scored token has half a window before it. `billion perplexity` scores all tokens of a
//! window instead. `executor=reference` dequantizes the file to F32 and computes in F32 (candle): slow, and what exact
//! arithmetic would give but for 1e-5. `benches/perplexity_against_llama_cpp.py` runs this beside llama.cpp.
//!
//! Standard output: a JSON line a window with the perplexity so far, and one for the whole.

use std::error::Error;
use std::path::Path;

use billion_llm::decoder::{Run, TextCodec};
use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use serde_json::json;

const USAGE: &str = "usage: perplexity_windows MODEL TEXT [window=512] [chunks=N] [threads=N] [executor=cpu|reference]";

/// What was asked for.
struct Options {
    /// Tokens of a window.
    window: usize,
    /// Most windows.
    chunks: usize,
    load: LoadOptions,
}

fn options(args: &[String]) -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        window: 512,
        chunks: usize::MAX,
        load: LoadOptions::default(),
    };
    for arg in args {
        let (name, value) = arg.split_once('=').ok_or(USAGE)?;
        match name {
            "window" => options.window = value.parse()?,
            "chunks" => options.chunks = value.parse()?,
            "threads" => options.load.threads = Some(value.parse()?),
            "executor" => {
                options.load.executor = match value {
                    "cpu" => Executor::Cpu,
                    "reference" => Executor::Candle,
                    _ => return Err(format!("no executor {value}; {USAGE}").into()),
                }
            }
            _ => return Err(format!("unknown option {name}; {USAGE}").into()),
        }
    }
    if options.window < 4 || options.chunks == 0 {
        return Err("a window has at least 4 tokens, and a text at least 1 window".into());
    }
    options.load.context_len = Some(options.window);
    Ok(options)
}

/// -ln of the probability that a row of logits gives to `token`.
fn loss(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - top).exp())
        .sum();
    sum.ln() - f64::from(logits[token as usize] - top)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, rest @ ..] = &args[..] else {
        return Err(USAGE.into());
    };
    let options = options(rest)?;
    let text = std::fs::read_to_string(text)?;
    let files = ModelFiles::open(Path::new(model))?;
    let mut loaded = load(&files, &options.load)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let tokens = loaded.tokenizer.encode(text, true, false)?;
    let bos = loaded
        .tokenizer
        .bos()
        .filter(|_| loaded.tokenizer.adds_bos());

    let first = options.window / 2;
    let want: Vec<usize> = (first..options.window - 1).collect();
    let (mut nll, mut scored, mut windows) = (0.0, 0, 0);
    for window in tokens.chunks_exact(options.window).take(options.chunks) {
        let mut run = window[..options.window - 1].to_vec();
        run[0] = bos.unwrap_or(run[0]);
        let seq = loaded.decoder.open()?;
        let logits = loaded.decoder.forward(&[Run {
            seq,
            tokens: &run,
            want: &want,
        }])?;
        loaded.decoder.close(seq);
        for (row, at) in want.iter().enumerate() {
            nll += loss(logits.row(row), window[at + 1]);
        }
        scored += want.len();
        windows += 1;
        let so_far = (nll / scored as f64).exp();
        println!("{}", json!({"chunk": windows, "perplexity": so_far}));
    }
    if windows == 0 {
        return Err(format!(
            "the text has {} tokens and a window {}: take a longer text or a smaller window",
            tokens.len(),
            options.window
        )
        .into());
    }
    let nll_mean = nll / scored as f64;
    println!(
        "{}",
        json!({
            "perplexity": nll_mean.exp(),
            "nll_mean": nll_mean,
            "scored": scored,
            "windows": windows,
            "window": options.window,
            "text_tokens": tokens.len(),
            "quant": files.quant(),
            "isa": loaded.isa,
            "threads": loaded.threads,
        })
    );
    Ok(())
}
