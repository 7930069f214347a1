//! Rows of buffers and items of slices handed to the pool, each to one chunk only.

use crate::{Pool, parts::Parts};

/// Fewer elements than this are not worth waking another thread.
const INLINE_ELEMS: usize = 16 * 1024;

/// Calls `f` once with every item of `items`, one item a chunk.
pub fn for_each<T: Send>(pool: &Pool, items: &mut [T], f: &(dyn Fn(usize, &mut T) + Sync)) {
    let len = items.len();
    let parts = Parts::new(items);
    pool.run(len, &|i| {
        // SAFETY: the pool runs each i of 0..len once, so nobody else has item i.
        let item = unsafe { &mut parts.part(i..i + 1)[0] };
        f(i, item);
    });
}

/// Calls `f(row, data of the row)` for every row of `data`, shape (rows, width).
///
/// # Panics
/// If `data` is no whole number of rows.
pub fn for_each_row(
    pool: &Pool,
    data: &mut [f32],
    width: usize,
    f: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    for_each_row_pair(pool, (data, width), (&mut [], 0), &|row, data, _| {
        f(row, data)
    });
}

/// What is done with a row and the same row of a second buffer.
pub type PairOfRows<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

/// Calls `f(row, row of a, row of b)` for every row of two buffers; `a` is (rows, a width), `b` is (rows, b width).
///
/// # Panics
/// If `a` is no whole number of rows or `b` has not as many.
pub fn for_each_row_pair(
    pool: &Pool,
    (a, a_width): (&mut [f32], usize),
    (b, b_width): (&mut [f32], usize),
    f: &PairOfRows<'_>,
) {
    let rows = a.len().checked_div(a_width).unwrap_or(0);
    assert_eq!(
        (a.len(), b.len()),
        (rows * a_width, rows * b_width),
        "whole rows"
    );
    let chunks = if a.len().max(b.len()) < INLINE_ELEMS {
        rows.min(1)
    } else {
        rows.min(4 * pool.threads())
    };
    let (a, b) = (Parts::new(a), Parts::new(b));
    pool.run(chunks, &|chunk| {
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: the chunks' ranges of rows do not overlap, and each chunk runs once.
            let (a, b) = unsafe {
                (
                    a.part(row * a_width..(row + 1) * a_width),
                    b.part(row * b_width..(row + 1) * b_width),
                )
            };
            f(row, a, b);
        }
    });
}
