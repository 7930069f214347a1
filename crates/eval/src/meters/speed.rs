//! Speed of a loaded model: reading a prompt and generating, measured apart, as llama-bench does.
//!
//! Tokens are pseudo-random and generation does not sample, so the figures are the model's own. Each repeat starts from an
//! empty cache, or from one that holds `depth` tokens. What is timed is stated on each field of `Outcome`.
//!
//! A run is refused (`Error::Implausible`) if in any repeat the clock stood still or went backwards, the machine was
//! suspended, or the weights were read or multiplied faster than any machine can (`MOST_WEIGHT_BYTES_PER_S`,
//! `MOST_OPERATIONS_PER_S`). A repeat that merely lies far from the others stays, and is named.

use std::ops::ControlFlow;
use std::time::Duration;

use billion_llm::decoder::{Decoder, Logits, Run, SeqId};
use billion_llm::generate::greedy;
use serde::{Deserialize, Serialize};

use super::load::{CpuTimes, DISTURBED_CORES};
use crate::clock::{Clock, suspended_between};
use crate::stats::Summary;
use crate::{Error, Event};

/// Prompt tokens a sequence takes in one pass, as many as llama-bench's physical batch.
const PASS_TOKENS: usize = 512;

/// Untimed tokens generated before the first repeat.
const WARM_UP_TOKENS: usize = 4;

/// Each pass reads every weight once (those of the embedding aside), and nothing reads faster than this: 2.5 times the
/// memory of the fastest accelerators (8 TB/s, HBM3e), which is room for the caches of a processor with a tiny model.
const MOST_WEIGHT_BYTES_PER_S: f64 = 20e12;

/// Each token of a prompt takes two operations a weight, and a weight has at most four bytes. The fastest accelerators
/// reach 4.5e15 dense eight-bit operations a second.
const MOST_OPERATIONS_PER_S: f64 = 10e15;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeedOptions {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub generate: usize,
    /// Repeats.
    pub repeat: usize,
    /// Sequences that run together.
    pub batch: usize,
    /// Tokens in each cache before the clock starts.
    pub depth: usize,
}

impl Default for SpeedOptions {
    fn default() -> Self {
        Self {
            prompt: 512,
            generate: 64,
            repeat: 5,
            batch: 1,
            depth: 0,
        }
    }
}

/// What the run reads besides the model.
pub struct Instruments<'a> {
    /// Times the passes.
    pub clock: &'a dyn Clock,
    /// Tells how busy the machine is: `CpuTimes::read`.
    pub cpu_times: &'a dyn Fn() -> Option<CpuTimes>,
    /// Tells whether the machine slept: `clock::time_suspended`.
    pub suspended: &'a dyn Fn() -> Option<Duration>,
}

/// One repeat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// As in `Outcome`.
    pub prefill_tokens_per_s: f64,
    /// As in `Outcome`.
    pub decode_tokens_per_s: f64,
    /// As in `Outcome`.
    pub ttft_s: f64,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Prompt tokens of all sequences by the time of the passes over them, logits of the last position included.
    pub prefill_tokens_per_s: Summary,
    /// Tokens of all sequences by the time of as many passes of one token each, logits included.
    pub decode_tokens_per_s: Summary,
    /// From the start of a single prompt of `prompt` tokens to its first token chosen (greedy), tokenizing excluded.
    pub ttft_s: Summary,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub generate: usize,
    /// Sequences that ran together.
    pub batch: usize,
    /// Tokens in each cache before the clock started.
    pub depth: usize,
    /// Cores that other programs kept busy meanwhile; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
    /// Time of the whole run.
    pub seconds: f64,
}

/// Measures. `on_event` gets every repeat and may break to cancel (`Error::Cancelled`).
pub fn run(
    decoder: &mut dyn Decoder,
    options: &SpeedOptions,
    instruments: &Instruments<'_>,
    on_event: &mut dyn FnMut(Event<Repeat>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    check(options, decoder.context_len())?;
    let mut bench = Bench {
        decoder,
        clock: instruments.clock,
        options,
        bases: Vec::new(),
    };
    let result = bench.measure(instruments, on_event);
    for seq in std::mem::take(&mut bench.bases) {
        bench.decoder.close(seq);
    }
    result
}

fn check(options: &SpeedOptions, context_len: usize) -> Result<(), Error> {
    for (name, value) in [
        ("prompt", options.prompt),
        ("gen", options.generate),
        ("repeat", options.repeat),
        ("batch", options.batch),
    ] {
        if value == 0 {
            return Err(Error::Options(format!("{name} must be at least 1")));
        }
    }
    let need = options.depth + options.prompt.max(options.generate);
    if need > context_len {
        return Err(Error::Options(format!(
            "a depth of {} tokens and {} more need a context of {need} tokens, but this model holds {context_len}; ask for fewer",
            options.depth,
            options.prompt.max(options.generate)
        )));
    }
    Ok(())
}

/// `count` pseudo-random token ids below `vocab_size`, the same for the same `seed` (D. Knuth's MMIX generator).
pub(crate) fn tokens(seed: u64, count: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocab_size as u64) as u32
        })
        .collect()
}

/// A run at work.
struct Bench<'a> {
    decoder: &'a mut dyn Decoder,
    clock: &'a dyn Clock,
    options: &'a SpeedOptions,
    /// One sequence of `depth` tokens for each of the batch; none without depth.
    bases: Vec<SeqId>,
}

impl Bench<'_> {
    fn measure(
        &mut self,
        instruments: &Instruments<'_>,
        on_event: &mut dyn FnMut(Event<Repeat>) -> ControlFlow<()>,
    ) -> Result<Outcome, Error> {
        let Instruments {
            cpu_times,
            suspended,
            ..
        } = instruments;
        let options = self.options;
        let start = self.clock.now();
        if options.depth > 0 {
            for i in 0..options.batch {
                let seq = self.decoder.open()?;
                self.bases.push(seq);
                let tokens = self.tokens(i, options.depth);
                self.prefill(&[seq], &[tokens])?;
            }
        }
        self.prefill_time(options.batch)?;
        self.decode_time(options.generate.min(WARM_UP_TOKENS))?;
        let step = Event::Step {
            what: "warm-up".to_owned(),
            done: 0,
            total: options.repeat,
        };
        if on_event(step).is_break() {
            return Err(Error::Cancelled);
        }
        let before = cpu_times();
        let mut repeats = Vec::with_capacity(options.repeat);
        for done in 1..=options.repeat {
            let awake = suspended();
            let (prefill_s, mut ttft_s) = self.prefill_time(options.batch)?;
            if options.batch > 1 || options.depth > 0 {
                ttft_s = self.single_ttft()?;
            }
            let decode_s = self.decode_time(options.generate)?;
            if let Some(slept) = suspended_between(awake, suspended()) {
                return Err(Error::Implausible(format!(
                    "the machine was suspended for {:.0} s during repeat {done}; measure again while it stays awake",
                    slept.as_secs_f64()
                )));
            }
            self.possible(prefill_s, decode_s)?;
            let sample = Repeat {
                prefill_tokens_per_s: rate("prefill", options.batch * options.prompt, prefill_s)?,
                decode_tokens_per_s: rate("decode", options.batch * options.generate, decode_s)?,
                ttft_s,
            };
            repeats.push(sample);
            let event = Event::Answered {
                sample,
                done,
                total: options.repeat,
            };
            if on_event(event).is_break() {
                return Err(Error::Cancelled);
            }
        }
        let others = match (before, cpu_times()) {
            (Some(before), Some(after)) => after.others_since(&before),
            _ => None,
        };
        let summary = |of: fn(&Repeat) -> f64| {
            let runs: Vec<f64> = repeats.iter().map(of).collect();
            Summary::of(&runs)
                .ok_or_else(|| Error::Implausible(format!("timings are not numbers: {runs:?}")))
        };
        let prefill_tokens_per_s = summary(|r| r.prefill_tokens_per_s)?;
        let decode_tokens_per_s = summary(|r| r.decode_tokens_per_s)?;
        Ok(Outcome {
            notes: notes(&prefill_tokens_per_s, &decode_tokens_per_s, others),
            prefill_tokens_per_s,
            decode_tokens_per_s,
            ttft_s: summary(|r| r.ttft_s)?,
            prompt: options.prompt,
            generate: options.generate,
            batch: options.batch,
            depth: options.depth,
            other_cores_busy: others,
            seconds: self.clock.now().saturating_sub(start).as_secs_f64(),
        })
    }

    /// Refuses times in which no machine can read the weights or multiply by them; `rate` refuses those of zero.
    fn possible(&self, prefill_s: f64, decode_s: f64) -> Result<(), Error> {
        let Self {
            options, decoder, ..
        } = self;
        let weights = decoder.weights_bytes() as f64;
        let read = weights * options.generate as f64 / decode_s;
        if decode_s > 0.0 && read > MOST_WEIGHT_BYTES_PER_S {
            return Err(Error::Implausible(format!(
                "the clock says that {} passes over {:.2} GB of weights took {decode_s} s, which is {:.0} TB/s; no memory reads more than {:.0} TB/s, so the time is wrong",
                options.generate,
                weights / 1e9,
                read / 1e12,
                MOST_WEIGHT_BYTES_PER_S / 1e12
            )));
        }
        let operations = weights / 4.0 * 2.0 * (options.batch * options.prompt) as f64 / prefill_s;
        if prefill_s > 0.0 && operations > MOST_OPERATIONS_PER_S {
            return Err(Error::Implausible(format!(
                "the clock says that {} prompt tokens took {prefill_s} s with {:.2} GB of weights, which is {operations:.1e} operations/s; no machine does more than {MOST_OPERATIONS_PER_S:.0e}, so the time is wrong",
                options.batch * options.prompt,
                weights / 1e9
            )));
        }
        Ok(())
    }

    /// Time of reading `batch` prompts together, and of that plus choosing the first token.
    fn prefill_time(&mut self, batch: usize) -> Result<(f64, f64), Error> {
        let prompts: Vec<Vec<u32>> = (0..batch)
            .map(|i| self.tokens(self.options.batch + i, self.options.prompt))
            .collect();
        let seqs = self.start(batch)?;
        let begin = self.clock.now();
        let result = self.prefill(&seqs, &prompts);
        let read = self.clock.now();
        let chosen = result.as_ref().map(|logits| greedy(logits.row(0)));
        // The choice must not be optimised away.
        let finished = std::hint::black_box(chosen).map(|_| self.clock.now());
        self.close(&seqs);
        let finished = finished.unwrap_or(read);
        finite(&result?, "a prompt of random tokens")?;
        Ok((elapsed(begin, read)?, elapsed(begin, finished)?))
    }

    /// Time to the first token of a single sequence from an empty cache.
    fn single_ttft(&mut self) -> Result<f64, Error> {
        let bases = std::mem::take(&mut self.bases);
        let result = self.prefill_time(1);
        self.bases = bases;
        Ok(result?.1)
    }

    /// Time of `count` passes of one token for each sequence.
    fn decode_time(&mut self, count: usize) -> Result<f64, Error> {
        let seqs = self.start(self.options.batch)?;
        let texts: Vec<Vec<u32>> = (0..seqs.len())
            .map(|i| self.tokens(2 * self.options.batch + i, count))
            .collect();
        let mut last = Ok(Logits::default());
        let mut runs = Vec::with_capacity(seqs.len());
        let begin = self.clock.now();
        for step in 0..count {
            runs.clear();
            runs.extend(seqs.iter().zip(&texts).map(|(&seq, text)| Run {
                seq,
                tokens: &text[step..=step],
                want: &[0],
            }));
            if let Ok(read) = &mut last {
                self.decoder.recycle(std::mem::take(read));
            }
            last = self.decoder.forward(&runs);
            if last.is_err() {
                break;
            }
        }
        let end = self.clock.now();
        self.close(&seqs);
        finite(&last?, "random tokens")?;
        elapsed(begin, end)
    }

    /// Appends a text to each sequence, pass by pass, and gives the logits after the last token of each.
    fn prefill(&mut self, seqs: &[SeqId], texts: &[Vec<u32>]) -> Result<Logits, Error> {
        let len = texts.first().map_or(0, Vec::len);
        let mut logits = Logits::default();
        let mut from = 0;
        while from < len {
            let to = len.min(from + PASS_TOKENS);
            let last = [to - from - 1];
            let want: &[usize] = if to == len { &last } else { &[] };
            let runs: Vec<Run<'_>> = seqs
                .iter()
                .zip(texts)
                .map(|(&seq, text)| Run {
                    seq,
                    tokens: &text[from..to],
                    want,
                })
                .collect();
            logits = self.decoder.forward(&runs)?;
            from = to;
        }
        Ok(logits)
    }

    /// Sequences that hold `depth` tokens, or none.
    fn start(&mut self, count: usize) -> Result<Vec<SeqId>, Error> {
        let mut seqs = Vec::with_capacity(count);
        for i in 0..count {
            let seq = match self.bases.get(i) {
                Some(&base) => self.decoder.fork(base, self.options.depth),
                None => self.decoder.open(),
            };
            match seq {
                Ok(seq) => seqs.push(seq),
                Err(error) => {
                    self.close(&seqs);
                    return Err(error.into());
                }
            }
        }
        Ok(seqs)
    }

    fn close(&mut self, seqs: &[SeqId]) {
        for &seq in seqs {
            self.decoder.close(seq);
        }
    }

    fn tokens(&self, seed: usize, count: usize) -> Vec<u32> {
        tokens(seed as u64, count, self.decoder.vocab_size())
    }
}

fn finite(logits: &Logits, what: &str) -> Result<(), Error> {
    if logits.data.iter().any(|x| x.is_nan()) {
        return Err(Error::NotANumber(what.to_owned()));
    }
    Ok(())
}

/// Seconds between two readings of the clock.
fn elapsed(begin: Duration, end: Duration) -> Result<f64, Error> {
    let time = end.checked_sub(begin).ok_or_else(|| {
        Error::Implausible(format!(
            "the clock went backwards by {:.3} s; measure again",
            begin.saturating_sub(end).as_secs_f64()
        ))
    })?;
    Ok(time.as_secs_f64())
}

/// Tokens a second; a time that is not above zero is refused.
fn rate(what: &str, tokens: usize, seconds: f64) -> Result<f64, Error> {
    if seconds.is_finite() && seconds > 0.0 {
        return Ok(tokens as f64 / seconds);
    }
    Err(Error::Implausible(format!(
        "the clock says that {what} of {tokens} tokens took {seconds} s; measure more tokens"
    )))
}

fn notes(prefill: &Summary, decode: &Summary, others: Option<f64>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(cores) = others.filter(|&cores| cores >= DISTURBED_CORES) {
        notes.push(format!(
            "other programs kept {cores:.1} cores busy meanwhile, so the figures may be too low"
        ));
    }
    for (what, summary) in [("prefill", prefill), ("decode", decode)] {
        if !summary.outliers.is_empty() {
            let far: Vec<String> = summary
                .outliers
                .iter()
                .map(|&i| format!("{:.1}", summary.runs[i]))
                .collect();
            notes.push(format!(
                "{what}: {} of {} repeats lie far from the median ({} against {:.1} tokens/s)",
                far.len(),
                summary.runs.len(),
                far.join(", "),
                summary.median
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeDecoder;

    /// A pass costs 1 ms and each token 10 µs.
    fn decoder(context_len: usize) -> FakeDecoder {
        FakeDecoder {
            micros_per_pass: 1000,
            micros_per_token: 10,
            ..FakeDecoder::new(50, context_len)
        }
    }

    fn measure(decoder: &mut FakeDecoder, options: &SpeedOptions) -> Result<Outcome, Error> {
        let clock = decoder.clock.clone();
        let instruments = Instruments {
            clock: &clock,
            cpu_times: &|| None,
            suspended: &|| None,
        };
        run(decoder, options, &instruments, &mut |_| {
            ControlFlow::Continue(())
        })
    }

    fn near(got: f64, want: f64) {
        assert!((got / want - 1.0).abs() < 1e-9, "{got} is not {want}");
    }

    #[test]
    fn prefill_and_decode_are_timed_apart() {
        let mut fake = decoder(2000);
        let options = SpeedOptions {
            prompt: 600,
            generate: 20,
            repeat: 3,
            ..SpeedOptions::default()
        };
        let got = measure(&mut fake, &options).expect("measured");
        // 600 tokens in two passes: 2 + 6 ms. 20 tokens in 20 passes: 20.2 ms.
        near(got.prefill_tokens_per_s.median, 600.0 / 0.008);
        near(got.decode_tokens_per_s.median, 20.0 / 0.0202);
        near(got.ttft_s.median, 0.008);
        assert_eq!(got.prefill_tokens_per_s.runs.len(), 3);
        assert_eq!((got.other_cores_busy, got.notes.len()), (None, 0));
        // Warm-up: one prefill and 4 tokens.
        assert_eq!(fake.passes.len(), (2 + 4) + 3 * (2 + 20));
        assert!(fake.seqs.is_empty());
    }

    #[test]
    fn batch_and_depth_count_every_sequence_and_only_timed_tokens() {
        let mut fake = decoder(200);
        let options = SpeedOptions {
            prompt: 100,
            generate: 10,
            repeat: 1,
            batch: 4,
            depth: 100,
        };
        let got = measure(&mut fake, &options).expect("measured");
        near(got.prefill_tokens_per_s.median, 400.0 / 0.005);
        near(got.decode_tokens_per_s.median, 40.0 / (10.0 * 0.00104));
        // Time to the first token is that of one prompt in an empty cache.
        near(got.ttft_s.median, 0.002);
        assert_eq!(
            fake.passes.iter().filter(|p| p.0 == [1, 1, 1, 1]).count(),
            4 + 10
        );
        assert!(fake.seqs.is_empty());
        let error = measure(
            &mut fake,
            &SpeedOptions {
                depth: 101,
                ..options
            },
        )
        .expect_err("long");
        assert!(
            error.to_string().contains("context of 201 tokens"),
            "{error}"
        );
    }

    #[test]
    fn implausible_runs_are_refused() {
        let mut still = FakeDecoder::new(50, 2000);
        let error = measure(&mut still, &SpeedOptions::default()).expect_err("no time passed");
        assert!(error.to_string().contains("took 0 s"), "{error}");
        let mut broken = decoder(2000);
        broken.logits = |_, vocab| vec![f32::NAN; vocab];
        let error = measure(&mut broken, &SpeedOptions::default()).expect_err("NaN");
        assert!(matches!(error, Error::NotANumber(_)), "{error}");
        assert!(broken.seqs.is_empty() && still.seqs.is_empty());
        let none = SpeedOptions {
            repeat: 0,
            ..SpeedOptions::default()
        };
        let error = measure(&mut broken, &none).expect_err("no repeats");
        assert_eq!(error.to_string(), "repeat must be at least 1");
    }

    #[test]
    fn times_that_no_machine_reaches_and_suspensions_are_refused() {
        // 1,000 bytes in a nanosecond are 1 TB/s; the fake's clock counts microseconds.
        let bench = |decode_s: f64, prefill_s: f64| {
            Bench {
                decoder: &mut decoder(2000),
                clock: &crate::fakes::FakeClock::default(),
                options: &SpeedOptions {
                    prompt: 1000,
                    generate: 100,
                    ..SpeedOptions::default()
                },
                bases: Vec::new(),
            }
            .possible(prefill_s, decode_s)
            .map_err(|error| error.to_string())
        };
        assert_eq!(bench(6e-9, 1.0), Ok(()));
        let says = bench(4e-9, 1.0).expect_err("too fast");
        assert!(
            says.contains("25 TB/s") && says.contains("20 TB/s"),
            "{says}"
        );
        assert_eq!(bench(1.0, 6e-11), Ok(()));
        let says = bench(1.0, 4e-11).expect_err("too fast");
        assert!(says.contains("1.2e16 operations/s"), "{says}");
        let says = elapsed(Duration::from_secs(3), Duration::from_secs(1)).expect_err("backwards");
        assert!(says.to_string().contains("backwards by 2.000 s"), "{says}");

        let mut fake = decoder(2000);
        let clock = fake.clock.clone();
        let slept = std::cell::Cell::new(0);
        let instruments = Instruments {
            clock: &clock,
            cpu_times: &|| None,
            suspended: &|| {
                slept.set(slept.get() + 1);
                // Between the fourth reading and the third: in the second repeat.
                Some(Duration::from_secs(if slept.get() >= 4 { 70 } else { 10 }))
            },
        };
        let error = run(
            &mut fake,
            &SpeedOptions::default(),
            &instruments,
            &mut |_| ControlFlow::Continue(()),
        )
        .expect_err("suspended");
        assert!(
            error
                .to_string()
                .contains("suspended for 60 s during repeat 2"),
            "{error}"
        );
        assert!(fake.seqs.is_empty());
    }

    #[test]
    fn competing_load_and_outliers_are_told_and_a_break_cancels() {
        let mut fake = decoder(2000);
        let clock = fake.clock.clone();
        let reads = std::cell::Cell::new(0);
        let cpu_times = || {
            reads.set(reads.get() + 1);
            Some(CpuTimes {
                busy: 150 * reads.get(),
                total: 200 * reads.get(),
                own: 50 * reads.get(),
                cores: 2,
            })
        };
        let instruments = Instruments {
            clock: &clock,
            cpu_times: &cpu_times,
            suspended: &|| None,
        };
        let options = SpeedOptions::default();
        let mut repeats = 0;
        let got = run(&mut fake, &options, &instruments, &mut |event| {
            repeats += usize::from(matches!(event, Event::Answered { .. }));
            ControlFlow::Continue(())
        })
        .expect("measured");
        assert_eq!((repeats, got.other_cores_busy), (5, Some(1.0)));
        assert!(
            got.notes[0].contains("kept 1.0 cores busy"),
            "{:?}",
            got.notes
        );
        let broken = run(&mut fake, &options, &instruments, &mut |_| {
            ControlFlow::Break(())
        });
        assert!(matches!(broken, Err(Error::Cancelled)) && fake.seqs.is_empty());

        let prefill = Summary::of(&[100.0, 101.0, 99.0, 20.0, 100.5]).expect("finite");
        let decode = Summary::of(&[10.0]).expect("finite");
        let says = notes(&prefill, &decode, Some(0.1));
        assert_eq!(
            says,
            ["prefill: 1 of 5 repeats lie far from the median (20.0 against 100.0 tokens/s)"]
        );
    }
}
