//! Causal attention over a paged cache of keys and values.
//!
//! The keys of a row are read in blocks of one page ([`PAGE_TOKENS`]) with a running softmax (M. Milakov,
//! N. Gimelshein 2018, arXiv 1805.02867; T. Dao et al. 2022, arXiv 2205.14135), and blocks are gathered into splits of
//! [`SPLIT_TOKENS`] keys, which are merged in order. Both boundaries depend on the key's position only, so a row's result
//! is bit-identical whatever the other rows, the number of threads, and whether its splits ran apart. Query heads that
//! share keys are worked on together. It owns no page tables and no rotation.

mod kernel;
mod page;
#[cfg(test)]
mod tests;

pub use page::{KvFormat, KvShape, PAGE_TOKENS, Page, PageError};

use crate::ops::lanes::vectorized;
use crate::{Isa, Pool, parts::Parts};
use kernel::{Half, Task, Word, append_with, merge, partial_len, run_task};
use std::sync::Arc;

/// Keys of a split: splits of one row may run on different threads.
pub const SPLIT_TOKENS: usize = 256;

/// Width of the largest head.
pub const MAX_HEAD_DIM: usize = 256;

/// Query heads of a row that a task takes on at least, where there are as many rows: enough to reuse a page's keys.
const TASK_QUERIES: usize = 32;

/// Multiplications below which waking another thread costs more than it saves.
const INLINE_WORK: usize = 1 << 17;

/// New rows of one sequence; row `i` sees the keys of positions `0..=start + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which sequence, as the caller's page tables number them.
    pub table: usize,
    /// Position of its first row.
    pub start: usize,
    /// Rows, adjacent in the queries.
    pub rows: usize,
}

/// Buffers that attention reuses from call to call.
#[derive(Default)]
pub struct Scratch {
    tasks: Vec<Task>,
    partials: Vec<f32>,
}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }
}

/// out = softmax(q * keys / sqrt(head_dim)) * values for the rows of all spans, at one layer.
///
/// Shapes: q and out (rows of all spans in order, heads * head_dim); `tables(span.table)` are the sequence's pages, which
/// already hold the keys and values of the new rows.
///
/// # Panics
/// If a shape does not fit, or a table has too few pages or pages of another shape.
pub fn attend<'a>(
    isa: Isa,
    pool: &Pool,
    (shape, layer): (&KvShape, usize),
    (spans, tables): (&[Span], &(dyn Fn(usize) -> &'a [Arc<Page>] + Sync)),
    q: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let rows: usize = spans.iter().map(|s| s.rows).sum();
    let width = shape.heads * shape.head_dim;
    assert_eq!(
        (q.len(), out.len()),
        (rows * width, rows * width),
        "attention rows"
    );
    assert!(
        layer < shape.layers && shape.head_dim <= MAX_HEAD_DIM,
        "attention shape"
    );
    for span in spans {
        let pages = tables(span.table);
        assert!(
            pages.len() * PAGE_TOKENS >= span.start + span.rows,
            "{} pages do not hold {} tokens",
            pages.len(),
            span.start + span.rows
        );
    }

    let group = shape.heads / shape.kv_heads;
    let block_rows = TASK_QUERIES.div_ceil(group);
    let keys: usize = spans.iter().map(|s| s.rows * (s.start + s.rows)).sum();
    let inline = pool.threads() == 1 || keys * width < INLINE_WORK;
    let chunks: usize = spans.iter().map(|s| s.rows.div_ceil(block_rows)).sum();
    let split = !inline && chunks * shape.kv_heads < 4 * pool.threads();

    scratch.tasks.clear();
    let mut first_row = 0;
    let mut partials = 0;
    for span in spans {
        for row in (0..span.rows).step_by(block_rows) {
            let rows = block_rows.min(span.rows - row);
            let end = span.start + row + rows;
            // Only single rows are split: a block of rows is work enough.
            let splits = if split && rows == 1 {
                end.div_ceil(SPLIT_TOKENS)
            } else {
                1
            };
            for kv_head in 0..shape.kv_heads {
                for index in 0..splits {
                    let (keys, partial) = if splits == 1 {
                        ((0, end), None)
                    } else {
                        let start = index * SPLIT_TOKENS;
                        (
                            (start, end.min(start + SPLIT_TOKENS)),
                            Some(partials + index * group),
                        )
                    };
                    scratch.tasks.push(Task {
                        table: span.table,
                        row: first_row + row,
                        rows,
                        position: span.start + row,
                        kv_head,
                        keys,
                        partial,
                    });
                }
                if splits > 1 {
                    partials += splits * group;
                }
            }
        }
        first_row += span.rows;
    }
    let partial_len = partial_len(shape);
    if scratch.partials.len() < partials * partial_len {
        scratch.partials.resize(partials * partial_len, 0.0);
    }

    let tasks = &scratch.tasks[..];
    let out_parts = Parts::new(out);
    let partial_parts = Parts::new(&mut scratch.partials);
    let run = |index: usize| {
        let task = &tasks[index];
        let pages = tables(task.table);
        let (out, partials) = (&out_parts, &partial_parts);
        match shape.format {
            KvFormat::F16 => vectorized!(isa, run_task::<Half>(
                shape: &KvShape, layer: usize, task: &Task, pages: &[Arc<Page>], q: &[f32],
                out: &Parts<'_, f32>, partials: &Parts<'_, f32>)),
            KvFormat::F32 => vectorized!(isa, run_task::<Word>(
                shape: &KvShape, layer: usize, task: &Task, pages: &[Arc<Page>], q: &[f32],
                out: &Parts<'_, f32>, partials: &Parts<'_, f32>)),
        }
    };
    if inline {
        (0..tasks.len()).for_each(run);
    } else {
        pool.run(tasks.len(), &run);
    }

    // The splits of a row, in order, as one task would have merged them.
    let mut done = 0;
    while done < tasks.len() {
        let task = &tasks[done];
        let Some(first) = task.partial else {
            done += 1;
            continue;
        };
        let splits = (task.position + 1).div_ceil(SPLIT_TOKENS);
        for g in 0..group {
            let at = task.row * width + (task.kv_head * group + g) * shape.head_dim;
            let out = &mut out[at..at + shape.head_dim];
            let partials = &scratch.partials[first * partial_len..][..splits * group * partial_len];
            merge(isa, partials, (group, g), partial_len, out);
        }
        done += splits;
    }
}

/// Appends the keys and values of one token at one layer to its page. Shapes: k and v (kv_heads * head_dim).
///
/// # Panics
/// If a shape does not fit or `slot` is outside the page.
pub fn append(
    isa: Isa,
    (shape, layer): (&KvShape, usize),
    page: &mut Page,
    slot: usize,
    (k, v): (&[f32], &[f32]),
) {
    let width = shape.kv_heads * shape.head_dim;
    assert_eq!((k.len(), v.len()), (width, width), "key and value width");
    assert!(
        layer < shape.layers && slot < PAGE_TOKENS && page.fits(shape),
        "page slot"
    );
    match shape.format {
        KvFormat::F16 => vectorized!(isa, append_with::<Half>(
            shape: &KvShape, layer: usize, page: &mut Page, slot: usize, k: &[f32], v: &[f32])),
        KvFormat::F32 => vectorized!(isa, append_with::<Word>(
            shape: &KvShape, layer: usize, page: &mut Page, slot: usize, k: &[f32], v: &[f32])),
    }
}
