//! Fetches files of a revision into the cache: what is missing only, each checked before it is installed, with a pause, a
//! stop, a quit or a power cut in between if need be.
//!
//! A file counts as installed when its blob has its final name; a revision when its files are linked to, which happens
//! once all are there. One file's connections are `session`, the cache's layout is `cache`.

mod control;
mod journal;
mod ranges;
mod session;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ureq::Agent;

use control::Meter;
pub(crate) use control::Wish;
pub use control::{Control, Event, Progress};
use journal::Partial;
use session::{Ended, Task, Tick};

use crate::Error;
use crate::cache::{BlobLock, RepoCache};
use crate::client::Hub;
use crate::http::{self, Subject};
use crate::import::sync_folder;
use crate::repo::{RemoteFile, RepoId, RepoRevision, Slashes, is_safe_path, percent_encode};
use crate::selection::may_fetch;
use crate::settings::HubSettings;

/// How often to look whether another program has finished the same file.
const LOCK_LOOK: Duration = Duration::from_millis(200);

/// How often to look for files that were taken away.
const ROUNDS: usize = 3;

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of the commit's files.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
    /// The files, in the order they were asked for.
    pub files: Vec<PathBuf>,
}

impl Hub {
    /// Fetches `files` of `revision` into the cache, and gives where they are. Files that are there already are not
    /// fetched again. `control` pauses, stops or cancels from another thread.
    pub fn fetch(
        &self,
        revision: &RepoRevision,
        files: &[RemoteFile],
        control: &Control,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        let result = self.fetch_files(revision, files, control, on_event);
        if matches!(result, Err(Error::Cancelled)) {
            self.discard_files(&revision.repo, files)?;
        }
        result
    }

    /// The same, but leaves what came to the caller after a cancel.
    pub(crate) fn fetch_files(
        &self,
        revision: &RepoRevision,
        files: &[RemoteFile],
        control: &Control,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        for file in files {
            if !is_safe_path(&file.path) || !may_fetch(revision, &file.path) {
                return Err(Error::Kind {
                    file: file.path.clone(),
                });
            }
        }
        let cache = RepoCache::new(&self.settings.cache, &revision.repo);
        self.fetch_all(&cache, revision, files, control, on_event)
    }

    /// Bytes of these files that are here already, whole files and parts.
    pub fn kept_bytes(&self, revision: &RepoRevision, files: &[RemoteFile]) -> u64 {
        let cache = RepoCache::new(&self.settings.cache, &revision.repo);
        files
            .iter()
            .map(|file| kept_bytes(&cache, revision, file))
            .sum()
    }

    /// Removes what a download of these files that did not end has left, but nothing that any revision uses.
    pub(crate) fn discard_files(&self, repo: &RepoId, files: &[RemoteFile]) -> Result<(), Error> {
        let cache = RepoCache::new(&self.settings.cache, repo);
        let used = cache.used_blobs();
        for file in files {
            // Another program that fetches the same file goes on.
            let Some(lock) = cache.try_lock(file.hash.hex())? else {
                continue;
            };
            let blob = cache.blob(&file.hash);
            journal::remove(&blob)?;
            if !used.contains(file.hash.hex()) && blob.exists() {
                std::fs::remove_file(&blob).map_err(Error::io("remove", &blob))?;
            }
            lock.remove();
        }
        cache.remove_empty();
        Ok(())
    }

    fn fetch_all(
        &self,
        cache: &RepoCache,
        revision: &RepoRevision,
        files: &[RemoteFile],
        control: &Control,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        let missing: Vec<&RemoteFile> = files
            .iter()
            .filter(|file| !cache.has(&revision.commit, file))
            .collect();
        let settings = if missing.is_empty() {
            self.settings.clone()
        } else {
            if self.settings.offline {
                return Err(Error::Offline {
                    what: format!("{} of {}", missing[0].path, revision.repo),
                });
            }
            self.check_room(cache, revision, &missing)?;
            cache.prepare()?;
            self.asking()
        };
        let mut report = Report {
            on_event,
            every: self.limits.report,
            last: None,
            meter: Meter::default(),
            file: String::new(),
            file_bytes: 0,
            file_number: 0,
            files: files.len(),
            total_bytes: files.iter().map(|file| file.bytes).sum(),
            before_bytes: 0,
            waiting: None,
            verifying: false,
        };
        let mut fetcher = Fetcher {
            agent: http::agent(&settings, &self.limits),
            settings,
        };
        // Another program that gives up the same download may take away what it left, until all is linked.
        for _ in 0..ROUNDS {
            report.before_bytes = 0;
            for (index, file) in files.iter().enumerate() {
                report.begin(file, index + 1);
                self.fetch_one(cache, revision, file, control, &mut fetcher, &mut report)?;
                report.end(file);
            }
            if files.iter().all(|file| cache.has(&revision.commit, file)) {
                break;
            }
        }
        let files = files
            .iter()
            .map(|file| cache.link(&revision.commit, file))
            .collect::<Result<_, _>>()?;
        cache.set_commit_of(&revision.revision, &revision.commit)?;
        Ok(Fetched {
            folder: cache.snapshot(&revision.commit),
            commit: revision.commit.clone(),
            files,
        })
    }

    fn check_room(
        &self,
        cache: &RepoCache,
        revision: &RepoRevision,
        missing: &[&RemoteFile],
    ) -> Result<(), Error> {
        let need_bytes: u64 = missing
            .iter()
            .map(|file| file.bytes - kept_bytes(cache, revision, file).min(file.bytes))
            .sum();
        if let Some(free_bytes) = self.free_cache_bytes()
            && need_bytes > free_bytes
        {
            return Err(Error::DiskFull {
                what: revision.repo.id.clone(),
                need_bytes,
                folder: self.settings.cache.clone(),
                free_bytes,
            });
        }
        Ok(())
    }

    /// Fetches one file, unless it is here, under its lock.
    fn fetch_one(
        &self,
        cache: &RepoCache,
        revision: &RepoRevision,
        file: &RemoteFile,
        control: &Control,
        fetcher: &mut Fetcher,
        report: &mut Report,
    ) -> Result<(), Error> {
        let kept = || kept_bytes(cache, revision, file);
        let lock = loop {
            obey(control, report, &kept)?;
            if cache.has(&revision.commit, file) {
                return Ok(());
            }
            if let Some(lock) = cache.try_lock(file.hash.hex())? {
                break lock;
            }
            report.waiting(Some(format!(
                "another program is fetching {}; this one waits for it",
                file.path
            )));
            control.wait_while(Wish::Run, LOCK_LOOK);
        };
        report.waiting(None);
        if cache.has(&revision.commit, file) {
            return Ok(());
        }
        remove_outdated(cache, file)?;
        let address = format!(
            "{}/{}/resolve/{}/{}",
            fetcher.settings.endpoint,
            revision.repo.page(),
            revision.commit,
            percent_encode(&file.path, Slashes::Separate)
        );
        let Fetcher { settings, agent } = fetcher;
        let task = Task {
            settings,
            limits: &self.limits,
            subject: Subject {
                repo: &revision.repo,
                revision: &revision.commit,
                file: Some(&file.path),
            },
            file,
            address: &address,
        };
        let blob = cache.blob(&file.hash);
        // What an earlier run left may be damaged; what this one fetched is wrong for good.
        let mut from_before = journal::kept_bytes(&blob, file.bytes, &file.path) > 0;
        loop {
            obey(control, report, &kept)?;
            let partial = Partial::open(&blob, file.bytes, &file.path)?;
            let place = partial.place.clone();
            let ended = session::run(task, agent, partial, control, &mut |tick| {
                report.tick(tick, file);
            });
            let hash = match ended {
                Ok(Ended::Whole { hash }) => hash,
                Ok(Ended::Wished) => {
                    *agent = http::agent(settings, &self.limits);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if hash == file.hash.hex() {
                std::fs::rename(&place, &blob).map_err(Error::io("write", &blob))?;
                sync_folder(blob.parent().expect("blobs is above it"));
                journal::remove(&blob)?;
                drop(lock);
                return Ok(());
            }
            journal::remove(&blob)?;
            if !std::mem::take(&mut from_before) {
                return Err(Error::WrongBytes {
                    file: file.path.clone(),
                    bytes: file.bytes,
                    hash: file.hash.name(),
                    expected: file.hash.hex().to_owned(),
                    found: hash,
                });
            }
        }
    }
}

/// What files are fetched with: the settings with the token in force, and connections that are used again.
struct Fetcher {
    settings: HubSettings,
    agent: Agent,
}

/// Waits out a pause; an error if the person wants the download to end.
fn obey(control: &Control, report: &mut Report, kept: &dyn Fn() -> u64) -> Result<(), Error> {
    if control.now() == Wish::Pause {
        report.paused();
        while control.wait_while(Wish::Pause, Duration::from_hours(1)) == Wish::Pause {}
        report.resumed();
    }
    match control.now() {
        Wish::Cancel => Err(Error::Cancelled),
        Wish::Stop => Err(Error::Stopped {
            kept_bytes: report.before_bytes + kept(),
        }),
        Wish::Run | Wish::Pause => Ok(()),
    }
}

fn kept_bytes(cache: &RepoCache, revision: &RepoRevision, file: &RemoteFile) -> u64 {
    if cache.has(&revision.commit, file) {
        return file.bytes;
    }
    journal::kept_bytes(&cache.blob(&file.hash), file.bytes, &file.path)
}

/// Removes what is there of other versions of the file: nobody will go on with them.
fn remove_outdated(cache: &RepoCache, file: &RemoteFile) -> Result<(), Error> {
    for journal in cache.journals() {
        let hash = journal
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let other = hash != file.hash.hex();
        if other && journal::belongs_to(&journal).as_deref() == Some(&file.path) {
            let lock: Option<BlobLock> = cache.try_lock(&hash)?;
            if let Some(lock) = lock {
                journal::remove(&journal.with_extension(""))?;
                lock.remove();
            }
        }
    }
    Ok(())
}

/// Turns what the sessions tell into events, not too many.
struct Report<'a> {
    on_event: &'a mut dyn FnMut(Event),
    every: Duration,
    last: Option<Instant>,
    meter: Meter,
    file: String,
    file_bytes: u64,
    file_number: usize,
    files: usize,
    total_bytes: u64,
    /// Bytes of the files before this one.
    before_bytes: u64,
    waiting: Option<String>,
    verifying: bool,
}

impl Report<'_> {
    fn begin(&mut self, file: &RemoteFile, number: usize) {
        self.meter.clear();
        self.verifying = false;
        self.file.clone_from(&file.path);
        self.file_bytes = file.bytes;
        self.file_number = number;
    }

    fn end(&mut self, file: &RemoteFile) {
        (self.on_event)(Event::Verified {
            file: file.path.clone(),
        });
        self.progress(file.bytes);
        self.before_bytes += file.bytes;
    }

    fn tick(&mut self, tick: Tick, file: &RemoteFile) {
        let now = Instant::now();
        let whole = tick.done_bytes == file.bytes;
        if !whole && self.last.is_some_and(|last| now - last < self.every) {
            return;
        }
        self.waiting(tick.waiting);
        self.meter.sample(now, self.before_bytes + tick.done_bytes);
        if whole && !self.verifying {
            self.verifying = true;
            (self.on_event)(Event::Verifying {
                file: file.path.clone(),
            });
        } else if !whole {
            self.last = Some(now);
            self.progress(tick.done_bytes);
        }
    }

    fn progress(&mut self, of_file: u64) {
        let done_bytes = (self.before_bytes + of_file).min(self.total_bytes);
        (self.on_event)(Event::Progress(Progress {
            file: self.file.clone(),
            file_number: self.file_number,
            files: self.files,
            file_done_bytes: of_file.min(self.file_bytes),
            file_bytes: self.file_bytes,
            done_bytes,
            total_bytes: self.total_bytes,
            bytes_per_s: self.meter.bytes_per_s(),
            left: self.meter.left(self.total_bytes - done_bytes),
        }));
    }

    fn waiting(&mut self, reason: Option<String>) {
        if self.waiting == reason {
            return;
        }
        self.waiting.clone_from(&reason);
        if let Some(reason) = reason {
            (self.on_event)(Event::Waiting { reason });
        }
    }

    fn paused(&mut self) {
        self.meter.clear();
        (self.on_event)(Event::Paused);
    }

    fn resumed(&mut self) {
        (self.on_event)(Event::Resumed);
    }
}
