//! Weights held as stored: every format against its own numbers, and whole decoders against the same weights in F32.

use std::borrow::Cow;

use billion_kernels::{Format, dequantize, quantize};
use candle_core::{DType, Device, Tensor};

use super::super::held::hold;
use super::super::{CandleDecoder, CandleOptions, Held, HeldAs};
use super::fixtures::{self, Fixture};
use super::{in_pieces, run_all};
use crate::decoder::{Decoder, EXACT_ROWS};
use crate::generate::greedy;
use crate::spec::TensorView;

/// Largest error of a product relative to its size (both as root of the sum of squares). With blocks the other side is
/// rounded to eight bits in groups; with half formats it is rounded to theirs, and the product too.
fn product_tolerance(format: Format) -> f64 {
    match format {
        Format::F32 => 1e-6,
        Format::F16 => 5e-4,
        Format::BF16 => 4e-3,
        _ => 6e-3,
    }
}

/// Largest error of a tiny decoder's logits relative to their size, beside the same weights in F32: that of a product grows
/// through a dozen of them.
fn logits_tolerance(format: Format) -> f64 {
    match format {
        Format::F32 => 0.0,
        _ => 10.0 * product_tolerance(format),
    }
}

/// A choice this clear (in logits of about 5) is the same however weights are held.
const CLEAR: f32 = 0.3;

/// Root of the sum of squared differences by that of `expected`.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let differences = found.iter().zip(expected);
    let error: f64 = differences
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let size: f64 = expected.iter().map(|b| square(f64::from(*b))).sum();
    (error / size).sqrt()
}

/// Numbers between -1 and 1, the same ones for the same `seed`.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn view(format: Format, shape: [usize; 2], values: &[f32]) -> TensorView<'static> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    quantize(format, values, &mut bytes);
    TensorView {
        name: format!("a matrix in {format}"),
        format,
        shape: shape.to_vec(),
        bytes: Cow::Owned(bytes),
        rows: None,
    }
}

fn values_of(view: &TensorView<'_>) -> Vec<f32> {
    let mut values = vec![0.0; view.elements()];
    dequantize(view.format, &view.bytes, &mut values);
    values
}

/// The matrix as an embedding that is held as stored.
fn held(view: TensorView<'_>) -> Held {
    let fixture = fixtures::read("llama_halves");
    let (mut spec, mut tensors) = (fixture.spec, fixture.tensors);
    [spec.vocab_size, spec.hidden] = view.shape[..].try_into().unwrap();
    spec.layers = 0;
    tensors.layers.clear();
    tensors.head = None;
    spec.tied_head = true;
    let norm = TensorView {
        format: Format::F32,
        shape: vec![spec.hidden],
        bytes: Cow::Owned(vec![0; spec.hidden * 4]),
        ..tensors.final_norm.weight.clone()
    };
    tensors.final_norm.weight = norm;
    tensors.embedding = view;
    hold(&spec, &tensors, &Device::Cpu, HeldAs::Stored)
        .unwrap()
        .embedding
}

#[test]
fn every_format_multiplies_as_its_numbers() {
    const SHAPE: [usize; 2] = [24, 512];
    let x = numbers(5 * SHAPE[1], 2);
    let rows = Tensor::from_slice(&x, (5, SHAPE[1]), &Device::Cpu).unwrap();
    for format in Format::ALL {
        let view = view(format, SHAPE, &numbers(SHAPE[0] * SHAPE[1], 1));
        let weights = values_of(&view);
        let stored = view.bytes.len();
        let held = held(view);
        assert_eq!(held.bytes(), stored, "{format}");
        assert_eq!(held.numbers().is_some(), format == Format::F32);

        let product = held.product(&rows).unwrap();
        assert_eq!(product.dtype(), DType::F32);
        let product = product.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let dot = |x: &[f32], w: &[f32]| -> f64 {
            let terms = x.iter().zip(w);
            terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let expected: Vec<f32> = x
            .chunks(SHAPE[1])
            .flat_map(|x| weights.chunks(SHAPE[1]).map(move |w| dot(x, w) as f32))
            .collect();
        let relative = relative_error(&product, &expected);
        println!("{format}: {relative:e}");
        assert!(relative < product_tolerance(format), "{format}: {relative}");

        let ids = Tensor::new(&[23_u32, 0, 7], &Device::Cpu).unwrap();
        let found = held.rows(&ids).unwrap().to_vec2::<f32>().unwrap();
        for (row, id) in found.iter().zip([23, 0, 7]) {
            let expected = &weights[id * SHAPE[1]..][..SHAPE[1]];
            let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs().max(1e-3);
            assert!(
                row.iter().zip(expected).all(same),
                "{format}: row {id} of the table"
            );
        }
    }
}

#[test]
fn blocks_may_lie_anywhere() {
    let even = view(Format::Q4_0, [4, 64], &numbers(256, 3));
    let mut shifted = vec![0_u8; even.bytes.len() + 1];
    let odd = usize::from(shifted.as_ptr().addr().is_multiple_of(2));
    let end = odd + even.bytes.len();
    shifted[odd..end].copy_from_slice(&even.bytes);
    let misplaced = TensorView {
        bytes: Cow::Borrowed(&shifted[odd..end]),
        ..even.clone()
    };
    let ids = Tensor::new(&[3_u32, 1], &Device::Cpu).unwrap();
    let rows = |view| held(view).rows(&ids).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows(misplaced), rows(even));
}

#[test]
fn rows_of_broken_blocks_become_halves() {
    // 12 rows of 48 numbers are 18 blocks of 32, which end in the middle of rows.
    let view = view(Format::Q8_0, [12, 48], &numbers(12 * 48, 4));
    let values = values_of(&view);
    let held = held(view);
    assert_eq!(held.bytes(), 12 * 48 * 2);
    let ids = Tensor::new(&[11_u32], &Device::Cpu).unwrap();
    let row = held.rows(&ids).unwrap().to_vec2::<f32>().unwrap();
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 5e-4;
    assert!(row[0].iter().zip(&values[11 * 48..]).all(close));
}

/// The fixture with its matrices in another format, where their rows are whole blocks.
fn stored_in(name: &str, format: Format) -> Fixture {
    let mut fixture = fixtures::read(name);
    let tensors = &mut fixture.tensors;
    let mut matrices = vec![&mut tensors.embedding];
    matrices.extend(&mut tensors.head);
    for layer in &mut tensors.layers {
        let linears = [
            &mut layer.q,
            &mut layer.k,
            &mut layer.v,
            &mut layer.o,
            &mut layer.up,
            &mut layer.down,
        ];
        let linears = linears.into_iter().chain(&mut layer.gate);
        matrices.extend(linears.map(|linear| &mut linear.weight));
    }
    for matrix in matrices {
        let shape: [usize; 2] = matrix.shape[..].try_into().unwrap();
        if format.row_bytes(shape[1]).is_some() {
            *matrix = view(format, shape, &values_of(matrix));
        }
    }
    fixture
}

fn load(fixture: &Fixture, weights: HeldAs) -> CandleDecoder {
    let options = CandleOptions {
        weights,
        ..CandleOptions::default()
    };
    CandleDecoder::load(&fixture.spec, &fixture.tensors, &options).unwrap()
}

#[test]
fn decoders_agree_with_the_same_weights_in_f32() {
    let formats = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q8_0,
        Format::Q4_0,
    ];
    for name in fixtures::NAMES {
        for format in formats {
            let fixture = stored_in(name, format);
            let (tokens, vocab) = (&fixture.tokens, fixture.spec.vocab_size);
            let expected = in_pieces(&mut load(&fixture, HeldAs::F32), tokens, &[20]);
            let mut decoder = load(&fixture, HeldAs::Stored);
            let found = in_pieces(&mut decoder, tokens, &[20]);
            let error = relative_error(&found, &expected);
            let rows = found.chunks(vocab).zip(expected.chunks(vocab));
            let clear: Vec<_> = rows.filter(|(_, row)| margin(row) > CLEAR).collect();
            println!(
                "{name} in {format}: {error:e}, {} rows of 20 clear",
                clear.len()
            );
            assert!(
                error <= logits_tolerance(format),
                "{name} in {format}: {error}"
            );
            assert!(clear.len() >= 8, "{name}: {} rows are clear", clear.len());
            for (found, expected) in clear {
                assert_eq!(greedy(found), greedy(expected), "{name} in {format}");
            }
        }
    }
}

/// How far the largest logit is above the next.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[0] - sorted[1]
}

#[test]
fn weights_and_cache_are_as_small_as_the_file() {
    for format in [Format::F16, Format::Q8_0, Format::Q4_0] {
        let fixture = stored_in("llama_halves", format);
        let decoder = load(&fixture, HeldAs::Stored);
        let views: Vec<_> = fixture.tensors.all().collect();
        // Vectors, and matrices whose rows are no whole blocks, stayed F32 in the fixture.
        let stored: usize = views.iter().filter_map(|view| view.stored_bytes()).sum();
        assert_eq!(decoder.weights_bytes(), stored, "{format}");
        let in_f32 = load(&fixture, HeldAs::F32);
        let elements: usize = views.iter().map(|view| view.elements()).sum();
        assert_eq!(in_f32.weights_bytes(), elements * 4);
        assert_eq!(
            decoder.kv_bytes_per_token() * 2,
            in_f32.kv_bytes_per_token()
        );
    }
    // A model in F32 keeps an F32 cache.
    let fixture = fixtures::read("llama_halves");
    let [stored, in_f32] =
        [HeldAs::Stored, HeldAs::F32].map(|held_as| load(&fixture, held_as).kv_bytes_per_token());
    assert_eq!(stored, in_f32);
}

#[test]
fn rows_on_a_processor_do_not_depend_on_pieces() {
    for format in [Format::F16, Format::Q4_0] {
        let fixture = stored_in("stablelm_2_12b", format);
        let tokens = &fixture.tokens;
        let mut decoder = load(&fixture, HeldAs::Stored);
        assert_eq!(decoder.exact_rows(), EXACT_ROWS);
        let one_by_one = in_pieces(&mut decoder, tokens, &[1; 20]);
        for pieces in [&[7, 13][..], &[16, 4]] {
            assert_eq!(one_by_one, in_pieces(&mut decoder, tokens, pieces));
        }
        // A fork and its parent write F16 pages of their own.
        let parent = decoder.open().unwrap();
        run_all(&mut decoder, parent, &tokens[..8]);
        let child = decoder.fork(parent, 8).unwrap();
        run_all(&mut decoder, child, &[1, 2, 3]);
        let rest = run_all(&mut decoder, parent, &tokens[8..20]);
        let vocab = fixture.spec.vocab_size;
        assert_eq!(rest.data, one_by_one[8 * vocab..]);
    }
}
