//! Which files of a repository make a model that Billion can run: safetensors with their configuration and tokenizer, or
//! one GGUF file; of a catalogued checkpoint that has neither, PyTorch's own files, which are converted after the fetch.
//! And which files are fetched at all.

use crate::Error;
use crate::catalogue::{Known, is_checkpoint};
use crate::error::size;
use crate::import::FOLDER_FILES;
use crate::repo::{RemoteFile, RepoKind, RepoRevision};

const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";

/// Endings of files that are read and never run.
const ENDINGS: [&str; 4] = ["safetensors", "gguf", "json", "jinja"];

/// Files of tokenizers with other endings.
const TOKENIZER_FILES: [&str; 4] = ["tokenizer.model", "merges.txt", "vocab.txt", "spiece.model"];

/// PyTorch's index of several files of weights.
pub(crate) const BIN_INDEX: &str = "pytorch_model.bin.index.json";

/// Files of older tokenizers, for the Python tools that share the cache, where there is no `tokenizer.json`.
const OLDER_TOKENIZERS: [&str; 4] = [
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

/// Whether files like this one are fetched at all. Pickles can run code where they are opened without care, so only those
/// of catalogued checkpoints are.
pub(crate) fn may_fetch(revision: &RepoRevision, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.contains(&ending)
        || TOKENIZER_FILES.contains(&name)
        || (revision.repo.kind == RepoKind::Dataset && ending == "parquet")
        || (is_bin(path) && revision.is_catalogued_checkpoint())
}

/// `pytorch_model.bin`, or a shard of it, at the root.
pub(crate) fn is_bin(path: &str) -> bool {
    path.strip_suffix(".bin")
        .is_some_and(|stem| stem == "pytorch_model" || stem.starts_with("pytorch_model-"))
}

pub(crate) fn is_gguf(path: &str) -> bool {
    has_ending(path, "gguf")
}

/// Whether these files must be converted before use.
pub(crate) fn needs_conversion(files: &[RemoteFile]) -> bool {
    files.iter().any(|file| is_bin(&file.path))
}

/// Configuration, tokenizer, and either the whole weights or every shard that a shard's name counts.
pub(crate) fn is_whole_safetensors(paths: &[String]) -> bool {
    is_whole(paths, "model", "safetensors")
}

/// The same of PyTorch's files.
pub(crate) fn is_whole_bin(paths: &[String]) -> bool {
    is_whole(paths, "pytorch_model", "bin")
}

fn is_whole(paths: &[String], stem: &str, ending: &str) -> bool {
    let has = |name: &str| paths.iter().any(|path| path == name);
    let shards: Vec<usize> = paths
        .iter()
        .filter_map(|path| {
            let name = path.strip_prefix(stem)?.strip_prefix('-')?;
            let (_, count) = name
                .strip_suffix(ending)?
                .strip_suffix('.')?
                .rsplit_once("-of-")?;
            count.parse().ok()
        })
        .collect();
    let sharded = shards.first().is_some_and(|count| *count == shards.len());
    has("config.json") && has("tokenizer.json") && (has(&format!("{stem}.{ending}")) || sharded)
}

impl RepoRevision {
    /// A checkpoint of a catalogued model's training.
    fn is_catalogued_checkpoint(&self) -> bool {
        self.repo.kind == RepoKind::Model
            && Known::of_repository(&self.repo.id).is_some_and(|known| known.checkpoints)
            && is_checkpoint(&self.revision)
    }

    /// The files that make its model: those of `wanted`, if a file was named, else its safetensors with what belongs to
    /// them, else its only GGUF file.
    pub fn model_files(&self, wanted: Option<&str>) -> Result<Vec<RemoteFile>, Error> {
        let unsuitable = |problem: String| Error::Unsuitable {
            repo: self.repo.id.clone(),
            problem,
        };
        if let Some(path) = wanted {
            let file = self.file(path)?;
            return if has_ending(path, "gguf") {
                Ok(vec![file.clone()])
            } else {
                Err(unsuitable(format!(
                    "{path} is no model by itself; name a .gguf file, or the repository without a file"
                )))
            };
        }
        match self.safetensors()? {
            Some(files) => Ok(files),
            None => self.only_gguf(),
        }
    }

    /// Its safetensors with what belongs to them, or the pickle of a catalogued checkpoint; none if it has neither.
    pub(crate) fn safetensors(&self) -> Result<Option<Vec<RemoteFile>>, Error> {
        let unsuitable = |problem: String| Error::Unsuitable {
            repo: self.repo.id.clone(),
            problem,
        };
        let at_root: Vec<&RemoteFile> = self
            .files
            .iter()
            .filter(|file| !file.path.contains('/'))
            .collect();
        let named = |name: &str| at_root.iter().any(|file| file.path == name);
        let weights: Vec<&RemoteFile> = at_root
            .iter()
            .copied()
            .filter(|file| has_ending(&file.path, "safetensors"))
            .filter(|file| {
                if named(WHOLE) {
                    file.path == WHOLE
                } else {
                    // Shards of the index are called so; others beside them are the same weights in another form.
                    !named(INDEX) || (file.path.starts_with("model-") && file.path.contains("-of-"))
                }
            })
            .collect();
        let bins: Vec<&RemoteFile> = at_root
            .iter()
            .copied()
            .filter(|file| is_bin(&file.path) && self.is_catalogued_checkpoint())
            .filter(|file| file.path == "pytorch_model.bin" || !named("pytorch_model.bin"))
            .collect();
        let pickled = weights.is_empty() && !bins.is_empty();
        let weights = if pickled { bins } else { weights };
        if weights.is_empty() {
            return Ok(None);
        }
        for needed in ["config.json", "tokenizer.json"] {
            if !named(needed) {
                return Err(unsuitable(format!(
                    "it has weights but no {needed}, so Billion cannot run it; look for a repository of its GGUF files"
                )));
            }
        }
        let beside = at_root.iter().copied().filter(|file| {
            FOLDER_FILES.contains(&file.path.as_str()) && (file.path != INDEX || !named(WHOLE))
                || (pickled && file.path == BIN_INDEX && !named("pytorch_model.bin"))
                || (OLDER_TOKENIZERS.contains(&file.path.as_str()) && !named("tokenizer.json"))
        });
        // The small ones first: a refusal or a mistake shows at once.
        Ok(Some(beside.chain(weights).cloned().collect()))
    }

    fn only_gguf(&self) -> Result<Vec<RemoteFile>, Error> {
        let unsuitable = |problem: String| Error::Unsuitable {
            repo: self.repo.id.clone(),
            problem,
        };
        let ggufs: Vec<&RemoteFile> = self
            .files
            .iter()
            .filter(|file| has_ending(&file.path, "gguf"))
            .collect();
        match ggufs[..] {
            [only] => Ok(vec![only.clone()]),
            [] => Err(unsuitable(format!(
                "its {} files hold neither safetensors nor GGUF, the only weights that Billion reads",
                self.files.len()
            ))),
            _ => {
                let list: Vec<String> = ggufs
                    .iter()
                    .take(6)
                    .map(|file| format!("{} ({})", file.path, size(file.bytes)))
                    .collect();
                let more = ggufs.len().saturating_sub(6);
                let more = if more > 0 {
                    format!(", and {more} more")
                } else {
                    String::new()
                };
                Err(unsuitable(format!(
                    "it has {} GGUF files; name one, as hf:{}/{}: {}{more}",
                    ggufs.len(),
                    self.repo,
                    ggufs[0].path,
                    list.join(", ")
                )))
            }
        }
    }
}

fn has_ending(path: &str, ending: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, found)| found.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{BlobHash, RepoId, RepoKind};

    fn revision(paths: &[&str]) -> RepoRevision {
        RepoRevision {
            repo: RepoId::new(RepoKind::Model, "a/b").expect("a name"),
            revision: "main".to_owned(),
            commit: "0".repeat(40),
            files: paths
                .iter()
                .map(|path| RemoteFile {
                    path: (*path).to_owned(),
                    bytes: 5_000_000,
                    hash: BlobHash::Sha256("0".repeat(64)),
                })
                .collect(),
            gated: false,
            license: None,
        }
    }

    fn chosen(paths: &[&str], wanted: Option<&str>) -> Result<Vec<String>, String> {
        let files = revision(paths).model_files(wanted);
        files
            .map(|files| files.into_iter().map(|file| file.path).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_model_is_its_weights_and_what_belongs_to_them() {
        let around = [
            "README.md",
            "config.json",
            "generation_config.json",
            "original/consolidated.00.pth",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer.model",
        ];
        let beside = ["config.json", "generation_config.json", "tokenizer.json"];
        let with = |more: &[&'static str]| [&around[..], more].concat();
        let want = |more: &[&'static str]| {
            Ok([&beside[..], more]
                .concat()
                .iter()
                .map(|s| (*s).to_owned())
                .collect())
        };
        assert_eq!(
            chosen(&with(&["model.safetensors"]), None),
            want(&["model.safetensors"])
        );
        // Whole and sharded: once is enough.
        assert_eq!(
            chosen(
                &with(&[
                    "model-00001-of-00001.safetensors",
                    "model.safetensors",
                    INDEX
                ]),
                None
            ),
            want(&["model.safetensors"])
        );
        let shards = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(
            chosen(
                &with(&[&["consolidated.safetensors"][..], &shards, &[INDEX]].concat()),
                None
            ),
            want(&[&[INDEX][..], &shards].concat())
        );
    }

    #[test]
    fn one_gguf_file_is_a_model_and_of_many_one_must_be_named() {
        assert_eq!(
            chosen(&["README.md", "m.Q4_0.gguf"], None),
            Ok(vec!["m.Q4_0.gguf".to_owned()])
        );
        let many: Vec<String> = (0..9).map(|i| format!("m{i}.gguf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = chosen(&many, None).expect_err("many");
        assert!(
            error.contains("9 GGUF files")
                && error.contains("hf:a/b/m0.gguf")
                && error.contains("m0.gguf (5.0 MB)")
                && error.contains("and 3 more"),
            "{error}"
        );
        assert_eq!(
            chosen(&many, Some("m3.gguf")),
            Ok(vec!["m3.gguf".to_owned()])
        );
        assert!(
            chosen(&many, Some("m9.gguf"))
                .expect_err("none")
                .contains("no file m9.gguf")
        );
        assert!(
            chosen(&["x.json"], Some("x.json"))
                .expect_err("no model")
                .contains("no model by itself")
        );
    }

    #[test]
    fn what_cannot_be_run_says_why() {
        assert!(
            chosen(&["pytorch_model.bin", "config.json"], None)
                .expect_err("bin")
                .contains("neither safetensors nor GGUF")
        );
        assert!(
            chosen(&["model.safetensors", "config.json"], None)
                .expect_err("no tokenizer")
                .contains("no tokenizer.json")
        );
    }
}
