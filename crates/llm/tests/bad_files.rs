//! Damaged, incomplete and hostile files: each is refused with an error that names the file, the thing and the figures.

mod fixtures;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use billion_llm::load::{Executor, LoadOptions, ModelFiles, load};
use billion_llm::models;
use billion_llm::weights::Weights;
use fixtures::{Gguf, copy_of, file, fixture, safetensors, with_config};

/// What opening says about a file or folder. It must refuse it, within a second.
fn refusal(path: &Path) -> String {
    let start = Instant::now();
    let outcome = Weights::open(path).and_then(|weights| {
        let description = models::describe(&weights)?;
        models::tensors(&weights, &description).map(|_| ())
    });
    assert!(start.elapsed() < Duration::from_secs(1), "took too long");
    outcome.expect_err("must be refused").to_string()
}

#[track_caller]
fn refused_with(path: &Path, parts: &[&str]) {
    let message = refusal(path);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[track_caller]
fn gguf_refused_with(bytes: &[u8], parts: &[&str]) {
    let (_folder, path) = file("model.gguf", bytes);
    let mut all = vec!["model.gguf"];
    all.extend(parts);
    refused_with(&path, &all);
}

#[track_caller]
fn safetensors_refused_with(bytes: &[u8], parts: &[&str]) {
    let (_folder, path) = file("model.safetensors", bytes);
    let mut all = vec!["model.safetensors"];
    all.extend(parts);
    refused_with(&path, &all);
}

#[test]
fn a_missing_path() {
    refused_with(
        Path::new("/no/such/model.gguf"),
        &["cannot read /no/such/model.gguf"],
    );
}

#[test]
fn a_file_of_zero_bytes() {
    gguf_refused_with(b"", &["empty (0 bytes)", "download it again"]);
    safetensors_refused_with(b"", &["empty (0 bytes)"]);
}

#[test]
fn a_file_of_another_kind() {
    gguf_refused_with(b"<html>404</html>", &["not a model", "\"<htm\"", ".gguf"]);
    let (_folder, path) = file("pytorch_model.bin", b"PK\x03\x04");
    refused_with(&path, &["pickle", "safetensors or GGUF"]);
}

#[test]
fn a_folder_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    refused_with(
        folder.path(),
        &["no weights among the 0 files", "model.safetensors"],
    );
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    refused_with(folder.path(), &["no weights among the 1 files"]);
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    refused_with(
        folder.path(),
        &[
            "1 PyTorch pickle files",
            "can run code",
            "safetensors or GGUF",
        ],
    );
}

#[test]
fn a_folder_of_several_models() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.gguf"), "x").unwrap();
    fs::write(folder.path().join("b.gguf"), "x").unwrap();
    refused_with(folder.path(), &["2 GGUF files", "open one of them"]);
}

#[test]
fn a_truncated_gguf_file_names_the_tensor_and_both_sizes() {
    let whole = fs::read(fixture("gqa.gguf")).unwrap();
    let half = &whole[..whole.len() / 2];
    gguf_refused_with(
        half,
        &[
            "truncated",
            "tensor ",
            &format!("the file has {}", half.len()),
            "download it again",
        ],
    );
    gguf_refused_with(
        &whole[..whole.len() - 1],
        &["truncated", &format!("ends at byte {}", whole.len())],
    );
    gguf_refused_with(&whole[..1000], &["truncated", "1000"]);
    gguf_refused_with(&whole[..10], &["truncated", "10"]);
}

#[test]
fn a_truncated_safetensors_file_names_the_tensor_and_both_sizes() {
    let whole = fs::read(fixture("gqa/model.safetensors")).unwrap();
    let half = &whole[..whole.len() / 2];
    safetensors_refused_with(
        half,
        &[
            "truncated",
            "tensor ",
            &format!("the file has {}", half.len()),
            "download it again",
        ],
    );
    safetensors_refused_with(&whole[..100], &["truncated", "header ends at byte", "100"]);
    safetensors_refused_with(&whole[..7], &["7 bytes"]);
}

#[test]
fn gguf_of_another_version_or_byte_order() {
    let mut gguf = Gguf::new();
    gguf.version = 1;
    gguf_refused_with(&gguf.bytes(), &["version 1", "2 and 3"]);
    gguf.version = 9;
    gguf_refused_with(&gguf.bytes(), &["version 9"]);
    gguf.version = 3u32.swap_bytes();
    gguf_refused_with(&gguf.bytes(), &["big-endian"]);
}

#[test]
fn gguf_counts_beyond_the_file() {
    let mut gguf = Gguf::new();
    gguf.tensor_count = Some(u64::MAX);
    gguf_refused_with(&gguf.bytes(), &["tensor count", "18446744073709551615"]);
    let mut gguf = Gguf::new();
    gguf.entry_count = Some(1 << 40);
    gguf_refused_with(&gguf.bytes(), &["metadata entry count", "1099511627776"]);
    let text_length = Gguf::new().entry(b"general.name", 8, &u64::MAX.to_le_bytes());
    gguf_refused_with(
        &text_length.bytes(),
        &["general.name", "18446744073709551615"],
    );
    let mut array = 10u32.to_le_bytes().to_vec();
    array.extend((1u64 << 61).to_le_bytes());
    let array = Gguf::new().entry(b"tokens", 9, &array);
    gguf_refused_with(&array.bytes(), &["tokens", "value count"]);
}

#[test]
fn gguf_arrays_of_more_values_than_any_model_has() {
    let count = 5_000_000u64;
    let mut array = 0u32.to_le_bytes().to_vec();
    array.extend(count.to_le_bytes());
    array.resize(array.len() + count as usize, 0);
    let gguf = Gguf::new().entry(b"numbers", 9, &array);
    gguf_refused_with(&gguf.bytes(), &["numbers", "5000000"]);
    let mut nested = Vec::new();
    for _ in 0..10 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    nested.extend([0; 64]);
    let gguf = Gguf::new().entry(b"nested", 9, &nested);
    gguf_refused_with(&gguf.bytes(), &["nested", "deep"]);
}

#[test]
fn gguf_metadata_that_is_not_utf8_or_of_unknown_kind_or_twice() {
    let gguf = Gguf::new().text_entry("general.name", b"caf\xe9");
    gguf_refused_with(&gguf.bytes(), &["general.name", "UTF-8"]);
    let gguf = Gguf::new().entry(b"\xff\xfe", 4, &[0; 4]);
    gguf_refused_with(&gguf.bytes(), &["UTF-8"]);
    let gguf = Gguf::new().entry(b"odd", 99, &[0; 8]);
    gguf_refused_with(&gguf.bytes(), &["odd", "unknown kind", "99"]);
    let gguf = Gguf::new().entry(b"flag", 7, &[2]);
    gguf_refused_with(&gguf.bytes(), &["flag", "truth value is 2"]);
    let gguf = Gguf::new().u32_entry("a", 1).u32_entry("a", 2);
    gguf_refused_with(&gguf.bytes(), &["\"a\"", "twice"]);
    let gguf = Gguf::new().u32_entry("general.alignment", 3);
    gguf_refused_with(&gguf.bytes(), &["general.alignment", "power of two"]);
}

#[test]
fn gguf_tensors_that_overflow_or_overlap_or_are_empty() {
    let refused = |gguf: Gguf, parts: &[&str]| gguf_refused_with(&gguf.data(4096).bytes(), parts);
    let one = || Gguf::new();
    refused(
        one().tensor("big", &[1 << 40, 1 << 40], 0, 0),
        &["big", "too large"],
    );
    refused(
        one().tensor("big", &[u64::MAX, 1], 0, 0),
        &["big", "too large"],
    );
    refused(
        one().tensor("big", &[1 << 62, 2], 0, 0),
        &["big", "too large"],
    );
    refused(
        one().tensor("far", &[4], 0, u64::MAX - 31),
        &["far", "too large"],
    );
    refused(
        one().tensor("far", &[4], 0, 1 << 50),
        &["far", "truncated", "ends at byte"],
    );
    refused(one().tensor("odd", &[4], 0, 1), &["odd", "alignment 32"]);
    refused(
        one().tensor("none", &[4, 0], 0, 0),
        &["none", "empty", "[0, 4]"],
    );
    refused(one().tensor("flat", &[], 0, 0), &["flat", "0 dimensions"]);
    refused(
        one().tensor("deep", &[1; 5], 0, 0),
        &["deep", "5 dimensions"],
    );
    refused(
        one().tensor("part", &[33], 2, 0),
        &["part", "33", "Q4_0 blocks of 32"],
    );
    refused(
        one().tensor("new", &[256], 23, 0),
        &["new", "IQ4_XS", "Q4_K"],
    );
    refused(
        one().tensor("new", &[256], 250, 0),
        &["new", "unknown type 250"],
    );
    refused(
        one().tensor("a", &[16], 0, 0).tensor("a", &[16], 0, 64),
        &["tensor a", "twice"],
    );
    refused(
        one().tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32),
        &["tensor b", "inside tensor a"],
    );
}

#[test]
fn safetensors_headers_that_lie() {
    let length = |bytes: u64| {
        let mut file = bytes.to_le_bytes().to_vec();
        file.extend(b"{}");
        file
    };
    safetensors_refused_with(&length(u64::MAX), &["18446744073709551615"]);
    safetensors_refused_with(&length(50_000_000), &["truncated", "50000008"]);
    safetensors_refused_with(&safetensors("{\"a\":", 0), &["header is not valid"]);
    safetensors_refused_with(
        &safetensors(
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            8,
        ),
        &["truncated", "tensor a"],
    );
    safetensors_refused_with(
        &safetensors(
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}"#,
            16,
        ),
        &["header is not valid"],
    );
    safetensors_refused_with(
        &safetensors(
            r#"{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}"#,
            16,
        ),
        &["header is not valid"],
    );
    let mut bytes = safetensors(r#"{"a":1}"#, 0);
    bytes[10] = 0xff;
    safetensors_refused_with(&bytes, &["header is not valid"]);
}

#[test]
fn safetensors_of_other_number_formats_name_the_tensor() {
    let folder = copy_of("gqa");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let at = find(&bytes, br#""model.norm.weight":{"dtype":"F32""#)
        + r#""model.norm.weight":{"dtype":""#.len();
    let mut changed = bytes;
    changed[at..at + 3].copy_from_slice(b"I32");
    fs::write(&path, changed).unwrap();
    refused_with(
        folder.path(),
        &["model.norm.weight", "I32", "F32, F16 and BF16"],
    );
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .expect("the file holds it")
}

#[test]
fn a_shard_that_is_missing_or_elsewhere() {
    let folder = copy_of("llama3");
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    refused_with(
        folder.path(),
        &[
            "model-00002-of-00002.safetensors is missing",
            "first of 1 of 2",
            "index.json",
        ],
    );
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map":{"a":"../../secret.safetensors"}}"#).unwrap();
    refused_with(
        folder.path(),
        &[
            "../../secret.safetensors",
            "not a safetensors file of this folder",
        ],
    );
    fs::write(&index, "{").unwrap();
    refused_with(folder.path(), &["index.json", "not a valid index"]);
    fs::write(&index, r#"{"weight_map":{}}"#).unwrap();
    refused_with(folder.path(), &["names no tensors"]);
}

#[test]
fn a_missing_or_damaged_configuration() {
    let folder = copy_of("gqa");
    let path = folder.path().join("config.json");
    fs::remove_file(&path).unwrap();
    refused_with(folder.path(), &["config.json is missing"]);
    fs::write(&path, "{\"model_type\": \"ll").unwrap();
    refused_with(folder.path(), &["config.json", "not a valid configuration"]);
    fs::write(&path, "{}").unwrap();
    refused_with(folder.path(), &["model_type"]);
}

#[test]
fn an_unknown_architecture_is_named_with_the_known_ones() {
    let folder = with_config("gqa", |config| config["model_type"] = "mamba".into());
    refused_with(folder.path(), &["\"mamba\"", "it runs llama"]);
    let gguf = Gguf::new()
        .text_entry("general.architecture", b"mamba")
        .bytes();
    gguf_refused_with(&gguf, &["\"mamba\"", "it runs llama"]);
    gguf_refused_with(
        &Gguf::new().bytes(),
        &["general.architecture", "found nothing"],
    );
    gguf_refused_with(
        &Gguf::new().u32_entry("general.architecture", 1).bytes(),
        &["general.architecture", "found an integer"],
    );
}

#[test]
fn configurations_out_of_range_or_at_odds() {
    let refused = |key: &str, value: serde_json::Value, parts: &[&str]| {
        let folder = with_config("gqa", |config| config[key] = value);
        refused_with(folder.path(), parts);
    };
    refused(
        "num_hidden_layers",
        0.into(),
        &["num_hidden_layers is 0", "1 to"],
    );
    refused(
        "num_hidden_layers",
        4_000_000_000u64.into(),
        &["num_hidden_layers is 4000000000"],
    );
    refused(
        "num_hidden_layers",
        (-1).into(),
        &["num_hidden_layers is -1"],
    );
    refused(
        "num_hidden_layers",
        3.into(),
        &["model.layers.2.", "missing among the 35 tensors"],
    );
    refused(
        "head_dim",
        u64::MAX.into(),
        &["head_dim is 18446744073709551615"],
    );
    refused("head_dim", 15.into(), &["15 rotated dimensions"]);
    refused("hidden_size", "wide".into(), &["hidden_size is \"wide\""]);
    refused(
        "hidden_size",
        serde_json::Value::Null,
        &["hidden_size is missing"],
    );
    refused(
        "num_key_value_heads",
        3.into(),
        &["4 query heads", "3 key heads"],
    );
    refused(
        "vocab_size",
        289.into(),
        &["model.embed_tokens.weight", "[289, 32]", "[288, 32]"],
    );
    refused(
        "intermediate_size",
        64.into(),
        &["gate_proj.weight", "[64, 32]", "[96, 32]"],
    );
    refused("hidden_act", "gelu".into(), &["hidden_act", "gelu", "silu"]);
    refused("rms_norm_eps", (-1.0).into(), &["rms_norm_eps is -1"]);
    refused(
        "rope_parameters",
        serde_json::json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}),
        &["\"yarn\"", "linear and llama3"],
    );
    refused(
        "rope_parameters",
        serde_json::json!({"rope_type": "llama3", "rope_theta": 10000.0}),
        &["rope_parameters.factor is missing"],
    );
    refused(
        "quantization_config",
        serde_json::json!({"quant_method": "gptq", "bits": 4}),
        &["gptq", "GGUF"],
    );
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let folder = with_config("llama3", |config| {
        config["tie_word_embeddings"] = false.into();
    });
    refused_with(
        folder.path(),
        &["lm_head.weight", "missing among the 20 tensors"],
    );
    let folder = with_config("gqa", |config| config["attention_bias"] = true.into());
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = find(&bytes, b"model.layers.1.self_attn.v_proj.bias");
    bytes[at..at + 5].copy_from_slice(b"MODEL");
    fs::write(&path, bytes).unwrap();
    refused_with(
        folder.path(),
        &["model.layers.1.self_attn.v_proj.bias", "missing"],
    );

    let mut bytes = fs::read(fixture("gqa.gguf")).unwrap();
    let at = find(&bytes, b"blk.1.ffn_down.weight");
    bytes[at..at + 3].copy_from_slice(b"BLK");
    gguf_refused_with(&bytes, &["blk.1.ffn_down.weight", "missing"]);
}

#[test]
fn missing_and_misshapen_tensors_of_every_family_are_named() {
    let refused = |model: &str, key: &str, value: serde_json::Value, parts: &[&str]| {
        let folder = with_config(model, |config| config[key] = value);
        refused_with(folder.path(), parts);
    };
    refused(
        "families/stablelm_12b",
        "num_key_value_heads",
        4.into(),
        &["self_attn.k_proj.weight", "[32, 32]", "[16, 32]"],
    );
    refused(
        "families/stablelm_12b",
        "use_qkv_bias",
        true.into(),
        &["layers.0.self_attn.q_proj.bias", "missing"],
    );
    refused(
        "families/stablelm_12b",
        "use_parallel_residual",
        false.into(),
        &["layers.0.post_attention_layernorm.weight", "missing"],
    );
    refused(
        "families/stablelm_1_6b",
        "qk_layernorm",
        true.into(),
        &["layers.0.self_attn.q_layernorm.norms.0.weight", "missing"],
    );
    refused(
        "families/pythia",
        "intermediate_size",
        48.into(),
        &["mlp.dense_h_to_4h.weight", "[48, 32]", "[40, 32]"],
    );
    refused(
        "families/pythia",
        "hidden_act",
        "relu".into(),
        &["hidden_act is \"relu\"", "gelu_fast"],
    );
    refused(
        "families/neox_serial",
        "rope_parameters",
        serde_json::json!({"rope_type": "default", "partial_rotary_factor": 1.5}),
        &["rotary_pct is 1.5"],
    );

    let renamed = |model: &str, tensor: &str| {
        let folder = copy_of(model);
        let path = folder.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let at = find(&bytes, tensor.as_bytes());
        bytes[at] = b'_';
        fs::write(&path, bytes).unwrap();
        refused_with(folder.path(), &[tensor, "missing among the"]);
    };
    renamed(
        "families/stablelm_12b",
        "model.layers.1.self_attn.k_layernorm.norms.1.weight",
    );
    renamed(
        "families/pythia",
        "gpt_neox.layers.1.attention.query_key_value.bias",
    );
    renamed("families/pythia", "embed_out.weight");

    let folder = copy_of("families/pythia");
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let name = "gpt_neox.layers.0.attention.query_key_value.weight";
    let at = find(&bytes, name.as_bytes());
    let shape = at + find(&bytes[at..], b"[96,32]");
    bytes[shape..shape + 7].copy_from_slice(b"[32,96]");
    fs::write(&path, bytes).unwrap();
    refused_with(folder.path(), &[name, "[96, 32]", "[32, 96]"]);

    let mut bytes = fs::read(fixture("families/stablelm_12b.gguf")).unwrap();
    let at = find(&bytes, b"blk.1.attn_k_norm.weight");
    bytes[at..at + 3].copy_from_slice(b"BLK");
    gguf_refused_with(&bytes, &["blk.1.attn_k_norm.weight", "missing"]);
    let mut bytes = fs::read(fixture("families/pythia.gguf")).unwrap();
    let at = find(&bytes, b"blk.0.attn_qkv.weight");
    // Dimensions follow the name and their count, innermost first.
    let dims = at + "blk.0.attn_qkv.weight".len() + 4;
    bytes[dims..dims + 8].copy_from_slice(&96u64.to_le_bytes());
    bytes[dims + 8..dims + 16].copy_from_slice(&32u64.to_le_bytes());
    let (_folder, path) = file("model.gguf", &bytes);
    refused_with(&path, &["blk.0.attn_qkv.weight", "[96, 32]", "[32, 96]"]);
}

#[test]
fn a_missing_tokenizer() {
    let folder = copy_of("gqa");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let message = ModelFiles::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("no tokenizer.json"), "{message}");

    let mut bytes = fs::read(fixture("gqa.gguf")).unwrap();
    let at = find(&bytes, b"tokenizer.ggml.model");
    bytes[at] = b'T';
    let (_folder, path) = file("model.gguf", &bytes);
    let message = ModelFiles::open(&path).unwrap_err().to_string();
    assert!(message.contains("tokenizer.ggml.model"), "{message}");
}

#[test]
fn a_chat_template_that_cannot_be_read_leaves_the_rest_of_the_model() {
    let folder = copy_of("gqa");
    let whole = ModelFiles::open(folder.path()).unwrap();
    assert!(whole.chat_template().is_some() && whole.chat_template_problem().is_none());
    fs::write(folder.path().join("chat_template.jinja"), "{% for %}").unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert!(files.chat_template().is_none());
    let problem = files.chat_template_problem().unwrap().to_string();
    assert!(problem.contains("chat template"), "{problem}");
}

#[test]
fn load_options_out_of_range() {
    let files = ModelFiles::open(&fixture("gqa")).unwrap();
    let refusal = |threads, context_len| {
        let options = LoadOptions {
            executor: Executor::Candle,
            threads,
            context_len,
            ..LoadOptions::default()
        };
        load(&files, &options).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refusal(Some(0), None).contains("0 threads: expected 1 to"));
    assert!(refusal(None, Some(0)).contains("a context of 0 tokens"));
    assert!(refusal(None, Some(257)).contains("at most 256"));
}
