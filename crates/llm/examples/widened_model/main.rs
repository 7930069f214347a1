//! Writes a larger model that computes the same function as a small one, or nearly: a target whose draft is right as often
//! as asked for, to measure speculation at full size without downloads. Or a pruned one, as a draft.
//!
//!     cargo run --release -p billion-llm --example widened_model -- OUT.gguf FORMAT [source=FILE.gguf] [hidden=N] [layers=N]
//!         [ffn=N] [heads=N] [kv_heads=N] [noise=X] [twice=1] [seed=N] [prune=N] [threads=N]
//!
//! FORMAT is q4_0, q8_0, q4_k_m, f16 or f32, mixed over the tensors as llama.cpp's quantizer does. The source is a Llama in
//! any format, the starter model if none is named; what is not named of the shape follows from the width, or is the source's.
//! `widen` says what is added and why the function stays; `noise` disturbs it,
//! `twice` takes the rounding of FORMAT out, `prune` drops layers. Speed is that of a real
//! model of the shape; the text is the small one's.

#[path = "../gguf_file/mod.rs"]
mod gguf_file;
mod widen;

use std::error::Error;
use std::path::{Path, PathBuf};

use billion_llm::weights::Weights;
use widen::{Options, widen};

const USAGE: &str = "usage: widened_model OUT.gguf q4_0|q8_0|q4_k_m|f16|f32 [source=FILE.gguf] [hidden=N] [layers=N] \
                     [ffn=N] [heads=N] [kv_heads=N] [noise=X] [twice=1] [seed=N] [prune=N] [threads=N]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(out), Some(recipe)) = (args.next(), args.next()) else {
        return Err(USAGE.into());
    };
    let mut source = PathBuf::from("starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
    let mut options = Options::default();
    for arg in args {
        let (name, value) = arg
            .split_once('=')
            .ok_or(format!("{arg}: expected NAME=VALUE"))?;
        let bad = |error: &dyn Error| format!("{name}={value}: {error}");
        let count = || value.parse::<usize>().map_err(|error| bad(&error));
        match name {
            "source" => source = value.into(),
            "hidden" => options.hidden = Some(count()?),
            "layers" => options.layers = Some(count()?),
            "ffn" => options.ffn = Some(count()?),
            "heads" => options.heads = Some(count()?),
            "kv_heads" => options.kv_heads = Some(count()?),
            "noise" => options.noise = value.parse().map_err(|error| bad(&error))?,
            "seed" => options.seed = value.parse().map_err(|error| bad(&error))?,
            "twice" => options.twice = count()? > 0,
            "prune" => options.prune = count()?,
            "threads" => options.threads = count()?,
            _ => return Err(format!("{name} is no option; {USAGE}").into()),
        }
    }
    let start = std::time::Instant::now();
    let written = widen(&Weights::open(&source)?, Path::new(&out), &recipe, &options)?;
    println!(
        "{out}: {} parameters, {} bytes, {:.1} s\n{}",
        written.parameters,
        written.bytes,
        start.elapsed().as_secs_f64(),
        written.shape
    );
    Ok(())
}
