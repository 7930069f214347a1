//! Intervals and errors of proportions: Wilson, stratified Wilson, lm-evaluation-harness's stderr, pass@k.

use super::Z95;

/// One stratum (an MMLU subject): how many questions were asked and how many answered right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stratum {
    /// Right answers.
    pub correct: usize,
    /// Questions.
    pub total: usize,
}

impl Stratum {
    fn rate(self) -> f64 {
        self.correct as f64 / self.total as f64
    }
}

/// Wilson's 95 % score interval of `correct` out of `total`; [0, 1] when nothing was asked.
///
/// E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
pub fn wilson95(correct: usize, total: usize) -> [f64; 2] {
    if total == 0 {
        return [0.0, 1.0];
    }
    wilson(correct as f64 / total as f64, total as f64)
}

/// 95 % interval of the overall rate (right answers by all questions) when the questions were drawn stratum by
/// stratum, as MMLU's are.
///
/// Wilson's interval with the effective sample size `p (1 - p) / v`, where `v` is the variance of a stratified
/// estimate, `sum (n_s / n)^2 p_s (1 - p_s) / (n_s - 1)` (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, section
/// 5.10), and the size is then reduced by `(z / t)^2` for the degrees of freedom left, `sum (n_s - 1)`, following
/// E. L. Korn and B. I. Graubard (1998), Survey Methodology 24, 193-201. Strata of a single question are pooled into
/// one (collapsed strata, Cochran section 5A.12). Where the estimated variance is zero, plain Wilson is used.
pub fn stratified_wilson95(strata: &[Stratum]) -> [f64; 2] {
    let (single, mut usable): (Vec<Stratum>, Vec<Stratum>) = strata
        .iter()
        .filter(|s| s.total > 0)
        .partition(|s| s.total == 1);
    if !single.is_empty() {
        usable.push(Stratum {
            correct: single.iter().map(|s| s.correct).sum(),
            total: single.len(),
        });
    }
    let correct: usize = usable.iter().map(|s| s.correct).sum();
    let total: usize = usable.iter().map(|s| s.total).sum();
    if total == 0 || usable.iter().any(|s| s.total < 2) {
        return wilson95(correct, total);
    }
    let n = total as f64;
    let p = correct as f64 / n;
    let variance: f64 = usable
        .iter()
        .map(|s| {
            let weight = s.total as f64 / n;
            weight * weight * s.rate() * (1.0 - s.rate()) / (s.total as f64 - 1.0)
        })
        .sum();
    if variance == 0.0 {
        return wilson95(correct, total);
    }
    let freedom: usize = usable.iter().map(|s| s.total - 1).sum();
    let shrink = Z95 / student_t95(freedom as f64);
    wilson(p, p * (1.0 - p) / variance * shrink * shrink)
}

/// 95 % interval of the mean rate of clusters that count alike, drawn from a population of such: HumanEval problems, each
/// with as many passing samples out of so many. Samples of one problem are alike, so it is the problems that count: more
/// samples of each narrow the interval only as far as they tell problems' rates more exactly.
///
/// Wilson's interval with the effective sample size `p (1 - p) / v`, where `v = s^2 / m` is the variance of the mean of
/// the `m` clusters' rates (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, section 9.3), reduced by `(z / t)^2` for
/// `m - 1` degrees of freedom (E. L. Korn and B. I. Graubard 1998, Survey Methodology 24, 193-201). With one sample each
/// it is plain Wilson; where all rates are equal, plain Wilson of `m`. Clusters of nothing do not count.
pub fn clustered_wilson95(clusters: &[Stratum]) -> [f64; 2] {
    let rates: Vec<f64> = clusters
        .iter()
        .filter(|c| c.total > 0)
        .map(|c| c.rate())
        .collect();
    let m = rates.len() as f64;
    if rates.is_empty() {
        return [0.0, 1.0];
    }
    let p = rates.iter().sum::<f64>() / m;
    let squares: f64 = rates.iter().map(|rate| (rate - p).powi(2)).sum();
    let single = clusters.iter().all(|c| c.total <= 1);
    if single || squares < 1e-12 || rates.len() < 2 {
        return wilson(p, m);
    }
    let variance = squares / (m - 1.0) / m;
    let shrink = Z95 / student_t95(m - 1.0);
    wilson(p, p * (1.0 - p) / variance * shrink * shrink)
}

/// Standard error of a rate as lm-evaluation-harness gives it for a subject: sample deviation over `sqrt(n)`.
/// `None` below two questions.
pub fn mean_stderr(stratum: Stratum) -> Option<f64> {
    (stratum.total >= 2)
        .then(|| (stratum.rate() * (1.0 - stratum.rate()) / (stratum.total as f64 - 1.0)).sqrt())
}

/// Standard error of a group as lm-evaluation-harness gives it (`pooled_sample_stderr`): the pooled sample variance
/// of its subjects over all its questions. `None` where a subject has a single question ("N/A" in the harness).
pub fn pooled_stderr(strata: &[Stratum]) -> Option<f64> {
    let total: usize = strata.iter().map(|s| s.total).sum();
    let asked = strata.iter().filter(|s| s.total > 0).count();
    if total <= asked || strata.iter().any(|s| s.total == 1) {
        return None;
    }
    let squares: f64 = strata
        .iter()
        .filter(|s| s.total > 0)
        .map(|s| s.total as f64 * s.rate() * (1.0 - s.rate()))
        .sum();
    Some((squares / (total - asked) as f64 / total as f64).sqrt())
}

/// Half of the width that a 95 % interval of `total` questions is expected to have at rate `p`: what a size of run
/// promises before it starts.
pub fn expected_half_width(total: usize, p: f64) -> f64 {
    let [lo, hi] = wilson(p, total.max(1) as f64);
    (hi - lo) / 2.0
}

/// Unbiased estimate of pass@k from `n` samples of which `c` pass: `1 - C(n - c, k) / C(n, k)`. `None` if `k` is 0 or
/// above `n`.
///
/// M. Chen et al. (2021), "Evaluating large language models trained on code", arXiv 2107.03374, equation 1.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    let miss: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - miss)
}

/// Mean of [`pass_at_k`] over problems: the figure of a run. `None` if there is no problem, or one with fewer than `k`
/// samples.
pub fn mean_pass_at_k(problems: &[Stratum], k: usize) -> Option<f64> {
    let sum = problems.iter().try_fold(0.0, |sum, problem| {
        Some(sum + pass_at_k(problem.total, problem.correct, k)?)
    })?;
    (!problems.is_empty()).then(|| sum / problems.len() as f64)
}

fn wilson(p: f64, n: f64) -> [f64; 2] {
    let z2 = Z95 * Z95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// Two-sided 95 % point of Student's t, by the expansion in 1/freedom of Abramowitz and Stegun 26.7.5 (four terms:
/// right to 3 decimals from 4 degrees of freedom on).
fn student_t95(freedom: f64) -> f64 {
    let z = Z95;
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    let g4 = (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5)
        - 1920.0 * z.powi(3)
        - 945.0 * z)
        / 92160.0;
    z + g1 / freedom + g2 / freedom.powi(2) + g3 / freedom.powi(3) + g4 / freedom.powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures agree to the digits in which their source gives them.
    fn near(got: f64, want: f64, digits: i32) {
        assert!(
            (got - want).abs() < 0.51 * 10f64.powi(-digits),
            "{got} is not {want} to {digits} digits"
        );
    }

    #[test]
    fn wilson_matches_newcombe() {
        // R. G. Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3.
        for (correct, total, lo, hi) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let got = wilson95(correct, total);
            near(got[0], lo, 4);
            near(got[1], hi, 4);
        }
        assert_eq!(wilson95(0, 0), [0.0, 1.0]);
        assert_eq!(wilson95(5, 5)[1], 1.0);
    }

    #[test]
    fn student_t_matches_tables() {
        // Any table of Student's t, two-sided 0.05.
        for (freedom, t) in [
            (4.0, 2.776),
            (10.0, 2.228),
            (30.0, 2.042),
            (90.0, 1.987),
            (1e9, 1.960),
        ] {
            near(student_t95(freedom), t, 3);
        }
    }

    #[test]
    fn one_stratum_is_nearly_plain_wilson() {
        let plain = wilson95(300, 1000);
        let strat = stratified_wilson95(&[Stratum {
            correct: 300,
            total: 1000,
        }]);
        near(strat[0], plain[0], 3);
        near(strat[1], plain[1], 3);
    }

    #[test]
    fn unlike_strata_narrow_the_interval_and_empty_ones_do_not_count() {
        let strata = [
            Stratum {
                correct: 90,
                total: 100,
            },
            Stratum {
                correct: 10,
                total: 100,
            },
            Stratum {
                correct: 0,
                total: 0,
            },
        ];
        let [lo, hi] = stratified_wilson95(&strata);
        let [plain_lo, plain_hi] = wilson95(100, 200);
        // The variance within is 0.09 / 99 / 2 against 0.25 / 200: the interval is 0.6 as wide.
        near((hi - lo) / (plain_hi - plain_lo), 0.60, 1);
        assert!(lo > plain_lo && hi < plain_hi);
    }

    #[test]
    fn degenerate_strata_fall_back() {
        let certain = [
            Stratum {
                correct: 3,
                total: 3,
            },
            Stratum {
                correct: 0,
                total: 3,
            },
        ];
        assert_eq!(stratified_wilson95(&certain), wilson95(3, 6));
        let singles = [
            Stratum {
                correct: 1,
                total: 1,
            },
            Stratum {
                correct: 0,
                total: 1,
            },
        ];
        let [lo, hi] = stratified_wilson95(&singles);
        assert!(lo >= 0.0 && hi <= 1.0 && lo < 0.5 && hi > 0.5);
        assert_eq!(stratified_wilson95(&[]), [0.0, 1.0]);
        assert_eq!(
            stratified_wilson95(&[Stratum {
                correct: 1,
                total: 1
            }]),
            wilson95(1, 1)
        );
    }

    #[test]
    fn stratified_interval_covers_as_often_as_it_says() {
        // 2000 simulated Quick runs: 10 subjects of 10 questions with rates from 0.1 to 0.7 (mean 0.4).
        let rates: Vec<f64> = (0..10).map(|s| 0.1 + 0.6 * f64::from(s) / 9.0).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut covered = 0;
        for _ in 0..2000 {
            let strata: Vec<Stratum> = rates
                .iter()
                .map(|&rate| Stratum {
                    correct: (0..10).filter(|_| uniform() < rate).count(),
                    total: 10,
                })
                .collect();
            let [lo, hi] = stratified_wilson95(&strata);
            covered += usize::from(lo <= 0.4 && 0.4 <= hi);
        }
        assert!(
            (1870..=1950).contains(&covered),
            "covered {covered} of 2000"
        );
    }

    #[test]
    fn stderr_is_the_harness_one() {
        // sample_stddev([1,1,1,0]) / sqrt(4) = 0.5 / 2.
        let a = Stratum {
            correct: 3,
            total: 4,
        };
        near(mean_stderr(a).expect("two questions"), 0.25, 12);
        assert_eq!(
            mean_stderr(Stratum {
                correct: 1,
                total: 1
            }),
            None
        );
        // pooled_sample_stderr([0.25, se_b], [4, 6]) evaluated in Python with se_b = sample_stddev/sqrt(6) of 2 of 6.
        let b = Stratum {
            correct: 2,
            total: 6,
        };
        near(
            pooled_stderr(&[a, b]).expect("pooled"),
            0.161_374_306_091_975_72,
            12,
        );
        let single = Stratum {
            correct: 1,
            total: 1,
        };
        assert_eq!(pooled_stderr(&[single]), None);
        assert_eq!(pooled_stderr(&[a, single]), None);
    }

    fn clusters(rates: &[(usize, usize)]) -> Vec<Stratum> {
        rates
            .iter()
            .map(|&(correct, total)| Stratum { correct, total })
            .collect()
    }

    #[test]
    fn one_sample_a_problem_is_plain_wilson_and_more_cannot_pretend_to_be_more_problems() {
        let single = clusters(&[(1, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1)]);
        assert_eq!(clustered_wilson95(&single), wilson95(2, 6));
        // Ten samples that all say the same are worth one: six problems, not sixty samples. Only the estimate of the
        // variance (m - 1) and the t of 5 degrees make it wider.
        let alike = clusters(&[(10, 10), (0, 10), (10, 10), (0, 10), (0, 10), (0, 10)]);
        let [lo, hi] = clustered_wilson95(&alike);
        let [plain_lo, plain_hi] = wilson95(2, 6);
        assert!(lo < plain_lo && hi > plain_hi && hi - lo < 1.3 * (plain_hi - plain_lo));
        // Problems of one rate: samples tell it well, and the interval is the one of as many problems at most.
        assert_eq!(clustered_wilson95(&clusters(&[(5, 10); 8])), wilson95(4, 8));
        assert_eq!(clustered_wilson95(&clusters(&[(0, 10); 8])), wilson95(0, 8));
        assert_eq!(clustered_wilson95(&[]), [0.0, 1.0]);
        assert_eq!(clustered_wilson95(&clusters(&[(0, 0)])), [0.0, 1.0]);
    }

    #[test]
    fn clustered_interval_covers_as_often_as_it_says() {
        // 2000 simulated runs of 40 problems, 5 samples each; problems' rates are uniform, so their mean is 0.5.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut covered, mut naive) = (0, 0);
        for _ in 0..2000 {
            let problems: Vec<Stratum> = (0..40)
                .map(|_| {
                    let rate = uniform();
                    Stratum {
                        correct: (0..5).filter(|_| uniform() < rate).count(),
                        total: 5,
                    }
                })
                .collect();
            let inside = |[lo, hi]: [f64; 2]| usize::from(lo <= 0.5 && 0.5 <= hi);
            covered += inside(clustered_wilson95(&problems));
            naive += inside(wilson95(problems.iter().map(|p| p.correct).sum(), 200));
        }
        assert!(
            (1870..=1950).contains(&covered),
            "covered {covered} of 2000"
        );
        assert!(naive < 1800, "samples are not independent: {naive}");
    }

    #[test]
    fn a_run_s_pass_at_k_is_the_mean_over_problems() {
        let problems = clusters(&[(3, 10), (0, 10), (10, 10)]);
        near(
            mean_pass_at_k(&problems, 1).expect("in range"),
            1.3 / 3.0,
            12,
        );
        let five = (1.0 - 21.0 / 252.0 + 1.0) / 3.0;
        near(mean_pass_at_k(&problems, 5).expect("in range"), five, 12);
        assert_eq!(mean_pass_at_k(&problems, 11), None);
        assert_eq!(mean_pass_at_k(&[], 1), None);
    }

    #[test]
    fn expected_widths_are_those_of_the_literature() {
        // Full MMLU +-0.7 points, 100 questions +-9, HumanEval +-4 at 9 %.
        near(expected_half_width(14042, 0.25), 0.0072, 4);
        near(expected_half_width(100, 0.3), 0.088, 3);
        near(expected_half_width(164, 0.09), 0.044, 3);
    }

    #[test]
    fn pass_at_k_is_the_binomial_ratio() {
        near(pass_at_k(10, 3, 1).expect("k in range"), 0.3, 12);
        // 1 - C(7,5)/C(10,5) = 1 - 21/252.
        near(
            pass_at_k(10, 3, 5).expect("k in range"),
            1.0 - 21.0 / 252.0,
            12,
        );
        assert_eq!(pass_at_k(10, 6, 5), Some(1.0));
        near(pass_at_k(10, 0, 5).expect("k in range"), 0.0, 12);
        assert_eq!(pass_at_k(10, 3, 11), None);
        assert_eq!(pass_at_k(10, 3, 0), None);
    }
}
