//! Products of activations with any number of matrices in one run of the pool.
//!
//! Batch invariance: the order in which a product's terms are added depends on its row and its columns only.

use crate::activations::PANEL;
use crate::matrix::Layout;
use crate::parts::Parts;
use crate::tiles::TILE;
use crate::{Activations, Isa, Matrix, Pool, scalar, tile_product};

/// Chunks that each thread gets on average, so that one that lost its core does not hold up the others.
const CHUNKS_PER_THREAD: usize = 8;

/// The same for a single panel of rows: nothing asked ahead for a chunk's first weights, so each chunk costs. Measured on two
/// Zen 5 cores with 8 rows of a 1.17B model in Q4_0, against 8 chunks: 4 take 3 % less time, 16 take 5 % more, 32 10 %.
const CHUNKS_OF_A_PANEL: usize = 4;

/// Multiply-adds below which a chunk is not worth claiming.
const MIN_CHUNK_WORK: usize = 1 << 16;

/// Matrices of one run of the pool; more take several runs.
const TOGETHER: usize = 8;

/// `y = x * W^T` for every pair: `y` has shape (x.rows, W.rows).
///
/// # Panics
/// If an output has another shape, a matrix has not as many columns as `x`, or `finish` was not told of it.
pub fn matmul(_isa: Isa, pool: &Pool, x: &Activations, outputs: &mut [(&Matrix, &mut [f32])]) {
    for outputs in outputs.chunks_mut(TOGETHER) {
        matmul_together(pool, x, outputs);
    }
}

/// At most [`TOGETHER`] of them. Nothing is allocated: this runs hundreds of times a token.
fn matmul_together(pool: &Pool, x: &Activations, outputs: &mut [(&Matrix, &mut [f32])]) {
    struct Job<'a> {
        matrix: &'a Matrix,
        y: Parts<'a, f32>,
        /// Tiles of the matrices before this one.
        before: usize,
    }
    let mut tiles = 0;
    let mut jobs = outputs.iter_mut().map(|(matrix, y)| {
        assert!(
            matrix.cols() == x.cols() && y.len() == x.rows() * matrix.rows(),
            "({}, {}) activations times a {} x {} matrix do not give {} numbers",
            x.rows(),
            x.cols(),
            matrix.rows(),
            matrix.cols(),
            y.len()
        );
        if x.cols() == 0 {
            y.fill(0.0);
        }
        let before = tiles;
        tiles += matrix.rows().div_ceil(TILE);
        Job {
            matrix,
            y: Parts::new(y),
            before,
        }
    });
    let jobs: [Option<Job>; TOGETHER] = std::array::from_fn(|_| jobs.next());
    let job = |index: usize| jobs.get(index).and_then(Option::as_ref);
    if x.rows() == 0 || x.cols() == 0 || tiles == 0 {
        return;
    }
    let work = tiles * TILE * x.cols() * x.rows();
    let per_thread = if x.rows() > PANEL {
        CHUNKS_PER_THREAD
    } else {
        CHUNKS_OF_A_PANEL
    };
    let chunks = (work / MIN_CHUNK_WORK)
        .clamp(1, pool.threads() * per_thread)
        .min(tiles);
    pool.run(chunks, &|chunk| {
        let (mut tile, end) = (tiles * chunk / chunks, tiles * (chunk + 1) / chunks);
        while tile < end {
            let begun = |job: &Option<Job>| job.as_ref().is_some_and(|job| job.before <= tile);
            let index = jobs.partition_point(begun) - 1;
            let last = job(index + 1).map_or(tiles, |next| next.before).min(end);
            let job = job(index).expect("a job that has begun");
            let range = tile - job.before..last - job.before;
            let (matrix, rows) = (job.matrix, job.matrix.rows());
            match matrix.layout() {
                Layout::Rows(bytes) => {
                    let range = range.start * TILE..(range.end * TILE).min(rows);
                    scalar::matmul_rows(matrix, bytes, x, range, &job.y);
                }
                Layout::Tiles(tiles) => {
                    tile_product::quantized(matrix.isa(), tiles, rows, x, range, &job.y);
                }
                Layout::Floats(tiles) => {
                    tile_product::floats(matrix.isa(), tiles, rows, x, range, &job.y);
                }
            }
            tile = last;
        }
    });
}
