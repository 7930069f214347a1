//! Chooses the next token from a row of logits: greedy, or drawn after penalty, top-k, top-p, min-p and temperature.
//!
//! The order is llama.cpp's default chain: repetition penalty, top-k, top-p, min-p, temperature, draw. It owns its small
//! random generator, so that a seed gives the same text on every platform and with every version of every dependency.

use super::RESERVED_TOKENS;
use std::cmp::Ordering;
use std::collections::HashMap;

/// How tokens are chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// 0 is greedy; otherwise logits are divided by it before the draw.
    pub temperature: f32,
    /// Keep the most likely `top_k` tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest tokens whose probabilities reach `top_p` (Holtzman et al. 2020); 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the most likely (Nguyen et al. 2024); 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens (Keskar et al. 2019); 1 is off.
    pub repetition_penalty: f32,
    /// How many of the last tokens, prompt included, the penalty looks at.
    pub repetition_window: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// Says which option is out of range, if one is.
    pub fn validate(&self) -> Result<(), String> {
        for (name, value, ok, range) in [
            (
                "temperature",
                self.temperature,
                self.temperature >= 0.0,
                "0 or more",
            ),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "above 0, at most 1",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "0 to 1",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0,
                "above 0",
            ),
        ] {
            if !ok || !value.is_finite() {
                return Err(format!("{name} is {value}; expected {range}"));
            }
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): one addition and three mixes a draw.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    logit: f32,
}

/// Draws tokens; holds the random state and buffers reused from token to token.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: SplitMix64,
    candidates: Vec<Candidate>,
    weights: Vec<f64>,
    seen: Vec<u32>,
}

/// Tokens and their probabilities, which add up to 1; a token that is not named has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution(Vec<(u32, f64)>);

impl Distribution {
    /// This token and no other.
    pub fn certain(token: u32) -> Self {
        Self(vec![(token, 1.0)])
    }

    /// Probability of a token.
    pub fn of(&self, token: u32) -> f64 {
        let named = self.0.iter().find(|(named, _)| *named == token);
        named.map_or(0.0, |(_, p)| *p)
    }

    /// The token at `unit`, uniform in [0, 1).
    pub fn draw(&self, unit: f64) -> u32 {
        let mut left = unit;
        for (token, p) in &self.0 {
            left -= p;
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding left a sliver; the last token that has any probability takes it.
        let last = self.0.iter().rev().find(|(_, p)| *p > 0.0);
        last.or(self.0.first()).map_or(0, |(token, _)| *token)
    }

    /// What is left of it above `other`, scaled to add up to 1: what a rejected draft is replaced from. Itself where rounding
    /// leaves nothing.
    #[must_use]
    pub fn above(&self, other: &Self) -> Self {
        let other: HashMap<u32, f64> = other.0.iter().copied().collect();
        let rest = self.0.iter().map(|&(t, p)| {
            let taken = other.get(&t).copied().unwrap_or(0.0);
            (t, (p - taken).max(0.0))
        });
        let rest: Vec<(u32, f64)> = rest.collect();
        let total: f64 = rest.iter().map(|(_, p)| p).sum();
        if total > 0.0 {
            Self(rest.into_iter().map(|(t, p)| (t, p / total)).collect())
        } else {
            self.clone()
        }
    }
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    pub fn new(options: SamplerOptions) -> Self {
        Self {
            options,
            random: SplitMix64(options.seed),
            candidates: Vec::new(),
            weights: Vec::new(),
            seen: Vec::with_capacity(if options.repetition_penalty == 1.0 {
                0
            } else {
                options.repetition_window.min(RESERVED_TOKENS)
            }),
        }
    }

    /// The next token after `history` (prompt and what was generated), from `logits` of shape (vocab_size).
    /// Equal logits go to the smaller id; NaN is never chosen unless nothing else is there.
    pub fn pick(&mut self, logits: &[f32], history: &[u32]) -> u32 {
        if self.options.temperature == 0.0 && self.options.repetition_penalty == 1.0 {
            return greedy(logits);
        }
        self.collect(logits, history);
        if self.options.temperature == 0.0 {
            return best(&self.candidates);
        }
        self.filter();
        let total: f64 = self.weights.iter().sum();
        let mut left = self.unit() * total;
        for (candidate, weight) in self.candidates.iter().zip(&self.weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding left a sliver beyond the last candidate, or all weights are zero.
        best(&self.candidates)
    }

    /// What `pick` draws from: every token that it can choose, with its probability.
    pub fn distribution(&mut self, logits: &[f32], history: &[u32]) -> Distribution {
        if self.options.temperature == 0.0 {
            return Distribution::certain(self.pick(logits, history));
        }
        self.collect(logits, history);
        self.filter();
        let total: f64 = self.weights.iter().sum();
        if total > 0.0 && total.is_finite() {
            let shares = self.candidates.iter().zip(&self.weights);
            Distribution(shares.map(|(c, w)| (c.token, w / total)).collect())
        } else {
            Distribution::certain(best(&self.candidates))
        }
    }

    /// The next random number, uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.random.unit()
    }

    /// Fills the candidates, with the penalty taken.
    fn collect(&mut self, logits: &[f32], history: &[u32]) {
        self.candidates.clear();
        self.candidates
            .extend(logits.iter().enumerate().map(|(token, &logit)| Candidate {
                token: token as u32,
                logit: if logit.is_nan() {
                    f32::NEG_INFINITY
                } else {
                    logit
                },
            }));
        if self.options.repetition_penalty != 1.0 {
            self.penalise(history);
        }
    }

    /// Keeps the candidates that pass every filter, with their weights at the temperature.
    fn filter(&mut self) {
        self.keep_top_k();
        self.softmax(1.0);
        self.keep_top_p();
        self.keep_min_p();
        self.softmax(f64::from(self.options.temperature));
    }

    fn penalise(&mut self, history: &[u32]) {
        let start = history.len().saturating_sub(self.options.repetition_window);
        self.seen.clear();
        self.seen.extend_from_slice(&history[start..]);
        self.seen.sort_unstable();
        self.seen.dedup();
        for &token in &self.seen {
            if let Some(candidate) = self.candidates.get_mut(token as usize) {
                if candidate.logit > 0.0 {
                    candidate.logit /= self.options.repetition_penalty;
                } else {
                    candidate.logit *= self.options.repetition_penalty;
                }
            }
        }
    }

    /// Sorts the candidates, most likely first, and drops all after the `top_k`-th.
    fn keep_top_k(&mut self) {
        let keep = match self.options.top_k {
            0 => self.candidates.len(),
            k => k.min(self.candidates.len()),
        };
        if keep < self.candidates.len() {
            self.candidates.select_nth_unstable_by(keep, by_likelihood);
            self.candidates.truncate(keep);
        }
        self.candidates.sort_unstable_by(by_likelihood);
    }

    /// Weights of the candidates relative to the most likely one, whose weight is 1.
    fn softmax(&mut self, temperature: f64) {
        let top = self.candidates.first().map_or(0.0, |c| f64::from(c.logit));
        self.weights.clear();
        self.weights.extend(
            self.candidates
                .iter()
                .map(|c| ((f64::from(c.logit) - top) / temperature).exp()),
        );
    }

    fn keep_top_p(&mut self) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let enough = f64::from(self.options.top_p) * self.weights.iter().sum::<f64>();
        let mut reached = 0.0;
        let keep = self
            .weights
            .iter()
            .position(|weight| {
                reached += weight;
                reached >= enough
            })
            .map_or(self.weights.len(), |last| last + 1);
        self.candidates.truncate(keep);
        self.weights.truncate(keep);
    }

    fn keep_min_p(&mut self) {
        let least = f64::from(self.options.min_p);
        let keep = self
            .weights
            .iter()
            .take_while(|&&weight| weight >= least)
            .count();
        self.candidates.truncate(keep.max(1));
    }
}

/// The most likely token; the smaller id if equal.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut token = 0;
    let mut top = f32::NEG_INFINITY;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > top {
            top = logit;
            token = i;
        }
    }
    token as u32
}

fn best(candidates: &[Candidate]) -> u32 {
    candidates
        .iter()
        .min_by(|a, b| by_likelihood(a, b))
        .map_or(0, |candidate| candidate.token)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "sorting calls it with references"
)]
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(options: SamplerOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.pick(logits, &[]) as usize] += 1;
        }
        counts
    }

    /// Every filter off, temperature 1.
    const PLAIN: SamplerOptions = SamplerOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        repetition_window: 64,
        seed: 7,
    };

    #[test]
    fn greedy_takes_the_highest_and_the_smaller_id_of_equals() {
        assert_eq!(greedy(&[0.5, 3.0, f32::NAN, 3.0, -1.0]), 1);
        assert_eq!(greedy(&[-5.0, -4.0]), 1);
        let mut sampler = Sampler::new(SamplerOptions::default());
        assert_eq!(sampler.pick(&[0.5, 3.0, 3.0], &[]), 1);
    }

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        // ln 4 apart: 4 to 1 at temperature 1, 2 to 1 at temperature 2.
        let logits = [4f32.ln(), 0.0];
        let n = 20_000;
        // Five standard deviations of a binomial share.
        let tolerance = |p: f64| 5.0 * (p * (1.0 - p) / n as f64).sqrt();
        for (temperature, p) in [(1.0, 0.8), (2.0, 2.0 / 3.0)] {
            let share = counts(
                SamplerOptions {
                    temperature,
                    ..PLAIN
                },
                &logits,
                n,
            )[0] as f64
                / n as f64;
            assert!(
                (share - p).abs() < tolerance(p),
                "temperature {temperature}: {share} vs {p}"
            );
        }
    }

    #[test]
    fn filters_drop_what_they_say() {
        // Probabilities 0.5, 0.25, 0.15, 0.07, 0.03 in shuffled order.
        let p = [0.15f32, 0.5, 0.03, 0.25, 0.07];
        let logits = p.map(f32::ln);
        let kept = |options| -> Vec<usize> {
            counts(options, &logits, 4000)
                .iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
                .map(|(i, _)| i)
                .collect()
        };
        assert_eq!(kept(PLAIN), [0, 1, 2, 3, 4]);
        assert_eq!(kept(SamplerOptions { top_k: 2, ..PLAIN }), [1, 3]);
        assert_eq!(
            kept(SamplerOptions {
                top_p: 0.8,
                ..PLAIN
            }),
            [0, 1, 3]
        );
        assert_eq!(
            kept(SamplerOptions {
                top_p: 0.74,
                ..PLAIN
            }),
            [1, 3]
        );
        assert_eq!(
            kept(SamplerOptions {
                min_p: 0.2,
                ..PLAIN
            }),
            [0, 1, 3]
        );
        assert_eq!(
            kept(SamplerOptions {
                min_p: 1.0,
                ..PLAIN
            }),
            [1]
        );
        assert_eq!(
            kept(SamplerOptions {
                top_k: 3,
                top_p: 0.6,
                min_p: 0.6,
                ..PLAIN
            }),
            [1]
        );
    }

    #[test]
    fn the_penalty_weakens_recent_tokens_of_either_sign_only() {
        let options = SamplerOptions {
            repetition_penalty: 2.0,
            repetition_window: 2,
            ..SamplerOptions::default()
        };
        let mut sampler = Sampler::new(options);
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.pick(&logits, &[]), 0);
        assert_eq!(sampler.pick(&logits, &[0]), 1);
        assert_eq!(sampler.pick(&logits, &[0, 1, 1]), 0, "outside the window");
        assert_eq!(
            sampler.pick(&[-1.0, -1.5, -9.0], &[0]),
            1,
            "a negative logit sinks"
        );
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        let draw = |seed| -> Vec<u32> {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..PLAIN });
            (0..40).map(|_| sampler.pick(&logits, &[])).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        // The generator itself: first outputs for seed 1234567, from the reference implementation.
        let mut random = SplitMix64(1234567);
        assert_eq!(
            [random.next(), random.next()],
            [6457827717110365317, 3203168211198807973]
        );
    }

    #[test]
    fn nonsense_options_are_refused_by_name() {
        let bad = SamplerOptions {
            top_p: 0.0,
            ..PLAIN
        };
        assert_eq!(
            bad.validate().unwrap_err(),
            "top_p is 0; expected above 0, at most 1"
        );
        let bad = SamplerOptions {
            temperature: f32::NAN,
            ..PLAIN
        };
        assert!(
            bad.validate()
                .unwrap_err()
                .starts_with("temperature is NaN")
        );
        assert!(PLAIN.validate().is_ok());
    }
}
