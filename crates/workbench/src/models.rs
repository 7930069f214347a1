//! Models as the shells see them: listed, described, imported and removed by the library of `billion-hub`.

use std::path::{Path, PathBuf};

use billion_hub::{self as hub, CATALOGUE, Facts, Installed, Known, Places, STARTER_ID, Source};

use crate::api::{
    ApiError, Catalogued, Fact, Fit, FitLevel, ModelDetails, ModelEntry, ModelSource,
};
use crate::facade::Workbench;
use crate::machine;

/// The article's four, which `pull --contenders` fetches.
const ARTICLE: [&str; 4] = [
    "tinyllama-1.1b-chat",
    "llama-3.2-1b",
    "stablelm-2-1.6b",
    "pythia-1b",
];

/// An installed model that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// What results are stored under; follows as a reference from everywhere.
    pub(crate) id: String,
    pub(crate) name: String,
    /// File or folder.
    pub(crate) path: PathBuf,
    /// Of the weights.
    pub(crate) sha256: String,
    pub(crate) facts: Facts,
}

impl Model {
    /// What the engine will take in memory with a cache of the usual size.
    pub(crate) fn needs_bytes(&self) -> u64 {
        hub::fit(&self.facts, None, 0).need_bytes
    }
}

/// Places where the starter pack is looked for.
pub(crate) fn places(resource_dir: Option<PathBuf>) -> Places {
    Places::of_process(resource_dir)
}

impl Workbench {
    /// All known models: installed ones first, then those of the catalogue.
    pub fn models(&self) -> Result<Vec<ModelEntry>, ApiError> {
        let free = machine::free_memory_bytes();
        let mut entries: Vec<ModelEntry> = self
            .library
            .installed()
            .map_err(failed)?
            .into_iter()
            .map(|model| entry(model, free))
            .collect();
        for known in &CATALOGUE {
            if known.id != STARTER_ID && entries.iter().all(|entry| entry.id != known.id) {
                entries.push(catalogue_entry(known));
            }
        }
        Ok(entries)
    }

    /// Everything known of an installed model.
    pub fn model_details(&self, id: &str) -> Result<ModelDetails, ApiError> {
        let (installed, inspection) = self.library.inspect(id).map_err(failed)?;
        let sha256 = match &installed.contents {
            Ok((sha256, _)) => sha256.clone(),
            Err(problem) => return Err(ApiError::failed(problem.clone())),
        };
        Ok(ModelDetails {
            entry: entry(installed, machine::free_memory_bytes()),
            sha256,
            facts: inspection
                .details
                .into_iter()
                .map(|(label, value)| Fact {
                    label: label.to_owned(),
                    value,
                })
                .collect(),
            chat_template: inspection.chat_template,
        })
    }

    /// Adds a model file or folder to the library. It is checked whole first; the same weights twice are one model.
    pub fn import_model(&self, path: &Path) -> Result<ModelEntry, ApiError> {
        let installed = self.library.import(path).map_err(failed)?;
        Ok(entry(installed, machine::free_memory_bytes()))
    }

    /// Removes an imported model and its files; stored results stay.
    pub fn remove_model(&self, id: &str) -> Result<(), ApiError> {
        if let Ok(resolved) = self.library.resolve(id) {
            self.pool.unload(&resolved.path);
        }
        self.library.remove(id).map_err(failed)
    }

    /// Follows a MODEL reference to a usable model.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Model, ApiError> {
        let resolved = self.library.resolve(reference).map_err(failed)?;
        let Installed {
            id,
            name,
            path,
            contents,
            ..
        } = self.library.describe(resolved);
        let (sha256, facts) = contents.map_err(ApiError::failed)?;
        Ok(Model {
            id,
            name,
            path,
            sha256,
            facts,
        })
    }

    /// The folder of the starter pack, if it was found.
    pub(crate) fn starter_dir(&self) -> Option<PathBuf> {
        self.library
            .starter()
            .ok()
            .map(|pack| pack.folder().to_owned())
    }

    /// The HumanEval problems and the Python of the starter pack.
    pub(crate) fn starter_humaneval(&self) -> Result<(PathBuf, PathBuf), ApiError> {
        let pack = self.library.starter().map_err(failed)?;
        Ok((pack.humaneval(), pack.python()))
    }

    /// The questions of the starter pack.
    pub(crate) fn starter_mmlu(&self) -> Result<PathBuf, ApiError> {
        self.library
            .starter()
            .map(hub::StarterPack::mmlu)
            .map_err(failed)
    }
}

fn entry(model: Installed, free_bytes: u64) -> ModelEntry {
    let known = Known::find(&model.id);
    let (facts, problem) = match model.contents {
        Ok((_, facts)) => (Some(facts), None),
        Err(problem) => (None, Some(problem)),
    };
    let said = |of: fn(&Facts) -> Option<String>| facts.as_ref().and_then(of);
    ModelEntry {
        id: model.id,
        name: model.name,
        params: facts.as_ref().map(|facts| facts.params),
        architecture: facts
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), |facts| facts.architecture.clone()),
        quant: facts.as_ref().map(|facts| facts.quant.clone()),
        bytes: facts.as_ref().map(|facts| facts.file_bytes),
        license: known
            .map(|known| known.license.to_owned())
            .or_else(|| said(|facts| facts.license.clone())),
        publisher: known
            .map(|known| known.publisher.to_owned())
            .or_else(|| said(|facts| facts.publisher.clone())),
        context_len: facts.as_ref().map(|facts| facts.context_len as u32),
        installed: true,
        source: match model.source {
            Source::Starter => ModelSource::Starter,
            Source::Imported | Source::Path => ModelSource::Imported,
        },
        fit: facts.as_ref().map_or_else(
            || Fit {
                level: FitLevel::Unknown,
                words: "cannot be used".to_owned(),
                sum: None,
            },
            |facts| fit(facts, free_bytes),
        ),
        good_at: known.map(|known| known.good_at.to_owned()),
        chat: facts.as_ref().is_some_and(|facts| facts.chat),
        path: Some(model.path.display().to_string()),
        problem,
        known: known.map(catalogued),
    }
}

fn catalogue_entry(known: &Known) -> ModelEntry {
    ModelEntry {
        id: known.id.to_owned(),
        name: known.name.to_owned(),
        params: Some(known.params),
        architecture: known.architecture.to_owned(),
        quant: None,
        bytes: Some(known.params * known.weight_bytes),
        license: Some(known.license.to_owned()),
        publisher: Some(known.publisher.to_owned()),
        context_len: Some(known.context_len as u32),
        installed: false,
        source: ModelSource::Catalogue,
        fit: Fit {
            level: FitLevel::Unknown,
            words: "not on this machine".to_owned(),
            sum: None,
        },
        good_at: Some(known.good_at.to_owned()),
        chat: false,
        path: None,
        problem: None,
        known: Some(catalogued(known)),
    }
}

fn catalogued(known: &Known) -> Catalogued {
    Catalogued {
        repository: known.repository.to_owned(),
        page: format!("https://huggingface.co/{}", known.repository),
        download_bytes: known.params * known.weight_bytes,
        estimated: true,
        gated: known.gated,
        contender: known.contender,
        article: ARTICLE.contains(&known.id),
        drafts_for: known.drafts_for.iter().map(|id| (*id).to_owned()).collect(),
        training_tokens: known.training_tokens,
        tokens_per_param: known.training_tokens as f64 / known.params as f64,
        checkpoints: known.checkpoints,
    }
}

pub(crate) fn fit(facts: &Facts, free_bytes: u64) -> Fit {
    let fit = hub::fit(facts, None, free_bytes);
    Fit {
        level: match fit.level {
            hub::FitLevel::Well => FitLevel::Well,
            hub::FitLevel::Tight => FitLevel::Tight,
            hub::FitLevel::TooBig => FitLevel::TooBig,
        },
        words: fit.words,
        sum: Some(fit.sum),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn failed(error: hub::Error) -> ApiError {
    ApiError::failed(error.to_string())
}
