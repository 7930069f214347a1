//! The bytes that every token stands for inside a text, and how vocabularies spell bytes.
//!
//! GPT-2's byte-level alphabet: A. Radford et al. 2019, `encoder.py` (`bytes_to_unicode`). SentencePiece: `▁` is a space,
//! `<0x0A>` a byte.

/// Bytes of all tokens, back to back.
#[derive(Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// Adds the next token's bytes.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len());
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A token's bytes; empty for special and unknown tokens.
    pub(super) fn get(&self, token: u32) -> &[u8] {
        let token = token as usize;
        let Some(&end) = self.ends.get(token) else {
            return &[];
        };
        let start = if token == 0 { 0 } else { self.ends[token - 1] };
        &self.bytes[start..end]
    }
}

/// The bytes of a token in the byte-level alphabet; a spelling outside it stands for itself.
pub(super) fn byte_level(text: &str) -> Vec<u8> {
    text.chars()
        .map(byte_of)
        .collect::<Option<_>>()
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The bytes of a SentencePiece token.
pub(super) fn sentencepiece(text: &str) -> Vec<u8> {
    match byte_token(text) {
        Some(byte) => vec![byte],
        None => text.replace('▁', " ").into_bytes(),
    }
}

/// The byte that a token like `<0x0A>` stands for.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The byte that a character of the byte-level alphabet stands for: printable Latin-1 characters stand for themselves,
/// the other 68 bytes have the characters from U+0100 on, in order.
fn byte_of(c: char) -> Option<u8> {
    match c {
        '!'..='~' | '¡'..='¬' | '®'..='ÿ' => u8::try_from(u32::from(c)).ok(),
        '\u{100}'..='\u{143}' => {
            let n = u32::from(c) - 0x100;
            let byte = match n {
                0..=32 => n,
                33..=66 => n - 33 + 0x7F,
                _ => 0xAD,
            };
            u8::try_from(byte).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{byte_level, byte_token, sentencepiece};

    #[test]
    fn the_alphabet_holds_every_byte_once() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet
            .into_iter()
            .flat_map(|c| {
                let bytes = byte_level(&c.to_string());
                assert_eq!(bytes.len(), 1, "{c}");
                bytes
            })
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_level("Ġthe"), b" the");
        assert_eq!(byte_level("Ċ"), b"\n");
        assert_eq!(byte_level("ÅŃ"), [0xC5, 0xAD]);
        assert_eq!(byte_level("日本"), "日本".as_bytes());
    }

    #[test]
    fn byte_tokens_are_exact() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0xff>"), Some(255));
        for text in ["<0x0A", "<0xA>", "<0x+A>", "<0x00A>", "0x0A", "<0x日>"] {
            assert_eq!(byte_token(text), None, "{text}");
        }
        assert_eq!(sentencepiece("▁a▁b"), b" a b");
        assert_eq!(sentencepiece("<0xE6>"), [0xE6]);
    }
}
