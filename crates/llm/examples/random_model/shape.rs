//! Sizes of models by name, and the tensors that a model of some sizes has, in llama.cpp's names.

use std::error::Error;

use billion_kernels::Format;

use crate::gguf_file::{Recipe, more_bits};

/// Which families can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    /// StableLM 2 1.6B: layer norm, biases at q, k and v.
    StableLm,
    /// StableLM 2 12B: norms per head, one norm a block.
    StableLm12b,
    GptNeox,
}

impl Family {
    /// `general.architecture`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::StableLm | Self::StableLm12b => "stablelm",
            Self::GptNeox => "gptneox",
        }
    }
}

/// A model's sizes.
#[derive(Clone, Copy)]
pub struct Shape {
    pub family: Family,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub ffn: usize,
    pub context: usize,
    /// Tokens; none: those of the tokenizer.
    pub vocab: Option<usize>,
    pub tied_head: bool,
    pub seed: usize,
}

/// The 1.17B shape of TinyLlama with the tokenizer's vocabulary.
const TINYLLAMA: Shape = Shape {
    family: Family::Llama,
    hidden: 2048,
    layers: 22,
    heads: 32,
    kv_heads: 4,
    ffn: 5632,
    context: 2048,
    vocab: None,
    tied_head: false,
    seed: 0,
};

/// GPT-NeoX with the MLP four times as wide.
const fn pythia(hidden: usize, layers: usize, heads: usize) -> Shape {
    Shape {
        family: Family::GptNeox,
        hidden,
        layers,
        heads,
        kv_heads: heads,
        ffn: 4 * hidden,
        context: 2048,
        vocab: Some(50_304),
        tied_head: false,
        seed: 0,
    }
}

impl Shape {
    /// The shape that is taken where nothing is said.
    pub const DEFAULT: Self = TINYLLAMA;

    /// That of a model, by the config.json of its repository.
    pub fn of_model(name: &str) -> Option<Self> {
        Some(match name {
            "tinyllama-1.1b" => Self {
                vocab: Some(32_000),
                ..TINYLLAMA
            },
            "llama-3.2-1b" => Self {
                layers: 16,
                kv_heads: 8,
                ffn: 8192,
                context: 131_072,
                vocab: Some(128_256),
                tied_head: true,
                ..TINYLLAMA
            },
            "stablelm-2-1.6b" => Self {
                family: Family::StableLm,
                layers: 24,
                kv_heads: 32,
                context: 4096,
                vocab: Some(100_352),
                ..TINYLLAMA
            },
            "stablelm-2-12b" => Self {
                family: Family::StableLm12b,
                hidden: 5120,
                layers: 40,
                kv_heads: 8,
                ffn: 13_824,
                context: 4096,
                vocab: Some(100_352),
                ..TINYLLAMA
            },
            "pythia-70m" => pythia(512, 6, 8),
            "pythia-160m" => pythia(768, 12, 12),
            "pythia-410m" => pythia(1024, 24, 16),
            "pythia-1b" => pythia(2048, 16, 8),
            "pythia-1.4b" => pythia(2048, 24, 16),
            "pythia-2.8b" => pythia(2560, 32, 32),
            "pythia-6.9b" => Self {
                vocab: Some(50_432),
                ..pythia(4096, 32, 32)
            },
            _ => return None,
        })
    }

    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Dimensions of a head that are rotated.
    pub fn rotary_dims(&self) -> usize {
        match self.family {
            Family::Llama => self.head_dim(),
            _ => self.head_dim() / 4,
        }
    }
}

/// What a tensor's numbers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    Random(Format),
    /// F32, as of a norm's weight.
    Ones,
    /// F32, as of a bias.
    Zeros,
}

/// A tensor to be written.
pub struct Tensor {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub numbers: Numbers,
}

impl Tensor {
    pub fn format(&self) -> Format {
        match self.numbers {
            Numbers::Random(format) => format,
            Numbers::Ones | Numbers::Zeros => Format::F32,
        }
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of a row; none if it is no whole blocks.
    pub fn row_bytes(&self) -> Option<usize> {
        self.format().row_bytes(*self.shape.last()?)
    }
}

/// The tensors in file order with the formats that llama.cpp's quantizer gives them, and the file type's number
/// (`enum llama_ftype`).
pub fn tensors(
    shape: &Shape,
    tokens: usize,
    recipe: &str,
) -> Result<(u32, Vec<Tensor>), Box<dyn Error>> {
    let Recipe {
        file_type,
        base,
        high,
        head,
    } = Recipe::parse(recipe)?;
    let (family, hidden, ffn) = (shape.family, shape.hidden, shape.ffn);
    let kv = shape.head_dim() * shape.kv_heads;
    let layer_norms = family != Family::Llama;
    let neox = family == Family::GptNeox;
    let mut list = Vec::new();
    let mut add = |name: String, shape: &[usize], numbers| {
        list.push(Tensor {
            name,
            shape: shape.to_vec(),
            numbers,
        });
    };
    let table = if shape.tied_head { head } else { base };
    add(
        "token_embd.weight".into(),
        &[tokens, hidden],
        Numbers::Random(table),
    );
    for layer in 0..shape.layers {
        let mixed = if more_bits(layer, shape.layers) {
            high
        } else {
            base
        };
        let mut linear = |part: &str, rows, cols, format, biased| {
            let name = format!("blk.{layer}.{part}");
            add(
                format!("{name}.weight"),
                &[rows, cols],
                Numbers::Random(format),
            );
            if biased {
                add(format!("{name}.bias"), &[rows], Numbers::Zeros);
            }
        };
        if neox {
            linear("attn_qkv", hidden + 2 * kv, hidden, base, true);
        } else {
            let biased = family == Family::StableLm;
            linear("attn_q", hidden, hidden, base, biased);
            linear("attn_k", kv, hidden, base, biased);
            linear("attn_v", kv, hidden, mixed, biased);
            linear("ffn_gate", ffn, hidden, base, false);
        }
        linear("attn_output", hidden, hidden, base, neox);
        linear("ffn_up", ffn, hidden, base, neox);
        linear("ffn_down", hidden, ffn, mixed, neox);
        let mut norm = |part: &str, shape: &[usize], biased| {
            let name = format!("blk.{layer}.{part}");
            add(format!("{name}.weight"), shape, Numbers::Ones);
            if biased {
                add(format!("{name}.bias"), shape, Numbers::Zeros);
            }
        };
        norm("attn_norm", &[hidden], layer_norms);
        if family == Family::StableLm12b {
            norm("attn_q_norm", &[shape.heads, shape.head_dim()], false);
            norm("attn_k_norm", &[shape.kv_heads, shape.head_dim()], false);
        } else {
            norm("ffn_norm", &[hidden], layer_norms);
        }
    }
    add("output_norm.weight".into(), &[hidden], Numbers::Ones);
    if layer_norms {
        add("output_norm.bias".into(), &[hidden], Numbers::Zeros);
    }
    if !shape.tied_head {
        add(
            "output.weight".into(),
            &[tokens, hidden],
            Numbers::Random(head),
        );
    }
    Ok((file_type, list))
}
