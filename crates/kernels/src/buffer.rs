//! Memory of packed weights: zeroed, aligned to cache lines, on huge pages where the system has them.

/// Bytes of a cache line, and of the widest vector.
pub(crate) const ALIGN: usize = 64;

/// Size from which huge pages are asked for: fewer page faults while packing, fewer misses of the page table later.
const HUGE: usize = 4 << 20;

/// A fixed number of bytes whose first is aligned to [`ALIGN`].
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes; pages are touched when written.
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = vec![0_u8; len + ALIGN];
        let skip = bytes.as_ptr().align_offset(ALIGN);
        let buffer = Self { bytes, skip, len };
        buffer.ask_for_huge_pages();
        buffer
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[cfg(target_os = "linux")]
    fn ask_for_huge_pages(&self) {
        const PAGE: usize = 4096;
        if self.bytes.len() < HUGE {
            return;
        }
        let skip = self.bytes.as_ptr().align_offset(PAGE);
        let len = (self.bytes.len() - skip) / PAGE * PAGE;
        // SAFETY: the range is whole pages inside `bytes`; the advice changes how they are backed, not what they hold.
        // Refusal is harmless.
        unsafe {
            libc::madvise(
                self.bytes.as_ptr().add(skip).cast_mut().cast(),
                len,
                libc::MADV_HUGEPAGE,
            );
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_for_huge_pages(&self) {}
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}
