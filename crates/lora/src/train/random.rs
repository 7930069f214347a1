//! Random numbers that are a function of what they are for: the same seed, step and place give the same on every machine.

/// SplitMix64 (G. Steele, D. Lea, C. Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Starts from all of `keys`.
    pub fn new(keys: &[u64]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for key in keys {
            state = Self(state ^ *key).next();
        }
        Self(state)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to below 1, in steps of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// 0 to below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// The order in which an epoch takes `n` rows.
pub(super) fn order(seed: u64, epoch: u32, n: usize) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..n as u32).collect();
    let mut random = Random::new(&[seed, 0x0D, u64::from(epoch)]);
    for i in (1..n).rev() {
        rows.swap(i, random.below(i + 1));
    }
    rows
}

/// Multiplies each number of a row by 0 with probability `share`, by 1 / (1 - share) otherwise.
pub(super) fn drop_out(keys: &[u64], share: f32, row: &mut [f32]) {
    let mut random = Random::new(keys);
    let keep = 1.0 / (1.0 - share);
    let limit = (f64::from(share) * 4_294_967_296.0) as u32;
    for two in row.chunks_mut(2) {
        let bits = random.next();
        for (x, bits) in two.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
            *x *= if bits < limit { 0.0 } else { keep };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_hold_every_row_once_and_differ_by_epoch_and_seed() {
        let first = order(1, 0, 1000);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, row)| i as u32 == *row));
        assert_eq!(first, order(1, 0, 1000));
        assert!(first != order(1, 1, 1000) && first != order(2, 0, 1000));
        assert_eq!(order(3, 0, 1), [0]);
        assert!(order(3, 0, 0).is_empty());
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let mut row = vec![1.0; 100_001];
        drop_out(&[1, 2, 3], 0.3, &mut row);
        let kept = row.iter().filter(|x| **x != 0.0).count();
        assert!((kept as f64 / row.len() as f64 - 0.7).abs() < 0.01);
        assert!((row.iter().sum::<f32>() / row.len() as f32 - 1.0).abs() < 0.01);
    }
}
