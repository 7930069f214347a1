//! Memory for kernels: zeroed, aligned to cache lines; packed weights on huge pages where the system has them.
//!
//! A model's matrices take from some hundred kilobytes to some megabytes, so a huge page seldom fits into one of them alone.
//! On Linux they are laid side by side in slabs of 64 MB, which are huge pages throughout: fewer page faults while packing, and
//! fewer misses of the page table when every weight is read for every token.

/// Bytes of a cache line, and of the widest vector.
pub(crate) const ALIGN: usize = 64;

/// A fixed number of bytes whose first is aligned to [`ALIGN`].
pub(crate) struct Buffer {
    place: Place,
    len: usize,
}

/// Where they lie.
enum Place {
    Heap(heap::Place),
    #[cfg(target_os = "linux")]
    Slab(slab::Place),
}

impl Buffer {
    /// `len` zero bytes of weights, which stay; pages are touched when written.
    pub(crate) fn of_weights(len: usize) -> Self {
        #[cfg(target_os = "linux")]
        let place = Place::Slab(slab::Place::zeroed(len));
        #[cfg(not(target_os = "linux"))]
        let place = Place::Heap(heap::Place::zeroed(len));
        Self { place, len }
    }

    /// `len` zero bytes that are soon given back.
    pub(crate) fn scratch(len: usize) -> Self {
        let place = Place::Heap(heap::Place::zeroed(len));
        Self { place, len }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    const fn start(&self) -> *mut u8 {
        match &self.place {
            Place::Heap(place) => place.start(),
            #[cfg(target_os = "linux")]
            Place::Slab(place) => place.start(),
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a place has `len` initialised bytes, which live as long as it and belong to it alone.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
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
        /// The slab that this thread fills. Two models that one thread packs may share one, which lives as long as either.
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
            let whole = len.checked_next_multiple_of(HUGE);
            let whole = whole.and_then(|whole| whole.checked_add(HUGE));
            let Some(len) = whole.filter(|whole| isize::try_from(*whole).is_ok()) else {
                panic!("{len} bytes are more than memory has addresses");
            };
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
            if len > SLAB {
                let slab = Arc::new(Mapping::new(len));
                // SAFETY: the start of a mapping is not null.
                let start = unsafe { NonNull::new_unchecked(slab.huge_start()) };
                return Self {
                    start,
                    _slab: Some(slab),
                };
            }
            CURRENT.with_borrow_mut(|current| {
                let (slab, at) = match current.slab.upgrade() {
                    Some(slab) if len <= slab.room() - current.used => (slab, current.used),
                    _ => (Arc::new(Mapping::new(SLAB)), 0),
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

    /// Writes all of each and reads all of the others: whatever overlaps shows.
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
            24 << 20,
            40 << 20,
        ];
        for scratch in [false, true] {
            let make = |len| {
                if scratch {
                    Buffer::scratch(len)
                } else {
                    Buffer::of_weights(len)
                }
            };
            let mut buffers: Vec<Buffer> = sizes.map(make).into();
            for (buffer, size) in buffers.iter().zip(sizes) {
                assert_eq!(buffer.len(), size);
                assert!(size == 0 || (buffer.as_ptr() as usize).is_multiple_of(ALIGN));
                assert!(buffer.iter().all(|byte| *byte == 0));
            }
            for (i, buffer) in buffers.iter_mut().enumerate() {
                buffer.fill(i as u8 + 1);
            }
            let hold = |i: usize, buffer: &Buffer| buffer.iter().all(|byte| *byte == i as u8 + 1);
            assert!(
                buffers
                    .iter()
                    .enumerate()
                    .all(|(i, buffer)| hold(i, buffer))
            );
            // Given back one by one, from here and from another thread, they neither free nor change what is left.
            while let Some(last) = buffers.pop() {
                assert!(hold(buffers.len(), &last));
                std::thread::spawn(move || drop(last))
                    .join()
                    .expect("no panic");
                assert!(make(1000).iter().all(|byte| *byte == 0));
            }
        }
    }
}
