//! What is drawn, as plain shapes in the order of drawing: coordinates in units of the picture (pixels at the size it is
//! meant for), y downwards. It knows neither files nor backends, so that layout can be tested as data.

use super::font::Face;

/// Red, green, blue.
pub(crate) type Colour = (u8, u8, u8);

/// Where a text's anchor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Start,
    Middle,
    End,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Line {
        from: (f64, f64),
        to: (f64, f64),
        width: f64,
        colour: Colour,
    },
    Rect {
        from: (f64, f64),
        to: (f64, f64),
        fill: Colour,
    },
    /// A model's marker, about 12 units wide.
    Marker {
        at: (f64, f64),
        /// Index of `look::identity`.
        identity: usize,
    },
    /// `at` is the anchor on the baseline.
    Text {
        at: (f64, f64),
        text: String,
        size: f64,
        face: Face,
        align: Align,
        colour: Colour,
    },
}

/// A picture of a given size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) shapes: Vec<Shape>,
}

impl Scene {
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        self.shapes.push(Shape::Line {
            from,
            to,
            width,
            colour,
        });
    }

    /// A line of dashes `on` long with gaps of `off`.
    pub(crate) fn dashes(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        (on, off): (f64, f64),
        (width, colour): (f64, Colour),
    ) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let along = |distance: f64| {
            let share = (distance / length).min(1.0);
            (
                from.0 + (to.0 - from.0) * share,
                from.1 + (to.1 - from.1) * share,
            )
        };
        let mut at = 0.0;
        while at < length {
            self.line(along(at), along(at + on), width, colour);
            at += on + off;
        }
    }

    pub(crate) fn rect(&mut self, from: (f64, f64), to: (f64, f64), fill: Colour) {
        self.shapes.push(Shape::Rect { from, to, fill });
    }

    pub(crate) fn marker(&mut self, at: (f64, f64), identity: usize) {
        self.shapes.push(Shape::Marker { at, identity });
    }

    pub(crate) fn text(
        &mut self,
        at: (f64, f64),
        text: &str,
        size: f64,
        align: Align,
        colour: Colour,
    ) {
        self.shapes.push(Shape::Text {
            at,
            text: text.to_owned(),
            size,
            face: Face::Regular,
            align,
            colour,
        });
    }

    pub(crate) fn bold(&mut self, at: (f64, f64), text: &str, size: f64, colour: Colour) {
        self.shapes.push(Shape::Text {
            at,
            text: text.to_owned(),
            size,
            face: Face::Bold,
            align: Align::Start,
            colour,
        });
    }

    /// Takes in another picture with its upper left corner at `at`.
    pub(crate) fn put(&mut self, at: (f64, f64), other: Scene) {
        let moved = |(x, y): (f64, f64)| (x + at.0, y + at.1);
        self.shapes
            .extend(other.shapes.into_iter().map(|mut shape| {
                match &mut shape {
                    Shape::Line { from, to, .. } | Shape::Rect { from, to, .. } => {
                        (*from, *to) = (moved(*from), moved(*to));
                    }
                    Shape::Marker { at, .. } | Shape::Text { at, .. } => *at = moved(*at),
                }
                shape
            }));
    }
}
