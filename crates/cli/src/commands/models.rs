//! `models list`, `info`, `import`, `rm`.

use billion_workbench::Workbench;
use billion_workbench::api::{ModelDetails, ModelEntry};
use serde::Serialize;

use crate::args::Models;
use crate::output;

/// An entry with all details, as one object.
#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    entry: ModelEntry,
    sha256: String,
    facts: Vec<billion_workbench::api::Fact>,
    chat_template: Option<String>,
}

pub fn run(workbench: &Workbench, command: Models, json: bool) -> anyhow::Result<()> {
    match command {
        Models::List => {
            let models = workbench.models()?;
            if json {
                return output::json(&models);
            }
            list(&models);
        }
        Models::Info { model } => {
            let details = workbench.model_details(&model)?;
            if json {
                return output::json(&[info(details)]);
            }
            show(&details);
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
            let known = workbench.models()?;
            let mut removed = Vec::with_capacity(models.len());
            for id in &models {
                workbench.remove_model(id)?;
                removed.extend(known.iter().filter(|m| m.id == *id).cloned().map(|entry| {
                    ModelEntry {
                        installed: false,
                        path: None,
                        ..entry
                    }
                }));
            }
            if json {
                return output::json(&removed);
            }
            output::print(&format!("removed {}\n", models.join(", ")));
        }
    }
    Ok(())
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
                match (&model.problem, model.installed) {
                    (Some(problem), _) => output::one_line(problem),
                    (None, true) => model.fit.words.clone(),
                    (None, false) => "not installed".to_owned(),
                },
            ]
        })
        .collect();
    output::table(
        &["ID", "NAME", "PARAMS", "QUANT", "SIZE", "LICENCE", "HERE"],
        &[2, 4],
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
