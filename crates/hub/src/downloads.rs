//! A model's download from its plan to the model: what it would fetch and whether there is room, fetching it, going on
//! with it after a quit, and removing what is left of one that is not wanted any more.
//!
//! While a download has not ended, `models--OWNER--NAME/.billion-downloads/KEY.json` says of what files it is, so that it
//! can be listed and discarded without asking the hub again. Transfer of the files is `transfer`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::cache::{RepoCache, model_repos};
use crate::catalogue::Known;
use crate::client::Hub;
use crate::fingerprint::hex;
use crate::hub_models::{HubModel, id};
use crate::import::free_disk_bytes;
use crate::repo::{
    BlobHash, DEFAULT_REVISION, RemoteFile, RepoReference, RepoRevision, is_hex, is_safe_path,
};
use crate::selection::needs_conversion;
use crate::transfer::{Control, Event};

/// A file of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What is here of it.
    pub kept_bytes: u64,
}

/// What a download would do, asked of the hub and held against this machine; nothing is written by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadPlan {
    /// What commands will take as MODEL.
    pub id: String,
    /// For people.
    pub name: String,
    /// What was asked for.
    pub reference: RepoReference,
    /// The commit that it is now.
    pub commit: String,
    /// The files, in the order they will come.
    pub files: Vec<PlannedFile>,
    /// Of all files.
    pub total_bytes: u64,
    /// What is not here yet.
    pub bytes_to_fetch: u64,
    /// Free on the disk of the cache; none where the system does not say.
    pub free_bytes: Option<u64>,
    /// Its owner gives it to accounts only that accepted the licence.
    pub gated: bool,
    /// Licence by its card.
    pub license: Option<String>,
    /// Its weights come as PyTorch's pickle and must be converted before use (`HubModel::needs_conversion`).
    pub needs_conversion: bool,
    work: Work,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing: it is here, and needs nothing of the hub.
    Here(HubModel),
    /// To fetch these files.
    Fetch {
        revision: RepoRevision,
        files: Vec<RemoteFile>,
    },
}

impl DownloadPlan {
    /// Everything is here already.
    pub fn is_installed(&self) -> bool {
        matches!(self.work, Work::Here(_)) || self.bytes_to_fetch == 0
    }

    /// Whether the disk has room for what is to come; an error with both figures if it has not. `Hub::download` asks it
    /// before it begins.
    pub fn check_room(&self, hub: &Hub) -> Result<(), Error> {
        match self.free_bytes {
            Some(free_bytes) if self.bytes_to_fetch > free_bytes => Err(Error::DiskFull {
                what: self.name.clone(),
                need_bytes: self.bytes_to_fetch,
                folder: hub.settings().cache.clone(),
                free_bytes,
            }),
            _ => Ok(()),
        }
    }
}

/// What a known model's download takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadSize {
    /// Of all its files.
    pub bytes: u64,
    /// Computed from the number of parameters: neither the hub nor the cache has told yet.
    pub estimated: bool,
}

/// A download that was stopped, or whose program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What commands will take as MODEL.
    pub id: String,
    /// What was asked for; `Hub::plan` goes on with it.
    pub reference: RepoReference,
    /// What is here.
    pub kept_bytes: u64,
    /// Of all files.
    pub total_bytes: u64,
}

impl Hub {
    /// What a download of this reference (`Hub::reference`) would do. `control` may end the wait for the hub.
    pub fn plan(
        &self,
        reference: &RepoReference,
        control: &Control,
    ) -> Result<DownloadPlan, Error> {
        if self.settings().offline
            && let Some(model) = self.model_on_this_machine(reference)
        {
            return Ok(self.plan_of_installed(reference, model));
        }
        let revision = self.resolve(reference, control)?;
        let remote = revision.model_files(reference.file.as_deref())?;
        let cache = RepoCache::new(&self.settings().cache, &revision.repo);
        let conversion = needs_conversion(&remote);
        if conversion
            && let Some(model) = self.model_on_this_machine(&RepoReference {
                revision: revision.commit.clone(),
                ..reference.clone()
            })
            && !model.needs_conversion
        {
            // Converted before, under this name or another.
            cache.set_commit_of(&revision.revision, &revision.commit)?;
            return Ok(self.plan_of_installed(reference, model));
        }
        let files: Vec<PlannedFile> = remote
            .iter()
            .map(|file| PlannedFile {
                path: file.path.clone(),
                bytes: file.bytes,
                kept_bytes: self.kept_bytes(&revision, std::slice::from_ref(file)),
            })
            .collect();
        let alone = match &remote[..] {
            [only] => Some(only.path.as_str()),
            _ => None,
        };
        let total_bytes = files.iter().map(|file| file.bytes).sum();
        if reference.file.is_none() {
            self.remember_size(&revision, total_bytes);
        }
        Ok(DownloadPlan {
            id: id(&reference.repo, &reference.revision, alone),
            name: name(reference, alone),
            reference: reference.clone(),
            commit: revision.commit.clone(),
            total_bytes,
            bytes_to_fetch: files.iter().map(|file| file.bytes - file.kept_bytes).sum(),
            files,
            free_bytes: self.free_cache_bytes(),
            gated: revision.gated,
            license: revision.license.clone(),
            needs_conversion: conversion,
            work: Work::Fetch {
                revision,
                files: remote,
            },
        })
    }

    /// What the download of a known model takes: by the hub where this process has planned or looked at it, by its files
    /// where it is here, else about.
    pub fn download_size(&self, known: &Known) -> DownloadSize {
        let told = self.sizes().get(known.repository).copied();
        let here = || {
            let reference = Self::reference(known.id).ok()?;
            Some(self.model_on_this_machine(&reference)?.bytes)
        };
        let exact = told.or_else(here);
        DownloadSize {
            bytes: exact.unwrap_or_else(|| known.about_bytes()),
            estimated: exact.is_none(),
        }
    }

    /// Remembers what the hub told of the main revision of a repository.
    pub(crate) fn remember_size(&self, revision: &RepoRevision, bytes: u64) {
        if revision.revision == DEFAULT_REVISION {
            self.sizes().insert(revision.repo.id.clone(), bytes);
        }
    }

    fn sizes(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was planned, and gives the model. It asks for room first; what is here is not fetched again. After
    /// `Error::Stopped` (`Control::stop`, a pause that outlives the program) a later plan goes on; after
    /// `Error::Cancelled` (`Control::cancel`) nothing is left of it.
    pub fn download(
        &self,
        plan: &DownloadPlan,
        control: &Control,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<HubModel, Error> {
        let (revision, files) = match &plan.work {
            Work::Here(model) => return Ok(model.clone()),
            Work::Fetch { revision, files } => (revision, files),
        };
        plan.check_room(self)?;
        let cache = RepoCache::new(&self.settings().cache, &revision.repo);
        let record = Record::new(revision, plan.reference.file.clone(), files);
        if let Some(old) = Record::read(&cache, &plan.reference)
            && old.commit != record.commit
        {
            // Of a version that is no more: nobody will go on with it.
            self.discard(&plan.reference)?;
        }
        if plan.bytes_to_fetch > 0 && !self.settings().offline {
            record.write(&cache, &plan.reference)?;
        }
        let fetched = self.fetch_files(revision, files, control, on_event);
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                let nothing_came = self.kept_bytes(revision, files) == 0;
                if matches!(error, Error::Cancelled) || nothing_came {
                    self.discard(&plan.reference)?;
                }
                return Err(error);
            }
        };
        Record::remove(&cache, &plan.reference);
        // A file named or found alone is opened by itself, safetensors with their folder.
        let path = match &fetched.files[..] {
            [only] => only.clone(),
            _ => fetched.folder,
        };
        Ok(HubModel {
            id: plan.id.clone(),
            repo: revision.repo.clone(),
            revision: revision.revision.clone(),
            commit: fetched.commit,
            path,
            bytes: plan.total_bytes,
            needs_conversion: plan.needs_conversion,
        })
    }

    /// Removes what a download of this reference that did not end has left: parts, whole files that nothing uses, locks,
    /// folders. It asks nothing of the hub. What another program is fetching just now, and what is installed, stays.
    pub fn discard(&self, reference: &RepoReference) -> Result<(), Error> {
        let cache = RepoCache::new(&self.settings().cache, &reference.repo);
        let Some(record) = Record::read(&cache, reference) else {
            cache.remove_empty();
            return Ok(());
        };
        Record::remove(&cache, reference);
        // What another download of the repository needs too stays for it.
        let wanted = wanted_hashes(&cache);
        let files: Vec<RemoteFile> = record
            .files
            .into_iter()
            .filter_map(RecordedFile::file)
            .filter(|file| !wanted.contains(file.hash.hex()))
            .collect();
        self.discard_files(&reference.repo, &files)
    }

    /// Downloads that did not end, by id.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let mut found = Vec::new();
        for repo in model_repos(&self.settings().cache) {
            let cache = RepoCache::new(&self.settings().cache, &repo);
            for record in Record::all(&cache) {
                let files: Vec<RemoteFile> = record
                    .files
                    .iter()
                    .cloned()
                    .filter_map(RecordedFile::file)
                    .collect();
                let alone = match &files[..] {
                    [only] => Some(only.path.as_str()),
                    _ => None,
                };
                let revision = RepoRevision {
                    repo: repo.clone(),
                    revision: record.revision.clone(),
                    commit: record.commit.clone(),
                    files: Vec::new(),
                    gated: false,
                    license: None,
                };
                found.push(Unfinished {
                    id: id(&repo, &record.revision, alone),
                    kept_bytes: self.kept_bytes(&revision, &files),
                    total_bytes: files.iter().map(|file| file.bytes).sum(),
                    reference: RepoReference {
                        repo: repo.clone(),
                        revision: record.revision,
                        file: record.file,
                    },
                });
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// Free on the disk of the cache, which may be about to be made.
    pub fn free_cache_bytes(&self) -> Option<u64> {
        let cache = &self.settings().cache;
        let there = cache.ancestors().find(|folder| folder.is_dir())?;
        free_disk_bytes(there)
    }

    fn plan_of_installed(&self, reference: &RepoReference, model: HubModel) -> DownloadPlan {
        let cache = RepoCache::new(&self.settings().cache, &reference.repo);
        let files: Vec<PlannedFile> = model
            .files(&cache)
            .into_iter()
            .filter_map(|path| {
                let bytes = std::fs::metadata(cache.pointer(&model.commit, &path))
                    .ok()?
                    .len();
                Some(PlannedFile {
                    path,
                    bytes,
                    kept_bytes: bytes,
                })
            })
            .collect();
        DownloadPlan {
            id: model.id.clone(),
            name: name(reference, reference.file.as_deref()),
            reference: reference.clone(),
            commit: model.commit.clone(),
            total_bytes: files.iter().map(|file| file.bytes).sum(),
            bytes_to_fetch: 0,
            files,
            free_bytes: self.free_cache_bytes(),
            gated: false,
            license: None,
            needs_conversion: model.needs_conversion,
            work: Work::Here(model),
        }
    }
}

/// Hashes of files that downloads which did not end still need.
pub(crate) fn wanted_hashes(cache: &RepoCache) -> BTreeSet<String> {
    Record::all(cache)
        .into_iter()
        .flat_map(|record| record.files)
        .map(|file| file.hash)
        .collect()
}

/// "Pythia 1B at step1000", "owner/name: model.Q4_0.gguf".
fn name(reference: &RepoReference, file: Option<&str>) -> String {
    let known = Known::of_repository(&reference.repo.id).map(|known| known.name);
    let mut name = known.unwrap_or(&reference.repo.id).to_owned();
    if reference.revision != DEFAULT_REVISION {
        let short = if is_hex(&reference.revision, 40) {
            &reference.revision[..12]
        } else {
            &reference.revision
        };
        name = format!("{name} at {short}");
    }
    match file {
        Some(file) => format!("{name}: {file}"),
        None => name,
    }
}

/// What is recorded of a download while it has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    revision: String,
    file: Option<String>,
    commit: String,
    files: Vec<RecordedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedFile {
    path: String,
    bytes: u64,
    /// SHA-256 if it has 64 digits, else git's SHA-1.
    hash: String,
}

impl RecordedFile {
    /// None if it is no file of a repository: records lie where anyone may write.
    fn file(self) -> Option<RemoteFile> {
        let hash = if is_hex(&self.hash, 64) {
            BlobHash::Sha256(self.hash)
        } else if is_hex(&self.hash, 40) {
            BlobHash::GitSha1(self.hash)
        } else {
            return None;
        };
        is_safe_path(&self.path).then_some(RemoteFile {
            path: self.path,
            bytes: self.bytes,
            hash,
        })
    }
}

impl Record {
    fn new(revision: &RepoRevision, file: Option<String>, files: &[RemoteFile]) -> Self {
        Self {
            revision: revision.revision.clone(),
            file,
            commit: revision.commit.clone(),
            files: files
                .iter()
                .map(|file| RecordedFile {
                    path: file.path.clone(),
                    bytes: file.bytes,
                    hash: file.hash.hex().to_owned(),
                })
                .collect(),
        }
    }

    fn place(cache: &RepoCache, reference: &RepoReference) -> PathBuf {
        let key = format!(
            "{}\n{}",
            reference.revision,
            reference.file.as_deref().unwrap_or_default()
        );
        let key = hex(&Sha256::digest(key.as_bytes()));
        cache.downloads().join(format!("{}.json", &key[..16]))
    }

    fn write(&self, cache: &RepoCache, reference: &RepoReference) -> Result<(), Error> {
        let place = Self::place(cache, reference);
        let folder = cache.downloads();
        let text = serde_json::to_string(self).expect("a record is plain data");
        let fresh = place.with_extension(format!("{}.new", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &place))
            .map_err(Error::io("write", &place))
    }

    fn read(cache: &RepoCache, reference: &RepoReference) -> Option<Self> {
        let text = std::fs::read(Self::place(cache, reference)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn remove(cache: &RepoCache, reference: &RepoReference) {
        // One that stays behind shows as a download that can be discarded.
        let _ = std::fs::remove_file(Self::place(cache, reference));
        let _ = std::fs::remove_dir(cache.downloads());
    }

    fn all(cache: &RepoCache) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(cache.downloads()) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|place| place.extension().is_some_and(|ending| ending == "json"))
            .filter_map(|place| serde_json::from_slice(&std::fs::read(place).ok()?).ok())
            .filter(|record: &Self| is_hex(&record.commit, 40))
            .collect()
    }
}
