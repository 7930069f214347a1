//! Typed reading of a model's configuration: GGUF metadata or `config.json`, by key, range-checked.
//!
//! It knows no architecture; the keys come from the architecture's file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::weights::{MetaValue, Weights};

/// A configuration is small; a larger file is none.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Bounds of what a configuration may ask for, so that a damaged one is refused before anything is allocated. All are
/// far above any model's.
pub(super) mod limit {
    /// Width of the residual stream, of all heads together.
    pub const WIDTH: usize = 1 << 17;
    /// Blocks.
    pub const LAYERS: usize = 1 << 12;
    /// Heads, and the width of one.
    pub const HEADS: usize = 1 << 14;
    /// Width inside the MLP.
    pub const FFN: usize = 1 << 20;
    /// Rows of the embedding.
    pub const VOCAB: usize = 1 << 24;
    /// Tokens of context.
    pub const CONTEXT: usize = 1 << 26;
}

enum Source<'a> {
    Gguf {
        weights: &'a Weights,
        prefix: String,
    },
    Json(serde_json::Map<String, serde_json::Value>),
}

/// A configuration to read by key.
pub(super) struct Config<'a> {
    path: PathBuf,
    architecture: String,
    source: Source<'a>,
}

/// Keys of the sizes that every decoder has.
pub(super) struct SizeKeys {
    pub hidden: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub kv_heads: &'static str,
    pub head_dim: &'static str,
    pub ffn: &'static str,
    pub context: &'static str,
}

impl SizeKeys {
    /// GGUF names them alike for all architectures (gguf-py, constants.py).
    pub const GGUF: Self = Self {
        hidden: "embedding_length",
        layers: "block_count",
        heads: "attention.head_count",
        kv_heads: "attention.head_count_kv",
        head_dim: "attention.key_length",
        ffn: "feed_forward_length",
        context: "context_length",
    };
    /// Those of GPT-NeoX: every query head has its own keys.
    pub const GPT_NEOX: Self = Self {
        kv_heads: "num_attention_heads",
        ..Self::HUGGING_FACE
    };
    /// Most Hugging Face configurations.
    pub const HUGGING_FACE: Self = Self {
        hidden: "hidden_size",
        layers: "num_hidden_layers",
        heads: "num_attention_heads",
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
        ffn: "intermediate_size",
        context: "max_position_embeddings",
    };
}

/// The sizes that every decoder has.
pub(super) struct Sizes {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub context_len: usize,
}

impl<'a> Config<'a> {
    /// The metadata of a GGUF file; keys are read under the architecture's prefix.
    pub fn of_gguf(weights: &'a Weights) -> Result<Self, Error> {
        let key = "general.architecture";
        let architecture = match weights.metadata(key) {
            Some(MetaValue::Text(name)) => name.clone(),
            found => {
                let found = found.map_or("nothing", MetaValue::kind);
                return Err(Error::File {
                    path: weights.path().to_owned(),
                    problem: format!(
                        "{key} must name the architecture, found {found}; the file is not a language model"
                    ),
                });
            }
        };
        Ok(Self {
            path: weights.path().to_owned(),
            source: Source::Gguf {
                weights,
                prefix: format!("{architecture}."),
            },
            architecture,
        })
    }

    /// `config.json` in a folder; dots in keys go into nested objects.
    pub fn of_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        let about = std::fs::metadata(&path);
        if let Err(error) = &about
            && error.kind() == std::io::ErrorKind::NotFound
        {
            return Err(Error::File {
                path: folder.to_owned(),
                problem:
                    "config.json is missing beside the weights: it says how to compute with them; download it too"
                        .to_owned(),
            });
        }
        let read = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let bad = |problem: String| Error::File {
            path: path.clone(),
            problem,
        };
        let bytes = about.map_err(read)?.len();
        if bytes > MAX_CONFIG_BYTES {
            return Err(bad(format!(
                "{bytes} bytes is too large for a configuration; at most {MAX_CONFIG_BYTES} are read"
            )));
        }
        let text = std::fs::read(&path).map_err(read)?;
        let json: serde_json::Map<_, _> = serde_json::from_slice(&text).map_err(|error| {
            bad(format!(
                "not a valid configuration ({error}); download it again"
            ))
        })?;
        let named = json
            .get("model_type")
            .or_else(|| json.get("architectures").and_then(|names| names.get(0)));
        let Some(architecture) = named.and_then(serde_json::Value::as_str).map(str::to_owned)
        else {
            return Err(bad(
                "model_type must name the architecture, found nothing".to_owned()
            ));
        };
        if let Some(how) = json.get("quantization_config").filter(|how| !how.is_null()) {
            let method = how
                .get("quant_method")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("an unknown method");
            return Err(Error::Unsupported(format!(
                "{}: the weights are quantized by {method}, which Billion does not run; get the unquantized model or \
                 a GGUF file",
                path.display()
            )));
        }
        Ok(Self {
            path,
            architecture,
            source: Source::Json(json),
        })
    }

    /// As the file names it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// An error about this configuration.
    pub fn bad(&self, problem: String) -> Error {
        Error::File {
            path: self.path.clone(),
            problem,
        }
    }

    /// A feature of the configuration that is understood but not run.
    pub fn unsupported(&self, problem: &str) -> Error {
        Error::Unsupported(format!("{}: {problem}", self.path.display()))
    }

    /// The value of a key; JSON null is none.
    fn get(&self, key: &str) -> Option<Cow<'_, MetaValue>> {
        match &self.source {
            Source::Gguf { weights, prefix } => weights
                .metadata(&format!("{prefix}{key}"))
                .map(Cow::Borrowed),
            Source::Json(object) => {
                let (parents, last) = match key.rsplit_once('.') {
                    Some((parents, last)) => (Some(parents), last),
                    None => (None, key),
                };
                let mut object = object;
                for parent in parents.into_iter().flat_map(|path| path.split('.')) {
                    object = object.get(parent)?.as_object()?;
                }
                leaf(object.get(last)?).map(Cow::Owned)
            }
        }
    }

    /// Whether the key is there (and not null).
    pub fn has(&self, key: &str) -> bool {
        match (&self.source, key.contains('.')) {
            (Source::Json(object), false) => object.get(key).is_some_and(|value| !value.is_null()),
            _ => self.get(key).is_some(),
        }
    }

    fn wrong(&self, key: &str, found: &MetaValue, expected: &str) -> Error {
        let found = match found {
            MetaValue::Array(values) => format!("an array of {} values", values.len()),
            MetaValue::Text(text) if text.len() > 60 => "a long text".to_owned(),
            MetaValue::Text(text) => format!("{text:?}"),
            MetaValue::U64(value) => value.to_string(),
            MetaValue::I64(value) => value.to_string(),
            MetaValue::F64(value) => value.to_string(),
            MetaValue::Bool(value) => value.to_string(),
        };
        self.bad(format!("{key} is {found}; expected {expected}"))
    }

    fn missing(&self, key: &str) -> Error {
        self.bad(format!("{key} is missing from the configuration"))
    }

    /// A number from 1 to `max`, if the key is there. An array of equal numbers (one per layer) counts as one.
    pub fn count_if(&self, key: &str, max: usize) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = match &*value {
            MetaValue::Array(values) => match &values[..] {
                [first, rest @ ..] if rest.iter().all(|other| other == first) => first.as_u64(),
                _ => None,
            },
            single => single.as_u64(),
        };
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (1..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(key, &value, &format!("a number from 1 to {max}"))),
        }
    }

    /// A number from 1 to `max`.
    pub fn count(&self, key: &str, max: usize) -> Result<usize, Error> {
        self.count_if(key, max)?.ok_or_else(|| self.missing(key))
    }

    /// A finite number above 0, if the key is there.
    pub fn positive_if(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(key, &value, "a number above 0")),
        }
    }

    /// A finite number above 0.
    pub fn positive(&self, key: &str) -> Result<f64, Error> {
        self.positive_if(key)?.ok_or_else(|| self.missing(key))
    }

    /// A truth value, if the key is there.
    pub fn flag_if(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.wrong(key, &value, "true or false"))
            })
            .transpose()
    }

    /// A text, if the key is there.
    pub fn text_if(&self, key: &str) -> Result<Option<String>, Error> {
        self.get(key)
            .map(|value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| self.wrong(key, &value, "text"))
            })
            .transpose()
    }

    /// Refuses any value but `expected`, where the key is there.
    pub fn expect_text(&self, key: &str, expected: &str) -> Result<(), Error> {
        match self.text_if(key)? {
            Some(found) if found != expected => Err(self.unsupported(&format!(
                "{key} is {found:?}; for this architecture only {expected:?} is run"
            ))),
            _ => Ok(()),
        }
    }

    /// The sizes, in range and consistent with each other.
    pub fn sizes(&self, keys: &SizeKeys) -> Result<Sizes, Error> {
        let hidden = self.count(keys.hidden, limit::WIDTH)?;
        let heads = self.count(keys.heads, limit::HEADS)?;
        let kv_heads = self.count_if(keys.kv_heads, limit::HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.bad(format!(
                "{} query heads cannot share {} key heads evenly ({}, {})",
                heads, kv_heads, keys.heads, keys.kv_heads
            )));
        }
        let head_dim = match self.count_if(keys.head_dim, limit::HEADS)? {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(self.bad(format!(
                    "{} is {hidden}, no multiple of {} {heads}, and there is no {}",
                    keys.hidden, keys.heads, keys.head_dim
                )));
            }
        };
        if heads * head_dim > limit::WIDTH {
            return Err(self.bad(format!(
                "{heads} heads of {head_dim} are wider than {}, the most that is run",
                limit::WIDTH
            )));
        }
        Ok(Sizes {
            hidden,
            layers: self.count(keys.layers, limit::LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            ffn: self.count(keys.ffn, limit::FFN)?,
            context_len: self.count(keys.context, limit::CONTEXT)?,
        })
    }
}

/// A JSON value without structure, or an array of such; none for null and objects.
fn leaf(value: &serde_json::Value) -> Option<MetaValue> {
    Some(match value {
        serde_json::Value::Bool(value) => MetaValue::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => MetaValue::U64(number),
            (None, Some(number)) => MetaValue::I64(number),
            (None, None) => MetaValue::F64(number.as_f64()?),
        },
        serde_json::Value::String(text) => MetaValue::Text(text.clone()),
        serde_json::Value::Array(values) => {
            MetaValue::Array(values.iter().filter_map(leaf).collect())
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}
