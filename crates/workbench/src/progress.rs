//! Progress of a piece of work: steps with units, and an honest guess of the time left.

use std::time::Instant;

use crate::api::Rate;
use crate::requests::JobProgress;

/// No guess before this share of the work is done; the first units are not like the rest.
const GUESS_FROM: f64 = 0.02;
/// No rate before a part has been at work for so long.
const RATE_FROM_S: f64 = 0.5;

/// The units of the part at work, where they are things a person can count.
struct Counted {
    unit: &'static str,
    /// Units of progress that one of them is worth.
    each: u32,
    /// Units done when the first was heard of, and when that was.
    from: Option<(u32, Instant)>,
}

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
    counted: Option<Counted>,
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
            counted: None,
        }
    }

    /// Sets what stands before every step.
    pub(crate) fn of(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// The units of the part that begins now are `unit`: its rate is told from here on, until the part is finished.
    pub(crate) fn count(&mut self, unit: &'static str) {
        self.count_each(unit, 1);
    }

    /// As `count`, where one of them is worth `each` units of progress.
    pub(crate) fn count_each(&mut self, unit: &'static str, each: u32) {
        if self
            .counted
            .as_ref()
            .is_none_or(|counted| counted.unit != unit)
        {
            self.counted = Some(Counted {
                unit,
                each: each.max(1),
                from: None,
            });
        }
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
        self.counted = None;
        self.base += units;
    }

    /// `done` units of the part at work are done.
    pub(crate) fn tell(&mut self, step: &str, done: u32) {
        let done = (self.base + done).min(self.total);
        let own = f64::from(done.saturating_sub(self.inherited));
        let open = f64::from(self.total.saturating_sub(self.inherited));
        let eta_s = (own >= 1.0 && own >= GUESS_FROM * open)
            .then(|| self.start.elapsed().as_secs_f64() / own * f64::from(self.total - done));
        let rate = self.counted.as_mut().and_then(|counted| {
            let (first, since) = *counted.from.get_or_insert_with(|| (done, Instant::now()));
            let seconds = since.elapsed().as_secs_f64();
            (done > first && seconds >= RATE_FROM_S).then(|| Rate {
                per_s: f64::from(done - first) / f64::from(counted.each) / seconds,
                unit: counted.unit.to_owned(),
            })
        });
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
            rate,
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
        assert!(
            heard.iter().all(|progress| progress.rate.is_none()),
            "uncounted units have no rate"
        );
        let eta = heard[1].eta_s.unwrap();
        assert!(
            (0.08..1.0).contains(&eta),
            "10 units took 20 ms, so 40 take 80: {eta}"
        );
    }

    #[test]
    fn the_rate_is_of_the_part_at_work() {
        let mut heard = Vec::new();
        let mut record = |p: &JobProgress| heard.push(p.clone());
        let mut meter = Meter::new(1000, &mut record);
        meter.count("questions");
        meter.tell("asks", 500);
        std::thread::sleep(std::time::Duration::from_millis(600));
        meter.tell("asks", 560);
        meter.finish(600);
        meter.tell("rests", 0);
        let rates: Vec<_> = heard.iter().map(|p| p.rate.clone()).collect();
        let [None, Some(rate), None] = &rates[..] else {
            panic!("{rates:?}")
        };
        assert_eq!(rate.unit, "questions");
        assert!(
            (40.0..=100.0).contains(&rate.per_s),
            "60 in at least 0.6 s: {}",
            rate.per_s
        );
    }
}
