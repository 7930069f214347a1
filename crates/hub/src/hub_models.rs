//! Models of the hub: fetched by catalogue id, `hf:OWNER/NAME` or pasted address, and those that the cache holds, whoever
//! put them there.

use std::path::PathBuf;

use crate::Error;
use crate::cache::{RepoCache, model_repos};
use crate::catalogue::Known;
use crate::client::Hub;
use crate::repo::{DEFAULT_REVISION, RepoId, RepoReference};
use crate::selection::{is_gguf, is_whole_bin, is_whole_safetensors};
use crate::transfer::{Control, Event};

/// A model in the hub's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// What commands take as MODEL: a catalogue id, or `hf:OWNER/NAME`, with `@REVISION` and `/FILE` where they say more.
    pub id: String,
    /// The repository.
    pub repo: RepoId,
    /// Branch or tag that it was asked for by; the commit where no name is known.
    pub revision: String,
    /// The commit.
    pub commit: String,
    /// The GGUF file, or the folder of safetensors.
    pub path: PathBuf,
    /// Of its files.
    pub bytes: u64,
    /// Its weights are PyTorch's pickle: `billion_llm::convert_checkpoint` must write `model.safetensors` into the folder
    /// before it can be used, and `Hub::converted` then gives the room of the pickle back.
    pub needs_conversion: bool,
}

impl HubModel {
    /// Paths of its files in the repository.
    pub(crate) fn files(&self, cache: &RepoCache) -> Vec<String> {
        let files = cache.files(&self.commit);
        let of_this = |path: &String| {
            if is_gguf_path(&self.path) {
                cache.pointer(&self.commit, path) == self.path
            } else {
                !path.contains('/') && !is_gguf(path)
            }
        };
        files.into_iter().filter(of_this).collect()
    }
}

impl Hub {
    /// The repository that a MODEL reference names: a catalogue id or short name, `hf:OWNER/NAME[@REVISION][/FILE]`, or the
    /// address of a page.
    pub fn reference(text: &str) -> Result<RepoReference, Error> {
        let (name, revision) = text.trim().split_once('@').unwrap_or((text.trim(), ""));
        let Some(known) = Known::find(name) else {
            return RepoReference::parse(text);
        };
        let text = match revision {
            "" => known.repository.to_owned(),
            revision => format!("{}@{revision}", known.repository),
        };
        RepoReference::parse(&text)
    }

    /// Fetches a model into the cache, or finds that it is there.
    pub fn fetch_model(
        &self,
        text: &str,
        control: &Control,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<HubModel, Error> {
        let plan = self.plan(&Self::reference(text)?, control)?;
        self.download(&plan, control, on_event)
    }

    /// The model that a reference names, if the cache holds it whole.
    pub fn model_on_this_machine(&self, reference: &RepoReference) -> Option<HubModel> {
        let cache = RepoCache::new(&self.settings().cache, &reference.repo);
        let commit = cache.commit_of(&reference.revision)?;
        let mut models = models_of(&cache, &reference.repo, &reference.revision, &commit);
        match &reference.file {
            Some(file) => {
                let place = cache.pointer(&commit, file);
                models.into_iter().find(|model| model.path == place)
            }
            // Of several GGUF files one must be named.
            None if models.len() == 1 || !is_gguf_path(&models.first()?.path) => {
                Some(models.swap_remove(0))
            }
            None => None,
        }
    }

    /// Every model that the cache holds whole, by id.
    pub fn models_on_this_machine(&self) -> Vec<HubModel> {
        let mut found: Vec<HubModel> = Vec::new();
        for repo in model_repos(&self.settings().cache) {
            let cache = RepoCache::new(&self.settings().cache, &repo);
            let revisions = cache.revisions();
            for commit in cache.commits() {
                let name = revisions
                    .iter()
                    .filter(|(_, of)| *of == commit)
                    .map(|(name, _)| name.as_str())
                    // Its main name, if it has several.
                    .min_by_key(|name| *name != DEFAULT_REVISION)
                    .unwrap_or(&commit);
                found.extend(models_of(&cache, &repo, name, &commit));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }
}

/// The models among a commit's files: its safetensors, if whole, then each GGUF file.
pub(crate) fn models_of(
    cache: &RepoCache,
    repo: &RepoId,
    revision: &str,
    commit: &str,
) -> Vec<HubModel> {
    let paths = cache.files(commit);
    let bytes = |of: &dyn Fn(&str) -> bool| {
        paths
            .iter()
            .filter(|path| of(path))
            .filter_map(|path| std::fs::metadata(cache.pointer(commit, path)).ok())
            .map(|about| about.len())
            .sum::<u64>()
    };
    let model = |file: Option<&str>, path: PathBuf, bytes: u64| HubModel {
        id: id(repo, revision, file),
        repo: repo.clone(),
        revision: revision.to_owned(),
        commit: commit.to_owned(),
        path,
        bytes,
        needs_conversion: false,
    };
    let mut models = Vec::new();
    let converted = is_whole_safetensors(&paths);
    if converted || is_whole_bin(&paths) {
        let at_root = |path: &str| !path.contains('/') && !is_gguf(path);
        models.push(HubModel {
            needs_conversion: !converted,
            ..model(None, cache.snapshot(commit), bytes(&at_root))
        });
    }
    for path in paths.iter().filter(|path| is_gguf(path)) {
        let size = bytes(&|other: &str| other == path);
        models.push(model(Some(path), cache.pointer(commit, path), size));
    }
    models
}

fn is_gguf_path(path: &std::path::Path) -> bool {
    path.to_str().is_some_and(is_gguf)
}

/// What commands take as MODEL.
pub(crate) fn id(repo: &RepoId, revision: &str, file: Option<&str>) -> String {
    let at = match revision {
        DEFAULT_REVISION => String::new(),
        revision => format!("@{revision}"),
    };
    match (Known::of_repository(&repo.id), file) {
        (Some(known), None) => format!("{}{at}", known.id),
        (_, None) => format!("hf:{repo}{at}"),
        (_, Some(file)) => format!("hf:{repo}{at}/{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HubSettings, Limits};

    #[test]
    fn catalogue_names_lead_to_their_repositories() {
        for (text, repo, revision) in [
            ("pythia", "EleutherAI/pythia-1b", "main"),
            ("pythia-1b@step1000", "EleutherAI/pythia-1b", "step1000"),
            ("hf:a/b", "a/b", "main"),
            ("https://huggingface.co/a/b", "a/b", "main"),
        ] {
            let reference = Hub::reference(text).expect(text);
            assert_eq!(
                (reference.repo.id.as_str(), reference.revision.as_str()),
                (repo, revision)
            );
        }
        assert!(Hub::reference("gpt-5").is_err());
        assert!(Hub::reference("pythia@../x").is_err());
    }

    #[test]
    fn models_in_the_cache_are_found_and_half_ones_are_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let hub = Hub::new(
            HubSettings {
                offline: true,
                ..HubSettings::new("http://127.0.0.1:9", dir.path().to_owned())
            },
            Limits::default(),
        );
        assert!(hub.models_on_this_machine().is_empty());
        let put = |repo: &str, revision: &str, commit: &str, paths: &[&str]| {
            let folder = dir
                .path()
                .join(format!("models--{}", repo.replace('/', "--")));
            let snapshot = folder.join("snapshots").join(commit.repeat(40));
            std::fs::create_dir_all(&snapshot).expect("made");
            std::fs::create_dir_all(folder.join("refs")).expect("made");
            for path in paths {
                std::fs::write(snapshot.join(path), "12345").expect("written");
            }
            std::fs::write(folder.join("refs").join(revision), commit.repeat(40)).expect("written");
        };
        let base = ["config.json", "tokenizer.json"];
        put(
            "EleutherAI/pythia-1b",
            "main",
            "a",
            &[&base[..], &["model.safetensors"]].concat(),
        );
        put(
            "EleutherAI/pythia-1b",
            "step8",
            "b",
            &[&base[..], &["model.safetensors"]].concat(),
        );
        put(
            "a/half",
            "main",
            "c",
            &[&base[..], &["model-00001-of-00002.safetensors"]].concat(),
        );
        put("a/bare", "main", "d", &["model.safetensors"]);
        put("a/ggufs", "main", "e", &["x.gguf", "y.GGUF", "config.json"]);
        std::fs::create_dir_all(dir.path().join("datasets--a--b/snapshots")).expect("made");
        std::fs::create_dir_all(dir.path().join("models--..--x")).expect("made");
        let ids: Vec<String> = hub
            .models_on_this_machine()
            .into_iter()
            .map(|model| model.id)
            .collect();
        assert_eq!(
            ids,
            [
                "hf:a/ggufs/x.gguf",
                "hf:a/ggufs/y.GGUF",
                "pythia-1b",
                "pythia-1b@step8"
            ]
        );
        let find =
            |text: &str| hub.model_on_this_machine(&Hub::reference(text).expect("a reference"));
        let pythia = find("pythia").expect("there");
        assert_eq!((pythia.id.as_str(), pythia.bytes), ("pythia-1b", 15));
        assert!(pythia.path.is_dir());
        assert!(find("hf:a/ggufs/x.gguf").expect("there").path.is_file());
        assert_eq!(find("hf:a/ggufs"), None);
        assert_eq!(find("hf:a/half"), None);
        // Offline, what is there is enough.
        let again = hub.fetch_model("pythia@step8", &Control::new(), &mut |_| {});
        assert_eq!(again.expect("there").id, "pythia-1b@step8");
        let error = hub.fetch_model("tinyllama", &Control::new(), &mut |_| {});
        assert!(matches!(error, Err(Error::Offline { .. })));
    }
}
