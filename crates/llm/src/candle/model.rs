//! The arithmetic of a `DecoderSpec` on candle tensors, in operations that candle can differentiate. The residual stream,
//! norms and softmax are F32; a product is in the format of its weights or of the cache (`held`).
//!
//! One call computes consecutive positions of one sequence; where keys and values of earlier positions come from is the
//! caller's business (`cache`, or nothing at all when training). candle's fused `rms_norm`, `softmax_last_dim` and `rope`
//! give no gradient and are therefore not used.

use candle_core::{D, DType, Device, Result, Tensor};

use super::adapter::{CandleAdapter, CandleAdapterLayer, CandleLowRank};
use super::held::{Held, HeldAs, hold};
use crate::Error;
use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, Norm, NormTensors, Pairing, Residual,
    TensorView,
};

/// Takes a layer's new keys and values, shape (kv_heads, new, head_dim), F32, and gives those of all positions so far, in the
/// format that attention is to be computed in.
pub type Attend<'a> = dyn FnMut(usize, Tensor, Tensor) -> Result<(Tensor, Tensor)> + 'a;

/// A decoder whose weights are on one device. Differentiable where they are held in F32.
#[derive(Clone, Debug)]
pub struct CandleModel {
    spec: DecoderSpec,
    tensors: DecoderTensors<Held>,
    device: Device,
    weights_bytes: usize,
}

impl CandleModel {
    /// Checks the spec and every tensor's shape, and brings the weights to the device.
    pub fn load(
        spec: &DecoderSpec,
        tensors: &DecoderTensors<TensorView<'_>>,
        device: &Device,
        held_as: HeldAs,
    ) -> std::result::Result<Self, Error> {
        check_spec(spec)?;
        let tensors = hold(spec, tensors, device, held_as)?;
        Ok(Self {
            spec: spec.clone(),
            weights_bytes: tensors.all().map(Held::bytes).sum(),
            tensors,
            device: device.clone(),
        })
    }

    /// What it computes.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Its weights.
    pub fn tensors(&self) -> &DecoderTensors<Held> {
        &self.tensors
    }

    #[cfg(test)]
    pub(super) fn tensors_mut(&mut self) -> &mut DecoderTensors<Held> {
        &mut self.tensors
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of its weights.
    pub fn weights_bytes(&self) -> usize {
        self.weights_bytes
    }

    /// The residual stream after the last block for `tokens` at positions `start..`, shape (tokens, hidden).
    pub fn hidden(&self, tokens: &[u32], start: usize, attend: &mut Attend<'_>) -> Result<Tensor> {
        self.hidden_with(None, tokens, start, attend)
    }

    /// The same with an adapter; differentiable in its tensors.
    pub fn hidden_with(
        &self,
        adapter: Option<&CandleAdapter>,
        tokens: &[u32],
        start: usize,
        attend: &mut Attend<'_>,
    ) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &self.device)?;
        let mut x = self.tensors.embedding.rows(&ids)?;
        let place = Place::new(&self.spec, start, tokens.len(), &self.device)?;
        for (index, layer) in self.tensors.layers.iter().enumerate() {
            let layer = Layer {
                index,
                tensors: layer,
                adapter: adapter.and_then(|adapter| adapter.layer(index)),
            };
            x = self.block(&layer, &x, &place, attend)?;
        }
        Ok(x)
    }

    /// Next-token logits of the given rows of the residual stream, shape (rows, vocab_size).
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(rows, &self.device)?;
        let x = self.norm(&self.tensors.final_norm, &hidden.index_select(&rows, 0)?)?;
        let head = self
            .tensors
            .head
            .as_ref()
            .unwrap_or(&self.tensors.embedding);
        head.product(&x)
    }

    /// One block on x, shape (rows, hidden).
    fn block(
        &self,
        layer: &Layer<'_>,
        x: &Tensor,
        place: &Place,
        attend: &mut Attend<'_>,
    ) -> Result<Tensor> {
        let tensors = layer.tensors;
        let normed = self.norm(&tensors.attention_norm, x)?;
        let attention = self.attention(layer, &normed, place, attend)?;
        match self.spec.residual {
            Residual::Sequential => {
                let x = (x + attention)?;
                let normed = match &tensors.mlp_norm {
                    Some(norm) => self.norm(norm, &x)?,
                    None => candle_core::bail!("layer {} has no norm before its MLP", layer.index),
                };
                let mlp = self.mlp(layer, &normed)?;
                x + mlp
            }
            Residual::Parallel => {
                let mlp = match &tensors.mlp_norm {
                    Some(norm) => self.mlp(layer, &self.norm(norm, x)?)?,
                    None => self.mlp(layer, &normed)?,
                };
                (x + attention)? + mlp
            }
        }
    }

    /// Causal grouped-query attention of x, shape (rows, hidden) in and out.
    fn attention(
        &self,
        layer: &Layer<'_>,
        x: &Tensor,
        place: &Place,
        attend: &mut Attend<'_>,
    ) -> Result<Tensor> {
        let tensors = layer.tensors;
        let spec = &self.spec;
        let rows = x.dim(0)?;
        let groups = spec.heads / spec.kv_heads;
        let q = self.heads(
            &layer.linear(&tensors.q, x, |adapter| &adapter.q)?,
            spec.heads,
            tensors.q_norm.as_ref(),
            true,
            place,
        )?;
        let k = self.heads(
            &layer.linear(&tensors.k, x, |adapter| &adapter.k)?,
            spec.kv_heads,
            tensors.k_norm.as_ref(),
            true,
            place,
        )?;
        let v = self.heads(
            &layer.linear(&tensors.v, x, |adapter| &adapter.v)?,
            spec.kv_heads,
            None,
            false,
            place,
        )?;
        let (k, v) = attend(layer.index, k, v)?;
        let keys = k.dim(1)?;

        // Query heads of one group read the same keys: fold them into the rows of one product.
        let q = q.reshape((spec.kv_heads, groups * rows, spec.head_dim))?;
        // Scaled first, so that no score is too large for F16.
        let scale = 1.0 / (spec.head_dim as f64).sqrt();
        let q = (q * scale)?.to_dtype(k.dtype())?;
        let mut scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?;
        if rows > 1 {
            scores = scores
                .reshape((spec.kv_heads, groups, rows, keys))?
                .broadcast_add(&causal_mask(rows, keys, &self.device)?)?
                .reshape((spec.kv_heads, groups * rows, keys))?;
        }
        let mixed = softmax(&scores)?
            .to_dtype(v.dtype())?
            .matmul(&v)?
            .to_dtype(DType::F32)?
            .reshape((spec.heads, rows, spec.head_dim))?
            .transpose(0, 1)?
            .reshape((rows, spec.q_width()))?;
        layer.linear(&tensors.o, &mixed, |adapter| &adapter.o)
    }

    /// (rows, heads * head_dim) to (heads, rows, head_dim), normed and rotated where asked.
    fn heads(
        &self,
        x: &Tensor,
        heads: usize,
        norm: Option<&Held>,
        rotate: bool,
        place: &Place,
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let mut x = x.reshape((rows, heads, self.spec.head_dim))?;
        if let Some(weight) = norm {
            x = standardize(&x, self.eps())?.broadcast_mul(weight.vector()?)?;
        }
        let x = x.transpose(0, 1)?.contiguous()?;
        if rotate { place.rotate(&x) } else { Ok(x) }
    }

    /// The MLP of x, shape (rows, hidden) in and out.
    fn mlp(&self, layer: &Layer<'_>, x: &Tensor) -> Result<Tensor> {
        let tensors = layer.tensors;
        let up = layer.linear(&tensors.up, x, |adapter| &adapter.up)?;
        let inner = match (self.spec.mlp, &tensors.gate) {
            (Mlp::SwiGlu, Some(gate)) => {
                let gate = layer.linear(gate, x, |adapter| &adapter.gate)?;
                (gate.silu()? * up)?
            }
            (Mlp::SwiGlu, None) => candle_core::bail!("a SwiGLU block has no gate"),
            (Mlp::Gelu, _) => up.gelu_erf()?,
            (Mlp::GeluTanh, _) => up.gelu()?,
        };
        layer.linear(&tensors.down, &inner, |adapter| &adapter.down)
    }

    fn eps(&self) -> f64 {
        match self.spec.norm {
            Norm::Rms { eps } | Norm::Layer { eps } => f64::from(eps),
        }
    }

    /// The model's norm over the last dimension.
    fn norm(&self, norm: &NormTensors<Held>, x: &Tensor) -> Result<Tensor> {
        let x = match self.spec.norm {
            Norm::Rms { .. } => {
                let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
                x.broadcast_div(&(mean_square + self.eps())?.sqrt()?)?
            }
            Norm::Layer { .. } => standardize(x, self.eps())?,
        };
        let x = x.broadcast_mul(norm.weight.vector()?)?;
        match &norm.bias {
            Some(bias) => x.broadcast_add(bias.vector()?),
            None => Ok(x),
        }
    }
}

/// (x - mean) / sqrt(variance + eps) over the last dimension.
fn standardize(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

/// A block at work.
struct Layer<'a> {
    index: usize,
    tensors: &'a LayerTensors<Held>,
    adapter: Option<&'a CandleAdapterLayer>,
}

impl Layer<'_> {
    /// x (rows, in) by a linear map of the block and what the adapter adds to it, shape (rows, out).
    fn linear(
        &self,
        map: &Linear<Held>,
        x: &Tensor,
        pick: impl Fn(&CandleAdapterLayer) -> &Option<CandleLowRank>,
    ) -> Result<Tensor> {
        let y = linear(map, x)?;
        match self.adapter.and_then(|adapter| pick(adapter).as_ref()) {
            Some(low_rank) => low_rank.add_to(&y, x),
            None => Ok(y),
        }
    }
}

/// x (rows, in) by the weight (out, in) and bias (out), shape (rows, out).
fn linear(linear: &Linear<Held>, x: &Tensor) -> Result<Tensor> {
    let y = linear.weight.product(x)?;
    match &linear.bias {
        Some(bias) => y.broadcast_add(bias.vector()?),
        None => Ok(y),
    }
}

/// Softmax over the last dimension.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let max = x.max_keepdim(D::Minus1)?.detach();
    let exp = x.broadcast_sub(&max)?.exp()?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    exp.broadcast_div(&sum)
}

/// What is added to the scores of the last `rows` of `keys` positions: 0 for keys up to the row's own position, minus
/// infinity after it. Shape (rows, keys).
fn causal_mask(rows: usize, keys: usize, device: &Device) -> Result<Tensor> {
    let before = keys - rows;
    let mask: Vec<f32> = (0..rows)
        .flat_map(|row| {
            (0..keys).map(move |key| {
                if key <= before + row {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    Tensor::from_vec(mask, (rows, keys), device)
}

/// The rotations of consecutive positions.
struct Place {
    dims: usize,
    pairing: Pairing,
    /// Shape: (rows, dims / 2).
    cos: Tensor,
    /// Shape: (rows, dims / 2).
    sin: Tensor,
}

impl Place {
    fn new(spec: &DecoderSpec, start: usize, rows: usize, device: &Device) -> Result<Self> {
        let frequencies = &spec.rotary.frequencies;
        // Angles in F32, as the reference implementations compute them.
        let angles: Vec<f32> = (start..start + rows)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        let shape = (rows, frequencies.len());
        let cos = angles.iter().map(|angle| angle.cos()).collect();
        let sin = angles.iter().map(|angle| angle.sin()).collect();
        Ok(Self {
            dims: spec.rotary.dims,
            pairing: spec.rotary.pairing,
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// Rotates the leading `dims` of every head; x and the result: (heads, rows, head_dim).
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        if self.dims == 0 {
            return Ok(x.clone());
        }
        let (heads, rows, head_dim) = x.dims3()?;
        let half = self.dims / 2;
        let turned = x.narrow(2, 0, self.dims)?;
        let rotated = match self.pairing {
            Pairing::Halves => {
                let (a, b) =
                    self.turn(&turned.narrow(2, 0, half)?, &turned.narrow(2, half, half)?)?;
                Tensor::cat(&[a, b], 2)?
            }
            Pairing::Interleaved => {
                let pairs = turned.contiguous()?.reshape((heads, rows, half, 2))?;
                let first = pairs.narrow(3, 0, 1)?.squeeze(3)?;
                let second = pairs.narrow(3, 1, 1)?.squeeze(3)?;
                let (a, b) = self.turn(&first, &second)?;
                Tensor::stack(&[a, b], 3)?.reshape((heads, rows, self.dims))?
            }
        };
        if self.dims == head_dim {
            return Ok(rotated);
        }
        let rest = x.narrow(2, self.dims, head_dim - self.dims)?;
        Tensor::cat(&[rotated, rest], 2)
    }

    /// Turns the pairs (a, b), each of shape (heads, rows, dims / 2).
    fn turn(&self, a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((
            (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?,
            (a.broadcast_mul(&self.sin)? + b.broadcast_mul(&self.cos)?)?,
        ))
    }
}

fn check_spec(spec: &DecoderSpec) -> std::result::Result<(), Error> {
    let refuse = |problem: String| Err(Error::Unsupported(problem));
    if spec.kv_heads == 0 || spec.heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        return refuse(format!(
            "{} query heads cannot share {} key heads",
            spec.heads, spec.kv_heads
        ));
    }
    if spec.head_dim == 0 || spec.hidden == 0 || spec.vocab_size == 0 || spec.ffn == 0 {
        return refuse(format!(
            "a decoder with head_dim {}, hidden {}, ffn {} and {} tokens computes nothing",
            spec.head_dim, spec.hidden, spec.ffn, spec.vocab_size
        ));
    }
    let rotary = &spec.rotary;
    if rotary.dims > spec.head_dim
        || !rotary.dims.is_multiple_of(2)
        || rotary.frequencies.len() != rotary.dims / 2
    {
        return refuse(format!(
            "{} rotary dimensions with {} frequencies do not fit heads of {}",
            rotary.dims,
            rotary.frequencies.len(),
            spec.head_dim
        ));
    }
    Ok(())
}
