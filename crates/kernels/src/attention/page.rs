//! A page of cached keys and values: a fixed number of tokens, all layers.
//!
//! In a page each layer and each key-value head has its keys transposed, (head_dim, tokens), so that the scores of
//! adjacent tokens are adjacent lanes, then its values, (tokens, padded head_dim). It owns the layout, not who shares a page.

/// Tokens of a page.
pub const PAGE_TOKENS: usize = 32;

/// Values are padded to this many numbers, so that kernels have no tails.
const PAD: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// IEEE half floats; larger magnitudes are held at 65504.
    F16,
    /// As computed.
    F32,
}

impl KvFormat {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The heads of a decoder and how their cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, at most [`super::MAX_HEAD_DIM`].
    pub head_dim: usize,
    /// Keys' and values' format.
    pub format: KvFormat,
}

impl KvShape {
    /// Stored width of a value.
    pub(super) const fn value_width(&self) -> usize {
        self.head_dim.next_multiple_of(PAD)
    }

    /// Numbers of one head at one layer: keys, then values.
    const fn head_len(&self) -> usize {
        PAGE_TOKENS * (self.head_dim + self.value_width())
    }

    /// Offset in a page of the keys of a head, in numbers.
    pub(super) const fn keys_at(&self, layer: usize, kv_head: usize) -> usize {
        (layer * self.kv_heads + kv_head) * self.head_len()
    }

    /// Offset in a page of the values of a head, in numbers.
    pub(super) const fn values_at(&self, layer: usize, kv_head: usize) -> usize {
        self.keys_at(layer, kv_head) + PAGE_TOKENS * self.head_dim
    }

    /// Bytes of a page; none if the size overflows.
    pub fn page_bytes(&self) -> Option<usize> {
        self.layers
            .checked_mul(self.kv_heads)?
            .checked_mul(self.head_dim.checked_next_multiple_of(PAD)? + self.head_dim)?
            .checked_mul(PAGE_TOKENS * self.format.bytes())
    }
}

/// Why there is no new page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes of key-value cache")]
pub struct PageError {
    /// Bytes asked for.
    pub bytes: usize,
}

/// Bytes of a cache line, the unit of a page's memory: keeps rows of lanes from straddling lines.
const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// [`PAGE_TOKENS`] tokens of keys and values, all layers and heads.
pub struct Page {
    lines: Vec<Line>,
    bytes: usize,
}

impl Page {
    /// An empty page.
    pub fn new(shape: &KvShape) -> Result<Self, PageError> {
        let bytes = shape.page_bytes().ok_or(PageError { bytes: usize::MAX })?;
        let mut lines = Vec::new();
        let count = bytes.div_ceil(LINE);
        lines
            .try_reserve_exact(count)
            .map_err(|_| PageError { bytes })?;
        lines.resize(count, Line([0; LINE]));
        Ok(Self { lines, bytes })
    }

    /// Copies all of `other`, a page of the same shape.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn copy_from(&mut self, other: &Self) {
        self.lines.copy_from_slice(&other.lines);
    }

    /// Bytes of its shape.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it was made for this shape (or one of the same size).
    pub(super) fn fits(&self, shape: &KvShape) -> bool {
        shape.page_bytes() == Some(self.bytes)
    }

    pub(super) fn start(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    pub(super) fn start_mut(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}
