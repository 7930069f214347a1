//! Paints a scene with plotters: as SVG, or as PNG with the bundled font.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color as _, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle,
};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind,
};

use super::font::Face;
use super::look::{CIRCLE_RADIUS, INK, identity};
use super::scene::{Align, Colour, Scene, Shape};
use crate::api::ApiError;
use crate::words::plain;

/// Plotters counts in whole pixels: everything is painted so much larger and shown smaller.
const FINE: f64 = 4.0;
/// Pixels of a PNG for each unit.
const SHARP: u32 = 2;
/// Plotters takes the size of a font for 1.24 times its em.
const PLOTTERS_EM: f64 = 1.24;
/// No picture may take more memory while it is painted.
const MOST_BYTES: u64 = 1 << 30;

/// The scene as an SVG document.
pub(crate) fn svg(scene: &Scene, title: &str) -> Result<String, ApiError> {
    let size = painted(scene)?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        paint(scene, &area)
            .and_then(|()| area.present())
            .map_err(failed)?;
    }
    // The units of the drawing are finer than those of the page.
    let (Some(start), Some(end)) = (text.find("<svg"), text.find('>')) else {
        return Err(failed("no SVG came of it"));
    };
    let head = format!(
        "<svg width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\">\n<title>{}</title>",
        scene.width,
        scene.height,
        size.0,
        size.1,
        xml(title)
    );
    text.replace_range(start..=end, &head);
    Ok(text)
}

/// Text inside XML.
pub(crate) fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The scene as a PNG file.
pub(crate) fn png(scene: &Scene) -> Result<Vec<u8>, ApiError> {
    let (width, height) = painted(scene)?;
    let bytes = u64::from(width) * u64::from(height) * 3;
    if bytes > MOST_BYTES {
        return Err(ApiError::failed(format!(
            "the picture would be {} x {} and take {} while it is drawn; export SVG, or fewer models",
            scene.width,
            scene.height,
            crate::machine::bytes_words(bytes)
        )));
    }
    let mut pixels = vec![0xff; bytes as usize];
    {
        let bitmap = BitMapBackend::with_buffer(&mut pixels, (width, height));
        let area = Lettered(bitmap).into_drawing_area();
        paint(scene, &area)
            .and_then(|()| area.present())
            .map_err(failed)?;
    }
    let step = FINE as u32 / SHARP;
    let (small_width, small_height) = (width / step, height / step);
    let small = shrink(&pixels, width, (small_width, small_height), step);
    drop(pixels);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, small_width, small_height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // 192 dots an inch: what is twice as fine is shown at the size it was laid out for.
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: 7559,
        yppu: 7559,
        unit: png::Unit::Meter,
    }));
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(&small)?;
            writer.finish()
        })
        .map_err(failed)?;
    Ok(file)
}

fn painted(scene: &Scene) -> Result<(u32, u32), ApiError> {
    let side = |length: f64| (length * FINE).ceil();
    let (width, height) = (side(scene.width), side(scene.height));
    let fits = |side: f64| (1.0..200_000.0).contains(&side);
    if !(fits(width) && fits(height)) {
        return Err(failed(format!("{} x {}", scene.width, scene.height)));
    }
    Ok((width as u32, height as u32))
}

/// Means of squares of `step` pixels.
fn shrink(pixels: &[u8], width: u32, (columns, rows): (u32, u32), step: u32) -> Vec<u8> {
    let (width, step) = (width as usize, step as usize);
    let mut small = Vec::with_capacity(columns as usize * rows as usize * 3);
    for row in 0..rows as usize {
        for column in 0..columns as usize {
            for channel in 0..3 {
                let mut sum = 0u32;
                for y in 0..step {
                    for x in 0..step {
                        let at = (row * step + y) * width + column * step + x;
                        sum += u32::from(pixels[at * 3 + channel]);
                    }
                }
                small.push((sum / (step * step) as u32) as u8);
            }
        }
    }
    small
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::failed(format!(
        "the chart cannot be drawn ({error}); please report this"
    ))
}

fn paint<D: DrawingBackend>(
    scene: &Scene,
    area: &DrawingArea<D, Shift>,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    let place = |(x, y): (f64, f64)| ((x * FINE).round() as i32, (y * FINE).round() as i32);
    let rgb = |(r, g, b): Colour| RGBColor(r, g, b);
    area.fill(&rgb(super::look::SURFACE))?;
    for shape in &scene.shapes {
        match shape {
            Shape::Line {
                from,
                to,
                width,
                colour,
            } => area.draw(&PathElement::new(
                [place(*from), place(*to)],
                broad(*colour, *width),
            ))?,
            Shape::Rect { from, to, fill } => area.draw(&Rectangle::new(
                [place(*from), place(*to)],
                rgb(*fill).filled(),
            ))?,
            Shape::Marker { at, identity: of } => marker(area, *at, *of)?,
            Shape::Text {
                at,
                text,
                size,
                face,
                align,
                colour,
            } => {
                let style = match face {
                    Face::Regular => FontStyle::Normal,
                    Face::Bold => FontStyle::Bold,
                };
                // Both backends put the anchor's bottom on the baseline, less what `BASELINE` gives back.
                let position = place((at.0, at.1 + size * BASELINE));
                let font = FontDesc::new(FontFamily::SansSerif, size * FINE * PLOTTERS_EM, style);
                let h_pos = match align {
                    Align::Start => HPos::Left,
                    Align::Middle => HPos::Center,
                    Align::End => HPos::Right,
                };
                let colour = rgb(*colour);
                let style = TextStyle::from(font)
                    .color(&colour)
                    .pos(Pos::new(h_pos, VPos::Bottom));
                area.draw(&Text::new(plain(text), position, style))?;
            }
        }
    }
    Ok(())
}

/// A line of this width.
fn broad((r, g, b): Colour, width: f64) -> ShapeStyle {
    let width = (width * FINE).round().max(1.0) as u32;
    ShapeStyle::from(RGBColor(r, g, b)).stroke_width(width)
}

/// SVG's texts are lifted by half the height of an x above their anchor; a quarter of the em in most fonts.
const BASELINE: f64 = 0.26;

fn marker<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    at: (f64, f64),
    of: usize,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    let (fill, outline) = identity(of);
    let fill = RGBColor(fill.0, fill.1, fill.2);
    let stroke = broad(INK, 1.0);
    let place = |(x, y): (f64, f64)| {
        (
            ((at.0 + x) * FINE).round() as i32,
            ((at.1 + y) * FINE).round() as i32,
        )
    };
    match outline {
        None => {
            let radius = (CIRCLE_RADIUS * FINE).round() as i32;
            area.draw(&Circle::new(place((0.0, 0.0)), radius, fill.filled()))?;
            area.draw(&Circle::new(place((0.0, 0.0)), radius, stroke))
        }
        Some(corners) => {
            let mut corners: Vec<(i32, i32)> =
                corners.iter().map(|corner| place(*corner)).collect();
            area.draw(&Polygon::new(corners.clone(), fill.filled()))?;
            corners.extend_from_within(..2);
            area.draw(&PathElement::new(corners, stroke))
        }
    }
}

/// A bitmap whose texts are set in the bundled font; plotters itself would look for fonts of the system.
struct Lettered<'a>(BitMapBackend<'a>);

impl DrawingBackend for Lettered<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.present()
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        // A broad upright or level line is a rectangle; the general way is slow and ragged.
        let half = style.stroke_width() as i32 / 2;
        if style.stroke_width() > 1 && (from.0 == to.0 || from.1 == to.1) {
            let ((x0, x1), (y0, y1)) = (
                (from.0.min(to.0), from.0.max(to.0)),
                (from.1.min(to.1), from.1.max(to.1)),
            );
            let odd = style.stroke_width() as i32 % 2;
            let (upper, lower) = if from.0 == to.0 {
                ((x0 - half, y0), (x1 + half + odd - 1, y1))
            } else {
                ((x0, y0 - half), (x1, y1 + half + odd - 1))
            };
            return self.0.draw_rect(upper, lower, &style.color(), true);
        }
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_text<T: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &T,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Self::ErrorType>> {
        let face = match style.style() {
            FontStyle::Bold => Face::Bold,
            _ => Face::Regular,
        };
        let size = style.size() / PLOTTERS_EM;
        let width = face.width(text, size);
        let start = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => width / 2.0,
            HPos::Right => width,
        };
        let colour = style.color();
        let mut drawn = Ok(());
        let from = (f64::from(x) - start, f64::from(y) - size * BASELINE);
        face.draw(text, size, from, &mut |x, y, coverage| {
            if drawn.is_ok() && coverage > 0.0 {
                let shade = BackendColor {
                    alpha: colour.alpha * f64::from(coverage.min(1.0)),
                    ..colour
                };
                drawn = self.0.draw_pixel((x, y), shade);
            }
        });
        drawn
    }
}
