//! The frozen weights of a decoder as training reads them: matrices borrowed from the file, norms and biases as f32.
//!
//! Every tensor's shape is checked against the description here. It computes nothing.

use billion_kernels::dequantize;
use billion_kernels::training::{Groups, Stored};
use billion_llm::Error;
use billion_llm::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, NormTensors, Residual, TensorView,
};

/// The linear maps of a block, in the order that arrays of them have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

/// How many there are.
pub(super) const PLACES: usize = 7;

/// A norm's weight and bias, shape: (width).
pub(super) struct FrozenNorm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// A linear map.
pub(super) struct FrozenLinear<'a> {
    pub weight: Stored<'a>,
    pub bias: Option<Vec<f32>>,
}

/// A block.
pub(super) struct FrozenLayer<'a> {
    pub attention_norm: FrozenNorm,
    pub mlp_norm: Option<FrozenNorm>,
    /// Shape: (heads * head_dim).
    pub q_norm: Option<Vec<f32>>,
    /// Shape: (kv_heads * head_dim).
    pub k_norm: Option<Vec<f32>>,
    linears: [Option<FrozenLinear<'a>>; PLACES],
}

impl<'a> FrozenLayer<'a> {
    /// A map that every block has, or the gate of a gated one.
    pub fn linear(&self, place: Place) -> &FrozenLinear<'a> {
        self.linears[place as usize]
            .as_ref()
            .expect("`layer` fills all places that a block of this description has")
    }
}

/// All weights of a decoder.
pub(super) struct Frozen<'a> {
    pub embedding: Stored<'a>,
    pub layers: Vec<FrozenLayer<'a>>,
    pub final_norm: FrozenNorm,
    /// The embedding's where they are tied.
    pub head: Stored<'a>,
}

impl<'a> Frozen<'a> {
    pub fn new(
        spec: &DecoderSpec,
        tensors: &'a DecoderTensors<TensorView<'_>>,
    ) -> Result<Self, Error> {
        if tensors.layers.len() != spec.layers || spec.layers == 0 {
            return Err(Error::Unsupported(format!(
                "the description has {} blocks, the weights have {}",
                spec.layers,
                tensors.layers.len()
            )));
        }
        let table = (spec.vocab_size, spec.hidden);
        let embedding = matrix(&tensors.embedding, table)?;
        Ok(Self {
            embedding,
            layers: tensors
                .layers
                .iter()
                .map(|tensors| layer(spec, tensors))
                .collect::<Result<_, _>>()?,
            final_norm: norm(&tensors.final_norm, spec.hidden)?,
            head: match &tensors.head {
                Some(head) => matrix(head, table)?,
                None => embedding,
            },
        })
    }

    /// All matrices, a tied head once more.
    pub fn matrices(&self) -> impl Iterator<Item = &Stored<'a>> {
        self.layers
            .iter()
            .flat_map(|layer| layer.linears.iter().flatten().map(|linear| &linear.weight))
            .chain([&self.embedding, &self.head])
    }
}

fn layer<'a>(
    spec: &DecoderSpec,
    tensors: &'a LayerTensors<TensorView<'_>>,
) -> Result<FrozenLayer<'a>, Error> {
    let (hidden, q, kv, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
    let gated = spec.mlp == Mlp::SwiGlu;
    let needs_norm = spec.residual == Residual::Sequential;
    if tensors.gate.is_some() != gated
        || tensors.q_norm.is_some() != spec.qk_norm
        || tensors.k_norm.is_some() != spec.qk_norm
        || (needs_norm && tensors.mlp_norm.is_none())
    {
        return Err(Error::Tensor {
            tensor: tensors.up.weight.name.clone(),
            problem: format!(
                "its block does not match the description: {:?} MLP with gate: {}, norms of queries and keys: {}, norm before the MLP: {}",
                spec.mlp,
                tensors.gate.is_some(),
                tensors.q_norm.is_some(),
                tensors.mlp_norm.is_some()
            ),
        });
    }
    let linears = [
        Some((&tensors.q, q, hidden)),
        Some((&tensors.k, kv, hidden)),
        Some((&tensors.v, kv, hidden)),
        Some((&tensors.o, hidden, q)),
        tensors.gate.as_ref().map(|gate| (gate, ffn, hidden)),
        Some((&tensors.up, ffn, hidden)),
        Some((&tensors.down, hidden, ffn)),
    ];
    let mut filled: [Option<FrozenLinear<'a>>; PLACES] = Default::default();
    for (place, linear) in filled.iter_mut().zip(linears) {
        if let Some((tensors, rows, cols)) = linear {
            *place = Some(self::linear(tensors, rows, cols)?);
        }
    }
    Ok(FrozenLayer {
        attention_norm: norm(&tensors.attention_norm, hidden)?,
        mlp_norm: tensors
            .mlp_norm
            .as_ref()
            .map(|tensors| norm(tensors, hidden))
            .transpose()?,
        q_norm: tensors.q_norm.as_ref().map(|t| vector(t, q)).transpose()?,
        k_norm: tensors.k_norm.as_ref().map(|t| vector(t, kv)).transpose()?,
        linears: filled,
    })
}

fn linear<'a>(
    tensors: &'a Linear<TensorView<'_>>,
    rows: usize,
    cols: usize,
) -> Result<FrozenLinear<'a>, Error> {
    Ok(FrozenLinear {
        weight: matrix(&tensors.weight, (rows, cols))?,
        bias: tensors
            .bias
            .as_ref()
            .map(|bias| vector(bias, rows))
            .transpose()?,
    })
}

fn norm(tensors: &NormTensors<TensorView<'_>>, width: usize) -> Result<FrozenNorm, Error> {
    Ok(FrozenNorm {
        weight: vector(&tensors.weight, width)?,
        bias: tensors
            .bias
            .as_ref()
            .map(|bias| vector(bias, width))
            .transpose()?,
    })
}

fn matrix<'a>(view: &'a TensorView<'_>, shape: (usize, usize)) -> Result<Stored<'a>, Error> {
    if view.shape != [shape.0, shape.1] {
        return Err(wrong_shape(view, &[shape.0, shape.1]));
    }
    let groups = view.rows.map(|groups| Groups {
        first: groups.first,
        len: groups.len,
        stride: groups.stride,
    });
    Stored::new(view.format, shape, &view.bytes, groups).map_err(|error| Error::Tensor {
        tensor: view.name.clone(),
        problem: error.to_string(),
    })
}

/// A tensor of `len` numbers (of any shape) as f32.
fn vector(view: &TensorView<'_>, len: usize) -> Result<Vec<f32>, Error> {
    if view.shape.iter().product::<usize>() != len {
        return Err(wrong_shape(view, &[len]));
    }
    let bytes = view.contiguous();
    if view.format.row_bytes(len) != Some(bytes.len()) {
        return Err(Error::Tensor {
            tensor: view.name.clone(),
            problem: format!(
                "{} bytes do not hold {len} numbers of {}",
                bytes.len(),
                view.format
            ),
        });
    }
    let mut out = vec![0.0; len];
    dequantize(view.format, &bytes, &mut out);
    Ok(out)
}

fn wrong_shape(view: &TensorView<'_>, expected: &[usize]) -> Error {
    Error::Tensor {
        tensor: view.name.clone(),
        problem: format!("expected shape {expected:?}, found {:?}", view.shape),
    }
}
