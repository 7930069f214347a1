//! `models list`, `info`, `pull`, `import`, `rm`, `search`, `time-lapse`.

use std::sync::Arc;

use billion_workbench::Workbench;
use billion_workbench::api::{
    ApiError, DownloadPlan, ErrorCode, FoundModel, ModelDetails, ModelEntry, TimeLapse,
    TimeLapseRequest,
};
use serde::Serialize;

use crate::args::Models;
use crate::output;
use crate::progress::Bar;

/// An entry with all details, as one object.
#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    entry: ModelEntry,
    sha256: String,
    facts: Vec<billion_workbench::api::Fact>,
    chat_template: Option<String>,
}

pub fn run(workbench: &Arc<Workbench>, command: Models, json: bool) -> anyhow::Result<()> {
    match command {
        Models::List => {
            let models = workbench.models()?;
            if json {
                return output::json(&models);
            }
            list(&models);
        }
        Models::Info { model, ctx } => {
            let mut details = workbench.model_details(&model)?;
            if ctx.is_some() {
                details.entry.fit = workbench.model_fit(&model, ctx)?;
            }
            if json {
                return output::json(&[info(details)]);
            }
            show(&details);
        }
        Models::Pull { models, contenders } => {
            let models = if contenders {
                workbench.contenders()
            } else {
                models
            };
            let pulled = pull(workbench, &models)?;
            if json {
                return output::json(&pulled);
            }
            for entry in pulled {
                output::print(&format!("{} is on this machine\n", entry.id));
            }
        }
        Models::Import { path } => {
            let entry = workbench.import_model(&path)?;
            if json {
                return output::json(&[entry]);
            }
            output::print(&format!(
                "{} is in the library as {}\n",
                entry.name, entry.id
            ));
        }
        Models::Rm { models } => {
            let mut removed = Vec::with_capacity(models.len());
            for reference in &models {
                removed.push(remove(workbench, reference)?);
            }
            if json {
                return output::json(&removed);
            }
            output::print(&format!("removed {}\n", models.join(", ")));
        }
        Models::Search { word } => {
            let found = workbench.search_models(&word)?;
            if json {
                return output::json(&found);
            }
            show_found(&found);
        }
        Models::TimeLapse {
            model,
            steps,
            prompt,
        } => {
            let request = TimeLapseRequest {
                model,
                steps,
                prompt,
            };
            let bar = Bar::of_download("");
            let lapse = workbench.run_time_lapse(&request, &mut |progress| bar.show(progress))?;
            drop(bar);
            if json {
                return output::json(&lapse);
            }
            show_time_lapse(&lapse);
        }
    }
    Ok(())
}

/// Fetches models one after the other. One that cannot be had does not stop the others; a cancel does.
fn pull(workbench: &Arc<Workbench>, models: &[String]) -> anyhow::Result<Vec<ModelEntry>> {
    // The hub is asked again for each, which says what is wrong with it.
    if models.len() > 1
        && let Ok(plan) = workbench.plan_downloads(models)
    {
        output::say(&plan_words(&plan));
    }
    let mut pulled = Vec::with_capacity(models.len());
    let mut failures: Vec<(&String, ApiError)> = Vec::new();
    for reference in models {
        let bar = Bar::of_download(reference);
        let outcome = workbench.pull_model(reference, &mut |progress| bar.show(progress));
        drop(bar);
        match outcome {
            Ok(entry) => pulled.push(entry),
            Err(error) if error.code == ErrorCode::Cancelled => return Err(error.into()),
            Err(error) => failures.push((reference, error)),
        }
    }
    match failures.len() {
        0 => Ok(pulled),
        1 if models.len() == 1 => Err(failures.remove(0).1.into()),
        _ => {
            let words: Vec<String> = failures
                .iter()
                .map(|(reference, error)| format!("{reference}: {error}"))
                .collect();
            anyhow::bail!(
                "{} of {} models could not be fetched: {}",
                failures.len(),
                models.len(),
                words.join("; ")
            )
        }
    }
}

/// "4 models, 9.80 GB to fetch into FOLDER, where 120.00 GB are free".
fn plan_words(plan: &DownloadPlan) -> String {
    let about = if plan.estimated { "about " } else { "" };
    format!(
        "{} models, {about}{} to fetch into {}, where {} are free",
        plan.models.len(),
        output::size(plan.bytes),
        plan.folder,
        output::size(plan.free_disk_bytes)
    )
}

fn remove(workbench: &Workbench, reference: &str) -> anyhow::Result<ModelEntry> {
    let known = workbench.models()?;
    // Another way of writing a model's name removes it too.
    let id = workbench.model_id(reference)?;
    workbench.remove_model(&id)?;
    let entry = known.into_iter().find(|model| model.id == id);
    let entry = entry.ok_or_else(|| anyhow::anyhow!("{reference} was removed meanwhile"))?;
    Ok(ModelEntry {
        installed: false,
        path: None,
        ..entry
    })
}

fn info(details: ModelDetails) -> Info {
    Info {
        entry: details.entry,
        sha256: details.sha256,
        facts: details.facts,
        chat_template: details.chat_template,
    }
}

fn list(models: &[ModelEntry]) {
    let unknown = || "-".to_owned();
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|model| {
            vec![
                model.id.clone(),
                model.name.clone(),
                model.params.map_or_else(unknown, output::params),
                model.quant.clone().unwrap_or_else(unknown),
                model.bytes.map_or_else(unknown, output::size),
                model.license.clone().unwrap_or_else(unknown),
                if model.installed { "yes" } else { "-" }.to_owned(),
                model
                    .problem
                    .as_deref()
                    .map_or_else(|| model.fit.words.clone(), output::one_line),
            ]
        })
        .collect();
    output::table(
        &[
            "ID", "NAME", "PARAMS", "QUANT", "SIZE", "LICENCE", "HERE", "MEMORY",
        ],
        &[2, 4],
        &rows,
    );
}

fn show_found(found: &[FoundModel]) {
    let unknown = || "-".to_owned();
    let mut rows = Vec::new();
    for model in found {
        let gated = if model.gated { "gated" } else { "open" };
        rows.push(vec![
            format!("hf:{}", model.repository),
            model.downloads.map_or_else(unknown, |n| n.to_string()),
            gated.to_owned(),
            model.problem.clone().unwrap_or_default(),
        ]);
        for choice in &model.choices {
            rows.push(vec![
                choice.id.clone(),
                output::size(choice.bytes),
                choice.name.clone(),
                choice.fit.words.clone(),
            ]);
        }
    }
    output::table(&["MODEL", "DOWNLOADS", "", ""], &[1], &rows);
}

fn show_time_lapse(lapse: &TimeLapse) {
    let rows: Vec<Vec<String>> = lapse
        .points
        .iter()
        .map(|point| {
            let unknown = || "-".to_owned();
            vec![
                point.step.to_string(),
                point
                    .mmlu
                    .as_ref()
                    .map_or_else(unknown, |figure| output::percent(figure.value)),
                point
                    .perplexity
                    .as_ref()
                    .map_or_else(unknown, |figure| format!("{:.1}", figure.value)),
                match (&point.problem, &point.continuation) {
                    (Some(problem), _) => output::one_line(problem),
                    (None, Some(text)) => output::one_line(text),
                    (None, None) => unknown(),
                },
            ]
        })
        .collect();
    output::table(
        &["STEP", "MMLU", "PERPLEXITY", "CONTINUATION"],
        &[0, 1, 2],
        &rows,
    );
}

fn show(details: &ModelDetails) {
    let entry = &details.entry;
    let mut rows = vec![
        ("Id".to_owned(), entry.id.clone()),
        ("Name".to_owned(), entry.name.clone()),
    ];
    let mut add = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push((label.to_owned(), value));
        }
    };
    add("Quantization", entry.quant.clone());
    add("Size", entry.bytes.map(output::size));
    add("Licence", entry.license.clone());
    add("Publisher", entry.publisher.clone());
    add("File", entry.path.clone());
    add("SHA-256", Some(details.sha256.clone()));
    add("Memory", Some(entry.fit.words.clone()));
    add("Needs", entry.fit.sum.clone());
    let chat = if entry.chat {
        "has a chat template"
    } else {
        "base model: completes text"
    };
    add("Chat", Some(chat.to_owned()));
    rows.extend(
        details
            .facts
            .iter()
            .map(|fact| (fact.label.clone(), fact.value.clone())),
    );
    output::pairs(&rows);
}
