//! Row orders there and back, and what is refused.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::Error;
use crate::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual, Rotary};

const RANK: usize = 2;

fn spec(architecture: &str, pairing: Pairing) -> DecoderSpec {
    let neox = architecture == "gpt_neox";
    DecoderSpec {
        architecture: architecture.to_owned(),
        vocab_size: 32,
        hidden: 8,
        layers: 2,
        heads: 2,
        kv_heads: if neox { 2 } else { 1 },
        head_dim: 4,
        ffn: 12,
        context_len: 16,
        norm: Norm::Rms { eps: 1e-5 },
        rotary: Rotary {
            dims: 4,
            pairing,
            frequencies: vec![1.0, 0.1],
        },
        qk_norm: false,
        residual: Residual::Sequential,
        mlp: if neox { Mlp::Gelu } else { Mlp::SwiGlu },
        tied_head: true,
    }
}

/// Every linear map adapted; each number tells where it stands.
fn adapter(spec: &DecoderSpec) -> Adapter {
    let config = AdapterConfig {
        r: RANK,
        lora_alpha: 6.0,
        use_rslora: false,
        lora_dropout: 0.05,
        target_modules: Target::all(spec)
            .iter()
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .map(|target| target.name(spec).unwrap().to_owned())
            .collect(),
        base_model: Some("some/base".to_owned()),
    };
    let modules = (0..spec.layers)
        .flat_map(|layer| {
            let module = move |target: Target| {
                let (out, cols) = target.shape(spec);
                let number =
                    move |at: usize| (100 * layer + at) as f32 + target as u8 as f32 / 16.0;
                Module {
                    layer,
                    target,
                    rank: RANK,
                    scale: 3.0,
                    a: (0..RANK * cols).map(number).collect(),
                    b: (0..out * RANK).map(number).collect(),
                }
            };
            Target::all(spec).into_iter().map(module)
        })
        .collect();
    let mut modules: Vec<Module> = modules;
    modules.sort_by_key(|module| (module.layer, module.target));
    Adapter { config, modules }
}

fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn attaching_and_detaching_give_the_adapter_back() {
    for (architecture, pairing) in [
        ("llama", Pairing::Halves),
        ("llama", Pairing::Interleaved),
        ("stablelm", Pairing::Halves),
        ("gpt_neox", Pairing::Halves),
    ] {
        let spec = spec(architecture, pairing);
        let adapter = adapter(&spec);
        let attached = adapter.attach(&spec).unwrap();
        assert!(attached.layers.iter().all(|layer| {
            layer.all().count() == if architecture == "gpt_neox" { 6 } else { 7 }
        }));
        let back = Adapter::detach(adapter.config.clone(), &attached, &spec).unwrap();
        assert_eq!(back, adapter, "{architecture} {pairing:?}");
    }
}

#[test]
fn rows_go_where_the_model_has_them() {
    // Interleaved: row 1 of a head is the first of its second half.
    let spec_ = spec("llama", Pairing::Interleaved);
    let made = adapter(&spec_);
    let attached = made.attach(&spec_).unwrap();
    let q = attached.layers[0].q.as_ref().unwrap();
    assert_eq!(q.b[RANK..2 * RANK], made.modules[0].b[2 * RANK..3 * RANK]);
    let v = attached.layers[0].v.as_ref().unwrap();
    assert_eq!(v.b, made.modules[2].b);
    // Fused: the second head's key follows the first head's three parts and the second head's query.
    let spec_ = spec("gpt_neox", Pairing::Halves);
    let made = adapter(&spec_);
    let fused = made
        .modules
        .iter()
        .find(|m| m.target == Target::Qkv)
        .unwrap();
    let attached = made.attach(&spec_).unwrap();
    let k = attached.layers[0].k.as_ref().unwrap();
    assert_eq!(k.b[4 * RANK..8 * RANK], fused.b[16 * RANK..20 * RANK]);
    assert!(Arc::ptr_eq(&k.a, &attached.layers[0].v.as_ref().unwrap().a));
}

#[test]
fn files_go_there_and_back_with_ranks_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for use_rslora in [false, true] {
        let spec = spec("llama", Pairing::Halves);
        let mut made = adapter(&spec);
        made.config.use_rslora = use_rslora;
        for module in &mut made.modules {
            module.scale = made.config.scale(RANK);
        }
        let wide = &mut made.modules[3];
        let (out, cols) = wide.target.shape(&spec);
        (wide.rank, wide.scale) = (4, 5.0);
        (wide.a, wide.b) = (vec![0.5; 4 * cols], vec![0.25; out * 4]);
        made.write(folder.path(), &spec).unwrap();
        assert_eq!(Adapter::read(folder.path(), &spec).unwrap(), made);
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused_with_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let base = spec("llama", Pairing::Halves);
    adapter(&base).write(folder.path(), &base).unwrap();
    let read = |spec: &DecoderSpec| problem(Adapter::read(folder.path(), spec));
    let wider = DecoderSpec {
        hidden: 16,
        ..base.clone()
    };
    assert!(
        read(&wider).contains("has the shape [2, 8], expected [2, 16]")
            && read(&wider).contains("a model of another size"),
        "{}",
        read(&wider)
    );
    let shallower = DecoderSpec {
        layers: 1,
        ..base.clone()
    };
    assert!(read(&shallower).contains("adapts block 1, but the model has blocks 0 to 0"));
    let other = read(&spec("gpt_neox", Pairing::Halves));
    assert!(other.contains("query_key_value"), "{other}");
}

#[test]
fn settings_that_change_the_arithmetic_are_refused_by_name() {
    let base = spec("llama", Pairing::Halves);
    let folder = tempfile::tempdir().unwrap();
    adapter(&base).write(folder.path(), &base).unwrap();
    let settings = folder.path().join("adapter_config.json");
    let plain: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = plain.clone();
        json[key] = value;
        std::fs::write(&settings, json.to_string()).unwrap();
        Adapter::read(folder.path(), &base)
    };
    for (key, value, expected) in [
        ("use_dora", json!(true), "DoRA"),
        ("lora_bias", json!(true), "biases"),
        ("bias", json!("lora_only"), "bias is \"lora_only\""),
        ("modules_to_save", json!(["lm_head"]), "whole modules"),
        ("trainable_token_indices", json!([1]), "embedding"),
        (
            "init_lora_weights",
            json!("pissa_niter_16"),
            "pissa_niter_16",
        ),
        ("peft_type", json!("LOHA"), "LOHA"),
        ("r", json!(0), "a rank is 1 to"),
        ("r", json!(1u64 << 40), "a rank is 1 to"),
        (
            "r",
            json!(3),
            "the rank in adapter_config.json is another one",
        ),
        ("lora_alpha", json!("much"), "lora_alpha"),
        (
            "rank_pattern",
            json!({"layers.[01].*": 4}),
            "regular expression",
        ),
    ] {
        let found = problem(with(key, value));
        assert!(found.contains(expected), "{key}: {found}");
    }
    // What PEFT writes where nothing is set is read.
    for (key, value) in [
        ("loftq_config", json!({})),
        ("init_lora_weights", json!("gaussian")),
        ("layer_replication", json!(null)),
        ("target_modules", json!("all-linear")),
        ("use_dora", json!(false)),
    ] {
        with(key, value).unwrap();
    }
}

/// Name, shape and the one number of a tensor.
type Made<'a> = (&'a str, &'a [usize], f32);

/// A safetensors file of F32 tensors in the folder of an otherwise whole adapter.
fn with_tensors(folder: &Path, tensors: &[Made<'_>]) {
    let tensors = tensors.iter().map(|(name, shape, value)| {
        let numbers: usize = shape.iter().product();
        let bytes: Vec<u8> = (0..numbers).flat_map(|_| value.to_le_bytes()).collect();
        (*name, shape.to_vec(), bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (*name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let base = spec("llama", Pairing::Halves);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    adapter(&base).write(path, &base).unwrap();
    let weights = path.join("adapter_model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&weights, &whole[..len]).unwrap();
        let found = problem(Adapter::read(path, &base));
        assert!(
            found.contains("not a whole safetensors file"),
            "{len}: {found}"
        );
    }
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    let (a, b) = (format!("{q}.lora_A.weight"), format!("{q}.lora_B.weight"));
    let embedding = "base_model.model.model.embed_tokens.lora_embedding_A";
    let head = "base_model.model.lm_head.lora_A.weight";
    let cases: [(&[Made<'_>], &str); 8] = [
        (&[], "holds no tensors"),
        (&[(&a, &[2, 8], 1.0)], "only one of lora_A and lora_B"),
        (
            &[(&a, &[2, 8], f32::NAN), (&b, &[8, 2], 1.0)],
            "number 0 is NaN",
        ),
        (
            &[(&a, &[2, 8], 1.0), (&b, &[8, 2], f32::INFINITY)],
            "number 0 is inf",
        ),
        (&[(&a, &[16], 1.0), (&b, &[8, 2], 1.0)], "shape [16]"),
        (&[(embedding, &[2, 8], 1.0)], "an adapted embedding"),
        (&[(head, &[2, 8], 1.0)], "no linear map of a block"),
        (
            &[(&a.replace("q_proj", "w_proj"), &[2, 8], 1.0)],
            "self_attn.w_proj is no linear map",
        ),
    ];
    for (tensors, expected) in cases {
        with_tensors(path, tensors);
        let found = problem(Adapter::read(path, &base));
        assert!(found.contains(expected), "{expected}: {found}");
    }
    // More than an adapter can have is not even read.
    std::fs::File::create(&weights)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    assert!(problem(Adapter::read(path, &base)).contains("at most"));
    std::fs::remove_file(&weights).unwrap();
    assert!(problem(Adapter::read(path, &base)).contains("is missing"));
    std::fs::write(path.join("adapter_model.bin"), b"x").unwrap();
    assert!(problem(Adapter::read(path, &base)).contains("pickle"));
    std::fs::write(path.join("adapter_config.json"), b"{").unwrap();
    assert!(problem(Adapter::read(path, &base)).contains("not valid JSON"));
    assert!(problem(Adapter::read(&path.join("none"), &base)).contains("no such folder"));
    assert!(problem(Adapter::read(&weights, &base)).contains("no such folder"));
}

#[test]
fn a_diverged_training_is_not_written() {
    let base = spec("llama", Pairing::Halves);
    let folder = tempfile::tempdir().unwrap();
    let mut made = adapter(&base);
    made.modules[0].b[3] = f32::NAN;
    assert!(problem(made.write(folder.path(), &base)).contains("diverged"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn targets_are_found_by_pefts_names_and_by_llamas() {
    let llama = spec("llama", Pairing::Halves);
    let found = targets(&["v_proj", "q_proj", "q_proj"], &llama).unwrap();
    assert_eq!(found.targets, [Target::Q, Target::V]);
    assert_eq!(found.note, None);
    assert_eq!(targets(&["all-linear"], &llama).unwrap().targets.len(), 7);
    let neox = spec("gpt_neox", Pairing::Halves);
    let found = targets(&["q_proj", "v_proj"], &neox).unwrap();
    assert_eq!(found.targets, [Target::Qkv]);
    assert!(found.note.unwrap().contains("q_proj as query_key_value"));
    assert_eq!(targets(&["all-linear"], &neox).unwrap().targets.len(), 4);
    assert!(problem(targets(&["embed_tokens"], &llama)).contains("it has q_proj, k_proj"));
    assert!(problem(targets(&[""; 0], &llama)).contains("q_proj,v_proj is usual"));
}
