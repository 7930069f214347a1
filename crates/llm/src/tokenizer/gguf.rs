//! Tokenizers from the metadata of a GGUF file (`tokenizer.ggml.*`, see ggml's docs/gguf.md).
//!
//! Every array is checked against the others before it is used; what the text means to the model is up to `spm` and the
//! `tokenizers` crate.

use std::collections::HashMap;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;

use super::pieces::{Pieces, byte_level, sentencepiece};
use super::pretokenizers::Pretokenizer;
use super::spm::{Kind, Spm};
use super::{END_TOKENS, Engine, Library, MAX_TOKEN_BYTES, MAX_VOCAB, Tokenizer};
use crate::Error;
use crate::weights::{MetaValue, Weights};

impl Tokenizer {
    /// The tokenizer inside a GGUF file.
    pub fn from_gguf(weights: &Weights) -> Result<Self, Error> {
        Self::from_metadata(|key| weights.metadata(key))
    }

    /// The same from anything that answers for metadata keys.
    pub fn from_metadata<'a>(get: impl Fn(&str) -> Option<&'a MetaValue>) -> Result<Self, Error> {
        let metadata = Metadata { get };
        match metadata.text("tokenizer.ggml.model")? {
            Some("gpt2") => bpe(&metadata),
            Some("llama") => spm(&metadata),
            Some(other) => Err(Error::Unsupported(format!(
                "the file's vocabulary is of the kind {other:?} (tokenizer.ggml.model); Billion reads \"gpt2\" \
                 (byte-level BPE) and \"llama\" (SentencePiece)"
            ))),
            None => Err(problem(
                "the file has no tokenizer.ggml.model, so it holds no vocabulary; get a complete GGUF".to_owned(),
            )),
        }
    }
}

fn problem(text: String) -> Error {
    Error::Tokenizer(text)
}

/// Metadata by key and kind.
struct Metadata<F> {
    get: F,
}

impl<'a, F: Fn(&str) -> Option<&'a MetaValue>> Metadata<F> {
    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a MetaValue) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match (self.get)(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| problem(format!("{key} is {}, expected {expected}", value.kind()))),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.typed(key, "text", MetaValue::as_str)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a truth value", MetaValue::as_bool)
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, Error> {
        self.typed(key, "a list of texts", |value| {
            value.as_array()?.iter().map(MetaValue::as_str).collect()
        })
    }

    /// A list with one entry a token.
    fn per_token<T>(
        &self,
        key: &str,
        count: usize,
        read: impl Fn(&'a MetaValue) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        let values: Option<Vec<T>> = self.typed(key, "a list of numbers", |value| {
            value.as_array()?.iter().map(&read).collect()
        })?;
        if let Some(values) = &values
            && values.len() != count
        {
            return Err(problem(format!(
                "{key} has {} entries for {count} tokens; the file is damaged",
                values.len()
            )));
        }
        Ok(values)
    }

    /// A token id, checked against the vocabulary.
    fn token(&self, name: &str, count: usize) -> Result<Option<u32>, Error> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = self.typed(&key, "a token id", MetaValue::as_i64)? else {
            return Ok(None);
        };
        match u32::try_from(id) {
            Ok(token) if (token as usize) < count => Ok(Some(token)),
            // -1 and its unsigned twin say that there is none.
            _ if id == -1 || id == i64::from(u32::MAX) => Ok(None),
            _ => Err(problem(format!(
                "{key} is {id}, outside the vocabulary of {count} tokens"
            ))),
        }
    }
}

/// What both kinds of vocabulary share.
struct Vocabulary {
    texts: Vec<String>,
    kinds: Vec<Kind>,
    ids: HashMap<String, u32>,
    bos: Option<u32>,
    eos: Vec<u32>,
    unknown: Option<u32>,
}

impl Vocabulary {
    fn read<'a, F: Fn(&str) -> Option<&'a MetaValue>>(
        metadata: &Metadata<F>,
    ) -> Result<Self, Error> {
        let texts = metadata.texts("tokenizer.ggml.tokens")?.ok_or_else(|| {
            problem("the file has no tokenizer.ggml.tokens; get a complete GGUF".to_owned())
        })?;
        let count = texts.len();
        if count == 0 || count > MAX_VOCAB {
            return Err(problem(format!(
                "tokenizer.ggml.tokens has {count} entries; a vocabulary has 1 to {MAX_VOCAB}"
            )));
        }
        let mut ids = HashMap::with_capacity(count);
        let mut owned = Vec::with_capacity(count);
        for (id, &text) in texts.iter().enumerate() {
            if text.len() > MAX_TOKEN_BYTES {
                return Err(problem(format!(
                    "token {id} is {} bytes long; at most {MAX_TOKEN_BYTES} are sensible",
                    text.len()
                )));
            }
            let text = if text.is_empty() {
                format!("[EMPTY_{id}]")
            } else {
                text.to_owned()
            };
            if let Some(earlier) = ids.insert(text.clone(), id as u32) {
                return Err(problem(format!(
                    "tokens {earlier} and {id} are both spelled {text:?}; the file is damaged"
                )));
            }
            owned.push(text);
        }
        let numbers = metadata.per_token("tokenizer.ggml.token_type", count, MetaValue::as_i64)?;
        let mut kinds = match numbers {
            Some(numbers) => numbers.into_iter().map(Kind::from_number).collect(),
            None => vec![Kind::Normal; count],
        };
        let bos = metadata.token("bos", count)?;
        let mut eos = Vec::new();
        for name in ["eos", "eot", "eom"] {
            eos.extend(metadata.token(name, count)?);
        }
        for text in END_TOKENS {
            eos.extend(ids.get(text));
        }
        let mut seen = std::collections::HashSet::new();
        eos.retain(|&token| seen.insert(token));
        for &token in bos.iter().chain(&eos) {
            let kind = &mut kinds[token as usize];
            if matches!(kind, Kind::Normal) {
                *kind = Kind::Control;
            }
        }
        Ok(Self {
            texts: owned,
            kinds,
            ids,
            bos,
            eos,
            unknown: metadata.token("unknown", count)?,
        })
    }

    /// Bytes of every token; special ones have none, user-defined ones stand for themselves.
    fn pieces(&self, spell: impl Fn(&str) -> Vec<u8>, literal_user: bool) -> Pieces {
        let mut pieces = Pieces::default();
        for (text, kind) in self.texts.iter().zip(&self.kinds) {
            match kind {
                Kind::Control | Kind::Unknown => pieces.push(&[]),
                Kind::UserDefined if literal_user => pieces.push(text.as_bytes()),
                _ => pieces.push(&spell(text)),
            }
        }
        pieces
    }
}

fn bpe<'a, F: Fn(&str) -> Option<&'a MetaValue>>(
    metadata: &Metadata<F>,
) -> Result<Tokenizer, Error> {
    let pretokenizer = Pretokenizer::named(metadata.text("tokenizer.ggml.pre")?)?;
    let vocabulary = Vocabulary::read(metadata)?;
    let merges = metadata.texts("tokenizer.ggml.merges")?.ok_or_else(|| {
        problem("the file has no tokenizer.ggml.merges, which byte-level BPE needs".to_owned())
    })?;
    let merges = parse_merges(&merges, &vocabulary.ids)?;
    let library =
        |error: tokenizers::Error| problem(format!("cannot build the tokenizer: {error}"));
    let ids: Vocab = vocabulary
        .ids
        .iter()
        .map(|(text, &id)| (text.clone(), id))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(pretokenizer.ignore_merges)
        .build()
        .map_err(library)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    if pretokenizer.composes {
        inner.with_normalizer(Some(NFC)).map_err(library)?;
    }
    inner.with_pre_tokenizer(Some(pretokenizer.build().map_err(library)?));
    let added = vocabulary.texts.iter().zip(&vocabulary.kinds);
    let added = added.filter_map(|(text, kind)| match kind {
        Kind::Control | Kind::Unknown => Some(AddedToken::from(text.clone(), true)),
        Kind::UserDefined => Some(AddedToken::from(text.clone(), false)),
        _ => None,
    });
    inner.add_tokens(added).map_err(library)?;
    let add_bos = metadata
        .flag("tokenizer.ggml.add_bos_token")?
        .unwrap_or(pretokenizer.add_bos);
    Ok(Tokenizer {
        engine: Engine::Library(Box::new(Library::new(inner))),
        pieces: vocabulary.pieces(byte_level, true),
        bos: vocabulary.bos,
        add_bos,
        prefix: Vec::new(),
        eos: vocabulary.eos,
        strips_first_space: false,
    })
}

/// Pairs of tokens whose concatenation is a token too, each pair once.
fn parse_merges(
    merges: &[&str],
    ids: &HashMap<String, u32>,
) -> Result<Vec<(String, String)>, Error> {
    let mut seen = std::collections::HashSet::with_capacity(merges.len());
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        // A token may begin with a space, as llama.cpp reads it.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let split = merge[first..].find(' ').map(|at| at + first);
        let Some((left, right)) = split.map(|at| (&merge[..at], &merge[at + 1..])) else {
            return Err(problem(format!(
                "merge {rank} is {merge:?}; expected two tokens with a space between them"
            )));
        };
        let whole = format!("{left}{right}");
        if let Some(unknown) = [left, right, &whole]
            .into_iter()
            .find(|&text| !ids.contains_key(text))
        {
            return Err(problem(format!(
                "merge {rank} ({merge:?}) needs the token {unknown:?}, which the vocabulary lacks"
            )));
        }
        if seen.insert((ids[left], ids[right])) {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}

fn spm<'a, F: Fn(&str) -> Option<&'a MetaValue>>(
    metadata: &Metadata<F>,
) -> Result<Tokenizer, Error> {
    let mut vocabulary = Vocabulary::read(metadata)?;
    let count = vocabulary.texts.len();
    let scores = metadata
        .per_token("tokenizer.ggml.scores", count, |value| {
            value.as_f64().map(|score| score as f32)
        })?
        .ok_or_else(|| {
            problem("the file has no tokenizer.ggml.scores, which SentencePiece needs".to_owned())
        })?;
    // Files without token types spell their byte tokens all the same.
    for (text, kind) in vocabulary.texts.iter().zip(&mut vocabulary.kinds) {
        if *kind == Kind::Normal && super::pieces::byte_token(text).is_some() {
            *kind = Kind::Byte;
        }
    }
    // Where the file names none, SentencePiece's own order holds: <unk>, <s>, </s>.
    let fixed = |id: u32, text: &str| vocabulary.ids.get(text).copied().filter(|&at| at == id);
    let bos = vocabulary.bos.or_else(|| fixed(1, "<s>"));
    let unknown = vocabulary.unknown.or_else(|| fixed(0, "<unk>"));
    let add_bos = metadata
        .flag("tokenizer.ggml.add_bos_token")?
        .unwrap_or(true);
    let add_space_prefix = metadata
        .flag("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let pieces = vocabulary.pieces(sentencepiece, false);
    Ok(Tokenizer {
        engine: Engine::SentencePiece(Box::new(Spm::new(
            vocabulary.texts,
            scores,
            &vocabulary.kinds,
            unknown,
            add_space_prefix,
        ))),
        pieces,
        bos,
        add_bos,
        prefix: Vec::new(),
        eos: vocabulary.eos,
        strips_first_space: add_space_prefix,
    })
}
