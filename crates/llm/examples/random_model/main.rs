//! Writes a model of a given size with random weights as a GGUF file, for measuring speed and memory at full size.
//!
//!     cargo run --release -p billion-llm --example random_model -- OUT.gguf FORMAT [model=MODEL] [NAME=NUMBER...] [tokenizer=FILE.gguf]
//!
//! FORMAT is q4_0, q8_0, q4_k_m or f16, mixed over the tensors as llama.cpp's quantizer does. MODEL is one of the contenders
//! and their targets (`shape`); NAME is hidden, layers, heads, kv_heads, ffn, context, vocab or seed; the default is the
//! 1.17B shape of TinyLlama with a vocabulary of 49152 tokens. The tokenizer is copied from another GGUF file (the starter
//! model), cut or filled up to the vocabulary, so that llama.cpp's llama-bench and Billion both load the result. Blocks are
//! drawn directly, not quantized from floats: the text is noise, the work is real.

#[path = "../gguf_file/mod.rs"]
mod gguf_file;
mod shape;

use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use billion_kernels::Format;
use billion_llm::weights::{MetaValue, Weights};
use gguf_file::{ALIGNMENT, Line, Random, head};
use shape::{Family, Numbers, Shape, Tensor, tensors};

/// Standard deviation of the weights: outputs of a 2048 wide layer stay near 1.
const SPREAD: f32 = 0.02;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(out), Some(recipe)) = (args.next(), args.next()) else {
        return Err(
            "usage: random_model OUT.gguf q4_0|q8_0|q4_k_m|f16 [model=MODEL] [NAME=NUMBER...] \
                    [tokenizer=FILE.gguf]"
                .into(),
        );
    };
    let mut shape = Shape::DEFAULT;
    let mut tokenizer = PathBuf::from("starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
    for arg in args {
        let (name, value) = arg
            .split_once('=')
            .ok_or(format!("{arg}: expected NAME=VALUE"))?;
        if name == "tokenizer" {
            tokenizer = value.into();
            continue;
        }
        if name == "model" {
            shape = Shape::of_model(value).ok_or(format!("{value} is no model known by name"))?;
            continue;
        }
        if name == "vocab" {
            shape.vocab = Some(value.parse()?);
            continue;
        }
        let field = match name {
            "hidden" => &mut shape.hidden,
            "layers" => &mut shape.layers,
            "heads" => &mut shape.heads,
            "kv_heads" => &mut shape.kv_heads,
            "ffn" => &mut shape.ffn,
            "context" => &mut shape.context,
            "seed" => &mut shape.seed,
            _ => return Err(format!("{name} is no part of the shape").into()),
        };
        *field = value.parse()?;
    }
    let source = Weights::open(&tokenizer)?;
    let vocabulary = vocabulary(&source, shape.vocab)?;
    let tokens = vocabulary.tokens;
    let (file_type, tensors) = tensors(&shape, tokens, &recipe)?;
    for tensor in &tensors {
        if tensor.row_bytes().is_none() {
            return Err(format!("{}: its rows are no whole blocks", tensor.name).into());
        }
    }
    write(
        Path::new(&out),
        &shape,
        vocabulary.entries,
        file_type,
        &tensors,
    )?;
    let parameters: usize = tensors.iter().map(Tensor::elements).sum();
    let bytes = std::fs::metadata(&out)?.len();
    println!("{out}: {parameters} parameters, {bytes} bytes");
    Ok(())
}

/// A tokenizer's metadata.
struct Vocabulary {
    tokens: usize,
    entries: Vec<(String, MetaValue)>,
}

/// That of another file, of its first `size` tokens, or with made-up ones behind the last.
fn vocabulary(source: &Weights, size: Option<usize>) -> Result<Vocabulary, Box<dyn Error>> {
    let list = |key: &str| -> Result<Vec<MetaValue>, Box<dyn Error>> {
        let value = source.metadata(key).and_then(MetaValue::as_array);
        Ok(value
            .ok_or(format!("the tokenizer file has no {key}"))?
            .to_vec())
    };
    let (tokens_key, types_key, merges_key) = (
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
    );
    let (mut tokens, mut types, mut merges) =
        (list(tokens_key)?, list(types_key)?, list(merges_key)?);
    let size = size.unwrap_or(tokens.len());
    tokens.truncate(size);
    types.truncate(size);
    for number in tokens.len()..size {
        tokens.push(MetaValue::Text(format!("[PAD{number}]")));
        // Unused, as llama.cpp's converter has it.
        types.push(MetaValue::I64(5));
    }
    let known: HashSet<&str> = tokens.iter().filter_map(MetaValue::as_str).collect();
    merges.retain(|merge| {
        let pair = merge.as_str().and_then(|merge| merge.split_once(' '));
        pair.is_some_and(|(left, right)| {
            [left, right, &format!("{left}{right}")]
                .iter()
                .all(|token| known.contains(token))
        })
    });
    let mut entries = Vec::new();
    for key in source
        .metadata_keys()
        .filter(|key| key.starts_with("tokenizer."))
    {
        let value = match key {
            _ if key == tokens_key => MetaValue::Array(tokens.clone()),
            _ if key == types_key => MetaValue::Array(types.clone()),
            _ if key == merges_key => MetaValue::Array(merges.clone()),
            _ => source
                .metadata(key)
                .expect("the key was just listed")
                .clone(),
        };
        entries.push((key.to_owned(), value));
    }
    Ok(Vocabulary {
        tokens: size,
        entries,
    })
}

fn write(
    path: &Path,
    shape: &Shape,
    tokenizer: Vec<(String, MetaValue)>,
    file_type: u32,
    tensors: &[Tensor],
) -> Result<(), Box<dyn Error>> {
    let count = |number: usize| MetaValue::U64(number as u64);
    let text = |text: &str| MetaValue::Text(text.to_owned());
    let architecture = shape.family.architecture();
    let own = |key: &str| format!("{architecture}.{key}");
    let eps = match shape.family {
        Family::Llama => "attention.layer_norm_rms_epsilon",
        _ => "attention.layer_norm_epsilon",
    };
    let parallel = matches!(shape.family, Family::GptNeox | Family::StableLm12b);
    let mut entries = vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.name".to_owned(), text("random weights")),
        (
            "general.file_type".to_owned(),
            MetaValue::U64(file_type.into()),
        ),
        ("general.quantization_version".to_owned(), count(2)),
        (own("context_length"), count(shape.context)),
        (own("embedding_length"), count(shape.hidden)),
        (own("block_count"), count(shape.layers)),
        (own("feed_forward_length"), count(shape.ffn)),
        (own("attention.head_count"), count(shape.heads)),
        (own("attention.head_count_kv"), count(shape.kv_heads)),
        (own(eps), MetaValue::F64(1e-5)),
        (own("rope.dimension_count"), count(shape.rotary_dims())),
        (own("rope.freq_base"), MetaValue::F64(10_000.0)),
        (own("use_parallel_residual"), MetaValue::Bool(parallel)),
    ];
    entries.extend(tokenizer);

    let lines: Vec<Line<'_>> = tensors
        .iter()
        .map(|tensor| Line {
            name: &tensor.name,
            shape: &tensor.shape,
            format: tensor.format(),
        })
        .collect();
    let header = head(&entries, &lines)?;

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&header)?;
    let mut random = Random(shape.seed as u64);
    for tensor in tensors {
        match tensor.numbers {
            Numbers::Ones => {
                for _ in 0..tensor.elements() {
                    out.write_all(&1f32.to_le_bytes())?;
                }
            }
            Numbers::Zeros => out.write_all(&vec![0; bytes_of(tensor)])?,
            Numbers::Random(format) => {
                let mut row = vec![0; tensor.row_bytes().expect("checked by main")];
                for _ in 0..tensor.shape[0] {
                    random.fill(&mut row);
                    for block in row.chunks_exact_mut(format.block_bytes()) {
                        scale(format, block);
                    }
                    out.write_all(&row)?;
                }
            }
        }
        let bytes = bytes_of(tensor);
        out.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    out.flush()?;
    Ok(())
}

fn bytes_of(tensor: &Tensor) -> usize {
    let (_, outer) = tensor.shape.split_last().expect("every tensor has a shape");
    tensor.row_bytes().expect("checked by main") * outer.iter().product::<usize>()
}

/// Turns a block of random bytes into one whose numbers spread by `SPREAD` around about 0: the small integers stay
/// random, the scales are set. The divisors are the spread of the integers, scales of sub-blocks included.
fn scale(format: Format, block: &mut [u8]) {
    let uniform = f32::from(i16::from_le_bytes([block[0], block[1]])) / 32768.0;
    let mut set = |at: usize, value: f32| {
        block[at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
    };
    match format {
        // d, 32 x 4 bits less 8.
        Format::Q4_0 => set(0, SPREAD / 4.6),
        // d, 32 x i8.
        Format::Q8_0 => set(0, SPREAD / 74.0),
        // d, dmin, 8 scales and minima of 6 bits, 256 x 4 bits.
        Format::Q4_K => {
            let d = SPREAD / 258.0;
            set(0, d);
            set(2, 7.5 * d);
        }
        // 256 x 6 bits less 32, 16 scales of i8, d.
        Format::Q6_K => set(208, SPREAD / 1368.0),
        Format::F16 => set(0, uniform * SPREAD * 3f32.sqrt()),
        other => unreachable!("no recipe uses {other}"),
    }
}
