//! The cache folder, laid out as Python's huggingface_hub does, so that what one fetched the other finds:
//! `models--OWNER--NAME/{blobs/HASH, snapshots/COMMIT/PATH -> blob, refs/REVISION}` and `.locks/models--OWNER--NAME/`.
//!
//! It looks, links and locks; it fetches nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::import::sync_folder;
use crate::repo::{BlobHash, RemoteFile, RepoId, RepoKind, is_hex, is_safe_path};

/// The part of the cache that belongs to one repository.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    /// `models--OWNER--NAME`.
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, repo: &RepoId) -> Self {
        let kind = match repo.kind {
            RepoKind::Model => hf_hub::RepoType::Model,
            RepoKind::Dataset => hf_hub::RepoType::Dataset,
        };
        let name = hf_hub::Repo::new(repo.id.clone(), kind).folder_name();
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// Where the bytes of this hash lie, or would.
    pub(crate) fn blob(&self, hash: &BlobHash) -> PathBuf {
        self.blobs().join(hash.hex())
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// The folder of records of downloads that have not ended.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.join(".billion-downloads")
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a file of a commit lies, or would.
    pub(crate) fn pointer(&self, commit: &str, path: &str) -> PathBuf {
        let mut place = self.snapshot(commit);
        place.extend(path.split('/'));
        place
    }

    /// Makes the folder of blobs.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        let blobs = self.blobs();
        std::fs::create_dir_all(&blobs).map_err(Error::io("make", &blobs))
    }

    /// Whether the file is here whole: its blob, or where links cannot be made the file itself.
    pub(crate) fn has(&self, commit: &str, file: &RemoteFile) -> bool {
        let whole = |place: &Path| {
            std::fs::metadata(place).is_ok_and(|about| about.is_file() && about.len() == file.bytes)
        };
        whole(&self.blob(&file.hash)) || whole(&self.pointer(commit, &file.path))
    }

    /// Gives a blob its name in the commit.
    pub(crate) fn link(&self, commit: &str, file: &RemoteFile) -> Result<PathBuf, Error> {
        let blob = self.blob(&file.hash);
        let pointer = self.pointer(commit, &file.path);
        if blob.exists() {
            let same = |place: &Path| place.canonicalize().ok();
            if pointer.exists() && same(&pointer) == same(&blob) {
                return Ok(pointer);
            }
        } else if pointer.exists() {
            return Ok(pointer);
        } else {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(Error::io("find", &blob)(gone));
        }
        let parent = pointer.parent().expect("a snapshot is above it");
        std::fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
        // As deep as the file lies below the repository's folder: snapshots, the commit, and its own folders.
        let mut target: PathBuf = (0..=file.path.split('/').count()).map(|_| "..").collect();
        target.push("blobs");
        target.push(file.hash.hex());
        // Under another name first, so that the file is never gone.
        let fresh = parent.join(format!(
            ".{}-{}.new",
            std::process::id(),
            &file.hash.hex()[..12]
        ));
        let _ = std::fs::remove_file(&fresh);
        let made = symlink(&target, &fresh)
            .or_else(|_| std::fs::hard_link(&blob, &fresh))
            .or_else(|_| std::fs::copy(&blob, &fresh).map(|_| ()))
            .and_then(|()| std::fs::rename(&fresh, &pointer));
        if let Err(error) = made {
            let _ = std::fs::remove_file(&fresh);
            return Err(Error::io("write", &pointer)(error));
        }
        sync_folder(parent);
        Ok(pointer)
    }

    /// Records which commit a branch or tag is now.
    pub(crate) fn set_commit_of(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let mut place = self.folder.join("refs");
        place.extend(revision.split('/'));
        let parent = place.parent().expect("refs is above it");
        let fresh = parent.join(format!(".{}.new", std::process::id()));
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&fresh, commit))
            .and_then(|()| std::fs::rename(&fresh, &place))
            .map_err(Error::io("write", &place))
    }

    /// The commit that a branch or tag was when it was last asked for; a commit is itself.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_hex(revision, 40) {
            return Some(revision.to_owned());
        }
        let mut place = self.folder.join("refs");
        place.extend(revision.split('/'));
        let commit = std::fs::read_to_string(place).ok()?.trim().to_owned();
        is_hex(&commit, 40).then_some(commit)
    }

    /// Branches and tags that were asked for, with the commit each was then; sorted.
    pub(crate) fn revisions(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = files_below(&self.folder.join("refs"))
            .into_iter()
            .filter_map(|name| {
                let commit = self.commit_of(&name)?;
                Some((name, commit))
            })
            .collect();
        found.sort();
        found
    }

    /// The files of a commit that are here, as paths in the repository, sorted.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        files_below(&self.snapshot(commit))
    }

    /// Commits that have files here.
    pub(crate) fn commits(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("snapshots")) else {
            return Vec::new();
        };
        let mut commits: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_hex(name, 40))
            .collect();
        commits.sort();
        commits
    }

    /// Names of the blobs that files of any commit lead to.
    pub(crate) fn used_blobs(&self) -> std::collections::BTreeSet<String> {
        let mut used = std::collections::BTreeSet::new();
        for commit in self.commits() {
            for path in self.files(&commit) {
                if let Ok(target) = std::fs::read_link(self.pointer(&commit, &path))
                    && let Some(name) = target.file_name()
                {
                    used.insert(name.to_string_lossy().into_owned());
                }
            }
        }
        used
    }

    /// Journals of files that are coming.
    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.blobs()) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|place| place.extension().is_some_and(|e| e == "billion-journal"))
            .collect()
    }

    /// Takes the lock of a blob, which Python takes too; none while another has it.
    pub(crate) fn try_lock(&self, hash: &str) -> Result<Option<BlobLock>, Error> {
        std::fs::create_dir_all(&self.locks).map_err(Error::io("make", &self.locks))?;
        let place = self.locks.join(format!("{hash}.lock"));
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&place)
                .map_err(Error::io("write", &place))?;
            match file.try_lock() {
                Ok(()) if !is_at(&file, &place) => {}
                // Some network disks have no locks: then only the renaming at the end protects.
                Ok(()) => return Ok(Some(BlobLock { place, file })),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error))
                    if error.kind() == std::io::ErrorKind::Unsupported =>
                {
                    return Ok(Some(BlobLock { place, file }));
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &place)(error)),
            }
        }
    }

    /// Removes a file of a commit, and the folders that are empty then.
    pub(crate) fn unlink(&self, commit: &str, path: &str) -> Result<(), Error> {
        let pointer = self.pointer(commit, path);
        std::fs::remove_file(&pointer).map_err(Error::io("remove", &pointer))?;
        remove_empty_above(&pointer, &self.folder);
        Ok(())
    }

    /// Removes a commit whole: its files' names, the names it is known by, and what Python noted as missing in it.
    pub(crate) fn remove_commit(&self, commit: &str) -> Result<(), Error> {
        for (revision, of) in self.revisions() {
            if of == commit {
                let mut place = self.folder.join("refs");
                place.extend(revision.split('/'));
                std::fs::remove_file(&place).map_err(Error::io("remove", &place))?;
                remove_empty_above(&place, &self.folder);
            }
        }
        for folder in [
            self.snapshot(commit),
            self.folder.join(".no_exist").join(commit),
        ] {
            match std::fs::remove_dir_all(&folder) {
                Ok(()) => remove_empty_above(&folder, &self.folder),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("remove", &folder)(error)),
            }
        }
        Ok(())
    }

    /// Names of the whole blobs that are here.
    pub(crate) fn whole_blobs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.blobs()) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_hex(name, 40) || is_hex(name, 64))
            .collect()
    }

    /// Removes a whole blob, unless another program holds its lock; says whether it did.
    pub(crate) fn remove_blob(&self, name: &str) -> Result<bool, Error> {
        let Some(lock) = self.try_lock(name)? else {
            return Ok(false);
        };
        let blob = self.blobs().join(name);
        let removed = std::fs::remove_file(&blob);
        lock.remove();
        match removed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", &blob)(error)),
        }
    }

    /// Bytes of all blobs and of files that are no links to them; a file of two names counts once where the system tells.
    pub(crate) fn bytes(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        let mut bytes = 0;
        let mut folders = vec![self.blobs(), self.folder.join("snapshots")];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                let Ok(about) = entry.metadata() else {
                    continue;
                };
                if about.is_dir() {
                    folders.push(entry.path());
                } else if about.is_file() && identity(&about).is_none_or(|id| seen.insert(id)) {
                    bytes += about.len();
                }
            }
        }
        bytes
    }

    /// Removes the folders that hold nothing.
    pub(crate) fn remove_empty(&self) {
        let above = self.locks.parent().map(Path::to_owned);
        let folders = ["blobs", "snapshots", "refs", ".no_exist"]
            .iter()
            .map(|name| self.folder.join(name))
            .chain([self.downloads(), self.folder.clone(), self.locks.clone()])
            .chain(above);
        for folder in folders {
            // It fails where something is left, as it should.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Removes the folders above `place` that are empty, up to `root`, which stays.
fn remove_empty_above(place: &Path, root: &Path) {
    for folder in place.ancestors().skip(1) {
        if folder == root || std::fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// What tells a file from all others, whatever its name.
#[cfg(unix)]
#[allow(
    clippy::unnecessary_wraps,
    reason = "not every system tells files apart"
)]
fn identity(about: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    Some((about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// Files in a folder and those below it, as paths with '/', sorted; links count where they lead to a file.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{prefix}{name}");
            let place = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((place, format!("{path}/")));
            } else if place.is_file() && is_safe_path(&path) && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Repositories of models that have a folder in the cache, sorted.
pub(crate) fn model_repos(cache: &Path) -> Vec<RepoId> {
    let Ok(entries) = std::fs::read_dir(cache) else {
        return Vec::new();
    };
    let mut repos: Vec<RepoId> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let id = name.strip_prefix("models--")?.replace("--", "/");
            RepoId::new(RepoKind::Model, &id).ok()
        })
        .collect();
    repos.sort_by(|a, b| a.id.cmp(&b.id));
    repos
}

/// A blob that nobody else writes while this is held.
#[derive(Debug)]
pub(crate) struct BlobLock {
    place: PathBuf,
    file: File,
}

impl BlobLock {
    /// Ends the lock and removes its file.
    pub(crate) fn remove(self) {
        // While it is held, so that nobody waits for a file that is gone; who opened it before looks again.
        let _ = std::fs::remove_file(&self.place);
        drop(self.file);
    }
}

/// Whether the open file is the one of this name still.
#[cfg(unix)]
fn is_at(file: &File, place: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (file.metadata(), std::fs::metadata(place)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn file(path: &str, bytes: u64) -> RemoteFile {
        RemoteFile {
            path: path.to_owned(),
            bytes,
            hash: BlobHash::GitSha1("f".repeat(40)),
        }
    }

    fn cache(dir: &Path) -> RepoCache {
        let repo = RepoId::new(RepoKind::Dataset, "cais/mmlu").expect("a name");
        RepoCache::new(dir, &repo)
    }

    #[test]
    fn files_lie_where_hf_hub_looks_for_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = cache(dir.path());
        let deep = file("all/test.parquet", 3);
        cache.prepare().expect("made");
        assert!(!cache.has(COMMIT, &deep));
        std::fs::write(cache.blob(&deep.hash), "abc").expect("written");
        assert!(cache.has(COMMIT, &deep));
        assert!(!cache.has(COMMIT, &file("all/test.parquet", 4)));
        let pointer = cache.link(COMMIT, &deep).expect("linked");
        assert_eq!(cache.link(COMMIT, &deep).expect("linked"), pointer);
        assert_eq!(std::fs::read_to_string(&pointer).expect("read"), "abc");
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(&pointer).expect("a link"),
            Path::new("../../../blobs").join("f".repeat(40))
        );
        cache.set_commit_of("refs/pr/1", COMMIT).expect("recorded");
        cache.set_commit_of("main", COMMIT).expect("recorded");
        assert_eq!(cache.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        let oracle = hf_hub::Cache::new(dir.path().to_owned()).dataset("cais/mmlu".to_owned());
        assert_eq!(oracle.get("all/test.parquet"), Some(pointer));
        assert_eq!(cache.files(COMMIT), ["all/test.parquet"]);
        assert_eq!(cache.commits(), [COMMIT]);
        #[cfg(unix)]
        assert!(cache.used_blobs().contains(&"f".repeat(40)));
        // A blob that was replaced, or a link that leads nowhere, is mended.
        std::fs::remove_file(cache.blob(&deep.hash)).expect("removed");
        #[cfg(unix)]
        assert!(!cache.has(COMMIT, &deep));
    }

    #[test]
    fn a_blob_has_one_writer_and_its_lock_can_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = cache(dir.path());
        let first = cache.try_lock("abc").expect("asked").expect("free");
        assert!(cache.try_lock("abc").expect("asked").is_none());
        assert!(cache.try_lock("def").expect("asked").is_some());
        first.remove();
        let again = cache.try_lock("abc").expect("asked").expect("free");
        again.remove();
        cache
            .try_lock("def")
            .expect("asked")
            .expect("free")
            .remove();
        cache.remove_empty();
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }
}
