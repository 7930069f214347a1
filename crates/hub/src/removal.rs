//! Removing models of the cache: a model whole, with everything that nothing else uses, and the pickle of a checkpoint
//! that has been converted.
//!
//! Removing what a download left that did not end is `downloads`.

use std::path::Path;

use crate::Error;
use crate::cache::RepoCache;
use crate::client::Hub;
use crate::downloads::wanted_hashes;
use crate::hub_models::{HubModel, models_of};
use crate::selection::{BIN_INDEX, is_bin, is_whole_safetensors};

impl Hub {
    /// Removes a model of the cache, and says how many bytes that gave back: its files, and its revision with all names if
    /// no other model is in it. Bytes that another revision uses, and those of a download that has not ended, stay.
    pub fn delete(&self, model: &HubModel) -> Result<u64, Error> {
        let cache = RepoCache::new(&self.settings().cache, &model.repo);
        let before = cache.bytes();
        let others = models_of(&cache, &model.repo, &model.revision, &model.commit)
            .iter()
            .any(|other| other.path != model.path);
        let blobs = unlink(&cache, &model.commit, &model.files(&cache))?;
        if !others {
            // What lies beside a model, whoever put it there, goes with the last one.
            let rest = cache.files(&model.commit);
            let more = unlink(&cache, &model.commit, &rest)?;
            cache.remove_commit(&model.commit)?;
            remove_unused(&cache, &more)?;
        }
        remove_unused(&cache, &blobs)?;
        if cache.commits().is_empty() {
            // Where links cannot be made, no name leads to a blob: those that are left are nobody's.
            remove_unused(&cache, &cache.whole_blobs())?;
        }
        cache.remove_empty();
        Ok(before.saturating_sub(cache.bytes()))
    }

    /// Gives the room of a checkpoint's pickle back once `model.safetensors` lies beside it, and gives the model as it is
    /// then. Nothing is removed while the safetensors are not there.
    pub fn converted(&self, model: &HubModel) -> Result<HubModel, Error> {
        let cache = RepoCache::new(&self.settings().cache, &model.repo);
        let paths = cache.files(&model.commit);
        if !is_whole_safetensors(&paths) {
            return Err(Error::Unsuitable {
                repo: model.repo.id.clone(),
                problem: format!(
                    "{} was to be converted, but holds no model.safetensors; download it again",
                    model.path.display()
                ),
            });
        }
        let pickle: Vec<String> = paths
            .into_iter()
            .filter(|path| is_bin(path) || path == BIN_INDEX)
            .collect();
        let blobs = unlink(&cache, &model.commit, &pickle)?;
        remove_unused(&cache, &blobs)?;
        models_of(&cache, &model.repo, &model.revision, &model.commit)
            .into_iter()
            .find(|now| now.path == model.path)
            .ok_or_else(|| Error::io("find", &model.path)(std::io::ErrorKind::NotFound.into()))
    }
}

/// Removes the names of these files in a commit, and gives the blobs they led to.
fn unlink(cache: &RepoCache, commit: &str, paths: &[String]) -> Result<Vec<String>, Error> {
    let mut blobs = Vec::new();
    for path in paths {
        if let Some(blob) = blob_of(&cache.pointer(commit, path)) {
            blobs.push(blob);
        }
        cache.unlink(commit, path)?;
    }
    Ok(blobs)
}

/// Removes those of these blobs that no commit and no download needs.
fn remove_unused(cache: &RepoCache, blobs: &[String]) -> Result<(), Error> {
    let used = cache.used_blobs();
    let wanted = wanted_hashes(cache);
    for blob in blobs {
        if !used.contains(blob) && !wanted.contains(blob) {
            cache.remove_blob(blob)?;
        }
    }
    Ok(())
}

/// Name of the blob that a link leads to.
fn blob_of(pointer: &Path) -> Option<String> {
    let target = std::fs::read_link(pointer).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}
