//! The tiny models of `fixtures/make.py` and `fixtures/families/make.py`: every executor gives transformers' logits and greedy tokens, from every file
//! format, and all formats describe the same model.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use billion_llm::chat_template::Message;
use billion_llm::decoder::{Decoder, Run, TextCodec};
use billion_llm::generate::greedy;
use billion_llm::load::{Executor, LoadOptions, Loaded, ModelFiles, load};
use billion_llm::spec::{Mlp, Pairing, Residual};
use billion_llm::weights::Weights;
use fixtures::{copy_of, fixture, with_old_config};

/// Float32 sums in another order: measured differences are below 1e-4 on logits of up to 15.
const TOLERANCE: f32 = 1e-3;

#[derive(serde::Deserialize)]
struct Record {
    models: BTreeMap<String, BTreeMap<String, Prompt>>,
    /// `num_parameters()` of transformers.
    #[serde(default)]
    params: BTreeMap<String, u64>,
    #[serde(default)]
    chats: BTreeMap<String, Chat>,
}

/// Messages and what transformers' chat template made of them.
#[derive(serde::Deserialize)]
struct Chat {
    messages: Vec<BTreeMap<String, String>>,
    text: String,
}

/// A prompt and what transformers made of it.
#[derive(serde::Deserialize)]
struct Prompt {
    text: String,
    tokens: Vec<u32>,
    greedy: Vec<u32>,
}

/// Models that are not built as Llama is, by folder.
const FAMILIES: [&str; 6] = [
    "families/stablelm_1_6b",
    "families/stablelm_12b",
    "families/pythia",
    "families/neox_serial",
    "families/qwen2",
    "families/mistral",
];

/// What transformers wrote beside the model's folder.
fn record(model: &str) -> Record {
    let path = fixture(model).with_file_name("reference.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn prompts(model: &str) -> BTreeMap<String, Prompt> {
    let name = model.rsplit('/').next().unwrap();
    record(model).models.remove(name).unwrap()
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
        ..LoadOptions::default()
    };
    load(&files, &options).unwrap()
}

/// Every file of a model, with what it is.
fn files_of(model: &str) -> Vec<(&'static str, tempfile::TempDir, std::path::PathBuf)> {
    let new = copy_of(model);
    let old = with_old_config(model);
    let (new_path, old_path) = (new.path().to_owned(), old.path().to_owned());
    let mut files = vec![
        ("safetensors", new, new_path),
        (
            "safetensors with the configuration of transformers 4",
            old,
            old_path,
        ),
    ];
    let source = fixture(&format!("{model}.gguf"));
    if source.is_file() {
        let gguf = tempfile::tempdir().unwrap();
        let path = gguf.path().join("model.gguf");
        fs::copy(source, &path).unwrap();
        files.push(("GGUF", gguf, path));
    }
    files
}

fn agrees_with_transformers(model: &str, executor: Executor) {
    let reference = Weights::open(&fixture(&format!("{model}.reference.safetensors"))).unwrap();
    for (what, _folder, path) in files_of(model) {
        let mut loaded = loaded(&path, executor);
        let decoder = loaded.decoder.as_mut();
        for (name, prompt) in prompts(model) {
            let tokens = loaded.tokenizer.encode(&prompt.text, true, true).unwrap();
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
fn candle_agrees_with_transformers_on_every_family() {
    for model in FAMILIES {
        agrees_with_transformers(model, Executor::Candle);
    }
}

#[test]
fn cpu_agrees_with_transformers_on_every_family() {
    for model in FAMILIES {
        agrees_with_transformers(model, Executor::Cpu);
    }
}

#[test]
fn every_file_of_a_family_describes_the_same_model() {
    for model in FAMILIES {
        let params = record(model).params[model.rsplit('/').next().unwrap()];
        let all: Vec<_> = files_of(model)
            .into_iter()
            .map(|(what, folder, path)| (what, folder, ModelFiles::open(&path).unwrap()))
            .collect();
        let (_, _, first) = &all[0];
        for (what, _, files) in &all {
            let mut spec = files.spec().clone();
            // Epsilon and base are F32 in GGUF files.
            for (a, b) in spec
                .rotary
                .frequencies
                .iter_mut()
                .zip(&first.spec().rotary.frequencies)
            {
                assert!((*a - b).abs() <= b * 1e-6, "{a} and {b}");
                *a = *b;
            }
            assert_eq!(&spec, first.spec(), "{model} as {what}");
            assert_eq!(files.params(), params, "{model} as {what}");
            assert_eq!(files.weight_bytes(), params * 4, "{model} as {what}");
            assert_eq!(files.quant(), "F32");
            let tokenizer = files.tokenizer();
            let eos = tokenizer.token_id("<|endoftext|>").unwrap();
            assert!(tokenizer.eos_tokens().contains(&eos));
            assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(eos), false));
        }
        let spec = first.spec();
        let form = (spec.residual, spec.mlp, spec.qk_norm, spec.tied_head);
        let expected = match model.strip_prefix("families/").unwrap() {
            "stablelm_12b" => (Residual::Parallel, Mlp::SwiGlu, true, false),
            "pythia" => (Residual::Parallel, Mlp::Gelu, false, false),
            "neox_serial" => (Residual::Sequential, Mlp::GeluTanh, false, false),
            other => (Residual::Sequential, Mlp::SwiGlu, false, other == "qwen2"),
        };
        assert_eq!(form, expected, "{model}");
        // mistral's sliding window is 64 wide.
        let context_len = if model.ends_with("mistral") { 64 } else { 128 };
        assert_eq!(spec.context_len, context_len);
    }
}

#[test]
fn chats_are_written_as_transformers_writes_them() {
    let model = "families/stablelm_1_6b";
    for (name, chat) in record(model).chats {
        assert!(model.ends_with(&name));
        for (what, _folder, path) in files_of(model) {
            let files = ModelFiles::open(&path).unwrap();
            let messages: Vec<_> = chat
                .messages
                .iter()
                .map(|message| Message::new(&message["role"], &message["content"]))
                .collect();
            let text = files.chat_template().unwrap().render(&messages, true);
            assert_eq!(text.unwrap(), chat.text, "{what}");
        }
    }
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
        assert_eq!(gguf.weights().elements(), new.params() + frequencies);
        assert_eq!(gguf.params(), new.params());
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
