//! The executor against the specification in f64, and bit for bit against itself however passes are cut.

mod reference;
mod tiny;

use super::*;
use billion_kernels::Format;
use tiny::{Tiny, every_form, tokens};

/// f32 arithmetic over two blocks; logits are of size 3 to 10.
const F32_TOLERANCE: f64 = 1e-4;
/// Half floats in weights are exact here; keys and values are rounded to 11 bits.
const F16_TOLERANCE: f64 = 0.02;
/// Where activations are rounded to bf16, by 2^-9 of each at most: the root mean square of the error, relative to the logits'.
const BF16_TOLERANCE: f64 = 5e-3;
/// Activations of quantized matrices are rounded to 12 or 16 bits, keys and values to 11: relative as above.
const QUANTIZED_TOLERANCE: f64 = 1e-3;

fn load(tiny: &Tiny, isa: Isa, threads: usize) -> CpuDecoder {
    let options = CpuOptions {
        threads,
        isa: Some(isa),
        context_len: None,
    };
    CpuDecoder::load(&tiny.spec, &tiny.views, &options).unwrap()
}

/// Logits of every position, the prompt in one pass.
fn all_logits(decoder: &mut CpuDecoder, tokens: &[u32]) -> Logits {
    let seq = decoder.open().unwrap();
    let want: Vec<usize> = (0..tokens.len()).collect();
    let logits = decoder
        .forward(&[Run {
            seq,
            tokens,
            want: &want,
        }])
        .unwrap();
    decoder.close(seq);
    logits
}

/// (largest error, root mean square of the error over that of the logits)
fn errors(got: &Logits, want: &[Vec<f64>]) -> (f64, f64) {
    assert_eq!(got.rows(), want.len());
    let (mut most, mut square, mut size) = (0.0_f64, 0.0, 0.0);
    for (g, w) in got.data.iter().zip(want.iter().flatten()) {
        let error = (f64::from(*g) - w).abs();
        assert!(error.is_finite());
        most = most.max(error);
        square += error * error;
        size += w * w;
    }
    (most, (square / size).sqrt())
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_form_matches_f64() {
    for tiny in every_form(Format::F32) {
        let tokens = tokens(1, 70);
        let want = reference::logits(&tiny.spec, &tiny.exact, &tokens);
        for isa in Isa::available() {
            let (most, _) = errors(&all_logits(&mut load(&tiny, isa, 2), &tokens), &want);
            println!("{} on {}: {most:.2e}", tiny.name, isa.name());
            assert!(
                most < F32_TOLERANCE,
                "{} on {}: {most}",
                tiny.name,
                isa.name()
            );
        }
    }
}

#[test]
fn every_format_matches_f64_on_its_dequantized_weights() {
    for format in Format::ALL {
        let tokens = tokens(2, 40);
        for tiny in every_form(format) {
            let want = reference::logits(&tiny.spec, &tiny.exact, &tokens);
            for isa in Isa::available() {
                let (most, relative) =
                    errors(&all_logits(&mut load(&tiny, isa, 2), &tokens), &want);
                let fits = match format {
                    Format::F32 => most < F32_TOLERANCE,
                    Format::BF16 if isa.name().ends_with("-BF16") => relative < BF16_TOLERANCE,
                    Format::F16 | Format::BF16 => most < F16_TOLERANCE,
                    _ => relative < QUANTIZED_TOLERANCE,
                };
                println!(
                    "{format} {} on {}: {most:.1e}, {relative:.1e}",
                    tiny.name,
                    isa.name()
                );
                assert!(
                    fits,
                    "{format} {} on {}: {most}, {relative}",
                    tiny.name,
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn long_prompts_cross_blocks_and_pages() {
    let tiny = &every_form(Format::F32)[0];
    let tokens = tokens(3, 2 * BLOCK_ROWS + 45);
    let want = reference::logits(&tiny.spec, &tiny.exact, &tokens);
    let mut decoder = load(tiny, Isa::detect(), 2);
    let (most, _) = errors(&all_logits(&mut decoder, &tokens), &want);
    assert!(most < F32_TOLERANCE, "{most}");
    // A few positions only, in an uneven batch.
    let (a, b) = (decoder.open().unwrap(), decoder.open().unwrap());
    let wanted = [3, BLOCK_ROWS - 1, BLOCK_ROWS, tokens.len() - 1];
    let few = decoder
        .forward(&[
            Run {
                seq: b,
                tokens: &tokens[..77],
                want: &[76],
            },
            Run {
                seq: a,
                tokens: &tokens,
                want: &wanted,
            },
        ])
        .unwrap();
    let rows: Vec<_> = [76]
        .iter()
        .chain(&wanted)
        .map(|i| want[*i].clone())
        .collect();
    let (most, _) = errors(&few, &rows);
    assert!(most < F32_TOLERANCE, "{most}");
    // Nothing wanted is a pass too.
    let c = decoder.open().unwrap();
    let none = decoder
        .forward(&[Run {
            seq: c,
            tokens: &tokens[..300],
            want: &[],
        }])
        .unwrap();
    assert_eq!((none.rows(), decoder.len(c)), (0, 300));
    let next = decoder
        .forward(&[Run {
            seq: c,
            tokens: &tokens[300..301],
            want: &[0],
        }])
        .unwrap();
    assert!(errors(&next, &want[300..301]).0 < F32_TOLERANCE);
}

/// A row alone, in passes of up to 16 rows, beside other sequences, from a fork, on any number of threads: the same bits.
#[test]
fn batches_and_chunks_do_not_change_a_bit() {
    let formats = [
        Format::F32,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q8_0,
        Format::Q4_K,
        Format::Q6_K,
    ];
    for format in formats {
        for tiny in every_form(format) {
            for isa in Isa::available() {
                let name = format!("{format} {} on {}", tiny.name, isa.name());
                let texts = [tokens(5, 45), tokens(6, 39), tokens(7, 33)];
                let mut decoder = load(&tiny, isa, 1);
                let alone: Vec<Vec<Vec<u32>>> = texts
                    .iter()
                    .map(|text| {
                        let seq = decoder.open().unwrap();
                        text.iter()
                            .map(|t| {
                                let run = Run {
                                    seq,
                                    tokens: &[*t],
                                    want: &[0],
                                };
                                bits(&decoder.forward(&[run]).unwrap().data)
                            })
                            .collect()
                    })
                    .collect();

                let mut decoder = load(&tiny, isa, 3);
                // Chunks of 1 to 16 rows.
                let seq = decoder.open().unwrap();
                let mut at = 0;
                for size in [16, 1, 7, 2, 13, 6] {
                    let want: Vec<usize> = (0..size).collect();
                    let run = Run {
                        seq,
                        tokens: &texts[0][at..at + size],
                        want: &want,
                    };
                    let got = decoder.forward(&[run]).unwrap();
                    for i in 0..size {
                        assert_eq!(
                            bits(got.row(i)),
                            alone[0][at + i],
                            "{name}: chunk of {size}, position {}",
                            at + i
                        );
                    }
                    at += size;
                }
                // Three sequences side by side; only last positions wanted.
                let seqs: Vec<_> = texts.iter().map(|_| decoder.open().unwrap()).collect();
                let mut at = [0; 3];
                for step in [[5, 1, 10], [1, 1, 1], [3, 9, 2], [8, 4, 4], [2, 8, 6]] {
                    let wants: Vec<[usize; 1]> = step.iter().map(|n| [n - 1]).collect();
                    let runs: Vec<_> = (0..3)
                        .map(|i| Run {
                            seq: seqs[i],
                            tokens: &texts[i][at[i]..at[i] + step[i]],
                            want: &wants[i],
                        })
                        .collect();
                    let got = decoder.forward(&runs).unwrap();
                    for i in 0..3 {
                        at[i] += step[i];
                        assert_eq!(
                            bits(got.row(i)),
                            alone[i][at[i] - 1],
                            "{name}: sequence {i} to {}",
                            at[i]
                        );
                    }
                }
                // A fork in the middle of a page, both going on, each by itself.
                let fork = decoder.fork(seq, 37).unwrap();
                decoder.truncate(seq, 35).unwrap();
                let other = [Run {
                    seq: fork,
                    tokens: &[1, 2, 3],
                    want: &[2],
                }];
                decoder.forward(&other).unwrap();
                let run = Run {
                    seq,
                    tokens: &texts[0][35..45],
                    want: &[9],
                };
                assert_eq!(
                    bits(&decoder.forward(&[run]).unwrap().data),
                    alone[0][44],
                    "{name}: beside its fork"
                );
                decoder.truncate(fork, 37).unwrap();
                let run = Run {
                    seq: fork,
                    tokens: &texts[0][37..45],
                    want: &[7],
                };
                assert_eq!(
                    bits(&decoder.forward(&[run]).unwrap().data),
                    alone[0][44],
                    "{name}: the fork"
                );
            }
        }
    }
}

#[test]
fn errors_leave_every_sequence_as_it_was() {
    let tiny = &every_form(Format::Q8_0)[0];
    let options = CpuOptions {
        threads: 1,
        context_len: Some(40),
        isa: None,
    };
    let mut decoder = CpuDecoder::load(&tiny.spec, &tiny.views, &options).unwrap();
    assert_eq!(decoder.context_len(), 40);
    let (a, b) = (decoder.open().unwrap(), decoder.open().unwrap());
    decoder
        .forward(&[Run {
            seq: a,
            tokens: &[1; 38],
            want: &[],
        }])
        .unwrap();
    let bytes = decoder.kv_bytes();
    let good = Run {
        seq: b,
        tokens: &[1, 2],
        want: &[1],
    };
    let full = decoder.forward(&[
        good,
        Run {
            seq: a,
            tokens: &[1; 3],
            want: &[],
        },
    ]);
    assert!(matches!(
        full,
        Err(DecodeError::ContextFull {
            have: 38,
            add: 3,
            limit: 40
        })
    ));
    let outside = decoder.forward(&[
        good,
        Run {
            seq: a,
            tokens: &[97],
            want: &[],
        },
    ]);
    assert!(matches!(
        outside,
        Err(DecodeError::TokenOutOfRange {
            token: 97,
            vocab_size: 97
        })
    ));
    let invalid = [
        Run {
            seq: b,
            tokens: &[1],
            want: &[],
        },
        Run {
            seq: a,
            tokens: &[],
            want: &[],
        },
        Run {
            seq: a,
            tokens: &[1, 2],
            want: &[1, 0],
        },
        Run {
            seq: a,
            tokens: &[1, 2],
            want: &[1, 1],
        },
        Run {
            seq: a,
            tokens: &[1, 2],
            want: &[2],
        },
        Run {
            seq: SeqId(999),
            tokens: &[1],
            want: &[],
        },
    ];
    for run in invalid {
        let refused = decoder.forward(&[good, run]);
        assert!(matches!(refused, Err(DecodeError::Invalid(_))), "{run:?}");
    }
    assert!(decoder.truncate(a, 39).is_err() && decoder.fork(a, 39).is_err());
    assert_eq!(
        (decoder.len(a), decoder.len(b), decoder.kv_bytes()),
        (38, 0, bytes)
    );
    // And it goes on as if nothing had been.
    let after = decoder
        .forward(&[Run {
            seq: a,
            tokens: &[5, 6],
            want: &[1],
        }])
        .unwrap();
    let mut other = CpuDecoder::load(&tiny.spec, &tiny.views, &options).unwrap();
    let seq = other.open().unwrap();
    other
        .forward(&[Run {
            seq,
            tokens: &[1; 38],
            want: &[],
        }])
        .unwrap();
    let expected = other
        .forward(&[Run {
            seq,
            tokens: &[5, 6],
            want: &[1],
        }])
        .unwrap();
    assert_eq!(after, expected);
}

#[test]
fn forks_share_pages_and_closing_frees_them() {
    let tiny = &every_form(Format::F32)[0];
    let mut decoder = load(tiny, Isa::detect(), 1);
    assert_eq!(decoder.kv_bytes(), 0);
    let a = decoder.open().unwrap();
    decoder
        .forward(&[Run {
            seq: a,
            tokens: &tokens(8, 100),
            want: &[],
        }])
        .unwrap();
    let page = decoder.kv_bytes() / 4;
    assert_eq!(page, decoder.kv_bytes_per_token() * PAGE_TOKENS);
    let forks: Vec<_> = (0..5).map(|_| decoder.fork(a, 100).unwrap()).collect();
    assert_eq!(decoder.kv_bytes(), 4 * page, "a fork alone takes nothing");
    for fork in &forks {
        decoder
            .forward(&[Run {
                seq: *fork,
                tokens: &[1],
                want: &[],
            }])
            .unwrap();
    }
    assert_eq!(
        decoder.kv_bytes(),
        9 * page,
        "each fork copies the last page only"
    );
    decoder.truncate(a, 10).unwrap();
    decoder.close(a);
    assert_eq!((decoder.len(a), decoder.len(forks[0])), (0, 101));
    for fork in forks {
        decoder.close(fork);
        decoder.close(fork);
    }
    assert_eq!(decoder.kv_bytes(), 0);
    assert!(matches!(decoder.fork(a, 0), Err(DecodeError::Invalid(_))));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let tiny = &every_form(Format::F32)[0];
    let mut views = tiny.views.clone();
    views.layers[1].o.weight.shape = vec![64, 63];
    views.layers[1].o.weight.name = "blk.1.attn_output.weight".to_owned();
    let error = CpuDecoder::load(&tiny.spec, &views, &CpuOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "tensor blk.1.attn_output.weight: expected shape [64, 64], found [64, 63]"
    );
    let spec = DecoderSpec {
        head_dim: 300,
        ..tiny.spec.clone()
    };
    let error = CpuDecoder::load(&spec, &tiny.views, &CpuOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("heads of 300 numbers; 1 to 256 are supported"),
        "{error}"
    );
}
