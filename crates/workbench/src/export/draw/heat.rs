//! A cell for each pair of categories, its colour for the value, its number on it.

use super::font::{Face, cut};
use super::look::{INK, cell_ink, heat};
use super::scene::{Align, Scene};
use super::{TEXT, axis_title};
use crate::api::ChartData;

const ROW: f64 = 20.0;
const TOP: f64 = 26.0;
const FOOT: f64 = 30.0;
const WIDEST_CELL: f64 = 140.0;

/// The chart without its title.
pub(super) fn body(data: &ChartData, width: f64) -> Scene {
    let (columns, rows) = (&data.x.categories, &data.y.categories);
    let mut scene = Scene {
        width,
        height: TOP + rows.len() as f64 * ROW + FOOT,
        ..Scene::default()
    };
    let longest = rows
        .iter()
        .map(|name| Face::Regular.width(name, TEXT))
        .fold(24.0, f64::max);
    let left = (longest + 12.0).min(width * 0.6);
    let cell = ((width - left) / columns.len().max(1) as f64).min(WIDEST_CELL);
    for (place, name) in columns.iter().enumerate() {
        let name = cut(name, TEXT, Face::Regular, cell - 8.0);
        let middle = left + (place as f64 + 0.5) * cell;
        scene.text((middle, TOP - 8.0), &name, TEXT, Align::Middle, INK);
    }
    for (place, name) in rows.iter().enumerate() {
        let name = cut(name, TEXT, Face::Regular, left - 12.0);
        let base = TOP + (place as f64 + 0.5) * ROW + 4.0;
        scene.text((left - 8.0, base), &name, TEXT, Align::End, INK);
    }
    let values = || {
        data.series
            .iter()
            .flat_map(|series| &series.points)
            .filter_map(|point| point.value)
    };
    let low = data
        .value
        .as_ref()
        .and_then(|axis| axis.min)
        .unwrap_or_else(|| values().fold(f64::INFINITY, f64::min));
    let high = values().fold(low, f64::max);
    for point in data.series.iter().flat_map(|series| &series.points) {
        let Some(value) = point.value else { continue };
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        let corner = (left + point.x * cell, TOP + point.y * ROW);
        scene.rect(
            (corner.0 + 0.5, corner.1 + 0.5),
            (corner.0 + cell - 0.5, corner.1 + ROW - 0.5),
            heat(share),
        );
        if cell >= 36.0 {
            scene.text(
                (corner.0 + cell / 2.0, corner.1 + ROW / 2.0 + 4.0),
                &format!("{value:.0}"),
                TEXT,
                Align::Middle,
                cell_ink(share),
            );
        }
    }
    if let Some(axis) = &data.value {
        let base = TOP + rows.len() as f64 * ROW + 20.0;
        scene.text(
            (left, base),
            &axis_title(axis),
            TEXT,
            Align::Start,
            super::look::INK_SOFT,
        );
    }
    scene
}
