//! `adapter_config.json` as PEFT 0.21 writes it: what is read of it, and what of it Billion does not do.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{AdapterConfig, MAX_RANK, Module, scale, targets};
use crate::Error;
use crate::spec::DecoderSpec;

/// Its name in the folder of an adapter.
pub(super) const NAME: &str = "adapter_config.json";

/// Longest file that is read; PEFT's are a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// Settings that change what an adapter computes, and why an adapter with them is refused. A value that is false, null, zero
/// or empty does nothing.
const REFUSED: [(&str, &str); 16] = [
    (
        "use_dora",
        "DoRA scales the whole weight by a learnt magnitude",
    ),
    ("lora_bias", "its products have biases of their own"),
    (
        "modules_to_save",
        "it brings whole modules, trained in full, beside the low-rank ones",
    ),
    (
        "trainable_token_indices",
        "it brings trained rows of the embedding",
    ),
    (
        "target_parameters",
        "it adapts parameters that are no linear maps",
    ),
    ("layer_replication", "it repeats blocks of the model"),
    ("fan_in_fan_out", "its matrices are transposed"),
    ("use_qalora", "QA-LoRA pools the inputs"),
    ("use_bdlora", "its matrices are block-diagonal"),
    (
        "alora_invocation_tokens",
        "it is active only after certain tokens",
    ),
    (
        "arrow_config",
        "it chooses among several adapters for each token",
    ),
    ("kasa_config", "KaSA changes the weights of the model"),
    ("velora_config", "VeLoRA is not plain LoRA"),
    ("monteclora_config", "MonteCLoRA is not plain LoRA"),
    ("megatron_config", "it is split over machines"),
    ("loftq_config", "LoftQ changes the weights of the model"),
];

/// Starts of `init_lora_weights` that leave the model's own weights as they were.
const PLAIN_STARTS: [&str; 4] = ["gaussian", "eva", "orthogonal", "true"];

/// What the file says, and what it says of single modules.
#[derive(Debug)]
pub(super) struct Read {
    pub config: AdapterConfig,
    /// Ranks and alphas of modules whose path ends like the key.
    ranks: Vec<(String, usize)>,
    alphas: Vec<(String, f64)>,
}

impl Read {
    /// Rank and scale of the module at this path ("model.layers.0.self_attn.q_proj").
    pub fn of_module(&self, path: &str) -> (usize, f32) {
        let rank = find(&self.ranks, path).unwrap_or(self.config.r);
        let alpha = find(&self.alphas, path).unwrap_or(self.config.lora_alpha);
        (rank, scale(alpha, rank, self.config.use_rslora))
    }
}

/// The entry whose key is the path or its end, as PEFT's `get_pattern_key` finds it.
fn find<T: Copy>(entries: &[(String, T)], path: &str) -> Option<T> {
    let entry = entries.iter().find(|(key, _)| ends_like(path, key))?;
    Some(entry.1)
}

/// Whether the path is `end`, or ends with it after a dot.
fn ends_like(path: &str, end: &str) -> bool {
    path.strip_suffix(end)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Reads and checks the file in `folder`.
pub(super) fn read(folder: &Path) -> Result<Read, Error> {
    let path = folder.join(NAME);
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let bytes = std::fs::metadata(&path)
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return not_an_adapter(folder);
            }
            failed(error)
        })?
        .len();
    if bytes > MAX_BYTES {
        return Err(bad(
            &path,
            format!("{bytes} bytes; an adapter's settings have at most {MAX_BYTES}"),
        ));
    }
    let text = std::fs::read(&path).map_err(failed)?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| {
        bad(
            &path,
            format!("not valid JSON ({error}); write the adapter again or download it again"),
        )
    })?;
    parse(&json).map_err(|problem| bad(&path, problem))
}

fn not_an_adapter(folder: &Path) -> Error {
    let problem = if folder.is_dir() {
        format!(
            "there is no {NAME} in this folder, so it is no PEFT adapter; name the folder that `finetune` or save_pretrained wrote"
        )
    } else if folder.exists() {
        format!(
            "a file, not a folder; name the folder with {NAME} and {}",
            super::file::NAME
        )
    } else {
        "no such folder; name the folder of a PEFT adapter".to_owned()
    };
    bad(folder, problem)
}

fn bad(path: &Path, problem: String) -> Error {
    Error::File {
        path: path.to_owned(),
        problem,
    }
}

fn parse(json: &Value) -> Result<Read, String> {
    let Some(map) = json.as_object() else {
        return Err("not a JSON object".to_owned());
    };
    let kind = map.get("peft_type").and_then(Value::as_str);
    if kind != Some("LORA") {
        return Err(format!(
            "peft_type is {}; Billion runs LORA adapters only",
            kind.map_or("missing".to_owned(), |kind| format!("{kind:?}"))
        ));
    }
    for (key, why) in REFUSED {
        if map.get(key).is_some_and(says_something) {
            return Err(format!(
                "{key} is set: {why}, which Billion does not do; merge the adapter into its model with PEFT \
                 (merge_and_unload) and import that"
            ));
        }
    }
    match map.get("bias").and_then(Value::as_str) {
        None | Some("none") => {}
        Some(bias) => {
            return Err(format!(
                "bias is {bias:?}: biases of the model were trained too, and Billion runs adapters with bias \"none\" only"
            ));
        }
    }
    if let Some(start) = map.get("init_lora_weights").and_then(Value::as_str)
        && !PLAIN_STARTS.contains(&start.to_lowercase().as_str())
    {
        return Err(format!(
            "init_lora_weights is {start:?}: such a start changes the model's own weights, so the adapter does not fit \
             the published ones; convert it to plain LoRA with PEFT (save_pretrained with \
             path_initial_model_for_weight_conversion)"
        ));
    }
    let r = rank(map.get("r"), "r")?;
    let lora_alpha = match map.get("lora_alpha") {
        Some(value) => number(value, "lora_alpha")?,
        // As LoraConfig.
        None => 8.0,
    };
    let target_modules = match map.get("target_modules") {
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        // A pattern or "all-linear": the tensors tell.
        _ => Vec::new(),
    };
    Ok(Read {
        config: AdapterConfig {
            r,
            lora_alpha,
            use_rslora: map.get("use_rslora").and_then(Value::as_bool) == Some(true),
            lora_dropout: map
                .get("lora_dropout")
                .and_then(Value::as_f64)
                .unwrap_or(0.0),
            target_modules,
            base_model: map
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_owned),
        },
        ranks: patterns(map, "rank_pattern", |value, key| rank(Some(value), key))?,
        alphas: patterns(map, "alpha_pattern", number)?,
    })
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) => true,
    }
}

fn rank(value: Option<&Value>, key: &str) -> Result<usize, String> {
    let Some(value) = value else {
        return Err(format!("{key}, the rank, is missing"));
    };
    match value.as_u64() {
        Some(rank) if (1..=MAX_RANK as u64).contains(&rank) => Ok(rank as usize),
        _ => Err(format!("{key} is {value}; a rank is 1 to {MAX_RANK}")),
    }
}

fn number(value: &Value, key: &str) -> Result<f64, String> {
    match value.as_f64() {
        Some(number) if number.is_finite() && number.abs() <= 1e6 => Ok(number),
        _ => Err(format!(
            "{key} is {value}; expected a number of ordinary size"
        )),
    }
}

/// Keys are regular expressions in PEFT; those that it and everyone write are plain paths.
///
/// Where two fit one module PEFT takes the first in the file; an object's order is not kept here, so such a pair is refused if
/// it matters.
fn patterns<T: PartialEq>(
    map: &Map<String, Value>,
    name: &str,
    parse: impl Fn(&Value, &str) -> Result<T, String>,
) -> Result<Vec<(String, T)>, String> {
    let Some(Value::Object(patterns)) = map.get(name) else {
        return Ok(Vec::new());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    let entries: Vec<(String, T)> = patterns
        .iter()
        .map(|(key, value)| {
            let path = key.strip_prefix('^').unwrap_or(key);
            if path.is_empty() || !path.chars().all(plain) {
                return Err(format!(
                    "{name} has the regular expression {key:?}; Billion reads plain paths there, such as \
                     layers.0.self_attn.q_proj"
                ));
            }
            Ok((path.to_owned(), parse(value, key)?))
        })
        .collect::<Result<_, String>>()?;
    for (longer, of_longer) in &entries {
        if let Some((shorter, _)) = entries
            .iter()
            .find(|(key, value)| value != of_longer && ends_like(longer, key))
        {
            return Err(format!(
                "{name} has {shorter:?} and {longer:?} with different values, which fit the same modules; name each module once"
            ));
        }
    }
    Ok(entries)
}

/// The file for these modules, as PEFT's `save_pretrained` writes it. Modules whose rank or scale is not the common one are
/// named in `rank_pattern` and `alpha_pattern`.
pub(super) fn write(config: &AdapterConfig, modules: &[Module], spec: &DecoderSpec) -> String {
    let mut ranks = Map::new();
    let mut alphas = Map::new();
    let mut names = Vec::new();
    for module in modules {
        if let Some(name) = module.target.name(spec)
            && !names.contains(&name)
        {
            names.push(name);
        }
        let path = || super::file::module_path(module, spec);
        if module.rank != config.r {
            ranks.insert(path(), json!(module.rank));
        }
        if module.scale != config.scale(module.rank) {
            let by = if config.use_rslora {
                (module.rank as f64).sqrt()
            } else {
                module.rank as f64
            };
            alphas.insert(path(), plain_number(f64::from(module.scale) * by));
        }
    }
    let json = json!({
        "alpha_pattern": alphas,
        "auto_mapping": null,
        "base_model_name_or_path": config.base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": plain_number(config.lora_alpha),
        "lora_dropout": config.lora_dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.r,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": if names.is_empty() { targets_of(config) } else { json!(names) },
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": config.use_rslora,
    });
    format!("{json:#}\n")
}

fn targets_of(config: &AdapterConfig) -> Value {
    let names = config.target_modules.iter().map(|name| targets::last(name));
    json!(names.collect::<Vec<_>>())
}

/// Whole numbers without a point: PEFT declares alpha as an integer.
fn plain_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}
