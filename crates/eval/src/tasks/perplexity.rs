//! Perplexity of a text: the exponential of its mean negative log-likelihood, window by window.
//!
//! The text is encoded without added special tokens and cut into windows that do not overlap; in each window every token
//! but the first is scored from those before it in the window.

use std::ops::ControlFlow;

use billion_llm::decoder::{Decoder, Run, SeqId};
use serde::{Deserialize, Serialize};

use crate::likelihood::log_softmax;
use crate::{Error, Event, UnderTest};

/// How to cut and read the text.
#[derive(Clone, Debug)]
pub struct PerplexityOptions {
    /// Tokens of a window, at least 2; none is the decoder's context.
    pub window: Option<usize>,
    /// Tokens of one pass, over all windows in it. Each gives a row of logits, so this bounds their memory: 128 rows of
    /// 128,256 entries are 66 MB.
    pub pass_tokens: usize,
}

impl Default for PerplexityOptions {
    fn default() -> Self {
        Self {
            window: None,
            pass_tokens: 128,
        }
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Tokens scored.
    pub tokens: usize,
    /// Mean negative log-likelihood in nats a token.
    pub nll_mean: f64,
    /// exp(`nll_mean`).
    pub perplexity: f64,
    /// Tokens of the text.
    pub text_tokens: usize,
    /// Windows it was cut into.
    pub windows: usize,
    /// Tokens of a window.
    pub window: usize,
    /// Time of the run.
    pub seconds: f64,
}

/// Scores `text`. `on_event` hears of every pass, in tokens, and may break to cancel (`Error::Cancelled`).
pub fn run(
    model: &mut UnderTest<'_>,
    text: &str,
    options: &PerplexityOptions,
    on_event: &mut dyn FnMut(Event<()>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let start = model.clock.now();
    let context_len = model.decoder.context_len();
    let window = options.window.unwrap_or(context_len);
    if window < 2 || window > context_len {
        return Err(Error::Options(format!(
            "a window of {window} tokens cannot be scored: choose 2 to {context_len}, the context of this model"
        )));
    }
    let tokens = model
        .codec
        .encode(text, false, true)
        .map_err(|problem| Error::Text {
            what: format!("the text of {} bytes", text.len()),
            problem,
        })?;
    let windows: Vec<&[u32]> = tokens.chunks(window).filter(|w| w.len() > 1).collect();
    let total: usize = windows.iter().map(|w| w.len() - 1).sum();
    if total == 0 {
        return Err(Error::Options(format!(
            "the text has {} tokens, and a perplexity needs at least 2",
            tokens.len()
        )));
    }
    let mut scorer = Scorer {
        decoder: model.decoder,
        pass_tokens: options.pass_tokens.max(1),
        nll: 0.0,
        done: 0,
        total,
        on_event,
    };
    for group in windows.chunks((scorer.pass_tokens / window).max(1)) {
        scorer.group(group)?;
    }
    let nll_mean = scorer.nll / total as f64;
    Ok(Outcome {
        tokens: total,
        nll_mean,
        perplexity: nll_mean.exp(),
        text_tokens: tokens.len(),
        windows: tokens.len().div_ceil(window),
        window,
        seconds: model.clock.now().saturating_sub(start).as_secs_f64(),
    })
}

/// A run at work.
struct Scorer<'a> {
    decoder: &'a mut dyn Decoder,
    pass_tokens: usize,
    nll: f64,
    done: usize,
    total: usize,
    on_event: &'a mut dyn FnMut(Event<()>) -> ControlFlow<()>,
}

impl Scorer<'_> {
    /// Scores several windows at once, or one in several passes.
    fn group(&mut self, windows: &[&[u32]]) -> Result<(), Error> {
        let mut seqs = Vec::with_capacity(windows.len());
        let mut result = Ok(());
        for _ in windows {
            match self.decoder.open() {
                Ok(seq) => seqs.push(seq),
                Err(error) => result = Err(error.into()),
            }
        }
        let block = (self.pass_tokens / windows.len()).max(1);
        let longest = windows.iter().map(|w| w.len() - 1).max().unwrap_or(0);
        let mut from = 0;
        while result.is_ok() && from < longest {
            result = self.pass(windows, &seqs, from, from + block);
            from += block;
        }
        for seq in seqs {
            self.decoder.close(seq);
        }
        result
    }

    /// Runs tokens `from..to` of every window and scores the token after each.
    fn pass(
        &mut self,
        windows: &[&[u32]],
        seqs: &[SeqId],
        from: usize,
        to: usize,
    ) -> Result<(), Error> {
        let indices: Vec<usize> = (0..to - from).collect();
        let mut runs = Vec::with_capacity(windows.len());
        let mut targets = Vec::new();
        for (window, &seq) in windows.iter().zip(seqs) {
            // The last token of a window is scored but not run.
            let to = to.min(window.len() - 1);
            if from < to {
                runs.push(Run {
                    seq,
                    tokens: &window[from..to],
                    want: &indices[..to - from],
                });
                targets.extend_from_slice(&window[from + 1..=to]);
            }
        }
        let logits = self.decoder.forward(&runs)?;
        for (row, &target) in targets.iter().enumerate() {
            let ll = log_softmax(logits.row(row), &[target]).ok_or_else(|| {
                Error::NotANumber(format!("token {} of the text", self.done + row))
            })?;
            self.nll -= ll[0];
        }
        self.decoder.recycle(logits);
        self.done += targets.len();
        let event = Event::Step {
            what: "tokens scored".to_owned(),
            done: self.done,
            total: self.total,
        };
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{ByteCodec, FakeDecoder, hashed_logits};

    const CODEC: ByteCodec = ByteCodec { merges: false };

    fn score(
        decoder: &mut FakeDecoder,
        text: &str,
        window: Option<usize>,
        pass_tokens: usize,
    ) -> Result<Outcome, Error> {
        let clock = decoder.clock.clone();
        let mut model = UnderTest {
            decoder,
            codec: &CODEC,
            clock: &clock,
        };
        let options = PerplexityOptions {
            window,
            pass_tokens,
        };
        run(&mut model, text, &options, &mut |_| {
            ControlFlow::Continue(())
        })
    }

    /// The definition, token by token.
    fn by_hand(text: &str, window: usize) -> f64 {
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        let (mut nll, mut scored) = (0.0, 0);
        for window in tokens.chunks(window) {
            for i in 1..window.len() {
                let row = hashed_logits(&window[..i], ByteCodec::VOCAB);
                nll -= log_softmax(&row, &[window[i]]).expect("finite")[0];
                scored += 1;
            }
        }
        nll / f64::from(scored)
    }

    #[test]
    fn equals_the_definition_whatever_the_passes() {
        let text = "The quick brown fox jumps over the lazy dog.";
        for (window, pass_tokens) in [(64, 128), (64, 7), (10, 128), (10, 25), (11, 4), (2, 6)] {
            let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 64);
            let got = score(&mut decoder, text, Some(window), pass_tokens).expect("scored");
            assert!(
                (got.nll_mean - by_hand(text, window)).abs() < 1e-12,
                "{window}/{pass_tokens}"
            );
            assert_eq!(got.perplexity, got.nll_mean.exp());
            assert_eq!(got.text_tokens, 44);
            assert_eq!(got.tokens, text.len() - text.len().div_ceil(window));
            assert_eq!(
                decoder.tokens_run(),
                got.tokens,
                "nothing is run twice or in vain"
            );
            assert!(decoder.seqs.is_empty());
            for (runs, rows) in &decoder.passes {
                assert!(*rows <= pass_tokens.max(1) && runs.iter().sum::<usize>() == *rows);
            }
        }
    }

    #[test]
    fn a_lone_last_token_scores_nothing_and_bad_input_is_refused() {
        let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 8);
        let got = score(&mut decoder, "123456789", None, 128).expect("scored");
        assert_eq!((got.window, got.windows, got.tokens), (8, 2, 7));
        for (text, window, says) in [
            ("", None, "has 0 tokens"),
            ("x", None, "has 1 tokens"),
            ("xyz", Some(9), "choose 2 to 8"),
            ("xyz", Some(1), "choose 2 to 8"),
        ] {
            let error = score(&mut decoder, text, window, 128)
                .expect_err("refused")
                .to_string();
            assert!(error.contains(says), "{error}");
        }
        decoder.logits = |_, vocab| vec![f32::NAN; vocab];
        let error = score(&mut decoder, "xyz", None, 128).expect_err("NaN");
        assert!(matches!(error, Error::NotANumber(_)), "{error}");
        assert!(decoder.seqs.is_empty());
    }

    #[test]
    fn a_break_cancels_and_closes() {
        let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 64);
        let clock = decoder.clock.clone();
        let mut model = UnderTest {
            decoder: &mut decoder,
            codec: &CODEC,
            clock: &clock,
        };
        let options = PerplexityOptions {
            pass_tokens: 4,
            ..PerplexityOptions::default()
        };
        let got = run(&mut model, "many letters", &options, &mut |_| {
            ControlFlow::Break(())
        });
        assert!(matches!(got, Err(Error::Cancelled)));
        assert_eq!((decoder.passes.len(), decoder.seqs.len()), (1, 0));
    }
}
