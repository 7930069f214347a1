//! Memory of packed weights: zeroed, aligned to cache lines, on huge pages where the system has them.
//!
//! A model's matrices take from some hundred kilobytes to some megabytes, so a huge page seldom fits into one of them alone.
//! On Linux they are laid side by side in slabs of [`SLAB`] bytes, which are huge pages throughout: fewer page faults while
//! packing, and fewer misses of the page table when every weight is read for every token.

/// Bytes of a cache line, and of the widest vector.
pub(crate) const ALIGN: usize = 64;

#[cfg(not(target_os = "linux"))]
use heap::Place;
#[cfg(target_os = "linux")]
use slab::Place;

/// A fixed number of bytes whose first is aligned to [`ALIGN`].
pub(crate) struct Buffer {
    place: Place,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes; pages are touched when written.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self {
            place: Place::zeroed(len),
            len,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a place has `len` initialised bytes, which live as long as it and belong to it alone.
        unsafe { std::slice::from_raw_parts(self.place.start(), self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.place.start(), self.len) }
    }
}

/// Parts of anonymous mappings.
#[cfg(target_os = "linux")]
mod slab {
    use super::ALIGN;
    use std::cell::RefCell;
    use std::ptr::NonNull;
    use std::sync::{Arc, Weak};

    /// Bytes of a slab; larger places get a slab of their own.
    const SLAB: usize = 64 << 20;

    /// Bytes of a huge page on x86-64 and most aarch64 systems.
    const HUGE: usize = 2 << 20;

    thread_local! {
        /// The slab that this thread fills: a model is packed by one thread, so models do not keep each other's slabs alive.
        static CURRENT: RefCell<Filling> = const { RefCell::new(Filling { slab: Weak::new(), used: 0 }) };
    }

    struct Filling {
        slab: Weak<Mapping>,
        used: usize,
    }

    /// An anonymous mapping: zeros until written.
    struct Mapping {
        start: NonNull<u8>,
        len: usize,
    }

    // SAFETY: it only owns addresses; who may use which bytes is the places' business.
    unsafe impl Send for Mapping {}
    // SAFETY: as above.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        /// At least `len` bytes from a huge page's start on, backed by huge pages if the system is willing.
        fn new(len: usize) -> Self {
            let len = len.next_multiple_of(HUGE) + HUGE;
            // SAFETY: a new private mapping at an address of the system's choice touches nothing that exists.
            let start = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            let start = NonNull::new(start.cast::<u8>());
            let Some(start) = start.filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)
            else {
                let layout = std::alloc::Layout::array::<u8>(len);
                std::alloc::handle_alloc_error(layout.unwrap_or(std::alloc::Layout::new::<u8>()));
            };
            let mapping = Self { start, len };
            // SAFETY: the range lies in the mapping; the advice changes how it is backed, not what it holds. Refusal is harmless.
            unsafe {
                libc::madvise(mapping.huge_start().cast(), len - HUGE, libc::MADV_HUGEPAGE);
            }
            mapping
        }

        fn huge_start(&self) -> *mut u8 {
            let skip = self.start.as_ptr().align_offset(HUGE);
            self.start.as_ptr().wrapping_add(skip)
        }

        /// Bytes from `huge_start` on.
        const fn room(&self) -> usize {
            self.len - HUGE
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the mapping is this value's own, and no place that holds it is left.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }

    /// Bytes of a slab that belong to one buffer.
    pub(super) struct Place {
        start: NonNull<u8>,
        /// Keeps the bytes; none where there are none.
        _slab: Option<Arc<Mapping>>,
    }

    // SAFETY: a place's bytes are its own, as a vector's are.
    unsafe impl Send for Place {}
    // SAFETY: as above; shared references only read.
    unsafe impl Sync for Place {}

    impl Place {
        pub(super) fn zeroed(len: usize) -> Self {
            if len == 0 {
                return Self {
                    start: NonNull::dangling(),
                    _slab: None,
                };
            }
            CURRENT.with_borrow_mut(|current| {
                let (slab, at) = match current.slab.upgrade() {
                    Some(slab) if len <= slab.room() - current.used => (slab, current.used),
                    _ => (Arc::new(Mapping::new(len.max(SLAB))), 0),
                };
                // SAFETY: `len` bytes from `at` on lie in the slab, as was just checked or made so.
                let start = unsafe { NonNull::new_unchecked(slab.huge_start().add(at)) };
                *current = Filling {
                    slab: Arc::downgrade(&slab),
                    used: (at + len).next_multiple_of(ALIGN).min(slab.room()),
                };
                Self {
                    start,
                    _slab: Some(slab),
                }
            })
        }

        pub(super) const fn start(&self) -> *mut u8 {
            self.start.as_ptr()
        }
    }
}

/// The allocator's memory.
#[cfg(not(target_os = "linux"))]
mod heap {
    use super::ALIGN;

    pub(super) struct Place {
        bytes: std::ptr::NonNull<u8>,
        layout: std::alloc::Layout,
    }

    // SAFETY: a place's bytes are its own, as a vector's are.
    unsafe impl Send for Place {}
    // SAFETY: as above; shared references only read.
    unsafe impl Sync for Place {}

    impl Place {
        pub(super) fn zeroed(len: usize) -> Self {
            let layout = std::alloc::Layout::from_size_align(len.max(1), ALIGN)
                .unwrap_or_else(|_| panic!("{len} bytes are more than memory has addresses"));
            // SAFETY: the layout is not empty.
            let bytes = unsafe { std::alloc::alloc_zeroed(layout) };
            let Some(bytes) = std::ptr::NonNull::new(bytes) else {
                std::alloc::handle_alloc_error(layout);
            };
            Self { bytes, layout }
        }

        pub(super) const fn start(&self) -> *mut u8 {
            self.bytes.as_ptr()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { std::alloc::dealloc(self.bytes.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_apart() {
        let sizes = [
            0,
            1,
            63,
            64,
            65,
            3 << 20,
            5,
            (70 << 20) + 3,
            40 << 20,
            40 << 20,
        ];
        let mut buffers: Vec<Buffer> = sizes.map(Buffer::zeroed).into();
        for (buffer, size) in buffers.iter().zip(sizes) {
            assert_eq!(
                (buffer.len(), buffer.as_ptr() as usize % ALIGN * size.min(1)),
                (size, 0)
            );
            assert!(
                buffer
                    .iter()
                    .step_by(4093)
                    .chain(buffer.last())
                    .all(|byte| *byte == 0)
            );
        }
        for (i, buffer) in buffers.iter_mut().enumerate() {
            let ends = buffer.len().saturating_sub(1);
            if let Some(first) = buffer.first_mut() {
                *first = i as u8 + 1;
                buffer[ends] = i as u8 + 1;
            }
        }
        // Dropping some neither frees nor changes what the others hold; what comes next is zero again.
        buffers.retain(|buffer| buffer.len() != 65 && buffer.len() != 1);
        let next = Buffer::zeroed(1000);
        assert!(next.iter().all(|byte| *byte == 0));
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            let number = sizes.iter().position(|size| *size == buffer.len());
            let number = number.expect("one of them") as u8 + 1;
            let both = [buffer[0], buffer[buffer.len() - 1]];
            assert!(both == [number; 2] || buffer.len() == 40 << 20 && both == [number + 1; 2]);
        }
    }
}
