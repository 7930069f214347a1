//! Attention on every instruction set against f64, and bit for bit against itself however the work is cut.

use super::*;

/// f32 arithmetic on values of size 1.
const TOLERANCE: f64 = 3e-6;
/// Keys and values rounded to 11 bits.
const F16_TOLERANCE: f64 = 1e-3;

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0
        })
        .collect()
}

/// A sequence: its keys and values, (tokens, kv width), at layer 1 of 2, and the pages that hold them.
struct Sequence {
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Vec<Arc<Page>>,
}

fn sequence(isa: Isa, shape: &KvShape, tokens: usize, seed: u64) -> Sequence {
    let width = shape.kv_heads * shape.head_dim;
    let (k, v) = (noise(seed, tokens * width), noise(seed + 1, tokens * width));
    let mut pages: Vec<Page> = (0..tokens.div_ceil(PAGE_TOKENS))
        .map(|_| Page::new(shape).unwrap())
        .collect();
    for t in 0..tokens {
        let row = t * width..(t + 1) * width;
        append(
            isa,
            (shape, 1),
            &mut pages[t / PAGE_TOKENS],
            t % PAGE_TOKENS,
            (&k[row.clone()], &v[row]),
        );
    }
    Sequence {
        k,
        v,
        pages: pages.into_iter().map(Arc::new).collect(),
    }
}

fn reference(shape: &KvShape, sequence: &Sequence, q: &[f32], position: usize) -> Vec<f64> {
    let (dim, width) = (shape.head_dim, shape.kv_heads * shape.head_dim);
    let group = shape.heads / shape.kv_heads;
    let mut out = vec![0.0; shape.heads * dim];
    for head in 0..shape.heads {
        let q = &q[head * dim..(head + 1) * dim];
        let at = |t: usize| t * width + head / group * dim;
        let scores: Vec<f64> = (0..=position)
            .map(|t| {
                let k = &sequence.k[at(t)..at(t) + dim];
                let dot: f64 = q.iter().zip(k).map(|(q, k)| *q as f64 * *k as f64).sum();
                (dot / (dim as f64).sqrt()).exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        for (t, score) in scores.iter().enumerate() {
            for d in 0..dim {
                out[head * dim + d] += score / total * sequence.v[at(t) + d] as f64;
            }
        }
    }
    out
}

const SHAPES: [KvShape; 5] = [
    KvShape {
        layers: 2,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        format: KvFormat::F16,
    },
    KvShape {
        layers: 2,
        heads: 8,
        kv_heads: 1,
        head_dim: 64,
        format: KvFormat::F32,
    },
    KvShape {
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 80,
        format: KvFormat::F32,
    },
    KvShape {
        layers: 2,
        heads: 14,
        kv_heads: 2,
        head_dim: 6,
        format: KvFormat::F32,
    },
    KvShape {
        layers: 2,
        heads: 2,
        kv_heads: 2,
        head_dim: 256,
        format: KvFormat::F16,
    },
];

#[test]
fn matches_f64() {
    let pool = Pool::new(2);
    for isa in Isa::available() {
        println!("attention on {}", isa.name());
        for shape in &SHAPES {
            let tokens = 530;
            let sequence = sequence(isa, shape, tokens, 5);
            let width = shape.heads * shape.head_dim;
            let tolerance = match shape.format {
                KvFormat::F16 => F16_TOLERANCE,
                KvFormat::F32 => TOLERANCE,
            };
            for (start, rows) in [(0, 1), (0, 3), (31, 2), (63, 1), (200, 90), (529, 1)] {
                let q = noise(6, rows * width);
                let mut out = vec![f32::NAN; rows * width];
                let spans = [Span {
                    table: 0,
                    start,
                    rows,
                }];
                let mut scratch = Scratch::new();
                attend(
                    isa,
                    &pool,
                    (shape, 1),
                    (&spans, &|_| &sequence.pages),
                    &q,
                    &mut out,
                    &mut scratch,
                );
                for row in 0..rows {
                    let range = row * width..(row + 1) * width;
                    let want = reference(shape, &sequence, &q[range.clone()], start + row);
                    for (g, w) in out[range].iter().zip(&want) {
                        let error = (*g as f64 - w).abs();
                        assert!(
                            error < tolerance,
                            "{} {shape:?} row {row} from {start}: {g} for {w}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

/// A row alone on one thread, in a block of rows, among other sequences, split over threads: the same bits.
#[test]
fn a_row_is_the_same_however_the_work_is_cut() {
    for isa in Isa::available() {
        for shape in &SHAPES {
            let width = shape.heads * shape.head_dim;
            let lengths = [700, 40, 257];
            let sequences: Vec<_> = (0..3)
                .map(|i| sequence(isa, shape, lengths[i], 20 + i as u64))
                .collect();
            let tables = |i: usize| &sequences[i].pages[..];
            let attend = |threads: usize, spans: &[Span], q: &[f32]| {
                let mut out = vec![f32::NAN; q.len()];
                let pool = Pool::new(threads);
                attend(
                    isa,
                    &pool,
                    (shape, 1),
                    (spans, &tables),
                    q,
                    &mut out,
                    &mut Scratch::new(),
                );
                out
            };
            // The last 17 rows of each sequence at once.
            let spans: Vec<_> = (0..3)
                .map(|i| Span {
                    table: i,
                    start: lengths[i] - 17,
                    rows: 17,
                })
                .collect();
            let q = noise(50, 3 * 17 * width);
            let together = attend(2, &spans, &q);
            for (i, span) in spans.iter().enumerate() {
                for row in [0, 9, 16] {
                    let at = (i * 17 + row) * width;
                    let one = [Span {
                        table: i,
                        start: span.start + row,
                        rows: 1,
                    }];
                    for threads in [1, 2, 5] {
                        let alone = attend(threads, &one, &q[at..at + width]);
                        let same = alone
                            .iter()
                            .zip(&together[at..at + width])
                            .all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(
                            same,
                            "{} {shape:?} sequence {i} row {row}, {threads} threads",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn values_beyond_half_floats_stay_finite() {
    for isa in Isa::available() {
        let shape = KvShape {
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            format: KvFormat::F16,
        };
        let mut page = Page::new(&shape).unwrap();
        append(isa, (&shape, 0), &mut page, 0, (&[1e6; 8], &[-1e30; 8]));
        let pages = [Arc::new(page)];
        let mut out = [0.0; 8];
        let spans = [Span {
            table: 0,
            start: 0,
            rows: 1,
        }];
        let pool = Pool::new(1);
        attend(
            isa,
            &pool,
            (&shape, 0),
            (&spans, &|_| &pages),
            &[1.0; 8],
            &mut out,
            &mut Scratch::new(),
        );
        assert_eq!(out, [-65504.0; 8]);
    }
}

#[test]
#[should_panic(expected = "another shape")]
fn pages_of_another_shape_are_refused() {
    let shape = SHAPES[0];
    let other = KvShape {
        kv_heads: 1,
        heads: 3,
        ..shape
    };
    let pages = [Arc::new(Page::new(&other).unwrap())];
    let q = vec![0.0; 9 * 64];
    let mut out = vec![0.0; 9 * 64];
    let spans = [Span {
        table: 0,
        start: 0,
        rows: 1,
    }];
    let pool = Pool::new(1);
    attend(
        Isa::detect(),
        &pool,
        (&shape, 0),
        (&spans, &|_| &pages),
        &q,
        &mut out,
        &mut Scratch::new(),
    );
}
