//! Draws `ChartData` for export: lays a chart out as a scene of plain shapes, and paints scenes with plotters.
//!
//! The window draws the same data with Observable Plot (ui/src/charts); markers, colours and forms are the same.

mod dots;
mod font;
mod heat;
mod look;
mod paint;
mod plane;
mod scale;
mod scene;

use crate::api::{ChartData, ChartForm, ModelIdentity, ReferenceKind};
use crate::words::significant;

use font::{Face, cut, wrap};
use look::{INK, INK_SOFT};
use scene::{Align, Scene};

pub(super) use paint::{png, svg, xml};
pub(super) use scene::Scene as Picture;

/// Sizes of text.
const TITLE: f64 = 15.0;
const TEXT: f64 = 12.0;
/// Height of a line of text.
const LINE_HEIGHT: f64 = 18.0;
/// Width of one chart, and space around and between charts.
pub(super) const CHART_WIDTH: f64 = 640.0;
const MARGIN: f64 = 24.0;
/// Half the height of the bar of a published or claimed value.
const MARK_HALF: f64 = 10.0;

/// Which colour and marker a model has.
pub(super) struct Identities<'a>(pub(super) &'a [ModelIdentity]);

impl Identities<'_> {
    /// A model that has no place looks as the next one would.
    fn of(&self, model: &str) -> usize {
        self.0
            .iter()
            .find(|identity| identity.model == model)
            .map_or(self.0.len(), |identity| identity.index as usize)
    }
}

/// One chart with its title, legend and axes.
pub(super) fn chart(data: &ChartData, identities: &Identities<'_>, width: f64) -> Scene {
    let mut scene = Scene {
        width,
        ..Scene::default()
    };
    let mut y = 0.0;
    for line in wrap(&data.title, TITLE, Face::Bold, width) {
        y += LINE_HEIGHT;
        scene.bold((0.0, y - 4.0), &line, TITLE, INK);
    }
    y = legend(data, identities, &mut scene, y + 6.0);
    let body = match data.form {
        ChartForm::Dots => dots::body(data, identities, width),
        ChartForm::Scatter | ChartForm::Line => plane::body(data, identities, width),
        ChartForm::HeatMap => heat::body(data, width),
    };
    scene.height = y + body.height;
    scene.put((0.0, y), body);
    scene
}

/// Which marker is whose, where the names do not stand beside the dots; and what the bars of others' values are.
fn legend(data: &ChartData, identities: &Identities<'_>, scene: &mut Scene, top: f64) -> f64 {
    let named = match data.form {
        ChartForm::Dots => names_are_categories(data) || data.series.len() < 2,
        ChartForm::Line => data.series.len() < 2,
        ChartForm::Scatter | ChartForm::HeatMap => true,
    };
    let first = data.series.first().map(|series| &series.model);
    // Two lines of one model differ by their dashes alone.
    let same_model = data
        .series
        .iter()
        .all(|series| Some(&series.model) == first);
    let mut entries: Vec<(Entry, &str)> = Vec::new();
    if !named {
        for series in &data.series {
            let identity = identities.of(&series.model);
            let entry = match data.form {
                ChartForm::Line if same_model => Entry::Line(identity, series.dashed),
                _ => Entry::Marker(identity),
            };
            entries.push((entry, &series.name));
        }
    }
    let marks = || data.series.iter().flat_map(|series| &series.marks);
    if marks().any(|mark| mark.kind == ReferenceKind::Published) {
        entries.push((
            Entry::Bar(ReferenceKind::Published),
            "published, see its source",
        ));
    }
    if marks().any(|mark| mark.kind == ReferenceKind::Claimed) {
        entries.push((
            Entry::Bar(ReferenceKind::Claimed),
            "claimed, without harness or shots",
        ));
    }
    if entries.is_empty() {
        return top;
    }
    let (mut x, mut y) = (0.0, top + LINE_HEIGHT / 2.0);
    for (entry, name) in entries {
        let name = cut(name, TEXT, Face::Regular, scene.width - 20.0);
        let wide = 20.0 + Face::Regular.width(&name, TEXT);
        if x > 0.0 && x + wide > scene.width {
            (x, y) = (0.0, y + LINE_HEIGHT);
        }
        match entry {
            Entry::Marker(identity) => scene.marker((x + 7.0, y), identity),
            Entry::Line(of, dashed) => {
                let (from, to, colour) = ((x, y), (x + 16.0, y), look::identity(of).0);
                if dashed {
                    scene.dashes(from, to, (6.0, 4.0), (2.0, colour));
                } else {
                    scene.line(from, to, 2.0, colour);
                }
            }
            Entry::Bar(kind) => bar(scene, (x + 7.0, y), 7.0, kind),
        }
        scene.text((x + 20.0, y + 4.0), &name, TEXT, Align::Start, INK);
        x += wide + 20.0;
    }
    y + LINE_HEIGHT / 2.0 + 4.0
}

enum Entry {
    Marker(usize),
    Line(usize, bool),
    Bar(ReferenceKind),
}

/// The bar of what others say: whole where published, broken where claimed.
fn bar(scene: &mut Scene, (x, y): (f64, f64), half: f64, kind: ReferenceKind) {
    let (from, to) = ((x, y - half), (x, y + half));
    match kind {
        ReferenceKind::Published => scene.line(from, to, 2.0, INK),
        ReferenceKind::Claimed => scene.dashes(from, to, (3.0, 2.0), (2.0, INK)),
    }
}

/// A model's marker alone.
pub(super) fn marker(identities: &Identities<'_>, model: &str) -> Scene {
    let mut scene = Scene {
        width: 16.0,
        height: 16.0,
        ..Scene::default()
    };
    scene.marker((8.0, 8.0), identities.of(model));
    scene
}

/// The categories only repeat the names of the series.
pub(super) fn names_are_categories(data: &ChartData) -> bool {
    data.form == ChartForm::Dots
        && data.series.iter().all(|series| {
            series
                .points
                .iter()
                .all(|point| data.x.categories.get(point.x as usize) == Some(&series.name))
        })
}

/// A value of an axis with its unit.
pub(super) fn value_text(value: f64, unit: &str) -> String {
    match unit {
        "%" => format!("{value:.1} %"),
        "" => significant(value),
        unit => format!("{} {unit}", significant(value)),
    }
}

/// "MMLU accuracy, %".
fn axis_title(axis: &crate::api::Axis) -> String {
    if axis.unit.is_empty() {
        axis.label.clone()
    } else {
        format!("{}, {}", axis.label, axis.unit)
    }
}

/// All charts in one picture, in columns, under a heading and over what was measured where and when.
pub(super) fn picture(
    charts: &[ChartData],
    identities: &Identities<'_>,
    heading: &str,
    footing: &[String],
) -> Scene {
    let columns = if charts.len() > 1 { 2 } else { 1 };
    let width = MARGIN + columns as f64 * (CHART_WIDTH + MARGIN);
    let room = width - 2.0 * MARGIN;
    let mut scene = Scene {
        width,
        ..Scene::default()
    };
    let mut y = MARGIN;
    for line in wrap(heading, 20.0, Face::Bold, room) {
        y += 24.0;
        scene.bold((MARGIN, y - 6.0), &line, 20.0, INK);
    }
    y += 12.0;
    let mut feet = vec![y; columns];
    for data in charts {
        let chart = chart(data, identities, CHART_WIDTH);
        // The shortest column takes the next chart.
        let column = (0..columns)
            .min_by(|&a, &b| feet[a].total_cmp(&feet[b]))
            .unwrap_or(0);
        let x = MARGIN + column as f64 * (CHART_WIDTH + MARGIN);
        let height = chart.height;
        scene.put((x, feet[column]), chart);
        feet[column] += height + MARGIN;
    }
    y = feet.iter().copied().fold(y, f64::max);
    for text in footing {
        for line in wrap(text, TEXT, Face::Regular, room) {
            y += LINE_HEIGHT;
            scene.text((MARGIN, y - 5.0), &line, TEXT, Align::Start, INK_SOFT);
        }
    }
    scene.height = y + MARGIN;
    scene
}

#[cfg(test)]
mod tests;
