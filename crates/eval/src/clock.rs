//! Time as an argument: everything that is timed asks a `Clock`, so tests bring their own.

use std::time::{Duration, Instant};

/// A monotonic clock.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// How long the machine has been suspended since it started: the boot-time clock less the monotonic one, which stands
/// still meanwhile. None where the system does not tell.
pub fn time_suspended() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        use nix::time::{ClockId, clock_gettime};
        let read = |id| clock_gettime(id).ok().map(Duration::from);
        // Read first: time passes between the two, and no suspension must come of that.
        let boot = read(ClockId::CLOCK_BOOTTIME)?;
        Some(boot.saturating_sub(read(ClockId::CLOCK_MONOTONIC)?))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Less than this is the jitter of two clocks read one after the other.
const SUSPENDED_AT_LEAST: Duration = Duration::from_millis(500);

/// How long the machine was suspended between two readings of `time_suspended`; none if it was not.
pub fn suspended_between(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    let slept = after?.saturating_sub(before?);
    (slept >= SUSPENDED_AT_LEAST).then_some(slept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awake_machine_was_not_suspended() {
        let before = time_suspended();
        assert_eq!(before.is_some(), cfg!(target_os = "linux"));
        assert_eq!(suspended_between(before, time_suspended()), None);
        let at = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(suspended_between(at(5), at(17)), at(12));
        assert_eq!(suspended_between(None, at(17)), None);
        assert_eq!(suspended_between(at(17), at(5)), None);
    }
}
