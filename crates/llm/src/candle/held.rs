//! How the candle executor holds weights: plain numbers, or blocks as a GGUF file has them. Loads them and checks shapes.
//!
//! candle multiplies with blocks as llama.cpp does, activations rounded to eight bits in groups of 32 (256 for k-quants on a
//! processor), and gives no gradient through them.

use std::borrow::Cow;
use std::sync::Arc;

use billion_kernels::Format;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use half::f16;

use crate::Error;
use crate::device::computes_bf16;
use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, NormTensors, Residual, TensorView,
};

/// How weights are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldAs {
    /// Dequantized to F32: exact, differentiable, and several times the size of a quantized file.
    #[default]
    F32,
    /// Matrices as the file stores them: about the size of the file. Vectors are F32. BF16 becomes F16 on a device that does
    /// not compute with it, and so do blocks of which a row is no whole number.
    Stored,
}

/// One tensor on a device.
#[derive(Clone, Debug)]
pub enum Held {
    /// F32, or F16 or BF16 where a matrix is held as stored.
    Plain(Tensor),
    /// The blocks of a matrix.
    Blocks(Arc<QTensor>),
}

impl Held {
    /// The numbers of a vector, or of a matrix that is held in F32 and so can be trained; none for what is held as stored.
    pub fn numbers(&self) -> Option<&Tensor> {
        match self {
            Self::Plain(tensor) if tensor.dtype() == DType::F32 => Some(tensor),
            _ => None,
        }
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Self::Blocks(blocks) => blocks.storage_size_in_bytes(),
        }
    }

    /// A norm's or a bias's numbers, which are always F32.
    pub(super) fn vector(&self) -> Result<&Tensor> {
        match self.numbers() {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("a vector is held as a matrix"),
        }
    }

    /// x (rows, in) by this matrix (out, in), shape (rows, out), F32 in and out.
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => x
                .to_dtype(weight.dtype())?
                .matmul(&weight.t()?)?
                .to_dtype(DType::F32),
            Self::Blocks(blocks) => x.contiguous()?.apply_op1_no_bwd(blocks.as_ref()),
        }
    }

    /// The rows of the given numbers, shape (ids, width), F32.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(table) => table.index_select(ids, 0)?.to_dtype(DType::F32),
            Self::Blocks(blocks) => blocks.embedding(ids),
        }
    }
}

/// Checks every shape against `spec` and brings the tensors to the device.
pub(super) fn hold(
    spec: &DecoderSpec,
    tensors: &DecoderTensors<TensorView<'_>>,
    device: &Device,
    held_as: HeldAs,
) -> std::result::Result<DecoderTensors<Held>, Error> {
    if tensors.layers.len() != spec.layers {
        return Err(Error::Unsupported(format!(
            "the description has {} layers, the weights {}",
            spec.layers,
            tensors.layers.len()
        )));
    }
    let loader = Loader {
        spec,
        device,
        held_as,
        bf16: held_as == HeldAs::Stored && computes_bf16(device),
    };
    let table = [spec.vocab_size, spec.hidden];
    Ok(DecoderTensors {
        embedding: loader.matrix(&tensors.embedding, table)?,
        layers: tensors
            .layers
            .iter()
            .map(|layer| loader.layer(layer))
            .collect::<std::result::Result<_, _>>()?,
        final_norm: loader.norm(&tensors.final_norm)?,
        head: match &tensors.head {
            Some(head) => Some(loader.matrix(head, table)?),
            None if spec.tied_head => None,
            None => {
                return Err(Error::Unsupported(
                    "the head is neither tied to the embedding nor in the file".to_owned(),
                ));
            }
        },
    })
}

/// Turns views into held tensors.
struct Loader<'a> {
    spec: &'a DecoderSpec,
    device: &'a Device,
    held_as: HeldAs,
    /// The device computes with BF16.
    bf16: bool,
}

impl Loader<'_> {
    fn layer(
        &self,
        layer: &LayerTensors<TensorView<'_>>,
    ) -> std::result::Result<LayerTensors<Held>, Error> {
        let spec = self.spec;
        let (hidden, q, kv) = (spec.hidden, spec.q_width(), spec.kv_width());
        if spec.residual == Residual::Sequential && layer.mlp_norm.is_none() {
            return Err(absent(
                &layer.attention_norm.weight,
                "a norm before the MLP",
            ));
        }
        if spec.mlp == Mlp::SwiGlu && layer.gate.is_none() {
            return Err(absent(&layer.up.weight, "the gate of a SwiGLU MLP"));
        }
        if spec.qk_norm && (layer.q_norm.is_none() || layer.k_norm.is_none()) {
            return Err(absent(&layer.q.weight, "the norms of queries and keys"));
        }
        Ok(LayerTensors {
            attention_norm: self.norm(&layer.attention_norm)?,
            q: self.linear(&layer.q, q, hidden)?,
            k: self.linear(&layer.k, kv, hidden)?,
            v: self.linear(&layer.v, kv, hidden)?,
            o: self.linear(&layer.o, hidden, q)?,
            q_norm: self.optional(layer.q_norm.as_ref(), &[spec.heads, spec.head_dim])?,
            k_norm: self.optional(layer.k_norm.as_ref(), &[spec.kv_heads, spec.head_dim])?,
            mlp_norm: match &layer.mlp_norm {
                Some(norm) => Some(self.norm(norm)?),
                None => None,
            },
            gate: match &layer.gate {
                Some(gate) => Some(self.linear(gate, spec.ffn, hidden)?),
                None => None,
            },
            up: self.linear(&layer.up, spec.ffn, hidden)?,
            down: self.linear(&layer.down, hidden, spec.ffn)?,
        })
    }

    fn norm(
        &self,
        norm: &NormTensors<TensorView<'_>>,
    ) -> std::result::Result<NormTensors<Held>, Error> {
        let shape = [self.spec.hidden];
        Ok(NormTensors {
            weight: self.vector(&norm.weight, &shape)?,
            bias: self.optional(norm.bias.as_ref(), &shape)?,
        })
    }

    fn linear(
        &self,
        linear: &Linear<TensorView<'_>>,
        rows: usize,
        cols: usize,
    ) -> std::result::Result<Linear<Held>, Error> {
        Ok(Linear {
            weight: self.matrix(&linear.weight, [rows, cols])?,
            bias: self.optional(linear.bias.as_ref(), &[rows])?,
        })
    }

    fn optional(
        &self,
        view: Option<&TensorView<'_>>,
        shape: &[usize],
    ) -> std::result::Result<Option<Held>, Error> {
        view.map(|view| self.vector(view, shape)).transpose()
    }

    /// F32, however matrices are held.
    fn vector(&self, view: &TensorView<'_>, shape: &[usize]) -> std::result::Result<Held, Error> {
        let bytes = checked(view, shape)?;
        let mut values = vec![0.0_f32; shape.iter().product()];
        billion_kernels::dequantize(view.format, &bytes, &mut values);
        Tensor::from_vec(values, shape, self.device)
            .map(Held::Plain)
            .map_err(|error| refused(view, error))
    }

    fn matrix(&self, view: &TensorView<'_>, shape: [usize; 2]) -> std::result::Result<Held, Error> {
        if self.held_as == HeldAs::F32 {
            return self.vector(view, &shape);
        }
        let bytes = checked(view, &shape)?;
        let plain = |dtype| Tensor::from_raw_buffer(&bytes, dtype, &shape, self.device);
        let held = match view.format {
            Format::F32 => plain(DType::F32).map(Held::Plain),
            Format::F16 => plain(DType::F16).map(Held::Plain),
            Format::BF16 if self.bf16 => plain(DType::BF16).map(Held::Plain),
            format => match block_type(format) {
                Some(blocks) if shape[1].is_multiple_of(format.block_elems()) => {
                    self.blocks(&bytes, blocks, shape)
                }
                _ => self.halves(format, &bytes, shape),
            },
        };
        held.map_err(|error| refused(view, error))
    }

    fn blocks(&self, bytes: &[u8], blocks: GgmlDType, shape: [usize; 2]) -> Result<Held> {
        // Blocks hold numbers of two bytes, and candle wants those at even addresses. A file may place them elsewhere.
        let bytes = if bytes.as_ptr().addr().is_multiple_of(2) {
            Cow::Borrowed(bytes)
        } else {
            Cow::Owned(bytes.to_vec())
        };
        if !bytes.as_ptr().addr().is_multiple_of(2) {
            candle_core::bail!("this system gives memory at odd addresses");
        }
        let storage = QStorage::from_data(bytes, self.device, blocks)?;
        Ok(Held::Blocks(Arc::new(QTensor::new(storage, &shape)?)))
    }

    /// F16 of any format, without ever holding all of it in F32.
    fn halves(&self, format: Format, bytes: &[u8], shape: [usize; 2]) -> Result<Held> {
        /// Blocks dequantized at once.
        const BLOCKS: usize = 4096;
        let mut values = vec![0.0_f32; BLOCKS * format.block_elems()];
        let mut halves = Vec::with_capacity(shape[0] * shape[1]);
        for some in bytes.chunks(BLOCKS * format.block_bytes()) {
            let values = &mut values[..some.len() / format.block_bytes() * format.block_elems()];
            billion_kernels::dequantize(format, some, values);
            halves.extend(values.iter().map(|&value| f16::from_f32(value)));
        }
        Tensor::from_vec(halves, &shape, self.device).map(Held::Plain)
    }
}

/// candle's name of a format of blocks that its kernels for processors, CUDA and Metal all multiply with.
fn block_type(format: Format) -> Option<GgmlDType> {
    Some(match format {
        Format::F32 | Format::F16 | Format::BF16 => return None,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q2_K => GgmlDType::Q2K,
        Format::Q3_K => GgmlDType::Q3K,
        Format::Q4_K => GgmlDType::Q4K,
        Format::Q5_K => GgmlDType::Q5K,
        Format::Q6_K => GgmlDType::Q6K,
    })
}

/// The bytes of a tensor of this shape.
fn checked<'a>(
    view: &'a TensorView<'_>,
    shape: &[usize],
) -> std::result::Result<Cow<'a, [u8]>, Error> {
    if view.shape != shape {
        let found = &view.shape;
        return Err(refused(
            view,
            format!("expected shape {shape:?}, found {found:?}"),
        ));
    }
    let elements: usize = shape.iter().product();
    let bytes = view.contiguous();
    let (block, block_bytes) = (view.format.block_elems(), view.format.block_bytes());
    if !elements.is_multiple_of(block) || bytes.len() != elements / block * block_bytes {
        return Err(refused(
            view,
            format!(
                "{} bytes do not hold {elements} numbers of format {}",
                bytes.len(),
                view.format
            ),
        ));
    }
    Ok(bytes)
}

fn refused(view: &TensorView<'_>, problem: impl std::fmt::Display) -> Error {
    Error::Tensor {
        tensor: view.name.clone(),
        problem: problem.to_string(),
    }
}

fn absent(near: &TensorView<'_>, what: &str) -> Error {
    refused(near, format!("the file has no tensors for {what}"))
}
