//! Decoding allocates nothing: a step of the CPU executor on every architecture, with one thread and two, one sequence and
//! many, and a token of the generation loops.
//!
//! A global allocator counts, on all threads; so this is a test program of its own, and its only test runs its parts in turn.
//! Pages of the key-value cache are the exception: a step that begins one is left out.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![allow(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; it counts and hands on"
)]

mod fixtures;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use billion_llm::decoder::{Decoder, EXACT_ROWS, Run, SeqId};
use billion_llm::generate::batch::{BatchEvent, Request, generate_batch};
use billion_llm::generate::{GenerateOptions, Piece, SamplerOptions, Session, generate};
use billion_llm::load::{LoadOptions, Loaded, ModelFiles, load};
use fixtures::{fixture, starter_model};

/// Tokens of a page of the key-value cache (`billion_kernels::attention::PAGE_TOKENS`).
const PAGE_TOKENS: usize = 32;

/// Counts and hands on to the system's.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::SeqCst)
}

fn loaded(path: &Path, threads: usize) -> Loaded {
    let options = LoadOptions {
        threads: Some(threads),
        ..LoadOptions::default()
    };
    load(&ModelFiles::open(path).unwrap(), &options).unwrap()
}

/// The fewest of a few rounds: a thread of the pool that starts late allocates its name in one of them, and what a step
/// allocates is allocated in all.
fn fewest(mut round: impl FnMut() -> usize) -> usize {
    let mut fewest = usize::MAX;
    for _ in 0..5 {
        fewest = fewest.min(round());
        if fewest == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    fewest
}

/// One pass: the next token of each sequence, with logits that are given back.
fn step(decoder: &mut dyn Decoder, seqs: &[SeqId], token: u32) {
    let tokens = [token];
    let mut runs = [Run {
        seq: SeqId(0),
        tokens: &[],
        want: &[0],
    }; EXACT_ROWS];
    for (run, &seq) in runs.iter_mut().zip(seqs) {
        (run.seq, run.tokens) = (seq, &tokens);
    }
    let logits = decoder.forward(&runs[..seqs.len()]).unwrap();
    assert_eq!(logits.rows(), seqs.len());
    decoder.recycle(logits);
}

/// Passes of one token a sequence, and of several tokens of one sequence as speculation checks them.
fn steps_allocate_nothing(path: &Path) {
    for threads in [1, 2] {
        let mut loaded = loaded(path, threads);
        let vocab = loaded.spec.vocab_size as u32;
        let decoder = loaded.decoder.as_mut();
        for batch in [1, 2, 8, EXACT_ROWS] {
            let counted = fewest(|| {
                let seqs: Vec<SeqId> = (0..batch).map(|_| decoder.open().unwrap()).collect();
                // A page's first tokens warm up: the page, and buffers for as many rows.
                for token in 0..3 {
                    step(decoder, &seqs, token);
                }
                let before = allocations();
                for token in 3..PAGE_TOKENS as u32 {
                    step(decoder, &seqs, token % vocab);
                }
                let counted = allocations() - before;
                for seq in seqs {
                    decoder.close(seq);
                }
                counted
            });
            let steps = PAGE_TOKENS - 3;
            let name = path.display();
            assert_eq!(
                counted, 0,
                "{name}: {steps} steps of {batch} sequences on {threads} threads"
            );
        }
        let seq = decoder.open().unwrap();
        let tokens: Vec<u32> = (0..8).collect();
        let want: Vec<usize> = (0..8).collect();
        let counted = fewest(|| {
            let before = allocations();
            let run = Run {
                seq,
                tokens: &tokens,
                want: &want,
            };
            let logits = decoder.forward(&[run]).unwrap();
            decoder.recycle(logits);
            decoder.truncate(seq, 2).unwrap();
            allocations() - before
        });
        assert_eq!(
            counted, 0,
            "a pass of 8 tokens of a sequence on {threads} threads"
        );
    }
}

/// Options with which generation uses everything that a sampler has, or nothing of it.
fn samplings() -> [SamplerOptions; 3] {
    let greedy = SamplerOptions::default();
    let drawn = SamplerOptions {
        temperature: 0.8,
        repetition_penalty: 1.1,
        seed: 7,
        ..greedy
    };
    let unfiltered = SamplerOptions {
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..drawn
    };
    [greedy, drawn, unfiltered]
}

/// Tokens of a prompt, and of what is written after it: a page ends in between.
const PROMPT: usize = 5;
const WRITTEN: usize = 50;

fn options(sampler: SamplerOptions) -> GenerateOptions {
    GenerateOptions {
        max_tokens: WRITTEN,
        sampler,
        stop: vec!["a text that does not come".to_owned()],
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// Allocations between the step that chose token `from` and the one that chose the last, steps that begin a page left out.
/// `heard` are the counts when the last text of each step came.
fn between(heard: &[usize], from: usize) -> usize {
    let steps = (from..heard.len()).filter(|token| {
        // The pass before this token ran the one before it.
        let position = PROMPT + token - 1;
        !position.is_multiple_of(PAGE_TOKENS)
    });
    steps.map(|token| heard[token] - heard[token - 1]).sum()
}

/// From token to token of `generate`, as its receiver hears of them. The receiver is lent each text: a `String` that it makes
/// of one is its own.
fn tokens_allocate_nothing(path: &Path) {
    for threads in [1, 2] {
        let mut loaded = loaded(path, threads);
        let prompt: Vec<u32> = (1..=PROMPT as u32).collect();
        for sampler in samplings() {
            let counted = fewest(|| {
                let mut session = Session::new();
                let mut heard = Vec::with_capacity(WRITTEN);
                let mut bytes = 0;
                let generation = generate(
                    loaded.decoder.as_mut(),
                    loaded.tokenizer.as_ref(),
                    &mut session,
                    &prompt,
                    &options(sampler),
                    &mut |piece| {
                        if let Piece::Text { text, .. } = piece {
                            heard.push(allocations());
                            bytes += text.len();
                        }
                        ControlFlow::Continue(())
                    },
                )
                .unwrap();
                session.close(loaded.decoder.as_mut());
                assert_eq!(generation.tokens.len(), WRITTEN);
                assert!(bytes > 0, "text was streamed");
                // The first two tokens make the sampler's lists and the logits that are handed to and fro.
                between(&heard, 2)
            });
            let name = path.display();
            assert_eq!(
                counted, 0,
                "{name}: {WRITTEN} tokens on {threads} threads, {sampler:?}"
            );
        }
    }
}

/// Steps of a batch of as many requests as there are slots.
fn batches_allocate_nothing(path: &Path) {
    for threads in [1, 2] {
        let mut loaded = loaded(path, threads);
        // With more than a pass takes, too.
        for slots in [1, 8, EXACT_ROWS + 4] {
            let requests: Vec<Request> = (0..slots)
                .map(|i| Request {
                    prompt: (1..=PROMPT as u32).collect(),
                    options: options(SamplerOptions {
                        seed: i as u64,
                        ..samplings()[1]
                    }),
                })
                .collect();
            let counted = fewest(|| {
                let mut heard = Vec::with_capacity(slots * WRITTEN);
                let flow = generate_batch(
                    loaded.decoder.as_mut(),
                    loaded.tokenizer.as_ref(),
                    &requests,
                    slots,
                    &mut |event| {
                        if let BatchEvent::Piece {
                            piece: Piece::Text { .. },
                            ..
                        } = event
                        {
                            heard.push(allocations());
                        }
                        ControlFlow::Continue(())
                    },
                );
                assert!(flow.unwrap().is_continue());
                assert_eq!(heard.len(), slots * WRITTEN);
                let mut steps: Vec<usize> =
                    heard.into_iter().skip(slots - 1).step_by(slots).collect();
                // With the last token a slot ends and is handed over.
                steps.pop();
                between(&steps, 3)
            });
            let name = path.display();
            assert_eq!(counted, 0, "{name}: steps of {slots} on {threads} threads");
        }
    }
}

#[test]
fn decoding_allocates_nothing() {
    let before = allocations();
    drop(std::hint::black_box(vec![1_u8]));
    assert!(allocations() > before, "the allocator counts");

    let tiny = [
        "gqa",
        "gqa.gguf",
        "llama3",
        "llama3.gguf",
        "families/stablelm_1_6b",
        "families/stablelm_12b",
        "families/pythia",
        "families/neox_serial",
        "families/qwen2",
        "families/mistral",
    ];
    for model in tiny {
        steps_allocate_nothing(&fixture(model));
    }
    steps_allocate_nothing(&starter_model());
    tokens_allocate_nothing(&fixture("gqa"));
    tokens_allocate_nothing(&starter_model());
    batches_allocate_nothing(&fixture("gqa.gguf"));
}
