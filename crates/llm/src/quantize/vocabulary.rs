//! A vocabulary of `tokenizer.json` as the metadata of a GGUF file (`tokenizer.ggml.*`).
//!
//! Byte-level BPE becomes "gpt2" with the pre-tokenizer of llama.cpp that cuts texts as the file's own pipeline does;
//! SentencePiece vocabularies become "llama", each token's score being its merge's rank. Nothing is taken on trust: the
//! tokenizer that the metadata describes must give the same ids as the one of the file on texts made to tell them apart.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value as Json;

use super::entries::{Entries, Value};
use crate::Error;
use crate::decoder::TextCodec;
use crate::tokenizer::{JsonConfigs, Tokenizer};
use crate::weights::MetaValue;

/// `enum llama_token_type`.
mod kind {
    pub const NORMAL: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

/// Texts on which pre-tokenizers differ: runs of digits, contractions in both cases, letters with marks, line breaks,
/// spaces, symbols, scripts without spaces.
const TELLING: [&str; 12] = [
    "The year 1984, 12345678 and 3.14159; 7 1/2 or 1,000,000.",
    "I'm sure they'll say it's YOU'RE, WE'VE, can't, O'CLOCK and 'quoted'.",
    "fn main() {\n\tlet x = vec![1, 22, 333];\n\n\n    println!(\"{x:?}\");\r\n}  \n",
    "   leading, trailing   and    many     spaces \t\t tabs   ",
    "caf\u{e9} cafe\u{301} na\u{ef}ve \u{c5}ngstr\u{f6}m A\u{30a} \u{1e0b}\u{323}",
    "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{6587}\u{7ae0}\u{3001}\u{4e2d}\u{6587}\u{ff0c} \u{d55c}\u{ad6d}\u{c5b4} 12\u{5e74}3\u{6708}",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}! \u{645}\u{631}\u{62d}\u{628}\u{627} \u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947} \u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35} \u{1780}\u{17b6}\u{179a}",
    "\u{1f600}\u{1f44d}\u{1f3fd} \u{1f469}\u{200d}\u{1f4bb} \u{2713} \u{2192} \u{20ac}5 \u{a3}7 \u{bd} \u{b2} \u{2160} \u{661}\u{662}",
    "a_b-c+d=e*f/g\\h|i~j^k`l@m#n$o%p&q!!! ??? ... --- *** ((())) [[]] {{}} <<>>",
    "https://example.org/a?b=1&c=2 e-mail@example.org C++ C# .NET snake_case camelCase HTTPServer2",
    "\n\n one\n \n  two \n\n\nthree\r\n\r\nfour",
    "",
];

/// Pre-tokenizers of llama.cpp, the likelier first; more than one may cut alike.
const PRETOKENIZERS: [&str; 9] = [
    "gpt-2",
    "smollm",
    "olmo",
    "qwen2",
    "stablelm2",
    "dbrx",
    "falcon",
    "default",
    "llama-bpe",
];

/// The vocabulary of the model in `folder` with a token for each of the embedding's `rows`.
pub(super) fn vocabulary(
    folder: &Path,
    original: &Tokenizer,
    rows: usize,
    architecture: &str,
) -> Result<Entries, Error> {
    let path = folder.join("tokenizer.json");
    let bytes = std::fs::read(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| Error::File {
        path,
        problem: format!("not valid JSON ({error}); download it again"),
    })?;
    drop(bytes);
    let configs = JsonConfigs::read(folder)?;
    let file = TokenizerFile::read(&json, rows)?;
    let mut common = Entries::default();
    special_tokens(&mut common, &file, original, &configs.tokenizer);
    let candidates = if file.byte_level {
        let mut names = PRETOKENIZERS.to_vec();
        let first = match architecture {
            "gptneox" => "olmo",
            "stablelm" => "stablelm2",
            "qwen2" => "qwen2",
            _ => "gpt-2",
        };
        names.sort_by_key(|&name| name != first);
        let whole_first = json["model"]["ignore_merges"] == true;
        names.retain(|&name| (name == "llama-bpe") == whole_first);
        let candidates = names.into_iter().map(|name| file.byte_level(name));
        candidates.collect::<Vec<_>>()
    } else {
        vec![file.sentencepiece(true), file.sentencepiece(false)]
    };
    for mut candidate in candidates {
        candidate.extend(common.clone());
        let Some(made) = read_back(&candidate) else {
            continue;
        };
        if !same_ids(original, &made, file.texts.len()) {
            continue;
        }
        end_tokens(&mut candidate, original, &made);
        return Ok(candidate);
    }
    Err(Error::Tokenizer(
        "tokenizer.json cuts texts in a way that a GGUF file has no name for, so the model would read other tokens than \
         it was trained on; use its safetensors as they are"
            .to_owned(),
    ))
}

/// What a `tokenizer.json` holds.
struct TokenizerFile {
    byte_level: bool,
    /// Spelling of each token; those that the file lacks are made up and unused.
    texts: Vec<String>,
    kinds: Vec<i32>,
    /// Pairs, the first to be merged first.
    merges: Vec<(String, String)>,
    ids: HashMap<String, u32>,
}

impl TokenizerFile {
    fn read(json: &Json, rows: usize) -> Result<Self, Error> {
        let problem = |text: &str| Error::Tokenizer(format!("tokenizer.json: {text}"));
        let model = &json["model"];
        let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
        else {
            return Err(problem(
                "the vocabulary is not one of byte pairs (BPE), the only kind that GGUF files are written of",
            ));
        };
        let byte_level = json["pre_tokenizer"].to_string().contains("\"ByteLevel\"")
            || json["decoder"].to_string().contains("\"ByteLevel\"");
        let byte_fallback = model["byte_fallback"] == true;
        if !byte_level && !byte_fallback {
            return Err(problem(
                "the vocabulary spells neither bytes (ByteLevel) nor falls back to them (byte_fallback), so GGUF files \
                 cannot hold it",
            ));
        }
        let mut texts: Vec<Option<String>> = vec![None; rows];
        let mut kinds = vec![kind::UNUSED; rows];
        let mut put = |id: Option<u64>, text: &str, of: i32| {
            // Tokens beyond the embedding can never be used.
            if let Some(id) = id.and_then(|id| usize::try_from(id).ok())
                && id < rows
            {
                texts[id] = Some(text.to_owned());
                kinds[id] = of;
            }
        };
        let unknown = model["unk_token"].as_str();
        for (text, id) in vocab {
            let is_byte = !byte_level && is_byte_token(text);
            let of = match () {
                () if is_byte => kind::BYTE,
                () if !byte_level && unknown == Some(text) => kind::UNKNOWN,
                () => kind::NORMAL,
            };
            put(id.as_u64(), text, of);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let Some(text) = token["content"].as_str() else {
                return Err(problem("an added token has no content"));
            };
            let of = match () {
                () if !byte_level && unknown == Some(text) => kind::UNKNOWN,
                () if token["special"] == true => kind::CONTROL,
                () => kind::USER_DEFINED,
            };
            put(token["id"].as_u64(), text, of);
        }
        let texts: Vec<String> = texts
            .into_iter()
            .enumerate()
            .map(|(id, text)| text.unwrap_or_else(|| format!("[PAD{id}]")))
            .collect();
        let mut ids = HashMap::with_capacity(rows);
        for (id, text) in texts.iter().enumerate() {
            if let Some(earlier) = ids.insert(text.clone(), id as u32) {
                return Err(problem(&format!(
                    "tokens {earlier} and {id} are both spelled {text:?}, which a GGUF file cannot hold"
                )));
            }
        }
        let merges = merges.iter().filter_map(|merge| match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
            _ => None,
        });
        let known = |(left, right): &(&str, &str)| {
            ids.contains_key(*left)
                && ids.contains_key(*right)
                && ids.contains_key(&format!("{left}{right}"))
        };
        let merges = merges
            .filter(known)
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .collect();
        Ok(Self {
            byte_level,
            texts,
            kinds,
            merges,
            ids,
        })
    }

    fn common(&self, model: &str, pre: &str) -> Entries {
        let mut entries = Entries::default();
        entries.text("tokenizer.ggml.model", model);
        entries.text("tokenizer.ggml.pre", pre);
        entries.set("tokenizer.ggml.tokens", Value::Texts(self.texts.clone()));
        entries
    }

    fn byte_level(&self, pre: &str) -> Entries {
        let mut entries = self.common("gpt2", pre);
        let merges = self.merges.iter();
        // A space inside a token would be read as the end of it.
        let spell = |text: &str| text.replace(' ', "\u{120}");
        let merges = merges.map(|(left, right)| format!("{} {}", spell(left), spell(right)));
        entries.set("tokenizer.ggml.token_type", Value::I32s(self.kinds.clone()));
        entries.set("tokenizer.ggml.merges", Value::Texts(merges.collect()));
        entries
    }

    fn sentencepiece(&self, add_space_prefix: bool) -> Entries {
        let mut entries = self.common("llama", "default");
        let lowest = -(self.merges.len() as f32);
        let mut scores: Vec<f32> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(id, &of)| match of {
                kind::NORMAL => lowest - id as f32,
                kind::USER_DEFINED | kind::UNUSED => -1000.0,
                _ => 0.0,
            })
            .collect();
        // The first merge that makes a token is the one that counts.
        for (rank, (left, right)) in self.merges.iter().enumerate().rev() {
            if let Some(&id) = self.ids.get(&format!("{left}{right}")) {
                scores[id as usize] = -(rank as f32);
            }
        }
        entries.set("tokenizer.ggml.scores", Value::F32s(scores));
        entries.set("tokenizer.ggml.token_type", Value::I32s(self.kinds.clone()));
        entries.bool("tokenizer.ggml.add_space_prefix", add_space_prefix);
        entries
    }
}

fn is_byte_token(text: &str) -> bool {
    let digits = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| {
        digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Ids of the tokens with a part to play, and whether BOS is put before a text.
fn special_tokens(
    entries: &mut Entries,
    file: &TokenizerFile,
    original: &Tokenizer,
    config: &Json,
) {
    let key = |name: &str| format!("tokenizer.ggml.{name}_token_id");
    let inside = |id: &u32| (*id as usize) < file.texts.len();
    if let Some(bos) = original.bos().filter(inside) {
        entries.u32(key("bos"), bos as usize);
    }
    if let Some(&eos) = original.eos_tokens().first().filter(|id| inside(id)) {
        entries.u32(key("eos"), eos as usize);
    }
    for (name, of) in [("unknown", "unk_token"), ("padding", "pad_token")] {
        let text = config[of]
            .as_str()
            .or_else(|| config[of]["content"].as_str());
        if let Some(id) = text.and_then(|text| file.ids.get(text)) {
            entries.u32(key(name), *id as usize);
        }
    }
    entries.bool("tokenizer.ggml.add_bos_token", original.adds_bos());
}

/// Names the tokens that end a generation and are not recognised by their spelling.
fn end_tokens(entries: &mut Entries, original: &Tokenizer, made: &Tokenizer) {
    let missing = original
        .eos_tokens()
        .iter()
        .filter(|id| !made.eos_tokens().contains(id));
    for (name, id) in ["eot", "eom"].into_iter().zip(missing) {
        entries.u32(format!("tokenizer.ggml.{name}_token_id"), *id as usize);
    }
}

/// The tokenizer that the entries describe; none if they describe none.
fn read_back(entries: &Entries) -> Option<Tokenizer> {
    let values: BTreeMap<&str, MetaValue> = entries
        .iter()
        .filter_map(|(key, value)| Some((key, value.meta()?)))
        .collect();
    Tokenizer::from_metadata(|key| values.get(key)).ok()
}

/// Both give the same ids, of a vocabulary of `count`, with and without what stands before a text.
pub(super) fn same_ids(a: &Tokenizer, b: &Tokenizer, count: usize) -> bool {
    let inside = |ids: &[u32]| ids.iter().all(|&id| (id as usize) < count);
    TELLING.iter().all(|text| {
        [true, false].iter().all(|&add_special| {
            let (a, b) = (
                a.encode(text, add_special, true),
                b.encode(text, add_special, true),
            );
            matches!((a, b), (Ok(a), Ok(b)) if a == b || !inside(&a))
        })
    })
}
