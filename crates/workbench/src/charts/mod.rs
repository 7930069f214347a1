//! The one place that makes chart data; the window draws it interactively, exports draw the same.
//!
//! Every value comes from the store. A chart without any figure is left out, and so is a model that lacks one.

mod finetune;
mod run;
mod scorecard;
mod speculate;
mod stored;
mod time_lapse;

use std::collections::BTreeMap;

use billion_eval::stats::wilson95;
use billion_eval::tasks::mmlu::{GROUPS, group_of};

use crate::api::{Axis, ChartData, ChartPoint, Figure, ReferenceLine};
use crate::reports::MmluPart;
use crate::words::subject_words;

pub(crate) use finetune::loss_charts;
pub(crate) use run::run_charts;
pub(crate) use scorecard::{ChartRow, scorecard_charts};
pub(crate) use speculate::speculation_charts;
pub(crate) use stored::stored_charts;
pub(crate) use time_lapse::time_lapse_charts;

/// Accuracy of guessing among four choices.
pub(crate) const CHANCE: f64 = 0.25;

/// A measured axis that begins at zero.
fn measured(label: &str, unit: &str) -> Axis {
    Axis {
        label: label.to_owned(),
        unit: unit.to_owned(),
        categories: Vec::new(),
        min: Some(0.0),
        log: false,
        reference: None,
    }
}

fn categories(label: &str, names: Vec<String>) -> Axis {
    Axis {
        label: label.to_owned(),
        unit: String::new(),
        categories: names,
        min: None,
        log: false,
        reference: None,
    }
}

/// Accuracy in per cent, with the line of guessing.
fn accuracy(label: &str) -> Axis {
    Axis {
        reference: Some(ReferenceLine {
            value: CHANCE * 100.0,
            label: "guessing".to_owned(),
        }),
        ..measured(label, "%")
    }
}

/// Parameters in billions, equal ratios apart.
fn parameters() -> Axis {
    Axis {
        min: None,
        log: true,
        ..measured("Parameters", "billion")
    }
}

fn point(x: f64, figure: &Figure, scale: f64) -> ChartPoint {
    ChartPoint {
        x,
        y: figure.value * scale,
        lo: figure.lo.map(|lo| lo * scale),
        hi: figure.hi.map(|hi| hi * scale),
        value: None,
    }
}

/// A point without an interval.
fn bare(x: f64, y: f64) -> ChartPoint {
    ChartPoint {
        x,
        y,
        lo: None,
        hi: None,
        value: None,
    }
}

/// Accuracy of a part of MMLU with Wilson's 95 % interval.
fn part_point(x: f64, part: &MmluPart) -> ChartPoint {
    let [lo, hi] = wilson95(part.correct as usize, part.total as usize);
    ChartPoint {
        x,
        y: part.accuracy * 100.0,
        lo: Some(lo * 100.0),
        hi: Some(hi * 100.0),
        value: None,
    }
}

/// Subjects by group, in alphabetical order within each; those of no group come last.
fn by_group<'a>(subjects: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let place = |subject: &str| {
        group_of(subject).map_or(GROUPS.len(), |group| {
            GROUPS
                .iter()
                .position(|g| *g == group)
                .unwrap_or(GROUPS.len())
        })
    };
    let mut all: Vec<&str> = subjects.map(String::as_str).collect();
    all.sort_by_key(|subject| (place(subject), *subject));
    all.dedup();
    all
}

/// "STEM · abstract algebra".
fn subject_label(subject: &str) -> String {
    let group = match group_of(subject) {
        Some("stem") => "STEM",
        Some("humanities") => "Humanities",
        Some("social_sciences") => "Social sciences",
        Some(_) => "Other",
        None => return subject_words(subject),
    };
    format!("{group} · {}", subject_words(subject))
}

/// How far the accuracies of parts with so few questions may be off by chance, in points: said in titles.
fn chance_points<'a>(parts: impl Iterator<Item = &'a BTreeMap<String, MmluPart>>) -> Option<f64> {
    let least = parts
        .flat_map(|parts| parts.values())
        .map(|part| part.total)
        .min()?;
    Some(100.0 * billion_eval::stats::expected_half_width(least as usize, CHANCE))
}

/// Those that show anything.
fn shown(charts: impl IntoIterator<Item = ChartData>) -> Vec<ChartData> {
    charts
        .into_iter()
        .filter(|chart| chart.series.iter().any(|series| !series.points.is_empty()))
        .collect()
}
