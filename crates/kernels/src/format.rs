//! The number formats of weights: their block sizes and names, as ggml defines them (ggml.h, ggml-common.h).
//!
//! It holds sizes only; what the bytes mean is in `scalar`.

use std::fmt;

/// How the numbers of a tensor are stored: plain floats, or blocks of small integers with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are ggml's own")]
#[allow(non_camel_case_types, reason = "the names are ggml's own")]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// (elements, bytes) of a block, name, number in a GGUF file (`enum ggml_type`).
    const fn row(self) -> (usize, usize, &'static str, u32) {
        match self {
            Self::F32 => (1, 4, "F32", 0),
            Self::F16 => (1, 2, "F16", 1),
            Self::BF16 => (1, 2, "BF16", 30),
            Self::Q4_0 => (32, 18, "Q4_0", 2),
            Self::Q4_1 => (32, 20, "Q4_1", 3),
            Self::Q5_0 => (32, 22, "Q5_0", 6),
            Self::Q5_1 => (32, 24, "Q5_1", 7),
            Self::Q8_0 => (32, 34, "Q8_0", 8),
            Self::Q2_K => (256, 84, "Q2_K", 10),
            Self::Q3_K => (256, 110, "Q3_K", 11),
            Self::Q4_K => (256, 144, "Q4_K", 12),
            Self::Q5_K => (256, 176, "Q5_K", 13),
            Self::Q6_K => (256, 210, "Q6_K", 14),
        }
    }

    /// Numbers in a block.
    pub const fn block_elems(self) -> usize {
        self.row().0
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.row().1
    }

    /// Bytes of `cols` numbers; none if they are no whole blocks or the count overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_elems()) {
            return None;
        }
        (cols / self.block_elems()).checked_mul(self.block_bytes())
    }

    /// Name, as ggml spells it.
    pub const fn name(self) -> &'static str {
        self.row().2
    }

    /// Number in a GGUF file.
    pub const fn ggml_type(self) -> u32 {
        self.row().3
    }

    /// The format of a number in a GGUF file; none if this build does not know it.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.ggml_type() == number)
    }

    /// Blocks of small integers, not plain floats.
    pub const fn is_quantized(self) -> bool {
        self.block_elems() > 1
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
