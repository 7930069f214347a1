//! What is drawn is what `ChartData` says: positions are read back from the finished SVG by its own grid and ticks.

use super::look::{INK, LINE, identity};
use super::*;
use crate::api::{Axis, ChartMark, ChartPoint, ChartSeries, ReferenceLine};

/// A position is rounded to a quarter of a unit, and texts of ticks to what they show.
const NEAR: f64 = 0.26;

fn axis(label: &str, unit: &str, categories: &[&str]) -> Axis {
    Axis {
        label: label.to_owned(),
        unit: unit.to_owned(),
        categories: categories.iter().map(|&name| name.to_owned()).collect(),
        min: categories.is_empty().then_some(0.0),
        log: false,
        reference: None,
    }
}

fn point(x: f64, y: f64, interval: Option<(f64, f64)>) -> ChartPoint {
    ChartPoint {
        x,
        y,
        lo: interval.map(|(lo, _)| lo),
        hi: interval.map(|(_, hi)| hi),
        value: None,
    }
}

fn series(model: &str, points: Vec<ChartPoint>, marks: Vec<ChartMark>) -> ChartSeries {
    ChartSeries {
        model: model.to_owned(),
        name: format!("Model {model}"),
        points,
        marks,
        dashed: false,
    }
}

fn dots_data() -> ChartData {
    let said = |x, y, kind| ChartMark {
        x,
        y,
        kind,
        label: "someone".to_owned(),
    };
    ChartData {
        title: "MMLU accuracy with 95 % intervals".to_owned(),
        form: ChartForm::Dots,
        x: axis("Model", "", &["Model a", "Model b", "Model c"]),
        y: Axis {
            reference: Some(ReferenceLine {
                value: 25.0,
                label: "guessing".to_owned(),
            }),
            ..axis("MMLU accuracy", "%", &[])
        },
        value: None,
        series: vec![
            series(
                "a",
                vec![point(0.0, 31.0, Some((24.0, 38.9)))],
                vec![
                    said(0.0, 25.3, ReferenceKind::Claimed),
                    said(0.0, 32.2, ReferenceKind::Published),
                ],
            ),
            series("b", vec![point(1.0, 26.5, Some((25.8, 27.2)))], Vec::new()),
            series("c", vec![point(2.0, 44.4, None)], Vec::new()),
        ],
    }
}

fn identities() -> Vec<ModelIdentity> {
    ["other", "c", "b", "a"]
        .iter()
        .zip(0..)
        .map(|(&model, index)| ModelIdentity {
            model: model.to_owned(),
            index,
        })
        .collect()
}

/// Elements of an SVG: name, attributes, text.
fn elements(svg: &str) -> Vec<Element> {
    svg.split('<')
        .skip(1)
        .filter(|part| !part.starts_with('/'))
        .map(|part| {
            let (head, text) = part.split_once('>').expect("a closed tag");
            let (name, rest) = head.split_once(' ').unwrap_or((head, ""));
            let attributes = rest
                .split("\" ")
                .filter_map(|pair| pair.split_once("=\""))
                .map(|(key, value)| {
                    let value = value.trim_end_matches(['/', '"']);
                    (key.trim().to_owned(), value.to_owned())
                })
                .collect();
            (name.to_owned(), attributes, text.trim().to_owned())
        })
        .collect()
}

type Element = (String, Vec<(String, String)>, String);

fn get<'a>((_, attributes, _): &'a Element, key: &str) -> &'a str {
    attributes
        .iter()
        .find(|(name, _)| name == key)
        .map_or("", |(_, value)| value.as_str())
}

fn hex((r, g, b): scene::Colour) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

fn number(element: &Element, key: &str) -> f64 {
    get(element, key).parse().expect("a number")
}

/// Points of a polygon or polyline.
fn corners(element: &Element) -> Vec<(f64, f64)> {
    get(element, "points")
        .split_whitespace()
        .map(|pair| {
            let (x, y) = pair.split_once(',').expect("x,y");
            (x.parse().expect("x"), y.parse().expect("y"))
        })
        .collect()
}

/// Middle of each filled marker of this place in the order of first use. Everything is four times as large.
fn markers(all: &[Element], place: usize) -> Vec<(f64, f64)> {
    let (colour, outline) = identity(place);
    all.iter()
        .filter(|element| get(element, "fill") == hex(colour))
        .filter_map(|element| match (element.0.as_str(), outline) {
            ("circle", None) => Some((number(element, "cx") / 4.0, number(element, "cy") / 4.0)),
            ("polygon", Some(outline)) => {
                // The first corner lies where the outline has it.
                let (x, y) = corners(element)[0];
                Some((x / 4.0 - outline[0].0, y / 4.0 - outline[0].1))
            }
            _ => None,
        })
        .collect()
}

/// Positions of the grid's lines and the numbers of the ticks below (or beside) them: the scale as a reader sees it.
fn read_scale(all: &[Element], horizontal: bool) -> impl Fn(f64) -> f64 {
    let mut lines: Vec<f64> = all
        .iter()
        .filter(|element| element.0 == "polyline" && get(element, "stroke") == hex(LINE))
        .map(corners)
        .filter(|ends| (ends[0].0 == ends[1].0) == horizontal)
        .map(|ends| if horizontal { ends[0].0 } else { ends[0].1 } / 4.0)
        .collect();
    lines.sort_by(f64::total_cmp);
    let mut ticks: Vec<(f64, f64)> = all
        .iter()
        .filter(|element| element.0 == "text")
        .filter_map(|element| {
            let value: f64 = element.2.parse().ok()?;
            let at = number(element, if horizontal { "x" } else { "y" }) / 4.0;
            let near = lines.iter().find(|line| (*line - at).abs() < 9.0)?;
            // Upright grids have their ticks centred below them, level grids beside them.
            let anchor = get(element, "text-anchor");
            ((anchor == "middle") == horizontal).then_some((*near, value))
        })
        .collect();
    ticks.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    assert!(ticks.len() >= 3, "{ticks:?} on {lines:?}");
    move |value| first.0 + (value - first.1) * (last.0 - first.0) / (last.1 - first.1)
}

#[test]
fn every_dot_interval_and_mark_stands_where_the_data_says() {
    let data = dots_data();
    let all_identities = identities();
    let scene = chart(&data, &Identities(&all_identities), CHART_WIDTH);
    let text = svg(&scene, "t").unwrap();
    let all = elements(&text);
    let at = read_scale(&all, true);
    for series in &data.series {
        let place = Identities(&all_identities).of(&series.model);
        let found = markers(&all, place);
        assert_eq!(found.len(), series.points.len(), "{}", series.model);
        for (point, (x, _)) in series.points.iter().zip(&found) {
            assert!((x - at(point.y)).abs() < NEAR, "{x} is not {}", at(point.y));
            let spans: Vec<(f64, f64)> = all
                .iter()
                .filter(|element| {
                    element.0 == "polyline" && get(element, "stroke") == hex(identity(place).0)
                })
                .map(corners)
                .map(|ends| (ends[0].0 / 4.0, ends[1].0 / 4.0))
                .collect();
            match (point.lo, point.hi) {
                (Some(lo), Some(hi)) => {
                    assert_eq!(spans.len(), 1);
                    assert!(
                        (spans[0].0 - at(lo)).abs() < NEAR && (spans[0].1 - at(hi)).abs() < NEAR
                    );
                }
                _ => assert!(spans.is_empty()),
            }
        }
    }
    // Bars of others' values: one whole, one broken into several pieces (and the legend's two).
    let bars: Vec<f64> = all
        .iter()
        .filter(|element| {
            element.0 == "polyline"
                && get(element, "stroke") == hex(INK)
                && get(element, "stroke-width") == "8"
        })
        .map(|element| corners(element)[0].0 / 4.0)
        .collect();
    let near = |value: f64| {
        bars.iter()
            .filter(|x| (*x - at(value)).abs() < NEAR)
            .count()
    };
    assert_eq!(near(32.2), 1);
    assert!(near(25.3) >= 3, "{bars:?}");
    assert!(text.contains("claimed, without harness or shots"));
    assert!(text.contains(">\nguessing\n<") && text.contains("MMLU accuracy, %"));
}

#[test]
fn both_axes_of_a_plane_hold() {
    let data = ChartData {
        title: "Quality against memory".to_owned(),
        form: ChartForm::Scatter,
        x: axis("Peak memory", "GB", &[]),
        y: axis("MMLU accuracy", "%", &[]),
        value: None,
        series: vec![
            series("a", vec![point(0.22, 31.0, Some((24.0, 38.9)))], Vec::new()),
            series("b", vec![point(1.9, 49.0, Some((48.0, 50.0)))], Vec::new()),
        ],
    };
    let all_identities = identities();
    let scene = chart(&data, &Identities(&all_identities), CHART_WIDTH);
    let all = elements(&svg(&scene, "t").unwrap());
    let (x, y) = (read_scale(&all, true), read_scale(&all, false));
    for series in &data.series {
        let found = markers(&all, Identities(&all_identities).of(&series.model));
        let point = &series.points[0];
        assert_eq!(found.len(), 1);
        assert!((found[0].0 - x(point.x)).abs() < NEAR, "{found:?}");
        assert!((found[0].1 - y(point.y)).abs() < NEAR, "{found:?}");
        assert!(
            all.iter().any(|element| element.2 == series.name),
            "its name"
        );
    }
}

#[test]
fn a_heat_map_has_a_cell_and_a_number_for_each_value() {
    let cell = |x, y, value| ChartPoint {
        value: Some(value),
        ..point(x, y, None)
    };
    let data = ChartData {
        title: "By subject".to_owned(),
        form: ChartForm::HeatMap,
        x: axis("Model", "", &["Model a", "Model b"]),
        y: axis("Subject", "", &["STEM · astronomy", "Other · marketing"]),
        value: Some(axis("MMLU accuracy", "%", &[])),
        series: vec![
            series(
                "a",
                vec![cell(0.0, 0.0, 12.0), cell(0.0, 1.0, 90.0)],
                Vec::new(),
            ),
            series("b", vec![cell(1.0, 1.0, 50.0)], Vec::new()),
        ],
    };
    let all = elements(&svg(&chart(&data, &Identities(&[]), CHART_WIDTH), "t").unwrap());
    let cells: Vec<&Element> = all
        .iter()
        .filter(|element| element.0 == "rect" && get(element, "fill") != "#FFFFFF")
        .collect();
    assert_eq!(cells.len(), 3, "the missing pair has no cell");
    for (value, share) in [(12.0, 12.0 / 90.0), (90.0, 1.0), (50.0, 50.0 / 90.0)] {
        assert!(
            cells
                .iter()
                .any(|cell| get(cell, "fill") == hex(look::heat(share)))
        );
        assert!(all.iter().any(|element| element.2 == format!("{value:.0}")));
    }
}

#[test]
fn logarithmic_axes_take_models_of_any_size() {
    let data = ChartData {
        title: "Quality against size".to_owned(),
        form: ChartForm::Scatter,
        x: Axis {
            log: true,
            min: None,
            ..axis("Parameters", "billion", &[])
        },
        y: axis("MMLU accuracy", "%", &[]),
        value: None,
        series: vec![
            series("a", vec![point(0.07, 25.0, None)], Vec::new()),
            series("b", vec![point(0.7, 30.0, None)], Vec::new()),
            series("c", vec![point(7.0, 45.0, None)], Vec::new()),
        ],
    };
    let all_identities = identities();
    let all = elements(
        &svg(
            &chart(&data, &Identities(&all_identities), CHART_WIDTH),
            "t",
        )
        .unwrap(),
    );
    let x: Vec<f64> = ["a", "b", "c"]
        .map(|model| markers(&all, Identities(&all_identities).of(model))[0].0)
        .to_vec();
    assert!((x[1] - x[0] - (x[2] - x[1])).abs() < 2.0 * NEAR, "{x:?}");
}

#[test]
fn hostile_names_stay_text_in_a_well_formed_picture() {
    let mut data = dots_data();
    let name = "</text><script>alert('x')</script>\u{0}\u{202e}&amp;\"";
    data.series[0].name = name.to_owned();
    data.x.categories[0] = name.to_owned();
    data.title = name.repeat(20);
    let text = svg(
        &picture(&[data], &Identities(&[]), name, &[name.to_owned()]),
        name,
    )
    .unwrap();
    assert!(!text.contains("<script") && !text.contains('\u{0}') && !text.contains('\u{202e}'));
    assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"));
    assert_eq!(
        text.matches("<text").count(),
        text.matches("</text>").count()
    );
}

#[test]
fn the_same_scene_becomes_a_png_of_twice_its_size() {
    let all_identities = identities();
    let scene = picture(
        &[dots_data()],
        &Identities(&all_identities),
        "Scorecard 1",
        &[],
    );
    let bytes = png(&scene).unwrap();
    let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    let mut reader = decoder.read_info().unwrap();
    let (width, height) = (reader.info().width, reader.info().height);
    assert_eq!(f64::from(width), (scene.width * 2.0).round());
    assert!((f64::from(height) - scene.height * 2.0).abs() <= 1.0);
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    // The marker of model a has its colour at its middle, and the heading left dark letters.
    let mut middle = None;
    for shape in &scene.shapes {
        if let scene::Shape::Marker { at, identity } = shape
            && *identity == 3
        {
            middle = Some(*at);
        }
    }
    let (x, y) = middle.expect("drawn");
    let at = ((y * 2.0) as usize * width as usize + (x * 2.0) as usize) * 3;
    let (r, g, b) = identity(3).0;
    assert_eq!(pixels[at..at + 3], [r, g, b]);
    let dark = pixels
        .chunks(3)
        .filter(|p| p.iter().all(|&c| c < 0x60))
        .count();
    assert!(dark > 1000, "{dark} dark pixels");
}

#[test]
fn colours_are_those_of_the_window_and_of_the_report() {
    let tokens = include_str!("../../../../../ui/src/styles/tokens.css");
    for place in 0..7 {
        let token = format!(
            "--series-{}: {};",
            place + 1,
            hex(identity(place).0).to_lowercase()
        );
        assert!(tokens.contains(&token), "{token}");
    }
    let css = include_str!("../report.css");
    for colour in [INK, look::INK_SOFT, LINE, look::SURFACE] {
        assert!(
            css.contains(&format!("=\"{}\"]", hex(colour))),
            "{}",
            hex(colour)
        );
    }
    // What stands on a heat map keeps its colour in the dark.
    for colour in [look::CELL_INK, look::CELL_PAPER] {
        assert!(!css.contains(&hex(colour)));
    }
    // A ninth model has the first colour with another marker.
    assert_eq!(identity(8).0, identity(0).0);
    assert_ne!(identity(8).1, identity(0).1);
}
