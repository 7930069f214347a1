//! Speculation on real executors: the greedy text is the plain one to the last token, whatever drafts.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use billion_llm::decoder::TextCodec as _;
use billion_llm::generate::speculate::{Draft, Lookup, Speculation, Target, Width, speculate};
use billion_llm::generate::{GenerateOptions, Session, generate};
use billion_llm::load::{LoadOptions, Loaded, ModelFiles, load};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn open(path: &Path) -> Loaded {
    let options = LoadOptions {
        threads: Some(2),
        ..LoadOptions::default()
    };
    load(&ModelFiles::open(path).expect("a model"), &options).expect("loaded")
}

/// Every number of prompts and every width, with `draft` and with lookup; gives how many tokens of the model's drafts were
/// kept and looked at.
fn same_text(
    target: &mut Loaded,
    draft: &mut Loaded,
    prompts: &[Vec<u32>],
    tokens: usize,
) -> (usize, usize) {
    let options = GenerateOptions {
        max_tokens: tokens,
        ..GenerateOptions::default()
    };
    let (mut accepted, mut tested) = (0, 0);
    for (n, prompt) in prompts.iter().enumerate() {
        let expected = generate(
            target.decoder.as_mut(),
            target.tokenizer.as_ref(),
            &mut Session::new(),
            prompt,
            &options,
            &mut |_| ControlFlow::Continue(()),
        )
        .expect("generated");
        for width in [Width::Fixed(1 + n % 15), Width::Fixed(4), Width::Auto] {
            for looks in [false, true] {
                let mut draft_session = Session::new();
                let from = if looks {
                    Draft::Lookup(Lookup::default())
                } else {
                    Draft::Model {
                        decoder: draft.decoder.as_mut(),
                        session: &mut draft_session,
                    }
                };
                let mut session = Session::new();
                let done: Speculation = speculate(
                    Target {
                        decoder: target.decoder.as_mut(),
                        session: &mut session,
                        codec: target.tokenizer.as_ref(),
                    },
                    from,
                    width,
                    prompt,
                    &options,
                    &mut |_, _| ControlFlow::Continue(()),
                )
                .expect("generated");
                assert_eq!(
                    done.generation.tokens, expected.tokens,
                    "prompt {n}, {width:?}, lookup {looks}"
                );
                if !looks {
                    accepted += done.counts.accepted;
                    tested += done.counts.tested;
                }
                session.close(target.decoder.as_mut());
                draft_session.close(draft.decoder.as_mut());
            }
        }
    }
    (accepted, tested)
}

#[test]
fn tiny_models_of_two_containers() {
    let (mut target, mut draft) = (open(&fixture("gqa")), open(&fixture("gqa.gguf")));
    let vocab = target.spec.vocab_size as u32;
    let prompts: Vec<Vec<u32>> = (0..40)
        .map(|n| {
            (0..=1 + n % 17)
                .map(|i| (n * 31 + i * i * 7 + 3) % vocab)
                .collect()
        })
        .collect();
    let (accepted, tested) = same_text(&mut target, &mut draft, &prompts, 24);
    assert!(
        accepted * 10 > tested * 9,
        "{accepted} of {tested}: the same weights hardly agree"
    );
}

/// The starter model drafts for itself; `--full` takes 200 prompts.
#[test]
fn the_starter_model() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
    let (mut target, mut draft) = (open(&starter), open(&starter));
    let count = if std::env::var_os("BILLION_FULL").is_some() {
        200
    } else {
        4
    };
    let topics = [
        "rivers",
        "bread",
        "a lighthouse",
        "prime numbers",
        "sorting a list in Python",
    ];
    let prompts: Vec<Vec<u32>> = (0..count)
        .map(|n| {
            let text = format!(
                "Note {n}. Write a few lines about {}, then again",
                topics[n % topics.len()]
            );
            target
                .tokenizer
                .encode(&text, true, false)
                .expect("encoded")
        })
        .collect();
    let (accepted, tested) = same_text(&mut target, &mut draft, &prompts, 24);
    assert_eq!(accepted, tested, "a model does not agree with itself");
}
