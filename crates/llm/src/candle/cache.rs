//! The KV cache of one sequence on candle tensors: append, truncate, and copy on write after a fork.
//!
//! Clones share their tensors until one of them appends. It knows layers and positions, not tokens.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use crate::spec::DecoderSpec;

/// Positions allocated at first; the buffers double from there.
const FIRST_CAPACITY: usize = 64;

/// Keys and values of one layer, each of shape (kv_heads, capacity, head_dim).
#[derive(Clone)]
struct Buffers {
    keys: Tensor,
    values: Tensor,
    capacity: usize,
}

/// Keys and values of every layer for the first `len` positions of a sequence.
#[derive(Clone)]
pub(super) struct KvCache {
    layers: Vec<Option<Arc<Buffers>>>,
    len: usize,
    context_len: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: DType,
    device: Device,
}

impl KvCache {
    /// An empty cache that will hold numbers of type `dtype`.
    pub(super) fn new(
        spec: &DecoderSpec,
        context_len: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self {
            layers: vec![None; spec.layers],
            len: 0,
            context_len,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            dtype,
            device: device.clone(),
        }
    }

    /// Positions held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all but the first `len` positions; `len` is at most `len()`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if self.len == 0 {
            self.layers.fill(None);
        }
    }

    /// Makes the positions that `append` wrote into every layer part of the sequence.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Writes keys and values after the positions held, shape (kv_heads, new, head_dim) each, and returns all of them,
    /// shape (kv_heads, len + new, head_dim), in the cache's type. They count only after `advance`.
    pub(super) fn append(
        &mut self,
        layer: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let end = self.len + k.dim(1)?;
        let held = self.layers[layer].as_mut().and_then(Arc::get_mut);
        let reusable = held.is_some_and(|buffers| buffers.capacity >= end);
        if !reusable {
            let capacity = end
                .max(FIRST_CAPACITY)
                .checked_next_power_of_two()
                .map_or(end, |capacity| capacity.min(self.context_len).max(end));
            let old = self.layers[layer].as_ref();
            let keys = self.grown(old.map(|buffers| &buffers.keys), capacity)?;
            let values = self.grown(old.map(|buffers| &buffers.values), capacity)?;
            self.layers[layer] = Some(Arc::new(Buffers {
                keys,
                values,
                capacity,
            }));
        }
        let Some(buffers) = self.layers[layer].as_ref() else {
            candle_core::bail!("layer {layer} has no KV cache")
        };
        buffers
            .keys
            .slice_set(&k.to_dtype(self.dtype)?.contiguous()?, 1, self.len)?;
        buffers
            .values
            .slice_set(&v.to_dtype(self.dtype)?.contiguous()?, 1, self.len)?;
        Ok((
            buffers.keys.narrow(1, 0, end)?,
            buffers.values.narrow(1, 0, end)?,
        ))
    }

    /// A buffer of its own of `capacity` positions that starts as the positions held.
    fn grown(&self, old: Option<&Tensor>, capacity: usize) -> Result<Tensor> {
        let shape = (self.kv_heads, capacity, self.head_dim);
        let buffer = Tensor::zeros(shape, self.dtype, &self.device)?;
        if let Some(old) = old
            && self.len > 0
        {
            buffer.slice_set(&old.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
        }
        Ok(buffer)
    }
}
