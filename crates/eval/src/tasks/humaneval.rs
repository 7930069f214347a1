//! HumanEval (M. Chen et al. 2021, arXiv 2107.03374): 164 Python functions to complete from their docstrings, judged by
//! running the tests that come with them.

mod complete;
mod data;

pub use complete::{
    Completion, DEFAULT_MAX_TOKENS, Form, HumanEvalOptions, Outcome, prompt, run,
    stop_strings,
};
pub use data::{PROBLEMS, Problem, read_problems};
