//! What a chart shows, as the window and the exports draw it.

use serde::{Deserialize, Serialize};

use super::ReferenceKind;

/// What a chart shows; the window draws it interactively, exports draw the same data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChartData {
    /// Says what to see.
    pub title: String,
    /// How it is drawn.
    pub form: ChartForm,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What the colour of a heat map's cells measures.
    pub value: Option<Axis>,
    /// One series a model.
    pub series: Vec<ChartSeries>,
}

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ChartForm {
    /// A dot with its interval for each category (x is an index into `Axis::categories`).
    Dots,
    /// Two measured axes, a dot a model.
    Scatter,
    /// A line through the points of each series; the horizontal axis is measured.
    Line,
    /// A cell for each pair of categories; `ChartPoint::value` is its colour, `Axis` of which is `ChartData::value`.
    HeatMap,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Axis {
    /// What it measures.
    pub label: String,
    /// Unit, perhaps empty.
    pub unit: String,
    /// Names of the positions 0, 1, …; empty on a measured axis.
    pub categories: Vec<String>,
    /// Smallest value to show, where it is fixed.
    pub min: Option<f64>,
    /// Equal steps are equal ratios.
    pub log: bool,
    /// A reference line, for example chance level.
    pub reference: Option<ReferenceLine>,
}

/// A line across a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ReferenceLine {
    /// Where.
    pub value: f64,
    /// What it is.
    pub label: String,
}

/// The points of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChartSeries {
    /// Model id; a model keeps one colour and one marker everywhere.
    pub model: String,
    /// For the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<ChartPoint>,
    /// What others say, beside its points.
    pub marks: Vec<ChartMark>,
    /// Its line is dashed: a second series of the same model.
    #[serde(default)]
    pub dashed: bool,
}

/// A point with its vertical interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChartPoint {
    /// Horizontal.
    pub x: f64,
    /// Vertical.
    pub y: f64,
    /// Lower end.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// What the colour of a heat map's cell shows.
    pub value: Option<f64>,
}

/// A published or claimed value in a chart; never drawn like a measured one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChartMark {
    /// Horizontal.
    pub x: f64,
    /// Vertical.
    pub y: f64,
    /// Published or claimed.
    pub kind: ReferenceKind,
    /// Where it stands.
    pub label: String,
}
