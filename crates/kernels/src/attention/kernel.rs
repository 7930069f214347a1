//! The arithmetic of attention: one micro-kernel for scores and weighted sums, the running softmax, the merge of splits.
//!
//! Written once over [`Lanes`]; every function here is compiled inside `vectorized!`.

use super::page::{KvShape, PAGE_TOKENS, Page};
use super::{MAX_HEAD_DIM, SPLIT_TOKENS};
use crate::Isa;
use crate::ops::lanes::{Lanes, exp, load_part, vectorized};
use crate::parts::Parts;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Largest finite half float.
const F16_MAX: f32 = 65504.0;

/// How a number of the cache is read and written.
pub(super) trait Element: Copy {
    /// As stored.
    type T: Copy;
    unsafe fn load<L: Lanes>(from: *const Self::T) -> L::V;
    unsafe fn store<L: Lanes>(to: *mut Self::T, v: L::V);
}

/// IEEE half floats.
#[derive(Clone, Copy)]
pub(super) struct Half;
/// f32.
#[derive(Clone, Copy)]
pub(super) struct Word;

impl Element for Half {
    type T = u16;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u16) -> L::V {
        // SAFETY: passed on to the caller.
        unsafe { L::load_f16(from) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(to: *mut u16, v: L::V) {
        // SAFETY: passed on to the caller.
        unsafe {
            let held = L::max(L::splat(-F16_MAX), L::min(L::splat(F16_MAX), v));
            L::store_f16(to, held);
        }
    }
}

impl Element for Word {
    type T = f32;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L::V {
        // SAFETY: passed on to the caller.
        unsafe { L::load(from) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(to: *mut f32, v: L::V) {
        // SAFETY: passed on to the caller.
        unsafe { L::store(to, v) }
    }
}

/// Some rows of one sequence at one key-value head, over a range of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub table: usize,
    /// First row in the queries.
    pub row: usize,
    pub rows: usize,
    /// Position of the first row.
    pub position: usize,
    pub kv_head: usize,
    /// Keys start..end; start is a multiple of a split.
    pub keys: (usize, usize),
    /// Where the unmerged result of the first query head goes, in partials; none if the task has all keys.
    pub partial: Option<usize>,
}

/// f32s of a stored partial: values (padded), largest score, sum of weights, padding to whole lines.
pub(super) const fn partial_len(shape: &KvShape) -> usize {
    shape.value_width() + PARTIAL_TAIL
}

const PARTIAL_TAIL: usize = 16;

/// The running softmax of the queries of a tile.
struct State<const Q: usize> {
    /// Weighted values, query `i` at `i * MAX_HEAD_DIM`; only the stored width of a value is used and initialised.
    values: MaybeUninit<[[f32; MAX_HEAD_DIM]; Q]>,
    /// The largest score so far.
    largest: [f32; Q],
    /// The sum of e^(score - largest).
    sum: [f32; Q],
}

impl<const Q: usize> State<Q> {
    /// Nothing seen; `width` numbers of each query's values are zero.
    #[inline(always)]
    fn new(width: usize) -> Self {
        let mut values = MaybeUninit::<[[f32; MAX_HEAD_DIM]; Q]>::uninit();
        for i in 0..Q {
            // SAFETY: MAX_HEAD_DIM numbers belong to query i, and width is at most that.
            unsafe {
                let start = values.as_mut_ptr().cast::<f32>().add(i * MAX_HEAD_DIM);
                start.write_bytes(0, width.min(MAX_HEAD_DIM));
            }
        }
        Self {
            values,
            largest: [f32::NEG_INFINITY; Q],
            sum: [0.0; Q],
        }
    }

    /// Nothing seen again; values are cleared when the next key is.
    #[inline(always)]
    fn restart(&mut self) {
        self.largest = [f32::NEG_INFINITY; Q];
        self.sum = [0.0; Q];
    }

    #[inline(always)]
    fn values(&mut self, query: usize) -> *mut f32 {
        self.values
            .as_mut_ptr()
            .cast::<f32>()
            .wrapping_add(query * MAX_HEAD_DIM)
    }
}

/// Runs a task: writes its rows of `out`, or its partials.
#[inline(always)]
pub(super) unsafe fn run_task<L: Lanes, E: Element>(
    shape: &KvShape,
    layer: usize,
    task: &Task,
    pages: &[Arc<Page>],
    q: &[f32],
    out: &Parts<'_, f32>,
    partials: &Parts<'_, f32>,
) {
    let group = shape.heads / shape.kv_heads;
    let queries = task.rows * group;
    let mut at = 0;
    // Six at most: two registers of sums for each, two of keys and one of the query fit 16 registers.
    while at < queries {
        let left = queries - at;
        // SAFETY: the caller of `attend` checked every shape; tiles, and so the parts they write, do not overlap.
        unsafe {
            macro_rules! tile {
                ($n:literal) => {{
                    run_tile::<L, E, $n>(shape, layer, task, at, pages, q, out, partials);
                    $n
                }};
            }
            at += match left {
                1 => tile!(1),
                2 => tile!(2),
                3 => tile!(3),
                // 4 and 4 rather than 6 and 2.
                4 | 7 | 8 => tile!(4),
                5 => tile!(5),
                _ => tile!(6),
            };
        }
    }
}

/// `Q` queries of a task, from its query `at` on; queries are numbered row by row, heads of the group within.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "one call, inlined; a struct would only rename them"
)]
unsafe fn run_tile<L: Lanes, E: Element, const Q: usize>(
    shape: &KvShape,
    layer: usize,
    task: &Task,
    at: usize,
    pages: &[Arc<Page>],
    q: &[f32],
    out: &Parts<'_, f32>,
    partials: &Parts<'_, f32>,
) {
    let group = shape.heads / shape.kv_heads;
    let (dim, value_width) = (shape.head_dim, shape.value_width());
    let offset = |i: usize| {
        let (row, head) = (
            task.row + (at + i) / group,
            task.kv_head * group + (at + i) % group,
        );
        (row * shape.heads + head) * dim
    };
    // Queries interleaved, (head_dim, Q), so that the kernel reads them from one pointer.
    let scale = 1.0 / (dim as f32).sqrt();
    let mut queries = [const { MaybeUninit::<[f32; Q]>::uninit() }; MAX_HEAD_DIM];
    for (d, query) in queries[..dim].iter_mut().enumerate() {
        query.write(std::array::from_fn(|i| q[offset(i) + d] * scale));
    }
    // Keys that each query sees.
    let seen: [usize; Q] =
        std::array::from_fn(|i| (task.position + (at + i) / group + 1).min(task.keys.1));

    let page_bytes = shape.page_bytes();
    let mut total = State::<Q>::new(value_width);
    let mut split = State::<Q>::new(value_width);
    let mut scores = [[0.0_f32; PAGE_TOKENS]; Q];
    // SAFETY: offsets inside a page follow the layout of `shape`, whose size each page has; states hold value_width
    // numbers of each query, which `State::new` cleared; scores hold Q rows, queries head_dim.
    unsafe {
        let end = seen[Q - 1];
        for key in (task.keys.0..end).step_by(PAGE_TOKENS) {
            let page = &pages[key / PAGE_TOKENS];
            assert!(Some(page.bytes()) == page_bytes, "a page of another shape");
            let page = page.start().cast::<E::T>();
            let keys = page.add(shape.keys_at(layer, task.kv_head));
            let values = page.add(shape.values_at(layer, task.kv_head));
            for column in (0..PAGE_TOKENS).step_by(2 * L::N) {
                product::<L, E, Q, Q, 1>(
                    queries.as_ptr().cast(),
                    (keys.add(column), PAGE_TOKENS),
                    dim,
                    (scores.as_mut_ptr().cast::<f32>().add(column), PAGE_TOKENS),
                );
            }
            let mut most = 0;
            for i in 0..Q {
                let visible = seen[i].saturating_sub(key).min(PAGE_TOKENS);
                most = most.max(visible);
                let scores = &mut scores[i];
                let values = split.values(i);
                soften::<L>(
                    scores,
                    visible,
                    &mut split.largest[i],
                    &mut split.sum[i],
                    values,
                    value_width,
                );
            }
            for column in (0..value_width).step_by(2 * L::N) {
                product::<L, E, Q, 1, PAGE_TOKENS>(
                    scores.as_ptr().cast(),
                    (values.add(column), value_width),
                    most,
                    (split.values(0).add(column), MAX_HEAD_DIM),
                );
            }
            let next = key + PAGE_TOKENS;
            if task.partial.is_none() && (next.is_multiple_of(SPLIT_TOKENS) || next >= end) {
                for i in 0..Q {
                    let values = split.values(i);
                    let into = total.values(i);
                    merge_one::<L>(
                        (&mut total.largest[i], &mut total.sum[i], into),
                        (split.largest[i], split.sum[i], values),
                        value_width,
                    );
                }
                split.restart();
            }
        }
        for i in 0..Q {
            if let Some(first) = task.partial {
                let len = partial_len(shape);
                let start = (first + at + i) * len;
                let stored = partials.part(start..start + len);
                let values = std::slice::from_raw_parts(split.values(i), value_width);
                stored[..value_width].copy_from_slice(values);
                stored[value_width] = split.largest[i];
                stored[value_width + 1] = split.sum[i];
            } else {
                let out = out.part(offset(i)..offset(i) + dim);
                let values = std::slice::from_raw_parts(total.values(i), dim);
                finish(values, total.sum[i], out);
            }
        }
    }
}

/// out[i][..2 N] (+)= sum over k of a[i][k] * b[k][..2 N] for `Q` rows; a is at `k * STEP + i * ROW`, each in turn.
///
/// Scores (STEP = Q) start from zero; weighted sums (STEP = 1) add to what `out` holds.
#[inline(always)]
unsafe fn product<L: Lanes, E: Element, const Q: usize, const STEP: usize, const ROW: usize>(
    a: *const f32,
    (b, b_stride): (*const E::T, usize),
    depth: usize,
    (out, out_stride): (*mut f32, usize),
) {
    // SAFETY: the caller vouches for the extents of a, b and out.
    unsafe {
        let mut sums = [[L::splat(0.0); 2]; Q];
        if ROW != 1 {
            for (i, sum) in sums.iter_mut().enumerate() {
                sum[0] = L::load(out.add(i * out_stride));
                sum[1] = L::load(out.add(i * out_stride + L::N));
            }
        }
        for k in 0..depth {
            let b = b.add(k * b_stride);
            let (b0, b1) = (E::load::<L>(b), E::load::<L>(b.add(L::N)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let a = L::splat(*a.add(k * STEP + i * ROW));
                sum[0] = L::mul_add(a, b0, sum[0]);
                sum[1] = L::mul_add(a, b1, sum[1]);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            L::store(out.add(i * out_stride), sum[0]);
            L::store(out.add(i * out_stride + L::N), sum[1]);
        }
    }
}

/// One block of the running softmax: scores become weights relative to the largest score so far, and sum and values are
/// brought to that scale. Scores from `visible` on become weight 0.
#[inline(always)]
unsafe fn soften<L: Lanes>(
    scores: &mut [f32],
    visible: usize,
    largest: &mut f32,
    sum: &mut f32,
    values: *mut f32,
    value_width: usize,
) {
    if visible == 0 {
        scores.fill(0.0);
        if *largest == f32::NEG_INFINITY {
            // SAFETY: the caller vouches for value_width numbers, a multiple of N.
            unsafe { scale_by::<L>(values, value_width, 0.0) };
        }
        return;
    }
    // The last block of a row; the condition spares all others two calls.
    let partial = visible < PAGE_TOKENS;
    if partial {
        scores[visible..].fill(f32::NEG_INFINITY);
    }
    // SAFETY: scores hold PAGE_TOKENS numbers, a multiple of N; the caller vouches for the values.
    unsafe {
        let at = scores.as_mut_ptr();
        let mut top = L::load(at);
        for i in (L::N..PAGE_TOKENS).step_by(L::N) {
            top = L::max(top, L::load(at.add(i)));
        }
        let new = largest.max(L::largest(top));
        if new > *largest {
            let factor = (*largest - new).exp();
            *sum *= factor;
            scale_by::<L>(values, value_width, factor);
            *largest = new;
        }
        let new = L::splat(new);
        for i in (0..PAGE_TOKENS).step_by(L::N) {
            L::store(at.add(i), exp::<L>(L::sub(L::load(at.add(i)), new)));
        }
        if partial {
            scores[visible..].fill(0.0);
        }
        let mut weights = L::splat(0.0);
        for i in (0..PAGE_TOKENS).step_by(L::N) {
            weights = L::add(weights, L::load(at.add(i)));
        }
        *sum += L::sum(weights);
    }
}

/// values *= factor; a factor of 0 clears them whatever they held.
#[inline(always)]
unsafe fn scale_by<L: Lanes>(values: *mut f32, width: usize, factor: f32) {
    // SAFETY: the caller vouches for `width` numbers, a multiple of N.
    unsafe {
        for i in (0..width).step_by(L::N) {
            let scaled = if factor == 0.0 {
                L::splat(0.0)
            } else {
                L::mul(L::load(values.add(i)), L::splat(factor))
            };
            L::store(values.add(i), scaled);
        }
    }
}

/// Merges a split into what precedes it.
#[inline(always)]
unsafe fn merge_one<L: Lanes>(
    (largest, sum, values): (&mut f32, &mut f32, *mut f32),
    (split_largest, split_sum, split_values): (f32, f32, *const f32),
    width: usize,
) {
    if split_largest == f32::NEG_INFINITY {
        return;
    }
    let new = largest.max(split_largest);
    let (old_factor, factor) = ((*largest - new).exp(), (split_largest - new).exp());
    *sum = *sum * old_factor + split_sum * factor;
    *largest = new;
    // SAFETY: the caller vouches for `width` numbers of both, a multiple of N.
    unsafe {
        scale_by::<L>(values, width, old_factor);
        for i in (0..width).step_by(L::N) {
            let merged = L::mul_add(
                L::load(split_values.add(i)),
                L::splat(factor),
                L::load(values.add(i)),
            );
            L::store(values.add(i), merged);
        }
    }
}

/// Merges the stored splits of query head `g` of a group and writes its output, shape (head_dim).
pub(super) fn merge(
    isa: Isa,
    partials: &[f32],
    (group, g): (usize, usize),
    partial_len: usize,
    out: &mut [f32],
) {
    vectorized!(isa, merge_with(
        partials: &[f32], group: usize, g: usize, partial_len: usize, out: &mut [f32]));
}

#[inline(always)]
unsafe fn merge_with<L: Lanes>(
    partials: &[f32],
    group: usize,
    g: usize,
    partial_len: usize,
    out: &mut [f32],
) {
    let width = partial_len - PARTIAL_TAIL;
    let mut values = [0.0_f32; MAX_HEAD_DIM];
    let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
    for partial in partials.chunks_exact(partial_len).skip(g).step_by(group) {
        // SAFETY: a partial and `values` hold `width` numbers, a multiple of N.
        unsafe {
            merge_one::<L>(
                (&mut largest, &mut sum, values.as_mut_ptr()),
                (partial[width], partial[width + 1], partial.as_ptr()),
                width,
            );
        }
    }
    finish(&values, sum, out);
}

/// out = values / sum
#[inline(always)]
fn finish(values: &[f32], sum: f32, out: &mut [f32]) {
    let inverse = 1.0 / sum;
    for (out, v) in out.iter_mut().zip(values) {
        *out = v * inverse;
    }
}

/// Writes the keys and values of one token into a page.
#[inline(always)]
pub(super) unsafe fn append_with<L: Lanes, E: Element>(
    shape: &KvShape,
    layer: usize,
    page: &mut Page,
    slot: usize,
    k: &[f32],
    v: &[f32],
) {
    let (dim, value_width) = (shape.head_dim, shape.value_width());
    let start = page.start_mut().cast::<E::T>();
    for kv_head in 0..shape.kv_heads {
        let heads = kv_head * dim..(kv_head + 1) * dim;
        // SAFETY: the caller checked the page's size and the slot; offsets follow the layout, and registers are stored whole
        // into buffers of N numbers or into the padded width of a value, a multiple of N.
        unsafe {
            let keys = start.add(shape.keys_at(layer, kv_head) + slot);
            let values = start.add(shape.values_at(layer, kv_head) + slot * value_width);
            for (i, (k, v)) in k[heads.clone()]
                .chunks(L::N)
                .zip(v[heads].chunks(L::N))
                .enumerate()
            {
                let (k_lanes, v_lanes) = if k.len() == L::N {
                    (L::load(k.as_ptr()), L::load(v.as_ptr()))
                } else {
                    (
                        load_part::<L>(k.as_ptr(), k.len(), 0.0),
                        load_part::<L>(v.as_ptr(), v.len(), 0.0),
                    )
                };
                E::store::<L>(values.add(i * L::N), v_lanes);
                let mut stored = MaybeUninit::<[E::T; 16]>::uninit();
                let stored = stored.as_mut_ptr().cast::<E::T>();
                E::store::<L>(stored, k_lanes);
                for j in 0..k.len() {
                    *keys.add((i * L::N + j) * PAGE_TOKENS) = *stored.add(j);
                }
            }
        }
    }
}
