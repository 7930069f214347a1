//! Energy: what a machine says of its own consumption, who says it, and why it does not where it does not.
//!
//! A `Meter` is one opened source of readings; `open` tries the sources that can be true of a device, in order. `run`
//! measures joules a token with the idle machine subtracted; `Recorder` counts the joules of any piece of work. No figure
//! is ever estimated: a source that is not there, or says what cannot be, gives a reason in words and no figure.

mod apple;
mod battery;
#[cfg(any(target_os = "linux", windows))]
mod nvidia;
mod powercap;
mod recorder;
mod run;
// A recorded Linux machine would be asked for Apple's counters too elsewhere.
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use recorder::{Recorder, Recording};
pub use run::{EnergyOptions, Instruments, Outcome, Repeat, run};

/// Who counts the joules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Intel's and AMD's Running Average Power Limit counters, through Linux' powercap.
    Rapl,
    /// NVIDIA's management library.
    Nvml,
    /// Apple silicon's energy counters.
    IoReport,
    /// What a discharging battery gives.
    Battery,
}

impl Source {
    /// As `--json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Nvml => "nvml",
            Self::IoReport => "ioreport",
            Self::Battery => "battery",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Rapl => "RAPL",
            Self::Nvml => "NVML",
            Self::IoReport => "IOReport",
            Self::Battery => "battery",
        }
    }
}

/// An opened source of readings.
pub trait Meter {
    /// Who counts.
    fn source(&self) -> Source;
    /// What is counted, in words.
    fn covers(&self) -> String;
    /// Joules since the first poll, which gives 0. `now` is a monotonic time; polls are at most `POLL_AT_LEAST` apart, or
    /// a counter may have wrapped around more than once and a power changed unseen. An error says why in words.
    fn poll(&mut self, now: Duration) -> Result<f64, String>;
    /// The shortest time over which its figure means something.
    fn least_window(&self) -> Duration;
    /// More watts than this are a faulty reading.
    fn most_watts(&self) -> f64;
}

/// Longest time between two polls.
pub const POLL_AT_LEAST: Duration = Duration::from_secs(2);

/// A counter may tell up to this much of the past at once (a fuel gauge moves in steps), so the watts of a single poll are
/// judged with it.
const STEP: Duration = Duration::from_secs(1);

/// Which sources can be true, and where they are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where `sys` and `proc` are: "/", or a recorded tree.
    pub root: PathBuf,
    /// Where the model runs: "cpu", "cuda" or "metal".
    pub device: String,
}

impl Wanted {
    /// On this machine.
    pub fn of_device(device: &str) -> Self {
        Self {
            root: PathBuf::from("/"),
            device: device.to_owned(),
        }
    }
}

/// Opens the first source that can be true of the device: for the processor RAPL, IOReport, the battery; for CUDA NVML,
/// the battery; for Metal IOReport, the battery. Without one, why not, source by source, and what would help.
pub fn open(wanted: &Wanted) -> Result<Box<dyn Meter>, String> {
    let order: &[Source] = match wanted.device.as_str() {
        "cuda" => &[Source::Nvml, Source::Battery],
        "metal" => &[Source::IoReport, Source::Battery],
        _ => &[Source::Rapl, Source::IoReport, Source::Battery],
    };
    let mut reasons = Vec::new();
    for &source in order {
        let opened = match source {
            Source::Rapl => powercap::open(&wanted.root),
            #[cfg(any(target_os = "linux", windows))]
            Source::Nvml => nvidia::open(),
            #[cfg(not(any(target_os = "linux", windows)))]
            Source::Nvml => Err("NVIDIA has no driver for this system".to_owned()),
            // Elsewhere nobody expects Apple's counters, and nobody needs to be told.
            Source::IoReport if !cfg!(target_os = "macos") => continue,
            Source::IoReport => apple::open(),
            Source::Battery => battery::open(&wanted.root),
        };
        match opened {
            Ok(meter) => return Ok(meter),
            Err(why) => reasons.push(format!("{}: {why}", source.words())),
        }
    }
    Err(reasons.join(". "))
}

/// Correct MMLU answers per watt-hour: questions answered right by the energy that answering all of them took, idle
/// subtracted, in watt-hours (3,600 joules). None where the energy is no positive number.
pub fn correct_per_wh(correct: u64, net_joules: f64) -> Option<f64> {
    (net_joules.is_finite() && net_joules > 0.0).then(|| correct as f64 / (net_joules / 3600.0))
}

/// Polls a meter and refuses what cannot be: an energy that falls, or rises faster than anything can consume.
struct Gauge {
    meter: Box<dyn Meter>,
    last: Option<(Duration, f64)>,
}

impl Gauge {
    fn new(meter: Box<dyn Meter>) -> Self {
        Self { meter, last: None }
    }

    /// Joules since the first poll.
    fn poll(&mut self, now: Duration) -> Result<f64, String> {
        let joules = self.meter.poll(now)?;
        if let Some((then, before)) = self.last {
            let seconds = now.saturating_sub(then) + STEP;
            let most = self.meter.most_watts() * seconds.as_secs_f64();
            if !joules.is_finite() || joules < before || joules - before > most {
                return Err(format!(
                    "implausible reading: {:.1} J within {:.2} s (at most {:.0} W are believed); the counter was reset or is faulty",
                    joules - before,
                    now.saturating_sub(then).as_secs_f64(),
                    self.meter.most_watts()
                ));
            }
        }
        self.last = Some((now, joules));
        Ok(joules)
    }
}

/// Energy over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stretch {
    joules: f64,
    seconds: f64,
}

impl Stretch {
    /// Watts, refused where they cannot be.
    fn watts(self, meter: &dyn Meter) -> Result<f64, String> {
        let Self { joules, seconds } = self;
        if seconds <= 0.0 || !seconds.is_finite() {
            return Err(format!("no energy can be told of {seconds} s"));
        }
        let watts = joules / seconds;
        if joules == 0.0 {
            return Err(format!(
                "the counter did not move in {seconds:.1} s, so it does not count on this machine"
            ));
        }
        if !watts.is_finite() || watts < 0.0 || watts > meter.most_watts() {
            return Err(format!(
                "implausible reading: {watts:.1} W over {seconds:.1} s (more than 0 and at most {:.0} W are believed)",
                meter.most_watts()
            ));
        }
        Ok(watts)
    }
}
