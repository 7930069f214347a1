//! Writes a Llama of a given size with random weights as a GGUF file, for measuring speed and memory at full size.
//!
//!     cargo run --release -p billion-llm --example random_model -- OUT.gguf FORMAT [NAME=NUMBER...] [tokenizer=FILE.gguf]
//!
//! FORMAT is q4_0, q8_0, q4_k_m or f16, mixed over the tensors as llama.cpp's quantizer does. NAME is hidden, layers,
//! heads, kv_heads, ffn, context or seed; the default is the 1.17B shape of TinyLlama with a vocabulary of 49152 tokens.
//! The tokenizer is copied from another GGUF file (the starter model), so that llama.cpp's llama-bench and Billion both
//! load the result. Blocks are drawn directly, not quantized from floats: the text is noise, the work is real.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use billion_kernels::Format;
use billion_llm::weights::{MetaValue, Weights};

/// Standard deviation of the weights: outputs of a 2048 wide layer stay near 1.
const SPREAD: f32 = 0.02;
const ALIGNMENT: usize = 32;

struct Shape {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    context: usize,
    seed: usize,
}

struct Tensor {
    name: String,
    rows: usize,
    cols: usize,
    /// None: a norm's weight, all ones.
    format: Option<Format>,
}

impl Tensor {
    fn bytes(&self) -> usize {
        let format = self.format.unwrap_or(Format::F32);
        self.rows
            * format
                .row_bytes(self.cols)
                .expect("rows were checked to be whole blocks")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(out), Some(recipe)) = (args.next(), args.next()) else {
        return Err("usage: random_model OUT.gguf q4_0|q8_0|q4_k_m|f16 [NAME=NUMBER...] [tokenizer=FILE.gguf]".into());
    };
    let mut shape = Shape {
        hidden: 2048,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        ffn: 5632,
        context: 2048,
        seed: 0,
    };
    let mut tokenizer = PathBuf::from("starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
    for arg in args {
        let (name, value) = arg
            .split_once('=')
            .ok_or(format!("{arg}: expected NAME=VALUE"))?;
        if name == "tokenizer" {
            tokenizer = value.into();
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
    let tokens = source
        .metadata("tokenizer.ggml.tokens")
        .and_then(MetaValue::as_array)
        .ok_or("the tokenizer file has no tokenizer.ggml.tokens")?
        .len();
    let (file_type, tensors) = tensors(&shape, tokens, &recipe)?;
    for tensor in &tensors {
        if tensor
            .format
            .unwrap_or(Format::F32)
            .row_bytes(tensor.cols)
            .is_none()
        {
            return Err(format!(
                "{}: rows of {} are no whole blocks",
                tensor.name, tensor.cols
            )
            .into());
        }
    }
    write(Path::new(&out), &shape, &source, file_type, &tensors)?;
    let parameters: usize = tensors.iter().map(|tensor| tensor.rows * tensor.cols).sum();
    let bytes = std::fs::metadata(&out)?.len();
    println!("{out}: {parameters} parameters, {bytes} bytes");
    Ok(())
}

/// llama.cpp's `use_more_bits` (llama-quant.cpp): the first and last eighth of the layers, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// The tensors in file order with the formats that llama.cpp's quantizer gives them, and the file type's number
/// (`enum llama_ftype`).
fn tensors(
    shape: &Shape,
    tokens: usize,
    recipe: &str,
) -> Result<(u32, Vec<Tensor>), Box<dyn Error>> {
    let (file_type, base, high) = match recipe {
        "f16" => (1, Format::F16, Format::F16),
        "q4_0" => (2, Format::Q4_0, Format::Q4_0),
        "q8_0" => (7, Format::Q8_0, Format::Q8_0),
        "q4_k_m" => (15, Format::Q4_K, Format::Q6_K),
        _ => return Err(format!("{recipe}: expected q4_0, q8_0, q4_k_m or f16").into()),
    };
    let head = match base {
        Format::F16 | Format::Q8_0 => base,
        _ => Format::Q6_K,
    };
    let kv = shape.hidden / shape.heads * shape.kv_heads;
    let (hidden, ffn) = (shape.hidden, shape.ffn);
    let mut list = Vec::new();
    let mut add = |name: String, rows, cols, format| {
        list.push(Tensor {
            name: format!("{name}.weight"),
            rows,
            cols,
            format,
        });
    };
    add("token_embd".into(), tokens, hidden, Some(base));
    for layer in 0..shape.layers {
        let mixed = if more_bits(layer, shape.layers) {
            high
        } else {
            base
        };
        let name = |part: &str| format!("blk.{layer}.{part}");
        add(name("attn_norm"), 1, hidden, None);
        add(name("attn_q"), hidden, hidden, Some(base));
        add(name("attn_k"), kv, hidden, Some(base));
        add(name("attn_v"), kv, hidden, Some(mixed));
        add(name("attn_output"), hidden, hidden, Some(base));
        add(name("ffn_norm"), 1, hidden, None);
        add(name("ffn_gate"), ffn, hidden, Some(base));
        add(name("ffn_up"), ffn, hidden, Some(base));
        add(name("ffn_down"), hidden, ffn, Some(mixed));
    }
    add("output_norm".into(), 1, hidden, None);
    add("output".into(), tokens, hidden, Some(head));
    Ok((file_type, list))
}

fn write(
    path: &Path,
    shape: &Shape,
    source: &Weights,
    file_type: u32,
    tensors: &[Tensor],
) -> Result<(), Box<dyn Error>> {
    let count = |number: usize| MetaValue::U64(number as u64);
    let text = |text: &str| MetaValue::Text(text.to_owned());
    let mut entries = vec![
        ("general.architecture", text("llama")),
        ("general.name", text("random weights")),
        ("general.file_type", MetaValue::U64(file_type.into())),
        ("general.quantization_version", count(2)),
        ("llama.context_length", count(shape.context)),
        ("llama.embedding_length", count(shape.hidden)),
        ("llama.block_count", count(shape.layers)),
        ("llama.feed_forward_length", count(shape.ffn)),
        ("llama.attention.head_count", count(shape.heads)),
        ("llama.attention.head_count_kv", count(shape.kv_heads)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            MetaValue::F64(1e-5),
        ),
        (
            "llama.rope.dimension_count",
            count(shape.hidden / shape.heads),
        ),
        ("llama.rope.freq_base", MetaValue::F64(10_000.0)),
    ];
    for key in source
        .metadata_keys()
        .filter(|key| key.starts_with("tokenizer."))
    {
        let value = source.metadata(key).expect("the key was just listed");
        entries.push((key, value.clone()));
    }

    let mut header = b"GGUF".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in &entries {
        push_text(&mut header, key);
        header.extend(kind(value).to_le_bytes());
        push_value(&mut header, value)?;
    }
    let mut offset = 0usize;
    for tensor in tensors {
        push_text(&mut header, &tensor.name);
        let dims: &[usize] = if tensor.format.is_none() {
            &[tensor.cols]
        } else {
            &[tensor.cols, tensor.rows]
        };
        header.extend((dims.len() as u32).to_le_bytes());
        for &dim in dims {
            header.extend((dim as u64).to_le_bytes());
        }
        let format = tensor.format.unwrap_or(Format::F32);
        header.extend(format.ggml_type().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&header)?;
    let mut random = Random(shape.seed as u64);
    for tensor in tensors {
        match tensor.format {
            None => {
                for _ in 0..tensor.cols {
                    out.write_all(&1f32.to_le_bytes())?;
                }
            }
            Some(format) => {
                let mut row = vec![0; format.row_bytes(tensor.cols).expect("checked by main")];
                for _ in 0..tensor.rows {
                    random.fill(&mut row);
                    for block in row.chunks_exact_mut(format.block_bytes()) {
                        scale(format, block);
                    }
                    out.write_all(&row)?;
                }
            }
        }
        let bytes = tensor.bytes();
        out.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    out.flush()?;
    Ok(())
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

/// `enum gguf_type` of a value, at the width that llama.cpp expects of it.
fn kind(value: &MetaValue) -> u32 {
    match value {
        MetaValue::U64(_) => 4,
        MetaValue::I64(_) => 5,
        MetaValue::F64(_) => 6,
        MetaValue::Bool(_) => 7,
        MetaValue::Text(_) => 8,
        MetaValue::Array(_) => 9,
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &MetaValue) -> Result<(), Box<dyn Error>> {
    match value {
        MetaValue::U64(value) => out.extend(u32::try_from(*value)?.to_le_bytes()),
        MetaValue::I64(value) => out.extend(i32::try_from(*value)?.to_le_bytes()),
        MetaValue::F64(value) => out.extend((*value as f32).to_le_bytes()),
        MetaValue::Bool(value) => out.push(u8::from(*value)),
        MetaValue::Text(text) => push_text(out, text),
        MetaValue::Array(values) => {
            out.extend(values.first().map_or(4, kind).to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            for value in values {
                push_value(out, value)?;
            }
        }
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let len = chunk.len();
            chunk.copy_from_slice(&self.next().to_le_bytes()[..len]);
        }
    }
}
