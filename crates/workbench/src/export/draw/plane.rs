//! Two measured axes: a dot a model with its vertical interval and its name, or lines through the points.

use super::font::{Face, cut};
use super::look::{INK, INK_SOFT, LINE, identity};
use super::scale::{Scale, linear, logarithmic};
use super::scene::{Align, Scene};
use super::{Identities, TEXT, axis_title};
use crate::api::{Axis, ChartData, ChartForm, ReferenceKind};

const HEIGHT: f64 = 320.0;
const TOP: f64 = 28.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = HEIGHT - 44.0;
/// More points than this have no markers on a line.
const CROWDED: usize = 40;

/// A rectangle: left, top, right, bottom.
#[derive(Clone, Copy)]
struct Area(f64, f64, f64, f64);

/// The chart without its title.
pub(super) fn body(data: &ChartData, identities: &Identities<'_>, width: f64) -> Scene {
    let mut scene = Scene {
        width,
        height: HEIGHT,
        ..Scene::default()
    };
    let right = width - 16.0;
    let points = || data.series.iter().flat_map(|series| &series.points);
    let marks = || data.series.iter().flat_map(|series| &series.marks);
    let xs = points().map(|p| p.x).chain(marks().map(|m| m.x)).collect();
    let ys = points()
        .flat_map(|p| [Some(p.y), p.lo, p.hi])
        .flatten()
        .chain(marks().map(|m| m.y))
        .collect();
    // Markers of many points on a line would hide it.
    let crowded = data.form == ChartForm::Line && points().count() > CROWDED;
    let x = axis_scale(&data.x, xs, LEFT, right, 6);
    let y = axis_scale(&data.y, ys, BOTTOM, TOP, 5);
    frame(data, &x, &y, right, &mut scene);

    let mut taken: Vec<Area> = points()
        .map(|p| around((x.at(p.x), y.at(p.y)), 7.0))
        .collect();
    for series in &data.series {
        let of = identities.of(&series.model);
        let at = |px: f64, py: f64| (x.at(px), y.at(py));
        if data.form == ChartForm::Line {
            for pair in series.points.windows(2) {
                let (from, to) = (at(pair[0].x, pair[0].y), at(pair[1].x, pair[1].y));
                if series.dashed {
                    scene.dashes(from, to, (6.0, 4.0), (2.0, identity(of).0));
                } else {
                    scene.line(from, to, 2.0, identity(of).0);
                }
            }
        }
        for mark in &series.marks {
            let (mx, my) = at(mark.x, mark.y);
            let (from, to) = ((mx - 9.0, my), (mx + 9.0, my));
            match mark.kind {
                ReferenceKind::Published => scene.line(from, to, 2.0, INK),
                ReferenceKind::Claimed => scene.dashes(from, to, (3.0, 2.0), (2.0, INK)),
            }
        }
        for point in &series.points {
            let (px, py) = at(point.x, point.y);
            if let (Some(lo), Some(hi)) = (point.lo, point.hi) {
                let (lo, hi) = (y.at(lo), y.at(hi));
                scene.line((px, lo), (px, hi), 3.0, identity(of).0);
                for end in [lo, hi] {
                    scene.line((px - 4.0, end), (px + 4.0, end), 1.0, INK);
                }
            }
            if !crowded {
                scene.marker((px, py), of);
            }
        }
        if data.form == ChartForm::Scatter {
            for point in &series.points {
                let area = Area(LEFT, TOP, right, BOTTOM);
                name(
                    &series.name,
                    at(point.x, point.y),
                    area,
                    &mut taken,
                    &mut scene,
                );
            }
        }
    }
    scene
}

fn axis_scale(axis: &Axis, mut values: Vec<f64>, from: f64, to: f64, wanted: usize) -> Scale {
    values.extend(axis.reference.as_ref().map(|line| line.value));
    if axis.log {
        logarithmic(&values, from, to, wanted)
    } else {
        linear(&values, axis.min, from, to, wanted as f64)
    }
}

fn frame(data: &ChartData, x: &Scale, y: &Scale, right: f64, scene: &mut Scene) {
    scene.text(
        (0.0, 12.0),
        &axis_title(&data.y),
        TEXT,
        Align::Start,
        INK_SOFT,
    );
    for &tick in &y.ticks {
        let at = y.at(tick);
        scene.line((LEFT, at), (right, at), 1.0, LINE);
        scene.text(
            (LEFT - 8.0, at + 4.0),
            &y.text(tick),
            TEXT,
            Align::End,
            INK_SOFT,
        );
    }
    for &tick in &x.ticks {
        let at = x.at(tick);
        scene.line((at, TOP), (at, BOTTOM), 1.0, LINE);
        scene.text(
            (at, BOTTOM + 16.0),
            &x.text(tick),
            TEXT,
            Align::Middle,
            INK_SOFT,
        );
    }
    scene.text(
        (f64::midpoint(LEFT, right), HEIGHT - 10.0),
        &axis_title(&data.x),
        TEXT,
        Align::Middle,
        INK_SOFT,
    );
    if let Some(line) = &data.y.reference {
        let at = y.at(line.value);
        scene.dashes((LEFT, at), (right, at), (4.0, 3.0), (1.0, INK_SOFT));
        scene.text(
            (LEFT + 4.0, at - 5.0),
            &line.label,
            TEXT,
            Align::Start,
            INK_SOFT,
        );
    }
    if let Some(line) = &data.x.reference {
        let at = x.at(line.value);
        scene.dashes((at, TOP), (at, BOTTOM), (4.0, 3.0), (1.0, INK_SOFT));
        scene.text(
            (at + 4.0, TOP + 12.0),
            &line.label,
            TEXT,
            Align::Start,
            INK_SOFT,
        );
    }
}

fn around((x, y): (f64, f64), half: f64) -> Area {
    Area(x - half, y - half, x + half, y + half)
}

/// A name beside its dot: right of it if there is room, else left, above or below.
fn name(text: &str, (x, y): (f64, f64), area: Area, taken: &mut Vec<Area>, scene: &mut Scene) {
    let text = cut(text, TEXT, Face::Regular, (area.2 - area.0) * 0.7);
    let width = Face::Regular.width(&text, TEXT);
    let room = |left: f64, base: f64| Area(left, base - 11.0, left + width, base + 3.0);
    let tries: Vec<Area> = [0.0, -12.0, 12.0, -26.0, 26.0]
        .into_iter()
        .flat_map(|dy| {
            [
                room(x + 11.0, y + 4.0 + dy),
                room(x - 11.0 - width, y + 4.0 + dy),
            ]
        })
        .collect();
    let inside =
        |a: &&Area| a.0 >= area.0 && a.2 <= area.2 && a.1 >= area.1 - 14.0 && a.3 <= area.3;
    let free = |a: &&Area| {
        taken
            .iter()
            .all(|t| a.2 <= t.0 || a.0 >= t.2 || a.3 <= t.1 || a.1 >= t.3)
    };
    let best = tries
        .iter()
        .find(|a| inside(a) && free(a))
        .or_else(|| tries.iter().find(inside))
        .copied()
        .unwrap_or_else(|| room(x.min(area.2 - width), y - 11.0));
    taken.push(best);
    scene.text((best.0, best.3 - 3.0), &text, TEXT, Align::Start, INK);
}
