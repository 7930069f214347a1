//! Activations for weights of four bits: twelve bits of each number in one and a half lines of int8.
//!
//! Four-bit weights lie two in a byte, column `i` of a block low and column `16 + i` high. An instruction that multiplies bytes can
//! read three of them without more work than two: the low four bits `l`, the high four `h`, and the byte itself, `l + 16 h`. With a
//! line of int8 for each, `a`, `b` and `c`, the sum `16 * l * a + h * b + (l + 16 h) * c` is `l * (16 a + c) + h * (16 c + b)`: two
//! products of twelve bits for the price of three of eight, where two full lines cost four. Any pair of integers `x`, `y` of
//! magnitudes up to [`MOST`] can be written so: with `t = y - 16 x` and `k` the nearest integer to `t / 256`, `a = -k`,
//! `b = t - 256 k`, `c = x + 16 k`.
//!
//! What it changes beside two full lines is in ARCHITECTURE.md.

use super::{PANEL, PARALLEL_NUMBERS};
use crate::parts::Parts;
use crate::{Isa, Pool, simd};

/// Largest magnitude of an integer for which all three lines hold numbers of int8: `c` is at most `MOST / 16 + 8`.
pub(crate) const MOST: i32 = 1904;

/// Largest magnitude of a block below which it counts as zeros, so that its scale can be inverted.
pub(crate) const SMALLEST: f32 = f32::MIN_POSITIVE * 2048.0;

/// Bytes of a block of 32 numbers: the lines `a`, `b` and `c`, one for each column of a half.
pub(crate) const BYTES: usize = 48;

/// `a` is worth `1 << A_BITS` in the sum.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only kernels of x86-64 read this form")
)]
pub(crate) const A_BITS: u32 = 4;

/// Weights are offset by this much in the one format that has an offset.
pub(crate) const OFFSET: i32 = 8;

/// The form; see the module.
#[derive(Default)]
pub(crate) struct Int12 {
    /// `[panel][block of 32][row of panel][line][16]`
    pub q: Vec<i8>,
    /// `[panel][block of 32][row of panel]`: value = scale * integer.
    pub scales: Vec<f32>,
    /// `[panel][block of 32][row of panel]`: scale * sum of 32 integers.
    pub weighted: Vec<f32>,
    /// `[panel][block of 32][row of panel]`: what an offset of 8 adds to an integer dot product.
    pub corrections: Vec<i32>,
}

/// Where the form of one panel goes.
pub(crate) struct Int12Panel<'a> {
    q: &'a mut [i8],
    scales: &'a mut [f32],
    weighted: &'a mut [f32],
    corrections: &'a mut [i32],
}

impl Int12 {
    /// Takes the numbers `x`, shape (rows, cols).
    pub(super) fn quantize(
        &mut self,
        isa: Isa,
        pool: &Pool,
        x: &[f32],
        (rows, cols): (usize, usize),
    ) {
        let blocks = cols / 32;
        if blocks == 0 {
            return;
        }
        self.q.resize(rows * blocks * BYTES, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.weighted.resize(rows * blocks, 0.0);
        self.corrections.resize(rows * blocks, 0);
        let q = Parts::new(&mut self.q);
        let scales = Parts::new(&mut self.scales);
        let weighted = Parts::new(&mut self.weighted);
        let corrections = Parts::new(&mut self.corrections);
        let panel = |panel: usize| {
            let first = panel * PANEL;
            let width = PANEL.min(rows - first);
            let (start, end) = (first * blocks, (first + width) * blocks);
            // SAFETY: parts of one panel, and each panel is visited once.
            let mut out = unsafe {
                Int12Panel {
                    q: q.part(start * BYTES..end * BYTES),
                    scales: scales.part(start..end),
                    weighted: weighted.part(start..end),
                    corrections: corrections.part(start..end),
                }
            };
            let x = &x[first * cols..(first + width) * cols];
            simd::quantize_panel_12(isa, x, cols, &mut out);
        };
        let panels = rows.div_ceil(PANEL);
        if rows * cols < PARALLEL_NUMBERS {
            (0..panels).for_each(panel);
        } else {
            pool.run(panels, &panel);
        }
    }
}

/// The rows of a panel, each `cols` long, block by block through [`quantize_32`] or its twin.
#[inline(always)]
pub(crate) fn quantize_panel(
    x: &[f32],
    cols: usize,
    out: &mut Int12Panel<'_>,
    block: impl Fn(&[f32; 32], &mut [i8; BYTES]) -> (f32, i32),
) {
    let width = x.len() / cols;
    let q = out.q.as_chunks_mut().0;
    for (r, x) in x.chunks_exact(cols).enumerate() {
        for (b, x) in x.as_chunks().0.iter().enumerate() {
            let at = b * width + r;
            let (scale, sum) = block(x, &mut q[at]);
            out.scales[at] = scale;
            out.weighted[at] = scale * sum as f32;
            out.corrections[at] = sum.wrapping_mul(-OFFSET);
        }
    }
}

/// 32 numbers as three lines; their scale and the sum of their integers.
///
/// NaN or infinity makes the scale so, and the integers meaningless; numbers too small for a scale become zero.
#[inline(always)]
pub(crate) fn quantize_32(x: &[f32; 32], q: &mut [i8; BYTES]) -> (f32, i32) {
    /// Added to a small number it leaves the nearest integer (ties to even) in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // The bits of magnitudes order as the magnitudes do, with infinity and NaN on top.
    let top = x
        .iter()
        .fold(0_u32, |top, v| top.max(v.to_bits() & 0x7fff_ffff));
    let top = f32::from_bits(top);
    let inverse = if top < SMALLEST {
        0.0
    } else {
        MOST as f32 / top
    };
    let integer = |x: f32| {
        (x * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i32
    };
    let mut sum = 0_i32;
    for i in 0..16 {
        let (x, y) = (integer(x[i]), integer(x[16 + i]));
        let t = y.wrapping_sub(x << 4);
        let k = t.wrapping_add(128) >> 8;
        q[i] = k.wrapping_neg() as i8;
        q[16 + i] = t as i8;
        q[32 + i] = x.wrapping_add(k << 4) as i8;
        sum = sum.wrapping_add(x).wrapping_add(y);
    }
    (top / MOST as f32, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activations, Format, Matrix, matmul};

    /// Any pair of columns, the worst included: the lines give back both integers.
    #[test]
    fn three_lines_hold_two_integers_of_twelve_bits() {
        let some = (-MOST..=MOST).step_by(7).chain([MOST, MOST - 1, 0, 1]);
        for x in some.clone() {
            for y in some.clone() {
                let mut numbers = [0.0; 32];
                (numbers[3], numbers[19], numbers[31]) = (x as f32, y as f32, MOST as f32);
                let mut q = [0; BYTES];
                let (scale, sum) = quantize_32(&numbers, &mut q);
                let [a, b, c] = [q[3], q[19], q[35]].map(i32::from);
                assert_eq!((16 * a + c, 16 * c + b), (x, y));
                assert_eq!((scale, sum), (1.0, x + y + MOST));
            }
        }
    }

    /// What kernels compute from the form is what the form says, to the rounding of f32 sums.
    #[test]
    fn products_are_those_of_the_twelve_bits() {
        let pool = Pool::new(2);
        let (rows, cols, most) = (37, 512, 21);
        let noise =
            |i: usize| (i.wrapping_mul(7919).wrapping_add(i / 3) % 2003) as f32 / 1001.0 - 1.0;
        let mut tried = 0;
        for isa in Isa::available() {
            for format in Format::ALL {
                if !simd::reads_int12(isa, format) {
                    continue;
                }
                tried += 1;
                let numbers: Vec<f32> = (0..rows * cols).map(noise).collect();
                let mut bytes = vec![0; format.row_bytes(rows * cols).expect("whole blocks")];
                crate::quantize(format, &numbers, &mut bytes);
                let mut weights = vec![0.0; rows * cols];
                crate::dequantize(format, &bytes, &mut weights);
                let matrix = Matrix::pack(isa, &pool, format, rows, cols, &bytes).expect("a shape");
                for m in [1, 2, 3, 5, 8, 9, most] {
                    let mut x = Activations::new();
                    for (i, x) in x.begin(m, cols).iter_mut().enumerate() {
                        *x = noise(i * 31 + 5) * if i % 61 == 7 { 9.0 } else { 1.0 };
                    }
                    x.finish(isa, &pool, &[&matrix]);
                    let mut y = vec![f32::NAN; m * rows];
                    matmul(isa, &pool, &x, &mut [(&matrix, &mut y)]);
                    for (i, y) in y.iter().enumerate() {
                        let (x, w) = (read(&x, i / rows), &weights[i % rows * cols..][..cols]);
                        let terms = || x.iter().zip(w).map(|(x, w)| x * f64::from(*w));
                        let size: f64 = terms().map(f64::abs).sum();
                        let off = (f64::from(*y) - terms().sum::<f64>()).abs();
                        assert!(
                            off < 2e-6 * size,
                            "{format}, {m} rows, {i}: {y}, off by {off}"
                        );
                    }
                }
            }
        }
        println!("{tried} kinds of kernels read twelve bits here");
    }

    /// Row `m` of the form, as numbers.
    fn read(x: &Activations, m: usize) -> Vec<f64> {
        let (form, blocks) = (x.int12(), x.cols() / 32);
        let first = m / PANEL * PANEL;
        let width = PANEL.min(x.rows() - first);
        let value = |col: usize| {
            let at = first * blocks + col / 32 * width + m - first;
            let line = |line: usize| f64::from(form.q[at * BYTES + 16 * line + col % 16]);
            let integer = if col % 32 < 16 {
                16.0 * line(0) + line(2)
            } else {
                16.0 * line(2) + line(1)
            };
            f64::from(form.scales[at]) * integer
        };
        (0..32 * blocks).map(value).collect()
    }

    #[test]
    fn every_instruction_set_quantizes_alike() {
        let pool = Pool::new(2);
        let (rows, cols) = (11, 96);
        let x: Vec<f32> = (0..rows * cols)
            .map(|i| match i / 32 {
                // Zeros, numbers too small to divide by, ties.
                3 => 0.0,
                5 => 1e-39,
                6 => 1.5e-36 + i as f32 * 1e-38,
                8 if i % 2 == 0 => 3e-35,
                7 if i % 32 == 0 => MOST as f32,
                7 => (i % 32) as f32 + 0.5,
                _ => ((i * 7919) % 4099) as f32 - 2048.0,
            })
            .collect();
        let fill = |isa: Isa| {
            let mut form = Int12::default();
            form.quantize(isa, &pool, &x, (rows, cols));
            form
        };
        let expected = fill(Isa::scalar());
        for isa in Isa::available() {
            let found = fill(isa);
            assert_eq!(found.q, expected.q, "{}", isa.name());
            assert_eq!(found.scales, expected.scales, "{}", isa.name());
            assert_eq!(found.weighted, expected.weighted, "{}", isa.name());
            assert_eq!(found.corrections, expected.corrections, "{}", isa.name());
        }
    }
}
