//! Values of a GGUF file's metadata, read by key and kind.
//!
//! It owns the values only; what a key means is up to the reader (`models`, `tokenizer`).

/// A metadata value. Integers and floats of every width are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// u8, u16, u32, u64.
    U64(u64),
    /// i8, i16, i32, i64.
    I64(i64),
    /// f32, f64.
    F64(f64),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Values of one kind.
    Array(Vec<MetaValue>),
}

impl MetaValue {
    /// The value as an unsigned integer, whatever its width and sign; none if it is negative or not an integer.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U64(value) => Some(value),
            Self::I64(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The value as a signed integer; none if it is out of range or not an integer.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::U64(value) => i64::try_from(value).ok(),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a float; integers are converted.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::U64(value) => Some(value as f64),
            Self::I64(value) => Some(value as f64),
            Self::F64(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an array.
    pub fn as_array(&self) -> Option<&[MetaValue]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// What kind of value it is, for messages: "an integer", "text".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::U64(_) | Self::I64(_) => "an integer",
            Self::F64(_) => "a float",
            Self::Bool(_) => "a truth value",
            Self::Text(_) => "text",
            Self::Array(_) => "an array",
        }
    }
}
