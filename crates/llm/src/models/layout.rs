//! Fetches a decoder's tensors by an architecture's table of names, and checks every shape.

use super::config::Config;
use crate::Error;
use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, Norm, NormTensors, TensorView,
};
use crate::weights::Weights;

/// Names of a layout's tensors without `.weight` and `.bias`; `{}` stands for the block's number.
#[derive(Debug)]
pub(super) struct Names {
    pub embedding: &'static str,
    pub final_norm: &'static str,
    pub head: &'static str,
    pub attention_norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub o: &'static str,
    /// Per-head norms, where the architecture has them.
    pub q_norm: Option<&'static str>,
    pub k_norm: Option<&'static str>,
    /// None where attention and MLP share a norm.
    pub mlp_norm: Option<&'static str>,
    /// None where the MLP has no gate.
    pub gate: Option<&'static str>,
    pub up: &'static str,
    pub down: &'static str,
}

/// Whether a linear map has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    /// The configuration says that there is none.
    Never,
    /// The configuration says nothing: taken where the file has it.
    IfThere,
    /// The configuration says that there is one.
    Always,
}

impl Bias {
    /// What a flag of the configuration says.
    pub fn from_flag(flag: Option<bool>) -> Self {
        if flag == Some(true) {
            Self::Always
        } else {
            Self::Never
        }
    }
}

/// Biases of a block's linear maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Biases {
    pub qkv: Bias,
    pub o: Bias,
    pub mlp: Bias,
}

/// The embedding's rows and who owns the head.
pub(super) struct Vocabulary {
    pub size: usize,
    pub tied_head: bool,
}

/// Rows of the embedding, from its tensor: what a file holds is surer than what its metadata says.
pub(super) fn vocab_size(
    config: &Config<'_>,
    weights: &Weights,
    names: &Names,
) -> Result<usize, Error> {
    let embedding = weights.require(&format!("{}.weight", names.embedding))?;
    match embedding.shape[..] {
        [rows, _] if rows <= super::config::limit::VOCAB => Ok(rows),
        _ => Err(config.bad(format!(
            "the embedding {} has the shape {:?}; expected a row for each of at most {} tokens",
            embedding.name,
            embedding.shape,
            super::config::limit::VOCAB
        ))),
    }
}

/// Whether the head's weights are missing from the file, so that the embedding serves.
pub(super) fn head_missing(weights: &Weights, names: &Names) -> bool {
    !weights.contains(&format!("{}.weight", names.head))
}

pub(super) fn tensors<'a>(
    weights: &'a Weights,
    spec: &DecoderSpec,
    names: &Names,
    biases: Biases,
) -> Result<DecoderTensors<TensorView<'a>>, Error> {
    let fetch = Fetch {
        weights,
        layer_norm: matches!(spec.norm, Norm::Layer { .. }),
    };
    let mut layers = Vec::new();
    for index in 0..spec.layers {
        let number = index.to_string();
        let name = |pattern: &str| pattern.replace("{}", &number);
        let linear = |pattern, out, cols, bias| fetch.linear(&name(pattern), out, cols, bias);
        let norm = |pattern| fetch.norm(&name(pattern), spec.hidden);
        let head_norm = |pattern: Option<&str>, heads| match pattern {
            Some(pattern) if spec.qk_norm => fetch
                .tensor(
                    &format!("{}.weight", name(pattern)),
                    &[heads, spec.head_dim],
                )
                .map(Some),
            _ => Ok(None),
        };
        let gate = match (spec.mlp, names.gate) {
            (Mlp::SwiGlu, Some(gate)) => Some(linear(gate, spec.ffn, spec.hidden, biases.mlp)?),
            _ => None,
        };
        layers.push(LayerTensors {
            attention_norm: norm(names.attention_norm)?,
            q: linear(names.q, spec.q_width(), spec.hidden, biases.qkv)?,
            k: linear(names.k, spec.kv_width(), spec.hidden, biases.qkv)?,
            v: linear(names.v, spec.kv_width(), spec.hidden, biases.qkv)?,
            o: linear(names.o, spec.hidden, spec.q_width(), biases.o)?,
            q_norm: head_norm(names.q_norm, spec.heads)?,
            k_norm: head_norm(names.k_norm, spec.kv_heads)?,
            mlp_norm: names.mlp_norm.map(norm).transpose()?,
            gate,
            up: linear(names.up, spec.ffn, spec.hidden, biases.mlp)?,
            down: linear(names.down, spec.hidden, spec.ffn, biases.mlp)?,
        });
    }
    let table =
        |name: &str| fetch.tensor(&format!("{name}.weight"), &[spec.vocab_size, spec.hidden]);
    Ok(DecoderTensors {
        embedding: table(names.embedding)?,
        layers,
        final_norm: fetch.norm(names.final_norm, spec.hidden)?,
        head: if spec.tied_head {
            None
        } else {
            Some(table(names.head)?)
        },
    })
}

struct Fetch<'a> {
    weights: &'a Weights,
    layer_norm: bool,
}

impl<'a> Fetch<'a> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'a>, Error> {
        let view = self.weights.require(name)?;
        if view.shape != shape {
            return Err(Error::Tensor {
                tensor: name.to_owned(),
                problem: format!(
                    "expected the shape {shape:?}, found {:?}; the weights do not fit their configuration",
                    view.shape
                ),
            });
        }
        Ok(view)
    }

    fn linear(
        &self,
        name: &str,
        out: usize,
        cols: usize,
        bias: Bias,
    ) -> Result<Linear<TensorView<'a>>, Error> {
        let bias_name = format!("{name}.bias");
        let has_bias = match bias {
            Bias::Never => false,
            Bias::IfThere => self.weights.contains(&bias_name),
            Bias::Always => true,
        };
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"), &[out, cols])?,
            bias: if has_bias {
                Some(self.tensor(&bias_name, &[out])?)
            } else {
                None
            },
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<NormTensors<TensorView<'a>>, Error> {
        Ok(NormTensors {
            weight: self.tensor(&format!("{name}.weight"), &[width])?,
            bias: if self.layer_norm {
                Some(self.tensor(&format!("{name}.bias"), &[width])?)
            } else {
                None
            },
        })
    }
}
