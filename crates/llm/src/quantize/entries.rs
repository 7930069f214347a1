//! Metadata of a GGUF file to be written: built key by key, or carried over byte for byte from another file.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. It knows no keys' meaning.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::Error;
use crate::weights::MetaValue;

/// `enum gguf_type`.
const I32: u32 = 5;
const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A metadata value of one of the kinds that model files hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// Kind and value as they lie in another file.
    Copied(Vec<u8>),
}

impl Value {
    /// As a reader of files gives it; none if it was copied without looking.
    pub fn meta(&self) -> Option<MetaValue> {
        Some(match self {
            Self::U32(value) => MetaValue::U64((*value).into()),
            Self::F32(value) => MetaValue::F64((*value).into()),
            Self::Bool(value) => MetaValue::Bool(*value),
            Self::Text(text) => MetaValue::Text(text.clone()),
            Self::Texts(texts) => {
                MetaValue::Array(texts.iter().cloned().map(MetaValue::Text).collect())
            }
            Self::F32s(values) => MetaValue::Array(
                values
                    .iter()
                    .map(|&value| MetaValue::F64(value.into()))
                    .collect(),
            ),
            Self::I32s(values) => MetaValue::Array(
                values
                    .iter()
                    .map(|&value| MetaValue::I64(value.into()))
                    .collect(),
            ),
            Self::Copied(_) => return None,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        let array = |out: &mut Vec<u8>, of: u32, len: usize| {
            kind(out, ARRAY);
            kind(out, of);
            out.extend((len as u64).to_le_bytes());
        };
        match self {
            Self::U32(value) => {
                kind(out, U32);
                out.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                kind(out, F32);
                out.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                kind(out, BOOL);
                out.push(u8::from(*value));
            }
            Self::Text(value) => {
                kind(out, TEXT);
                text(out, value);
            }
            Self::Texts(values) => {
                array(out, TEXT, values.len());
                for value in values {
                    text(out, value);
                }
            }
            Self::F32s(values) => {
                array(out, F32, values.len());
                for value in values {
                    out.extend(value.to_le_bytes());
                }
            }
            Self::I32s(values) => {
                array(out, I32, values.len());
                for value in values {
                    out.extend(value.to_le_bytes());
                }
            }
            Self::Copied(bytes) => out.extend(bytes),
        }
    }
}

/// Length and bytes, as GGUF has texts.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Keys and values in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Vec<(String, Value)>);

impl Entries {
    /// Sets a key; one that is there keeps its place.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.set(key, Value::Text(value.into()));
    }

    pub fn u32(&mut self, key: impl Into<String>, value: usize) {
        self.set(key, Value::U32(u32::try_from(value).unwrap_or(u32::MAX)));
    }

    pub fn f32(&mut self, key: impl Into<String>, value: f32) {
        self.set(key, Value::F32(value));
    }

    pub fn bool(&mut self, key: impl Into<String>, value: bool) {
        self.set(key, Value::Bool(value));
    }

    /// Drops the keys for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    pub fn extend(&mut self, other: Self) {
        for (key, value) in other.0 {
            self.set(key, value);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// As they lie in a file.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            text(out, key);
            value.write(out);
        }
    }

    /// Those of a GGUF file, byte for byte. The file has been opened and checked before.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let mut reader = Walk {
            file: BufReader::new(file),
            kept: Vec::new(),
        };
        reader.entries().map_err(read)
    }
}

/// Walks over the head of a file and keeps what it passes.
struct Walk {
    file: BufReader<File>,
    kept: Vec<u8>,
}

impl Walk {
    fn entries(&mut self) -> std::io::Result<Entries> {
        // Magic and version, tensors, entries.
        self.bytes(8)?;
        self.u64()?;
        let count = self.u64()?;
        let mut entries = Entries::default();
        for _ in 0..count {
            let len = self.u64()?;
            self.kept.clear();
            self.bytes(len)?;
            let key = String::from_utf8(std::mem::take(&mut self.kept))
                .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
            let kind = self.u32()?;
            self.value(kind, 0)?;
            // Kind and value; the length that came before the key is gone.
            entries
                .0
                .push((key, Value::Copied(std::mem::take(&mut self.kept))));
        }
        Ok(entries)
    }

    fn value(&mut self, kind: u32, depth: u32) -> std::io::Result<()> {
        match kind {
            0 | 1 | 7 => self.bytes(1),
            2 | 3 => self.bytes(2),
            4..=6 => self.bytes(4),
            8 => {
                let len = self.u64()?;
                self.bytes(len)
            }
            10..=12 => self.bytes(8),
            9 if depth < 4 => {
                let kind = self.u32()?;
                for _ in 0..self.u64()? {
                    self.value(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("a metadata value of the unknown kind {kind}"),
            )),
        }
    }

    fn bytes(&mut self, len: u64) -> std::io::Result<()> {
        let read = self.file.by_ref().take(len).read_to_end(&mut self.kept)?;
        if read as u64 == len {
            Ok(())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn u32(&mut self) -> std::io::Result<u32> {
        self.bytes(4)?;
        let bytes = self.kept.last_chunk().expect("four bytes were kept");
        Ok(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> std::io::Result<u64> {
        self.bytes(8)?;
        let bytes = self.kept.last_chunk().expect("eight bytes were kept");
        Ok(u64::from_le_bytes(*bytes))
    }
}
