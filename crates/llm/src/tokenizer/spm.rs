//! SentencePiece BPE over a GGUF vocabulary: merge the best-scored adjacent pair, leftmost first, until none is left.
//!
//! As `bpe_model.cc` of SentencePiece and llama.cpp's `llm_tokenizer_spm` do it, with two of SentencePiece's rules that
//! llama.cpp leaves out: text that merely spells a control or byte token never becomes one. Space prefixes follow
//! llama.cpp: one at the start of the text and after every special token.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::pieces::byte_token;

/// What a token of a GGUF vocabulary is (`enum llama_token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// From its number in the file; numbers that mean nothing are normal tokens.
    pub(super) fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// A SentencePiece vocabulary, ready to encode.
pub(super) struct Spm {
    texts: Vec<String>,
    scores: Vec<f32>,
    ids: HashMap<String, u32>,
    /// Tokens that merging may form.
    mergeable: Vec<bool>,
    /// By first byte, the longest first: spelling, id, and whether only `parse_special` recognises it.
    marked: HashMap<u8, Vec<(String, u32, bool)>>,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    add_space_prefix: bool,
}

/// A place in the text between two symbols that could become one token.
struct Merge {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of the result; a mismatch means that one of the symbols has changed since.
    len: usize,
    token: u32,
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Merge {}
impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Merge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

/// A run of text that is, so far, one token; an empty one has been merged into its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
    token: Option<u32>,
}

impl Spm {
    /// A vocabulary of distinct texts; the three lists have one entry a token.
    pub(super) fn new(
        texts: Vec<String>,
        scores: Vec<f32>,
        kinds: &[Kind],
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Self {
        let mut bytes = [None; 256];
        let mut marked: HashMap<u8, Vec<(String, u32, bool)>> = HashMap::new();
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, (text, kind)) in texts.iter().zip(kinds).enumerate() {
            let id = id as u32;
            ids.insert(text.clone(), id);
            match kind {
                Kind::Byte => {
                    if let Some(byte) = byte_token(text) {
                        bytes[usize::from(byte)] = Some(id);
                    }
                }
                Kind::Control | Kind::Unknown | Kind::UserDefined => {
                    if let Some(&first) = text.as_bytes().first() {
                        let special = *kind != Kind::UserDefined;
                        marked
                            .entry(first)
                            .or_default()
                            .push((text.clone(), id, special));
                    }
                }
                Kind::Normal | Kind::Unused => {}
            }
        }
        for candidates in marked.values_mut() {
            candidates.sort_by_key(|(text, ..)| std::cmp::Reverse(text.len()));
        }
        Self {
            mergeable: kinds
                .iter()
                .map(|kind| matches!(kind, Kind::Normal | Kind::UserDefined))
                .collect(),
            texts,
            scores,
            ids,
            marked,
            bytes,
            unknown,
            add_space_prefix,
        }
    }

    pub(super) fn token_text(&self, token: u32) -> Option<&str> {
        self.texts.get(token as usize).map(String::as_str)
    }

    pub(super) fn token_id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Appends the ids of `text` to `ids`.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        let mut plain = 0;
        let mut at = 0;
        let mut after_special = true;
        while at < text.len() {
            let Some((token, len)) = self.marked_at(&text[at..], parse_special) else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            if plain < at {
                self.encode_plain(&text[plain..at], after_special, ids)?;
            }
            ids.push(token);
            after_special = true;
            at += len;
            plain = at;
        }
        if plain < text.len() {
            self.encode_plain(&text[plain..], after_special, ids)?;
        }
        Ok(())
    }

    /// The longest special or user-defined token that `text` begins with, and its length in bytes.
    fn marked_at(&self, text: &str, parse_special: bool) -> Option<(u32, usize)> {
        let candidates = self.marked.get(text.as_bytes().first()?)?;
        candidates
            .iter()
            .find(|(spelling, _, special)| {
                (parse_special || !special) && text.starts_with(spelling.as_str())
            })
            .map(|(spelling, id, _)| (*id, spelling.len()))
    }

    fn encode_plain(
        &self,
        text: &str,
        after_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        let prefix = if self.add_space_prefix && after_special {
            "▁"
        } else {
            ""
        };
        let text = format!("{prefix}{}", text.replace(' ', "▁"));
        let symbols = self.merge(&text);
        let mut next = Some(0);
        while let Some(symbol) = next.and_then(|index| symbols.get(index)) {
            next = symbol.next;
            if let Some(token) = symbol.token {
                ids.push(token);
                continue;
            }
            for &byte in &text.as_bytes()[symbol.start..symbol.start + symbol.len] {
                let token = self.bytes[usize::from(byte)].or(self.unknown);
                ids.push(token.ok_or_else(|| {
                    format!("the vocabulary has no token for byte 0x{byte:02X} and none for unknown text")
                })?);
            }
        }
        Ok(())
    }

    /// The symbols of an escaped text, linked in order from the first.
    fn merge(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, c))| Symbol {
                start,
                len: c.len_utf8(),
                prev: index.checked_sub(1),
                next: Some(index + 1),
                token: self.mergeable(&text[start..start + c.len_utf8()]),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() {
            queue.extend(self.candidate(text, &symbols, right - 1, right));
        }
        while let Some(merge) = queue.pop() {
            let (left, right) = (symbols[merge.left], symbols[merge.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != merge.len {
                continue;
            }
            symbols[merge.left].len = merge.len;
            symbols[merge.left].token = Some(merge.token);
            symbols[merge.left].next = right.next;
            symbols[merge.right].len = 0;
            if let Some(next) = right.next {
                symbols[next].prev = Some(merge.left);
                queue.extend(self.candidate(text, &symbols, merge.left, next));
            }
            if let Some(prev) = left.prev {
                queue.extend(self.candidate(text, &symbols, prev, merge.left));
            }
        }
        symbols
    }

    fn candidate(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
    ) -> Option<Merge> {
        let start = symbols[left].start;
        let len = symbols[left].len + symbols[right].len;
        let token = self.mergeable(&text[start..start + len])?;
        Some(Merge {
            score: self.scores[token as usize],
            left,
            right,
            len,
            token,
        })
    }

    fn mergeable(&self, text: &str) -> Option<u32> {
        let id = *self.ids.get(text)?;
        self.mergeable[id as usize].then_some(id)
    }
}
