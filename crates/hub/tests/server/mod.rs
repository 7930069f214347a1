//! A small Hugging Face Hub on loopback for tests: its API, its redirect to a storage server on another port, ranges, and
//! every way of going wrong that `Fault` names. Answers and error texts are as huggingface.co sends them.

#![allow(
    dead_code,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "each test uses its part; a test of what talks to the network needs something to talk to"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit of every repository here, unless it is told another.
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

#[derive(Clone)]
struct Stored {
    path: String,
    bytes: Arc<Vec<u8>>,
    /// SHA-256 for large files, git's SHA-1 for others.
    hash: String,
    large: bool,
}

#[derive(Default)]
struct State {
    /// By `models/OWNER/NAME`.
    repos: HashMap<String, Vec<Stored>>,
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

    /// Puts a file into `models/OWNER/NAME` or `datasets/OWNER/NAME`, in the place of one of the same path. Files that end
    /// in .json are small: known by git's hash and sent by the hub itself.
    pub fn put(&self, repo: &str, path: &str, bytes: Vec<u8>) {
        let large = path.rsplit('.').next() != Some("json");
        let hash = if large {
            hex(&Sha256::digest(&bytes))
        } else {
            let mut hasher = Sha1::new();
            hasher.update(format!("blob {}\0", bytes.len()));
            hasher.update(&bytes);
            hex(&hasher.finalize())
        };
        let mut state = self.lock();
        let files = state.repos.entry(repo.to_owned()).or_default();
        files.retain(|file| file.path != path);
        files.push(Stored {
            path: path.to_owned(),
            bytes: Arc::new(bytes),
            hash,
            large,
        });
    }

    /// Makes this the commit of every repository.
    pub fn commit(&self, commit: &str) {
        commit.clone_into(&mut self.lock().commit);
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

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
            storage_reply(&mut locked, &seen)
        } else {
            hub_reply(&mut locked, &seen)
        };
        drop(locked);
        if !reply.send(state, stream) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
    from: usize,
    to: usize,
    /// It is one of a file: faults of bodies apply.
    file: bool,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            from: 0,
            to: body.len(),
            body: Arc::new(body),
            file: false,
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it; false if the connection must end.
    fn send(self, state: &Mutex<State>, mut stream: &TcpStream) -> bool {
        let fault = state.lock().expect("no panic").fault.clone();
        let lie = if self.file { fault.length_lie } else { 0 };
        let length = (self.to - self.from) as i64 + lie;
        let head = format!(
            "HTTP/1.1 {} Status\r\ncontent-length: {length}\r\n",
            self.status
        );
        let head = self
            .headers
            .iter()
            .map(|(name, value)| [name, ": ", value, "\r\n"].concat())
            .fold(head, |head, line| head + &line)
            + "\r\n";
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        if !self.file {
            return stream.write_all(&self.body[self.from..self.to]).is_ok();
        }
        let mut at = self.from;
        while at < self.to {
            let fault = state.lock().expect("no panic").fault.clone();
            let sent = (at - self.from) as u64;
            let block =
                if fault.bytes_per_s.is_some() || fault.cut.is_some() || fault.stall.is_some() {
                    16 << 10
                } else {
                    1 << 20
                };
            let end = (at + block).min(self.to);
            if stream.write_all(&self.body[at..end]).is_err() {
                return false;
            }
            let mut locked = state.lock().expect("no panic");
            locked.sent += (end - at) as u64;
            let sent = sent + (end - at) as u64;
            if let Some((after, times)) = &mut locked.fault.cut
                && *times > 0
                && sent >= *after
            {
                *times -= 1;
                return false;
            }
            let mut stalls = false;
            if let Some((after, times)) = &mut locked.fault.stall
                && *times > 0
                && sent >= *after
            {
                *times -= 1;
                stalls = true;
            }
            drop(locked);
            if stalls {
                std::thread::sleep(Duration::from_secs(20));
                return false;
            }
            if let Some(rate) = fault.bytes_per_s {
                std::thread::sleep(Duration::from_secs_f64((end - at) as f64 / rate as f64));
            }
            at = end;
        }
        lie == 0
    }
}

fn take(count: &mut usize) -> bool {
    if *count == 0 {
        return false;
    }
    *count -= 1;
    true
}

/// The API and the pages of files.
fn hub_reply(state: &mut State, seen: &Seen) -> Reply {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    if let Some(api) = path.strip_prefix("/api/") {
        return api_reply(state, api, query);
    }
    let Some((repo, rest)) = path.split_once("/resolve/") else {
        return Reply::new(404, "Not Found");
    };
    let key = match repo.strip_prefix("/datasets/") {
        Some(id) => format!("datasets/{id}"),
        None => format!("models{repo}"),
    };
    if let Some((status, code, message)) = state.fault.refusal.clone() {
        return refusal(status, code, &message);
    }
    let Some(files) = state.repos.get(&key) else {
        return refusal(401, "RepoNotFound", "Repository not found");
    };
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    if revision != state.commit && revision != "main" {
        return refusal(
            404,
            "RevisionNotFound",
            &format!("Invalid rev id: {revision}"),
        );
    }
    let file = file.replace("%20", " ");
    let Some(file) = files.iter().find(|stored| stored.path == file).cloned() else {
        return refusal(404, "EntryNotFound", "Entry not found");
    };
    if let Some((seconds, times)) = &mut state.fault.too_many
        && take(times)
    {
        return Reply::new(429, "Too Many Requests").with("Retry-After", seconds.to_string());
    }
    if take(&mut state.fault.broken) {
        return Reply::new(500, "Internal Error");
    }
    if file.large {
        let etag = state.fault.etag.clone().unwrap_or(file.hash.clone());
        return Reply::new(302, "Found. Redirecting")
            .with(
                "Location",
                format!("{}/storage/{}?X-Amz-Signature=x", state.storage, file.hash),
            )
            .with("X-Repo-Commit", state.commit.clone())
            .with("X-Linked-Etag", format!("\"{etag}\""))
            .with("X-Linked-Size", file.bytes.len().to_string());
    }
    body_reply(state, seen, &file.bytes, &file.hash).with("X-Repo-Commit", state.commit.clone())
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, format!("{{\"error\":{message:?}}}"))
        .with("X-Error-Code", code)
        .with("X-Error-Message", message)
}

fn api_reply(state: &State, api: &str, query: &str) -> Reply {
    let parts: Vec<&str> = api.split('/').collect();
    if parts.len() == 1 {
        let word = query
            .strip_prefix("search=")
            .and_then(|q| q.split('&').next());
        let found: Vec<String> = state
            .repos
            .keys()
            .filter_map(|key| key.strip_prefix(&format!("{}/", parts[0])))
            .filter(|id| id.to_lowercase().contains(word.unwrap_or_default()))
            .map(|id| format!("{{\"id\":{id:?},\"downloads\":7,\"gated\":false}}"))
            .collect();
        return Reply::new(200, format!("[{}]", found.join(",")));
    }
    let key = parts.iter().take(3).copied().collect::<Vec<_>>().join("/");
    let Some(files) = state.repos.get(&key) else {
        return refusal(401, "RepoNotFound", "Repository not found");
    };
    let what = parts.get(3).copied().unwrap_or_default();
    let revision = parts.get(4).copied().unwrap_or_default();
    if revision != state.commit && revision != "main" && revision != "refs%2Fpr%2F1" {
        return refusal(
            404,
            "RevisionNotFound",
            &format!("Invalid rev id: {revision}"),
        );
    }
    if what == "tree" {
        // Two pages, the second named by the first.
        let half = files.len() / 2;
        let second = query.contains("cursor=2");
        let part = if second {
            &files[half..]
        } else {
            &files[..half]
        };
        let entries: Vec<String> = part
            .iter()
            .map(|file| {
                let lfs = lfs(file, "oid");
                format!(
                    "{{\"type\":\"file\",\"oid\":\"{}\",\"size\":{},\"path\":{:?}{lfs}}}",
                    &file.hash[..40],
                    file.bytes.len(),
                    file.path
                )
            })
            .collect();
        let reply = Reply::new(200, format!("[{}]", entries.join(",")));
        if second {
            return reply;
        }
        let next = format!("{}/api/{api}?{query}&cursor=2", state.hub);
        return reply.with("Link", format!("<{next}>; rel=\"next\""));
    }
    let siblings: Vec<String> = files
        .iter()
        .map(|file| {
            if state.fault.names_only || !query.contains("blobs=true") {
                return format!("{{\"rfilename\":{:?}}}", file.path);
            }
            format!(
                "{{\"rfilename\":{:?},\"size\":{},\"blobId\":\"{}\"{}}}",
                file.path,
                file.bytes.len(),
                &file.hash[..40],
                lfs(file, "sha256")
            )
        })
        .collect();
    Reply::new(
        200,
        format!(
            "{{\"id\":{:?},\"sha\":\"{}\",\"gated\":false,\"cardData\":{{\"license\":\"mit\"}},\"siblings\":[{}]}}",
            parts[1..3].join("/"),
            state.commit,
            siblings.join(",")
        ),
    )
}

fn lfs(file: &Stored, hash: &str) -> String {
    if !file.large {
        return String::new();
    }
    format!(
        ",\"lfs\":{{\"{hash}\":\"{}\",\"size\":{},\"pointerSize\":134}}",
        file.hash,
        file.bytes.len()
    )
}

/// Signed addresses of large files.
fn storage_reply(state: &mut State, seen: &Seen) -> Reply {
    if take(&mut state.fault.expired) {
        return Reply::new(403, "<Error><Code>AccessDenied</Code></Error>");
    }
    let hash = seen
        .path
        .strip_prefix("/storage/")
        .and_then(|rest| rest.split('?').next())
        .unwrap_or_default();
    let Some(file) = state
        .repos
        .values()
        .flatten()
        .find(|file| file.hash == hash)
        .cloned()
    else {
        return Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>");
    };
    let mut bytes = file.bytes;
    if let Some(at) = state.fault.wrong_byte {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 1;
        bytes = Arc::new(wrong);
    }
    // Storage has etags of its own.
    body_reply(state, seen, &bytes, "d41d8cd98f00b204e9800998ecf8427e-12")
}

fn body_reply(state: &State, seen: &Seen, bytes: &Arc<Vec<u8>>, etag: &str) -> Reply {
    let range = seen
        .range
        .as_deref()
        .filter(|_| !state.fault.ignores_range)
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
        .and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()? + 1)));
    let (status, from, to) = match range {
        None => (200, 0, bytes.len()),
        Some((from, to)) if from < bytes.len() && from < to => (206, from, to.min(bytes.len())),
        Some(_) => return Reply::new(416, ""),
    };
    let total = bytes.len() as i64 + state.fault.length_lie;
    let reply = Reply {
        status,
        headers: Vec::new(),
        body: Arc::clone(bytes),
        from,
        to,
        file: true,
    }
    .with("ETag", format!("\"{etag}\""))
    .with("Accept-Ranges", "bytes");
    if status == 206 {
        return reply.with("Content-Range", format!("bytes {from}-{}/{total}", to - 1));
    }
    reply
}
