//! Where models come from and where they lie: the starter pack, the library of imported models, the catalogue of known
//! ones, the hub and its cache, and whether a model fits into this machine's memory.
//!
//! The only crate that opens sockets to fetch. It does not run models, and it stores nothing but files of models and
//! datasets and what it found in them.
#![allow(
    clippy::disallowed_types,
    reason = "this is the crate that talks to the network"
)]

mod cache;
mod catalogue;
mod client;
pub mod datasets;
mod error;
mod facts;
mod fingerprint;
mod fit;
mod http;
mod hub_models;
mod import;
mod library;
mod memory;
mod repo;
mod selection;
mod settings;
mod starter;
mod transfer;

pub use catalogue::{CATALOGUE, Known, checkpoints};
pub use client::Hub;
pub use error::{Error, Gate};
pub use facts::{Facts, Inspection, inspect};
pub use fit::{Fit, FitLevel, fit};
pub use hub_models::HubModel;
pub use library::{Installed, Library, Resolved, Source};
pub use memory::free_bytes;
pub use repo::{
    BlobHash, DEFAULT_REVISION, Found, RemoteFile, RepoId, RepoKind, RepoReference, RepoRevision,
};
pub use settings::{ENDPOINT, HubSettings, Limits};
pub use starter::{Places, STARTER_ID, StarterPack};
pub use transfer::{Control, Event, Fetched, Progress};
