//! Drafts from the text itself: what followed the last words where they stood before (prompt lookup; A. Saxena 2023,
//! github.com/apoorvumang/prompt-lookup-decoding). It costs nothing but a look back, and pays where a text repeats another:
//! summaries, code, translations of names.

/// How it looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Most tokens of the text's end that are looked for.
    pub longest: usize,
    /// Fewest; fewer match by chance.
    pub shortest: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            longest: 4,
            shortest: 2,
        }
    }
}

impl Lookup {
    /// `most` tokens as they followed the latest earlier occurrence of the end of `history`, the longest end first; empty
    /// where no end of at least `shortest` tokens occurs before. Where that occurrence runs into the end itself, as in a list
    /// that repeats one word, the repetition goes on.
    pub(super) fn find(&self, history: &[u32], most: usize) -> Vec<u32> {
        for length in (self.shortest.max(1)..=self.longest).rev() {
            let Some(start) = history.len().checked_sub(length) else {
                continue;
            };
            let end = &history[start..];
            let found = (0..start)
                .rev()
                .find(|&at| &history[at..at + length] == end);
            if let Some(at) = found {
                let mut draft = Vec::with_capacity(most);
                for from in at + length..at + length + most {
                    draft.push(match history.get(from) {
                        Some(&token) => token,
                        None => draft[from - history.len()],
                    });
                }
                return draft;
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_and_its_latest_occurrence_win() {
        let lookup = Lookup::default();
        //           0  1  2  3  4  5  6  7  8  9
        let text = [1, 2, 3, 9, 2, 3, 8, 1, 2, 3];
        // 1 2 3 stood at the start, although 2 3 stood later.
        assert_eq!(lookup.find(&text, 2), [9, 2]);
        assert_eq!(lookup.find(&text[1..], 3), [8, 1, 2]);
        assert_eq!(lookup.find(&[5, 6, 7], 3), [] as [u32; 0]);
        assert_eq!(lookup.find(&[4, 4, 4], 5), [4; 5]);
        assert_eq!(lookup.find(&[9, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(lookup.find(&[], 5), [] as [u32; 0]);
    }

    #[test]
    fn single_tokens_do_not_match_unless_asked_for() {
        let text = [7, 1, 2, 7];
        assert_eq!(Lookup::default().find(&text, 2), [] as [u32; 0]);
        let one = Lookup {
            shortest: 1,
            ..Lookup::default()
        };
        assert_eq!(one.find(&text, 2), [1, 2]);
    }
}
