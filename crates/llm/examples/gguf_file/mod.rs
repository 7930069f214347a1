//! What the examples that write models share: the head of a GGUF file, the formats of llama.cpp's recipes, random numbers.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Users' files are written by `billion_llm::quantize`.

#![allow(dead_code, reason = "each example uses its part")]

use std::error::Error;

use billion_kernels::Format;
use billion_llm::weights::MetaValue;

/// Of the data of each tensor (`GGUF_DEFAULT_ALIGNMENT`).
pub const ALIGNMENT: usize = 32;

/// A line of the table of tensors.
pub struct Line<'a> {
    pub name: &'a str,
    /// Outermost first.
    pub shape: &'a [usize],
    pub format: Format,
}

impl Line<'_> {
    /// Bytes of its data; none if its rows are no whole blocks.
    pub fn bytes(&self) -> Option<usize> {
        let (cols, outer) = self.shape.split_last()?;
        outer
            .iter()
            .try_fold(self.format.row_bytes(*cols)?, |bytes, &dim| {
                bytes.checked_mul(dim)
            })
    }
}

/// What comes before the numbers: magic, metadata, the table of tensors, filled up to the alignment.
pub fn head(
    entries: &[(String, MetaValue)],
    lines: &[Line<'_>],
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((lines.len() as u64).to_le_bytes());
    head.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        push_text(&mut head, key);
        head.extend(kind(value).to_le_bytes());
        push_value(&mut head, value)?;
    }
    let mut offset = 0usize;
    for line in lines {
        push_text(&mut head, line.name);
        head.extend((line.shape.len() as u32).to_le_bytes());
        // GGUF counts from the innermost dimension.
        for &dim in line.shape.iter().rev() {
            head.extend((dim as u64).to_le_bytes());
        }
        head.extend(line.format.ggml_type().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        let bytes = line.bytes().ok_or(format!(
            "{}: {:?} of {} are no whole blocks",
            line.name, line.shape, line.format
        ))?;
        offset += bytes.next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    Ok(head)
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

/// A mixture of formats as llama.cpp's quantizer has them.
#[derive(Clone, Copy)]
pub struct Recipe {
    /// `enum llama_ftype`.
    pub file_type: u32,
    /// Of most tensors.
    pub base: Format,
    /// Of those that get more bits.
    pub high: Format,
    /// Of the head, or of the embedding that is the head.
    pub head: Format,
}

impl Recipe {
    pub fn parse(name: &str) -> Result<Self, Box<dyn Error>> {
        let (file_type, base, high) = match name {
            "f32" => (0, Format::F32, Format::F32),
            "f16" => (1, Format::F16, Format::F16),
            "q4_0" => (2, Format::Q4_0, Format::Q4_0),
            "q8_0" => (7, Format::Q8_0, Format::Q8_0),
            "q4_k_m" => (15, Format::Q4_K, Format::Q6_K),
            _ => return Err(format!("{name}: expected q4_0, q8_0, q4_k_m, f16 or f32").into()),
        };
        let head = match base {
            Format::Q4_0 | Format::Q4_K => Format::Q6_K,
            _ => base,
        };
        Ok(Self {
            file_type,
            base,
            high,
            head,
        })
    }
}

/// llama.cpp's `use_more_bits` (llama-quant.cpp): the first and last eighth of the layers, and every third between.
pub fn more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// `SplitMix64` (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let len = chunk.len();
            chunk.copy_from_slice(&self.next().to_le_bytes()[..len]);
        }
    }

    /// Even numbers around 0 whose standard deviation is `spread`.
    pub fn fill_evenly(&mut self, numbers: &mut [f32], spread: f32) {
        let scale = spread * 3f32.sqrt() / 32768.0;
        for four in numbers.chunks_mut(4) {
            let bits = self.next();
            for (i, number) in four.iter_mut().enumerate() {
                *number = f32::from((bits >> (16 * i)) as i16) * scale;
            }
        }
    }

    /// Adds Gaussian numbers of standard deviation `spread` (Box and Muller 1958).
    pub fn add_gaussian(&mut self, numbers: &mut [f32], spread: f32) {
        let unit = |bits: u64| ((bits >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
        for pair in numbers.chunks_mut(2) {
            let radius = spread * (-2.0 * unit(self.next()).ln()).sqrt();
            let (sin, cos) = (std::f32::consts::TAU * unit(self.next())).sin_cos();
            for (number, part) in pair.iter_mut().zip([cos, sin]) {
                *number += radius * part;
            }
        }
    }
}
