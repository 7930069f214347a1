//! Fetches a decoder's tensors by an architecture's table of names, and checks every shape.

use std::borrow::Cow;

use super::config::Config;
use crate::Error;
use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, Norm, NormTensors, RowGroups,
    TensorView,
};
use crate::weights::Weights;

/// Names of a layout's tensors without `.weight` and `.bias`; `{}` stands for the block's number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub embedding: &'static str,
    pub final_norm: &'static str,
    /// Whichever the file has.
    pub head: &'static [&'static str],
    pub attention_norm: &'static str,
    pub qkv: Qkv,
    pub o: &'static str,
    /// Per-head norms of queries and keys, where the architecture has them: a tensor of all heads, or one for each head
    /// if the name holds `{head}`.
    pub qk_norm: Option<[&'static str; 2]>,
    /// None where attention and MLP share a norm.
    pub mlp_norm: Option<&'static str>,
    /// None where the MLP has no gate.
    pub gate: Option<&'static str>,
    pub up: &'static str,
    pub down: &'static str,
}

/// Where a layout keeps the projections to queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Qkv {
    /// A tensor each.
    Apart([&'static str; 3]),
    /// One tensor: all queries, all keys, all values (llama.cpp).
    Stacked(&'static str),
    /// One tensor: query, key and value of the first head, of the second, and so on (GPT-NeoX). There are as many key
    /// heads as query heads.
    ByHead(&'static str),
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
    !names
        .head
        .iter()
        .any(|name| weights.contains(&format!("{name}.weight")))
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
        let [q, k, v] = fetch.qkv(spec, names.qkv, &number, biases.qkv)?;
        let [q_norm, k_norm] = match names.qk_norm {
            Some([q, k]) if spec.qk_norm => [
                Some(fetch.head_norm(&name(q), spec.heads, spec.head_dim)?),
                Some(fetch.head_norm(&name(k), spec.kv_heads, spec.head_dim)?),
            ],
            _ => [None, None],
        };
        let gate = match (spec.mlp, names.gate) {
            (Mlp::SwiGlu, Some(gate)) => Some(linear(gate, spec.ffn, spec.hidden, biases.mlp)?),
            _ => None,
        };
        layers.push(LayerTensors {
            attention_norm: norm(names.attention_norm)?,
            q,
            k,
            v,
            o: linear(names.o, spec.hidden, spec.q_width(), biases.o)?,
            q_norm,
            k_norm,
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
            let there = |name: &&&str| weights.contains(&format!("{name}.weight"));
            let name = names.head.iter().find(there).or(names.head.first());
            Some(table(name.copied().unwrap_or_default())?)
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

    /// Queries, keys and values of block `number`, split where the layout fuses them.
    fn qkv(
        &self,
        spec: &DecoderSpec,
        names: Qkv,
        number: &str,
        bias: Bias,
    ) -> Result<[Linear<TensorView<'a>>; 3], Error> {
        let (hidden, dim) = (spec.hidden, spec.head_dim);
        let widths = [spec.q_width(), spec.kv_width(), spec.kv_width()];
        let fused = match names {
            Qkv::Apart(names) => {
                let linear = |i: usize| {
                    self.linear(&names[i].replace("{}", number), widths[i], hidden, bias)
                };
                return Ok([linear(0)?, linear(1)?, linear(2)?]);
            }
            Qkv::Stacked(name) | Qkv::ByHead(name) => {
                let name = name.replace("{}", number);
                self.linear(&name, widths.iter().sum(), hidden, bias)?
            }
        };
        let part = |i: usize| -> Result<Linear<TensorView<'a>>, Error> {
            let groups = match names {
                Qkv::ByHead(_) => RowGroups {
                    first: i * dim,
                    len: dim,
                    stride: 3 * dim,
                },
                _ => RowGroups {
                    first: widths[..i].iter().sum(),
                    len: widths[i],
                    stride: widths[i],
                },
            };
            let role = ["queries", "keys", "values"][i];
            Ok(Linear {
                weight: part_of(&fused.weight, role, widths[i], groups)?,
                bias: match &fused.bias {
                    Some(bias) => Some(part_of(bias, role, widths[i], groups)?),
                    None => None,
                },
            })
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Norms of all heads, shape (heads, dim).
    fn head_norm(&self, name: &str, heads: usize, dim: usize) -> Result<TensorView<'a>, Error> {
        if !name.contains("{head}") {
            return self.tensor(&format!("{name}.weight"), &[heads, dim]);
        }
        let mut joined: Option<TensorView<'a>> = None;
        for head in 0..heads {
            let name = format!("{}.weight", name.replace("{head}", &head.to_string()));
            let view = self.tensor(&name, &[dim])?;
            match &mut joined {
                None => joined = Some(view),
                Some(joined) if joined.format == view.format => {
                    joined.bytes.to_mut().extend_from_slice(&view.bytes);
                }
                Some(joined) => {
                    return Err(Error::Tensor {
                        tensor: name,
                        problem: format!(
                            "stored as {}, but the first head's norm as {}; the file is damaged",
                            view.format, joined.format
                        ),
                    });
                }
            }
        }
        let mut joined = joined
            .ok_or_else(|| Error::Unsupported("a model without heads cannot be run".to_owned()))?;
        joined.shape = vec![heads, dim];
        Ok(joined)
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

/// The rows `groups` of a fused weight, or those numbers of its bias. A bias is copied, it is small; the rows of a weight
/// are picked when it is read, so that opening a model copies nothing.
fn part_of<'a>(
    fused: &TensorView<'a>,
    role: &str,
    len: usize,
    groups: RowGroups,
) -> Result<TensorView<'a>, Error> {
    let cols = match fused.shape[..] {
        [_, cols] => cols,
        _ => 1,
    };
    let Some(row_bytes) = fused.format.row_bytes(cols) else {
        return Err(Error::Tensor {
            tensor: fused.name.clone(),
            problem: format!(
                "its rows of {cols} numbers are no whole blocks of {}, so it cannot be split",
                fused.format
            ),
        });
    };
    let mut part = TensorView {
        name: format!("{} ({role})", fused.name),
        format: fused.format,
        shape: vec![len, cols],
        bytes: fused.bytes.clone(),
        rows: Some(groups),
    };
    if let Cow::Borrowed(bytes) = part.bytes
        && groups.len == len
    {
        // Adjacent rows need no picking.
        part.bytes = Cow::Borrowed(&bytes[groups.first * row_bytes..][..len * row_bytes]);
        part.rows = None;
    }
    if fused.shape.len() == 1 {
        part.bytes = Cow::Owned(part.contiguous().into_owned());
        part.rows = None;
        part.shape = vec![len];
    }
    Ok(part)
}
