//! SHA-256 of data files (questions, texts), computed once per size and time of a file. Models are hashed by the library.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::api::ApiError;
use crate::facade::Workbench;

impl Workbench {
    /// The hash of one file; of several, the hash of their names and hashes in order.
    pub(crate) fn hash_of(&self, files: &[PathBuf]) -> Result<String, ApiError> {
        if let [file] = files {
            return self.hash_of_file(file);
        }
        let mut all = Sha256::new();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            all.update(format!("{}  {name}\n", self.hash_of_file(file)?));
        }
        Ok(hex(&all.finalize()))
    }

    fn hash_of_file(&self, path: &Path) -> Result<String, ApiError> {
        let fail = |error: std::io::Error| {
            ApiError::failed(format!("cannot read {}: {error}", path.display()))
        };
        let status = std::fs::metadata(path).map_err(fail)?;
        let modified = status.modified().map_err(fail)?;
        let mtime_ns = modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        let key = std::path::absolute(path)
            .map_err(fail)?
            .display()
            .to_string();
        if let Some(known) = self.store.known_hash(&key, status.len(), mtime_ns)? {
            return Ok(known);
        }
        let mut file = File::open(path).map_err(fail)?;
        let mut digest = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut block).map_err(fail)?;
            if read == 0 {
                break;
            }
            digest.update(&block[..read]);
        }
        let sha256 = hex(&digest.finalize());
        self.store
            .keep_hash(&key, status.len(), mtime_ns, &sha256)?;
        Ok(sha256)
    }
}

/// Bytes as people write a hash.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
