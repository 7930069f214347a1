//! SHA-256 of model files, and a cache of what was found in a model, kept for as long as its files stay the same.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::facts::{Facts, inspect};
use crate::import::model_files;
use crate::repo::is_hex;

/// SHA-256 of a file of weights: the name of its blob where it lies in the hub's cache, which was checked when it came, or
/// else by reading it.
fn sha256_of_weights(path: &Path) -> Result<String, Error> {
    match blob_hash(path) {
        Some(hash) => Ok(hash),
        None => sha256_file(path),
    }
}

/// The SHA-256 in the name of the blob that a link leads to.
fn blob_hash(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let in_blobs = target.parent()?.file_name()? == "blobs";
    let name = target.file_name()?.to_str()?;
    (in_blobs && is_hex(name, 64)).then(|| name.to_owned())
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256_file(path: &Path) -> Result<String, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One hash for all weights of a model: the file's own, or of several the hash of their list as `sha256sum` prints it.
pub(crate) fn sha256_weights(files: &[(String, String)]) -> String {
    let weights: Vec<&(String, String)> =
        files.iter().filter(|(name, _)| is_weights(name)).collect();
    if let [(_, only)] = weights[..] {
        return only.clone();
    }
    let mut list = Sha256::new();
    for (name, hash) in weights {
        list.update(format!("{hash}  {name}\n"));
    }
    hex(&list.finalize())
}

pub(crate) fn is_weights(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    matches!(extension, Some("gguf" | "safetensors"))
}

/// What was found in a model, and of which files it is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this record: another one is thrown away.
    pub version: u32,
    /// Name, size and time of change of every file.
    pub files: Vec<(String, u64, u64)>,
    /// Hash of the weights.
    pub sha256: String,
    /// What the model says of itself.
    pub facts: Facts,
}

const VERSION: u32 = 1;

/// Records in a folder, one for each path.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What is found in the model at `path`, from the record if none of its files has changed since.
    pub(crate) fn read(&self, path: &Path) -> Result<Record, Error> {
        let now = stamps(path)?;
        let place = self.place(path);
        if let Some(known) = load(&place)
            && known.files == now
        {
            return Ok(known);
        }
        let facts = inspect(path)?.facts;
        let mut hashes = Vec::new();
        for file in model_files(path)? {
            if is_weights(&file_name(&file)) {
                hashes.push((file_name(&file), sha256_of_weights(&file)?));
            }
        }
        let record = Record {
            version: VERSION,
            files: now,
            sha256: sha256_weights(&hashes),
            facts,
        };
        self.save(&place, &record);
        Ok(record)
    }

    /// Records what is known already of the model at `path`.
    pub(crate) fn put(&self, path: &Path, sha256: String, facts: Facts) {
        if let Ok(files) = stamps(path) {
            let record = Record {
                version: VERSION,
                files,
                sha256,
                facts,
            };
            self.save(&self.place(path), &record);
        }
    }

    /// Forgets the model at `path`.
    pub(crate) fn forget(&self, path: &Path) {
        // A record that stays behind is harmless: it is true of files that are gone.
        let _ = std::fs::remove_file(self.place(path));
    }

    fn place(&self, path: &Path) -> PathBuf {
        let name = Sha256::digest(path.to_string_lossy().as_bytes());
        self.folder.join(format!("{}.json", &hex(&name)[..24]))
    }

    /// A record only saves time, so a folder that cannot be written is no error.
    fn save(&self, place: &Path, record: &Record) {
        let Ok(text) = serde_json::to_string(record) else {
            return;
        };
        let fresh = place.with_extension(format!("{}.new", std::process::id()));
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&fresh, text))
            .and_then(|()| std::fs::rename(&fresh, place));
        if written.is_err() {
            let _ = std::fs::remove_file(&fresh);
        }
    }
}

fn load(place: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&std::fs::read(place).ok()?).ok()?;
    (record.version == VERSION).then_some(record)
}

/// Name, size and time of change (nanoseconds) of every file of the model.
fn stamps(path: &Path) -> Result<Vec<(String, u64, u64)>, Error> {
    let mut stamps = Vec::new();
    for file in model_files(path)? {
        let about = std::fs::metadata(&file).map_err(Error::io("read", &file))?;
        let changed = about
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_nanos() as u64);
        stamps.push((file_name(&file), about.len(), changed));
    }
    Ok(stamps)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn files_of_the_hubs_cache_are_known_by_the_names_of_their_blobs() {
        let dir = tempfile::tempdir().expect("a folder");
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs).expect("made");
        let link = |name: &str| {
            std::fs::write(blobs.join(name), "abc").expect("written");
            let link = dir.path().join(format!("{}.safetensors", name.len()));
            std::os::unix::fs::symlink(Path::new("blobs").join(name), &link).expect("linked");
            sha256_of_weights(&link).expect("known")
        };
        let told = "0123456789abcdef".repeat(4);
        assert_eq!(link(&told), told);
        // Known by git's hash, which is not SHA-256 of the bytes.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(link(&"f".repeat(40)), abc);
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x.gguf");
        std::fs::write(&file, "abc").expect("written");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&file).expect("read"), abc);
        let files = |names: &[&str]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|n| ((*n).to_owned(), abc.to_owned()))
                .collect()
        };
        assert_eq!(sha256_weights(&files(&["config.json", "x.gguf"])), abc);
        // printf 'HASH  a.safetensors\nHASH  b.safetensors\n' | sha256sum
        let both = sha256_weights(&files(&["a.safetensors", "b.safetensors"]));
        let list = format!("{abc}  a.safetensors\n{abc}  b.safetensors\n");
        std::fs::write(&file, list).expect("written");
        assert_eq!(both, sha256_file(&file).expect("read"));
    }
}
