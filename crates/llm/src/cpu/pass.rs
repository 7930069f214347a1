//! One pass of a block of rows through the decoder.
//!
//! A block has at most a fixed number of rows, each the next token of some sequence. Buffers live in an [`Arena`] that only
//! grows. It owns the order of operations and nothing of their arithmetic.

use super::adapted::{Adapted, RowAdapters};
use super::cache::Cache;
use super::packed::{PackedDecoder, PackedLayer, PackedLinear, PackedNorm};
use crate::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual};
use billion_kernels::attention::{self, KvShape, PAGE_TOKENS, Page, Scratch, Span};
use billion_kernels::{Activations, Isa, Pool, matmul, ops};
use std::sync::Arc;

/// From this many rows on, rotating and storing keys is spread over threads.
const PARALLEL_ROWS: usize = 16;

/// The rows of a pass at hand.
#[derive(Default)]
pub(super) struct Block {
    spans: Vec<Span>,
    tokens: Vec<u32>,
    positions: Vec<usize>,
    /// Rows whose logits are wanted, ascending.
    wanted: Vec<usize>,
    /// One a row, but empty while no row has one.
    adapters: Vec<Option<Arc<Adapted>>>,
}

impl Block {
    /// The arena's own, emptied, so that its memory is reused.
    pub(super) fn take(arena: &mut Arena) -> Self {
        let mut block = std::mem::take(&mut arena.block);
        block.clear();
        block
    }

    pub(super) fn give_back(self, arena: &mut Arena) {
        arena.block = self;
    }

    /// Adds the token at `position` of the sequence with page table `table` and the adapter that it was opened with.
    pub(super) fn push(
        &mut self,
        (table, adapter): (usize, Option<&Arc<Adapted>>),
        position: usize,
        token: u32,
        wanted: bool,
    ) {
        if adapter.is_some() || !self.adapters.is_empty() {
            self.adapters.resize(self.tokens.len(), None);
            self.adapters.push(adapter.cloned());
        }
        match self.spans.last_mut() {
            Some(span) if span.table == table => span.rows += 1,
            _ => self.spans.push(Span {
                table,
                start: position,
                rows: 1,
            }),
        }
        if wanted {
            self.wanted.push(self.tokens.len());
        }
        self.tokens.push(token);
        self.positions.push(position);
    }

    pub(super) const fn rows(&self) -> usize {
        self.tokens.len()
    }

    pub(super) const fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.tokens.clear();
        self.positions.clear();
        self.wanted.clear();
        self.adapters.clear();
    }

    /// The adapters of the rows at `layer`: of all, or of the wanted ones if the others are gone.
    fn adapters(&self, layer: usize, narrowed: bool) -> RowAdapters<'_> {
        RowAdapters {
            rows: &self.adapters,
            kept: narrowed.then_some(&self.wanted[..]),
            layer,
        }
    }
}

/// Buffers that passes reuse; they hold as many rows as the largest block so far.
#[derive(Default)]
pub(super) struct Arena {
    block: Block,
    /// Residual stream, (rows, hidden).
    x: Vec<f32>,
    /// (rows, heads * head_dim).
    q: Vec<f32>,
    /// (rows, kv_heads * head_dim).
    k: Vec<f32>,
    v: Vec<f32>,
    /// (rows, ffn).
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What attention and MLP add to the residual stream, (rows, hidden).
    from_attention: Vec<f32>,
    from_mlp: Vec<f32>,
    /// (rows, hidden), read by q, k, v and the MLP.
    normed: Activations,
    /// (rows, hidden), read by the MLP where it has a norm of its own beside attention's.
    mlp_normed: Activations,
    /// (rows, heads * head_dim), read by o.
    attended: Activations,
    /// (rows, ffn), read by down.
    inner: Activations,
    /// Of the rows' positions, (rows, rotary dims / 2).
    cos: Vec<f32>,
    sin: Vec<f32>,
    scratch: Scratch,
    /// Lists of `store_keys`, empty but while it runs.
    tables: Vec<Option<&'static mut [Arc<Page>]>>,
    apart: Vec<Rows<'static>>,
}

/// The first `rows * width` numbers of a buffer, which grows if it must.
fn shaped(buffer: &mut Vec<f32>, rows: usize, width: usize) -> &mut [f32] {
    let len = rows * width;
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// What a block is run with.
pub(super) struct Pass<'a> {
    pub spec: &'a DecoderSpec,
    pub isa: Isa,
    pub pool: &'a Pool,
    pub weights: &'a PackedDecoder,
    pub cache: &'a mut Cache,
    pub arena: &'a mut Arena,
}

impl Pass<'_> {
    /// Runs a block: its keys and values go to the cache, its wanted logits to `logits`, shape (wanted, vocab_size).
    pub(super) fn run(mut self, block: &Block, logits: &mut [f32]) {
        let (spec, weights) = (self.spec, self.weights);
        let mut rows = block.rows();
        self.embed(block);
        self.rotary_tables(block);
        self.norm_first(rows);
        for (index, layer) in weights.layers.iter().enumerate() {
            let last = index + 1 == spec.layers;
            // Behind the last attention only the wanted rows matter.
            let narrow = last && block.wanted() < rows;
            let parallel = spec.residual == Residual::Parallel;
            let mlp_along = parallel && layer.mlp_norm.is_none() && !narrow;
            self.project(layer, rows, mlp_along, block.adapters(index, false));
            self.store_keys(index, layer, block);
            if narrow && block.wanted() == 0 {
                return;
            }
            self.attend(index, block, narrow);
            if narrow {
                keep_rows(&mut self.arena.x, spec.hidden, &block.wanted);
                rows = block.wanted();
            }
            self.arena
                .attended
                .finish(self.isa, self.pool, &[&layer.o.weight]);
            let from_attention = shaped(&mut self.arena.from_attention, rows, spec.hidden);
            matmul(
                self.isa,
                self.pool,
                &self.arena.attended,
                &mut [(&layer.o.weight, from_attention)],
            );
            let adapters = block.adapters(index, narrow);
            let from_attention = shaped(&mut self.arena.from_attention, rows, spec.hidden);
            adapters.add(
                (self.isa, self.pool),
                (self.arena.attended.f32(), spec.q_width()),
                (from_attention, spec.hidden),
                |layer| layer.o.as_ref(),
            );
            if !mlp_along {
                let norm = layer.mlp_norm.as_ref().unwrap_or(&layer.attention_norm);
                self.enter_mlp(layer, norm, rows, (!parallel, adapters));
            }
            self.finish_mlp(layer, rows, adapters);
            let next = weights.layers.get(index + 1);
            self.leave_layer(layer, next, rows, parallel);
        }
        self.arena
            .normed
            .finish(self.isa, self.pool, &[weights.head()]);
        matmul(
            self.isa,
            self.pool,
            &self.arena.normed,
            &mut [(weights.head(), logits)],
        );
    }

    fn embed(&mut self, block: &Block) {
        let hidden = self.spec.hidden;
        let x = shaped(&mut self.arena.x, block.rows(), hidden);
        let embedding = &self.weights.embedding;
        ops::for_each_row(self.pool, x, hidden, &|row, x| {
            embedding.row(block.tokens[row] as usize, x);
        });
    }

    /// Angles are products of f32, as in the reference implementations; their sine and cosine are exact to f32.
    fn rotary_tables(&mut self, block: &Block) {
        let frequencies = &self.spec.rotary.frequencies;
        let arena = &mut *self.arena;
        let cos = shaped(&mut arena.cos, block.rows(), frequencies.len());
        let sin = shaped(&mut arena.sin, block.rows(), frequencies.len());
        let mut at = 0;
        for position in &block.positions {
            for frequency in frequencies {
                let angle = f64::from(*position as f32 * frequency);
                (cos[at], sin[at]) = (angle.cos() as f32, angle.sin() as f32);
                at += 1;
            }
        }
    }

    fn norm_first(&mut self, rows: usize) {
        let hidden = self.spec.hidden;
        let Some(first) = self.weights.layers.first() else {
            return;
        };
        let norm = Normalizer::new(self.isa, self.spec, &first.attention_norm);
        let arena = &mut *self.arena;
        let x = &arena.x;
        ops::for_each_row(
            self.pool,
            arena.normed.begin(rows, hidden),
            hidden,
            &|row, out| {
                norm.apply(&x[row * hidden..(row + 1) * hidden], out);
            },
        );
    }

    /// q, k, v from the normed rows, and the MLP's first product too where it reads the same rows.
    fn project(
        &mut self,
        layer: &PackedLayer,
        rows: usize,
        mlp_along: bool,
        adapters: RowAdapters<'_>,
    ) {
        let (spec, arena) = (self.spec, &mut *self.arena);
        let q = (&layer.q.weight, shaped(&mut arena.q, rows, spec.q_width()));
        let k = (&layer.k.weight, shaped(&mut arena.k, rows, spec.kv_width()));
        let v = (&layer.v.weight, shaped(&mut arena.v, rows, spec.kv_width()));
        let readers = [&layer.q.weight, &layer.k.weight, &layer.v.weight];
        let x = &mut arena.normed;
        if mlp_along {
            let up = (&layer.up.weight, shaped(&mut arena.up, rows, spec.ffn));
            let [r0, r1, r2] = readers;
            if let Some(gate) = &layer.gate {
                let gate = (&gate.weight, shaped(&mut arena.gate, rows, spec.ffn));
                x.finish(self.isa, self.pool, &[r0, r1, r2, up.0, gate.0]);
                matmul(self.isa, self.pool, x, &mut [q, k, v, up, gate]);
            } else {
                x.finish(self.isa, self.pool, &[r0, r1, r2, up.0]);
                matmul(self.isa, self.pool, x, &mut [q, k, v, up]);
            }
        } else {
            x.finish(self.isa, self.pool, &readers);
            matmul(self.isa, self.pool, x, &mut [q, k, v]);
        }
        let (on, x) = ((self.isa, self.pool), (arena.normed.f32(), spec.hidden));
        let (q_width, kv_width, ffn) = (spec.q_width(), spec.kv_width(), spec.ffn);
        let q = shaped(&mut arena.q, rows, q_width);
        adapters.add(on, x, (q, q_width), |layer| layer.q.as_ref());
        let k = shaped(&mut arena.k, rows, kv_width);
        adapters.add(on, x, (k, kv_width), |layer| layer.k.as_ref());
        let v = shaped(&mut arena.v, rows, kv_width);
        adapters.add(on, x, (v, kv_width), |layer| layer.v.as_ref());
        if mlp_along {
            let up = shaped(&mut arena.up, rows, ffn);
            adapters.add(on, x, (up, ffn), |layer| layer.up.as_ref());
            if layer.gate.is_some() {
                let gate = shaped(&mut arena.gate, rows, ffn);
                adapters.add(on, x, (gate, ffn), |layer| layer.gate.as_ref());
            }
        }
    }

    /// Biases, per-head norms and rotation of q and k; k and v go to their pages.
    fn store_keys(&mut self, index: usize, layer: &PackedLayer, block: &Block) {
        let (spec, arena) = (self.spec, &mut *self.arena);
        let rows = block.rows();
        let (q_width, kv_width, half) = (spec.q_width(), spec.kv_width(), spec.rotary.dims / 2);
        let mut q = shaped(&mut arena.q, rows, q_width);
        let mut k = shaped(&mut arena.k, rows, kv_width);
        let mut v = shaped(&mut arena.v, rows, kv_width);
        let storing = Storing {
            isa: self.isa,
            spec,
            layer,
            kv: (*self.cache.shape(), index),
            cos: shaped(&mut arena.cos, rows, half),
            sin: shaped(&mut arena.sin, rows, half),
        };
        let mut first = 0;
        if rows < PARALLEL_ROWS || self.pool.threads() == 1 {
            for span in &block.spans {
                let pages = self.cache.pages_mut(span.table);
                for position in span.start..span.start + span.rows {
                    storing.store(&mut Rows {
                        first,
                        slot: position % PAGE_TOKENS,
                        page: unshared(&mut pages[position / PAGE_TOKENS]),
                        q: take(&mut q, q_width),
                        k: take(&mut k, kv_width),
                        v: take(&mut v, kv_width),
                    });
                    first += 1;
                }
            }
            return;
        }
        // The rows of each page apart, so that pages are worked on side by side.
        let mut tables = emptied(std::mem::take(&mut arena.tables));
        tables.extend(self.cache.all_pages_mut().map(Some));
        let mut apart: Vec<Rows<'_>> = emptied(std::mem::take(&mut arena.apart));
        for span in &block.spans {
            let pages: Option<&mut [Arc<Page>]> = tables[span.table].take();
            let pages = pages.expect("a sequence has one span in a block");
            let (mut position, end) = (span.start, span.start + span.rows);
            for page in &mut pages[span.start / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS)] {
                let slot = position % PAGE_TOKENS;
                let rows = (PAGE_TOKENS - slot).min(end - position);
                apart.push(Rows {
                    first,
                    slot,
                    page: unshared(page),
                    q: take(&mut q, rows * q_width),
                    k: take(&mut k, rows * kv_width),
                    v: take(&mut v, rows * kv_width),
                });
                first += rows;
                position += rows;
            }
        }
        ops::for_each(self.pool, &mut apart, &|_, rows| storing.store(rows));
        arena.tables = emptied(tables);
        arena.apart = emptied(apart);
    }

    /// Attention of all rows; only the wanted ones are passed on if `narrow`.
    fn attend(&mut self, index: usize, block: &Block, narrow: bool) {
        let (arena, rows, width) = (&mut *self.arena, block.rows(), self.spec.q_width());
        let q = &arena.q[..rows * width];
        let cache = &*self.cache;
        let tables = |table: usize| cache.pages(table);
        let (shape, spans) = (
            (cache.shape(), index),
            (&block.spans[..], &tables as &(dyn Fn(usize) -> _ + Sync)),
        );
        if narrow {
            // The MLP's buffer is free until the attention is done.
            let all = shaped(&mut arena.gate, rows, width);
            attention::attend(
                self.isa,
                self.pool,
                shape,
                spans,
                q,
                all,
                &mut arena.scratch,
            );
            let kept = arena.attended.begin(block.wanted(), width);
            for (kept, row) in kept.chunks_exact_mut(width).zip(&block.wanted) {
                kept.copy_from_slice(&all[row * width..(row + 1) * width]);
            }
        } else {
            let out = arena.attended.begin(rows, width);
            attention::attend(
                self.isa,
                self.pool,
                shape,
                spans,
                q,
                out,
                &mut arena.scratch,
            );
        }
    }

    /// The MLP's own norm and first product; in a sequential block, attention's result is added before.
    fn enter_mlp(
        &mut self,
        layer: &PackedLayer,
        norm: &PackedNorm,
        rows: usize,
        (sequential, adapters): (bool, RowAdapters<'_>),
    ) {
        let (spec, arena) = (self.spec, &mut *self.arena);
        let (isa, hidden) = (self.isa, spec.hidden);
        let normalizer = Normalizer::new(isa, spec, norm);
        let x = shaped(&mut arena.x, rows, hidden);
        let from_attention = &arena.from_attention[..rows * hidden];
        let out = arena.mlp_normed.begin(rows, hidden);
        ops::for_each_row_pair(self.pool, (x, hidden), (out, hidden), &|row, x, out| {
            if sequential {
                add_linear(
                    isa,
                    x,
                    &layer.o,
                    &from_attention[row * hidden..(row + 1) * hidden],
                );
            }
            normalizer.apply(x, out);
        });
        let up = (&layer.up.weight, shaped(&mut arena.up, rows, spec.ffn));
        let x = &mut arena.mlp_normed;
        if let Some(gate) = &layer.gate {
            let gate = (&gate.weight, shaped(&mut arena.gate, rows, spec.ffn));
            x.finish(isa, self.pool, &[gate.0, up.0]);
            matmul(isa, self.pool, x, &mut [gate, up]);
        } else {
            x.finish(isa, self.pool, &[up.0]);
            matmul(isa, self.pool, x, &mut [up]);
        }
        let (on, x) = ((isa, self.pool), (arena.mlp_normed.f32(), hidden));
        let up = shaped(&mut arena.up, rows, spec.ffn);
        adapters.add(on, x, (up, spec.ffn), |layer| layer.up.as_ref());
        if layer.gate.is_some() {
            let gate = shaped(&mut arena.gate, rows, spec.ffn);
            adapters.add(on, x, (gate, spec.ffn), |layer| layer.gate.as_ref());
        }
    }

    /// The activation and the MLP's second product.
    fn finish_mlp(&mut self, layer: &PackedLayer, rows: usize, adapters: RowAdapters<'_>) {
        let (spec, arena) = (self.spec, &mut *self.arena);
        let (isa, ffn) = (self.isa, spec.ffn);
        let up = shaped(&mut arena.up, rows, ffn);
        let out = arena.inner.begin(rows, ffn);
        if let Some(gate_layer) = &layer.gate {
            let gate = shaped(&mut arena.gate, rows, ffn);
            let biased = gate_layer.bias.is_some() || layer.up.bias.is_some();
            if biased {
                ops::for_each_row_pair(
                    self.pool,
                    (&mut *gate, ffn),
                    (&mut *up, ffn),
                    &|_, gate, up| {
                        add_bias(isa, gate, gate_layer);
                        add_bias(isa, up, &layer.up);
                    },
                );
            }
            ops::for_each_row(self.pool, out, ffn, &|row, out| {
                let range = row * ffn..(row + 1) * ffn;
                ops::silu_mul(isa, &gate[range.clone()], &up[range], out);
            });
        } else {
            let form = if spec.mlp == Mlp::GeluTanh {
                ops::Gelu::Tanh
            } else {
                ops::Gelu::Erf
            };
            ops::for_each_row_pair(self.pool, (up, ffn), (out, ffn), &|_, up, out| {
                add_bias(isa, up, &layer.up);
                ops::gelu(isa, form, up, out);
            });
        }
        arena.inner.finish(isa, self.pool, &[&layer.down.weight]);
        let from_mlp = shaped(&mut arena.from_mlp, rows, spec.hidden);
        matmul(
            isa,
            self.pool,
            &arena.inner,
            &mut [(&layer.down.weight, from_mlp)],
        );
        let from_mlp = shaped(&mut arena.from_mlp, rows, spec.hidden);
        adapters.add(
            (isa, self.pool),
            (arena.inner.f32(), ffn),
            (from_mlp, spec.hidden),
            |layer| layer.down.as_ref(),
        );
    }

    /// Adds what the block made to the residual stream, and norms it for the next block or the head.
    fn leave_layer(
        &mut self,
        layer: &PackedLayer,
        next: Option<&PackedLayer>,
        rows: usize,
        parallel: bool,
    ) {
        let (isa, hidden, arena) = (self.isa, self.spec.hidden, &mut *self.arena);
        let norm = next.map_or(&self.weights.final_norm, |next| &next.attention_norm);
        let normalizer = Normalizer::new(isa, self.spec, norm);
        let x = shaped(&mut arena.x, rows, hidden);
        let (from_attention, from_mlp) = (&arena.from_attention, &arena.from_mlp);
        let out = arena.normed.begin(rows, hidden);
        ops::for_each_row_pair(self.pool, (x, hidden), (out, hidden), &|row, x, out| {
            let range = row * hidden..(row + 1) * hidden;
            if parallel {
                add_linear(isa, x, &layer.o, &from_attention[range.clone()]);
            }
            add_linear(isa, x, &layer.down, &from_mlp[range]);
            normalizer.apply(x, out);
        });
    }
}

/// A norm with all that it needs.
struct Normalizer<'a> {
    isa: Isa,
    kind: Norm,
    norm: &'a PackedNorm,
}

impl<'a> Normalizer<'a> {
    const fn new(isa: Isa, spec: &DecoderSpec, norm: &'a PackedNorm) -> Self {
        Self {
            isa,
            kind: spec.norm,
            norm,
        }
    }

    /// Shapes: both (hidden).
    fn apply(&self, x: &[f32], out: &mut [f32]) {
        match self.kind {
            Norm::Rms { eps } => ops::rms_norm(self.isa, x, &self.norm.weight, eps, out),
            Norm::Layer { eps } => {
                ops::layer_norm(
                    self.isa,
                    x,
                    &self.norm.weight,
                    self.norm.bias.as_deref(),
                    eps,
                    out,
                );
            }
        }
    }
}

/// Adjacent rows whose keys go to one page, from `slot` on.
struct Rows<'a> {
    /// First row in the block.
    first: usize,
    slot: usize,
    page: &'a mut Page,
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
}

/// What rotating and storing rows needs at one layer.
struct Storing<'a> {
    isa: Isa,
    spec: &'a DecoderSpec,
    layer: &'a PackedLayer,
    kv: (KvShape, usize),
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Storing<'_> {
    fn store(&self, rows: &mut Rows<'_>) {
        let (isa, spec, layer) = (self.isa, self.spec, self.layer);
        let (dim, half) = (spec.head_dim, spec.rotary.dims / 2);
        let pairing = match spec.rotary.pairing {
            Pairing::Halves => ops::Pairing::Halves,
            Pairing::Interleaved => ops::Pairing::Interleaved,
        };
        let each = rows
            .q
            .chunks_exact_mut(spec.q_width())
            .zip(rows.k.chunks_exact_mut(spec.kv_width()))
            .zip(rows.v.chunks_exact_mut(spec.kv_width()));
        for (i, ((q, k), v)) in each.enumerate() {
            add_bias(isa, q, &layer.q);
            add_bias(isa, k, &layer.k);
            add_bias(isa, v, &layer.v);
            self.norm_heads(q, layer.q_norm.as_deref());
            self.norm_heads(k, layer.k_norm.as_deref());
            let angles = (rows.first + i) * half..(rows.first + i + 1) * half;
            let tables = (&self.cos[angles.clone()], &self.sin[angles]);
            ops::rope(isa, q, dim, pairing, tables);
            ops::rope(isa, k, dim, pairing, tables);
            attention::append(
                isa,
                (&self.kv.0, self.kv.1),
                rows.page,
                rows.slot + i,
                (k, v),
            );
        }
    }

    /// Layer norm of each head without bias, where the model has it (StableLM 2 12B).
    fn norm_heads(&self, x: &mut [f32], weight: Option<&[f32]>) {
        let Some(weight) = weight else { return };
        let (Norm::Rms { eps } | Norm::Layer { eps }) = self.spec.norm;
        let dim = self.spec.head_dim;
        let mut copy = [0.0; attention::MAX_HEAD_DIM];
        for (x, weight) in x.chunks_exact_mut(dim).zip(weight.chunks_exact(dim)) {
            let copy = &mut copy[..dim];
            copy.copy_from_slice(x);
            ops::layer_norm(self.isa, copy, weight, None, eps, x);
        }
    }
}

/// x += y + bias of the linear map that made y.
fn add_linear(isa: Isa, x: &mut [f32], linear: &PackedLinear, y: &[f32]) {
    ops::add(isa, x, y);
    add_bias(isa, x, linear);
}

fn add_bias(isa: Isa, x: &mut [f32], linear: &PackedLinear) {
    if let Some(bias) = &linear.bias {
        ops::add(isa, x, bias);
    }
}

/// Moves the rows named, ascending, to the front.
fn keep_rows(x: &mut [f32], width: usize, rows: &[usize]) {
    for (to, from) in rows.iter().enumerate() {
        x.copy_within(from * width..(from + 1) * width, to * width);
    }
}

/// Cuts `len` numbers off the front.
#[allow(clippy::mut_mut, reason = "the rest itself is moved forward")]
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (front, back) = std::mem::take(rest).split_at_mut(len);
    *rest = back;
    front
}

/// An empty list in the memory of another one, whose items have the same size: collecting in place keeps it.
fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    let none = list.into_iter().map(|_| unreachable!("the list is empty"));
    none.collect()
}

fn unshared(page: &mut Arc<Page>) -> &mut Page {
    Arc::get_mut(page).expect("the pass reserved its pages: nobody shares one that it writes")
}
