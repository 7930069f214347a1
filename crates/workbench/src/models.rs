//! Models as the shells see them: listed, described, imported and removed by the library of `billion-hub`. How they fit
//! into memory is `fit`, how they come here `downloads`.

use std::path::{Path, PathBuf};

use billion_hub::{
    self as hub, CATALOGUE, Facts, Gate, Hub, Installed, Known, ModelReference, Places, STARTER_ID,
    Source,
};

use crate::api::{
    ApiError, Catalogued, DiskUsage, ErrorCode, Fact, ModelDetails, ModelEntry, ModelSource,
};
use crate::facade::{Workbench, disk_bytes};
use crate::fit::{fit_of_facts, fit_of_known, unusable};
use crate::machine::{self, bytes_words};
use crate::requests::EngineOptions;

/// The article's four, which `pull --contenders` fetches.
pub(crate) const ARTICLE: [&str; 4] = [
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
    pub(crate) source: Source,
    /// File or folder.
    pub(crate) path: PathBuf,
    /// Of the weights.
    pub(crate) sha256: String,
    pub(crate) facts: Facts,
    /// Folder of the adapter of a tuned model.
    pub(crate) adapter: Option<PathBuf>,
}

impl Model {
    /// The engine, with the adapter of a tuned model.
    pub(crate) fn engine(&self, engine: &EngineOptions) -> EngineOptions {
        EngineOptions {
            adapter: self.adapter.clone().or_else(|| engine.adapter.clone()),
            ..engine.clone()
        }
    }

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
            .map(|model| entry(self.hub(), model, free))
            .collect();
        entries.extend(self.tuned_entries()?);
        for known in &CATALOGUE {
            if known.id != STARTER_ID && entries.iter().all(|entry| entry.id != known.id) {
                entries.push(catalogue_entry(self.hub(), known, free));
            }
        }
        Ok(entries)
    }

    /// One installed model as listed, by its reference.
    pub(crate) fn model_entry(&self, reference: &str) -> Result<ModelEntry, ApiError> {
        let resolved = self.library.resolve(reference).map_err(failed)?;
        Ok(entry(
            self.hub(),
            self.library.describe(resolved),
            machine::free_memory_bytes(),
        ))
    }

    /// The id of a model on this machine, the same for every way of writing it.
    pub fn model_id(&self, reference: &str) -> Result<String, ApiError> {
        self.resolve(reference).map(|model| model.id)
    }

    /// Ids of the article's four models.
    pub fn contenders(&self) -> Vec<String> {
        ARTICLE.iter().map(|id| (*id).to_owned()).collect()
    }

    /// What models take on the disk: those of Billion's own folder, and those of the hub's cache, which Python tools share.
    pub fn disk_usage(&self) -> Result<DiskUsage, ApiError> {
        let hub = self.hub();
        let folder = &hub.settings().cache;
        let own_bytes = disk_bytes(self.data_dir());
        let hub_bytes = hub.models_on_this_machine().iter().map(|m| m.bytes).sum();
        let folder_words = folder.display().to_string();
        let mut words = format!("{} of Billion's own", bytes_words(own_bytes));
        if hub_bytes > 0 {
            words = format!(
                "{words}; {} of models in {folder_words}, which other tools share",
                bytes_words(hub_bytes)
            );
        }
        Ok(DiskUsage {
            own_bytes,
            hub_bytes,
            hub_folder: folder_words,
            free_bytes: hub.free_cache_bytes(),
            words,
        })
    }

    /// Everything known of an installed model.
    pub fn model_details(&self, id: &str) -> Result<ModelDetails, ApiError> {
        if let Some(details) = self.tuned_details(id)? {
            return Ok(details);
        }
        let (installed, inspection) = self.library.inspect(id).map_err(failed)?;
        let sha256 = match &installed.contents {
            Ok((sha256, _)) => sha256.clone(),
            Err(problem) => return Err(ApiError::failed(problem.clone())),
        };
        Ok(ModelDetails {
            entry: entry(self.hub(), installed, machine::free_memory_bytes()),
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
        Ok(entry(self.hub(), installed, machine::free_memory_bytes()))
    }

    /// Removes a model and its files, also from the hub's cache; stored results stay.
    pub fn remove_model(&self, id: &str) -> Result<(), ApiError> {
        if let Some(row) = self.store.finetune_of(id)? {
            return self.delete_finetune(row.id);
        }
        if let Ok(resolved) = self.library.resolve(id) {
            self.pool.unload(&resolved.path);
        }
        self.library.remove(id).map_err(failed)
    }

    /// Follows a MODEL reference to a usable model.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Model, ApiError> {
        if let Some(tuned) = self.resolve_tuned(reference)? {
            return Ok(tuned);
        }
        let resolved = self.library.resolve(reference).map_err(failed)?;
        let Installed {
            id,
            name,
            source,
            path,
            contents,
        } = self.library.describe(resolved);
        let (sha256, facts) = contents.map_err(ApiError::failed)?;
        Ok(Model {
            id,
            name,
            source,
            path,
            sha256,
            facts,
            adapter: None,
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

/// The catalogue's entry of an installed model: as published, a checkpoint of it, or quantized here.
pub(crate) fn known_of(id: &str, source: Source) -> Option<&'static Known> {
    match source {
        Source::Starter => Known::find(STARTER_ID),
        Source::HubCache | Source::Made => ModelReference::parse(id).ok()?.known(),
        Source::Imported | Source::Path => None,
    }
}

fn entry(hub: &Hub, model: Installed, free_bytes: u64) -> ModelEntry {
    let known = known_of(&model.id, model.source);
    let owner = match model.source {
        Source::HubCache => ModelReference::parse(&model.id)
            .ok()
            .and_then(|asked| Some(asked.repo.repo.id.split('/').next()?.to_owned())),
        _ => None,
    };
    let (facts, problem) = match model.contents {
        Ok((_, facts)) => (Some(facts), None),
        Err(problem) => (None, Some(problem)),
    };
    let said = |of: fn(&Facts) -> Option<String>| facts.as_ref().and_then(of);
    ModelEntry {
        id: model.id,
        name: model.name,
        params: facts.as_ref().map(|facts| facts.params),
        architecture: facts.as_ref().map_or_else(
            || {
                known
                    .map_or("unknown", |known| known.architecture)
                    .to_owned()
            },
            |facts| facts.architecture.clone(),
        ),
        quant: facts.as_ref().map(|facts| facts.quant.clone()),
        bytes: facts.as_ref().map(|facts| facts.file_bytes),
        license: known
            .map(|known| known.license.to_owned())
            .or_else(|| said(|facts| facts.license.clone())),
        publisher: known
            .map(|known| known.publisher.to_owned())
            .or_else(|| said(|facts| facts.publisher.clone()))
            .or(owner),
        context_len: facts.as_ref().map(|facts| facts.context_len as u32),
        installed: true,
        source: match model.source {
            Source::Starter => ModelSource::Starter,
            Source::Imported | Source::Path => ModelSource::Imported,
            Source::HubCache => ModelSource::HubCache,
            Source::Made => ModelSource::Quantized,
        },
        fit: facts
            .as_ref()
            .map_or_else(unusable, |facts| fit_of_facts(facts, None, free_bytes)),
        good_at: known.map(|known| known.good_at.to_owned()),
        chat: facts.as_ref().is_some_and(|facts| facts.chat),
        path: Some(model.path.display().to_string()),
        problem,
        known: known.map(|known| catalogued(hub, known)),
    }
}

/// An adapter whose model is not there.
pub(crate) fn without_its_model(model: &str, problem: String) -> ModelEntry {
    ModelEntry {
        id: model.to_owned(),
        name: ModelReference::parse(model).map_or_else(|_| model.to_owned(), |asked| asked.name()),
        params: None,
        architecture: "unknown".to_owned(),
        quant: None,
        bytes: None,
        license: None,
        publisher: None,
        context_len: None,
        installed: true,
        source: ModelSource::Tuned,
        fit: unusable(),
        good_at: None,
        chat: false,
        path: None,
        problem: Some(problem),
        known: None,
    }
}

fn catalogue_entry(hub: &Hub, known: &Known, free_bytes: u64) -> ModelEntry {
    ModelEntry {
        id: known.id.to_owned(),
        name: known.name.to_owned(),
        params: Some(known.params),
        architecture: known.architecture.to_owned(),
        quant: None,
        bytes: Some(hub.download_size(known).bytes),
        license: Some(known.license.to_owned()),
        publisher: Some(known.publisher.to_owned()),
        context_len: Some(known.context_len as u32),
        installed: false,
        source: ModelSource::Catalogue,
        fit: fit_of_known(known, None, free_bytes),
        good_at: Some(known.good_at.to_owned()),
        chat: false,
        path: None,
        problem: None,
        known: Some(catalogued(hub, known)),
    }
}

fn catalogued(hub: &Hub, known: &Known) -> Catalogued {
    let size = hub.download_size(known);
    Catalogued {
        repository: known.repository.to_owned(),
        page: format!("{}/{}", hub.settings().endpoint, known.repository),
        download_bytes: size.bytes,
        estimated: size.estimated,
        gated: known.gated,
        contender: known.contender,
        article: ARTICLE.contains(&known.id),
        drafts_for: known.drafts_for.iter().map(|id| (*id).to_owned()).collect(),
        training_tokens: known.training_tokens,
        tokens_per_param: known.training_tokens as f64 / known.params as f64,
        checkpoints: known.checkpoints,
    }
}

/// An error of the hub as the shells take it: what stands before a gated repository has codes of its own, and every page
/// that mends an error goes along.
#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
pub(crate) fn failed(error: hub::Error) -> ApiError {
    let code = match &error {
        hub::Error::Gated { gate, .. } => match gate {
            Gate::NoToken | Gate::TokenScope => ErrorCode::NeedsToken,
            Gate::NotAccepted => ErrorCode::LicenceNotAccepted,
            Gate::Waiting | Gate::Denied => ErrorCode::AccessDenied,
        },
        hub::Error::BadToken { .. } => ErrorCode::NeedsToken,
        hub::Error::Cancelled | hub::Error::Stopped { .. } => ErrorCode::Cancelled,
        _ => ErrorCode::Failed,
    };
    ApiError {
        link: error.link().map(str::to_owned),
        ..ApiError::new(code, error.to_string())
    }
}
