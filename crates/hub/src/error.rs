//! The one error of this crate: what was asked, what was found, what to do next.

use std::path::PathBuf;
use std::time::Duration;

/// Why a model could not be found, fetched, added or removed.
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
    /// A model of the catalogue or the hub that is not on this machine.
    #[error("{name} is not on this machine; get it with: billion models pull {id}")]
    NotInstalled {
        /// What commands take as MODEL.
        id: String,
        /// Its name.
        name: String,
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
    /// A repository whose owner gives access on request, and what stands in the way.
    #[error("{}", gate_words(repo, *gate, link, tokens))]
    Gated {
        /// `OWNER/NAME`.
        repo: String,
        /// What stands in the way.
        gate: Gate,
        /// The repository's page, where access is asked for.
        link: String,
        /// The page where tokens are made.
        tokens: String,
    },
    /// The hub does not know the token.
    #[error(
        "the hub does not accept this token: make one with the right to read at {tokens}, and enter it in Settings or set HF_TOKEN to it"
    )]
    BadToken {
        /// The page where tokens are made.
        tokens: String,
    },
    /// No such repository, or a private one.
    #[error(
        "the hub has no {what} called {repo} that {} may see: check the name at {link}{}",
        if *with_token { "this token" } else { "everyone" },
        if *with_token { "" } else { ", or enter a token in Settings or HF_TOKEN if it is private" }
    )]
    NoRepository {
        /// "model" or "dataset".
        what: &'static str,
        /// `OWNER/NAME`.
        repo: String,
        /// Its page.
        link: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository is there, the revision is not.
    #[error("{repo} has no revision {revision:?}: its branches and tags are listed at {link}")]
    NoRevision {
        /// `OWNER/NAME`.
        repo: String,
        /// What was asked for.
        revision: String,
        /// Page of its history.
        link: String,
    },
    /// The revision is there, the file is not.
    #[error("{repo} has no file {file} at {revision}{}", others(has))]
    NoFile {
        /// `OWNER/NAME`.
        repo: String,
        /// Its revision.
        revision: String,
        /// What was asked for.
        file: String,
        /// Files of the same kind.
        has: Vec<String>,
    },
    /// Nothing in the repository is a model that Billion runs, or too much is.
    #[error("{repo}: {problem}")]
    Unsuitable {
        /// `OWNER/NAME`.
        repo: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A kind of file that is never fetched.
    #[error(
        "{file} is not fetched: Billion takes safetensors, GGUF, JSON and tokenizer files only, because others can run code"
    )]
    Kind {
        /// Its path.
        file: String,
    },
    /// The server asks to be left alone for a while.
    #[error("{host} is busy: {problem}; try again in {}{}", duration(*wait), match tokens {
        Some(page) => format!(", or with a token, which may ask for more: {page}"),
        None => String::new(),
    })]
    Busy {
        /// Name of the server.
        host: String,
        /// What it said.
        problem: String,
        /// For how long.
        wait: Duration,
        /// The page where tokens are made, if none was sent.
        tokens: Option<String>,
    },
    /// What was to be saved is no token.
    #[error("this is no token: copy it as {tokens} shows it once, hf_ and letters and digits")]
    NoToken {
        /// The page where tokens are made.
        tokens: String,
    },
    /// The keychain did not do what it was asked.
    #[error("the system's keychain cannot be used ({trouble}): unlock it, then try again")]
    Keychain {
        /// What it said.
        trouble: String,
    },
    /// Neither keychain nor file for a token.
    #[error(
        "there is no place for a token: the system's keychain cannot be used ({trouble}), and no token file is known; set HF_TOKEN"
    )]
    NoPlaceForToken {
        /// Why not the keychain.
        trouble: String,
    },
    /// No way to the server, or it went away and did not come back.
    #[error("{host} cannot be reached: {problem} ({} in a row){}; check the connection, or HTTPS_PROXY behind a proxy, then try again", tries_words(*tries), kept(*kept_bytes))]
    Network {
        /// Name of the server.
        host: String,
        /// What happened the last time.
        problem: String,
        /// Failures in a row.
        tries: u32,
        /// Bytes that are kept for the next try.
        kept_bytes: u64,
    },
    /// `HF_HUB_OFFLINE` is set, and the cache does not hold what is asked for.
    #[error("{what} is not on this machine and HF_HUB_OFFLINE is set: unset it to download")]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// An answer that makes no sense.
    #[error(
        "{host} gave an answer that cannot be used: {problem}; try again later, or another HF_ENDPOINT"
    )]
    Answer {
        /// Name of the server.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The bytes are not those the hub lists.
    #[error(
        "{file} came with the wrong bytes ({} of {} begins {}, not {}): nothing was installed; try again, and if it repeats, another network or HF_ENDPOINT",
        hash, size(*bytes), short(found), short(expected)
    )]
    WrongBytes {
        /// Its path.
        file: String,
        /// Its size.
        bytes: u64,
        /// "SHA-256" or "git SHA-1".
        hash: &'static str,
        /// By the hub.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// Not enough room for a download.
    #[error("{what} needs {} more, but {} has {} free: make room, or set HF_HOME to a folder on a larger disk", size(*need_bytes), folder.display(), size(*free_bytes))]
    DiskFull {
        /// What was to be downloaded.
        what: String,
        /// What is still to come.
        need_bytes: u64,
        /// Where it was to go.
        folder: PathBuf,
        /// Room there.
        free_bytes: u64,
    },
    /// The person cancelled; nothing is left.
    #[error("cancelled")]
    Cancelled,
    /// The person stopped; what came is kept.
    #[error("stopped; {} are kept, and the next download goes on from there", size(*kept_bytes))]
    Stopped {
        /// Bytes that are kept.
        kept_bytes: u64,
    },
    /// The model must stay.
    #[error("{0} ships with Billion and cannot be removed")]
    Permanent(String),
}

/// What stands between a person and a gated repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No token was sent.
    NoToken,
    /// The account has not accepted the licence.
    NotAccepted,
    /// The owners have not answered the request yet.
    Waiting,
    /// The owners have turned the account down.
    Denied,
    /// The token may not read gated repositories.
    TokenScope,
}

fn gate_words(repo: &str, gate: Gate, link: &str, tokens: &str) -> String {
    match gate {
        Gate::NoToken => format!(
            "{repo} is given to accounts that accepted its licence: accept it at {link}, make a token at {tokens}, and enter it in Settings or set HF_TOKEN to it"
        ),
        Gate::NotAccepted => format!(
            "the account of this token has not accepted the licence of {repo}: accept it at {link}, then try again"
        ),
        Gate::Waiting => format!(
            "the owners of {repo} have not answered this account's request yet: its state is at {link}; try again once they have"
        ),
        Gate::Denied => format!(
            "the owners of {repo} have turned this account's request down: their reasons, if any, are at {link}; choose another model"
        ),
        Gate::TokenScope => format!(
            "this token may not read gated repositories like {repo}: allow it that at {tokens} (\"public gated repositories\"), then try again"
        ),
    }
}

fn others(has: &[String]) -> String {
    if has.is_empty() {
        return String::new();
    }
    format!(" (it has {})", has.join(", "))
}

fn tries_words(tries: u32) -> String {
    if tries == 1 {
        "1 failure".to_owned()
    } else {
        format!("{tries} failures")
    }
}

/// "20 seconds", "5 minutes".
fn duration(wait: Duration) -> String {
    let seconds = wait.as_secs_f64().ceil() as u64;
    match seconds {
        0 | 1 => "a second".to_owned(),
        2..=99 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

fn kept(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!("; {} are kept", size(bytes))
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
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

pub(crate) fn size(bytes: u64) -> String {
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
    /// The page that mends it, where one does: where a licence is accepted, where tokens are made, where names are listed.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Gated {
                gate: Gate::NoToken | Gate::TokenScope,
                tokens,
                ..
            }
            | Self::BadToken { tokens }
            | Self::NoToken { tokens } => Some(tokens),
            Self::Busy { tokens, .. } => tokens.as_deref(),
            Self::Gated { link, .. }
            | Self::NoRepository { link, .. }
            | Self::NoRevision { link, .. } => Some(link),
            _ => None,
        }
    }

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
