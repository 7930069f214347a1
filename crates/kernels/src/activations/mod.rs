//! The left operand of every product: rows of f32, and the forms of them that matrices multiply.
//!
//! The int8 form writes a row as two lines of int8, which a kernel multiplies apart and joins in integers: a coarse one with one
//! scale in 32 numbers (`max / 127`, rounded half to even), and a fine one that holds what the coarse one left, in steps
//! 256 times smaller, so that `256 * coarse + fine` is one integer and a product's two sums join by a shift. Eight bits alone
//! change a model's answers: in a simulation on SmolLM2 135M, two texts, the mean KL divergence from f32 was 4e-3 to 5e-3 a
//! token and one greedy token in two differed at the end; with fifteen bits it was below 1e-5 and neither did. A decoding
//! step mostly waits for the weights either way.
//!
//! Weights of four bits are multiplied with twelve bits of each number where that is faster ([`twelve`]).
//!
//! Where the processor multiplies bf16 numbers by an instruction of its own, BF16 matrices read a third form: the rows rounded to
//! bf16, which is the precision such models are trained and served in. It doubles what arithmetic allows; ARCHITECTURE.md has
//! what it changes.
//!
//! It is laid out for kernels: panels of [`PANEL`] rows (the last one may be narrower), and in a panel all rows of a
//! block of 32 columns side by side, the two lines of a row next to each other.

pub(crate) mod twelve;

use crate::scalar::blocks::{Scheme, scheme};
use crate::{Isa, Matrix, Pool, parts::Parts, simd};
use twelve::Int12;

/// Rows that a kernel multiplies at once at most.
pub(crate) const PANEL: usize = 8;

/// Lines of int8 that a row becomes, the coarse one first.
pub(crate) const LINES: usize = 2;

/// `1 << FINER_BITS` steps of the fine line are one of the coarse line. A remainder of exactly half a coarse step would be
/// 128 fine ones and becomes 127.
pub(crate) const FINER_BITS: u32 = 8;

/// Steps of the fine line in one of the coarse line.
pub(crate) const FINER: f32 = (1 << FINER_BITS) as f32;

/// Largest magnitude of a block below which it counts as zeros, so that its scale can be inverted.
pub(crate) const SMALLEST: f32 = f32::MIN_POSITIVE * 128.0;

/// Kinds of [`Correction`] that all formats together can ask for; `scheme` has them.
const KINDS: usize = 5;

/// Numbers from which it pays to wake other threads for quantizing.
const PARALLEL_NUMBERS: usize = 1 << 15;

/// Reusable buffers for the activations that matrices read: shape (rows, cols).
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    f32: Vec<f32>,
    int8: Int8,
    has_int8: bool,
    int12: Int12,
    has_int12: bool,
    /// `[panel][pair of columns][row of panel]`: two bf16, the earlier column in the low half; an odd last one beside 0.
    pairs: Vec<u32>,
    has_pairs: bool,
}

/// The quantized form.
#[derive(Default)]
pub(crate) struct Int8 {
    /// `[panel][block of 32][row of panel][line][32]`
    pub q: Vec<i8>,
    /// `[panel][block of 32][row of panel]`: value = scale * (FINER * coarse + fine).
    pub scales: Vec<f32>,
    /// `[panel][block of 32][half][row of panel]`: sums of 16 integers `FINER * coarse + fine`.
    pub sums: Vec<i32>,
    /// `[panel][block of 32][row of panel]`: scale * sum of 32 integers.
    pub weighted: Vec<f32>,
    /// What the offset of a format adds to integer dot products; one entry for each kind a reader needs, then unused ones,
    /// which keep their memory.
    pub corrections: [Correction; KINDS],
}

/// `-offset * sum`, for every 16 columns or every 32.
#[derive(Default)]
pub(crate) struct Correction {
    /// [`UNUSED`] if no reader needs it.
    pub offset: i32,
    pub in_16: bool,
    /// As `sums`, or as `scales` where sums are of 32.
    pub values: Vec<i32>,
}

/// The offset of no format.
const UNUSED: i32 = i32::MIN;

impl Activations {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the shape and lends the (rows, cols) numbers for writing; they hold leftovers until written.
    pub fn begin(&mut self, rows: usize, cols: usize) -> &mut [f32] {
        (self.rows, self.cols) = (rows, cols);
        (self.has_int8, self.has_int12, self.has_pairs) = (false, false, false);
        self.f32.resize(rows * cols, 0.0);
        &mut self.f32
    }

    /// Prepares what `readers` need, once the numbers are written: of the int8, twelve-bit and bf16 forms those that one
    /// of them multiplies.
    ///
    /// # Panics
    /// If a reader has another number of columns.
    pub fn finish(&mut self, isa: Isa, pool: &Pool, readers: &[&Matrix]) {
        let mut kinds = [(UNUSED, false); KINDS];
        let mut known = 0;
        for matrix in readers {
            assert_eq!(
                matrix.cols(),
                self.cols,
                "activations of {} columns are read by a {} matrix of {} x {}",
                self.cols,
                matrix.format(),
                matrix.rows(),
                matrix.cols()
            );
            assert_eq!(
                matrix.isa(),
                isa,
                "a matrix packed for {} reads activations prepared for {}",
                matrix.isa().name(),
                isa.name()
            );
            self.has_pairs |= simd::reads_pairs(matrix.isa(), matrix.format());
            if simd::reads_int12(matrix.isa(), matrix.format()) {
                self.has_int12 = true;
            } else if let Some((_, offset, scheme)) = scheme(matrix.format()) {
                self.has_int8 = true;
                let kind = (offset, scheme == Scheme::Super16Offset);
                if offset != 0 && !kinds.contains(&kind) {
                    kinds[known] = kind;
                    known += 1;
                }
            }
        }
        if self.has_int8 {
            self.quantize(isa, pool, &kinds);
        }
        if self.has_int12 {
            let shape = (self.rows, self.cols);
            self.int12.quantize(isa, pool, &self.f32, shape);
        }
        if self.has_pairs {
            self.pair(isa, pool);
        }
    }

    /// The numbers, shape (rows, cols).
    pub fn f32(&self) -> &[f32] {
        &self.f32
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn int8(&self) -> &Int8 {
        assert!(
            self.has_int8,
            "activations are read by a quantized matrix that `finish` was not told of"
        );
        &self.int8
    }

    pub(crate) fn int12(&self) -> &Int12 {
        assert!(
            self.has_int12,
            "activations are read by a matrix of four bits that `finish` was not told of"
        );
        &self.int12
    }

    pub(crate) fn pairs(&self) -> &[u32] {
        assert!(
            self.has_pairs,
            "activations are read by a BF16 matrix that `finish` was not told of"
        );
        &self.pairs
    }

    fn pair(&mut self, isa: Isa, pool: &Pool) {
        let (rows, cols) = (self.rows, self.cols);
        let words = cols.div_ceil(2);
        if words == 0 {
            return;
        }
        self.pairs.resize(rows * words, 0);
        let x = &self.f32;
        each_panel(pool, (rows, cols), &mut self.pairs, &|first, width, out| {
            simd::pair_panel(isa, &x[first * cols..(first + width) * cols], cols, out);
        });
    }

    fn quantize(&mut self, isa: Isa, pool: &Pool, kinds: &[(i32, bool); KINDS]) {
        let (rows, cols) = (self.rows, self.cols);
        let blocks = cols / 32;
        if blocks == 0 {
            return;
        }
        let x = &self.f32;
        let int8 = &mut self.int8;
        int8.q.resize(rows * LINES * cols, 0);
        int8.scales.resize(rows * blocks, 0.0);
        int8.sums.resize(rows * blocks * 2, 0);
        int8.weighted.resize(rows * blocks, 0.0);
        for (correction, kind) in int8.corrections.iter_mut().zip(kinds) {
            (correction.offset, correction.in_16) = *kind;
            if kind.0 != UNUSED {
                let len = rows * blocks * if kind.1 { 2 } else { 1 };
                correction.values.resize(len, 0);
            }
        }
        let q = Parts::new(&mut int8.q);
        let scales = Parts::new(&mut int8.scales);
        let sums = Parts::new(&mut int8.sums);
        let weighted = Parts::new(&mut int8.weighted);
        let corrections = int8
            .corrections
            .each_mut()
            .map(|c| (c.offset, c.in_16, Parts::new(&mut c.values)));
        let panel = |panel: usize| {
            let first = panel * PANEL;
            let width = PANEL.min(rows - first);
            let (start, end) = (first * blocks, (first + width) * blocks);
            // SAFETY: parts of one panel, and each panel is visited once.
            let mut out = unsafe {
                Int8Panel {
                    q: q.part(start * 32 * LINES..end * 32 * LINES),
                    scales: scales.part(start..end),
                    sums: sums.part(start * 2..end * 2),
                    weighted: weighted.part(start..end),
                }
            };
            simd::quantize_panel(
                isa,
                &x[first * cols..(first + width) * cols],
                cols,
                &mut out,
            );
            let sums = out.sums;
            let used = corrections.iter().take_while(|c| c.0 != UNUSED);
            for (offset, in_16, values) in used {
                if *in_16 {
                    // SAFETY: as above.
                    let values = unsafe { values.part(start * 2..end * 2) };
                    for (v, s) in values.iter_mut().zip(&*sums) {
                        *v = s.wrapping_mul(-offset);
                    }
                } else {
                    // SAFETY: as above.
                    let values = unsafe { values.part(start..end) };
                    for (v, s) in values
                        .chunks_exact_mut(width)
                        .zip(sums.chunks_exact(2 * width))
                    {
                        for r in 0..width {
                            v[r] = s[r].wrapping_add(s[width + r]).wrapping_mul(-offset);
                        }
                    }
                }
            }
        };
        let panels = rows.div_ceil(PANEL);
        if rows * cols < PARALLEL_NUMBERS {
            (0..panels).for_each(panel);
        } else {
            pool.run(panels, &panel);
        }
    }
}

/// Lends `work` the part of `out` that belongs to each panel of `(rows, cols)` numbers: (first row, rows, part).
fn each_panel<T: Send>(
    pool: &Pool,
    (rows, cols): (usize, usize),
    out: &mut [T],
    work: &(dyn Fn(usize, usize, &mut [T]) + Sync),
) {
    let each = out.len() / rows.max(1);
    let parts = Parts::new(out);
    let panel = |panel: usize| {
        let first = panel * PANEL;
        let width = PANEL.min(rows - first);
        // SAFETY: parts of one panel, and each panel is visited once.
        let out = unsafe { parts.part(first * each..(first + width) * each) };
        work(first, width, out);
    };
    let panels = rows.div_ceil(PANEL);
    if rows * cols < PARALLEL_NUMBERS {
        (0..panels).for_each(panel);
    } else {
        pool.run(panels, &panel);
    }
}

/// Where the int8 form of one panel goes; see [`Int8`].
pub(crate) struct Int8Panel<'a> {
    pub q: &'a mut [i8],
    pub scales: &'a mut [f32],
    pub sums: &'a mut [i32],
    pub weighted: &'a mut [f32],
}

/// What a block of 32 numbers becomes besides its integers: the scale of the coarse line, and the sums of each half of
/// each line.
pub(crate) type Block = (f32, [[i32; 2]; LINES]);

/// The rows of a panel, each `cols` long, block by block through `quantize_32` or its twin.
#[inline(always)]
pub(crate) fn quantize_panel(
    x: &[f32],
    cols: usize,
    out: &mut Int8Panel<'_>,
    block: impl Fn(&[f32; 32], &mut [[i8; 32]; LINES]) -> Block,
) {
    let width = x.len() / cols;
    let q = out.q.as_chunks_mut().0.as_chunks_mut().0;
    for (r, x) in x.chunks_exact(cols).enumerate() {
        for (b, x) in x.as_chunks().0.iter().enumerate() {
            let at = b * width + r;
            let (scale, [coarse, fine]) = block(x, &mut q[at]);
            let scale = scale / FINER;
            let halves = [0, 1].map(|half| (coarse[half] << FINER_BITS).wrapping_add(fine[half]));
            out.scales[at] = scale;
            out.weighted[at] = scale * halves[0].wrapping_add(halves[1]) as f32;
            out.sums[2 * b * width + r] = halves[0];
            out.sums[(2 * b + 1) * width + r] = halves[1];
        }
    }
}

/// 32 numbers as two lines of integers of -127..=127, the scale of the first, and the sums of their halves.
///
/// NaN or infinity makes the scale so, and the integers meaningless; numbers too small for a scale become zero.
#[inline(always)]
pub(crate) fn quantize_32(x: &[f32; 32], q: &mut [[i8; 32]; LINES]) -> Block {
    /// Added to a small number and taken off again it leaves the nearest integer (ties to even) in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // The bits of magnitudes order as the magnitudes do, with infinity and NaN on top.
    let top = x
        .iter()
        .fold(0_u32, |top, v| top.max(v.to_bits() & 0x7fff_ffff));
    let top = f32::from_bits(top);
    let inverse = if top < SMALLEST { 0.0 } else { 127.0 / top };
    let mut v = [[0_i32; 32]; LINES];
    let integer = |rounded: f32| rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    for i in 0..32 {
        let scaled = x[i] * inverse;
        let coarse = scaled + ROUND;
        let left = (scaled - (coarse - ROUND)) * FINER;
        v[0][i] = integer(coarse);
        // Not clamp: NaN must not stay, so that every instruction set gives integers of this range.
        v[1][i] = integer(left + ROUND).clamp(-127, 127);
        q[0][i] = v[0][i] as i8;
        q[1][i] = v[1][i] as i8;
    }
    let sum = |v: &[i32]| v.iter().fold(0_i32, |sum, v| sum.wrapping_add(*v));
    let halves = v.map(|v| [sum(&v[..16]), sum(&v[16..])]);
    (top / 127.0, halves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    #[test]
    fn every_instruction_set_quantizes_alike() {
        let pool = Pool::new(2);
        let (rows, cols) = (11, 96);
        let bytes = vec![0; 66];
        let fill = |isa: Isa| {
            let reader = Matrix::pack(isa, &pool, Format::Q5_0, 1, cols, &bytes);
            let reader = reader.expect("a valid shape");
            let mut x = Activations::new();
            for (i, x) in x.begin(rows, cols).iter_mut().enumerate() {
                // Ties, both signs, a block of zeros, one of numbers too small to divide by.
                *x = match i / 32 {
                    3 => 0.0,
                    5 => 1e-39,
                    _ => ((i * 37) % 255) as f32 - 127.0 + if i % 3 == 0 { 0.5 } else { 0.0 },
                };
            }
            x.finish(isa, &pool, &[&reader]);
            x.int8
        };
        let expected = fill(Isa::scalar());
        for isa in Isa::available() {
            let found = fill(isa);
            assert_eq!(found.q, expected.q, "{}", isa.name());
            assert_eq!(found.scales, expected.scales, "{}", isa.name());
            assert_eq!(found.sums, expected.sums, "{}", isa.name());
            assert_eq!(found.weighted, expected.weighted, "{}", isa.name());
            assert_eq!(
                found.corrections[0].values,
                expected.corrections[0].values,
                "{}",
                isa.name()
            );
        }
    }

    #[test]
    fn readers_of_every_format_are_served_at_once() {
        let pool = Pool::new(1);
        let (rows, cols) = (3, 256);
        let pack = |isa, format: Format| {
            let len = format.row_bytes(cols).expect("whole blocks");
            // Small numbers whatever the format: a scale's high byte is even smaller.
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 32) as u8).collect();
            Matrix::pack(isa, &pool, format, 1, cols, &bytes).expect("a valid shape")
        };
        for isa in Isa::available() {
            let matrices = Format::ALL.map(|format| pack(isa, format));
            let mut x = Activations::new();
            let product = |x: &mut Activations, readers: &[&Matrix], w: &Matrix| {
                for (i, x) in x.begin(rows, cols).iter_mut().enumerate() {
                    *x = ((i * 29) % 64) as f32 - 31.0;
                }
                x.finish(isa, &pool, readers);
                let mut y = vec![0.0; rows];
                crate::matmul(isa, &pool, x, &mut [(w, &mut y)]);
                y
            };
            let all = matrices.each_ref();
            for (w, format) in matrices.iter().zip(Format::ALL) {
                let together = product(&mut x, &all, w);
                let alone = product(&mut x, &[w], w);
                assert_eq!(together, alone, "{format} on {}", isa.name());
                assert!(alone.iter().all(|y| y.is_finite()), "{format}: {alone:?}");
            }
        }
    }
}
