//! Tokenizers from `tokenizer.json` and the configurations beside it (`tokenizer_config.json`, `generation_config.json`,
//! `config.json`), as Hugging Face repositories hold them.
//!
//! The `tokenizers` crate reads the pipeline; what it does not check, and would panic on, is checked here first.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use super::pieces::{Pieces, byte_level, sentencepiece};
use super::{END_TOKENS, Engine, Library, MAX_VOCAB, Tokenizer};
use crate::Error;

/// The configurations beside a `tokenizer.json`; those that are missing are `Value::Null`.
#[derive(Clone, Debug, Default)]
pub struct JsonConfigs {
    /// `tokenizer_config.json`.
    pub tokenizer: Value,
    /// `generation_config.json`.
    pub generation: Value,
    /// `config.json`.
    pub model: Value,
}

impl JsonConfigs {
    /// Reads those that the folder holds.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| -> Result<Value, Error> {
            let path = folder.join(name);
            if !path.is_file() {
                return Ok(Value::Null);
            }
            let bytes = std::fs::read(&path).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            serde_json::from_slice(&bytes).map_err(|error| Error::File {
                path,
                problem: format!("this is not valid JSON ({error}); get the file again"),
            })
        };
        Ok(Self {
            tokenizer: read("tokenizer_config.json")?,
            generation: read("generation_config.json")?,
            model: read("config.json")?,
        })
    }
}

impl Tokenizer {
    /// The tokenizer of a model folder.
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            let hint = if folder.join("tokenizer.model").is_file() {
                "; its tokenizer.model alone is not enough, get tokenizer.json from the same repository"
            } else {
                "; get it from the repository of the model"
            };
            return Err(Error::File {
                path: folder.to_owned(),
                problem: format!("the folder has no tokenizer.json{hint}"),
            });
        }
        let bytes = std::fs::read(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&bytes, &JsonConfigs::read(folder)?)
    }

    /// The tokenizer of a `tokenizer.json` and its configurations.
    pub fn from_json(bytes: &[u8], configs: &JsonConfigs) -> Result<Self, Error> {
        let file: Value = serde_json::from_slice(bytes)
            .map_err(|error| problem(format!("tokenizer.json is not valid JSON: {error}")))?;
        check_model(&file["model"])?;
        drop(file);
        // The crate panics on some malformed files; such a file must not end the process.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let inner = tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|error| problem(format!("cannot read tokenizer.json: {error}")))?;
            build(inner, configs)
        }));
        read.unwrap_or_else(|_| {
            Err(problem(
                "tokenizer.json is damaged; get the file again".to_owned(),
            ))
        })
    }
}

fn problem(text: String) -> Error {
    Error::Tokenizer(text)
}

/// Checks what `tokenizers` takes for granted: merges that form tokens of the vocabulary.
fn check_model(model: &Value) -> Result<(), Error> {
    if !model.is_object() {
        return Err(problem("tokenizer.json has no \"model\"".to_owned()));
    }
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
    else {
        return Ok(());
    };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
    for (rank, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        let pair = pair.and_then(|(left, right)| {
            let rest = right.get(prefix.len()..)?;
            Some((left, right, format!("{left}{rest}")))
        });
        let Some((left, right, whole)) = pair else {
            return Err(problem(format!(
                "merge {rank} is {merge}; expected two tokens"
            )));
        };
        if let Some(unknown) = [left, right, &whole]
            .into_iter()
            .find(|&text| !vocab.contains_key(text))
        {
            return Err(problem(format!(
                "merge {rank} ({merge}) needs the token {unknown:?}, which the vocabulary lacks"
            )));
        }
    }
    Ok(())
}

fn build(inner: tokenizers::Tokenizer, configs: &JsonConfigs) -> Result<Tokenizer, Error> {
    let vocab = inner.get_vocab(true);
    let count = vocab.values().max().map_or(0, |&id| id as usize + 1);
    if count == 0 || count > MAX_VOCAB {
        return Err(problem(format!(
            "tokenizer.json has token ids up to {count}; a vocabulary has 1 to {MAX_VOCAB} tokens"
        )));
    }
    let spelling = Spelling::of(&inner)?;
    let added = inner.get_added_tokens_decoder();
    let mut texts: Vec<Option<&str>> = vec![None; count];
    for (text, &id) in &vocab {
        texts[id as usize] = Some(text);
    }
    let mut pieces = Pieces::default();
    for (id, text) in texts.iter().enumerate() {
        match (added.get(&(id as u32)), text) {
            (Some(token), _) if token.special => pieces.push(&[]),
            (Some(token), _) => pieces.push(&spelling.added(&token.content)),
            (None, Some(text)) => pieces.push(&spelling.token(text)),
            (None, None) => pieces.push(&[]),
        }
    }
    let special = |text: &str| {
        let id = inner.token_to_id(text)?;
        added
            .get(&id)
            .is_some_and(|token| token.special)
            .then_some(id)
    };

    let config = &configs.tokenizer;
    let mut eos = Vec::new();
    for file in [&configs.generation, &configs.model] {
        eos.extend(token_ids(&file["eos_token_id"], count)?);
    }
    if let Some(text) = token_name(&config["eos_token"])
        && let Some(id) = inner.token_to_id(text)
    {
        // Chat templates mean this one when they say eos_token.
        eos.insert(0, id);
    }
    eos.extend(END_TOKENS.iter().filter_map(|text| special(text)));
    let mut seen = HashSet::new();
    eos.retain(|&token| seen.insert(token));

    let library = Library::new(inner);
    let mut prefix = added_prefix(&library)?;
    let named = token_name(&config["bos_token"]).and_then(|text| library.inner.token_to_id(text));
    let configured = token_ids(&configs.model["bos_token_id"], count)?
        .first()
        .copied();
    let bos = named.or(configured).or_else(|| prefix.first().copied());
    let in_pipeline = bos.is_some_and(|bos| prefix.first() == Some(&bos));
    if in_pipeline {
        prefix.remove(0);
    }
    Ok(Tokenizer {
        add_bos: config["add_bos_token"].as_bool().unwrap_or(in_pipeline),
        strips_first_space: spelling.strips_first_space(),
        engine: Engine::Library(Box::new(library)),
        pieces,
        bos,
        prefix,
        eos,
    })
}

/// What the file's post-processor puts before a text.
fn added_prefix(library: &Library) -> Result<Vec<u32>, Error> {
    let failed =
        |error: tokenizers::Error| problem(format!("cannot encode with tokenizer.json: {error}"));
    let plain = library.encode("a", true).map_err(failed)?;
    let framed = library.inner.encode("a", true).map_err(failed)?;
    let framed = framed.get_ids();
    let start = framed
        .windows(plain.len().max(1))
        .position(|window| window == plain);
    Ok(start.map_or_else(Vec::new, |start| framed[..start].to_vec()))
}

/// A special token's spelling: text, or an object with `content`.
fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// A token id or a list of them.
fn token_ids(value: &Value, count: usize) -> Result<Vec<u32>, Error> {
    let one = std::slice::from_ref(value);
    let values = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values.as_slice(),
        _ => one,
    };
    let mut ids = Vec::new();
    for value in values {
        match value.as_u64() {
            Some(id) if (id as usize) < count => ids.push(id as u32),
            // Some configurations name ids beyond the vocabulary, or -1; they can never occur.
            Some(_) => {}
            None if value.as_i64().is_some() || value.is_null() => {}
            None => {
                return Err(problem(format!(
                    "a configuration gives {value} as a token id; expected a number"
                )));
            }
        }
    }
    Ok(ids)
}

/// How the vocabulary spells text.
#[derive(Clone, Copy)]
enum Spelling {
    /// GPT-2's alphabet of bytes.
    ByteLevel,
    /// `▁` for a space, `<0x0A>` for a byte.
    SentencePiece { strips_first_space: bool },
    /// Whole words; a space goes between them.
    Words,
}

impl Spelling {
    fn of(inner: &tokenizers::Tokenizer) -> Result<Self, Error> {
        let Some(decoder) = inner.get_decoder() else {
            return Ok(Self::Words);
        };
        let mut steps = vec![decoder];
        let mut next = 0;
        while let Some(&step) = steps.get(next) {
            next += 1;
            if let DecoderWrapper::Sequence(sequence) = step {
                steps.extend(sequence.get_decoders());
            }
        }
        let mut found = None;
        let mut strips_first_space = false;
        for step in steps {
            match step {
                DecoderWrapper::ByteLevel(_) => found = Some(Self::ByteLevel),
                DecoderWrapper::Metaspace(metaspace) => {
                    strips_first_space = metaspace.prepend_scheme != PrependScheme::Never;
                    found = Some(Self::SentencePiece { strips_first_space });
                }
                DecoderWrapper::Replace(_) | DecoderWrapper::ByteFallback(_) => {
                    found = Some(Self::SentencePiece { strips_first_space });
                }
                DecoderWrapper::Strip(strip) => {
                    strips_first_space |= strip.content == ' ' && strip.start > 0;
                }
                DecoderWrapper::Fuse(_) | DecoderWrapper::Sequence(_) => {}
                DecoderWrapper::BPE(_) | DecoderWrapper::WordPiece(_) | DecoderWrapper::CTC(_) => {
                    return Err(Error::Unsupported(
                        "tokenizer.json decodes words by suffixes or prefixes (BPEDecoder, WordPiece, CTC); Billion \
                         reads byte-level and SentencePiece vocabularies"
                            .to_owned(),
                    ));
                }
            }
        }
        match found {
            Some(Self::SentencePiece { .. }) => Ok(Self::SentencePiece { strips_first_space }),
            Some(other) => Ok(other),
            None => Ok(Self::Words),
        }
    }

    fn strips_first_space(self) -> bool {
        match self {
            Self::ByteLevel => false,
            Self::SentencePiece { strips_first_space } => strips_first_space,
            Self::Words => true,
        }
    }

    fn token(self, text: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level(text),
            Self::SentencePiece { .. } => sentencepiece(text),
            Self::Words => format!(" {text}").into_bytes(),
        }
    }

    /// An added token that is not special: in byte-level vocabularies it stands for itself.
    fn added(self, text: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => text.as_bytes().to_vec(),
            other => other.token(text),
        }
    }
}
