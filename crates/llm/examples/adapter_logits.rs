//! Writes the logits of a model with an adapter, for `tests/fixtures/adapters/check.py` to compare with PEFT's.
//!
//!     cargo run --release -p billion-llm --example adapter_logits -- BASE ADAPTER LOGITS.safetensors [exact]
//!
//! `exact` dequantizes the base to F32 (the candle executor); otherwise the CPU executor runs it as it is stored.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use billion_llm::decoder::{Run, TextCodec};
use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use safetensors::tensor::{Dtype, TensorView};

const TEXT: &str =
    "The archive of the town was opened in the spring, and nobody knew who had the key.";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, adapter, out, rest @ ..] = &args[..] else {
        return Err("usage: adapter_logits BASE ADAPTER LOGITS.safetensors [exact]".into());
    };
    let files = ModelFiles::open(Path::new(base))?;
    let options = LoadOptions {
        adapter: Some(PathBuf::from(adapter)),
        executor: if rest.is_empty() {
            Executor::Cpu
        } else {
            Executor::Candle
        },
        ..LoadOptions::default()
    };
    let mut loaded = load(&files, &options)?;
    let tokens = loaded.tokenizer.encode(TEXT, true, false)?;
    let want: Vec<usize> = (0..tokens.len()).collect();
    let seq = loaded.decoder.open()?;
    let run = Run {
        seq,
        tokens: &tokens,
        want: &want,
    };
    let logits = loaded.decoder.forward(&[run])?;
    let numbers: Vec<u8> = logits.data.iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids: Vec<u8> = tokens
        .iter()
        .flat_map(|t| i64::from(*t).to_le_bytes())
        .collect();
    let shape = vec![tokens.len(), logits.vocab_size];
    let tensors = BTreeMap::from([
        ("logits", TensorView::new(Dtype::F32, shape, &numbers)?),
        (
            "tokens",
            TensorView::new(Dtype::I64, vec![tokens.len()], &ids)?,
        ),
    ]);
    std::fs::write(out, safetensors::serialize(tensors, None)?)?;
    println!("{} tokens written", tokens.len());
    Ok(())
}
