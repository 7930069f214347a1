//! Batches over the tiny models in both executors give, to the token, what one generation at a time gives.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::ops::ControlFlow;
use std::path::Path;

use billion_llm::generate::batch::{BatchEvent, Request, generate_batch};
use billion_llm::generate::{GenerateOptions, SamplerOptions, Session, generate};
use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use fixtures::fixture;

/// Prompts of 1 to 90 tokens with options of every kind; neighbours begin alike.
fn requests(vocab_size: usize) -> Vec<Request> {
    (0..24_u32)
        .map(|i| Request {
            prompt: (0..=i * 37 % 90)
                .map(|t| (t * 31 + i / 3 * (t / 40)) % vocab_size as u32)
                .collect(),
            options: GenerateOptions {
                max_tokens: 8 + i as usize % 17,
                sampler: SamplerOptions {
                    temperature: if i.is_multiple_of(3) { 0.8 } else { 0.0 },
                    top_k: 0,
                    seed: u64::from(i),
                    ..SamplerOptions::default()
                },
                ignore_eos: true,
                prefill_chunk: 40,
                ..GenerateOptions::default()
            },
        })
        .collect()
}

fn same_whatever_the_slots(path: &Path, executor: Executor) {
    let files = ModelFiles::open(path).unwrap();
    let options = LoadOptions {
        executor,
        threads: Some(2),
        ..LoadOptions::default()
    };
    let mut loaded = load(&files, &options).unwrap();
    let decoder = loaded.decoder.as_mut();
    let codec = loaded.tokenizer.as_ref();
    let requests = requests(codec.vocab_size().min(decoder.vocab_size()));
    let expected: Vec<Vec<u32>> = requests
        .iter()
        .map(|Request { prompt, options }| {
            let mut session = Session::new();
            let generation = generate(decoder, codec, &mut session, prompt, options, &mut |_| {
                ControlFlow::Continue(())
            });
            session.close(decoder);
            generation.unwrap().tokens
        })
        .collect();
    for slots in [1, 2, 3, 8, 16, 24] {
        let mut got = vec![Vec::new(); requests.len()];
        let flow = generate_batch(decoder, codec, &requests, slots, &mut |event| {
            if let BatchEvent::Finished { request, result } = event {
                got[request] = result.unwrap().tokens;
            }
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        assert_eq!(got, expected, "{slots} slots, {executor:?}");
    }
}

#[test]
fn the_cpu_executor_gives_the_same_tokens_in_any_batch() {
    for model in ["gqa", "llama3"] {
        same_whatever_the_slots(&fixture(model), Executor::Cpu);
        same_whatever_the_slots(&fixture(&format!("{model}.gguf")), Executor::Cpu);
    }
}

#[test]
fn the_candle_executor_gives_the_same_tokens_in_any_batch() {
    for model in ["gqa", "llama3"] {
        same_whatever_the_slots(&fixture(model), Executor::Candle);
    }
}
