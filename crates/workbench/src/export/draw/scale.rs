//! Scales with round ticks, as the window has them. Only arithmetic.

/// From values to positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) ticks: Vec<f64>,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// Position of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.min).ln() / (self.max / self.min).ln()
        } else {
            (value - self.min) / (self.max - self.min)
        };
        self.from + share * (self.to - self.from)
    }

    /// Text of a tick: as many decimals as tell neighbours apart.
    pub(crate) fn text(&self, tick: f64) -> String {
        if self.log {
            return format!("{}", (tick * 1e9).round() / 1e9);
        }
        let step = match self.ticks[..] {
            [first, second, ..] => (second - first).abs(),
            _ => 1.0,
        };
        let digits = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        let text = format!("{tick:.digits$}");
        match text.strip_prefix('-') {
            Some(zero) if zero.chars().all(|c| c == '0' || c == '.') => zero.to_owned(),
            _ => text,
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten, so that about `wanted` ticks fit into `span`.
fn round_step(span: f64, wanted: f64) -> f64 {
    let raw = span / wanted.max(1.0);
    let power = 10f64.powf(raw.log10().floor());
    let lead = raw / power;
    power
        * if lead > 5.0 {
            10.0
        } else if lead > 2.0 {
            5.0
        } else if lead > 1.0 {
            2.0
        } else {
            1.0
        }
}

/// A scale with even steps that holds all values; it begins at `floor` where that is given.
pub(crate) fn linear(values: &[f64], floor: Option<f64>, from: f64, to: f64, wanted: f64) -> Scale {
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let mut low = floor.unwrap_or_else(|| known().fold(f64::INFINITY, f64::min));
    let mut high = known().fold(low, f64::max);
    if !(low.is_finite() && high.is_finite()) {
        (low, high) = (0.0, 1.0);
    }
    if high <= low {
        let pad = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
        high = low + pad;
        if floor.is_none() {
            low -= pad;
        }
    }
    let step = round_step(high - low, wanted);
    let min = floor.unwrap_or_else(|| (low / step).floor() * step);
    let max = (high / step - 1e-9).ceil() * step;
    let first = (min / step - 1e-9).ceil() as i64;
    let last = (max / step + 1e-9).floor() as i64;
    Scale {
        min,
        max,
        ticks: (first..=last).map(|n| n as f64 * step).collect(),
        log: false,
        from,
        to,
    }
}

/// A scale of equal ratios that holds all positive values, with ticks at 1, 2 and 5 times powers of ten, or fewer.
pub(crate) fn logarithmic(values: &[f64], from: f64, to: f64, wanted: usize) -> Scale {
    let known = || {
        values
            .iter()
            .copied()
            .filter(|value| value.is_finite() && *value > 0.0)
    };
    let (mut low, mut high) = (
        known().fold(f64::INFINITY, f64::min),
        known().fold(0.0, f64::max),
    );
    if !(low.is_finite() && high > 0.0) {
        (low, high) = (1.0, 10.0);
    }
    let tenths = |leads: &[f64]| -> Vec<f64> {
        let (first, last) = (
            low.log10().floor() as i32 - 1,
            high.log10().ceil() as i32 + 1,
        );
        (first..=last)
            .flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)))
            .collect()
    };
    let ends = tenths(&[1.0, 2.0, 5.0]);
    let min = ends
        .iter()
        .copied()
        .filter(|end| *end <= low * (1.0 + 1e-9))
        .fold(f64::MIN_POSITIVE, f64::max);
    let max = ends
        .iter()
        .copied()
        .filter(|end| *end >= high * (1.0 - 1e-9) && *end > min * (1.0 + 1e-9))
        .fold(f64::INFINITY, f64::min);
    let within = |leads: &[f64]| -> Vec<f64> {
        tenths(leads)
            .into_iter()
            .filter(|tick| *tick >= min * (1.0 - 1e-9) && *tick <= max * (1.0 + 1e-9))
            .collect()
    };
    let fine = within(&[1.0, 2.0, 5.0]);
    let coarse = within(&[1.0]);
    Scale {
        min,
        max,
        ticks: if fine.len() <= wanted + 2 || coarse.len() < 2 {
            fine
        } else {
            coarse
        },
        log: true,
        from,
        to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_ends_hold_all_values() {
        let scale = linear(&[3.0, 38.9], Some(0.0), 0.0, 400.0, 5.0);
        assert_eq!(scale.ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!((scale.at(0.0), scale.at(20.0)), (0.0, 200.0));
        let fine = linear(&[0.12, 0.18], None, 0.0, 100.0, 5.0);
        assert_eq!(fine.text(fine.ticks[0]), "0.12");
        assert_eq!(linear(&[], None, 0.0, 1.0, 5.0).ticks.len(), 6);
        assert_eq!(linear(&[0.0], Some(0.0), 0.0, 1.0, 5.0).max, 1.0);
        assert!(linear(&[f64::NAN, 5.0], Some(0.0), 0.0, 1.0, 5.0).max >= 5.0);
    }

    #[test]
    fn equal_ratios_are_equally_far_apart() {
        let scale = logarithmic(&[0.07, 7.0], 0.0, 300.0, 6);
        assert_eq!((scale.min, scale.max), (0.05, 10.0));
        let step = scale.at(1.0) - scale.at(0.1);
        assert!((scale.at(10.0) - scale.at(1.0) - step).abs() < 1e-9);
        assert_eq!(scale.text(0.2), "0.2");
        assert!(
            scale.ticks.len() >= 2 && scale.ticks.len() <= 8,
            "{:?}",
            scale.ticks
        );
        let one = logarithmic(&[0.1345], 0.0, 100.0, 6);
        assert!(one.min <= 0.1345 && one.max >= 0.1345 && one.at(0.1345).is_finite());
    }
}
