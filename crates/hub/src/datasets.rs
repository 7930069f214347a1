//! The datasets that Billion fetches by name.
//!
//! It gives files; reading them is `eval`'s.

use std::path::PathBuf;

use crate::Error;
use crate::cache::RepoCache;
use crate::client::Hub;
use crate::repo::{RemoteFile, RepoId, RepoKind, RepoReference};
use crate::transfer::{Control, Event};

/// The repository of MMLU, as lm-evaluation-harness reads it (D. Hendrycks et al., <https://arxiv.org/abs/2009.03300>).
pub const MMLU_REPOSITORY: &str = "cais/mmlu";

/// The commit of it that results rest on: all that name a commit name this one, of March 2024.
pub const MMLU_COMMIT: &str = "c30699e8356da336a370243923dbaf21066bb9fe";

/// MMLU's files on this machine: Apache Parquet, columns question, subject, choices, answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MmluFiles {
    /// The 14,042 questions of the test split, in order.
    pub test: Vec<PathBuf>,
    /// The 285 of the dev split: five of each subject, to be shown before a question.
    pub dev: Vec<PathBuf>,
    /// The commit they are of.
    pub commit: String,
}

/// MMLU in the cache, whoever put it there; none if it is not, or not whole.
pub fn mmlu_on_this_machine(hub: &Hub) -> Option<MmluFiles> {
    let repo = RepoId::new(RepoKind::Dataset, MMLU_REPOSITORY).ok()?;
    let cache = RepoCache::new(&hub.settings().cache, &repo);
    let paths = cache.files(MMLU_COMMIT);
    let split = |name: &str| -> Option<Vec<PathBuf>> {
        let shards: Vec<&str> = paths
            .iter()
            .map(String::as_str)
            .filter(|path| is_of_split(path, name))
            .collect();
        (shards
            .first()
            .is_some_and(|path| shard_count(path) == Some(shards.len())))
        .then(|| {
            shards
                .iter()
                .map(|path| cache.pointer(MMLU_COMMIT, path))
                .collect()
        })
    };
    Some(MmluFiles {
        test: split("test")?,
        dev: split("dev")?,
        commit: MMLU_COMMIT.to_owned(),
    })
}

/// MMLU from the cache, or fetched into it (5 MB).
pub fn mmlu(
    hub: &Hub,
    control: &Control,
    on_event: &mut dyn FnMut(Event),
) -> Result<MmluFiles, Error> {
    if let Some(files) = mmlu_on_this_machine(hub) {
        return Ok(files);
    }
    let repo = RepoId::new(RepoKind::Dataset, MMLU_REPOSITORY)?;
    let reference = RepoReference {
        repo,
        revision: MMLU_COMMIT.to_owned(),
        file: None,
    };
    let revision = hub.resolve(&reference, control)?;
    let wanted: Vec<RemoteFile> = revision
        .files
        .iter()
        .filter(|file| is_of_split(&file.path, "test") || is_of_split(&file.path, "dev"))
        .cloned()
        .collect();
    hub.fetch(&revision, &wanted, control, on_event)?;
    mmlu_on_this_machine(hub).ok_or_else(|| Error::Unsuitable {
        repo: MMLU_REPOSITORY.to_owned(),
        problem: format!(
            "commit {} lacks all/test or all/dev as Parquet; drop a folder of MMLU's .csv files instead",
            revision.commit
        ),
    })
}

/// `all/SPLIT-00000-of-00001.parquet`
fn is_of_split(path: &str, split: &str) -> bool {
    path.strip_prefix("all/")
        .and_then(|name| name.strip_prefix(split))
        .is_some_and(|rest| rest.starts_with('-') && shard_count(path).is_some())
}

/// How many shards a shard says there are.
fn shard_count(path: &str) -> Option<usize> {
    let stem = path.strip_suffix(".parquet")?;
    stem.rsplit_once("-of-")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_told_by_their_names() {
        assert!(is_of_split("all/test-00000-of-00001.parquet", "test"));
        assert_eq!(shard_count("all/test-00000-of-00012.parquet"), Some(12));
        for other in [
            "all/dev-00000-of-00001.parquet",
            "anatomy/test-00000-of-00001.parquet",
            "all/test-00000-of-00001.json",
            "all/test.parquet",
        ] {
            assert!(!is_of_split(other, "test"), "{other}");
        }
    }
}
