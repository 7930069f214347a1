//! Finds the starter pack: the model and question files that ship with Billion (see `starter/` in the checkout).
//!
//! It only looks; `starter/fetch` makes the pack, and installers bundle it.

use std::path::{Path, PathBuf};

use crate::Error;

/// The id of the model in the pack.
pub const STARTER_ID: &str = "starter";

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const MMLU: &str = "mmlu/mmlu.jsonl";
const HUMANEVAL: &str = "humaneval/HumanEval.jsonl.gz";
const PYTHON: &str = "python/python.wasm";

/// Where to look for the pack.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `BILLION_STARTER`: if set, the only place.
    pub asked: Option<PathBuf>,
    /// Folder of the app's resources.
    pub resources: Option<PathBuf>,
    /// The running executable.
    pub executable: Option<PathBuf>,
    /// The current folder.
    pub current: Option<PathBuf>,
}

impl Places {
    /// The places of this process.
    pub fn of_process(resources: Option<PathBuf>) -> Self {
        Self {
            asked: std::env::var_os("BILLION_STARTER").map(PathBuf::from),
            resources,
            // A link in a folder of programs leads to where the program was installed.
            executable: std::env::current_exe()
                .ok()
                .map(|exe| exe.canonicalize().unwrap_or(exe)),
            current: std::env::current_dir().ok(),
        }
    }

    /// Folders to try, the likeliest first: resources, beside the executable, the installed resources of a Linux or
    /// macOS package, and checkouts above the executable and above the current folder.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(asked) = &self.asked {
            return vec![asked.clone(), asked.join("pack")];
        }
        let mut folders = Vec::new();
        if let Some(resources) = &self.resources {
            folders.push(resources.join("starter/pack"));
            folders.push(resources.join("starter"));
        }
        let above = |file: &Path| {
            file.ancestors()
                .skip(1)
                .map(|dir| dir.join("starter/pack"))
                .collect::<Vec<_>>()
        };
        if let Some(exe) = &self.executable {
            let dir = exe.parent().unwrap_or(Path::new("/"));
            folders.push(dir.join("starter"));
            for installed in ["../lib/billion", "../lib/Billion", "../Resources"] {
                folders.push(dir.join(installed).join("starter/pack"));
                folders.push(dir.join(installed).join("starter"));
            }
            folders.extend(above(exe));
        }
        if let Some(current) = &self.current {
            folders.extend(above(&current.join("here")));
        }
        folders
    }
}

/// A pack that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarterPack {
    folder: PathBuf,
}

impl StarterPack {
    /// The first place that holds a pack.
    pub fn find(places: &Places) -> Result<Self, Error> {
        let candidates = places.candidates();
        match candidates.iter().find(|dir| dir.join(MODEL).is_file()) {
            Some(folder) => Ok(Self {
                folder: folder.clone(),
            }),
            None => Err(Error::NoStarter {
                looked: candidates.into_iter().take(4).collect(),
            }),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The starter model's file.
    pub fn model(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// The MMLU questions, test split only (`eval::tasks::mmlu::MmluData::from_starter`).
    pub fn mmlu(&self) -> PathBuf {
        self.folder.join(MMLU)
    }

    /// The HumanEval problems (`eval::tasks::humaneval::read_problems`).
    pub fn humaneval(&self) -> PathBuf {
        self.folder.join(HUMANEVAL)
    }

    /// CPython as a WASI module (`eval::sandbox`).
    pub fn python(&self) -> PathBuf {
        self.folder.join(PYTHON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(dir: &Path) {
        std::fs::create_dir_all(dir).expect("made");
        std::fs::write(dir.join(MODEL), "x").expect("written");
    }

    #[test]
    fn every_place_is_found_and_the_nearest_wins() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        let places = Places {
            resources: Some(root.join("resources")),
            executable: Some(root.join("checkout/target/debug/billion")),
            current: Some(root.join("elsewhere/deep")),
            asked: None,
        };
        let error = StarterPack::find(&places)
            .expect_err("nothing there")
            .to_string();
        assert!(
            error.contains("BILLION_STARTER") && error.contains("resources"),
            "{error}"
        );
        // From the farthest to the nearest; each takes over from the one before.
        for dir in [
            "elsewhere/starter/pack",
            "checkout/starter/pack",
            "checkout/target/lib/Billion/starter",
            "checkout/target/debug/starter",
            "resources/starter/pack",
        ] {
            std::fs::create_dir_all(root.join("checkout/target/debug")).expect("made");
            pack(&root.join(dir));
            let found = StarterPack::find(&places).expect("found");
            let want = root.join(dir).canonicalize().expect("there");
            assert_eq!(found.folder().canonicalize().expect("there"), want);
            assert!(found.model().is_file());
        }
    }

    #[test]
    fn the_variable_is_the_only_place_once_set() {
        let root = tempfile::tempdir().expect("a folder");
        pack(&root.path().join("starter/pack"));
        let mut places = Places {
            current: Some(root.path().to_owned()),
            asked: Some(root.path().join("missing")),
            ..Places::default()
        };
        assert!(StarterPack::find(&places).is_err());
        places.asked = Some(root.path().join("starter"));
        assert!(StarterPack::find(&places).is_ok());
    }
}
