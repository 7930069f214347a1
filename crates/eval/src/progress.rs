//! How a long run reports: one event a step or an answered question, through a callback that can cancel.

use serde::{Deserialize, Serialize};

/// Something a run has just done. `S` is the task's sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event<S> {
    /// Work that yields no sample of its own: a prefix computed, a warm-up, a window scored.
    Step {
        /// What it was, for people.
        what: String,
        /// Units done so far (questions, windows or runs).
        done: usize,
        /// Units planned.
        total: usize,
    },
    /// A question was answered; `sample` is final and worth storing at once.
    Answered {
        /// The answer.
        sample: S,
        /// Questions answered so far, earlier sessions included.
        done: usize,
        /// Questions planned.
        total: usize,
    },
}
