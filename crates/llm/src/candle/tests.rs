//! The candle executor against transformers on tiny decoders of every variant, and the KV-cache contract.

mod stored;

use candle_core::{Device, Var};

use super::fixtures::{self, Fixture};
use super::{CandleDecoder, CandleModel, CandleOptions, Held, HeldAs};
use crate::decoder::{DecodeError, Decoder, Logits, Run, SeqId};

/// Largest difference of a logit from transformers' (float32, other summation order, logits of about 5).
const TOLERANCE: f32 = 1e-4;

fn load(fixture: &Fixture) -> CandleDecoder {
    CandleDecoder::load(&fixture.spec, &fixture.tensors, &CandleOptions::default()).unwrap()
}

fn run_all(decoder: &mut CandleDecoder, seq: SeqId, tokens: &[u32]) -> Logits {
    let want: Vec<usize> = (0..tokens.len()).collect();
    let runs = [Run {
        seq,
        tokens,
        want: &want,
    }];
    decoder.forward(&runs).unwrap()
}

/// Logits of every token, the sequence cut into pieces of the given lengths.
fn in_pieces(decoder: &mut CandleDecoder, tokens: &[u32], pieces: &[usize]) -> Vec<f32> {
    let seq = decoder.open().unwrap();
    let mut data = Vec::new();
    let mut rest = tokens;
    for &piece in pieces {
        let (now, later) = rest.split_at(piece);
        data.extend(run_all(decoder, seq, now).data);
        rest = later;
    }
    assert!(rest.is_empty());
    decoder.close(seq);
    data
}

fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{name}: logits differ by {worst}");
}

#[test]
fn agrees_with_transformers_on_every_variant() {
    for name in fixtures::NAMES {
        let fixture = fixtures::read(name);
        let mut decoder = load(&fixture);
        for pieces in [&[20][..], &[16, 4], &[1; 20]] {
            let ours = in_pieces(&mut decoder, &fixture.tokens, pieces);
            assert_close(&format!("{name} in {pieces:?}"), &ours, &fixture.logits);
        }
    }
}

#[test]
fn rows_do_not_depend_on_pieces_or_neighbours() {
    for name in fixtures::NAMES {
        let fixture = fixtures::read(name);
        let tokens = &fixture.tokens;
        let mut decoder = load(&fixture);
        let one_by_one = in_pieces(&mut decoder, tokens, &[1; 20]);
        assert_eq!(
            one_by_one,
            in_pieces(&mut decoder, tokens, &[7, 13]),
            "{name}"
        );
        assert_eq!(
            one_by_one,
            in_pieces(&mut decoder, tokens, &[16, 4]),
            "{name}"
        );

        // Beside a neighbour of another length, and forked from a sequence that went on differently.
        let vocab = fixture.spec.vocab_size;
        let (a, b) = (decoder.open().unwrap(), decoder.open().unwrap());
        let both = |decoder: &mut CandleDecoder, a, tokens: &[u32], b, others: &[u32]| {
            let runs = [
                Run {
                    seq: b,
                    tokens: others,
                    want: &[1],
                },
                Run {
                    seq: a,
                    tokens,
                    want: &[0, 4],
                },
            ];
            decoder.forward(&runs).unwrap()
        };
        let logits = both(&mut decoder, a, &tokens[..5], b, &[3, 1, 4]);
        assert_eq!(logits.rows(), 3);
        assert_eq!(logits.row(1), &one_by_one[..vocab], "{name}");
        assert_eq!(logits.row(2), &one_by_one[4 * vocab..5 * vocab], "{name}");
        run_all(&mut decoder, a, &[9, 9, 9]);
        let child = decoder.fork(a, 5).unwrap();
        assert_eq!(decoder.len(child), 5);
        let logits = both(&mut decoder, child, &tokens[5..10], b, &[1, 5]);
        assert_eq!(logits.row(1), &one_by_one[5 * vocab..6 * vocab], "{name}");
        assert_eq!(logits.row(2), &one_by_one[9 * vocab..10 * vocab], "{name}");
    }
}

#[test]
fn forks_and_their_parent_stay_apart() {
    let fixture = fixtures::read("llama_halves");
    let tokens = &fixture.tokens;
    let mut decoder = load(&fixture);
    let expected = in_pieces(&mut decoder, tokens, &[10, 10]);
    let parent = decoder.open().unwrap();
    run_all(&mut decoder, parent, &tokens[..10]);
    let first = decoder.fork(parent, 10).unwrap();
    let second = decoder.fork(parent, 4).unwrap();
    run_all(&mut decoder, first, &[1, 2, 3]);
    run_all(&mut decoder, second, &[4, 5, 6]);
    let rest = run_all(&mut decoder, parent, &tokens[10..]);
    assert_eq!(rest.data, expected[10 * fixture.spec.vocab_size..]);

    // Cutting the parent below the fork and writing over it leaves the fork as it was.
    let third = decoder.fork(parent, 12).unwrap();
    decoder.truncate(parent, 2).unwrap();
    run_all(&mut decoder, parent, &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    let rest = run_all(&mut decoder, third, &tokens[12..]);
    assert_eq!(rest.data, expected[12 * fixture.spec.vocab_size..]);

    // A closed parent does not take its forks along.
    decoder.close(parent);
    assert_eq!(decoder.len(parent), 0);
    decoder.truncate(second, 4).unwrap();
    let rest = run_all(&mut decoder, second, &tokens[4..10]);
    assert_eq!(
        rest.data,
        expected[4 * fixture.spec.vocab_size..10 * fixture.spec.vocab_size]
    );
}

#[test]
fn truncation_forgets_exactly_the_end() {
    let fixture = fixtures::read("gpt_neox_parallel");
    let tokens = &fixture.tokens;
    let mut decoder = load(&fixture);
    let expected = in_pieces(&mut decoder, tokens, &[10, 10]);
    let seq = decoder.open().unwrap();
    run_all(&mut decoder, seq, &tokens[..8]);
    run_all(&mut decoder, seq, &[5, 5, 5]);
    decoder.truncate(seq, 8).unwrap();
    assert_eq!(decoder.len(seq), 8);
    let rest = run_all(&mut decoder, seq, &tokens[8..16]);
    let vocab = fixture.spec.vocab_size;
    assert_eq!(rest.data, expected[8 * vocab..16 * vocab]);
    decoder.truncate(seq, 0).unwrap();
    let again = run_all(&mut decoder, seq, &tokens[..10]);
    assert_eq!(again.data, expected[..10 * vocab]);
}

#[test]
fn refused_passes_change_nothing() {
    let fixture = fixtures::read("stablelm_2_1_6b");
    let options = CandleOptions {
        context_len: Some(18),
        ..CandleOptions::default()
    };
    let mut decoder = CandleDecoder::load(&fixture.spec, &fixture.tensors, &options).unwrap();
    assert_eq!(decoder.context_len(), 18);
    let tokens = &fixture.tokens;
    let (a, b) = (decoder.open().unwrap(), decoder.open().unwrap());
    run_all(&mut decoder, a, &tokens[..10]);
    let good = Run {
        seq: b,
        tokens: &tokens[..3],
        want: &[],
    };
    let bad = |seq, tokens, want| Run { seq, tokens, want };
    let cases: [(Run<'_>, &str); 8] = [
        (bad(a, &tokens[..9], &[]), "10 tokens held, 9 more"),
        (bad(a, &[29], &[]), "29 is outside the vocabulary of 29"),
        (bad(a, &[], &[]), "at least one"),
        (bad(b, &[1], &[]), "twice"),
        (bad(SeqId(99), &[1], &[]), "99 is not open"),
        (bad(a, &[1, 2], &[2]), "token 2 are wanted"),
        (bad(a, &[1, 2], &[1, 0]), "ascending"),
        (bad(a, &[1, 2], &[1, 1]), "ascending"),
    ];
    for (run, message) in cases {
        let error = decoder.forward(&[good, run]).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!((decoder.len(a), decoder.len(b)), (10, 0));
    }
    assert!(matches!(decoder.fork(a, 11), Err(DecodeError::Invalid(_))));
    assert!(matches!(
        decoder.truncate(a, 11),
        Err(DecodeError::Invalid(_))
    ));
    assert!(matches!(
        decoder.truncate(SeqId(99), 0),
        Err(DecodeError::Invalid(_))
    ));
    let rest = run_all(&mut decoder, a, &tokens[10..18]);
    let vocab = fixture.spec.vocab_size;
    assert_close(
        "after errors",
        &rest.data,
        &fixture.logits[10 * vocab..18 * vocab],
    );
    assert_eq!(decoder.forward(&[]).unwrap().rows(), 0);
}

#[test]
fn wrong_tensors_are_named() {
    let fixture = fixtures::read("llama_halves");
    let load = |spec, tensors| match CandleDecoder::load(spec, tensors, &CandleOptions::default()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let mut tensors = fixture.tensors.clone();
    tensors.layers[1].k.weight.shape = vec![32, 16];
    let error = load(&fixture.spec, &tensors);
    assert!(
        error.contains("layers.1.k.weight") && error.contains("[16, 32]"),
        "{error}"
    );
    let mut tensors = fixture.tensors.clone();
    tensors.embedding.bytes.to_mut().pop();
    let error = load(&fixture.spec, &tensors);
    assert!(error.contains("3711 bytes"), "{error}");
    let mut tensors = fixture.tensors.clone();
    tensors.layers[0].gate = None;
    assert!(load(&fixture.spec, &tensors).contains("gate"));
    let mut tensors = fixture.tensors.clone();
    tensors.head = None;
    assert!(load(&fixture.spec, &tensors).contains("head"));
    let mut spec = fixture.spec.clone();
    spec.rotary.frequencies.pop();
    assert!(load(&spec, &fixture.tensors).contains("rotary"));
    let mut spec = fixture.spec.clone();
    spec.kv_heads = 3;
    assert!(load(&spec, &fixture.tensors).contains("heads"));
}

/// Every weight gets the gradient that a small step in its direction confirms.
#[test]
fn gradients_reach_every_weight() {
    for name in ["llama_halves", "stablelm_2_12b", "gpt_neox_parallel"] {
        let fixture = fixtures::read(name);
        let mut model =
            CandleModel::load(&fixture.spec, &fixture.tensors, &Device::Cpu, HeldAs::F32).unwrap();
        let layer = &mut model.tensors_mut().layers[0];
        let mut slots = vec![
            &mut layer.q.weight,
            &mut layer.k.weight,
            &mut layer.v.weight,
        ];
        slots.extend([
            &mut layer.o.weight,
            &mut layer.up.weight,
            &mut layer.down.weight,
        ]);
        slots.push(&mut layer.attention_norm.weight);
        let vars: Vec<Var> = slots
            .into_iter()
            .map(|slot| {
                let var = Var::from_tensor(slot.numbers().unwrap()).unwrap();
                *slot = Held::Plain(var.as_tensor().clone());
                var
            })
            .collect();
        let rows: Vec<u32> = (0..fixture.tokens.len() as u32).collect();
        let loss = |model: &CandleModel| {
            let hidden = model
                .hidden(&fixture.tokens, 0, &mut |_, k, v| Ok((k, v)))
                .unwrap();
            model
                .logits(&hidden, &rows)
                .unwrap()
                .sqr()
                .unwrap()
                .mean_all()
                .unwrap()
        };
        let gradients = loss(&model).backward().unwrap();
        for var in &vars {
            let gradient = gradients.get(var).unwrap();
            let norm2 = gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            let step = 1e-2 / f64::from(norm2).sqrt();
            let origin = var.as_tensor().copy().unwrap();
            let at = |factor: f64| {
                var.set(&(&origin + (gradient * factor).unwrap()).unwrap())
                    .unwrap();
                f64::from(loss(&model).to_scalar::<f32>().unwrap())
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            var.set(&origin).unwrap();
            let relative = slope / f64::from(norm2) - 1.0;
            assert!(
                relative.abs() < 0.02,
                "{name}: gradient is off by {relative}"
            );
        }
    }
}
