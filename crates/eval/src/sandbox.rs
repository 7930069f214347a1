//! Runs Python that a model wrote, and finds out whether its function does what tests ask, in CPython compiled to
//! WebAssembly: never in the user's own Python, and with nothing of the machine in reach.
//!
//! A program is judged by two interpreters that share nothing. A holds the tests and never sees the program; B holds the
//! program and never sees the tests. When A's tests call the function, the call crosses the host to B, and what comes
//! back is checked to be an exact plain value (`value`). Nothing the program does to its own interpreter, frames, `json`
//! or `check`, can therefore change what A compares or concludes; A's word counts only with the host's nonce, which never
//! enters B. `wasi` is all that either can ask of the host.

mod cache;
mod guest;
mod interpreter;
mod pair;
mod value;
mod wasi;

pub use guest::Limits;
pub use interpreter::Python;
pub use pair::{Finding, Trial, Verdict};
