//! What each size of scorecard asks of MMLU and HumanEval, and how sure its figure will be: told before a run starts (cli.md, "Sizes").

use serde::{Deserialize, Serialize};

use crate::stats::expected_half_width;
use crate::tasks::humaneval::{DEFAULT_MAX_TOKENS, PROBLEMS};
use crate::tasks::mmlu::{MmluOptions, QUICK_SUBJECTS};

/// Size of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// The article's ten subjects, ten questions each.
    Quick,
    /// 57 subjects, 20 questions each.
    Standard,
    /// All questions.
    Full,
}

/// Accuracy that models of a billion parameters reach on MMLU, for which the expected interval is worked out: published
/// figures lie between 0.25 (chance) and 0.32. The half width changes little there.
const EXPECTED_ACCURACY: f64 = 0.3;

impl Size {
    /// Every size, the smallest first.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Standard, Self::Full];

    /// Which questions it asks, after five solved examples where the data has a dev split.
    pub fn mmlu_options(self) -> MmluOptions {
        let (subjects, limit) = match self {
            Self::Quick => (QUICK_SUBJECTS.map(str::to_owned).to_vec(), Some(10)),
            Self::Standard => (Vec::new(), Some(20)),
            Self::Full => (Vec::new(), None),
        };
        MmluOptions {
            limit,
            subjects,
            ..MmluOptions::default()
        }
    }

    /// Questions it asks of the full test split.
    pub const fn mmlu_questions(self) -> usize {
        match self {
            Self::Quick => 100,
            Self::Standard => 57 * 20,
            Self::Full => 14_042,
        }
    }

    /// HumanEval problems it asks, the first of the file.
    pub const fn humaneval_problems(self) -> usize {
        match self {
            Self::Quick => 20,
            Self::Standard | Self::Full => PROBLEMS,
        }
    }

    /// Most tokens of a HumanEval completion.
    pub const fn humaneval_max_tokens(self) -> usize {
        match self {
            Self::Quick => 256,
            Self::Standard | Self::Full => DEFAULT_MAX_TOKENS,
        }
    }

    /// Half of the 95 % interval to expect of its accuracy: 0.09 is nine points.
    pub fn mmlu_half_width(self) -> f64 {
        half_width_of(self.mmlu_questions())
    }
}

/// Half of the 95 % interval to expect after so many MMLU questions.
pub fn half_width_of(questions: usize) -> f64 {
    expected_half_width(questions, EXPECTED_ACCURACY)
}

/// Questions, at most `total`, after which an interval is expected to reach at most `half_width` to each side.
pub fn questions_until(total: usize, half_width: f64) -> usize {
    let (mut few, mut enough) = (0, total.max(1));
    while few + 1 < enough {
        let middle = usize::midpoint(few, enough);
        if half_width_of(middle) <= half_width {
            enough = middle;
        } else {
            few = middle;
        }
    }
    enough.min(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::mmlu::SUBJECTS;

    #[test]
    fn uncertainties_are_those_of_the_facts() {
        let points = Size::ALL.map(|size| (size.mmlu_half_width() * 1000.0).round() / 10.0);
        assert_eq!(points, [8.8, 2.7, 0.8]);
        let quick = Size::Quick.mmlu_options();
        assert_eq!(
            quick.subjects.len() * quick.limit.expect("limited"),
            Size::Quick.mmlu_questions()
        );
        assert_eq!(SUBJECTS.len() * 20, Size::Standard.mmlu_questions());
        assert!(Size::Full.mmlu_options().limit.is_none());
        // Two points at 30 % need about 2,016 questions: 0.3 * 0.7 * (1.96 / 0.02)^2.
        assert!((1990..2030).contains(&questions_until(14_042, 0.02)));
        assert_eq!(questions_until(100, 0.02), 100);
        assert_eq!(questions_until(0, 0.02), 0);
    }
}
