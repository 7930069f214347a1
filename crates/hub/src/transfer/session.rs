//! One file over several connections, until it is whole, the person wishes otherwise, or the server is given up.
//!
//! Workers fetch pieces of the file in order; one thread hashes behind them what has come without a gap, read back from
//! the file, so that the hash is of what lies on the disk; another makes it survive a power cut. It neither installs the
//! file nor knows of others.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Agent;

use super::control::{Control, Wish};
use super::journal::{Journal, Partial};
use super::ranges::Ranges;
use crate::Error;
use crate::fingerprint::hex;
use crate::http::{self, Failure, Subject};
use crate::repo::{BlobHash, RemoteFile, is_hex};
use crate::settings::{HubSettings, Limits, chance};

/// Read from the network and written at once.
const BUFFER: usize = 256 << 10;

/// Read back and hashed at once.
const HASH_BUFFER: usize = 1 << 20;

/// Received bytes are recorded at least this often.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// A connection that breaks after this much was a good one, and its place is taken at once.
const GOOD_BYTES: u64 = 256 << 10;

/// The file to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub settings: &'a HubSettings,
    pub limits: &'a Limits,
    pub subject: Subject<'a>,
    pub file: &'a RemoteFile,
    /// Where the hub gives it.
    pub address: &'a str,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The file is whole, on the disk, and has this hash.
    Whole { hash: String },
    /// The person wishes otherwise.
    Wished,
}

/// How far a session is.
#[derive(Debug)]
pub(crate) struct Tick {
    /// Bytes that are there.
    pub done_bytes: u64,
    /// Why nothing comes.
    pub waiting: Option<String>,
}

struct State {
    /// Written and recorded.
    there: Ranges,
    /// What workers are fetching.
    taken: Ranges,
    /// Written, but perhaps not on the disk.
    unsynced: Ranges,
    journal: Journal,
    /// The first answer was a good one: more connections may be opened.
    opened: bool,
    /// This worker alone fetches, because the server knows only whole files.
    whole_only: Option<usize>,
    /// Where the hub sent us.
    address: Option<String>,
    working: usize,
    halted: bool,
    failed: Option<Error>,
    waiting: Option<String>,
}

struct Shared<'a> {
    task: Task<'a>,
    agent: &'a Agent,
    data: &'a File,
    state: Mutex<State>,
    changed: Condvar,
    /// Written, not recorded yet.
    pending: AtomicU64,
}

/// Fetches what is missing of the file. `tell` is called several times a second.
pub(crate) fn run(
    task: Task,
    agent: &Agent,
    partial: Partial,
    control: &Control,
    tell: &mut dyn FnMut(Tick),
) -> Result<Ended, Error> {
    let bytes = task.file.bytes;
    let missing = bytes - partial.there.bytes();
    let working =
        (missing.div_ceil(task.limits.piece_bytes) as usize).min(task.limits.connections.max(1));
    let shared = Shared {
        task,
        agent,
        data: &partial.data,
        state: Mutex::new(State {
            there: partial.there,
            taken: Ranges::default(),
            unsynced: Ranges::default(),
            journal: partial.journal,
            opened: false,
            whole_only: None,
            address: None,
            working,
            halted: false,
            failed: None,
            waiting: None,
        }),
        changed: Condvar::new(),
        pending: AtomicU64::new(0),
    };
    let hash = std::thread::scope(|scope| {
        for worker in 0..working {
            let shared = &shared;
            scope.spawn(move || shared.work(worker));
        }
        scope.spawn(|| shared.keep_synced());
        let hasher = scope.spawn(|| shared.hash());
        let started = Instant::now();
        while !hasher.is_finished() {
            // Small files are over soon.
            let fresh = started.elapsed() < Duration::from_millis(100);
            let pause = Duration::from_millis(if fresh { 5 } else { 50 });
            if control.wait_while(Wish::Run, pause) != Wish::Run && !shared.lock().halted {
                shared.lock().halted = true;
                shared.changed.notify_all();
                agent.clone().shutdown();
            }
            tell(shared.tick());
        }
        hasher.join().expect("hashing does not panic")
    });
    let mut state = shared
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let sync = |state: &mut State| {
        partial
            .data
            .sync_all()
            .map_err(Error::io("write", &partial.place))?;
        let unsynced = std::mem::take(&mut state.unsynced);
        state.journal.record_synced(&unsynced)
    };
    let synced = sync(&mut state);
    if let Some(error) = state.failed {
        return Err(error);
    }
    synced?;
    match hash? {
        Some(hash) => Ok(Ended::Whole { hash }),
        None => Ok(Ended::Wished),
    }
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> Tick {
        let state = self.lock();
        let pending = self.pending.load(Ordering::Relaxed);
        Tick {
            done_bytes: (state.there.bytes() + pending).min(self.task.file.bytes),
            waiting: state.waiting.clone(),
        }
    }

    fn fail(&self, error: Error) {
        let mut state = self.lock();
        if state.failed.is_none() && !state.halted {
            state.failed = Some(error);
        }
        state.halted = true;
        drop(state);
        self.changed.notify_all();
        self.agent.clone().shutdown();
    }

    /// Fetches pieces until none is left to take.
    fn work(&self, worker: usize) {
        let limits = self.task.limits;
        let mut failures = 0;
        let mut received_before = 0;
        while let Some((from, to)) = self.take(worker) {
            let before = self.received();
            let result = self.fetch(worker, from, to);
            let mut state = self.lock();
            state.taken.remove(from, to);
            if state.halted {
                break;
            }
            drop(state);
            let received = self.received() - before;
            let (problem, wish) = match result {
                Ok(()) => {
                    failures = 0;
                    self.lock().waiting = None;
                    continue;
                }
                Err(Failure::Lasting(error)) => {
                    self.fail(error);
                    break;
                }
                Err(Failure::Passing { problem, wait }) => (problem, wait),
            };
            if received >= GOOD_BYTES {
                failures = 0;
            }
            if failures == 0 {
                received_before = self.received();
            }
            failures += 1;
            if failures >= limits.tries {
                let mut state = self.lock();
                // The others get on: perhaps the server bears no more connections.
                if state.working > 1 && state.there.bytes() > received_before {
                    state.waiting = None;
                    break;
                }
                let kept_bytes = state.there.bytes();
                let address = state.address.take();
                drop(state);
                self.fail(Error::Network {
                    host: http::host(address.as_deref().unwrap_or(self.task.address)),
                    problem,
                    tries: failures,
                    kept_bytes,
                });
                break;
            }
            let wait = match wish {
                Some(wish) => wish.min(limits.longest_wish),
                None if received >= GOOD_BYTES => Duration::ZERO,
                None => limits.wait(failures, chance()),
            };
            self.wait(wait, &problem);
        }
        self.lock().working -= 1;
        self.changed.notify_all();
    }

    /// Bytes that came and are recorded, of this session and before.
    fn received(&self) -> u64 {
        self.lock().there.bytes()
    }

    fn wait(&self, wait: Duration, problem: &str) {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        if wait >= Duration::from_millis(500) {
            let seconds = wait.as_secs_f64();
            state.waiting = Some(format!("{problem}; again in {seconds:.0} s"));
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.halted {
                return;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The next piece that nobody has; none when there is none, or another worker must do it. Waits until the first
    /// worker has had a good answer, so that a refusal is asked for once.
    fn take(&self, worker: usize) -> Option<(u64, u64)> {
        let mut state = self.lock();
        loop {
            if state.halted || state.whole_only.is_some_and(|only| only != worker) {
                return None;
            }
            if worker == 0 || state.opened {
                break;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let (from, to) = state.there.first_gap(
            &state.taken,
            self.task.file.bytes,
            self.task.limits.piece_bytes,
        )?;
        state.taken.insert(from, to);
        Some((from, to))
    }

    /// Fetches `from..to`, or the whole file if the server gives nothing less.
    fn fetch(&self, worker: usize, from: u64, to: u64) -> Result<(), Failure> {
        let bytes = self.task.file.bytes;
        let range = (from > 0 || to < bytes).then_some((from, to));
        let known = self.lock().address.clone();
        let address = known.as_deref().unwrap_or(self.task.address);
        let answer = match http::get(self.agent, self.task.settings, address, range) {
            Ok(answer) => answer,
            Err(failure) => {
                self.forget(known.as_deref());
                return Err(failure);
            }
        };
        let status = answer.response.status().as_u16();
        if known.is_none() && (status == 200 || status == 206) {
            self.check_hub(&answer.hub)?;
        }
        let (at, end) = match status {
            206 if range.is_some() => (from, self.part_end(&answer, from, to)?),
            200 => {
                if let Some(length) = http::text(answer.response.headers(), "content-length")
                    && length != bytes.to_string()
                {
                    return Err(self.unusable(
                        &answer.address,
                        &format!("{length} bytes instead of {bytes}"),
                    ));
                }
                if range.is_some() {
                    let mut state = self.lock();
                    if *state.whole_only.get_or_insert(worker) != worker {
                        return Ok(());
                    }
                }
                (0, bytes)
            }
            416 => {
                return Err(self.unusable(
                    &answer.address,
                    &format!("it has no bytes {from} to {to} of {bytes}"),
                ));
            }
            _ => {
                self.forget(known.as_deref());
                return Err(http::refusal(self.task.settings, self.task.subject, answer));
            }
        };
        let mut state = self.lock();
        state.opened = true;
        state.waiting = None;
        if answer.address != self.task.address {
            state.address = Some(answer.address);
        }
        drop(state);
        self.changed.notify_all();
        self.receive(answer.response.into_body().into_reader(), at, end)
    }

    /// An address that no longer works is asked for again; a signed one runs out after a while.
    fn forget(&self, address: Option<&str>) {
        let mut state = self.lock();
        if address.is_some() && state.address.as_deref() == address {
            state.address = None;
        }
    }

    fn unusable(&self, address: &str, problem: &str) -> Failure {
        Failure::Lasting(Error::Answer {
            host: http::host(address),
            problem: format!("of {}, {problem}", self.task.file.path),
        })
    }

    /// The hub must give the very file that it listed.
    fn check_hub(&self, headers: &ureq::http::HeaderMap) -> Result<(), Failure> {
        let changed = |what: &str, found: &str, listed: &str| {
            Err(self.unusable(
                self.task.address,
                &format!("the {what} is now {found}, not {listed}"),
            ))
        };
        if let Some(commit) = http::text(headers, "x-repo-commit")
            && commit != self.task.subject.revision
        {
            return changed("commit", &commit, self.task.subject.revision);
        }
        let redirects = headers.contains_key("location");
        let etag = http::text(headers, "x-linked-etag").or_else(|| {
            // The answer of a storage server has an etag of its own kind.
            (!redirects).then(|| http::text(headers, "etag"))?
        });
        let etag = etag.unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let listed = self.task.file.hash.hex();
        if is_hex(etag, listed.len()) && etag != listed {
            return changed("hash", etag, listed);
        }
        Ok(())
    }

    /// Where the part that an answer 206 gives ends.
    fn part_end(&self, answer: &http::Answer, from: u64, to: u64) -> Result<u64, Failure> {
        let given = http::text(answer.response.headers(), "content-range").unwrap_or_default();
        let parsed = || {
            let (range, total) = given.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let first: u64 = first.parse().ok()?;
            let last: u64 = last.parse().ok()?;
            let total: Option<u64> = (total != "*").then(|| total.parse()).transpose().ok()?;
            Some((first, last, total))
        };
        match parsed() {
            Some((first, last, total))
                if first == from
                    && last >= from
                    && total.is_none_or(|total| total == self.task.file.bytes) =>
            {
                Ok(last.saturating_add(1).min(to))
            }
            _ => Err(self.unusable(
                &answer.address,
                &format!(
                    "the part {given:?} instead of bytes {from} to {to} of {}",
                    self.task.file.bytes
                ),
            )),
        }
    }

    /// Writes what comes to `from..to` of the file.
    fn receive(&self, mut body: impl Read, from: u64, to: u64) -> Result<(), Failure> {
        let limits = self.task.limits;
        let mut buffer = vec![0; BUFFER];
        let mut at = from;
        let mut recorded = from;
        let mut last = Instant::now();
        let result = loop {
            let want = buffer.len().min((to - at) as usize);
            if want == 0 {
                break Ok(());
            }
            let read = match body.read(&mut buffer[..want]) {
                Ok(0) => break Err(Failure::passing("the connection ended early")),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(body_failure(&error)),
            };
            if let Err(error) = write_at(self.data, &buffer[..read], at) {
                break Err(Failure::Lasting(self.write_error(error)));
            }
            at += read as u64;
            self.pending.fetch_add(read as u64, Ordering::Relaxed);
            if at - recorded >= limits.record_bytes || last.elapsed() >= RECORD_EVERY {
                self.record(recorded, at)?;
                recorded = at;
                last = Instant::now();
                if self.lock().halted {
                    break Ok(());
                }
            }
        };
        self.record(recorded, at)?;
        result
    }

    fn record(&self, from: u64, to: u64) -> Result<(), Failure> {
        if from == to {
            return Ok(());
        }
        let mut state = self.lock();
        state.there.insert(from, to);
        state.unsynced.insert(from, to);
        self.pending.fetch_sub(to - from, Ordering::Relaxed);
        state.journal.record(from, to)?;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn write_error(&self, error: std::io::Error) -> Error {
        let file = self.task.file;
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Error::DiskFull {
                what: file.path.clone(),
                need_bytes: file.bytes - self.received(),
                folder: self.task.settings.cache.clone(),
                free_bytes: crate::import::free_disk_bytes(&self.task.settings.cache).unwrap_or(0),
            };
        }
        Error::io("write", &self.task.settings.cache)(error)
    }

    /// Brings to the disk what is written, every so many bytes, or every second: a power cut costs no more than that.
    fn keep_synced(&self) {
        let mut last = Instant::now();
        let mut state = self.lock();
        while state.working > 0 {
            let left = RECORD_EVERY.saturating_sub(last.elapsed());
            state = self
                .changed
                .wait_timeout(state, left.max(Duration::from_millis(1)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            let unsynced = state.unsynced.bytes();
            let late = last.elapsed() >= RECORD_EVERY;
            if unsynced < self.task.limits.sync_bytes && !late {
                continue;
            }
            last = Instant::now();
            if unsynced == 0 {
                continue;
            }
            let ranges = std::mem::take(&mut state.unsynced);
            drop(state);
            let synced = self.data.sync_data();
            state = self.lock();
            let kept = match synced {
                Ok(()) => state.journal.record_synced(&ranges),
                Err(error) => Err(Error::io("write", &self.task.settings.cache)(error)),
            };
            if let Err(error) = kept {
                drop(state);
                self.fail(error);
                return;
            }
        }
    }

    /// The hash of the file once it is whole; none if that does not come about.
    fn hash(&self) -> Result<Option<String>, Error> {
        let bytes = self.task.file.bytes;
        let mut hasher = Hasher::new(&self.task.file.hash, bytes);
        let mut buffer = vec![0; HASH_BUFFER.min(bytes as usize)];
        let mut at = 0;
        while at < bytes {
            let mut state = self.lock();
            let end = loop {
                let end = state.there.end_from(at);
                // Larger steps while more is coming: fewer locks.
                if end == bytes || (end - at) >= HASH_BUFFER as u64 {
                    break end;
                }
                if state.working == 0 || state.halted {
                    return Ok(None);
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            while at < end {
                if self.lock().halted {
                    return Ok(None);
                }
                let block = buffer.len().min((end - at) as usize);
                read_at(self.data, &mut buffer[..block], at)
                    .map_err(Error::io("read", &self.task.settings.cache))?;
                hasher.update(&buffer[..block]);
                at += block as u64;
            }
        }
        Ok(Some(hasher.finish()))
    }
}

/// A body that ends early, falls silent or is cut may come whole another time.
fn body_failure(error: &std::io::Error) -> Failure {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ureq::Error>())
    {
        Some(ureq::Error::Timeout(_)) => Failure::passing("it fell silent"),
        Some(ureq::Error::Io(inner)) => Failure::passing(http::io_words(inner)),
        Some(other) => Failure::passing(other.to_string()),
        None => Failure::passing(http::io_words(error)),
    }
}

/// The hash by which the hub knows a file.
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    pub(crate) fn new(kind: &BlobHash, bytes: u64) -> Self {
        match kind {
            BlobHash::Sha256(_) => Self::Sha256(Sha256::new()),
            BlobHash::GitSha1(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {bytes}\0"));
                Self::GitSha1(hasher)
            }
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::GitSha1(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        at += read as u64;
    }
    Ok(())
}
