//! Writing models in other formats: into the library as `MODEL:QUANT`, or to a file of the person's choice; and what each
//! format would take.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use billion_hub::Made;
use billion_llm::load::ModelFiles;
use billion_llm::quantize::{Quant, tensor_bytes};
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, ConvertRequest, Job, QuantChoice, Rate};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::fit::fit_of_facts;
use crate::jobs::{Product, Work};
use crate::machine;
use crate::models::{Model, known_of};
use crate::progress::Meter;
use crate::reports::ConvertReport;
use crate::requests::JobProgress;
use crate::worker::{Ask, ConvertAsk, Event, Outcome, PROGRESS_BYTES, Worker};

/// A conversion as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Conversion {
    /// The model to convert, by an id that holds from every folder.
    model: String,
    /// "q4_k_m".
    quant: String,
    /// The file to write; none keeps it in the library.
    out: Option<PathBuf>,
    /// What commands will take for it; none for a file outside the library.
    pub(crate) reference: Option<String>,
    threads: Option<u32>,
    /// Folder of the adapter to merge.
    #[serde(default)]
    adapter: Option<PathBuf>,
}

impl Workbench {
    /// Starts a conversion in the background.
    pub fn start_convert(self: &Arc<Self>, request: &ConvertRequest) -> Result<Job, ApiError> {
        self.start_in_background(|| self.conversion(request, None))
    }

    /// Converts a model and returns when it is done.
    pub fn convert(
        &self,
        request: &ConvertRequest,
        threads: Option<u32>,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<ConvertReport, ApiError> {
        let work = || self.conversion(request, threads);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Converted(report) => Ok(report),
            _ => Err(ApiError::failed(
                "the job made something else than a file; please report this",
            )),
        }
    }

    /// The formats that a model can be written in, smallest first, with what each takes.
    pub fn quant_choices(&self, model: &str) -> Result<Vec<QuantChoice>, ApiError> {
        let model = self.resolve(model)?;
        let files = open(&model.path)?;
        Quant::ALL
            .into_iter()
            .map(|quant| {
                let bytes = tensor_bytes(&files, quant).map_err(failed)?;
                let bits = 8.0 * bytes as f64 / model.facts.params.max(1) as f64;
                let facts = billion_hub::Facts {
                    quant: quant.name().to_owned(),
                    weight_bytes: bytes,
                    file_bytes: bytes,
                    ..model.facts.clone()
                };
                Ok(QuantChoice {
                    quant: quant.id().to_owned(),
                    words: format!(
                        "{}: {bits:.1} bits a weight, {}",
                        quant.name(),
                        words(quant)
                    ),
                    bytes,
                    fit: fit_of_facts(&facts, None, machine::free_memory_bytes()),
                })
            })
            .collect()
    }

    fn conversion(
        &self,
        request: &ConvertRequest,
        threads: Option<u32>,
    ) -> Result<(String, Work), ApiError> {
        let quant = Quant::parse(&request.quant).map_err(failed)?;
        let model = self.resolve(&request.model)?;
        let out = request.out.as_deref().map(absolute).transpose()?;
        if let Some(out) = &out {
            check_place(&model, out)?;
        }
        let given = request.adapter.as_deref().map(absolute).transpose()?;
        let adapter = given.or_else(|| model.adapter.clone());
        if adapter.is_some() && out.is_none() {
            return Err(ApiError::failed(
                "a merged model goes to a file of its own; name one that ends in .gguf",
            ));
        }
        let reference = out
            .is_none()
            .then(|| format!("{}:{}", model.id, quant.id()));
        let threads = match threads {
            Some(threads) => Some(threads),
            None => self.settings()?.threads,
        };
        let with = if adapter.is_some() {
            " with an adapter"
        } else {
            ""
        };
        Ok((
            format!("{} of {}{with}", quant.name(), model.name),
            Work::Convert(Conversion {
                model: model.id,
                quant: quant.id().to_owned(),
                out,
                reference,
                threads,
                adapter,
            }),
        ))
    }

    /// Does a recorded conversion.
    pub(crate) fn write_converted(
        &self,
        conversion: &Conversion,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<ConvertReport, ApiError> {
        let in_bytes = &mut |progress: &JobProgress| on_progress(&with_bytes(progress));
        let mut meter = Meter::new(0, in_bytes);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        meter.tell("checks the file", 0);
        let model = self.resolve(&conversion.model)?;
        let quant = Quant::parse(&conversion.quant).map_err(failed)?;
        match (&conversion.out, &conversion.reference) {
            (Some(out), _) => write(self, &model, conversion, out, cancel, &mut meter),
            (None, reference) => {
                let reference = reference
                    .clone()
                    .unwrap_or_else(|| format!("{}:{}", model.id, quant.id()));
                self.keep(&model, conversion, quant, reference, cancel, &mut meter)
            }
        }
    }

    /// Writes the file into the library.
    fn keep(
        &self,
        model: &Model,
        conversion: &Conversion,
        quant: Quant,
        reference: String,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<ConvertReport, ApiError> {
        let folder = self.library.workshop().map_err(failed)?;
        let file = format!("model.{}.gguf", quant.id());
        let made = Made {
            name: format!("{} as {}", model.name, quant.name()),
            origin: format!("{} ({})", model.id, model.sha256),
            file: Some(file.clone()),
            reference,
        };
        let kept =
            write(self, model, conversion, &folder.join(file), cancel, meter).and_then(|report| {
                if let Ok(before) = self.library.resolve(&made.reference) {
                    self.pool.unload(&before.path);
                }
                let installed = self.library.keep_made(&folder, &made).map_err(failed)?;
                Ok(ConvertReport {
                    out: installed.path.display().to_string(),
                    ..report
                })
            });
        if kept.is_err() {
            // The first error is the one to tell; what stays is swept away a day later.
            let _ = std::fs::remove_dir_all(&folder);
        }
        kept
    }

    /// Quantizes a model of the library into it, as a part of another job.
    pub(crate) fn quantize_into_library(
        &self,
        model: &str,
        quant: Quant,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<String, ApiError> {
        let reference = format!("{model}:{}", quant.id());
        let conversion = Conversion {
            model: model.to_owned(),
            quant: quant.id().to_owned(),
            out: None,
            reference: Some(reference.clone()),
            threads: self.settings()?.threads,
            adapter: None,
        };
        self.write_converted(&conversion, cancel, on_progress)?;
        Ok(reference)
    }
}

/// Has a worker write the file.
fn write(
    workbench: &Workbench,
    model: &Model,
    conversion: &Conversion,
    out: &Path,
    cancel: &Cancel,
    meter: &mut Meter<'_>,
) -> Result<ConvertReport, ApiError> {
    let known = known_of(&model.id, model.source);
    let mut worker = Worker::spawn(&workbench.engine)?;
    let ask = Ask::Convert(ConvertAsk {
        source: model.path.clone(),
        quant: conversion.quant.clone(),
        adapter: conversion.adapter.clone(),
        out: out.to_owned(),
        threads: conversion.threads,
        name: model.name.clone(),
        license: known
            .map(|known| known.license.to_owned())
            .or_else(|| model.facts.license.clone()),
        publisher: known
            .map(|known| known.publisher.to_owned())
            .or_else(|| model.facts.publisher.clone()),
    });
    let outcome = worker.request(ask, cancel, &mut |event| {
        if let Event::Progress { step, done, total } = event {
            meter.total(total);
            if total > 0 {
                meter.count("MB");
            }
            meter.tell(&step, done);
        }
    })?;
    let Outcome::Converted {
        bytes,
        seconds,
        merge,
    } = outcome
    else {
        return Err(unexpected(&outcome));
    };
    Ok(ConvertReport {
        model: model.id.clone(),
        quant: conversion.quant.clone(),
        out: out.display().to_string(),
        bytes,
        seconds,
        merge,
    })
}

/// Rates in bytes, as downloads tell them.
fn with_bytes(progress: &JobProgress) -> JobProgress {
    JobProgress {
        rate: progress.rate.as_ref().map(|rate| Rate {
            per_s: rate.per_s * PROGRESS_BYTES as f64,
            unit: "bytes".to_owned(),
        }),
        ..progress.clone()
    }
}

/// What a format is good for.
fn words(quant: Quant) -> &'static str {
    match quant {
        Quant::Q4_0 => "the fastest",
        Quant::Q4KM => "the usual choice",
        Quant::Q5KM => "a little nearer to the original",
        Quant::Q6K => "hardly to be told from the original",
        Quant::Q8_0 => "as good as the original",
        Quant::F16 => "the original in half floats",
    }
}

fn absolute(path: &str) -> Result<PathBuf, ApiError> {
    std::path::absolute(path).map_err(|error| ApiError::failed(format!("{path}: {error}")))
}

/// The file must not take the place of what it is made from.
fn check_place(model: &Model, out: &Path) -> Result<(), ApiError> {
    let real = |path: &Path| path.canonicalize().ok();
    if let (Some(source), Some(target)) = (real(&model.path), real(out)) {
        if target == source {
            return Err(ApiError::failed(format!(
                "{} is the model itself; name another file",
                out.display()
            )));
        }
        if target.is_dir() {
            return Err(ApiError::failed(format!(
                "{} is a folder; name a file in it, for example {}",
                out.display(),
                out.join("model.gguf").display()
            )));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<ModelFiles, ApiError> {
    ModelFiles::open(path).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::failed(error.to_string())
}
