//! Comparison of two models on the same questions: McNemar's test, the flips, and the verdict in words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Z95;

/// Differences with a mid-p value below this are called real.
const SIGNIFICANT: f64 = 0.05;

/// What the comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedVerdict {
    /// The first model is better.
    FirstBetter,
    /// The second model is better.
    SecondBetter,
    /// The difference could be chance.
    NotDistinguishable,
}

/// Two models on the questions that both answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Questions that both answered.
    pub total: usize,
    /// Questions that only the first got right.
    pub only_first: Vec<String>,
    /// Questions that only the second got right.
    pub only_second: Vec<String>,
    /// Rate of the first less rate of the second.
    pub difference: f64,
    /// 95 % interval of `difference`: A. Agresti and Y. Min (2005), Statistics in Medicine 24, 729-740.
    pub difference_ci95: [f64; 2],
    /// Two-sided exact McNemar p-value.
    pub p_exact: f64,
    /// Two-sided mid-p McNemar p-value: M. W. Fagerland, S. Lydersen and P. Laake (2013), BMC Medical Research
    /// Methodology 13:91, which recommends it. The verdict rests on this one.
    pub p_mid: f64,
    /// The verdict.
    pub verdict: PairedVerdict,
    /// The verdict in words, with its figures.
    pub text: String,
}

/// Compares two models by question key (`true` = right); keys that only one side has are left out. `None` if no
/// question is shared.
pub fn compare_paired(
    names: [&str; 2],
    first: &BTreeMap<String, bool>,
    second: &BTreeMap<String, bool>,
) -> Option<Comparison> {
    let mut total = 0;
    let mut right = [0usize; 2];
    let (mut only_first, mut only_second) = (Vec::new(), Vec::new());
    for (key, &a) in first {
        let Some(&b) = second.get(key) else { continue };
        total += 1;
        right[0] += usize::from(a);
        right[1] += usize::from(b);
        match (a, b) {
            (true, false) => only_first.push(key.clone()),
            (false, true) => only_second.push(key.clone()),
            _ => {}
        }
    }
    if total == 0 {
        return None;
    }
    let (b, c) = (only_first.len(), only_second.len());
    let (p_exact, p_mid) = mcnemar(b, c);
    let n = total as f64;
    let verdict = match b.cmp(&c) {
        _ if p_mid >= SIGNIFICANT => PairedVerdict::NotDistinguishable,
        std::cmp::Ordering::Greater => PairedVerdict::FirstBetter,
        _ => PairedVerdict::SecondBetter,
    };
    let figures = format!(
        "{:.1} % against {:.1} % on the same {total} questions; {b} only {} got right, {c} only {} did; mid-p {p_mid:.2}",
        100.0 * right[0] as f64 / n,
        100.0 * right[1] as f64 / n,
        names[0],
        names[1],
    );
    let text = match verdict {
        PairedVerdict::FirstBetter => {
            format!("{} is better than {}: {figures}", names[0], names[1])
        }
        PairedVerdict::SecondBetter => {
            format!("{} is better than {}: {figures}", names[1], names[0])
        }
        PairedVerdict::NotDistinguishable => {
            format!(
                "{} and {} cannot be told apart: {figures}",
                names[0], names[1]
            )
        }
    };
    Some(Comparison {
        total,
        difference: (b as f64 - c as f64) / n,
        difference_ci95: agresti_min(b as f64, c as f64, n),
        only_first,
        only_second,
        p_exact,
        p_mid,
        verdict,
        text,
    })
}

/// Exact and mid-p two-sided McNemar p-values of `b` flips against `c`.
fn mcnemar(b: usize, c: usize) -> (f64, f64) {
    let flips = b + c;
    let least = b.min(c);
    // Terms C(flips, i) / 2^flips by their logarithms, so that thousands of flips do not underflow on the way.
    let mut ln_term = -(flips as f64) * std::f64::consts::LN_2;
    let (mut tail, mut last) = (0.0, 0.0);
    for i in 0..=least {
        last = ln_term.exp();
        tail += last;
        ln_term += ((flips - i) as f64).ln() - ((i + 1) as f64).ln();
    }
    if b == c {
        return (1.0, 1.0 - last / 2.0);
    }
    ((2.0 * tail).min(1.0), 2.0 * tail - last)
}

/// Wald's interval after half a question is added to each of the four cells.
fn agresti_min(b: f64, c: f64, n: f64) -> [f64; 2] {
    let (b, c, n) = (b + 0.5, c + 0.5, n + 2.0);
    let centre = (b - c) / n;
    let half = Z95 * ((b + c) - (b - c) * (b - c) / n).sqrt() / n;
    [(centre - half).max(-1.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "{got} is not {want}");
    }

    #[test]
    fn p_values_match_the_literature_and_integer_arithmetic() {
        // Fagerland et al. 2013, airway hyper-responsiveness: 1 against 7 flips, exact 0.070, mid-p 0.039.
        let (exact, mid) = mcnemar(1, 7);
        near(exact, 0.070, 5e-4);
        near(mid, 0.039, 5e-4);
        // Sums of exact binomial coefficients evaluated with Python integers.
        for (b, c, want_exact, want_mid) in [
            (12, 5, 0.143_463_134_765_625, 0.096_252_441_406_25),
            (6, 16, 0.052_478_790_283_203_125, 0.034_689_664_840_698_24),
            (
                700,
                620,
                0.029_636_429_325_384_843,
                0.027_691_566_720_310_76,
            ),
        ] {
            let (exact, mid) = mcnemar(b, c);
            near(exact, want_exact, 1e-10);
            near(mid, want_mid, 1e-10);
            assert_eq!(mcnemar(c, b), (exact, mid));
        }
        // Equal flips: exact 1, mid-p 1 - C(6,3)/2^7.
        near(mcnemar(3, 3).1, 1.0 - 20.0 / 128.0, 1e-12);
        assert_eq!(mcnemar(0, 0).0, 1.0);
    }

    #[test]
    fn flips_are_listed_and_unshared_questions_left_out() {
        let first: BTreeMap<String, bool> = (0..12).map(|i| (format!("q{i:02}"), i != 0)).collect();
        let second: BTreeMap<String, bool> = (0..11)
            .map(|i| (format!("q{i:02}"), i == 0 || i == 1))
            .collect();
        let got = compare_paired(["a", "b"], &first, &second).expect("shared questions");
        assert_eq!(got.total, 11);
        assert_eq!(got.only_second, ["q00"]);
        assert_eq!(got.only_first.len(), 9);
        assert_eq!(got.verdict, PairedVerdict::FirstBetter);
        near(got.p_mid, 0.011_718_75, 1e-12);
        near(got.difference, 8.0 / 11.0, 1e-12);
        assert!(got.difference_ci95[0] < got.difference && got.difference < got.difference_ci95[1]);
        assert!(
            got.text
                .starts_with("a is better than b: 90.9 % against 18.2 %"),
            "{}",
            got.text
        );
        let turned = compare_paired(["b", "a"], &second, &first).expect("shared questions");
        assert_eq!(turned.verdict, PairedVerdict::SecondBetter);
        assert!(compare_paired(["a", "b"], &first, &BTreeMap::new()).is_none());
    }

    #[test]
    fn few_flips_prove_nothing() {
        let first = BTreeMap::from([("x".to_owned(), true), ("y".to_owned(), true)]);
        let second = BTreeMap::from([("x".to_owned(), false), ("y".to_owned(), true)]);
        let got = compare_paired(["a", "b"], &first, &second).expect("shared questions");
        assert_eq!(got.verdict, PairedVerdict::NotDistinguishable);
    }
}
