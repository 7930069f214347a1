//! Quantizers give llama.cpp's bytes where it has one way of rounding, and are as near as it where it searches
//! (golden/make_quantized.py); every instruction set gives the same bytes.

use billion_kernels::{Format, Isa, dequantize, quantize, quantize_on};

const GOLDEN: &[u8] = include_bytes!("golden/quantized.bin");
const EXACT: [Format; 5] = [
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
];
const SEARCHED: [Format; 3] = [Format::Q4_K, Format::Q5_K, Format::Q6_K];
/// Root mean square error beside llama.cpp's, at most.
const ALLOWED: f64 = 1.005;

struct Golden {
    cols: usize,
    rows: Vec<f32>,
    /// Bytes of all rows by format.
    blocks: Vec<(Format, &'static [u8])>,
}

fn golden() -> Golden {
    let word = |at: usize| u32::from_le_bytes(GOLDEN[at..at + 4].try_into().unwrap()) as usize;
    let (count, cols) = (word(0), word(4));
    let (rows, mut rest) = GOLDEN[8..].split_at(count * cols * 4);
    let rows: Vec<f32> = rows
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let mut blocks = Vec::new();
    for format in EXACT.into_iter().chain(SEARCHED) {
        let (bytes, after) = rest.split_at(format.row_bytes(rows.len()).unwrap());
        blocks.push((format, bytes));
        rest = after;
    }
    assert!(rest.is_empty());
    Golden { cols, rows, blocks }
}

/// Sum of squared errors as llama.cpp weighs them without an importance matrix.
fn weighted_error(format: Format, x: &[f32], bytes: &[u8]) -> f64 {
    let mut back = vec![0.0; x.len()];
    dequantize(format, bytes, &mut back);
    let group = if format == Format::Q6_K { 16 } else { 32 };
    let mut total = 0.0;
    for (x, y) in x.chunks_exact(group).zip(back.chunks_exact(group)) {
        let rms = (x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / group as f64).sqrt();
        for (x, y) in x.iter().zip(y) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            let weight = if format == Format::Q6_K {
                x * x
            } else {
                rms + x.abs()
            };
            total += weight * (x - y).powi(2);
        }
    }
    total
}

#[test]
fn plain_rounding_gives_the_bytes_of_llama_cpp() {
    let golden = golden();
    for (format, expected) in &golden.blocks[..EXACT.len()] {
        let mut found = vec![0; expected.len()];
        quantize(*format, &golden.rows, &mut found);
        let row_bytes = format.row_bytes(golden.cols).unwrap();
        for (row, (found, expected)) in found
            .chunks_exact(row_bytes)
            .zip(expected.chunks_exact(row_bytes))
            .enumerate()
        {
            assert_eq!(found, expected, "{format}, row {row}");
        }
    }
}

#[test]
fn the_search_is_as_near_as_that_of_llama_cpp() {
    let golden = golden();
    for (format, reference) in &golden.blocks[EXACT.len()..] {
        let mut made = vec![0; reference.len()];
        quantize(*format, &golden.rows, &mut made);
        let row_bytes = format.row_bytes(golden.cols).unwrap();
        let (mut ours, mut theirs) = (0.0, 0.0);
        for (row, x) in golden.rows.chunks_exact(golden.cols).enumerate() {
            let bytes = row * row_bytes..(row + 1) * row_bytes;
            let our = weighted_error(*format, x, &made[bytes.clone()]).sqrt();
            let their = weighted_error(*format, x, &reference[bytes]).sqrt();
            println!("{format}, row {row}: {:.4} of llama.cpp's", our / their);
            assert!(
                our <= their * ALLOWED,
                "{format}, row {row}: {our:e} and {their:e}"
            );
            if their > 0.0 {
                ours += our / their;
                theirs += 1.0;
            }
        }
        println!("{format}: {:.4} of llama.cpp's error", ours / theirs);
        assert!(ours <= theirs, "{format}: worse on the average row");
    }
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let golden = golden();
    for format in Format::ALL {
        let mut plain = vec![0; format.row_bytes(golden.rows.len()).unwrap()];
        quantize(format, &golden.rows, &mut plain);
        for isa in Isa::available() {
            let mut found = vec![0; plain.len()];
            quantize_on(isa, format, &golden.rows, &mut found);
            assert!(found == plain, "{format} by {}", isa.name());
        }
    }
}

#[test]
fn no_numbers_are_too_odd() {
    let mut odd = vec![0.0_f32; 256];
    let values = [
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NAN,
        1e-30,
    ];
    for format in Format::ALL {
        let mut out = vec![0; format.row_bytes(256).unwrap()];
        for value in values {
            odd.fill(0.0);
            odd[77] = value;
            quantize(format, &odd, &mut out);
            odd.fill(value);
            quantize(format, &odd, &mut out);
        }
    }
}
