//! Which format each tensor of a file gets: llama.cpp's mixtures (`llama_tensor_get_type`, llama-quant.cpp), without an
//! importance matrix.
//!
//! It knows names and shapes only.

use billion_kernels::Format;

use super::Quant;

/// What a mixture looks at besides the tensor itself.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    quant: Quant,
    /// Blocks of the model.
    layers: usize,
    /// The embedding is the head too.
    tied_head: bool,
    /// Blocks that hold values on their own or fused, in order.
    value_blocks: Vec<usize>,
    /// Llama 2 70B and its like, whose values are few.
    seventy_b: bool,
}

/// What the model as a whole tells a mixture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Model {
    pub layers: usize,
    /// Several query heads share a key head.
    pub grouped: bool,
}

impl Recipe {
    /// For a file whose tensors are called `names` (as in GGUF).
    pub fn new<'a>(quant: Quant, model: Model, names: impl Iterator<Item = &'a str>) -> Self {
        let mut tied_head = true;
        let mut value_blocks = Vec::new();
        for name in names {
            tied_head &= name != "output.weight";
            if is_values(name) {
                value_blocks.extend(block(name));
            }
        }
        value_blocks.sort_unstable();
        Self {
            quant,
            layers: model.layers,
            tied_head,
            value_blocks,
            seventy_b: model.layers == 80 && model.grouped,
        }
    }

    /// The format of a tensor of this name and shape (outermost first); none if it is kept as it is: norms, biases, and
    /// everything of one dimension.
    pub fn format(&self, name: &str, shape: &[usize]) -> Option<Format> {
        if !is_quantizable(name, shape) {
            return None;
        }
        let cols = *shape.last()?;
        let usual = self.quant.usual_format();
        if !usual.is_quantized() {
            return Some(usual);
        }
        let is_head = name == "output.weight" || (self.tied_head && name == "token_embd.weight");
        let wanted = if is_head {
            self.head_format(cols)
        } else {
            self.mixed_format(name)
        };
        Some(fallback(wanted, cols))
    }

    fn head_format(&self, cols: usize) -> Format {
        let usual = self.quant.usual_format();
        if !cols.is_multiple_of(usual.block_elems()) || usual == Format::Q8_0 {
            Format::Q8_0
        } else {
            Format::Q6_K
        }
    }

    fn mixed_format(&self, name: &str) -> Format {
        let usual = self.quant.usual_format();
        let mixes = matches!(self.quant, Quant::Q4KM | Quant::Q5KM);
        if is_values(name) {
            let rank = |block| self.value_blocks.binary_search(&block).ok();
            let more = block(name)
                .and_then(rank)
                .is_some_and(|rank| gets_more_bits(rank, self.value_blocks.len()));
            return match usual {
                _ if mixes && more => Format::Q6_K,
                Format::Q4_K if self.seventy_b => Format::Q5_K,
                _ => usual,
            };
        }
        if mixes && name.contains("ffn_down") {
            let more = block(name).is_some_and(|block| gets_more_bits(block, self.layers));
            if more {
                return Format::Q6_K;
            }
        }
        usual
    }
}

/// The first and last eighth of `count`, and every third between (`use_more_bits`).
fn gets_more_bits(index: usize, count: usize) -> bool {
    let eighth = count / 8;
    index < eighth || index >= 7 * count / 8 || (index - eighth) % 3 == 2
}

/// Values alone, or with queries and keys.
fn is_values(name: &str) -> bool {
    name.contains("attn_v.weight") || name.contains("attn_qkv.weight")
}

/// N of `blk.N.`.
pub(super) fn block(name: &str) -> Option<usize> {
    let (number, _) = name.strip_prefix("blk.")?.split_once('.')?;
    number.parse().ok()
}

/// Matrices of weights; not norms, biases and what routes experts.
pub(super) fn is_quantizable(name: &str, shape: &[usize]) -> bool {
    let dims = shape.iter().skip_while(|&&dim| dim == 1).count();
    dims >= 2
        && name.ends_with("weight")
        && !name.contains("_norm.weight")
        && !name.contains("ffn_gate_inp.weight")
}

/// What stands in where rows are no whole blocks (`tensor_type_fallback`).
fn fallback(wanted: Format, cols: usize) -> Format {
    let fits = |format: Format| cols.is_multiple_of(format.block_elems());
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        other => other,
    };
    if fits(smaller) { smaller } else { Format::F16 }
}
