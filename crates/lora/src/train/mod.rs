//! Training of LoRA adapters: what is asked for, what is told, what is left.
//!
//! Rows come from `dataset`, adapter files are `billion_llm::adapter`'s. Where a run is stored and who watches it is the
//! caller's business.

mod options;

pub use options::{
    Ending, Forecast, Recompute, Schedule, Step, TrainEvent, TrainOptions, TrainOutcome,
};
