//! The use cases of Billion and the API of every shell: jobs, the worker process, the store, charts.
//!
//! The window and the command line call this crate and nothing below it.

pub mod api;
