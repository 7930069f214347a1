//! A small Hugging Face Hub on loopback for tests of every crate: its API, its redirect to a storage server on another
//! port, ranges, revisions, gated repositories, accounts, and every way of going wrong that `Fault` names. Answers and
//! error texts are as huggingface.co sends them. It needs the standard library and serde_json, and ends with the process.
//!
//! ```ignore
//! // In crates/hub/tests: `mod loopback;`. In another crate's tests:
//! #[path = "../../hub/tests/loopback/mod.rs"]
//! mod loopback;
//!
//! let hub = loopback::HubServer::start();
//! hub.put("models/EleutherAI/pythia-70m", "config.json", br#"{"model_type": "gpt_neox"}"#.to_vec());
//! hub.put_folder("models/owner/tiny", Path::new("tests/fixtures/tiny"));      // every file of a folder
//! hub.put_at("models/EleutherAI/pythia-70m", "step1000", "model.safetensors", bytes);
//! hub.gate("models/meta-llama/Llama-3.2-1B");                                 // 401 without a token
//! hub.account("hf_ada", "ada");                                               // a token the hub knows; 403 until:
//! hub.answer("models/meta-llama/Llama-3.2-1B", "hf_ada", loopback::Access::Granted);
//! hub.fault(|fault| fault.bytes_per_s = Some(1_000_000));                     // a connection; None: as fast as it goes
//! command.env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", folder).env("BILLION_KEYCHAIN", "off");
//! ```

#![allow(
    dead_code,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "each test uses its part; a test of what talks to the network needs something to talk to"
)]

pub mod hash;
mod replies;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The commit of the main revision of every repository here, unless it is told another.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server misbehaves. Everything may be changed while it runs.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// Closes the connection after this many bytes of a body, so many times.
    pub cut: Option<(u64, usize)>,
    /// Answers 200 with the whole file whatever range was asked for.
    pub ignores_range: bool,
    /// Changes the byte at this place of large files.
    pub wrong_byte: Option<usize>,
    /// Sends no more than this, a connection.
    pub bytes_per_s: Option<u64>,
    /// Sends this much of a body and then nothing, so many times.
    pub stall: Option<(u64, usize)>,
    /// Adds this to every length that is told.
    pub length_lie: i64,
    /// Answers so many requests of files with 429 and this `Retry-After`.
    pub too_many: Option<(u64, usize)>,
    /// The same for requests of the API.
    pub too_many_questions: Option<(u64, usize)>,
    /// Answers so many requests of files with 500.
    pub broken: usize,
    /// The storage answers so many requests with 403, as when a signed address has run out.
    pub expired: usize,
    /// Status, `X-Error-Code` and `X-Error-Message` for files.
    pub refusal: Option<(u16, &'static str, String)>,
    /// Tells this etag for large files.
    pub etag: Option<String>,
    /// Lists names without sizes, as some mirrors do.
    pub names_only: bool,
    /// Answers nothing at all: closes every connection at once.
    pub down: bool,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub token: Option<String>,
    pub range: Option<String>,
    /// It came to the storage's port.
    pub storage: bool,
}

/// What the owners of a gated repository answered an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    Waiting,
    Denied,
}

#[derive(Clone)]
struct Stored {
    path: String,
    bytes: Arc<Vec<u8>>,
    /// SHA-256 for large files, git's SHA-1 for others.
    hash: String,
    large: bool,
}

#[derive(Default)]
struct Repo {
    /// Files by revision.
    revisions: HashMap<String, Vec<Stored>>,
    gated: bool,
    /// By token.
    answers: HashMap<String, Access>,
    /// Further fields of the API's answer, as `"downloads":7,"gguf":{...}`.
    about: String,
}

#[derive(Default)]
struct State {
    /// By `models/OWNER/NAME`.
    repos: HashMap<String, Repo>,
    /// Names of accounts by token; while there are none, every token is known.
    accounts: HashMap<String, String>,
    /// Tokens that were taken back.
    revoked: HashSet<String>,
    fault: Fault,
    seen: Vec<Seen>,
    sent: u64,
    storage: String,
    hub: String,
    commit: String,
}

/// A running server. It ends with the process.
#[derive(Clone)]
pub struct HubServer {
    state: Arc<Mutex<State>>,
    /// What `HF_ENDPOINT` must be.
    pub endpoint: String,
}

impl HubServer {
    /// Starts the hub and its storage on two free ports.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listen = |storage: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().filter_map(Result::ok) {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || serve(&state, &stream, storage));
                }
            });
            format!("http://127.0.0.1:{port}")
        };
        let (endpoint, storage) = (listen(false), listen(true));
        let server = Self {
            state,
            endpoint: endpoint.clone(),
        };
        let mut state = server.lock();
        COMMIT.clone_into(&mut state.commit);
        state.hub = endpoint;
        state.storage = storage;
        drop(state);
        server
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Puts a file into the main revision of `models/OWNER/NAME` or `datasets/OWNER/NAME`, in the place of one of the
    /// same path. Files that end in .json are small: known by git's hash and sent by the hub itself.
    pub fn put(&self, repo: &str, path: &str, bytes: Vec<u8>) {
        self.put_at(repo, "main", path, bytes);
    }

    /// The same for a revision of this name. Its commit is `commit_of` that name.
    pub fn put_at(&self, repo: &str, revision: &str, path: &str, bytes: Vec<u8>) {
        let large = path.rsplit('.').next() != Some("json");
        let hash = if large {
            hash::sha256(&bytes)
        } else {
            hash::git_sha1(&bytes)
        };
        let mut state = self.lock();
        let repo = state.repos.entry(repo.to_owned()).or_default();
        let files = repo.revisions.entry(revision.to_owned()).or_default();
        files.retain(|file| file.path != path);
        files.push(Stored {
            path: path.to_owned(),
            bytes: Arc::new(bytes),
            hash,
            large,
        });
    }

    /// Puts every file of a folder.
    pub fn put_folder(&self, repo: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let place = entry.expect("read").path();
            if place.is_file() {
                let name = place.file_name().expect("a name").to_string_lossy();
                self.put(repo, &name, std::fs::read(&place).expect("read"));
            }
        }
    }

    /// Adds fields to what the API says of a repository, as `"downloads":7,"gguf":{"architecture":"llama"}`.
    pub fn about(&self, repo: &str, fields: &str) {
        let mut state = self.lock();
        let repo = state.repos.entry(repo.to_owned()).or_default();
        fields.clone_into(&mut repo.about);
    }

    /// Gives the files of a repository to accounts only that were granted access.
    pub fn gate(&self, repo: &str) {
        self.lock().repos.entry(repo.to_owned()).or_default().gated = true;
    }

    /// Makes a token known, of an account of this name. Without any account every token is known, and none is asked for
    /// but by gated repositories.
    pub fn account(&self, token: &str, name: &str) {
        let mut state = self.lock();
        state.accounts.insert(token.to_owned(), name.to_owned());
    }

    /// Forgets a token.
    pub fn revoke(&self, token: &str) {
        self.lock().revoked.insert(token.to_owned());
    }

    /// What the owners of a gated repository answer the account of a token.
    pub fn answer(&self, repo: &str, token: &str, access: Access) {
        let mut state = self.lock();
        let repo = state.repos.entry(repo.to_owned()).or_default();
        repo.answers.insert(token.to_owned(), access);
    }

    /// Makes this the commit of the main revision of every repository.
    pub fn commit(&self, commit: &str) {
        commit.clone_into(&mut self.lock().commit);
    }

    /// The commit of a revision.
    pub fn commit_of(&self, revision: &str) -> String {
        self.lock().commit_of(revision)
    }

    /// Changes how it misbehaves.
    pub fn fault(&self, change: impl FnOnce(&mut Fault)) {
        change(&mut self.lock().fault);
    }

    /// How it misbehaves now.
    pub fn fault_now(&self) -> Fault {
        self.lock().fault.clone()
    }

    /// Requests that came since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lock().seen)
    }

    /// Bytes of bodies of files that were sent since the last call.
    pub fn sent(&self) -> u64 {
        std::mem::take(&mut self.lock().sent)
    }

    /// The same without forgetting.
    pub fn sent_so_far(&self) -> u64 {
        self.lock().sent
    }
}

impl State {
    fn commit_of(&self, revision: &str) -> String {
        match revision {
            "main" | "refs/pr/1" => self.commit.clone(),
            revision => hash::sha1(revision.as_bytes()),
        }
    }
}

/// Bytes that no compression and no chance produces twice.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A safetensors file (eight bytes of length, a JSON header, the tensors' bytes) made larger by a tensor that no layer asks for.
pub fn padded(weights: &[u8], padding: usize) -> Vec<u8> {
    if padding == 0 {
        return weights.to_vec();
    }
    let (length, rest) = weights.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("a safetensors file")) as usize;
    let (header, tensors) = rest.split_at(length);
    let mut header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).expect("a safetensors file");
    header.insert(
        "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
        serde_json::json!({ "dtype": "F32", "shape": [padding / 4], "data_offsets": [tensors.len(), tensors.len() + padding] }),
    );
    let mut header = serde_json::to_vec(&header).expect("a safetensors file");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(tensors);
    file.extend(noise(padding, 7));
    file
}

/// Bytes of all files below a folder; links are not followed.
pub fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(of) if of.is_dir() => bytes_below(&entry.path()),
            Ok(of) if of.is_file() => of.len(),
            _ => 0,
        })
        .sum()
}

/// Answers requests on one connection until it ends.
fn serve(state: &Mutex<State>, stream: &TcpStream, storage: bool) {
    let _ = stream.set_nodelay(true);
    let mut lines = BufReader::with_capacity(8 << 10, stream);
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                None => break,
            }
        }
        let seen = Seen {
            path: target.clone(),
            token: headers
                .get("authorization")
                .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
            range: headers.get("range").cloned(),
            storage,
        };
        let mut locked = state.lock().expect("no panic while it is held");
        locked.seen.push(seen.clone());
        if locked.fault.down {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let reply = if storage {
            replies::storage(&mut locked, &seen)
        } else {
            replies::hub(&mut locked, &seen)
        };
        drop(locked);
        if !reply.send(state, stream) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}
