//! The use cases of Billion and the API of every shell: jobs, the worker process, the store, charts.
//!
//! The window and the command line call this crate and nothing below it.

pub mod api;
mod facade;
pub mod reports;
pub mod requests;

pub use facade::{OpenOptions, Workbench, run_engine_worker};
pub use reports::{MemoryReport, MmluReport, PerplexityReport, SpeedReport};
pub use requests::{
    EngineOptions, Executor, JobProgress, MemoryRequest, MmluRequest, PerplexityRequest,
    ReplyRequest, SpeedRequest,
};
