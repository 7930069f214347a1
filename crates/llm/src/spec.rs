//! One decoder description for both executors: plain data, no arithmetic.
//!
//! `models` maps a configuration and its tensor names to a `DecoderSpec` and `DecoderTensors`; `cpu` and `candle` execute
//! them. It covers Llama (GQA, tied head, rope scaling), StableLM 2 (LayerNorm, partial rotary, qkv bias, parallel
//! residual, per-head qk norm) and GPT-NeoX (parallel residual with two norms, biases, GELU).

use std::borrow::Cow;

/// What a decoder computes.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Family, as its files name it: "llama", "stablelm", "gpt_neox".
    pub architecture: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside the MLP.
    pub ffn: usize,
    /// Longest context the model was made for, in tokens.
    pub context_len: usize,
    /// Norm of every block and at the end.
    pub norm: Norm,
    /// Rotary position embedding.
    pub rotary: Rotary,
    /// Layer norm of queries and keys per head, as StableLM 2 12B has it.
    pub qk_norm: bool,
    /// How attention and MLP join the residual stream.
    pub residual: Residual,
    /// The MLP's form.
    pub mlp: Mlp,
    /// The head's weights are the embedding's.
    pub tied_head: bool,
}

impl DecoderSpec {
    /// Width of all queries of a token.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys (or values) of a token.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// A norm and its epsilon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// x / rms(x) * weight (B. Zhang, R. Sennrich 2019, arXiv 1910.07467).
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
    /// (x - mean) / std * weight + bias.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// Rotary position embedding (J. Su et al. 2021, arXiv 2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Leading dimensions of a head that are rotated; even, at most `head_dim`.
    pub dims: usize,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
    /// Angular frequency of each pair in radians a position, scaling included, length `dims / 2`.
    pub frequencies: Vec<f32>,
}

/// Which of the rotated dimensions form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` with `i + dims / 2` (Hugging Face checkpoints, NeoX).
    Halves,
    /// `2 i` with `2 i + 1` (llama.cpp permutes the rows of Llama's q and k to this).
    Interleaved,
}

/// How attention and MLP join the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// x += attention(norm(x)); x += mlp(norm(x)).
    Sequential,
    /// x += attention(norm1(x)) + mlp(norm2(x)); norm2 is norm1 where a layer has one norm only.
    Parallel,
}

/// The MLP's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// down(silu(gate(x)) * up(x)).
    SwiGlu,
    /// down(gelu(up(x))), gelu by the error function.
    Gelu,
    /// down(gelu(up(x))), gelu by tanh.
    GeluTanh,
}

/// The tensors of a decoder, by role. `T` is a view into the file, a packed matrix, a candle tensor.
#[derive(Clone, Debug)]
pub struct DecoderTensors<T> {
    /// Shape: (vocab_size, hidden).
    pub embedding: T,
    /// The blocks in order.
    pub layers: Vec<LayerTensors<T>>,
    /// After the last block, shape: (hidden).
    pub final_norm: NormTensors<T>,
    /// Shape: (vocab_size, hidden); none if tied to the embedding.
    pub head: Option<T>,
}

impl<T> DecoderTensors<T> {
    /// Every tensor.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        let ends = std::iter::once(&self.embedding).chain(&self.head);
        let layers = self.layers.iter().flat_map(LayerTensors::all);
        ends.chain(self.final_norm.all()).chain(layers)
    }
}

impl<T> LayerTensors<T> {
    /// Every tensor.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        let norms = std::iter::once(&self.attention_norm).chain(&self.mlp_norm);
        let linears = [&self.q, &self.k, &self.v, &self.o, &self.up, &self.down];
        norms
            .flat_map(NormTensors::all)
            .chain(self.q_norm.iter().chain(&self.k_norm))
            .chain(linears.into_iter().chain(&self.gate).flat_map(Linear::all))
    }
}

impl<T> NormTensors<T> {
    fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

impl<T> Linear<T> {
    fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

/// The tensors of one block.
#[derive(Clone, Debug)]
pub struct LayerTensors<T> {
    /// Before attention, shape: (hidden).
    pub attention_norm: NormTensors<T>,
    /// Weight shape: (heads * head_dim, hidden).
    pub q: Linear<T>,
    /// Weight shape: (kv_heads * head_dim, hidden).
    pub k: Linear<T>,
    /// Weight shape: (kv_heads * head_dim, hidden).
    pub v: Linear<T>,
    /// Weight shape: (hidden, heads * head_dim).
    pub o: Linear<T>,
    /// Per-head norm of queries, shape: (heads, head_dim).
    pub q_norm: Option<T>,
    /// Per-head norm of keys, shape: (kv_heads, head_dim).
    pub k_norm: Option<T>,
    /// Before the MLP, shape: (hidden); none in a parallel block with a single norm.
    pub mlp_norm: Option<NormTensors<T>>,
    /// Weight shape: (ffn, hidden); SwiGLU only.
    pub gate: Option<Linear<T>>,
    /// Weight shape: (ffn, hidden).
    pub up: Linear<T>,
    /// Weight shape: (hidden, ffn).
    pub down: Linear<T>,
}

/// A norm's weight and bias.
#[derive(Clone, Debug)]
pub struct NormTensors<T> {
    /// Scale.
    pub weight: T,
    /// Shift; layer norms only.
    pub bias: Option<T>,
}

/// A linear map's weight (out, in) and bias (out).
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// Shape: (out, in).
    pub weight: T,
    /// Shape: (out).
    pub bias: Option<T>,
}

/// A tensor inside a file of weights: its numbers are still in the file's format.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Name in the file, for messages.
    pub name: String,
    /// How the numbers are stored.
    pub format: billion_kernels::Format,
    /// Row-major shape, outermost first: (out, in) or (len).
    pub shape: Vec<usize>,
    /// Borrowed from the mapped file, or made by joining small tensors. Length fits format and shape, or holds what `rows`
    /// picks from.
    pub bytes: Cow<'a, [u8]>,
    /// Which rows of `bytes` are this tensor's; none if all are. For a part of a fused tensor.
    pub rows: Option<RowGroups>,
}

/// Rows of a larger tensor in groups at equal distances, in rows of that tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroups {
    /// First row of the first group.
    pub first: usize,
    /// Rows of a group; at least 1.
    pub len: usize,
    /// From one group's first row to the next one's.
    pub stride: usize,
}

impl TensorView<'_> {
    /// Numbers in it.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that its numbers take in the file; none if its rows are no whole blocks.
    pub fn stored_bytes(&self) -> Option<usize> {
        let (&cols, outer) = self.shape.split_last()?;
        let rows: usize = outer.iter().product();
        self.format.row_bytes(cols)?.checked_mul(rows)
    }

    /// The bytes of its rows, one after another; copied where they lie apart in the file. Too few if `rows` reaches
    /// beyond `bytes`, so whoever reads them checks the length.
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        let (Some(groups), [rows, cols]) = (self.rows, &self.shape[..]) else {
            return Cow::Borrowed(&self.bytes);
        };
        let Some(row_bytes) = self.format.row_bytes(*cols) else {
            return Cow::Borrowed(&self.bytes);
        };
        let mut bytes = Vec::with_capacity(rows * row_bytes);
        for group in 0..rows / groups.len.max(1) {
            let start = (groups.first + group * groups.stride) * row_bytes;
            let Some(part) = self.bytes.get(start..start + groups.len * row_bytes) else {
                break;
            };
            bytes.extend_from_slice(part);
        }
        Cow::Owned(bytes)
    }
}
