//! The tiny models of `fixtures/make.py`: every executor gives transformers' logits and greedy tokens, from every file
//! format, and all formats describe the same model.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use billion_llm::decoder::{Decoder, Run, TextCodec};
use billion_llm::generate::greedy;
use billion_llm::load::{Executor, LoadOptions, Loaded, ModelFiles, load};
use billion_llm::spec::Pairing;
use billion_llm::weights::Weights;
use fixtures::{copy_of, fixture, with_old_config};

/// Float32 sums in another order: measured differences are below 1e-4 on logits of up to 15.
const TOLERANCE: f32 = 1e-3;

#[derive(serde::Deserialize)]
struct Record {
    models: BTreeMap<String, BTreeMap<String, Prompt>>,
}

/// A prompt and what transformers made of it.
#[derive(serde::Deserialize)]
struct Prompt {
    text: String,
    tokens: Vec<u32>,
    greedy: Vec<u32>,
}

fn prompts(model: &str) -> BTreeMap<String, Prompt> {
    let mut record: Record =
        serde_json::from_slice(&fs::read(fixture("reference.json")).unwrap()).unwrap();
    record.models.remove(model).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|number| f32::from_le_bytes(number.try_into().unwrap()))
        .collect()
}

fn loaded(path: &Path, executor: Executor) -> Loaded {
    let files = ModelFiles::open(path).unwrap();
    let options = LoadOptions {
        executor,
        threads: Some(2),
        context_len: None,
    };
    load(&files, &options).unwrap()
}

/// Every file of a model, with what it is.
fn files_of(model: &str) -> Vec<(&'static str, tempfile::TempDir, std::path::PathBuf)> {
    let new = copy_of(model);
    let old = with_old_config(model);
    let gguf = tempfile::tempdir().unwrap();
    let gguf_path = gguf.path().join("model.gguf");
    fs::copy(fixture(&format!("{model}.gguf")), &gguf_path).unwrap();
    let (new_path, old_path) = (new.path().to_owned(), old.path().to_owned());
    vec![
        ("safetensors", new, new_path),
        (
            "safetensors with the configuration of transformers 4",
            old,
            old_path,
        ),
        ("GGUF", gguf, gguf_path),
    ]
}

fn agrees_with_transformers(model: &str, executor: Executor) {
    let reference = Weights::open(&fixture(&format!("{model}.reference.safetensors"))).unwrap();
    for (what, _folder, path) in files_of(model) {
        let mut loaded = loaded(&path, executor);
        let decoder = loaded.decoder.as_mut();
        for (name, prompt) in prompts(model) {
            let tokens = loaded.tokenizer.encode(&prompt.text, true, false).unwrap();
            assert_eq!(tokens, prompt.tokens, "{model} as {what}: tokens of {name}");
            let seq = decoder.open().unwrap();
            let want: Vec<usize> = (0..tokens.len()).collect();
            let run = Run {
                seq,
                tokens: &tokens,
                want: &want,
            };
            let logits = decoder.forward(&[run]).unwrap();
            let expected = floats(&reference.require(&name).unwrap().bytes);
            assert_eq!(logits.data.len(), expected.len());
            let worst = logits
                .data
                .iter()
                .zip(&expected)
                .map(|(found, expected)| (found - expected).abs())
                .fold(0.0, f32::max);
            println!("{model} as {what}, {executor:?}, {name}: {worst:e}");
            assert!(
                worst < TOLERANCE,
                "{model} as {what}, {name}: logits differ by {worst}"
            );
            let chosen = continue_greedily(
                decoder,
                seq,
                logits.row(tokens.len() - 1),
                prompt.greedy.len(),
            );
            assert_eq!(chosen, prompt.greedy, "{model} as {what}: after {name}");
            decoder.close(seq);
        }
    }
}

fn continue_greedily(
    decoder: &mut dyn Decoder,
    seq: billion_llm::decoder::SeqId,
    logits: &[f32],
    count: usize,
) -> Vec<u32> {
    let mut chosen = vec![greedy(logits)];
    while chosen.len() < count {
        let tokens = [chosen[chosen.len() - 1]];
        let run = Run {
            seq,
            tokens: &tokens,
            want: &[0],
        };
        let logits = decoder.forward(&[run]).unwrap();
        chosen.push(greedy(logits.row(0)));
    }
    chosen
}

#[test]
fn candle_agrees_with_transformers_on_grouped_queries_and_biases() {
    agrees_with_transformers("gqa", Executor::Candle);
}

#[test]
fn candle_agrees_with_transformers_on_llama3_scaling_and_a_tied_head() {
    agrees_with_transformers("llama3", Executor::Candle);
}

#[test]
fn cpu_agrees_with_transformers_on_grouped_queries_and_biases() {
    agrees_with_transformers("gqa", Executor::Cpu);
}

#[test]
fn cpu_agrees_with_transformers_on_llama3_scaling_and_a_tied_head() {
    agrees_with_transformers("llama3", Executor::Cpu);
}

#[test]
fn every_file_describes_the_same_model() {
    for model in ["gqa", "llama3"] {
        let all: Vec<_> = files_of(model)
            .into_iter()
            .map(|(_, folder, path)| (folder, ModelFiles::open(&path).unwrap()))
            .collect();
        let [(_, new), (_, old), (_, gguf)] = &all[..] else {
            unreachable!("there are three kinds of files")
        };
        assert_eq!(new.spec(), old.spec());
        let mut spec = gguf.spec().clone();
        assert_eq!(spec.rotary.pairing, Pairing::Interleaved);
        spec.rotary.pairing = Pairing::Halves;
        for (a, b) in spec
            .rotary
            .frequencies
            .iter_mut()
            .zip(&new.spec().rotary.frequencies)
        {
            // The GGUF file holds rounded divisors.
            assert!((*a - b).abs() <= b * 1e-6, "{a} and {b}");
            *a = *b;
        }
        assert_eq!(&spec, new.spec());
        assert_eq!(new.spec().tied_head, model == "llama3");
        assert_eq!(new.quant(), "F32");
        assert_eq!(gguf.quant(), "F32");
        let frequencies = if model == "llama3" { 8 } else { 0 };
        assert_eq!(gguf.params(), new.params() + frequencies);
        assert_eq!(new.weight_bytes(), new.params() * 4);
    }
}

#[test]
fn long_prompts_go_beyond_the_original_context() {
    let prompts = prompts("llama3");
    // original_max_position_embeddings of fixtures/make.py.
    assert!(
        prompts["long"].tokens.len() > 64,
        "{}",
        prompts["long"].tokens.len()
    );
}
