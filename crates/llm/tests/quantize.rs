//! Files that are written are read again by our own loader as the same model: from safetensors of every family and from
//! GGUF files, in every format, bit for bit where nothing is rounded.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use billion_kernels::{Format, dequantize, quantize};
use billion_llm::Error;
use billion_llm::decoder::{Run, TextCodec};
use billion_llm::load::{LoadOptions, ModelFiles, load};
use billion_llm::quantize::{About, Plan, Progress, Quant, WriteOptions, tensor_bytes};
use billion_llm::weights::{MetaValue, Weights};
use fixtures::{copy_of, fixture, starter_model};
use safetensors::Dtype;
use safetensors::tensor::TensorView as SafeView;
use tempfile::TempDir;

/// Both files hold the same half floats; rows of q and k may lie in another order, which moves the last bits of sums.
const TOLERANCE: f32 = 1e-3;

/// Of the fixtures: folder, and the GGUF file that llama.cpp's converter would make of it.
const MODELS: [&str; 7] = [
    "gqa",
    "llama3",
    "families/stablelm_1_6b",
    "families/stablelm_12b",
    "families/pythia",
    "families/neox_serial",
    "families/qwen2",
];

fn write(source: &Path, quant: Quant, out: &Path) {
    let files = ModelFiles::open(source).unwrap();
    let plan = Plan::new(&files, quant, &About::default()).unwrap();
    let mut told = Vec::new();
    let written = plan
        .write(out, &WriteOptions { threads: Some(2) }, &mut |progress| {
            told.push((progress.done, progress.tensors_done));
            assert!(progress.done <= progress.total);
            assert!(progress.written <= plan.file_bytes());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(written.bytes, fs::metadata(out).unwrap().len());
    assert_eq!(written.bytes, plan.file_bytes());
    assert!(told.is_sorted() && told.len() > plan.formats().count());
    assert!(written.bytes > tensor_bytes(&files, quant).unwrap());
}

fn numbers(weights: &Weights, name: &str) -> Vec<f32> {
    let view = weights.require(name).unwrap();
    let mut numbers = vec![0.0; view.shape.iter().product()];
    dequantize(view.format, &view.bytes, &mut numbers);
    numbers
}

fn logits(path: &Path, text: &str) -> (Vec<u32>, Vec<f32>) {
    let files = ModelFiles::open(path).unwrap();
    let options = LoadOptions {
        threads: Some(2),
        ..LoadOptions::default()
    };
    let mut loaded = load(&files, &options).unwrap();
    let tokens = loaded.tokenizer.encode(text, true, false).unwrap();
    let seq = loaded.decoder.open().unwrap();
    let want: Vec<usize> = (0..tokens.len()).collect();
    let run = Run {
        seq,
        tokens: &tokens,
        want: &want,
    };
    let logits = loaded.decoder.forward(&[run]).unwrap().data;
    (tokens, logits)
}

#[test]
fn safetensors_become_the_file_that_llama_cpps_converter_makes() {
    let folder = tempfile::tempdir().unwrap();
    for model in MODELS {
        let out = folder.path().join("model.gguf");
        write(&fixture(model), Quant::F16, &out);
        let made = Weights::open(&out).unwrap();
        let reference = Weights::open(&fixture(&format!("{model}.gguf"))).unwrap();
        let mut expected: Vec<&str> = reference.names().collect();
        // llama.cpp does not read StableLM and GPT-NeoX without a head of their own.
        if model.contains("stablelm") || model.contains("pythia") || model.contains("neox") {
            expected.push("output.weight");
        }
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(made.names().collect::<Vec<_>>(), expected, "{model}");
        for name in reference.names() {
            let (found, expected) = (numbers(&made, name), numbers(&reference, name));
            let shape = reference.require(name).unwrap().shape;
            let view = made.require(name).unwrap();
            assert_eq!(view.shape, shape, "{model}: {name}");
            let is_matrix = shape.len() > 1 && !name.contains("_norm");
            let format = if is_matrix { Format::F16 } else { Format::F32 };
            assert_eq!(view.format, format, "{model}: {name}");
            for (found, expected) in found.iter().zip(&expected) {
                let off = (found - expected).abs();
                assert!(
                    off <= expected.abs() * 5e-4 + 1e-6,
                    "{model}: {name}: {found} and {expected}"
                );
            }
        }
        for key in reference.metadata_keys() {
            let skip = [
                // Of the fixture's writer, or named by llama.cpp in another way.
                "general.file_type",
                "general.name",
                "general.size_label",
                "tokenizer.ggml.pre",
                "GGUF.version",
            ];
            if skip.contains(&key) || key.ends_with("attention.value_length") {
                continue;
            }
            let (found, expected) = (made.metadata(key), reference.metadata(key));
            match (found, expected) {
                (Some(MetaValue::F64(a)), Some(MetaValue::F64(b))) => {
                    assert!((a - b).abs() <= 1e-9 * b.abs(), "{model}: {key}");
                }
                _ if key.ends_with("hidden_activation") => {}
                _ => assert_eq!(found, expected, "{model}: {key}"),
            }
        }
    }
}

/// A copy of a model whose matrices are half floats, so that a file of half floats loses nothing.
fn in_halves(model: &str) -> TempDir {
    let copy = copy_of(model);
    let weights = Weights::open(&fixture(model)).unwrap();
    let mut tensors = Vec::new();
    for name in weights.names() {
        // Masks of old checkpoints are not needed.
        let Ok(view) = weights.require(name) else {
            continue;
        };
        let values = numbers(&weights, name);
        let (dtype, bytes): (_, Vec<u8>) = if view.shape.len() > 1 {
            let halves = values.iter().map(|x| half::f16::from_f32(*x).to_le_bytes());
            (Dtype::F16, halves.flatten().collect())
        } else {
            let floats = values.iter().flat_map(|x| x.to_le_bytes());
            (Dtype::F32, floats.collect())
        };
        tensors.push((name.to_owned(), dtype, view.shape, bytes));
    }
    for entry in fs::read_dir(copy.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(".safetensors") {
            fs::remove_file(path).unwrap();
        }
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = SafeView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let file = copy.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).unwrap();
    copy
}

#[test]
fn a_file_of_half_floats_computes_what_the_safetensors_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = "The quick brown fox measures 12345 figures.\n";
    for model in MODELS.into_iter().chain(["families/mistral"]) {
        let source = in_halves(model);
        let out = folder.path().join("model.gguf");
        write(source.path(), Quant::F16, &out);
        let (tokens, expected) = logits(source.path(), text);
        let (found_tokens, found) = logits(&out, text);
        assert_eq!(found_tokens, tokens, "{model}");
        let worst = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{model}: {worst}");
        assert!(worst < TOLERANCE, "{model}: {worst}");
    }
}

#[test]
fn a_gguf_file_keeps_its_metadata_and_what_is_not_quantized() {
    let folder = tempfile::tempdir().unwrap();
    for quant in Quant::ALL {
        let out = folder.path().join("model.gguf");
        write(&fixture("llama3.gguf"), quant, &out);
        let made = ModelFiles::open(&out).unwrap();
        assert_eq!(made.quant(), quant.name());
        let made = made.weights();
        let source = Weights::open(&fixture("llama3.gguf")).unwrap();
        for key in source.metadata_keys() {
            if key != "general.file_type" {
                assert_eq!(made.metadata(key), source.metadata(key), "{key}");
            }
        }
        let added = ["general.file_type", "general.quantization_version"];
        let new = made
            .metadata_keys()
            .filter(|key| source.metadata(key).is_none());
        assert!(new.into_iter().all(|key| added.contains(&key)));
        assert!(made.names().eq(source.names()));
        for name in source.names() {
            let (found, expected) = (made.require(name).unwrap(), source.require(name).unwrap());
            if found.format == expected.format {
                assert!(found.bytes == expected.bytes, "{name}");
                continue;
            }
            let mut bytes = vec![0; found.bytes.len()];
            quantize(found.format, &numbers(&source, name), &mut bytes);
            assert!(found.bytes == bytes, "{} of {name}", quant.name());
        }
    }
}

#[test]
fn what_was_rounded_once_is_not_rounded_again() {
    let files = ModelFiles::open(&starter_model()).unwrap();
    let error = Plan::new(&files, Quant::Q4_0, &About::default()).unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("quantized already (Q4_1") && words.contains("safetensors"),
        "{words}"
    );
}

#[test]
fn a_broken_off_writing_leaves_nothing_and_what_was_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.gguf");
    fs::write(&out, "older").unwrap();
    let files = ModelFiles::open(&fixture("gqa")).unwrap();
    let plan = Plan::new(&files, Quant::Q8_0, &About::default()).unwrap();
    let mut calls = 0;
    let outcome = plan.write(&out, &WriteOptions::default(), &mut |progress| {
        calls += 1;
        let draft = folder.path().join("model.gguf.part");
        assert!(draft.is_file() && progress.tensors > 10);
        if calls == 7 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read(&out).unwrap(), b"older");
    // What a killed process left is no obstacle.
    fs::write(folder.path().join("model.gguf.part"), vec![7; 1 << 20]).unwrap();
    write(&fixture("gqa"), Quant::Q8_0, &out);
    assert!(!folder.path().join("model.gguf.part").exists());
}

#[test]
fn two_writers_of_one_file_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.gguf");
    let other = fs::File::create(folder.path().join("model.gguf.part")).unwrap();
    other.try_lock().unwrap();
    let files = ModelFiles::open(&fixture("gqa")).unwrap();
    let plan = Plan::new(&files, Quant::Q8_0, &About::default()).unwrap();
    let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
    let error = plan
        .write(&out, &WriteOptions::default(), go_on)
        .unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let nowhere = folder.path().join("no such folder/model.gguf");
    let error = plan
        .write(&nowhere, &WriteOptions::default(), go_on)
        .unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
}

#[test]
fn numbers_that_no_format_holds_are_named() {
    let copy = in_halves("gqa");
    let path = copy.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // The last tensor of the file is a matrix of half floats or a norm of floats; both read as no number then.
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let place = &json["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0];
    let at = 8 + header + place.as_u64().unwrap() as usize + 2 * 40;
    bytes[at..at + 2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let files = ModelFiles::open(copy.path()).unwrap();
    let plan = Plan::new(&files, Quant::Q4_0, &About::default()).unwrap();
    let out = copy.path().join("out.gguf");
    let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
    let error = plan
        .write(&out, &WriteOptions::default(), go_on)
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("blk.1.ffn_up.weight") && words.contains("NaN"),
        "{words}"
    );
    assert!(!out.exists());
}
