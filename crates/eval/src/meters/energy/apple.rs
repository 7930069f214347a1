//! Apple silicon's own energy counters (IOReport), which need no root: through macmon, whose sampler keeps its last
//! reading and gives the mean power since then.

#[cfg(target_os = "macos")]
pub(super) use macos::open;

/// Why not.
#[cfg(not(target_os = "macos"))]
pub(super) fn open() -> Result<Box<dyn super::Meter>, String> {
    Err("only macOS has these counters".to_owned())
}

#[cfg(target_os = "macos")]
mod macos {
    use std::time::Duration;

    use macmon::Sampler;

    use crate::meters::energy::{Meter, Source};

    /// No chip takes more.
    const MOST_WATTS: f64 = 500.0;

    /// Counters move about every 10 ms.
    const LEAST_WINDOW: Duration = Duration::from_secs(2);

    struct Chip {
        sampler: Sampler,
        joules: f64,
        last: Option<Duration>,
    }

    /// Opens the counters.
    pub(in crate::meters::energy) fn open() -> Result<Box<dyn Meter>, String> {
        let sampler = Sampler::new().map_err(|error| {
            format!("the counters cannot be opened ({error}); only Apple silicon has them")
        })?;
        Ok(Box::new(Chip {
            sampler,
            joules: 0.0,
            last: None,
        }))
    }

    impl Meter for Chip {
        fn source(&self) -> Source {
            Source::IoReport
        }

        fn covers(&self) -> String {
            "the chip (CPU, GPU and neural engine), without memory and the rest of the machine"
                .to_owned()
        }

        fn poll(&mut self, now: Duration) -> Result<f64, String> {
            // Returns at once where a millisecond has passed since the reading before.
            let watts = self
                .sampler
                .get_metrics(1)
                .map_err(|error| error.to_string())?
                .all_power;
            if let Some(last) = self.last.replace(now) {
                self.joules += f64::from(watts) * now.saturating_sub(last).as_secs_f64();
            }
            Ok(self.joules)
        }

        fn least_window(&self) -> Duration {
            LEAST_WINDOW
        }

        fn most_watts(&self) -> f64 {
            MOST_WATTS
        }
    }
}
