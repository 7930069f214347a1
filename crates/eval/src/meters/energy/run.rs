//! Joules a token of a loaded model that generates, with the idle machine subtracted.
//!
//! The idle machine (the model loaded, nothing asked) is measured before and after; between them the model generates in
//! repeats of at least a given time and number of tokens. As in `speed`, tokens are pseudo-random, nothing is sampled, and
//! each text begins with an empty cache.

use std::ops::ControlFlow;
use std::time::Duration;

use billion_llm::decoder::{Decoder, Run};
use serde::{Deserialize, Serialize};

use super::{Gauge, Meter, Source, Stretch};
use crate::clock::{Clock, suspended_between};
use crate::meters::load::{CpuTimes, DISTURBED_CORES};
use crate::stats::Summary;
use crate::{Error, Event};

/// Longest time without a reading, an event and a look at whether it was cancelled.
const SLICE: Duration = Duration::from_millis(250);

/// After work fans and clocks calm down, and worker threads stop spinning; not counted.
const SETTLE: Duration = Duration::from_secs(1);

/// Idle powers that differ by more than this share of what the model adds are worth a note.
const IDLE_DRIFT: f64 = 0.2;

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyOptions {
    /// Tokens of each text.
    pub generate: usize,
    /// Idle time measured before, and again after.
    pub idle: Duration,
    /// Least time of a repeat; texts follow each other until it has passed. A source that needs longer gets longer.
    pub work: Duration,
    /// Repeats.
    pub repeat: usize,
}

impl Default for EnergyOptions {
    fn default() -> Self {
        Self {
            generate: 128,
            idle: Duration::from_secs(5),
            work: Duration::from_secs(4),
            repeat: 5,
        }
    }
}

/// What the run reads besides the model.
pub struct Instruments<'a> {
    /// Times readings.
    pub clock: &'a dyn Clock,
    /// Waits: `std::thread::sleep`.
    pub sleep: &'a dyn Fn(Duration),
    /// Opens the source: `|| open(&wanted)`.
    pub open: &'a dyn Fn() -> Result<Box<dyn Meter>, String>,
    /// Tells how busy the machine is: `CpuTimes::read`.
    pub cpu_times: &'a dyn Fn() -> Option<CpuTimes>,
    /// Tells whether the machine slept: `clock::time_suspended`.
    pub suspended: &'a dyn Fn() -> Option<Duration>,
}

/// One repeat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// Tokens generated.
    pub tokens: usize,
    /// Time.
    pub seconds: f64,
    /// Joules, the idle machine included.
    pub gross_joules: f64,
}

/// A finished run. Either all figures are there, or `reason` says why they are not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Who counted; none without a source.
    pub source: Option<Source>,
    /// What was counted, in words.
    pub covers: Option<String>,
    /// Joules by tokens of each repeat, less what the idle machine takes in the same time.
    pub joules_per_token: Option<Summary>,
    /// The same with the idle machine included.
    pub gross_joules_per_token: Option<Summary>,
    /// Mean power of the idle machine with the model loaded, before and after.
    pub idle_watts: Option<f64>,
    /// Mean power while generating.
    pub load_watts: Option<f64>,
    /// Tokens generated in all repeats.
    pub tokens: usize,
    /// Time of all repeats.
    pub seconds: f64,
    /// Tokens of each text.
    pub generate: usize,
    /// Cores that other programs kept busy during the repeats; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
    /// Why there are no figures, and what to do.
    pub reason: Option<String>,
}

/// Why a run ended without figures.
enum Stop {
    /// It is broken.
    Error(Error),
    /// The source does not tell, or not the truth.
    Unavailable(String),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Measures. `on_event` gets every repeat and several steps a second, and may break to cancel (`Error::Cancelled`). A
/// source that is missing or not to be believed is an outcome with its reason, no error.
pub fn run(
    decoder: &mut dyn Decoder,
    options: &EnergyOptions,
    instruments: &Instruments<'_>,
    on_event: &mut dyn FnMut(Event<Repeat>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    for (name, value) in [("gen", options.generate), ("repeat", options.repeat)] {
        if value == 0 {
            return Err(Error::Options(format!("{name} must be at least 1")));
        }
    }
    if options.generate > decoder.context_len() {
        return Err(Error::Options(format!(
            "{} tokens do not fit the context of this model, which holds {}; ask for fewer",
            options.generate,
            decoder.context_len()
        )));
    }
    let meter = match (instruments.open)() {
        Ok(meter) => meter,
        Err(why) => {
            return Ok(Outcome {
                generate: options.generate,
                reason: Some(why),
                ..Outcome::default()
            });
        }
    };
    let (source, covers) = (Some(meter.source()), Some(meter.covers()));
    let least = meter.least_window();
    let mut bench = Bench {
        decoder,
        gauge: Gauge::new(meter),
        options,
        idle: options.idle.max(least),
        work: options.work.max(least),
        instruments,
        on_event,
    };
    match bench.measure() {
        Ok(outcome) => Ok(Outcome {
            source,
            covers,
            ..outcome
        }),
        Err(Stop::Unavailable(why)) => Ok(Outcome {
            source,
            covers,
            generate: options.generate,
            reason: Some(why),
            ..Outcome::default()
        }),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// A run at work.
struct Bench<'a> {
    decoder: &'a mut dyn Decoder,
    gauge: Gauge,
    options: &'a EnergyOptions,
    idle: Duration,
    work: Duration,
    instruments: &'a Instruments<'a>,
    on_event: &'a mut dyn FnMut(Event<Repeat>) -> ControlFlow<()>,
}

impl Bench<'_> {
    fn measure(&mut self) -> Result<Outcome, Stop> {
        let awake = (self.instruments.suspended)();
        let before = self.rest(0)?;
        self.generate(0, Duration::ZERO, 1)?;
        let others_before = (self.instruments.cpu_times)();
        let mut repeats = Vec::with_capacity(self.options.repeat);
        for done in 1..=self.options.repeat {
            let sample = self.generate(self.options.generate, self.work, done)?;
            repeats.push(sample);
            let event = Event::Answered {
                sample,
                done: done + 1,
                total: self.stages(),
            };
            if (self.on_event)(event).is_break() {
                return Err(Error::Cancelled.into());
            }
        }
        let others = match (others_before, (self.instruments.cpu_times)()) {
            (Some(before), Some(after)) => after.others_since(&before),
            _ => None,
        };
        let after = self.rest(self.options.repeat + 1)?;
        if let Some(slept) = suspended_between(awake, (self.instruments.suspended)()) {
            return Err(Stop::Unavailable(format!(
                "the machine was suspended for {:.0} s meanwhile; measure again while it stays awake",
                slept.as_secs_f64()
            )));
        }
        summarise(
            self.gauge.meter.as_ref(),
            [before, after],
            &repeats,
            self.options.generate,
            others,
        )
        .map_err(Stop::Unavailable)
    }

    /// Idle before, the repeats, idle after.
    fn stages(&self) -> usize {
        self.options.repeat + 2
    }

    /// The idle machine; `stage` stages are done.
    fn rest(&mut self, stage: usize) -> Result<Stretch, Stop> {
        self.wait(SETTLE, stage)?;
        let (begin, first) = self.read()?;
        self.wait(self.idle, stage)?;
        let (end, last) = self.read()?;
        Ok(Stretch {
            joules: last - first,
            seconds: end.saturating_sub(begin).as_secs_f64(),
        })
    }

    fn wait(&mut self, time: Duration, stage: usize) -> Result<(), Stop> {
        let end = self.instruments.clock.now() + time;
        loop {
            let left = end.saturating_sub(self.instruments.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            (self.instruments.sleep)(left.min(SLICE));
            self.read()?;
            self.tell("the idle machine", stage)?;
        }
    }

    /// Generates texts until both `tokens` and `time` are reached; `stage` stages are done.
    fn generate(&mut self, tokens: usize, time: Duration, stage: usize) -> Result<Repeat, Stop> {
        let vocab_size = self.decoder.vocab_size();
        let text = crate::meters::speed::tokens(0, self.options.generate, vocab_size);
        let (begin, first) = self.read()?;
        let (mut now, mut done) = (begin, 0);
        while done == 0 || done < tokens || now.saturating_sub(begin) < time {
            let seq = self.decoder.open()?;
            let written = self.write(seq, &text, begin + time, &mut done, (tokens, stage));
            self.decoder.close(seq);
            written?;
            now = self.instruments.clock.now();
        }
        let (end, last) = self.read()?;
        Ok(Repeat {
            tokens: done,
            seconds: end.saturating_sub(begin).as_secs_f64(),
            gross_joules: last - first,
        })
    }

    /// One text, to its end or until both `end` and the tokens wanted are reached.
    fn write(
        &mut self,
        seq: billion_llm::decoder::SeqId,
        text: &[u32],
        end: Duration,
        done: &mut usize,
        (wanted, stage): (usize, usize),
    ) -> Result<(), Stop> {
        let mut told = self.instruments.clock.now();
        for token in text.chunks(1) {
            let logits = self.decoder.forward(&[Run {
                seq,
                tokens: token,
                want: &[0],
            }])?;
            *done += 1;
            if logits.data.iter().any(|x| x.is_nan()) {
                return Err(Error::NotANumber("random tokens".to_owned()).into());
            }
            self.decoder.recycle(logits);
            let now = self.instruments.clock.now();
            if now.saturating_sub(told) >= SLICE {
                told = now;
                self.read()?;
                self.tell("generating", stage)?;
            }
            if now >= end && *done >= wanted {
                break;
            }
        }
        Ok(())
    }

    fn tell(&mut self, what: &str, done: usize) -> Result<(), Error> {
        let event = Event::Step {
            what: what.to_owned(),
            done,
            total: self.stages(),
        };
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// The time and the joules until now.
    fn read(&mut self) -> Result<(Duration, f64), Stop> {
        let now = self.instruments.clock.now();
        let joules = self.gauge.poll(now).map_err(Stop::Unavailable)?;
        Ok((now, joules))
    }
}

/// Figures from what was read; an error says why there are none.
fn summarise(
    meter: &dyn Meter,
    idle: [Stretch; 2],
    repeats: &[Repeat],
    generate: usize,
    others: Option<f64>,
) -> Result<Outcome, String> {
    let [before, after] = [idle[0].watts(meter)?, idle[1].watts(meter)?];
    let idle_watts = (idle[0].joules + idle[1].joules) / (idle[0].seconds + idle[1].seconds);
    let mut load = Stretch::default();
    let mut net = Vec::with_capacity(repeats.len());
    let mut gross = Vec::with_capacity(repeats.len());
    for repeat in repeats {
        let stretch = Stretch {
            joules: repeat.gross_joules,
            seconds: repeat.seconds,
        };
        stretch.watts(meter)?;
        load.joules += stretch.joules;
        load.seconds += stretch.seconds;
        gross.push(stretch.joules / repeat.tokens as f64);
        net.push((stretch.joules - idle_watts * stretch.seconds) / repeat.tokens as f64);
    }
    let load_watts = load.watts(meter)?;
    let added = load_watts - idle_watts;
    if added <= 0.0 || net.iter().any(|&joules| joules <= 0.0) {
        return Err(format!(
            "the machine took {load_watts:.1} W with the model at work and {idle_watts:.1} W without, so nothing can be told of the model; close other programs and measure again"
        ));
    }
    let summary = |runs: &[f64]| {
        Summary::of(runs).ok_or_else(|| format!("readings are no numbers: {runs:?}"))
    };
    let joules_per_token = summary(&net)?;
    let mut notes = Vec::new();
    if let Some(cores) = others.filter(|&cores| cores >= DISTURBED_CORES) {
        notes.push(format!(
            "other programs kept {cores:.1} cores busy meanwhile, and their energy is counted too, so the figures may be too high"
        ));
    }
    if (before - after).abs() > IDLE_DRIFT * added {
        notes.push(format!(
            "the idle machine took {before:.1} W before and {after:.1} W after, beside {added:.1} W of the model, so the figures are that much less sure"
        ));
    }
    if !joules_per_token.outliers.is_empty() {
        notes.push(format!(
            "{} of {} repeats lie far from the median",
            joules_per_token.outliers.len(),
            net.len()
        ));
    }
    Ok(Outcome {
        joules_per_token: Some(joules_per_token),
        gross_joules_per_token: Some(summary(&gross)?),
        idle_watts: Some(idle_watts),
        load_watts: Some(load_watts),
        tokens: repeats.iter().map(|repeat| repeat.tokens).sum(),
        seconds: load.seconds,
        generate,
        other_cores_busy: others,
        notes,
        ..Outcome::default()
    })
}
