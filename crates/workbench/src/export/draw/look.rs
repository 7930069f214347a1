//! Colours and markers of pictures: the light theme of the window (ui/src/styles/tokens.css), the eight colours of Okabe
//! and Ito (2008) in the order of first use, and the outlines of ui/src/parts/shapes.ts.

use super::scene::Colour;

/// Text and outlines. A report turns it light where its reader has a dark screen.
pub(crate) const INK: Colour = (0x1e, 0x22, 0x2c);
/// Ticks and titles of axes.
pub(crate) const INK_SOFT: Colour = (0x56, 0x5b, 0x67);
/// Grid.
pub(crate) const LINE: Colour = (0xd8, 0xdb, 0xe1);
/// Paper.
pub(crate) const SURFACE: Colour = (0xff, 0xff, 0xff);
/// Text on the colours of a heat map, which are the same in light and dark.
pub(crate) const CELL_INK: Colour = (0x1e, 0x22, 0x2d);
pub(crate) const CELL_PAPER: Colour = (0xfd, 0xfd, 0xff);
/// Ends of a heat map.
const HEAT_LOW: Colour = (0xe9, 0xee, 0xfb);
const HEAT_HIGH: Colour = (0x2b, 0x3f, 0xa8);

const SERIES: [Colour; 8] = [
    (0xe6, 0x9f, 0x00),
    (0x56, 0xb4, 0xe9),
    (0x00, 0x9e, 0x73),
    (0xf0, 0xe4, 0x42),
    (0x00, 0x72, 0xb2),
    (0xd5, 0x5e, 0x00),
    (0xcc, 0x79, 0xa7),
    INK,
];

/// A marker's outline around the origin; none is a circle of `CIRCLE_RADIUS`.
type Outline = Option<&'static [(f64, f64)]>;

pub(crate) const CIRCLE_RADIUS: f64 = 5.6;

/// Circle, square, triangle, diamond, cross, wedge, star, hexagon.
const OUTLINES: [Outline; 8] = [
    None,
    Some(&[(-5.0, -5.0), (5.0, -5.0), (5.0, 5.0), (-5.0, 5.0)]),
    Some(&[(0.0, -6.4), (6.2, 4.8), (-6.2, 4.8)]),
    Some(&[(0.0, -6.8), (6.8, 0.0), (0.0, 6.8), (-6.8, 0.0)]),
    Some(&[
        (-2.0, -6.0),
        (2.0, -6.0),
        (2.0, -2.0),
        (6.0, -2.0),
        (6.0, 2.0),
        (2.0, 2.0),
        (2.0, 6.0),
        (-2.0, 6.0),
        (-2.0, 2.0),
        (-6.0, 2.0),
        (-6.0, -2.0),
        (-2.0, -2.0),
    ]),
    Some(&[(0.0, 6.4), (6.2, -4.8), (-6.2, -4.8)]),
    Some(&[
        (0.0, -7.0),
        (1.8, -2.4),
        (6.7, -2.2),
        (2.9, 0.9),
        (4.1, 5.7),
        (0.0, 3.0),
        (-4.1, 5.7),
        (-2.9, 0.9),
        (-6.7, -2.2),
        (-1.8, -2.4),
    ]),
    Some(&[
        (-3.0, -5.4),
        (3.0, -5.4),
        (6.2, 0.0),
        (3.0, 5.4),
        (-3.0, 5.4),
        (-6.2, 0.0),
    ]),
];

/// Colour and outline of the model at this place in the order of first use, as the window has them
/// (ui/src/state/identity.svelte.ts).
pub(crate) fn identity(place: usize) -> (Colour, Outline) {
    let colour = place % SERIES.len();
    let shape = (colour + place / SERIES.len()) % OUTLINES.len();
    (SERIES[colour], OUTLINES[shape])
}

/// Colour of a heat map's cell, `share` of the way from the lowest to the highest value.
pub(crate) fn heat(share: f64) -> Colour {
    let share = share.clamp(0.0, 1.0);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
    (
        mix(HEAT_LOW.0, HEAT_HIGH.0),
        mix(HEAT_LOW.1, HEAT_HIGH.1),
        mix(HEAT_LOW.2, HEAT_HIGH.2),
    )
}

/// Text that can be read on a cell.
pub(crate) fn cell_ink(share: f64) -> Colour {
    if share > 0.5 { CELL_PAPER } else { CELL_INK }
}
