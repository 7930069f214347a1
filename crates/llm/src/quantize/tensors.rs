//! The tensors of a model as a GGUF file has them: names, shapes, and rows that are read from the map as f32.
//!
//! Llama's queries and keys are brought into the order that llama.cpp pairs (neighbours, not halves; `permute` of its
//! converter), and GPT-NeoX's fused projection into all queries, all keys, all values.

use std::borrow::Cow;

use billion_kernels::{Format, dequantize};

use super::merge::Added;
use super::recipe::block;
use crate::Error;
use crate::load::ModelFiles;
use crate::spec::{LayerTensors, Linear, NormTensors, TensorView};
use crate::weights::Container;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    /// In a GGUF file.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// What is laid one after another.
    parts: Vec<Part<'a>>,
    /// Of a GGUF file: what is not quantized stays as it is.
    pub from_gguf: bool,
    /// What an adapter adds to its rows.
    pub added: Vec<Added>,
}

#[derive(Clone, Debug)]
struct Part<'a> {
    view: TensorView<'a>,
    rows: usize,
    /// Heads whose rotary halves are interleaved.
    interleaved_heads: Option<usize>,
}

impl<'a> Tensor<'a> {
    fn new(name: String, shape: Vec<usize>, views: Vec<(TensorView<'a>, Option<usize>)>) -> Self {
        let parts = views
            .into_iter()
            .map(|(view, interleaved_heads)| Part {
                rows: rows_of(&view.shape).0,
                view,
                interleaved_heads,
            })
            .collect();
        Self {
            name,
            shape,
            parts,
            from_gguf: false,
            added: Vec::new(),
        }
    }

    /// Rows and numbers in a row; a list of numbers is read as rows of one.
    pub fn rows(&self) -> (usize, usize) {
        rows_of(&self.shape)
    }

    /// How it is stored now: the format of its first part.
    pub fn stored(&self) -> Format {
        self.parts
            .first()
            .map_or(Format::F32, |part| part.view.format)
    }

    /// Its bytes as they are, where they can be taken over.
    pub fn stored_bytes(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            _ if !self.added.is_empty() => None,
            [part] if part.interleaved_heads.is_none() && part.view.rows.is_none() => {
                Some(&part.view.bytes)
            }
            _ => None,
        }
    }

    /// Rows from `first` on, as many as fill `out`.
    pub fn read(&self, first: usize, out: &mut [f32]) -> Result<(), Error> {
        let (_, cols) = self.rows();
        self.read_stored(first, out)?;
        for added in &self.added {
            added.add(first, cols, out);
        }
        Ok(())
    }

    fn read_stored(&self, first: usize, out: &mut [f32]) -> Result<(), Error> {
        let (_, cols) = self.rows();
        let damaged = |part: &Part<'_>| Error::Tensor {
            tensor: part.view.name.clone(),
            problem: format!(
                "{} bytes do not hold its rows of {cols} numbers; the file is damaged",
                part.view.bytes.len()
            ),
        };
        let mut row = first;
        let mut rest = out;
        let mut before = 0;
        for part in &self.parts {
            let end = before + part.rows;
            if row < end && !rest.is_empty() {
                let count = (end - row).min(rest.len() / cols);
                let (into, after) = rest.split_at_mut(count * cols);
                let format = part.view.format;
                let row_bytes = format.row_bytes(cols).ok_or_else(|| damaged(part))?;
                let bytes = &part.view.bytes;
                if part.interleaved_heads.is_none() && part.view.rows.is_none() {
                    let start = (row - before) * row_bytes;
                    let bytes = bytes.get(start..start + count * row_bytes);
                    dequantize(format, bytes.ok_or_else(|| damaged(part))?, into);
                } else {
                    for (index, into) in into.chunks_exact_mut(cols).enumerate() {
                        let start = part.source_row(row - before + index) * row_bytes;
                        let bytes = bytes.get(start..start + row_bytes);
                        dequantize(format, bytes.ok_or_else(|| damaged(part))?, into);
                    }
                }
                row += count;
                rest = after;
            }
            before = end;
        }
        Ok(())
    }
}

impl Part<'_> {
    /// Where row `row` lies among the rows of the view's bytes.
    fn source_row(&self, row: usize) -> usize {
        let row = match self.interleaved_heads {
            Some(heads) => {
                let dim = self.rows / heads;
                let (head, at) = (row / dim, row % dim);
                head * dim + at % 2 * (dim / 2) + at / 2
            }
            None => row,
        };
        match self.view.rows {
            Some(groups) => groups.first + row / groups.len * groups.stride + row % groups.len,
            None => row,
        }
    }
}

fn rows_of(shape: &[usize]) -> (usize, usize) {
    match shape {
        [outer @ .., cols] if !outer.is_empty() => (outer.iter().product(), *cols),
        [len] => (*len, 1),
        _ => (1, 1),
    }
}

/// A model family as llama.cpp names and lays it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// It is Llama: queries and keys are reordered for neighbouring pairs, and frequency divisors are read from
    /// `rope_freqs.weight`.
    pub is_llama: bool,
    /// Queries, keys and values lie in one tensor.
    fuses: bool,
    /// llama.cpp wants a head of its own even where it is the embedding.
    needs_head: bool,
}

impl Layout {
    /// Of a decoder that was described from Hugging Face files.
    pub fn of(architecture: &str) -> Result<Self, Error> {
        let plain = |architecture| Self {
            architecture,
            is_llama: false,
            fuses: false,
            needs_head: false,
        };
        Ok(match architecture {
            "llama" | "mistral" => Self {
                is_llama: true,
                ..plain("llama")
            },
            "qwen2" => plain("qwen2"),
            "stablelm" => Self {
                needs_head: true,
                ..plain("stablelm")
            },
            "gpt_neox" => Self {
                fuses: true,
                needs_head: true,
                ..plain("gptneox")
            },
            other => {
                return Err(Error::Unsupported(format!(
                    "GGUF files of the architecture {other:?} are not written yet; llama, mistral, qwen2, stablelm and \
                     gpt_neox are"
                )));
            }
        })
    }
}

/// Every tensor that the file will have, in the order of the file.
pub(super) fn tensors(files: &ModelFiles) -> Result<Vec<Tensor<'_>>, Error> {
    if files.weights().container() == Container::Gguf {
        return of_gguf(files);
    }
    let layout = Layout::of(&files.spec().architecture)?;
    let spec = files.spec();
    let found = files.tensors()?;
    let mut all = Vec::new();
    push(&mut all, "token_embd.weight", found.embedding.clone());
    for (index, layer) in found.layers.into_iter().enumerate() {
        block_tensors(&mut all, index, layer, layout, (spec.heads, spec.kv_heads));
    }
    norm(&mut all, "output_norm", found.final_norm);
    match found.head {
        Some(head) => push(&mut all, "output.weight", head),
        None if layout.needs_head => push(&mut all, "output.weight", found.embedding),
        None => {}
    }
    Ok(all)
}

/// A list of numbers that the model's configuration holds and a GGUF file keeps as a tensor.
pub(super) fn of_numbers<'a>(name: &str, numbers: &[f32]) -> Tensor<'a> {
    let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView {
        name: name.to_owned(),
        format: Format::F32,
        shape: vec![numbers.len()],
        bytes: Cow::Owned(bytes),
        rows: None,
    };
    Tensor::new(name.to_owned(), view.shape.clone(), vec![(view, None)])
}

fn push<'a>(all: &mut Vec<Tensor<'a>>, name: impl Into<String>, view: TensorView<'a>) {
    all.push(Tensor::new(
        name.into(),
        view.shape.clone(),
        vec![(view, None)],
    ));
}

fn norm<'a>(all: &mut Vec<Tensor<'a>>, name: &str, norm: NormTensors<TensorView<'a>>) {
    push(all, format!("{name}.weight"), norm.weight);
    if let Some(bias) = norm.bias {
        push(all, format!("{name}.bias"), bias);
    }
}

/// A linear map, its parts one after another and each, where heads are given, interleaved.
fn linear<'a>(
    all: &mut Vec<Tensor<'a>>,
    name: &str,
    parts: Vec<(Linear<TensorView<'a>>, Option<usize>)>,
) {
    let mut weights = Vec::new();
    let mut biases = Vec::new();
    for (part, heads) in parts {
        weights.push((part.weight, heads));
        biases.extend(part.bias.map(|bias| (bias, heads)));
    }
    for (views, end) in [(weights, "weight"), (biases, "bias")] {
        let Some((first, _)) = views.first() else {
            continue;
        };
        let mut shape = first.shape.clone();
        shape[0] = views.iter().map(|(view, _)| view.shape[0]).sum();
        all.push(Tensor::new(format!("{name}.{end}"), shape, views));
    }
}

fn block_tensors<'a>(
    all: &mut Vec<Tensor<'a>>,
    index: usize,
    layer: LayerTensors<TensorView<'a>>,
    layout: Layout,
    (heads, kv_heads): (usize, usize),
) {
    let name = |part: &str| format!("blk.{index}.{part}");
    norm(all, &name("attn_norm"), layer.attention_norm);
    let order = |heads| layout.is_llama.then_some(heads);
    if layout.fuses {
        let parts = vec![(layer.q, None), (layer.k, None), (layer.v, None)];
        linear(all, &name("attn_qkv"), parts);
    } else {
        linear(all, &name("attn_q"), vec![(layer.q, order(heads))]);
        linear(all, &name("attn_k"), vec![(layer.k, order(kv_heads))]);
        linear(all, &name("attn_v"), vec![(layer.v, None)]);
    }
    if let Some(view) = layer.q_norm {
        push(all, name("attn_q_norm.weight"), view);
    }
    if let Some(view) = layer.k_norm {
        push(all, name("attn_k_norm.weight"), view);
    }
    linear(all, &name("attn_output"), vec![(layer.o, None)]);
    if let Some(mlp_norm) = layer.mlp_norm {
        norm(all, &name("ffn_norm"), mlp_norm);
    }
    if let Some(gate) = layer.gate {
        linear(all, &name("ffn_gate"), vec![(gate, None)]);
    }
    linear(all, &name("ffn_up"), vec![(layer.up, None)]);
    linear(all, &name("ffn_down"), vec![(layer.down, None)]);
}

/// All tensors of a GGUF file, blocks in order.
fn of_gguf(files: &ModelFiles) -> Result<Vec<Tensor<'_>>, Error> {
    let weights = files.weights();
    let mut all = Vec::new();
    for name in weights.names() {
        let view = weights.require(name)?;
        let mut tensor = Tensor::new(name.to_owned(), view.shape.clone(), vec![(view, None)]);
        tensor.from_gguf = true;
        all.push(tensor);
    }
    // The embedding and what is small first, the head last.
    let place = |name: &str| match block(name) {
        Some(block) => (1, block),
        None if name.starts_with("output") => (2, 0),
        None => (0, 0),
    };
    all.sort_by_key(|tensor| place(&tensor.name));
    Ok(all)
}
