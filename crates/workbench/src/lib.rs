//! The use cases of Billion and the API of every shell: jobs, the worker process, the store, charts.
//!
//! The window and the command line call this crate and nothing below it.

mod advice;
pub mod api;
mod cancel;
mod charts;
mod chat;
mod compare;
mod convert;
mod devices;
mod downloads;
mod export;
mod facade;
mod figures;
mod finetune;
mod fit;
mod forecast;
mod hashes;
mod hub;
mod jobs;
mod lease;
mod machine;
mod measure;
mod mmlu_sources;
mod models;
mod progress;
mod references;
pub mod reports;
pub mod requests;
mod results;
mod scorecards;
mod speculate;
mod store;
mod time_lapses;
mod words;
mod worker;

pub use facade::{OpenOptions, Workbench};
pub use finetune::FinetuneReport;
pub use measure::Completions;
pub use reports::{
    ConvertReport, EnergyReport, HumanEvalReport, MemoryReport, MmluReport, PerplexityReport,
    SpeedReport,
};
pub use requests::{
    EnergyRequest, EngineOptions, Executor, HumanEvalRequest, JobProgress, MemoryRequest,
    MmluRequest, PerplexityRequest, ReplyRequest, ReplyStep, SpeculateRequest, SpeedRequest,
};
pub use words::moment;
pub use worker::run_engine_worker;
