//! Tokenizers against the reference encodings of `tests/tokenizer` (see `make.py` there), and against damaged files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokenizers::normalizers::NFC;
use tokenizers::{NormalizedString, Normalizer};

use super::{JsonConfigs, Tokenizer};
use crate::decoder::TextCodec;
use crate::weights::{MetaValue, Weights};

type Metadata = HashMap<String, MetaValue>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizer")
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn id_lists(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn corpus() -> Vec<String> {
    texts(&read("corpus.json"))
}

fn meta(value: &Value) -> MetaValue {
    match value {
        Value::Bool(value) => MetaValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => MetaValue::I64(integer),
            None => MetaValue::F64(number.as_f64().unwrap()),
        },
        Value::String(text) => MetaValue::Text(text.clone()),
        Value::Array(values) => MetaValue::Array(values.iter().map(meta).collect()),
        _ => panic!("no such metadata: {value}"),
    }
}

/// The fixture's vocabulary as GGUF metadata.
fn metadata(file: &Value, model: &str) -> Metadata {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: &Value| {
        metadata.insert(format!("tokenizer.ggml.{key}"), meta(value));
    };
    set("model", &model.into());
    for key in ["tokens", "token_type", "merges", "scores"] {
        if !file[key].is_null() {
            set(key, &file[key]);
        }
    }
    metadata
}

fn byte_level(pre: &str) -> Metadata {
    let mut metadata = metadata(&read("bytelevel.json"), "gpt2");
    metadata.insert(
        "tokenizer.ggml.pre".to_owned(),
        MetaValue::Text(pre.to_owned()),
    );
    metadata.insert("tokenizer.ggml.bos_token_id".to_owned(), MetaValue::U64(1));
    metadata.insert("tokenizer.ggml.eos_token_id".to_owned(), MetaValue::U64(2));
    metadata
}

fn sentencepiece() -> Metadata {
    let mut metadata = metadata(&read("sentencepiece.json"), "llama");
    metadata.insert("tokenizer.ggml.eos_token_id".to_owned(), MetaValue::U64(2));
    metadata
}

fn open(metadata: &Metadata) -> Result<Tokenizer, crate::Error> {
    Tokenizer::from_metadata(|key| metadata.get(key))
}

fn assert_ids(
    name: &str,
    tokenizer: &Tokenizer,
    texts: &[String],
    expected: &[Vec<u32>],
    special: bool,
) {
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        let ids = tokenizer.encode(text, false, special).unwrap();
        assert_eq!(&ids, expected, "{name}: {text:?}");
    }
}

/// Every token's bytes, one after another, are the text; so is its decoding.
fn assert_round_trip(tokenizer: &Tokenizer, text: &str, prefix: &str) {
    let ids = tokenizer.encode(text, false, false).unwrap();
    let bytes: Vec<u8> = ids
        .iter()
        .flat_map(|&id| tokenizer.token_bytes(id))
        .collect();
    let prefix = if text.is_empty() { "" } else { prefix };
    assert_eq!(bytes, format!("{prefix}{text}").as_bytes(), "{text:?}");
    assert_eq!(tokenizer.decode(&ids), text);
}

/// Unicode's form NFC.
fn composed(text: &str) -> String {
    let mut text = NormalizedString::from(text);
    NFC.normalize(&mut text).unwrap();
    text.get().to_owned()
}

/// Reproducible texts of characters that tokenizers treat in different ways.
fn random_texts(count: usize) -> Vec<String> {
    let alphabet: Vec<char> = "aethrs  \n\t1239.,'!<>|_日本é\u{301}\u{200d}👩🏽\r\u{a0}\u{0}ßЖ"
        .chars()
        .collect();
    let mut state = 1_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    (0..count)
        .map(|_| {
            (0..next(40))
                .map(|_| alphabet[next(alphabet.len())])
                .collect()
        })
        .collect()
}

#[test]
fn the_starter_model_is_encoded_as_its_own_pipeline_does() {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/pack");
    let weights = Weights::open(&pack.join("SmolLM2-135M-Instruct.Q4_1.gguf"))
        .expect("the starter pack is in starter/pack (./run --setup fetches it)");
    let tokenizer = Tokenizer::from_gguf(&weights).unwrap();
    let file = read("starter.json");
    assert_ids(
        "starter",
        &tokenizer,
        &corpus(),
        &id_lists(&file["expected"]),
        false,
    );
    let special = texts(&file["special_texts"]);
    assert_ids(
        "special",
        &tokenizer,
        &special,
        &id_lists(&file["special_expected"]),
        true,
    );
    for text in corpus().iter().chain(&random_texts(200)) {
        assert_round_trip(&tokenizer, text, "");
    }
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(tokenizer.eos_tokens(), [2, 0]);
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(1), false));
    assert_eq!(
        (&*tokenizer.bos_text(), &*tokenizer.eos_text()),
        ("<|im_start|>", "<|im_end|>")
    );
    assert!(tokenizer.encode("", true, true).unwrap().is_empty());
    let chat = tokenizer
        .encode("<|im_start|>user\nHi<|im_end|>\n", false, true)
        .unwrap();
    assert_eq!(tokenizer.decode(&chat), "user\nHi\n");
}

#[test]
fn every_pretokenizer_cuts_as_the_models_own_pattern() {
    let file = read("bytelevel.json");
    let special = texts(&file["special_texts"]);
    for (pre, expected) in file["expected"].as_object().unwrap() {
        let tokenizer = open(&byte_level(pre)).unwrap();
        assert_ids(pre, &tokenizer, &corpus(), &id_lists(expected), false);
        let marked = id_lists(&file["special_expected"][pre]);
        assert_ids(pre, &tokenizer, &special, &marked, true);
        let composes = ["olmo", "stablelm2", "qwen2"].contains(&pre.as_str());
        for text in corpus().iter().chain(&random_texts(300)) {
            let text = if composes {
                composed(text)
            } else {
                text.clone()
            };
            assert_round_trip(&tokenizer, &text, "");
        }
        if composes {
            assert_eq!(
                tokenizer.encode("e\u{301}", false, false),
                tokenizer.encode("é", false, false)
            );
        }
        assert_eq!(tokenizer.adds_bos(), pre == "llama-bpe");
    }
    // Files without the key get the pattern of their time.
    let mut metadata = byte_level("default");
    metadata.remove("tokenizer.ggml.pre");
    let tokenizer = open(&metadata).unwrap();
    assert_ids(
        "none",
        &tokenizer,
        &corpus(),
        &id_lists(&file["expected"]["default"]),
        false,
    );
}

#[test]
fn sentencepiece_is_encoded_as_sentencepiece_does() {
    let file = read("sentencepiece.json");
    let tokenizer = open(&sentencepiece()).unwrap();
    let expected = id_lists(&file["expected"]);
    assert_ids("spm", &tokenizer, &corpus(), &expected, false);
    for (ids, text) in expected.iter().zip(texts(&file["decoded"])) {
        assert_eq!(tokenizer.decode(ids), text);
    }
    for text in random_texts(300) {
        assert_round_trip(&tokenizer, &text, " ");
    }
    assert_eq!(tokenizer.eos_tokens(), [2]);
    assert_eq!(tokenizer.encode("", true, true).unwrap(), [1]);
    let hello = tokenizer.encode("Hello", false, false).unwrap();
    let marked = tokenizer.encode("<s>Hello</s>Hello", false, true).unwrap();
    assert_eq!(marked, [&[1][..], &hello, &[2], &hello].concat());
    assert_eq!(tokenizer.decode(&marked), "Hello Hello");
    assert_eq!(tokenizer.token_bytes(1), b"");
    assert_eq!(
        tokenizer.token_bytes(tokenizer.token_id("<0x0A>").unwrap()),
        b"\n"
    );
    assert_eq!(
        tokenizer.token_bytes(tokenizer.token_id("▁the").unwrap()),
        b" the"
    );
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.token_text(u32::MAX), None);

    let mut metadata = sentencepiece();
    metadata.insert(
        "tokenizer.ggml.add_space_prefix".to_owned(),
        MetaValue::Bool(false),
    );
    metadata.insert(
        "tokenizer.ggml.add_bos_token".to_owned(),
        MetaValue::Bool(false),
    );
    let tokenizer = open(&metadata).unwrap();
    assert_eq!(tokenizer.encode(" Hello", true, true).unwrap(), hello);
    assert_round_trip(&tokenizer, " Hello", "");
}

#[test]
fn tokenizer_json_gives_the_same_ids() {
    let configs = JsonConfigs {
        tokenizer: serde_json::json!({"bos_token": "<|endoftext|>", "eos_token": {"content": "<|im_end|>"}}),
        generation: serde_json::json!({"eos_token_id": [2, 0]}),
        model: serde_json::json!({"bos_token_id": 0, "eos_token_id": 99999}),
    };
    let bytes = std::fs::read(folder().join("bytelevel_tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&bytes, &configs).unwrap();
    let file = read("bytelevel.json");
    let expected = id_lists(&file["expected"]["llama-bpe"]);
    assert_ids("json", &tokenizer, &corpus(), &expected, false);
    let special = texts(&file["special_texts"]);
    let marked = id_lists(&file["special_expected"]["llama-bpe"]);
    assert_ids("json", &tokenizer, &special, &marked, true);
    for text in corpus().iter().chain(&random_texts(100)) {
        assert_round_trip(&tokenizer, text, "");
    }
    assert_eq!(tokenizer.vocab_size(), 562);
    assert_eq!(tokenizer.bos(), Some(0));
    assert_eq!(tokenizer.eos_tokens(), [2, 0]);
    let hello = tokenizer.encode("Hello", false, false).unwrap();
    assert_eq!(
        tokenizer.encode("Hello", true, false).unwrap(),
        [&[0][..], &hello].concat()
    );
    let without = JsonConfigs {
        tokenizer: serde_json::json!({"bos_token": "<|endoftext|>", "add_bos_token": false}),
        ..JsonConfigs::default()
    };
    let tokenizer = Tokenizer::from_json(&bytes, &without).unwrap();
    assert_eq!(tokenizer.encode("Hello", true, false).unwrap(), hello);

    let bytes = std::fs::read(folder().join("sentencepiece_tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&bytes, &JsonConfigs::default()).unwrap();
    let file = read("sentencepiece.json");
    assert_ids(
        "json",
        &tokenizer,
        &corpus(),
        &id_lists(&file["expected"]),
        false,
    );
    for text in random_texts(100) {
        assert_round_trip(&tokenizer, &text, " ");
    }
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(1), true));
    assert_eq!(tokenizer.eos_tokens(), [2]);
}

#[test]
fn long_texts_take_no_time() {
    let tokenizers = [
        open(&byte_level("smollm")).unwrap(),
        open(&byte_level("llama-bpe")).unwrap(),
        open(&sentencepiece()).unwrap(),
    ];
    for unit in ["a", " ", "\n", "1", "!", "日", "ab ", "\u{301}"] {
        let text = unit.repeat(200_000 / unit.len());
        for tokenizer in &tokenizers {
            let start = Instant::now();
            let ids = tokenizer.encode(&text, false, true).unwrap();
            assert_eq!(tokenizer.decode(&ids), text);
            let taken = start.elapsed();
            assert!(
                taken < Duration::from_secs(5),
                "{unit:?} took {taken:?} with {tokenizer:?}"
            );
        }
    }
}

#[test]
fn damaged_metadata_is_refused_with_its_reason() {
    let text = |text: &str| MetaValue::Text(text.to_owned());
    let list = |texts: &[&str]| MetaValue::Array(texts.iter().map(|t| text(t)).collect());
    let cases: Vec<(Metadata, &str, Option<MetaValue>, &str)> = vec![
        (
            byte_level("gpt-2"),
            "model",
            None,
            "no tokenizer.ggml.model",
        ),
        (byte_level("gpt-2"), "model", Some(text("bert")), "\"bert\""),
        (
            byte_level("gpt-2"),
            "model",
            Some(MetaValue::U64(3)),
            "is an integer, expected text",
        ),
        (
            byte_level("gpt-2"),
            "pre",
            Some(text("martian")),
            "\"martian\"",
        ),
        (
            byte_level("gpt-2"),
            "tokens",
            None,
            "no tokenizer.ggml.tokens",
        ),
        (
            byte_level("gpt-2"),
            "tokens",
            Some(list(&[])),
            "has 0 entries",
        ),
        (
            byte_level("gpt-2"),
            "tokens",
            Some(MetaValue::Array(vec![MetaValue::U64(1)])),
            "expected a list of texts",
        ),
        (
            byte_level("gpt-2"),
            "tokens",
            Some(list(&["a", "b", "a"])),
            "tokens 0 and 2 are both spelled \"a\"",
        ),
        (
            byte_level("gpt-2"),
            "tokens",
            Some(list(&[&"x".repeat(70_000)])),
            "70000 bytes long",
        ),
        (
            byte_level("gpt-2"),
            "token_type",
            Some(MetaValue::Array(vec![MetaValue::I64(1)])),
            "has 1 entries for 562 tokens",
        ),
        (
            byte_level("gpt-2"),
            "token_type",
            Some(list(&["a"])),
            "expected a list of numbers",
        ),
        (
            byte_level("gpt-2"),
            "merges",
            None,
            "no tokenizer.ggml.merges",
        ),
        (
            byte_level("gpt-2"),
            "merges",
            Some(list(&["h e", "he"])),
            "merge 1 is \"he\"",
        ),
        (byte_level("gpt-2"), "merges", Some(list(&[""])), "merge 0"),
        (
            byte_level("gpt-2"),
            "merges",
            Some(list(&["zzz yyy"])),
            "needs the token \"zzz\"",
        ),
        (
            byte_level("gpt-2"),
            "merges",
            Some(list(&["q q"])),
            "needs the token \"qq\"",
        ),
        (
            byte_level("gpt-2"),
            "bos_token_id",
            Some(MetaValue::U64(562)),
            "outside the vocabulary of 562",
        ),
        (
            byte_level("gpt-2"),
            "eos_token_id",
            Some(MetaValue::I64(-7)),
            "outside the vocabulary",
        ),
        (
            byte_level("gpt-2"),
            "eos_token_id",
            Some(text("2")),
            "is text",
        ),
        (
            byte_level("gpt-2"),
            "add_bos_token",
            Some(MetaValue::U64(1)),
            "expected a truth value",
        ),
        (sentencepiece(), "scores", None, "no tokenizer.ggml.scores"),
        (
            sentencepiece(),
            "scores",
            Some(MetaValue::Array(vec![])),
            "has 0 entries for 480 tokens",
        ),
    ];
    for (mut metadata, key, value, message) in cases {
        let key = format!("tokenizer.ggml.{key}");
        metadata.remove(&key);
        metadata.extend(value.map(|value| (key, value)));
        let error = open(&metadata).unwrap_err().to_string();
        assert!(error.contains(message), "{error} (expected {message})");
    }
    // What merely is unusual is accepted.
    let mut metadata = byte_level("gpt-2");
    metadata.remove("tokenizer.ggml.token_type");
    metadata.insert("tokenizer.ggml.eos_token_id".to_owned(), MetaValue::I64(-1));
    metadata.insert("tokenizer.ggml.merges".to_owned(), list(&["h e", "h e"]));
    assert_eq!(open(&metadata).unwrap().eos_tokens(), [0, 2]);
    let mut metadata = sentencepiece();
    let scores = vec![MetaValue::F64(f64::NAN); 480];
    metadata.insert("tokenizer.ggml.scores".to_owned(), MetaValue::Array(scores));
    assert_round_trip(&open(&metadata).unwrap(), "Hello there", " ");
}

#[test]
fn damaged_tokenizer_json_is_an_error_not_a_panic() {
    let configs = JsonConfigs::default();
    for name in ["bytelevel_tokenizer.json", "sentencepiece_tokenizer.json"] {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        for end in (0..bytes.len() - 2).step_by(97) {
            assert!(Tokenizer::from_json(&bytes[..end], &configs).is_err());
        }
        for at in (0..bytes.len()).step_by(61) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 7);
            if let Ok(tokenizer) = Tokenizer::from_json(&flipped, &configs) {
                let _ = tokenizer.encode("Hello, world 123", true, true);
            }
        }
    }
    let mut file = read("bytelevel_tokenizer.json");
    file["model"]["merges"][0] = serde_json::json!([
        "Hello, ",
        "world, this is longer than any token of the vocabulary"
    ]);
    let error = Tokenizer::from_json(file.to_string().as_bytes(), &configs).unwrap_err();
    assert!(error.to_string().contains("merge 0"), "{error}");
    let mut file = read("bytelevel_tokenizer.json");
    file["model"]["vocab"]["Hello!"] = 4_000_000_000_u32.into();
    let error = Tokenizer::from_json(file.to_string().as_bytes(), &configs).unwrap_err();
    assert!(error.to_string().contains("4000000001"), "{error}");
    assert!(Tokenizer::from_json(b"{}", &configs).is_err());
    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(empty.path()).unwrap_err();
    assert!(error.to_string().contains("no tokenizer.json"), "{error}");
    std::fs::write(empty.path().join("tokenizer.json"), "{\"model\":").unwrap();
    assert!(Tokenizer::from_folder(empty.path()).is_err());
}

/// The metadata with its list of spellings changed.
fn respelled(mut metadata: Metadata, change: impl FnOnce(&mut Vec<MetaValue>)) -> Tokenizer {
    let Some(MetaValue::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else {
        panic!("spellings");
    };
    change(tokens);
    let length = tokens.len();
    for key in ["token_type", "scores"] {
        if let Some(MetaValue::Array(values)) = metadata.get_mut(&format!("tokenizer.ggml.{key}")) {
            let last = values.last().expect("tokens").clone();
            values.resize(length, last);
        }
    }
    open(&metadata).unwrap()
}

#[test]
fn vocabularies_are_compared_token_by_token() {
    let gguf = open(&sentencepiece()).unwrap();
    let json = Tokenizer::from_json(
        &std::fs::read(folder().join("sentencepiece_tokenizer.json")).unwrap(),
        &JsonConfigs::default(),
    )
    .unwrap();
    let all = gguf.vocab_size();
    let agreement = gguf.agrees_with(&json).expect("the same vocabulary");
    assert_eq!((agreement.shared, agreement.only_target), (all, 0));
    assert_eq!(json.agrees_with(&gguf), Ok(agreement));

    let swapped = respelled(sentencepiece(), |tokens| tokens.swap(all - 1, all - 2));
    let told = gguf.agrees_with(&swapped).expect_err("two tokens differ");
    assert_eq!((told.id as usize, told.differing), (all - 2, 2));
    let says = told.to_string();
    let spelling = String::from_utf8(gguf.token_bytes(told.id)).unwrap();
    assert!(
        says.contains(&format!("token {} is {spelling:?}", all - 2)) && says.contains("2 of"),
        "{says}"
    );
    // A special token at another place is a difference too.
    let special = respelled(sentencepiece(), |tokens| {
        tokens[1] = MetaValue::Text("<other>".to_owned());
    });
    let told = gguf.agrees_with(&special).expect_err("another BOS");
    assert_eq!((told.id, told.differing), (1, 1));
    assert!(told.draft.contains("special token \"<other>\""), "{told}");

    let text = |text: &str| MetaValue::Text(text.to_owned());
    let padded = respelled(sentencepiece(), |tokens| {
        tokens.extend([text("[PAD1]"), text("[PAD2]")]);
    });
    let agreement = gguf.agrees_with(&padded).expect("padding is allowed");
    assert!(agreement.only_draft <= 2 && agreement.only_target == 0);
    let longer = respelled(sentencepiece(), |tokens| tokens.push(text("▁extra")));
    let agreement = longer.agrees_with(&gguf).expect("one more at the end");
    assert_eq!((agreement.shared, agreement.only_target), (all, 1));

    let told = gguf
        .agrees_with(&open(&byte_level("llama-bpe")).unwrap())
        .expect_err("another kind of vocabulary");
    assert!(told.differing > 100, "{told}");
}
