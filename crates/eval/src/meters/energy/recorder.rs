//! Counts the joules of any piece of work while it runs elsewhere: in this process, or in another one of this machine.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Gauge, Meter, POLL_AT_LEAST, Source, Stretch};
use crate::clock::{Clock, SystemClock, suspended_between, time_suspended};

/// How often the meter is read meanwhile: a power that changes is followed, and a counter that wraps around is seen to.
const POLL_EVERY: Duration = Duration::from_millis(500);
const _: () = assert!(POLL_EVERY.as_nanos() < POLL_AT_LEAST.as_nanos());

/// Counts from `start` to `stop`, in a thread of its own. Dropped, it ends without a result.
#[derive(Debug)]
pub struct Recorder {
    stop: Sender<()>,
    thread: JoinHandle<Recording>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Who counted; none without a source.
    pub source: Option<Source>,
    /// What was counted, in words.
    pub covers: Option<String>,
    /// Joules from start to stop, the idle machine included; none if there is a reason not to say.
    pub gross_joules: Option<f64>,
    /// Time from start to stop.
    pub seconds: f64,
    /// Why there is no figure.
    pub reason: Option<String>,
}

impl Recording {
    /// Joules without those that the idle machine would have taken in the same time; none without a figure, or where
    /// nothing is left.
    pub fn net_joules(&self, idle_watts: f64) -> Option<f64> {
        let net = self.gross_joules? - idle_watts * self.seconds;
        (idle_watts >= 0.0 && net.is_finite() && net > 0.0).then_some(net)
    }
}

impl Recorder {
    /// Opens a meter and takes its first reading before it returns. `open` is `|| energy::open(&wanted)`, or a test's
    /// own; it runs in the recorder's thread.
    pub fn start(open: impl FnOnce() -> Result<Box<dyn Meter>, String> + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let (ready, begun) = channel();
        let thread = std::thread::spawn(move || record(open, &ready, &stopped));
        // An end of the thread before its first reading is told at `stop`.
        let _ = begun.recv();
        Self { stop, thread }
    }

    /// Takes the last reading.
    pub fn stop(self) -> Recording {
        // A thread that has given up already holds its reason.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_else(|_| Recording {
            reason: Some("reading the energy counter failed by a mistake in Billion".to_owned()),
            ..Recording::default()
        })
    }
}

fn record(
    open: impl FnOnce() -> Result<Box<dyn Meter>, String>,
    ready: &Sender<()>,
    stopped: &Receiver<()>,
) -> Recording {
    let meter = match open() {
        Ok(meter) => meter,
        Err(why) => {
            return Recording {
                reason: Some(why),
                ..Recording::default()
            };
        }
    };
    let mut recording = Recording {
        source: Some(meter.source()),
        covers: Some(meter.covers()),
        ..Recording::default()
    };
    let mut gauge = Gauge::new(meter);
    match count(&mut gauge, ready, stopped) {
        Ok(Stretch { joules, seconds }) => {
            recording.gross_joules = Some(joules);
            recording.seconds = seconds;
        }
        Err(why) => recording.reason = Some(why),
    }
    recording
}

fn count(gauge: &mut Gauge, ready: &Sender<()>, stopped: &Receiver<()>) -> Result<Stretch, String> {
    let clock = SystemClock::default();
    let awake = time_suspended();
    let begin = clock.now();
    let first = gauge.poll(begin);
    // Nobody waits if the recorder was dropped.
    let _ = ready.send(());
    let first = first?;
    loop {
        let over = match stopped.recv_timeout(POLL_EVERY) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => return Err("dropped".to_owned()),
        };
        let now = clock.now();
        let joules = gauge.poll(now)? - first;
        if let Some(slept) = suspended_between(awake, time_suspended()) {
            return Err(format!(
                "the machine was suspended for {:.0} s meanwhile, in which nothing counts as it should",
                slept.as_secs_f64()
            ));
        }
        if over {
            let time = now.saturating_sub(begin);
            let stretch = Stretch {
                joules,
                seconds: time.as_secs_f64(),
            };
            let least = gauge.meter.least_window();
            if time < least {
                return Err(format!(
                    "the work took {:.1} s, but {} tells nothing of less than {} s",
                    stretch.seconds,
                    gauge.meter.source().words(),
                    least.as_secs()
                ));
            }
            stretch.watts(gauge.meter.as_ref())?;
            return Ok(stretch);
        }
    }
}
