//! The starter model gives transformers' tokens, losses and greedy text (`fixtures/make_starter.py`, on the dequantized
//! weights in float32), in both executors.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::fs;

use billion_llm::candle::{CandleDecoder, CandleOptions, HeldAs};
use billion_llm::decoder::{Decoder, Run, TextCodec};
use billion_llm::generate::{GenerateOptions, Session, generate};
use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use fixtures::{fixture, starter_model};

/// Of a perplexity, relative. The candle executor computes in float32 as transformers does; the CPU executor rounds
/// activations to 16 bits, and keys and values to 11.
const CANDLE_TOLERANCE: f64 = 1e-4;
const CPU_TOLERANCE: f64 = 5e-4;

/// Of a token's loss and of their mean, in nats, with activations of eight bits: ARCHITECTURE.md tells of 0.39 on MMLU.
const BLOCKS_WORST: f64 = 0.5;
const BLOCKS_MEAN: f64 = 0.05;

#[derive(serde::Deserialize)]
struct Reference {
    text: String,
    tokens: Vec<u32>,
    perplexity: f64,
    greedy: Vec<Continuation>,
}

/// A prompt and its greedy continuation; every choice in it is clear by 0.25 at least.
#[derive(serde::Deserialize)]
struct Continuation {
    prompt: String,
    tokens: Vec<u32>,
    chosen: Vec<u32>,
    text: String,
}

fn reference() -> Reference {
    serde_json::from_slice(&fs::read(fixture("starter_reference.json")).unwrap()).unwrap()
}

/// -ln of the probability that the logits give to `token`.
fn loss(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - top).exp())
        .sum();
    sum.ln() - f64::from(logits[token as usize] - top)
}

fn agrees_with_transformers(executor: Executor, tolerance: f64) {
    let reference = reference();
    let files = ModelFiles::open(&starter_model()).unwrap();
    let options = LoadOptions {
        executor,
        ..LoadOptions::default()
    };
    let mut loaded = load(&files, &options).unwrap();
    let decoder = loaded.decoder.as_mut();

    let tokens = loaded
        .tokenizer
        .encode(&reference.text, true, false)
        .unwrap();
    assert_eq!(tokens, reference.tokens);
    let seq = decoder.open().unwrap();
    let want: Vec<usize> = (0..tokens.len() - 1).collect();
    let logits = decoder
        .forward(&[Run {
            seq,
            tokens: &tokens,
            want: &want,
        }])
        .unwrap();
    decoder.close(seq);
    let total: f64 = want
        .iter()
        .map(|&position| loss(logits.row(position), tokens[position + 1]))
        .sum();
    let perplexity = (total / want.len() as f64).exp();
    println!(
        "{executor:?}: perplexity {perplexity}, transformers {}",
        reference.perplexity
    );
    let error = (perplexity / reference.perplexity - 1.0).abs();
    assert!(
        error < tolerance,
        "perplexity {perplexity} is off by {error}"
    );

    // The candle executor generates slowly; two texts tell as much of it as five.
    let texts = if executor == Executor::Candle {
        2
    } else {
        reference.greedy.len()
    };
    for expected in reference.greedy.iter().take(texts) {
        let prompt = loaded
            .tokenizer
            .encode(&expected.prompt, true, true)
            .unwrap();
        assert_eq!(prompt, expected.tokens, "{:?}", expected.prompt);
        let options = GenerateOptions {
            max_tokens: expected.chosen.len(),
            ..GenerateOptions::default()
        };
        let mut session = Session::new();
        let generation = generate(
            decoder,
            loaded.tokenizer.as_ref(),
            &mut session,
            &prompt,
            &options,
            &mut |_| std::ops::ControlFlow::Continue(()),
        )
        .unwrap();
        session.close(decoder);
        assert_eq!(
            generation.text, expected.text,
            "after {:?}",
            expected.prompt
        );
        assert_eq!(generation.tokens, expected.chosen);
    }
}

#[test]
fn candle_agrees_with_transformers() {
    agrees_with_transformers(Executor::Candle, CANDLE_TOLERANCE);
}

#[test]
fn cpu_agrees_with_transformers() {
    agrees_with_transformers(Executor::Cpu, CPU_TOLERANCE);
}

/// As a GPU runs it: blocks as the file has them, activations rounded to eight bits, keys and values to 11.
#[test]
fn candle_runs_the_blocks_of_the_file() {
    /// Tokens of the text that are read: candle has no fast code for Q4_1 on a processor.
    const READ: usize = 24;
    let reference = reference();
    let files = ModelFiles::open(&starter_model()).unwrap();
    let tensors = files.tensors().unwrap();
    let tokens = &reference.tokens[..READ];
    let losses = |weights| {
        let options = CandleOptions {
            weights,
            ..CandleOptions::default()
        };
        let mut decoder = CandleDecoder::load(files.spec(), &tensors, &options).unwrap();
        let seq = decoder.open().unwrap();
        let want: Vec<usize> = (0..READ - 1).collect();
        let logits = decoder
            .forward(&[Run {
                seq,
                tokens,
                want: &want,
            }])
            .unwrap();
        let losses: Vec<f64> = want
            .iter()
            .map(|&position| loss(logits.row(position), tokens[position + 1]))
            .collect();
        (losses, decoder.weights_bytes() as u64)
    };
    let (exact, _) = losses(HeldAs::F32);
    let (found, bytes) = losses(HeldAs::Stored);
    // Vectors are F32 in the file too.
    assert_eq!(bytes, files.weight_bytes());
    let worst = exact.iter().zip(&found).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0, f64::max);
    let mean = exact.iter().zip(&found).map(|(a, b)| b - a).sum::<f64>() / exact.len() as f64;
    println!("blocks of the file: losses differ by {worst} at most, {mean} on average");
    assert!(
        worst < BLOCKS_WORST && mean.abs() < BLOCKS_MEAN,
        "{worst}, {mean}"
    );
}

#[test]
fn the_starter_model_is_what_its_file_says() {
    let files = ModelFiles::open(&starter_model()).unwrap();
    let spec = files.spec();
    assert_eq!(
        (spec.hidden, spec.layers, spec.heads, spec.kv_heads),
        (576, 30, 9, 3)
    );
    assert_eq!(
        (spec.vocab_size, spec.context_len, spec.tied_head),
        (49152, 8192, true)
    );
    assert_eq!(files.quant(), "Q4_1");
    assert_eq!(files.params(), 134_515_008);
    assert!(files.weight_bytes() < files.weights().file_bytes());
    assert_eq!(files.tokenizer().vocab_size(), 49152);
    assert!(files.chat_template().is_some());
    assert!(files.chat_template_problem().is_none());
}
