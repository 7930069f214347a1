//! Blocks mean what llama.cpp's own reader says (golden/make_blocks.py, gguf 0.17.1), and quantizers come near.

use billion_kernels::{Format, dequantize, quantize};

const GOLDEN: &[u8] = include_bytes!("golden/blocks.bin");

/// Largest error of a quantizer for numbers of -1..1, as a part of the range: half a step, with room for rounded scales.
const ERRORS: [(Format, f32); 13] = [
    (Format::F32, 0.0),
    (Format::F16, 0.0005),
    (Format::BF16, 0.004),
    (Format::Q4_0, 0.13),
    (Format::Q4_1, 0.07),
    (Format::Q5_0, 0.065),
    (Format::Q5_1, 0.034),
    (Format::Q8_0, 0.0045),
    (Format::Q2_K, 0.45),
    (Format::Q3_K, 0.27),
    (Format::Q4_K, 0.09),
    (Format::Q5_K, 0.055),
    (Format::Q6_K, 0.037),
];

#[test]
fn blocks_read_as_the_reference_reads_them() {
    let mut rest = GOLDEN;
    for format in Format::ALL {
        let elems = if format.is_quantized() {
            2 * format.block_elems()
        } else {
            256
        };
        let (bytes, after) = rest.split_at(format.row_bytes(elems).expect("whole blocks"));
        let (values, after) = after.split_at(elems * 4);
        rest = after;
        let mut found = vec![0.0_f32; elems];
        dequantize(format, bytes, &mut found);
        let expected: Vec<f32> = values
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        assert_eq!(found, expected, "{format}");
    }
    assert!(rest.is_empty());
}

#[test]
fn quantizers_come_near() {
    let x: Vec<f32> = (0..1024_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    for (format, allowed) in ERRORS {
        let mut bytes = vec![0; format.row_bytes(x.len()).expect("whole blocks")];
        quantize(format, &x, &mut bytes);
        let mut back = vec![0.0; x.len()];
        dequantize(format, &bytes, &mut back);
        let worst = x
            .iter()
            .zip(&back)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f32::max);
        assert!(worst <= allowed, "{format}: off by {worst}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in Format::ALL {
        let mut bytes = vec![0xff; format.row_bytes(256).expect("whole blocks")];
        quantize(format, &[0.0; 256], &mut bytes);
        let mut back = [1.0; 256];
        dequantize(format, &bytes, &mut back);
        assert_eq!(back, [0.0; 256], "{format}");
    }
}
