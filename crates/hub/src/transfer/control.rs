//! What a person may do to a running download, and what it tells them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is wanted of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    #[default]
    Run,
    Pause,
    Stop,
    Cancel,
}

/// Steers a download from another thread. Clones steer the same one.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<(Mutex<Wish>, Condvar)>);

impl Control {
    /// For a download that runs at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes the connections and waits; everything that came is kept.
    pub fn pause(&self) {
        self.wish(|now| (now == Wish::Run).then_some(Wish::Pause));
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.wish(|now| (now == Wish::Pause).then_some(Wish::Run));
    }

    /// Ends the download with `Error::Stopped`; everything that came is kept for the next one.
    pub fn stop(&self) {
        self.wish(|now| (now != Wish::Cancel).then_some(Wish::Stop));
    }

    /// Ends the download with `Error::Cancelled` and removes what came.
    pub fn cancel(&self) {
        self.wish(|_| Some(Wish::Cancel));
    }

    fn wish(&self, next: impl FnOnce(Wish) -> Option<Wish>) {
        let (wish, changed) = &*self.0;
        let mut wish = wish.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next(*wish) {
            *wish = next;
            changed.notify_all();
        }
    }

    pub(crate) fn now(&self) -> Wish {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something else than `wish` is wanted, at most `longest`; gives what is wanted then.
    pub(crate) fn wait_while(&self, wish: Wish, longest: Duration) -> Wish {
        let (now, changed) = &*self.0;
        let now = now.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, _) = changed
            .wait_timeout_while(now, longest, |now| *now == wish)
            .unwrap_or_else(PoisonError::into_inner);
        *now
    }
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The file that is coming.
    pub file: String,
    /// Its number, from 1.
    pub file_number: usize,
    /// How many there are.
    pub files: usize,
    /// Bytes of this file that are here.
    pub file_done_bytes: u64,
    /// Its size.
    pub file_bytes: u64,
    /// Bytes that are here, of all files, with what was here before.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Over the last seconds; zero until there is something to tell it by.
    pub bytes_per_s: f64,
    /// At this rate; none while nothing comes.
    pub left: Option<Duration>,
}

/// What a download tells while it runs. Progress comes at most ten times a second.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// Nothing comes for now, and why.
    Waiting {
        /// "the connection ended early; again in 4 s", in one line.
        reason: String,
    },
    /// All bytes of a file are here; the rest of it is being hashed.
    Verifying {
        /// Its path.
        file: String,
    },
    /// A file's hash is right, and it is in the cache.
    Verified {
        /// Its path.
        file: String,
    },
    /// Paused by the person.
    Paused,
    /// Goes on.
    Resumed,
}

/// Rates are told over this time.
const WINDOW: Duration = Duration::from_secs(4);

/// Tells the rate from what came over the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// `received` bytes have come until `now`.
    pub(crate) fn sample(&mut self, now: Instant, received: u64) {
        self.samples.push_back((now, received));
        // The sample before the window stays, so that a slow connection has two.
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Forgets: what comes next has nothing to do with what came.
    pub(crate) fn clear(&mut self) {
        self.samples.clear();
    }

    /// Bytes a second over the window.
    pub(crate) fn bytes_per_s(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        if seconds < 0.05 {
            return 0.0;
        }
        last.1.saturating_sub(first.1) as f64 / seconds
    }

    /// Time that `bytes` more take at this rate.
    pub(crate) fn left(&self, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_s();
        if rate < 1.0 {
            return None;
        }
        Duration::try_from_secs_f64(bytes as f64 / rate).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_is_not_taken_back_and_a_pause_is() {
        let control = Control::new();
        control.resume();
        assert_eq!(control.now(), Wish::Run);
        control.pause();
        assert_eq!(control.now(), Wish::Pause);
        let other = control.clone();
        let woken =
            std::thread::spawn(move || other.wait_while(Wish::Pause, Duration::from_secs(20)));
        control.resume();
        assert_eq!(woken.join().expect("woken"), Wish::Run);
        control.cancel();
        control.resume();
        control.pause();
        control.stop();
        assert_eq!(control.now(), Wish::Cancel);
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!((meter.bytes_per_s(), meter.left(5)), (0.0, None));
        // Ten seconds at 1 kB/s, then five at 3 kB/s.
        for tenth in 0..=150u64 {
            let received = tenth.min(100) * 100 + tenth.saturating_sub(100) * 300;
            meter.sample(start + Duration::from_millis(tenth * 100), received);
        }
        assert!((meter.bytes_per_s() - 3000.0).abs() < 1.0, "{meter:?}");
        let left = meter.left(6000).expect("a rate").as_secs_f64();
        assert!((left - 2.0).abs() < 0.01, "{left}");
        assert!(meter.samples.len() < 50);
        meter.clear();
        assert_eq!(meter.bytes_per_s(), 0.0);
    }
}
