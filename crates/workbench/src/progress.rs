//! Progress of a piece of work: steps with units, and an honest guess of the time left.

use std::time::Instant;

use crate::requests::JobProgress;

/// No guess before this share of the work is done; the first units are not like the rest.
const GUESS_FROM: f64 = 0.02;

/// Units of a piece of work that consists of parts.
pub(crate) struct Meter<'a> {
    on_progress: &'a mut dyn FnMut(&JobProgress),
    /// Units of the parts that are done or were skipped.
    base: u32,
    total: u32,
    /// Units that were done before this session.
    inherited: u32,
    start: Instant,
    /// Put before every step: the model's name.
    prefix: String,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(total: u32, on_progress: &'a mut dyn FnMut(&JobProgress)) -> Self {
        Self {
            on_progress,
            base: 0,
            total,
            inherited: 0,
            start: Instant::now(),
            prefix: String::new(),
        }
    }

    /// Sets what stands before every step.
    pub(crate) fn of(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Sets the units in all, for work that learns them later.
    pub(crate) fn total(&mut self, total: u32) {
        self.total = total;
    }

    /// Units that need not be done: they were done by an earlier session or cannot be.
    pub(crate) fn skip(&mut self, units: u32) {
        self.base += units;
        self.inherited += units;
    }

    /// Counts units of the part at work as inherited, so that they do not make the rest look fast.
    pub(crate) fn inherit(&mut self, units: u32) {
        self.inherited += units;
    }

    /// A part is done.
    pub(crate) fn finish(&mut self, units: u32) {
        self.base += units;
    }

    /// `done` units of the part at work are done.
    pub(crate) fn tell(&mut self, step: &str, done: u32) {
        let done = (self.base + done).min(self.total);
        let own = f64::from(done.saturating_sub(self.inherited));
        let open = f64::from(self.total.saturating_sub(self.inherited));
        let eta_s = (own >= 1.0 && own >= GUESS_FROM * open)
            .then(|| self.start.elapsed().as_secs_f64() / own * f64::from(self.total - done));
        let step = if self.prefix.is_empty() {
            step.to_owned()
        } else {
            format!("{}: {step}", self.prefix)
        };
        (self.on_progress)(&JobProgress {
            step,
            done,
            total: self.total,
            eta_s,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_inherited_units_do_not_speed_up_the_rest() {
        let mut heard = Vec::new();
        let mut record = |p: &JobProgress| heard.push(p.clone());
        let mut meter = Meter::new(100, &mut record);
        meter.of("A");
        meter.tell("starts", 0);
        meter.skip(50);
        std::thread::sleep(std::time::Duration::from_millis(20));
        meter.tell("asks", 10);
        assert_eq!(
            (heard[0].step.as_str(), heard[0].eta_s),
            ("A: starts", None)
        );
        assert_eq!((heard[1].done, heard[1].total), (60, 100));
        let eta = heard[1].eta_s.unwrap();
        assert!(
            (0.08..1.0).contains(&eta),
            "10 units took 20 ms, so 40 take 80: {eta}"
        );
    }
}
