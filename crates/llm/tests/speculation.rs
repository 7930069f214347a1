//! Speculation on real executors: the greedy text is the plain one to the last token, whatever drafts.

#[path = "../examples/gguf_file/mod.rs"]
mod gguf_file;
#[path = "../examples/widened_model/widen.rs"]
#[expect(dead_code, reason = "the test of it reads what it says of a file")]
mod widen;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use billion_llm::decoder::TextCodec as _;
use billion_llm::generate::speculate::{Draft, Lookup, Speculation, Target, Width, speculate};
use billion_llm::generate::{GenerateOptions, Session, generate};
use billion_llm::load::{LoadOptions, Loaded, ModelFiles, load};
use billion_llm::weights::Weights;

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

/// Every number of prompts and every width, with `draft`, and with lookup where that is said; gives how many tokens of the
/// model's drafts were kept and looked at.
fn same_text(
    target: &mut Loaded,
    draft: &mut Loaded,
    prompts: &[Vec<u32>],
    tokens: usize,
    with_lookup: bool,
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
            for looks in [false, true].into_iter().take(1 + usize::from(with_lookup)) {
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
    let (accepted, tested) = same_text(&mut target, &mut draft, &prompts, 24, true);
    assert!(
        accepted * 10 > tested * 9,
        "{accepted} of {tested}: the same weights hardly agree"
    );
}

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Prompts for the starter model: 200 with `--full`, else `few`.
fn prompts_for(target: &Loaded, few: usize) -> Vec<Vec<u32>> {
    let count = if std::env::var_os("BILLION_FULL").is_some() {
        200
    } else {
        few
    };
    let topics = [
        "rivers",
        "bread",
        "a lighthouse",
        "prime numbers",
        "sorting a list in Python",
    ];
    (0..count)
        .map(|n| {
            let text = format!(
                "Note {n}. Write a few lines about {}, then again",
                topics[n % topics.len()]
            );
            let tokens = target.tokenizer.encode(&text, true, false);
            tokens.expect("encoded")
        })
        .collect()
}

/// The starter model drafts for itself.
#[test]
fn the_starter_model() {
    let (mut target, mut draft) = (open(&starter()), open(&starter()));
    let prompts = prompts_for(&target, 4);
    let (accepted, tested) = same_text(&mut target, &mut draft, &prompts, 24, true);
    assert_eq!(accepted, tested, "a model does not agree with itself");
}

/// A draft with two layers less, one of other formats, and one whose weights are mostly noise.
#[test]
fn the_starter_model_with_worse_drafts() {
    let mut target = open(&starter());
    let prompts = prompts_for(&target, 2);
    let source = Weights::open(&starter()).expect("the starter model");
    let folder = tempfile::tempdir().expect("a folder");
    let pruned = widen::Options {
        prune: 2,
        ..widen::Options::default()
    };
    let noisy = widen::Options {
        noise: 4.0,
        ..widen::Options::default()
    };
    for (name, recipe, options, least, most) in [
        ("pruned", "q8_0", pruned, 0.0, 0.9),
        ("quantized", "q4_0", widen::Options::default(), 0.5, 1.0),
        ("random", "q4_0", noisy, -1.0, 0.1),
    ] {
        let path = folder.path().join(format!("{name}.gguf"));
        widen::widen(&source, &path, recipe, &options).expect("written");
        let mut draft = open(&path);
        let (accepted, tested) = same_text(&mut target, &mut draft, &prompts, 24, false);
        let share = accepted as f64 / tested as f64;
        assert!(
            tested > 0 && share > least && share < most,
            "{name}: {accepted} of {tested}"
        );
    }
}
