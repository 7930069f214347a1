//! Turns token bytes into text that can be shown at once: never half a UTF-8 character, never a part of a stop string.

/// More than most tokens have.
pub(super) const LONG_TOKEN_BYTES: usize = 128;

/// Room made for the text of a token: English has about 4 bytes a token.
const BYTES_PER_TOKEN: usize = 6;

/// Text that grows a token at a time, and how much of it may be shown.
#[derive(Debug)]
pub(super) struct TextStream<'a> {
    stops: &'a [String],
    text: String,
    /// Bytes after `text` that may still become a character.
    partial: Vec<u8>,
    /// Bytes of `text` already handed out.
    shown: usize,
}

impl<'a> TextStream<'a> {
    /// Empty stop strings never match. `tokens` are expected.
    pub(super) fn new(stops: &'a [String], tokens: usize) -> Self {
        Self {
            stops,
            text: String::with_capacity(BYTES_PER_TOKEN * tokens),
            partial: Vec::with_capacity(LONG_TOKEN_BYTES),
            shown: 0,
        }
    }

    /// Adds the bytes of a token. True if a stop string is now complete; the text ends before it.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.partial.extend_from_slice(bytes);
        let searched = self.text.len();
        self.decode_partial();
        let earliest = self
            .stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| {
                // A match must end in the new part, so it starts at most one stop string before it.
                let mut from = searched.saturating_sub(stop.len() - 1).max(self.shown);
                while !self.text.is_char_boundary(from) {
                    from -= 1;
                }
                self.text[from..].find(stop.as_str()).map(|at| from + at)
            })
            .min();
        if let Some(end) = earliest {
            self.text.truncate(end);
            self.partial.clear();
        }
        earliest.is_some()
    }

    /// What may be shown now and has not been: all but an end that could become a stop string.
    pub(super) fn take(&mut self) -> &str {
        let held = self
            .stops
            .iter()
            .filter_map(|stop| {
                stop.char_indices()
                    .map(|(end, _)| end)
                    .skip(1)
                    .filter(|&end| {
                        self.text.as_bytes()[self.shown..].ends_with(&stop.as_bytes()[..end])
                    })
                    .last()
            })
            .max()
            .unwrap_or(0);
        let from = self.shown;
        self.shown = self.text.len() - held;
        &self.text[from..self.shown]
    }

    /// Ends the text and gives the rest; bytes that never became a character show as U+FFFD.
    pub(super) fn finish(&mut self) -> &str {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        let from = self.shown;
        self.shown = self.text.len();
        &self.text[from..]
    }

    /// The whole text.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn decode_partial(&mut self) {
        let mut rest = self.partial.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text
                        .push_str(std::str::from_utf8(valid).expect("checked just above"));
                    rest = after;
                    let Some(bad) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let done = self.partial.len() - rest.len();
        self.partial.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams `bytes` in pieces of `size`; returns what was shown in order, and whether a stop string ended it.
    fn stream(bytes: &[u8], size: usize, stops: &[&str]) -> (Vec<String>, String, bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut stream = TextStream::new(&stops, 0);
        let mut shown = Vec::new();
        let mut stopped = false;
        for piece in bytes.chunks(size) {
            stopped = stream.push(piece);
            shown.push(stream.take().to_owned());
            if stopped {
                break;
            }
        }
        shown.push(stream.finish().to_owned());
        (shown, stream.into_text(), stopped)
    }

    #[test]
    fn characters_are_whole_whatever_the_cut() {
        let text = "naïve 日本 🦀 end";
        for size in 1..=text.len() {
            let (shown, whole, stopped) = stream(text.as_bytes(), size, &[]);
            assert_eq!(shown.concat(), text, "pieces of {size}");
            assert_eq!(whole, text);
            assert!(!stopped);
            assert!(!shown.concat().contains(char::REPLACEMENT_CHARACTER));
        }
    }

    #[test]
    fn invalid_bytes_show_as_replacement_and_lose_nothing_around() {
        let bytes = b"a\xffb\xf0\x9f\xa6c\xe6";
        for size in 1..=bytes.len() {
            let (shown, whole, _) = stream(bytes, size, &[]);
            assert_eq!(
                shown.concat(),
                String::from_utf8_lossy(bytes),
                "pieces of {size}"
            );
            assert_eq!(whole, shown.concat());
        }
    }

    #[test]
    fn a_stop_string_never_leaks_whatever_the_cut() {
        let text = "one END of it</s>two";
        for size in 1..=text.len() {
            let (shown, whole, stopped) = stream(text.as_bytes(), size, &["</s>", "never"]);
            assert!(stopped);
            assert_eq!(shown.concat(), "one END of it", "pieces of {size}");
            assert_eq!(whole, "one END of it");
        }
    }

    #[test]
    fn the_earliest_of_several_stops_wins_and_a_half_one_is_given_back() {
        let (shown, _, stopped) = stream("a é# b".as_bytes(), 100, &["b", "é#"]);
        assert!(stopped);
        assert_eq!(shown.concat(), "a ");
        // "User" could have become "User:"; it is held while it could, and shown when it cannot.
        let (shown, whole, stopped) = stream(b"my Useful User", 1, &["User:"]);
        assert!(!stopped);
        assert_eq!(whole, "my Useful User");
        assert_eq!(shown[..6].concat(), "my ", "held while it could be one");
        assert_eq!(shown[..7].concat(), "my Usef", "released once it cannot");
        assert_eq!(shown.last().unwrap(), "User", "held until the end");
    }
}
