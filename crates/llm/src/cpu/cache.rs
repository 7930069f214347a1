//! Sequences and the pages that hold their keys and values.
//!
//! Pages are counted references: a fork shares them all, and a page is copied when a sequence is about to write into one
//! that another also holds. It owns no page layout (`billion_kernels::attention`) and computes nothing.

use super::adapted::Adapted;
use super::memory;
use crate::decoder::{DecodeError, SeqId};
use billion_kernels::attention::{KvShape, PAGE_TOKENS, Page};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One open sequence: `pages.len()` is always `len / PAGE_TOKENS` rounded up, but for a pass under way.
struct Sequence {
    id: SeqId,
    pages: Vec<Arc<Page>>,
    len: usize,
    /// What its keys and values are computed with.
    adapter: Option<Arc<Adapted>>,
}

/// All open sequences of a decoder.
pub(super) struct Cache {
    shape: KvShape,
    sequences: Vec<Sequence>,
    next_id: u32,
    /// Pages allocated for a pass and not yet handed out.
    fresh: Vec<Page>,
}

impl Cache {
    pub(super) const fn new(shape: KvShape) -> Self {
        Self {
            shape,
            sequences: Vec::new(),
            next_id: 0,
            fresh: Vec::new(),
        }
    }

    pub(super) const fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Bytes of one page.
    pub(super) fn page_bytes(&self) -> usize {
        self.shape.page_bytes().unwrap_or(usize::MAX)
    }

    /// Bytes of all pages, shared ones counted once.
    pub(super) fn bytes(&self) -> usize {
        let pages = self.sequences.iter().flat_map(|s| &s.pages);
        let distinct: BTreeSet<_> = pages.map(Arc::as_ptr).collect();
        distinct.len() * self.page_bytes()
    }

    fn find(&self, seq: SeqId) -> Result<usize, DecodeError> {
        self.sequences
            .iter()
            .position(|s| s.id == seq)
            .ok_or_else(|| DecodeError::Invalid(format!("sequence {} is not open", seq.0)))
    }

    fn insert(
        &mut self,
        pages: Vec<Arc<Page>>,
        len: usize,
        adapter: Option<Arc<Adapted>>,
    ) -> Result<SeqId, DecodeError> {
        let id = SeqId(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| {
            DecodeError::Backend("too many sequences were opened; load the model again".to_owned())
        })?;
        self.sequences.push(Sequence {
            id,
            pages,
            len,
            adapter,
        });
        Ok(id)
    }

    pub(super) fn open(&mut self, adapter: Option<Arc<Adapted>>) -> Result<SeqId, DecodeError> {
        self.insert(Vec::new(), 0, adapter)
    }

    pub(super) fn is_open(&self, seq: SeqId) -> bool {
        self.find(seq).is_ok()
    }

    pub(super) fn len(&self, seq: SeqId) -> usize {
        self.find(seq).map_or(0, |at| self.sequences[at].len)
    }

    /// Shares the pages of the first `len` tokens; a partly filled one is copied by whoever writes into it first.
    pub(super) fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        let from = &self.sequences[self.find(seq)?];
        check_len(from, len)?;
        let pages = from.pages[..len.div_ceil(PAGE_TOKENS)].to_vec();
        let adapter = from.adapter.clone();
        self.insert(pages, len, adapter)
    }

    pub(super) fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        let at = self.find(seq)?;
        let sequence = &mut self.sequences[at];
        check_len(sequence, len)?;
        sequence.pages.truncate(len.div_ceil(PAGE_TOKENS));
        sequence.len = len;
        Ok(())
    }

    pub(super) fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|s| s.id != seq);
    }

    /// Makes room for the new tokens of open sequences, each named once, and makes sure that nobody shares the pages that
    /// they go to. On an error nothing has changed.
    pub(super) fn reserve(
        &mut self,
        runs: impl Iterator<Item = (SeqId, usize)> + Clone,
    ) -> Result<(), DecodeError> {
        let mut needed = 0;
        for (seq, add) in runs.clone() {
            let sequence = &self.sequences[self.find(seq)?];
            let full = (sequence.len + add).div_ceil(PAGE_TOKENS);
            // Two forks that share a partly filled page may both write in this pass: one copy too many is harmless.
            needed += full - sequence.pages.len() + usize::from(writes_into_shared(sequence));
        }
        let bytes = needed.saturating_mul(self.page_bytes());
        memory::check(
            "the keys and values of these tokens",
            bytes,
            "use a shorter context or fewer sequences",
        )
        .map_err(DecodeError::Backend)?;
        for _ in 0..needed {
            match Page::new(&self.shape) {
                Ok(page) => self.fresh.push(page),
                Err(error) => {
                    self.fresh.clear();
                    return Err(DecodeError::Backend(error.to_string()));
                }
            }
        }
        for (seq, add) in runs {
            let at = self.find(seq)?;
            let sequence = &mut self.sequences[at];
            if writes_into_shared(sequence)
                && let Some(last) = sequence.pages.last_mut()
                && let Some(mut copy) = self.fresh.pop()
            {
                copy.copy_from(last);
                *last = Arc::new(copy);
            }
            while sequence.pages.len() * PAGE_TOKENS < sequence.len + add
                && let Some(page) = self.fresh.pop()
            {
                sequence.pages.push(Arc::new(page));
            }
        }
        self.fresh.clear();
        Ok(())
    }

    /// (number of the sequence's page table, tokens held) of an open sequence.
    pub(super) fn table(&self, seq: SeqId) -> (usize, usize) {
        let at = self
            .find(seq)
            .expect("the pass was checked: its sequences are open");
        (at, self.sequences[at].len)
    }

    /// The adapter that a sequence was opened with.
    pub(super) fn adapter(&self, table: usize) -> Option<&Arc<Adapted>> {
        self.sequences[table].adapter.as_ref()
    }

    pub(super) fn pages(&self, table: usize) -> &[Arc<Page>] {
        &self.sequences[table].pages
    }

    pub(super) fn pages_mut(&mut self, table: usize) -> &mut [Arc<Page>] {
        &mut self.sequences[table].pages
    }

    /// Every page table at once, in order of their numbers.
    pub(super) fn all_pages_mut(&mut self) -> impl Iterator<Item = &mut [Arc<Page>]> {
        self.sequences.iter_mut().map(|s| &mut s.pages[..])
    }

    /// Counts tokens that a pass has written.
    pub(super) fn advance(&mut self, seq: SeqId, add: usize) {
        if let Ok(at) = self.find(seq) {
            self.sequences[at].len += add;
        }
    }
}

/// The next token goes into a page that another sequence holds too.
fn writes_into_shared(sequence: &Sequence) -> bool {
    !sequence.len.is_multiple_of(PAGE_TOKENS)
        && sequence
            .pages
            .last()
            .is_some_and(|page| Arc::strong_count(page) > 1)
}

fn check_len(sequence: &Sequence, len: usize) -> Result<(), DecodeError> {
    if len > sequence.len {
        return Err(DecodeError::Invalid(format!(
            "the first {len} tokens of sequence {}, which holds {}",
            sequence.id.0, sequence.len
        )));
    }
    Ok(())
}
