//! The font of pictures: DejaVu Sans, a subset in `fonts/` with its licence. Its widths place the texts of every export;
//! PNG is drawn with its outlines, SVG with whatever sans-serif the viewer has.

use std::sync::OnceLock;

use ab_glyph::{Font as _, FontRef, GlyphId, PxScale, ScaleFont as _, point};

/// Weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Regular,
    Bold,
}

impl Face {
    fn font(self) -> &'static FontRef<'static> {
        static FONTS: OnceLock<[FontRef<'static>; 2]> = OnceLock::new();
        let fonts = FONTS.get_or_init(|| {
            let read = |bytes| FontRef::try_from_slice(bytes).expect("the bundled fonts are whole");
            [
                read(include_bytes!("../../../fonts/DejaVuSans-subset.ttf")),
                read(include_bytes!("../../../fonts/DejaVuSans-Bold-subset.ttf")),
            ]
        });
        match self {
            Self::Regular => &fonts[0],
            Self::Bold => &fonts[1],
        }
    }

    /// The scale at which the em is `size` high.
    fn scale(self, size: f64) -> PxScale {
        let font = self.font();
        let units = font.units_per_em().unwrap_or(2048.0);
        PxScale::from(size as f32 * font.height_unscaled() / units)
    }

    /// Glyphs of a text and where each begins, and where the text ends.
    fn set(self, text: &str, size: f64) -> (Vec<(GlyphId, f32)>, f32) {
        let font = self.font().as_scaled(self.scale(size));
        let mut x = 0.0;
        let mut last = None;
        let mut glyphs = Vec::with_capacity(text.len());
        for c in text.chars() {
            // The narrow space of numbers is not in every font; a letter without a glyph is drawn as a box.
            let glyph = font.glyph_id(c);
            if let Some(last) = last {
                x += font.kern(last, glyph);
            }
            glyphs.push((glyph, x));
            x += font.h_advance(glyph);
            last = Some(glyph);
        }
        (glyphs, x)
    }

    /// Width of a text whose em is `size` high.
    pub(crate) fn width(self, text: &str, size: f64) -> f64 {
        f64::from(self.set(text, size).1)
    }

    /// Draws a text from `at` (its start on the baseline): calls back with pixel and coverage.
    pub(crate) fn draw(
        self,
        text: &str,
        size: f64,
        at: (f64, f64),
        pixel: &mut dyn FnMut(i32, i32, f32),
    ) {
        let font = self.font();
        let scale = self.scale(size);
        for (glyph, x) in self.set(text, size).0 {
            let placed = glyph.with_scale_and_position(scale, point(at.0 as f32 + x, at.1 as f32));
            if let Some(outline) = font.outline_glyph(placed) {
                let bounds = outline.px_bounds();
                outline.draw(|x, y, coverage| {
                    pixel(
                        bounds.min.x as i32 + x as i32,
                        bounds.min.y as i32 + y as i32,
                        coverage,
                    );
                });
            }
        }
    }
}

/// The text, cut with an ellipsis if it is wider than `room`.
pub(crate) fn cut(text: &str, size: f64, face: Face, room: f64) -> String {
    if face.width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept: String = text.to_owned();
    while kept.pop().is_some() {
        let shorter = format!("{}…", kept.trim_end());
        if face.width(&shorter, size) <= room {
            return shorter;
        }
    }
    "…".to_owned()
}

/// The text in lines no wider than `room`, broken at spaces; a longer word is cut.
pub(crate) fn wrap(text: &str, size: f64, face: Face, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if face.width(&longer, size) <= room => {
                if let Some(last) = lines.last_mut() {
                    *last = longer;
                }
            }
            _ => lines.push(cut(word, size, face, room)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_grow_with_size_and_text_and_cutting_fits() {
        let width = |text: &str| Face::Regular.width(text, 12.0);
        // DejaVu Sans: a figure is 0.636 em wide.
        assert!((width("0") - 12.0 * 0.636).abs() < 0.02, "{}", width("0"));
        assert!((width("00") - 2.0 * width("0")).abs() < 1e-3);
        assert!(Face::Bold.width("mmm", 12.0) > width("mmm"));
        let short = cut(
            "high school government and politics",
            12.0,
            Face::Regular,
            100.0,
        );
        assert!(short.ends_with('…') && width(&short) <= 100.0, "{short}");
        assert_eq!(cut("short", 12.0, Face::Regular, 100.0), "short");
        let lines = wrap("one two three four", 12.0, Face::Regular, width("one two"));
        assert_eq!(lines, ["one two", "three", "four"]);
        assert!(wrap("", 12.0, Face::Regular, 10.0).is_empty());
    }

    #[test]
    fn the_letters_that_reports_use_are_there() {
        for c in "aZ09 %±–−·…≤≈→éßñŁжΩ×²\u{202f}".chars() {
            for face in [Face::Regular, Face::Bold] {
                assert_ne!(face.font().glyph_id(c).0, 0, "{c:?} in {face:?}");
            }
        }
    }
}
