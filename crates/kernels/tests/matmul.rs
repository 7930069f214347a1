//! Every kernel that this CPU has against plain Rust: all formats, row and column tails, and batch sizes.

use billion_kernels::{Activations, Format, Isa, Matrix, Pool, dequantize, matmul, quantize};

/// Difference allowed between two orders of summing the same f32 terms, relative to the sum of their magnitudes.
const SUM_TOLERANCE: f64 = 1e-6;

/// What activations of two int8 lines may cost, relative to the norms of the two vectors: half a step of
/// `max / 127 / 254` per number.
const INT8_TOLERANCE: f64 = 5e-5;

/// The same for twelve bits, half a step of `max / 1904`; that sums are exact for them is tested in `activations::twelve`.
const INT12_TOLERANCE: f64 = 8e-4;

/// Row counts: less than a tile, whole tiles and tails.
const ROWS: [usize; 5] = [1, 7, 16, 33, 80];

/// Numbers of -1..1 with a few large ones, the same for the same seed.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let v = (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            if i % 61 == 7 { v * 6.0 } else { v }
        })
        .collect()
}

fn columns(format: Format) -> Vec<usize> {
    match format.block_elems() {
        256 => vec![256, 768, 1280],
        32 => vec![32, 96, 576, 1056],
        _ => vec![1, 31, 64, 577, 1025],
    }
}

fn packed(isa: Isa, pool: &Pool, format: Format, rows: usize, cols: usize) -> (Matrix, Vec<f32>) {
    let w = numbers((rows * cols) as u64, rows * cols);
    let mut bytes = vec![0; format.row_bytes(rows * cols).expect("whole blocks")];
    quantize(format, &w, &mut bytes);
    let mut exact = vec![0.0; rows * cols];
    dequantize(format, &bytes, &mut exact);
    let matrix = Matrix::pack(isa, pool, format, rows, cols, &bytes).expect("a valid shape");
    (matrix, exact)
}

fn product(isa: Isa, pool: &Pool, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / matrix.cols();
    let mut activations = Activations::new();
    activations.begin(rows, matrix.cols()).copy_from_slice(x);
    activations.finish(isa, pool, &[matrix]);
    let mut y = vec![f32::NAN; rows * matrix.rows()];
    matmul(isa, pool, &activations, &mut [(matrix, &mut y)]);
    y
}

#[test]
fn every_kernel_agrees_with_plain_rust() {
    let pool = Pool::new(2);
    let isas = Isa::available();
    println!(
        "instruction sets: {:?}",
        isas.iter().map(|isa| isa.name()).collect::<Vec<_>>()
    );
    for format in Format::ALL {
        for cols in columns(format) {
            for rows in ROWS {
                let (scalar, exact) = packed(Isa::scalar(), &pool, format, rows, cols);
                for m in [1, 2, 3, 5, 8, 9, 16, 21] {
                    let mut x = numbers(m as u64, m * cols);
                    if format == Format::BF16 {
                        // What is bf16 already is not rounded again, so that every instruction set multiplies the same.
                        to_bf16(&mut x);
                    }
                    let expected = product(Isa::scalar(), &pool, &scalar, &x);
                    for &isa in &isas {
                        let (matrix, _) = packed(isa, &pool, format, rows, cols);
                        let found = product(isa, &pool, &matrix, &x);
                        check(format, isa, (rows, cols), &x, &exact, &expected, &found);
                    }
                }
            }
        }
    }
}

fn to_bf16(x: &mut [f32]) {
    for x in x {
        *x = half::bf16::from_f32(*x).to_f32();
    }
}

#[test]
fn bf16_weights_meet_activations_in_f32_or_in_bf16() {
    let pool = Pool::new(2);
    let (rows, cols) = (33, 577);
    let x = numbers(9, 11 * cols);
    let mut rounded = x.clone();
    to_bf16(&mut rounded);
    let mut ways = Vec::new();
    for isa in Isa::available() {
        let (matrix, w) = packed(isa, &pool, Format::BF16, rows, cols);
        let found = product(isa, &pool, &matrix, &x);
        let rounds = isa.name().ends_with("-BF16");
        if rounds {
            assert_eq!(found, product(isa, &pool, &matrix, &rounded));
        }
        ways.push(rounds);
        for (i, found) in found.iter().enumerate() {
            let of = |x: &[f32]| -> (f64, f64) {
                let x = &x[i / rows * cols..(i / rows + 1) * cols];
                let w = &w[i % rows * cols..(i % rows + 1) * cols];
                let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                (terms().sum(), terms().map(f64::abs).sum())
            };
            let (exact, magnitude) = of(if rounds { &rounded } else { &x });
            let off = (f64::from(*found) - exact).abs();
            assert!(
                off <= SUM_TOLERANCE * magnitude,
                "{} at {i}: {found}, off by {off}",
                isa.name()
            );
        }
    }
    println!("in bf16: {ways:?}");
}

/// `found` against the scalar twin, and against exact arithmetic on the source's values.
fn check(
    format: Format,
    isa: Isa,
    (rows, cols): (usize, usize),
    x: &[f32],
    w: &[f32],
    expected: &[f32],
    found: &[f32],
) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let (m, n) = (i / rows, i % rows);
        let (x, w) = (&x[m * cols..(m + 1) * cols], &w[n * cols..(n + 1) * cols]);
        let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        let magnitude: f64 = terms().map(f64::abs).sum();
        let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let at = format!(
            "{format} on {} at ({m}, {n}) of {rows} x {cols}",
            isa.name()
        );
        let twelve_bits = isa.name().contains("VNNI")
            && matches!(format, Format::Q4_0 | Format::Q4_1 | Format::Q4_K);
        let rounding = if twelve_bits {
            INT12_TOLERANCE
        } else {
            INT8_TOLERANCE
        };
        // Minima cancel inside a group, so the twin's terms may be larger than the products.
        let twin = (f64::from(*found) - f64::from(*expected)).abs();
        assert!(
            twin <= 4.0 * SUM_TOLERANCE * (magnitude + norm(x) * norm(w))
                || twelve_bits && twin <= rounding * norm(x) * norm(w),
            "{at}: {found}, twin {expected}"
        );
        let error = (f64::from(*found) - terms().sum::<f64>()).abs();
        let allowed = if format.is_quantized() {
            rounding * norm(x) * norm(w)
        } else {
            SUM_TOLERANCE * magnitude
        };
        assert!(
            error <= allowed,
            "{at}: {found}, off by {error}, allowed {allowed}"
        );
    }
}

#[test]
fn a_row_is_the_same_bits_in_any_batch() {
    let pool = Pool::new(3);
    for isa in Isa::available() {
        for format in Format::ALL {
            let (rows, cols) = (49, *columns(format).last().expect("not empty"));
            let (matrix, _) = packed(isa, &pool, format, rows, cols);
            let x = numbers(5, 40 * cols);
            let alone: Vec<Vec<f32>> = x
                .chunks_exact(cols)
                .map(|x| product(isa, &pool, &matrix, x))
                .collect();
            for m in (1..=17).chain([23, 24, 31, 40]) {
                let first = (40 - m) / 2;
                let y = product(isa, &pool, &matrix, &x[first * cols..(first + m) * cols]);
                for (row, alone) in y.chunks_exact(rows).zip(&alone[first..]) {
                    assert_eq!(row, alone, "{format} on {}, {m} rows", isa.name());
                }
            }
        }
    }
}

#[test]
fn rows_come_back_exactly() {
    let pool = Pool::new(2);
    for isa in Isa::available() {
        for format in Format::ALL {
            for cols in columns(format) {
                let (matrix, exact) = packed(isa, &pool, format, 19, cols);
                let mut row = vec![0.0; cols];
                for (r, exact) in exact.chunks_exact(cols).enumerate() {
                    matrix.row(r, &mut row);
                    assert_eq!(row, exact, "row {r} of {format} on {}", isa.name());
                }
            }
        }
    }
}

/// What a packed matrix may take, relative to its bytes in a file: Q3_K's 6-bit scales are widened to 8 bits.
const MEMORY_TOLERANCE: f64 = 1.04;

#[test]
fn packed_weights_take_the_bits_of_the_file() {
    let pool = Pool::new(2);
    for isa in Isa::available() {
        for format in Format::ALL {
            let (matrix, _) = packed(isa, &pool, format, 64, 512);
            let file = format.row_bytes(64 * 512).expect("whole blocks");
            let ratio = matrix.bytes() as f64 / file as f64;
            assert!(
                (1.0..=MEMORY_TOLERANCE).contains(&ratio),
                "{format} on {}: {ratio}",
                isa.name()
            );
        }
    }
}

#[test]
fn several_matrices_are_one_product() {
    let pool = Pool::new(2);
    let isa = Isa::detect();
    let x = numbers(3, 5 * 256);
    let matrices: Vec<Matrix> = Format::ALL
        .into_iter()
        .zip([1, 16, 40, 100, 17, 3, 64, 31, 16, 2, 90, 33, 48])
        .map(|(format, rows)| packed(isa, &pool, format, rows, 256).0)
        .collect();
    let mut activations = Activations::new();
    activations.begin(5, 256).copy_from_slice(&x);
    activations.finish(isa, &pool, &matrices.iter().collect::<Vec<_>>());
    let mut ys: Vec<Vec<f32>> = matrices.iter().map(|m| vec![0.0; 5 * m.rows()]).collect();
    let mut outputs: Vec<_> = matrices
        .iter()
        .zip(ys.iter_mut().map(Vec::as_mut_slice))
        .collect();
    matmul(isa, &pool, &activations, &mut outputs);
    for (matrix, y) in matrices.iter().zip(&ys) {
        assert_eq!(*y, product(isa, &pool, matrix, &x), "{}", matrix.format());
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let pool = Pool::new(1);
    let pack = |format, rows, cols, len| {
        Matrix::pack(Isa::detect(), &pool, format, rows, cols, &vec![0; len])
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(pack(Format::Q4_0, 2, 64, 72), Ok(()));
    assert_eq!(
        pack(Format::Q4_0, 2, 64, 71),
        Err("a Q4_0 matrix of 2 x 64 needs 72 bytes, found 71".into())
    );
    assert!(pack(Format::Q4_0, 2, 33, 36).is_err());
    assert!(pack(Format::F32, usize::MAX, 64, 0).is_err());
    for format in Format::ALL {
        assert_eq!(pack(format, 0, 256, 0), Ok(()));
        assert_eq!(pack(format, 3, 0, 0), Ok(()));
    }
}

#[test]
fn bad_numbers_are_not_hidden() {
    let pool = Pool::new(1);
    for isa in Isa::available() {
        for format in Format::ALL {
            let cols = *columns(format).last().expect("not empty");
            let (matrix, _) = packed(isa, &pool, format, 3, cols);
            let good = numbers(1, 3 * cols);
            let expected = product(isa, &pool, &matrix, &good);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for col in [20, cols - 1] {
                    let mut x = good.clone();
                    x[cols + col] = bad;
                    let y = product(isa, &pool, &matrix, &x);
                    let at = format!("{format} on {}, {bad} at {col}", isa.name());
                    assert!(y[3..6].iter().all(|y| !y.is_finite()), "{at}");
                    // Its neighbours in the panel know nothing of it.
                    assert_eq!((&y[..3], &y[6..]), (&expected[..3], &expected[6..]), "{at}");
                }
            }
        }
    }
}

#[test]
fn no_columns_give_zeros() {
    let pool = Pool::new(1);
    for isa in Isa::available() {
        for format in Format::ALL {
            let matrix = Matrix::pack(isa, &pool, format, 3, 0, &[]).expect("a valid shape");
            let mut x = Activations::new();
            x.begin(2, 0);
            x.finish(isa, &pool, &[&matrix]);
            let mut y = vec![f32::NAN; 6];
            matmul(isa, &pool, &x, &mut [(&matrix, &mut y)]);
            assert_eq!(y, [0.0; 6], "{format} on {}", isa.name());
        }
    }
}
