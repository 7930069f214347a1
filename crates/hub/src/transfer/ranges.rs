//! A set of byte ranges: what is there of a file, and what is missing.

/// Disjoint, non-touching, sorted ranges `from..to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `from..to`.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        // Every range that touches the new one becomes part of it.
        let first = self.0.partition_point(|&(_, end)| end < from);
        let last = self.0.partition_point(|&(start, _)| start <= to);
        let (mut start, mut end) = (from, to);
        if first < last {
            start = start.min(self.0[first].0);
            end = end.max(self.0[last - 1].1);
        }
        self.0.splice(first..last, [(start, end)]);
    }

    /// Takes `from..to` out.
    pub(crate) fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for &(start, end) in &self.0 {
            if start < from.min(end) {
                left.push((start, from.min(end)));
            }
            if to.max(start) < end {
                left.push((to.max(start), end));
            }
        }
        self.0 = left;
    }

    /// Bytes in the set.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// The end of what is there from byte `at` on without a gap; `at` itself if that byte is missing.
    pub(crate) fn end_from(&self, at: u64) -> u64 {
        let next = self.0.partition_point(|&(_, end)| end <= at);
        match self.0.get(next) {
            Some(&(start, end)) if start <= at => end,
            _ => at,
        }
    }

    /// The first byte from `at` on that is in the set; none if there is none.
    fn start_from(&self, at: u64) -> Option<u64> {
        let next = self.0.partition_point(|&(_, end)| end <= at);
        self.0.get(next).map(|&(start, _)| start.max(at))
    }

    /// The first stretch of `0..size` that is neither here nor in `taken`, at most `longest` long.
    pub(crate) fn first_gap(&self, taken: &Self, size: u64, longest: u64) -> Option<(u64, u64)> {
        let mut at = 0;
        loop {
            let after = taken.end_from(self.end_from(at));
            if after == at {
                break;
            }
            at = after;
        }
        if at >= size {
            return None;
        }
        let end = [self.start_from(at), taken.start_from(at)]
            .into_iter()
            .flatten()
            .fold(size, u64::min);
        Some((at, end.min(at.saturating_add(longest))))
    }

    /// The ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same set as a list of bytes that are there or not.
    fn plain(ranges: &Ranges, size: u64) -> Vec<bool> {
        (0..size)
            .map(|at| ranges.iter().any(|(from, to)| (from..to).contains(&at)))
            .collect()
    }

    #[test]
    fn sets_are_those_of_single_bytes() {
        let mut state = 12345u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut ranges = Ranges::default();
            let mut bytes = vec![false; 40];
            for _ in 0..12 {
                let (from, length, put) = (draw(40), draw(9), draw(3) > 0);
                let to = (from + length).min(40);
                if put {
                    ranges.insert(from, to);
                } else {
                    ranges.remove(from, to);
                }
                bytes[from as usize..to as usize].fill(put);
                assert_eq!(plain(&ranges, 40), bytes, "{ranges:?}");
                let sorted = ranges.0.windows(2).all(|w| w[0].1 < w[1].0);
                assert!(sorted && ranges.0.iter().all(|r| r.0 < r.1), "{ranges:?}");
                let at = draw(40) as usize;
                let end = (at..40).find(|&i| !bytes[i]).unwrap_or(40);
                assert_eq!(ranges.end_from(at as u64), end as u64);
                let gap = (0..40).find(|&i| !bytes[i]).map(|from| {
                    let to = (from..40).find(|&i| bytes[i]).unwrap_or(40);
                    (from as u64, to.min(from + 3) as u64)
                });
                assert_eq!(ranges.first_gap(&Ranges::default(), 40, 3), gap);
                assert_eq!(Ranges::default().first_gap(&ranges, 40, 3), gap);
            }
        }
    }
}
