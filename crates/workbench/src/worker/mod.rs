//! The worker process: heavy work happens in a child, so that a crash or an out-of-memory kill never takes a shell down.
//!
//! `protocol` is what both sides say; `child` is the worker's main loop and `engine` what it does; `parent` starts and
//! asks a worker; `pool` keeps the workers of chats.

mod child;
mod conversion;
mod engine;
mod outbox;
mod parent;
mod pool;
mod programs;
mod protocol;
mod speculation;
mod tuning;

pub(crate) use billion_eval::tasks::mmlu::Sample as MmluSample;
pub use child::run_engine_worker;
pub(crate) use conversion::PROGRESS_BYTES;
pub(crate) use engine::read_mmlu;
pub(crate) use parent::{Event, Worker};
pub(crate) use pool::{Pool, Seat, load};
pub(crate) use protocol::{
    Ask, CompleteAsk, ConvertAsk, DatasetAsk, Generated, JudgeAsk, LoadedModel, MmluAsk, Outcome,
    PairFound, SpeculateAsk, Speculated, ToJudge, TuneAsk, TuneNews, Tuned,
};
