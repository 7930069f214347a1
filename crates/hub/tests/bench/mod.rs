//! What tests of the transfer share: a hub on loopback, an empty cache, and less patience than with the real one.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use billion_hub::{
    Control, Error, Event, Fetched, Hub, HubSettings, Limits, RepoReference, RepoRevision,
};

use crate::loopback::{HubServer, noise};

/// The repository of most tests.
pub const REPO: &str = "models/owner/name";
/// 2^20 bytes.
pub const MB: usize = 1 << 20;

/// A server, a cache, and a hub that is less patient than the real one.
pub struct Bench {
    pub server: HubServer,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            server: HubServer::start(),
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn with_model(bytes: usize) -> (Self, Vec<u8>) {
        let bench = Self::new();
        let model = noise(bytes, 7);
        bench.server.put(REPO, "model.gguf", model.clone());
        (bench, model)
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    pub fn settings(&self) -> HubSettings {
        HubSettings::new(&self.server.endpoint, self.cache())
    }

    pub fn hub(&self) -> Hub {
        Hub::new(self.settings(), impatient())
    }

    pub fn hub_with_token(&self, token: &str) -> Hub {
        let settings = HubSettings {
            token: Some(token.to_owned()),
            ..self.settings()
        };
        Hub::new(settings, impatient())
    }

    pub fn resolve(&self) -> RepoRevision {
        resolve(&self.hub(), "owner/name").expect("resolved")
    }

    pub fn fetch(&self) -> Result<Fetched, Error> {
        fetch(&self.hub(), &self.resolve(), &Control::new())
    }

    /// Every file below the cache, as paths in it.
    pub fn files(&self) -> Vec<String> {
        files_below(&self.cache())
    }

    /// Forgets what was sent, once the server has noticed that nobody reads it any more.
    pub fn settle(&self) {
        let mut before = self.server.sent_so_far();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.server.sent_so_far();
            if now == before {
                break;
            }
            before = now;
        }
        self.server.sent();
    }

    /// Whether this much was sent since then: a connection may be lost on a busy machine, and its piece comes again.
    pub fn sent_about(&self, bytes: u64) -> bool {
        let sent = self.server.sent();
        (bytes..bytes + MB as u64).contains(&sent)
    }

    pub fn blobs(&self) -> PathBuf {
        self.cache().join("models--owner--name/blobs")
    }
}

pub fn impatient() -> Limits {
    Limits {
        piece_bytes: MB as u64,
        record_bytes: 64 << 10,
        sync_bytes: MB as u64,
        answer: Duration::from_secs(5),
        silence: Duration::from_millis(1500),
        tries: 4,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        ..Limits::default()
    }
}

pub fn resolve(hub: &Hub, reference: &str) -> Result<RepoRevision, Error> {
    hub.resolve(
        &RepoReference::parse(reference).expect("a reference"),
        &Control::new(),
    )
}

pub fn fetch(hub: &Hub, revision: &RepoRevision, control: &Control) -> Result<Fetched, Error> {
    hub.fetch(revision, &revision.files, control, &mut |_| {})
}

pub fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let entry = entry.expect("read");
            if entry.file_type().expect("read").is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(folder).expect("below");
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("read")
}

/// The error's line, which must be one.
pub fn line(error: &Error) -> String {
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.is_empty(), "{line:?}");
    line
}

/// Starts a download and stops it once this much has come.
pub fn stop_after(bench: &Bench, bytes: u64) -> RepoRevision {
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(3_000_000));
    let revision = bench.resolve();
    let control = Control::new();
    let stop = control.clone();
    let result = bench
        .hub()
        .fetch(&revision, &revision.files, &control, &mut |event| {
            if matches!(&event, Event::Progress(p) if p.done_bytes > bytes) {
                stop.stop();
            }
        });
    assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
    bench.server.fault(|fault| fault.bytes_per_s = None);
    revision
}
