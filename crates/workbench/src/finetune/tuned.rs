//! Tuned models: a model and an adapter under one reference, listed beside the models and usable wherever a model is; and
//! the adapter's two files copied.

use std::path::{Path, PathBuf};

use crate::api::{ApiError, Fact, ModelDetails, ModelEntry, ModelSource};
use crate::facade::Workbench;
use crate::machine;
use crate::models::{Model, without_its_model};
use crate::requests::EngineOptions;
use crate::store::FinetuneRow;

/// The adapter's weights.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// What they belong to.
const CONFIG: &str = "adapter_config.json";

impl Workbench {
    /// The model of a reference that names a tuned one; none if it names none.
    pub(crate) fn resolve_tuned(&self, reference: &str) -> Result<Option<Model>, ApiError> {
        if !reference.contains('+') {
            return Ok(None);
        }
        let Some(row) = self.store.finetune_of(reference)? else {
            return Ok(None);
        };
        let adapter = row.adapter.as_ref().map(PathBuf::from).ok_or_else(|| {
            ApiError::failed(format!(
                "{} has no adapter yet: let its training end first",
                row.tuned
            ))
        })?;
        let base = self.resolve(&row.model)?;
        Ok(Some(Model {
            id: row.tuned.clone(),
            name: name(&row, &base.name),
            adapter: Some(adapter),
            ..base
        }))
    }

    /// Tuned models whose adapter is there, the latest first, as the list of models shows them.
    pub(crate) fn tuned_entries(&self) -> Result<Vec<ModelEntry>, ApiError> {
        let rows = self.store.finetunes()?;
        let usable = rows.into_iter().filter(|row| row.adapter.is_some());
        Ok(usable.map(|row| self.tuned_entry(&row)).collect())
    }

    /// Everything known of a tuned model; none if the reference names none.
    pub(crate) fn tuned_details(&self, reference: &str) -> Result<Option<ModelDetails>, ApiError> {
        let Some(row) = self.store.finetune_of(reference)? else {
            return Ok(None);
        };
        let mut details = self.model_details(&row.model)?;
        details.entry = self.tuned_entry(&row);
        let facts = [
            ("Trained on", row.request.data.clone()),
            ("Rank", row.request.options.rank.to_string()),
            (
                "SHA-256 of the adapter",
                row.adapter_sha256.unwrap_or_default(),
            ),
        ];
        let facts = facts.map(|(label, value)| Fact {
            label: label.to_owned(),
            value,
        });
        details.facts.splice(0..0, facts);
        Ok(Some(details))
    }

    fn tuned_entry(&self, row: &FinetuneRow) -> ModelEntry {
        let adapter = row.adapter.clone().unwrap_or_default();
        let bytes = crate::facade::disk_bytes(Path::new(&adapter));
        let mut entry = match self.model_entry(&row.model) {
            Ok(base) => base,
            Err(error) => without_its_model(
                &row.model,
                format!(
                    "the model that it was trained on is not on this machine: {}",
                    error.message
                ),
            ),
        };
        let base_name = entry.name.clone();
        entry.id.clone_from(&row.tuned);
        entry.name = name(row, &base_name);
        entry.source = ModelSource::Tuned;
        entry.bytes = Some(bytes);
        entry.good_at = Some(format!(
            "An adapter of {} for {base_name}, trained here on {}.",
            machine::bytes_words(bytes),
            super::file_name(&row.request.data)
        ));
        entry.path = Some(adapter);
        entry.known = None;
        entry
    }
}

fn name(row: &FinetuneRow, base: &str) -> String {
    format!("{base} + {}", row.name)
}

/// The engine with an adapter.
pub(super) fn with_adapter(engine: &EngineOptions, adapter: &str) -> EngineOptions {
    EngineOptions {
        adapter: Some(PathBuf::from(adapter)),
        ..engine.clone()
    }
}

/// Copies the two files, each whole or not at all; gives their size.
pub(super) fn copy_adapter(from: &Path, folder: &Path) -> Result<u64, ApiError> {
    let fail = |what: &Path, error: std::io::Error| {
        ApiError::failed(format!(
            "the adapter cannot be written to {}: {error}; choose another folder",
            what.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(|error| fail(folder, error))?;
    let mut bytes = 0;
    for file in [WEIGHTS, CONFIG] {
        let (target, partial) = (folder.join(file), folder.join(format!("{file}.partial")));
        bytes += std::fs::copy(from.join(file), &partial).map_err(|error| fail(&target, error))?;
        std::fs::File::open(&partial)
            .and_then(|written| written.sync_all())
            .and_then(|()| std::fs::rename(&partial, &target))
            .map_err(|error| fail(&target, error))?;
    }
    Ok(bytes)
}
