//! The weights of a decoder as the kernels read them: matrices packed once, norms and biases as f32.
//!
//! Every tensor's shape is checked against the description here, whoever made the views. It computes nothing.

use crate::Error;
use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, Norm, NormTensors, TensorView,
};
use billion_kernels::{Format, Isa, Matrix, Pool, dequantize};

/// A norm's weight and bias, shape: (width).
pub(super) struct PackedNorm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// A linear map.
pub(super) struct PackedLinear {
    pub weight: Matrix,
    /// Shape: (weight.rows()).
    pub bias: Option<Vec<f32>>,
}

/// A block.
pub(super) struct PackedLayer {
    pub attention_norm: PackedNorm,
    pub q: PackedLinear,
    pub k: PackedLinear,
    pub v: PackedLinear,
    pub o: PackedLinear,
    /// Shape: (heads * head_dim).
    pub q_norm: Option<Vec<f32>>,
    /// Shape: (kv_heads * head_dim).
    pub k_norm: Option<Vec<f32>>,
    pub mlp_norm: Option<PackedNorm>,
    /// SwiGLU only.
    pub gate: Option<PackedLinear>,
    pub up: PackedLinear,
    pub down: PackedLinear,
}

/// All weights of a decoder.
pub(super) struct PackedDecoder {
    pub embedding: Matrix,
    pub layers: Vec<PackedLayer>,
    pub final_norm: PackedNorm,
    head: Option<Matrix>,
}

/// What packing needs besides the tensors.
struct Packer<'a> {
    isa: Isa,
    pool: &'a Pool,
    spec: &'a DecoderSpec,
}

impl PackedDecoder {
    /// `packed` is called after the embedding and after each block.
    pub(super) fn pack(
        isa: Isa,
        pool: &Pool,
        (spec, tensors): (&DecoderSpec, &DecoderTensors<TensorView<'_>>),
        packed: &dyn Fn(),
    ) -> Result<Self, Error> {
        let packer = Packer { isa, pool, spec };
        if tensors.layers.len() != spec.layers {
            return Err(Error::Unsupported(format!(
                "the description has {} blocks, the weights have {}",
                spec.layers,
                tensors.layers.len()
            )));
        }
        if tensors.head.is_some() == spec.tied_head {
            return Err(Error::Unsupported(format!(
                "the description says tied head: {}, but a head tensor is {}",
                spec.tied_head,
                if spec.tied_head {
                    "there too"
                } else {
                    "missing"
                }
            )));
        }
        let embedding = packer.matrix(&tensors.embedding, spec.vocab_size, spec.hidden)?;
        packed();
        Ok(Self {
            embedding,
            layers: tensors
                .layers
                .iter()
                .map(|layer| packer.layer(layer).inspect(|_| packed()))
                .collect::<Result<_, _>>()?,
            final_norm: packer.norm(&tensors.final_norm)?,
            head: match &tensors.head {
                Some(head) => Some(packer.matrix(head, spec.vocab_size, spec.hidden)?),
                None => None,
            },
        })
    }

    /// The head: its own matrix, or the embedding's.
    pub(super) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let of_layer = |layer| PackedLayer::linears(layer).map(|linear| &linear.weight);
        let ends = std::iter::once(&self.embedding).chain(&self.head);
        self.layers.iter().flat_map(of_layer).chain(ends)
    }

    /// Whether all matrices are F32.
    pub(super) fn is_f32(&self) -> bool {
        self.matrices().all(|matrix| matrix.format() == Format::F32)
    }

    /// Memory of all weights, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let of_norm =
            |norm: &PackedNorm| norm.weight.len() + norm.bias.as_ref().map_or(0, Vec::len);
        let floats: usize = self
            .layers
            .iter()
            .map(|layer| {
                let vectors = [&layer.q_norm, &layer.k_norm].into_iter().flatten();
                let biases = layer.linears().filter_map(|linear| linear.bias.as_ref());
                let norms = std::iter::once(&layer.attention_norm).chain(&layer.mlp_norm);
                vectors.chain(biases).map(Vec::len).sum::<usize>()
                    + norms.map(of_norm).sum::<usize>()
            })
            .sum();
        let matrices: usize = self.matrices().map(Matrix::bytes).sum();
        matrices + (floats + of_norm(&self.final_norm)) * size_of::<f32>()
    }
}

impl PackedLayer {
    fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        [&self.q, &self.k, &self.v, &self.o, &self.up, &self.down]
            .into_iter()
            .chain(&self.gate)
    }
}

/// Bytes of all tensors in their file: about what they take once packed.
pub(super) fn source_bytes(tensors: &DecoderTensors<TensorView<'_>>) -> usize {
    tensors.all().filter_map(TensorView::stored_bytes).sum()
}

impl Packer<'_> {
    fn layer(&self, layer: &LayerTensors<TensorView<'_>>) -> Result<PackedLayer, Error> {
        let spec = self.spec;
        let (q, kv) = (spec.q_width(), spec.kv_width());
        let gated = spec.mlp == Mlp::SwiGlu;
        if layer.gate.is_some() != gated
            || layer.q_norm.is_some() != spec.qk_norm
            || layer.k_norm.is_some() != spec.qk_norm
        {
            return Err(Error::Tensor {
                tensor: layer.up.weight.name.clone(),
                problem: format!(
                    "its block does not match the description: {:?} MLP with gate: {}, per-head norms: {} with tensors: {}",
                    spec.mlp,
                    layer.gate.is_some(),
                    spec.qk_norm,
                    layer.q_norm.is_some()
                ),
            });
        }
        Ok(PackedLayer {
            attention_norm: self.norm(&layer.attention_norm)?,
            q: self.linear(&layer.q, q, spec.hidden)?,
            k: self.linear(&layer.k, kv, spec.hidden)?,
            v: self.linear(&layer.v, kv, spec.hidden)?,
            o: self.linear(&layer.o, spec.hidden, q)?,
            q_norm: layer.q_norm.as_ref().map(|t| vector(t, q)).transpose()?,
            k_norm: layer.k_norm.as_ref().map(|t| vector(t, kv)).transpose()?,
            mlp_norm: layer.mlp_norm.as_ref().map(|t| self.norm(t)).transpose()?,
            gate: layer
                .gate
                .as_ref()
                .map(|t| self.linear(t, spec.ffn, spec.hidden))
                .transpose()?,
            up: self.linear(&layer.up, spec.ffn, spec.hidden)?,
            down: self.linear(&layer.down, spec.hidden, spec.ffn)?,
        })
    }

    fn linear(
        &self,
        linear: &Linear<TensorView<'_>>,
        rows: usize,
        cols: usize,
    ) -> Result<PackedLinear, Error> {
        Ok(PackedLinear {
            weight: self.matrix(&linear.weight, rows, cols)?,
            bias: linear
                .bias
                .as_ref()
                .map(|bias| vector(bias, rows))
                .transpose()?,
        })
    }

    fn norm(&self, norm: &NormTensors<TensorView<'_>>) -> Result<PackedNorm, Error> {
        if let (Norm::Rms { .. }, Some(bias)) = (self.spec.norm, &norm.bias) {
            return Err(Error::Tensor {
                tensor: bias.name.clone(),
                problem: "an RMS norm has no bias".to_owned(),
            });
        }
        Ok(PackedNorm {
            weight: vector(&norm.weight, self.spec.hidden)?,
            bias: norm
                .bias
                .as_ref()
                .map(|bias| vector(bias, self.spec.hidden))
                .transpose()?,
        })
    }

    fn matrix(&self, view: &TensorView<'_>, rows: usize, cols: usize) -> Result<Matrix, Error> {
        if view.shape != [rows, cols] {
            return Err(wrong_shape(view, &[rows, cols]));
        }
        let bytes = view.contiguous();
        Matrix::pack(self.isa, self.pool, view.format, rows, cols, &bytes).map_err(|error| {
            Error::Tensor {
                tensor: view.name.clone(),
                problem: error.to_string(),
            }
        })
    }
}

/// A tensor of `len` numbers (of any shape) as f32.
fn vector(view: &TensorView<'_>, len: usize) -> Result<Vec<f32>, Error> {
    if view.shape.iter().product::<usize>() != len {
        return Err(wrong_shape(view, &[len]));
    }
    if view.format.row_bytes(len) != Some(view.bytes.len()) {
        return Err(Error::Tensor {
            tensor: view.name.clone(),
            problem: format!(
                "{} bytes do not hold {len} numbers of {}",
                view.bytes.len(),
                view.format
            ),
        });
    }
    let mut out = vec![0.0; len];
    dequantize(view.format, &view.bytes, &mut out);
    Ok(out)
}

fn wrong_shape(view: &TensorView<'_>, expected: &[usize]) -> Error {
    Error::Tensor {
        tensor: view.name.clone(),
        problem: format!("expected shape {expected:?}, found {:?}", view.shape),
    }
}
