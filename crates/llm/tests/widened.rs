//! The models that `examples/widened_model` writes compute what their source computes, whatever was added; noise and
//! dropped layers change it; what cannot keep the function is refused.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;
#[path = "../examples/gguf_file/mod.rs"]
mod gguf_file;
#[path = "../examples/widened_model/widen.rs"]
mod widen;

use std::path::Path;

use billion_llm::decoder::Run;
use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use billion_llm::weights::Weights;
use fixtures::fixture;
use widen::{Options, Written, widen};

/// Float32 sums over other numbers of terms, on logits of up to 15.
const TOLERANCE: f32 = 1e-3;
/// Weights of 11 bits.
const HALVES_TOLERANCE: f32 = 0.05;

/// Without biases, with factors of its rotary frequencies, a head of its own: 32 wide, 2 layers, 4 heads of 16 in groups
/// of 2, 96 inside the MLP.
const SOURCE: &str = "llama3.gguf";

const TOKENS: [u32; 12] = [1, 7, 40, 41, 42, 9, 200, 3, 7, 40, 11, 100];

fn logits(path: &Path, executor: Executor) -> Vec<f32> {
    let options = LoadOptions {
        executor,
        threads: Some(2),
        ..LoadOptions::default()
    };
    let mut loaded = load(&ModelFiles::open(path).unwrap(), &options).unwrap();
    let seq = loaded.decoder.open().unwrap();
    let want: Vec<usize> = (0..TOKENS.len()).collect();
    let run = Run {
        seq,
        tokens: &TOKENS,
        want: &want,
    };
    loaded.decoder.forward(&[run]).unwrap().data
}

fn write(source: &Path, recipe: &str, options: &Options) -> (tempfile::TempDir, Written) {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(source).unwrap();
    let out = folder.path().join("out.gguf");
    let written = widen(&weights, &out, recipe, options).unwrap();
    (folder, written)
}

/// Largest difference of a logit from the source's, over all positions.
fn difference(source: &Path, recipe: &str, options: &Options) -> f32 {
    let (folder, _) = write(source, recipe, options);
    let out = folder.path().join("out.gguf");
    let differences = [Executor::Candle, Executor::Cpu].map(|executor| {
        let (a, b) = (logits(source, executor), logits(&out, executor));
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(&b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    });
    differences[0].max(differences[1])
}

/// Every part larger, with groups of 3 in place of 2.
fn larger() -> Options {
    Options {
        hidden: Some(64),
        layers: Some(7),
        ffn: Some(160),
        heads: Some(12),
        kv_heads: Some(4),
        threads: 2,
        ..Options::default()
    }
}

#[test]
fn what_is_added_changes_no_logit() {
    let source = fixture(SOURCE);
    let own = Options {
        threads: 2,
        ..Options::default()
    };
    let cases = [
        ("nothing", own.clone()),
        (
            "features",
            Options {
                hidden: Some(96),
                heads: Some(4),
                kv_heads: Some(2),
                ..own.clone()
            },
        ),
        (
            "layers",
            Options {
                layers: Some(5),
                ..own.clone()
            },
        ),
        (
            "the MLP",
            Options {
                ffn: Some(256),
                ..own.clone()
            },
        ),
        (
            "heads in larger groups",
            Options {
                heads: Some(8),
                kv_heads: Some(2),
                ..own.clone()
            },
        ),
        (
            "a key head for each query",
            Options {
                heads: Some(6),
                kv_heads: Some(6),
                ..own.clone()
            },
        ),
        ("everything", larger()),
    ];
    for (what, options) in cases {
        let worst = difference(&source, "f32", &options);
        println!("{what} in F32: {worst:e}");
        assert!(worst < TOLERANCE, "{what} in F32: {worst}");
        let worst = difference(&source, "f16", &options);
        println!("{what} in F16: {worst:e}");
        assert!(worst < HALVES_TOLERANCE, "{what} in F16: {worst}");
    }
}

#[test]
fn a_tied_head_stays_tied() {
    let (folder, _) = write(&untied_to_tied().1, "f32", &larger());
    let files = ModelFiles::open(&folder.path().join("out.gguf")).unwrap();
    assert!(files.spec().tied_head);
    let worst = difference(&untied_to_tied().1, "f32", &larger());
    assert!(worst < TOLERANCE, "{worst}");
}

/// Features, heads and the MLP have room for the source two times.
fn twice() -> Options {
    Options {
        hidden: Some(320),
        layers: Some(3),
        ffn: Some(352),
        heads: Some(8),
        kv_heads: Some(4),
        twice: true,
        threads: 2,
        ..Options::default()
    }
}

#[test]
fn what_is_there_twice_is_rounded_to_twice_the_bits() {
    let (_folder, tied) = untied_to_tied();
    for source in [fixture(SOURCE), tied] {
        let exact = difference(&source, "f32", &twice());
        assert!(exact < TOLERANCE, "{exact}");
        let once = Options {
            twice: false,
            ..twice()
        };
        let (once, twice) = (
            difference(&source, "q4_0", &once),
            difference(&source, "q4_0", &twice()),
        );
        println!("Q4_0 once: {once}, twice: {twice}");
        assert!(twice < 0.25 * once, "{twice} {once}");
    }
}

/// The work is real: no row of zeros but where something must be cancelled.
#[test]
fn fillers_are_random_where_zeros_elsewhere_cancel_them() {
    let (folder, written) = write(&fixture(SOURCE), "f32", &larger());
    let weights = Weights::open(&folder.path().join("out.gguf")).unwrap();
    let zeros = |name: &str| {
        let view = weights.require(name).unwrap();
        let numbers = view.bytes.as_chunks::<4>().0;
        let zero = numbers.iter().filter(|x| f32::from_le_bytes(**x) == 0.0);
        zero.count() as f64 / numbers.len() as f64
    };
    for layer in 0..7 {
        for part in ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"] {
            let share = zeros(&format!("blk.{layer}.{part}.weight"));
            assert!(share < 0.01, "{part} of layer {layer}: {share}");
        }
    }
    // Layer 0 is the source's, layer 1 is added.
    assert!(zeros("blk.0.attn_output.weight") < 1.0);
    assert_eq!(zeros("blk.1.attn_output.weight"), 1.0);
    assert_eq!(zeros("blk.1.ffn_down.weight"), 1.0);
    let spec = billion_llm::models::describe(&weights).unwrap().spec;
    assert_eq!((spec.hidden, spec.layers, spec.ffn), (64, 7, 160));
    assert_eq!((spec.heads, spec.kv_heads, spec.head_dim), (12, 4, 16));
    let stored: usize = weights
        .names()
        .map(|name| weights.require(name).unwrap().elements())
        .sum();
    assert_eq!(written.parameters, stored);
    assert!(written.bytes > 4 * stored as u64);
    assert!(
        written.shape.contains("7 (5 added, 0 dropped)"),
        "{}",
        written.shape
    );
}

#[test]
fn noise_moves_the_logits_and_is_the_same_for_every_shape() {
    let source = fixture(SOURCE);
    let noisy = |noise: f32, options: Options| Options { noise, ..options };
    let small = difference(&source, "f32", &noisy(0.01, larger()));
    let large = difference(&source, "f32", &noisy(0.2, larger()));
    assert!(TOLERANCE < small && small < large, "{small} {large}");
    let own = Options {
        threads: 1,
        ..Options::default()
    };
    let (folder, _) = write(&source, "f32", &noisy(0.2, own));
    let narrow = folder.path().join("out.gguf");
    let (folder, _) = write(&source, "f32", &noisy(0.2, larger()));
    let wide = folder.path().join("out.gguf");
    let pairs = logits(&narrow, Executor::Candle)
        .into_iter()
        .zip(logits(&wide, Executor::Candle));
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < TOLERANCE, "{worst}");
}

#[test]
fn a_pruned_model_is_smaller_and_differs() {
    let options = Options {
        prune: 1,
        ..Options::default()
    };
    let (folder, _) = write(&fixture(SOURCE), "q8_0", &options);
    let files = ModelFiles::open(&folder.path().join("out.gguf")).unwrap();
    assert_eq!(files.spec().layers, 1);
    assert!(difference(&fixture(SOURCE), "f32", &options) > 0.1);
}

#[test]
fn what_cannot_keep_the_function_is_refused() {
    let refusal = |source: &str, options: Options| {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::open(&fixture(source)).unwrap();
        let written = widen(&weights, &folder.path().join("out.gguf"), "f16", &options);
        written.err().unwrap().to_string()
    };
    let none = Options::default;
    let cases = [
        (
            Options {
                hidden: Some(16),
                ..none()
            },
            "hidden=16: the source takes 32",
        ),
        (
            Options {
                heads: Some(6),
                kv_heads: Some(4),
                ..none()
            },
            "no whole groups",
        ),
        (
            Options {
                heads: Some(4),
                kv_heads: Some(1),
                ..none()
            },
            "take 2 key heads; ask for that or more",
        ),
        (
            Options {
                hidden: Some(256),
                ..twice()
            },
            "hidden=256: the source takes 288, two times",
        ),
        (
            Options {
                layers: Some(1),
                ..none()
            },
            "layers=1: the source takes 2",
        ),
        (Options { prune: 2, ..none() }, "one must stay"),
        (
            Options {
                noise: f32::NAN,
                ..none()
            },
            "expected 0 or more",
        ),
    ];
    for (options, expected) in cases {
        let found = refusal(SOURCE, options);
        assert!(found.contains(expected), "{found}");
    }
    assert!(refusal("gqa.gguf", none()).contains("without biases"));
}

/// The source without its head, so that the embedding is the head.
fn untied_to_tied() -> (tempfile::TempDir, std::path::PathBuf) {
    use gguf_file::{Line, head};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tied.gguf");
    let source = Weights::open(&fixture(SOURCE)).unwrap();
    let names: Vec<&str> = source
        .names()
        .filter(|name| *name != "output.weight")
        .collect();
    let views: Vec<_> = names
        .iter()
        .map(|name| source.require(name).unwrap())
        .collect();
    let lines: Vec<Line<'_>> = views
        .iter()
        .map(|view| Line {
            name: &view.name,
            shape: &view.shape,
            format: view.format,
        })
        .collect();
    let entries: Vec<_> = source
        .metadata_keys()
        .map(|key| (key.to_owned(), source.metadata(key).unwrap().clone()))
        .collect();
    let mut bytes = head(&entries, &lines).unwrap();
    for view in &views {
        bytes.extend(&*view.bytes);
        bytes.resize(bytes.len().next_multiple_of(gguf_file::ALIGNMENT), 0);
    }
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
