//! The one error of this crate: what was asked, what was found, what to do next.

use std::path::PathBuf;

/// Why a model could not be found, added or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", "make".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder that cannot be used as a model.
    #[error(transparent)]
    Model(#[from] billion_llm::Error),
    /// The starter pack is nowhere.
    #[error(
        "the starter pack is not installed: looked in {}; run ./run --setup in the checkout, or set BILLION_STARTER to its folder",
        list(looked)
    )]
    NoStarter {
        /// Folders that were tried.
        looked: Vec<PathBuf>,
    },
    /// A known model that is not on this machine.
    #[error(
        "{name} ({id}) is not on this machine; get a .gguf file of it, then: billion models import FILE"
    )]
    NotInstalled {
        /// Catalogue id.
        id: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A reference that nothing is known by.
    #[error(
        "no model is called {reference:?}{}: billion models list shows what there is, or give a .gguf file or a model folder",
        suggestion(near)
    )]
    Unknown {
        /// What was asked for.
        reference: String,
        /// Ids that look like it.
        near: Vec<String>,
    },
    /// A reference that this version cannot follow.
    #[error("{reference:?}: {problem}")]
    Reference {
        /// What was asked for.
        reference: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// Not enough room to copy a model.
    #[error("{} needs {}, but {} has {} free; make room or import from the same disk", path.display(), size(*need_bytes), folder.display(), size(*free_bytes))]
    NoRoom {
        /// The model.
        path: PathBuf,
        /// Its size.
        need_bytes: u64,
        /// Where it was to go.
        folder: PathBuf,
        /// Room there.
        free_bytes: u64,
    },
    /// The bytes changed between checking and copying.
    #[error("{} changed while it was being imported; wait until it is complete, then try again", .0.display())]
    Changed(PathBuf),
    /// The model must stay.
    #[error("{0} ships with Billion and cannot be removed")]
    Permanent(String),
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

fn suggestion(near: &[String]) -> String {
    if near.is_empty() {
        return String::new();
    }
    format!(" (did you mean {}?)", near.join(" or "))
}

fn size(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.2} GB", gb(bytes))
    }
}

pub(crate) fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

impl Error {
    /// Wraps what the system said about `path`.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
