//! Whether two tokenizers give every token the same id: what a draft and its target need.

use super::Tokenizer;
use crate::decoder::TextCodec;

/// Two vocabularies that can work together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Tokens that both have, with the same id and the same bytes.
    pub shared: usize,
    /// Ids behind the other's last that only the target has: padding, or tokens that the draft never proposes.
    pub only_target: usize,
    /// The same of the draft: never proposed, since the target has no row for them.
    pub only_draft: usize,
}

/// The first token on which two vocabularies disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "token {id} is {target} in the target's vocabulary and {draft} in the draft's; {differing} of {compared} tokens differ"
)]
pub struct Disagreement {
    /// Its id.
    pub id: u32,
    /// What the target says, in words.
    pub target: String,
    /// What the draft says.
    pub draft: String,
    /// Tokens that differ.
    pub differing: usize,
    /// Ids that both vocabularies have.
    pub compared: usize,
}

/// What a token is to a model: bytes of text, or a special token of that spelling.
enum Meaning {
    Text(Vec<u8>),
    Special(String),
    Nothing,
}

impl Tokenizer {
    /// Compares every token of this vocabulary, a target's, with that of a draft.
    pub fn agrees_with(&self, draft: &Self) -> Result<Agreement, Disagreement> {
        let compared = self.vocab_size().min(draft.vocab_size());
        let mut first = None;
        let (mut differing, mut shared) = (0, 0);
        for id in 0..compared as u32 {
            let (of_target, of_draft) = (self.meaning(id), draft.meaning(id));
            if of_target == of_draft {
                shared += usize::from(of_target != Meaning::Nothing);
            } else if !(of_target.is_padding() || of_draft.is_padding()) {
                differing += 1;
                first.get_or_insert((id, of_target.words(), of_draft.words()));
            }
        }
        if let Some((id, of_target, of_draft)) = first {
            return Err(Disagreement {
                id,
                target: of_target,
                draft: of_draft,
                differing,
                compared,
            });
        }
        let only = |tokenizer: &Self| {
            (compared..tokenizer.vocab_size())
                .filter(|&id| !tokenizer.meaning(id as u32).is_padding())
                .count()
        };
        Ok(Agreement {
            shared,
            only_target: only(self),
            only_draft: only(draft),
        })
    }

    fn meaning(&self, id: u32) -> Meaning {
        let bytes = self.token_bytes(id);
        if !bytes.is_empty() {
            return Meaning::Text(bytes);
        }
        self.token_text(id)
            .filter(|text| !text.is_empty())
            .map_or(Meaning::Nothing, Meaning::Special)
    }
}

impl PartialEq for Meaning {
    /// A file may call a token special that another takes for text; its spelling decides.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Special(a), Self::Special(b)) => a == b,
            (Self::Text(a), Self::Special(b)) | (Self::Special(b), Self::Text(a)) => {
                a == b.as_bytes()
            }
            (Self::Nothing, _) | (_, Self::Nothing) => false,
        }
    }
}

impl Meaning {
    /// A row that no text ever uses: no spelling, or one that says that it fills up (`[PAD151]` of llama.cpp's converter).
    fn is_padding(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(_) => false,
            Self::Special(text) => {
                let inside = text.strip_prefix("[PAD").and_then(|t| t.strip_suffix(']'));
                inside.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Self::Special(text) => format!("the special token {text:?}"),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}
