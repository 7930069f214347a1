//! The adapters of `fixtures/adapters/make.py`, which PEFT made: every executor gives PEFT's logits from every file of the base,
//! base and tuned answer side by side, rows do not depend on their neighbours, and what is written again is what was read.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use billion_llm::Error;
use billion_llm::adapter::{Adapter, AdapterConfig, Module, Target};
use billion_llm::decoder::{Decoder, Run, SeqId};
use billion_llm::load::{Executor, LoadOptions, Loaded, ModelFiles, load};
use billion_llm::quantize::{About, MergeCheck, Plan, Quant, WriteOptions};
use billion_llm::weights::Weights;
use fixtures::{fixture, starter_model};

/// As in `reference.rs`: float32 sums in another order, on logits of up to 20.
const TOLERANCE: f32 = 1e-3;

/// Adapter and the model that it belongs to.
const ADAPTERS: [(&str, &str); 4] = [
    ("gqa", "gqa"),
    ("gqa_rslora", "gqa"),
    ("stablelm", "families/stablelm_1_6b"),
    ("pythia", "families/pythia"),
];

fn folder_of(name: &str) -> PathBuf {
    fixture(&format!("adapters/{name}"))
}

/// Tokens, and the logits of the base and with the adapter.
struct Reference {
    tokens: Vec<u32>,
    base: Vec<f32>,
    tuned: Vec<f32>,
}

fn reference(name: &str) -> Reference {
    let file = Weights::open(&fixture(&format!("adapters/{name}.reference.safetensors"))).unwrap();
    let floats = |name: &str| {
        let view = file.require(name).unwrap();
        let numbers = view.bytes.as_chunks::<4>().0.iter();
        numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    // The tokens are 64-bit integers, which are no weights: as make.py has them.
    let vocab = file.require("logits").unwrap().shape[1] as u32;
    let tokens = [3, 17, 42, 8, 61, 5, 5, 90, 33, 12, 71, 2];
    Reference {
        tokens: tokens.map(|token| token % vocab).to_vec(),
        base: floats("base"),
        tuned: floats("logits"),
    }
}

fn opened(base: &Path, executor: Executor, adapter: Option<PathBuf>) -> Loaded {
    let files = ModelFiles::open(base).unwrap();
    let options = LoadOptions {
        executor,
        threads: Some(2),
        adapter,
        ..LoadOptions::default()
    };
    load(&files, &options).unwrap()
}

fn logits(decoder: &mut dyn Decoder, seq: SeqId, tokens: &[u32]) -> Vec<f32> {
    let want: Vec<usize> = (0..tokens.len()).collect();
    let run = Run {
        seq,
        tokens,
        want: &want,
    };
    decoder.forward(&[run]).unwrap().data
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn pefts_adapters_give_pefts_logits_in_both_executors() {
    for (name, base) in ADAPTERS {
        let expected = reference(name);
        for path in [fixture(base), fixture(&format!("{base}.gguf"))] {
            for executor in [Executor::Cpu, Executor::Candle] {
                let mut loaded = opened(&path, executor, Some(folder_of(name)));
                let decoder = loaded.decoder.as_mut();
                let seq = decoder.open().unwrap();
                let off = worst(&logits(decoder, seq, &expected.tokens), &expected.tuned);
                println!("{name} on {} by {executor:?}: {off:e}", path.display());
                assert!(off < TOLERANCE, "{name} on {}: {off}", path.display());
            }
        }
    }
}

#[test]
fn base_and_tuned_answer_side_by_side_from_one_set_of_weights() {
    for (name, base) in ADAPTERS {
        let expected = reference(name);
        for executor in [Executor::Cpu, Executor::Candle] {
            let mut loaded = opened(&fixture(base), executor, None);
            let plain = loaded.decoder.open().unwrap();
            loaded.swap_adapter(Some(&folder_of(name))).unwrap();
            let tuned = loaded.decoder.open().unwrap();
            loaded.swap_adapter(None).unwrap();
            let plain_again = loaded.decoder.open().unwrap();
            let decoder = loaded.decoder.as_mut();
            // In one pass: rows with an adapter beside rows without.
            let want: Vec<usize> = (0..expected.tokens.len()).collect();
            let runs = [plain, tuned, plain_again].map(|seq| Run {
                seq,
                tokens: &expected.tokens,
                want: &want,
            });
            let together = decoder.forward(&runs).unwrap().data;
            let each = expected.base.len();
            assert!(worst(&together[..each], &expected.base) < TOLERANCE);
            assert!(worst(&together[each..2 * each], &expected.tuned) < TOLERANCE);
            assert!(together[..each] == together[2 * each..]);
            // A fork keeps its parent's adapter, whatever was set since.
            let fork = decoder.fork(tuned, 4).unwrap();
            let rest = logits(decoder, fork, &expected.tokens[4..]);
            let vocab = decoder.vocab_size();
            assert!(worst(&rest, &expected.tuned[4 * vocab..]) < TOLERANCE);
        }
    }
}

#[test]
fn a_row_with_an_adapter_does_not_depend_on_its_neighbours() {
    for (name, base) in ADAPTERS {
        for (path, executor) in [
            (fixture(base), Executor::Cpu),
            (fixture(&format!("{base}.gguf")), Executor::Cpu),
            (fixture(base), Executor::Candle),
        ] {
            let mut loaded = opened(&path, executor, Some(folder_of(name)));
            let tokens = reference(name).tokens;
            let decoder = loaded.decoder.as_mut();
            let seq = decoder.open().unwrap();
            let one_by_one: Vec<f32> = tokens
                .iter()
                .flat_map(|token| logits(decoder, seq, &[*token]))
                .collect();
            let vocab = decoder.vocab_size();
            for cut in 1..tokens.len() {
                let (first, rest) = tokens.split_at(cut);
                let seq = decoder.open().unwrap();
                let other = decoder.open().unwrap();
                logits(decoder, seq, first);
                let rows = rest.len().min(15);
                let want: Vec<usize> = (0..rows).collect();
                let runs = [
                    Run {
                        seq: other,
                        tokens: &tokens[..1],
                        want: &[],
                    },
                    Run {
                        seq,
                        tokens: rest,
                        want: &want,
                    },
                ];
                let data = decoder.forward(&runs).unwrap().data;
                let expected = &one_by_one[cut * vocab..];
                assert!(data == expected, "{name} by {executor:?}, cut at {cut}");
                decoder.close(seq);
                decoder.close(other);
            }
        }
    }
}

#[test]
fn an_adapter_of_zeros_changes_nothing_at_all() {
    for (name, base) in ADAPTERS {
        let files = ModelFiles::open(&fixture(base)).unwrap();
        let mut adapter = Adapter::read(&folder_of(name), files.spec()).unwrap();
        for module in &mut adapter.modules {
            module.b.fill(0.0);
        }
        let attached = adapter.attach(files.spec()).unwrap();
        for executor in [Executor::Cpu, Executor::Candle] {
            let mut loaded = opened(&fixture(base), executor, None);
            let decoder = loaded.decoder.as_mut();
            let plain = decoder.open().unwrap();
            decoder.set_adapter(Some(&attached)).unwrap();
            let zeros = decoder.open().unwrap();
            let tokens = reference(name).tokens;
            assert_eq!(
                logits(decoder, plain, &tokens),
                logits(decoder, zeros, &tokens)
            );
        }
    }
}

#[test]
fn what_is_written_is_what_peft_wrote() {
    for (name, base) in ADAPTERS {
        let files = ModelFiles::open(&fixture(base)).unwrap();
        let spec = files.spec();
        let read = Adapter::read(&folder_of(name), spec).unwrap();
        let copy = tempfile::tempdir().unwrap();
        read.write(copy.path(), spec).unwrap();
        let again = Adapter::read(copy.path(), spec).unwrap();
        assert_eq!(again.config, read.config, "{name}");
        assert!(again == read, "{name}: numbers differ");
        // Tensor by tensor, name by name.
        let tensors = |folder: &Path| {
            let file = Weights::open(&folder.join("adapter_model.safetensors")).unwrap();
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            let each = names.into_iter().map(|name| {
                let view = file.require(&name).unwrap();
                (name, view.shape.clone(), view.bytes.to_vec())
            });
            each.collect::<Vec<_>>()
        };
        assert!(tensors(copy.path()) == tensors(&folder_of(name)), "{name}");
        // Every setting that we write says what PEFT's says; what it has besides is empty.
        let settings = |folder: &Path| -> serde_json::Map<String, serde_json::Value> {
            let text = std::fs::read(folder.join("adapter_config.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let theirs = settings(&folder_of(name));
        for (key, ours) in settings(copy.path()) {
            if key == "target_modules" {
                let sorted = |value: &serde_json::Value| {
                    let list = value.as_array().unwrap().iter();
                    let last = |name: &serde_json::Value| {
                        let name = name.as_str().unwrap();
                        name.rsplit('.').next().unwrap().to_owned()
                    };
                    list.map(last).collect::<std::collections::BTreeSet<_>>()
                };
                assert_eq!(sorted(&ours), sorted(&theirs[&key]), "{name}");
            } else if key.ends_with("_pattern") {
                // Ours names whole paths, theirs the ends of them.
                let count = |value: &serde_json::Value| value.as_object().map(serde_json::Map::len);
                assert_eq!(count(&ours), count(&theirs[&key]), "{name}: {key}");
            } else {
                let same = ours == theirs[&key] || ours.as_f64() == theirs[&key].as_f64();
                assert!(same, "{name}: {key} is {ours}, PEFT has {}", theirs[&key]);
            }
        }
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_before_anything_is_loaded() {
    let files = ModelFiles::open(&fixture("families/qwen2")).unwrap();
    let options = LoadOptions {
        adapter: Some(folder_of("gqa")),
        ..LoadOptions::default()
    };
    let error = load(&files, &options).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("expected") || error.contains("block"),
        "{error}"
    );
    let mut loaded = opened(&fixture("gqa"), Executor::Cpu, None);
    let error = loaded.swap_adapter(Some(&folder_of("pythia"))).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("gpt_neox.layers.0.attention.dense is no linear map"),
        "{error}"
    );
}

/// What base and adapter say to the tokens, as they are loaded.
fn tuned(base: &Path, adapter: Option<PathBuf>, tokens: &[u32]) -> Vec<f32> {
    let mut loaded = opened(base, Executor::Cpu, adapter);
    let seq = loaded.decoder.open().unwrap();
    logits(loaded.decoder.as_mut(), seq, tokens)
}

fn merged(base: &Path, adapter: &Path, quant: Quant, out: &Path) -> Result<MergeCheck, Error> {
    let files = ModelFiles::open(base).unwrap();
    let adapter = Adapter::read(adapter, files.spec()).unwrap();
    let plan = Plan::merged(&files, &adapter, quant, &About::default())?;
    let options = WriteOptions { threads: Some(2) };
    let written = plan.write(out, &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(written.merge.unwrap())
}

#[test]
fn merged_files_answer_as_base_and_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged.gguf");
    for (name, base) in ADAPTERS {
        let expected = reference(name);
        for path in [fixture(base), fixture(&format!("{base}.gguf"))] {
            for quant in Quant::ALL {
                let check = merged(&path, &folder_of(name), quant, &out).unwrap();
                println!("{name} on {} as {}: {check:?}", path.display(), quant.id());
                assert!(
                    check.difference <= check.bound && check.moved > 0.1,
                    "{check:?}"
                );
                if quant == Quant::F16 {
                    // Half floats are all that stands between the file and PEFT.
                    let off = worst(&tuned(&out, None, &expected.tokens), &expected.tuned);
                    assert!(off < 0.05, "{name}: {off}");
                }
                assert!(out.is_file());
                std::fs::remove_file(&out).unwrap();
            }
        }
    }
}

#[test]
fn a_quantized_base_takes_an_adapter_and_what_is_not_adapted_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.gguf");
    let files = ModelFiles::open(&fixture("gqa")).unwrap();
    let plan = Plan::new(&files, Quant::Q8_0, &About::default()).unwrap();
    plan.write(&base, &WriteOptions::default(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let out = folder.path().join("merged.gguf");
    let check = merged(&base, &folder_of("gqa_rslora"), Quant::Q8_0, &out).unwrap();
    assert!(check.difference < check.bound, "{check:?}");
    let (before, after) = (Weights::open(&base).unwrap(), Weights::open(&out).unwrap());
    let mut changed = Vec::new();
    for name in before.names() {
        if before.require(name).unwrap().bytes != after.require(name).unwrap().bytes {
            changed.push(name.to_owned());
        }
    }
    let expected = [
        "blk.0.attn_q",
        "blk.0.attn_v",
        "blk.1.attn_q",
        "blk.1.attn_v",
    ];
    assert_eq!(changed, expected.map(|name| format!("{name}.weight")));
    // Without an adapter it would be rounded twice for nothing.
    let quantized = ModelFiles::open(&base).unwrap();
    let plan = Plan::new(&quantized, Quant::Q8_0, &About::default());
    assert!(
        plan.map(drop)
            .unwrap_err()
            .to_string()
            .contains("quantized already")
    );
}

#[test]
fn a_merge_that_overflows_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&fixture("gqa")).unwrap();
    let mut adapter = Adapter::read(&folder_of("gqa"), files.spec()).unwrap();
    adapter.modules[0].b.fill(1e20);
    let wild = folder.path().join("wild");
    adapter.write(&wild, files.spec()).unwrap();
    let out = folder.path().join("merged.gguf");
    let error = merged(&fixture("gqa"), &wild, Quant::F16, &out).unwrap_err();
    assert!(error.to_string().contains("holds at most"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the adapter itself: {left:?}");
}

/// The figures behind the bounds of `quantize::merge`; the starter model is Q4_1, so most formats round it a second time.
#[test]
fn the_starter_model_merges_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&starter_model()).unwrap();
    let spec = files.spec();
    let mut state = 1_u64;
    let mut noise = |numbers: usize, scale: f32| -> Vec<f32> {
        let number = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        };
        (0..numbers).map(number).collect()
    };
    // The size of matrices that trainings of a few hundred steps end with.
    let config = AdapterConfig {
        r: 8,
        lora_alpha: 16.0,
        use_rslora: false,
        lora_dropout: 0.0,
        target_modules: Vec::new(),
        base_model: None,
    };
    let all = (0..spec.layers).flat_map(|layer| [(layer, Target::Q), (layer, Target::V)]);
    let modules = all.map(|(layer, target)| {
        let (out, cols) = target.shape(spec);
        Module {
            layer,
            target,
            rank: 8,
            scale: config.scale(8),
            a: noise(8 * cols, 0.04),
            b: noise(out * 8, 0.15),
        }
    });
    let adapter = Adapter {
        modules: modules.collect(),
        config,
    };
    let place = folder.path().join("adapter");
    adapter.write(&place, spec).unwrap();
    let out = folder.path().join("merged.gguf");
    // All six take a minute.
    let full = std::env::var_os("BILLION_FULL").is_some();
    let quants = if full {
        &Quant::ALL[..]
    } else {
        &[Quant::Q8_0]
    };
    for &quant in quants {
        let check = merged(&starter_model(), &place, quant, &out).unwrap();
        println!("starter as {}: {check:?}", quant.id());
        assert!(
            check.difference <= check.bound && check.moved > 0.1,
            "{check:?}"
        );
    }
}
