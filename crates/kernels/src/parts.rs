//! A slice that the chunks of one pool run write into, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// Borrows a slice mutably and lends disjoint parts of it to several threads.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Parts` only hands out disjoint parts (the contract of `part`), as `&mut [T]` split by `split_at_mut` would.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above; it holds nothing but the borrow.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// The first of `len` numbers from `start` on, for writing to some of them.
    ///
    /// # Safety
    /// Nobody else may use what is written meanwhile, and the caller forms no slice of the range: other parts lie in it.
    ///
    /// # Panics
    /// If the range is outside the slice.
    pub(crate) unsafe fn start_of(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: the range is inside the borrowed slice.
        unsafe { self.start.add(start) }
    }

    /// The part `range`.
    ///
    /// # Safety
    /// No two parts that overlap may be alive at once.
    ///
    /// # Panics
    /// If the range is outside the slice.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range is inside the borrowed slice, and the caller keeps parts disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
