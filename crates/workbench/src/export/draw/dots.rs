//! A dot with its interval for each category, lying down, so that names stand in full beside their row.

use super::font::{Face, cut};
use super::look::{INK, INK_SOFT, LINE, identity};
use super::scale::{Scale, linear, logarithmic};
use super::scene::{Align, Scene};
use super::{Identities, MARK_HALF, TEXT, axis_title, bar, value_text};
use crate::api::{ChartData, ChartPoint};

const ROW: f64 = 24.0;
const GAP: f64 = 5.0;
const TOP: f64 = 20.0;
const FOOT: f64 = 44.0;

/// The chart without its title.
pub(super) fn body(data: &ChartData, identities: &Identities<'_>, width: f64) -> Scene {
    let mut scene = Scene {
        width,
        ..Scene::default()
    };
    let longest = data
        .x
        .categories
        .iter()
        .map(|name| Face::Regular.width(name, TEXT))
        .fold(24.0, f64::max);
    let left = (longest + 14.0).min(width * 0.45);
    let texts: Vec<String> = points(data)
        .map(|point| value_text(point.y, &data.y.unit))
        .collect();
    let widest = texts
        .iter()
        .map(|text| Face::Regular.width(text, TEXT))
        .fold(30.0, f64::max);
    let right = width - widest - 14.0;
    let scale = scale(data, left, right);

    // Rows first: the grid runs down to the last of them.
    let mut rows = Vec::new();
    let mut foot = TOP;
    for category in 0..data.x.categories.len() {
        let own: Vec<_> = data
            .series
            .iter()
            .filter(|series| {
                let here = |x: f64| x == category as f64;
                series.points.iter().any(|p| here(p.x)) || series.marks.iter().any(|m| here(m.x))
            })
            .collect();
        let top = foot;
        foot += own.len().max(1) as f64 * ROW + GAP;
        rows.push((category, own, top));
    }
    frame(data, &scale, (left, right), foot, &mut scene);
    for (category, own, top) in rows {
        let middle = top + own.len().max(1) as f64 * ROW / 2.0;
        let name = cut(
            &data.x.categories[category],
            TEXT,
            Face::Regular,
            left - 14.0,
        );
        scene.text((left - 12.0, middle + 4.0), &name, TEXT, Align::End, INK);
        for (place, series) in own.into_iter().enumerate() {
            let y = top + place as f64 * ROW + ROW / 2.0;
            let of = identities.of(&series.model);
            for mark in series.marks.iter().filter(|m| m.x == category as f64) {
                bar(&mut scene, (scale.at(mark.y), y), MARK_HALF, mark.kind);
            }
            for point in series.points.iter().filter(|p| p.x == category as f64) {
                if let (Some(lo), Some(hi)) = (point.lo, point.hi) {
                    let (lo, hi) = (scale.at(lo), scale.at(hi));
                    scene.line((lo, y), (hi, y), 3.0, identity(of).0);
                    for end in [lo, hi] {
                        scene.line((end, y - 4.0), (end, y + 4.0), 1.0, INK);
                    }
                }
                scene.marker((scale.at(point.y), y), of);
                let text = value_text(point.y, &data.y.unit);
                scene.text((width, y + 4.0), &text, TEXT, Align::End, INK);
            }
        }
    }
    scene.height = foot + FOOT;
    scene
}

fn points(data: &ChartData) -> impl Iterator<Item = &ChartPoint> {
    data.series.iter().flat_map(|series| &series.points)
}

fn scale(data: &ChartData, left: f64, right: f64) -> Scale {
    let mut ends: Vec<f64> = points(data)
        .flat_map(|point| [Some(point.y), point.lo, point.hi])
        .flatten()
        .collect();
    let marks = data.series.iter().flat_map(|series| &series.marks);
    ends.extend(marks.map(|mark| mark.y));
    ends.extend(data.y.reference.as_ref().map(|line| line.value));
    if data.y.log {
        logarithmic(&ends, left, right, 6)
    } else {
        linear(&ends, data.y.min, left, right, 6.0)
    }
}

fn frame(data: &ChartData, scale: &Scale, (left, right): (f64, f64), foot: f64, scene: &mut Scene) {
    for &tick in &scale.ticks {
        let x = scale.at(tick);
        scene.line((x, TOP - 4.0), (x, foot), 1.0, LINE);
        let text = scale.text(tick);
        scene.text((x, foot + 16.0), &text, TEXT, Align::Middle, INK_SOFT);
    }
    scene.text(
        (f64::midpoint(left, right), foot + 34.0),
        &axis_title(&data.y),
        TEXT,
        Align::Middle,
        INK_SOFT,
    );
    if let Some(line) = &data.y.reference {
        let x = scale.at(line.value);
        scene.dashes((x, TOP - 4.0), (x, foot), (4.0, 3.0), (1.0, INK_SOFT));
        let half = Face::Regular.width(&line.label, TEXT) / 2.0;
        let at = x.max(left + half).min((right - half).max(left + half));
        scene.text((at, TOP - 8.0), &line.label, TEXT, Align::Middle, INK_SOFT);
    }
}
