//! Where models come from and where they lie: the starter pack, the library of imported models, the catalogue of known
//! ones, the hub and its cache, and whether a model fits into this machine's memory.
//!
//! # A download, step by step
//! ```no_run
//! use billion_hub::{Control, Error, Event, Hub};
//!
//! # fn main() -> Result<(), Error> {
//! let hub = Hub::of_process();
//! let control = Control::new(); // clones of it steer the download from other threads
//! let reference = Hub::reference("pythia@step1000")?; // or hf:OWNER/NAME[@REV][/FILE.gguf], or a pasted address
//! let plan = hub.plan(&reference, &control)?; // what it takes, what is here, what is free; writes nothing
//! plan.check_room(&hub)?; // `download` does it too
//! let model = hub.download(&plan, &control, &mut |event| match event {
//!     Event::Progress(now) => println!("{} of {} bytes", now.done_bytes, now.total_bytes),
//!     Event::Waiting { reason } => println!("waits: {reason}"),
//!     _ => {}
//! })?;
//! if model.needs_conversion {
//!     // billion_llm writes model.safetensors into model.path; then the pickle's room is given back:
//!     hub.converted(&model)?;
//! }
//! # Ok(()) }
//! ```
//! - A person's text is told by `Query::read`: a word for `Hub::search`, or one repository for `Hub::look`, whose choices
//!   are references to plan.
//! - `Hub::download_size` is what a known model takes, and says whether that is an estimate.
//! - `Control::stop` is a pause that outlives the program: `Error::Stopped`, everything that came is kept, and the next
//!   plan goes on with it (`Hub::unfinished` lists such downloads). `Control::pause` holds the thread instead.
//! - `Control::cancel` ends it with `Error::Cancelled` and leaves nothing behind. A stopped one is removed by
//!   `Hub::discard`, which asks nothing of the hub.
//! - `Hub::models_on_this_machine` lists what the cache holds whole; `Hub::delete` removes one and says how many bytes that
//!   gave back.
//! - `Hub::account`, `check_account`, `save_token` and `forget_token` are the token's; no token is ever given out.
//! - `Error::Gated { gate, .. }` says which case a gated repository is; `Error::link` is the page that mends an error.
//!
//! The only crate that opens sockets to fetch. It does not run models, and it stores nothing but files of models and
//! datasets and what it found in them.
#![allow(
    clippy::disallowed_types,
    reason = "this is the crate that talks to the network"
)]

mod account;
mod cache;
mod catalogue;
mod client;
pub mod datasets;
mod downloads;
mod error;
mod facts;
mod fingerprint;
mod fit;
mod http;
mod hub_models;
mod import;
mod keychain;
mod library;
mod lookup;
mod memory;
mod model_reference;
mod removal;
mod repo;
mod selection;
mod settings;
mod shapes;
mod starter;
mod transfer;

pub use account::{Account, TokenPlace};
pub use catalogue::{CATALOGUE, Known, checkpoint_step, checkpoints};
pub use client::Hub;
pub use downloads::{DownloadPlan, DownloadSize, PlannedFile, Unfinished};
pub use error::{Error, Gate};
pub use facts::{Facts, Inspection, inspect};
pub use fit::{ESTIMATE_CONTEXT, Fit, FitLevel, Need, fit};
pub use hub_models::HubModel;
pub use keychain::Keychain;
pub use library::{Installed, Library, Made, Resolved, Source};
pub use lookup::{Choice, Query, Repository};
pub use memory::free_bytes;
pub use model_reference::ModelReference;
pub use repo::{
    BlobHash, DEFAULT_REVISION, Found, RemoteFile, RepoId, RepoKind, RepoReference, RepoRevision,
};
pub use settings::{ENDPOINT, HubSettings, Limits};
pub use starter::{Places, STARTER_ID, StarterPack};
pub use transfer::{Control, Event, Fetched, Progress};
