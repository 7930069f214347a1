//! Reads the header of a GGUF file: metadata and the table of tensors; it reads no tensor data.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian. Every count,
//! length, offset and product is checked against the file before anything is allocated for it.

use std::collections::BTreeMap;

use billion_kernels::Format;

use super::{Entry, MetaValue, Parsed};

pub(super) const MAGIC: &[u8] = b"GGUF";

/// Of ggml (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// Of ggml (`GGUF_DEFAULT_ALIGNMENT`).
const DEFAULT_ALIGNMENT: u64 = 32;
/// No writer aligns to more than a large page.
const MAX_ALIGNMENT: u64 = 1 << 21;
/// Arrays of arrays, at most.
const MAX_DEPTH: u32 = 4;
/// Metadata values in a file, elements of arrays included. A vocabulary of 256 thousand tokens with its scores, types
/// and merges has about 1.3 million.
const MAX_VALUES: u64 = 4 << 20;
/// Key length, its smallest bytes, kind: what a metadata entry takes at least.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// Name length, dimension count, one dimension, type, offset: what a tensor's line takes at least.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// Why a file that does not start with the magic is not read.
pub(super) fn not_gguf(bytes: &[u8]) -> String {
    let found: String = bytes
        .iter()
        .take(4)
        .flat_map(|&byte| std::ascii::escape_default(byte))
        .map(char::from)
        .collect();
    format!(
        "not a model that Billion reads: a GGUF file starts with \"GGUF\", this one with \"{found}\"; expected a .gguf \
         or .safetensors file, or a folder of safetensors"
    )
}

/// Parses a whole file. The error is the problem, without the path.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut reader = Reader {
        bytes,
        at: 0,
        values: 0,
    };
    reader.take(4, "the magic")?;
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if version.swap_bytes() <= 16 => {
            return Err(
                "a big-endian GGUF file; get the little-endian version of the model".to_owned(),
            );
        }
        _ => {
            return Err(format!(
                "GGUF version {version} is not read; versions 2 and 3 are: convert the file or get a newer one"
            ));
        }
    }
    let tensors = reader.count("tensor", MIN_TENSOR_BYTES)?;
    let entries = reader.count("metadata entry", MIN_ENTRY_BYTES)?;
    let mut parsed = Parsed::default();
    for index in 0..entries {
        let key = reader.text(&format!("the key of metadata entry {index}"))?;
        let kind = reader.u32(&format!("the kind of metadata entry {key:?}"))?;
        let value = reader.value(kind, &key, 0)?;
        if parsed.metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata entry {key:?} is there twice; {DAMAGED}"));
        }
    }
    let alignment = alignment(&parsed.metadata)?;

    let mut table: Vec<(String, Line)> = Vec::new();
    for index in 0..tensors {
        let name = reader.text(&format!("the name of tensor {index}"))?;
        let line = reader.line(&name)?;
        if line.offset % alignment != 0 {
            return Err(format!(
                "tensor {name}: offset {} is no multiple of the alignment {alignment}; {DAMAGED}",
                line.offset
            ));
        }
        table.push((name, line));
    }
    let header_end = reader.at as u64;
    let data_start = header_end.next_multiple_of(alignment);

    table.sort_by_key(|(_, line)| line.offset);
    let file_bytes = bytes.len() as u64;
    let mut previous: Option<(&str, u64)> = None;
    for (name, line) in &table {
        let end = data_start
            .checked_add(line.offset)
            .and_then(|start| start.checked_add(line.len))
            .ok_or_else(|| {
                format!(
                    "tensor {name}: offset {} is too large; {DAMAGED}",
                    line.offset
                )
            })?;
        if end > file_bytes {
            return Err(format!(
                "the file is truncated: tensor {name} ends at byte {end}, the file has {file_bytes}; download it again"
            ));
        }
        if let Some((before, before_end)) = previous
            && before_end > line.offset
        {
            return Err(format!(
                "tensor {name} starts at byte {} of the data, inside tensor {before}, which ends at {before_end}; \
                 {DAMAGED}",
                line.offset
            ));
        }
        previous = Some((name, line.offset + line.len));
    }
    for (name, line) in table {
        let entry = Entry {
            map: 0,
            start: (data_start + line.offset) as usize,
            len: line.len as usize,
            shape: line.shape,
            format: Ok(line.format),
        };
        if parsed.tensors.insert(name.clone(), entry).is_some() {
            return Err(format!("tensor {name} is there twice; {DAMAGED}"));
        }
    }
    Ok(parsed)
}

const DAMAGED: &str = "the file is damaged, download it again";

/// A tensor's line in the table.
struct Line {
    shape: Vec<usize>,
    format: Format,
    /// From the start of the data.
    offset: u64,
    len: u64,
}

fn alignment(metadata: &BTreeMap<String, MetaValue>) -> Result<u64, String> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.as_u64() {
        Some(alignment) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => {
            Ok(alignment)
        }
        _ => Err(format!(
            "general.alignment is {value:?}; expected a power of two, at most {MAX_ALIGNMENT}; {DAMAGED}"
        )),
    }
}

/// Reads forward through the file; every read names what it is for.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Metadata values so far.
    values: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], String> {
        let left = (self.bytes.len() - self.at) as u64;
        if len > left {
            return Err(format!(
                "the file is truncated or damaged: {what} takes {len} bytes at byte {}, the file has {}; download it \
                 again",
                self.at,
                self.bytes.len()
            ));
        }
        let start = self.at;
        self.at += len as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("take gives as many bytes as asked"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things of at least `min_bytes` each, which must fit into the rest of the file.
    fn count(&mut self, what: &str, min_bytes: u64) -> Result<u64, String> {
        let count = self.u64(&format!("the {what} count"))?;
        let left = (self.bytes.len() - self.at) as u64;
        if count > left / min_bytes {
            return Err(format!(
                "the file is truncated or damaged: a {what} count of {count} takes at least {min_bytes} bytes each, but \
                 {left} bytes follow and the file has {}; download it again",
                self.bytes.len()
            ));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let at = self.at;
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(format!(
                "{what} is not valid UTF-8 (at byte {}); {DAMAGED}",
                at + 8 + error.valid_up_to()
            )),
        }
    }

    /// A value of `kind` (`enum gguf_type`) of the entry `key`.
    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<MetaValue, String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!(
                "more than {MAX_VALUES} metadata values, in entry {key:?}; the file is damaged or not a language model"
            ));
        }
        // Formatting a description for each of a million tokens would cost more than reading them.
        let what = "a metadata value";
        let named = |problem: String| format!("metadata entry {key:?}: {problem}");
        Ok(match kind {
            0 => MetaValue::U64(u8::from_le_bytes(self.array(what).map_err(named)?).into()),
            1 => MetaValue::I64(i8::from_le_bytes(self.array(what).map_err(named)?).into()),
            2 => MetaValue::U64(u16::from_le_bytes(self.array(what).map_err(named)?).into()),
            3 => MetaValue::I64(i16::from_le_bytes(self.array(what).map_err(named)?).into()),
            4 => MetaValue::U64(u32::from_le_bytes(self.array(what).map_err(named)?).into()),
            5 => MetaValue::I64(i32::from_le_bytes(self.array(what).map_err(named)?).into()),
            6 => MetaValue::F64(f32::from_le_bytes(self.array(what).map_err(named)?).into()),
            7 => match self.array(what).map_err(named)? {
                [0] => MetaValue::Bool(false),
                [1] => MetaValue::Bool(true),
                [other] => {
                    return Err(named(format!(
                        "a truth value is {other}; expected 0 or 1; {DAMAGED}"
                    )));
                }
            },
            8 => MetaValue::Text(self.text("a text").map_err(named)?),
            9 => {
                if depth == MAX_DEPTH {
                    return Err(named(format!(
                        "arrays nested more than {MAX_DEPTH} deep; {DAMAGED}"
                    )));
                }
                let kind = self.u32("an array's kind").map_err(named)?;
                let min_bytes = min_bytes(kind).ok_or_else(|| named(unknown_kind(kind)))?;
                let count = self.count("value", min_bytes).map_err(named)?;
                if count > MAX_VALUES - self.values {
                    return Err(named(format!(
                        "an array of {count} values; at most {MAX_VALUES} are read; {DAMAGED}"
                    )));
                }
                let mut values = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    values.push(self.value(kind, key, depth + 1)?);
                }
                MetaValue::Array(values)
            }
            10 => MetaValue::U64(self.u64(what).map_err(named)?),
            11 => MetaValue::I64(i64::from_le_bytes(self.array(what).map_err(named)?)),
            12 => MetaValue::F64(f64::from_le_bytes(self.array(what).map_err(named)?)),
            _ => return Err(named(unknown_kind(kind))),
        })
    }

    /// What follows a tensor's name.
    fn line(&mut self, name: &str) -> Result<Line, String> {
        let what = format!("the description of tensor {name}");
        let dims = self.u32(&what)?;
        if dims == 0 || dims > MAX_DIMS {
            return Err(format!(
                "tensor {name} has {dims} dimensions; expected 1 to {MAX_DIMS}; {DAMAGED}"
            ));
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            shape.push(self.u64(&what)?);
        }
        // GGUF counts from the innermost dimension.
        shape.reverse();
        let number = self.u32(&what)?;
        let offset = self.u64(&what)?;
        let format = Format::from_ggml(number).ok_or_else(|| unknown_type(name, number))?;
        if shape.contains(&0) {
            return Err(format!(
                "tensor {name} is empty: its shape is {shape:?}; {DAMAGED}"
            ));
        }
        let too_large = || format!("tensor {name}: shape {shape:?} is too large; {DAMAGED}");
        let [outer @ .., cols] = &shape[..] else {
            unreachable!("a shape has at least one dimension");
        };
        let rows = outer
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
            .ok_or_else(too_large)?;
        rows.checked_mul(*cols).ok_or_else(too_large)?;
        let cols = usize::try_from(*cols).map_err(|_| too_large())?;
        if !cols.is_multiple_of(format.block_elems()) {
            return Err(format!(
                "tensor {name}: rows of {cols} numbers are no whole {format} blocks of {}; {DAMAGED}",
                format.block_elems()
            ));
        }
        let len = format
            .row_bytes(cols)
            .and_then(|row| rows.checked_mul(row as u64))
            .ok_or_else(too_large)?;
        let shape = shape
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| too_large()))
            .collect::<Result<_, _>>()?;
        Ok(Line {
            shape,
            format,
            offset,
            len,
        })
    }
}

/// Bytes that a value of `kind` takes at least; none if the kind is unknown.
fn min_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => return None,
    })
}

fn unknown_kind(kind: u32) -> String {
    format!("unknown kind of value {kind}; the file is damaged or of a newer format")
}

fn unknown_type(tensor: &str, number: u32) -> String {
    let known = Format::ALL.map(Format::name).join(", ");
    // enum ggml_type of ggml.h, those that Billion does not run.
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => {
            return format!(
                "tensor {tensor} has the unknown type {number}: the file is damaged, or newer than this version of \
                 Billion; it reads {known}"
            );
        }
    };
    format!(
        "tensor {tensor} is stored as {name}, which Billion does not run; get the model in one of {known}"
    )
}
