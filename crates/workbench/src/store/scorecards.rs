//! Scorecards: what was asked for, and why a figure is missing. The figures are those of their runs.

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, from_json, json};
use crate::api::{ApiError, ScorecardRequest, ScorecardSize};
use crate::machine::now;
use crate::requests::EngineOptions;

/// A stored scorecard without its figures.
#[derive(Clone, Debug)]
pub(crate) struct ScorecardRowStored {
    pub(crate) id: u32,
    pub(crate) created_at: f64,
    pub(crate) size: ScorecardSize,
    pub(crate) models: Vec<String>,
    pub(crate) engine: EngineOptions,
    pub(crate) hardware: String,
    /// As asked for.
    pub(crate) stop_at_half_width: Option<f64>,
    /// File or folder of MMLU's questions; none were the starter pack's.
    pub(crate) mmlu: Option<String>,
}

/// Why a figure is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) model: String,
    pub(crate) task: String,
    pub(crate) text: String,
}

impl Store {
    /// Begins a scorecard.
    pub(crate) fn new_scorecard(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        hardware: &str,
    ) -> Result<u32, ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT INTO scorecards (created_at, size, models, engine, hardware, stop_at_half_width, mmlu)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    now(),
                    json(&request.size),
                    json(&request.models),
                    json(engine),
                    hardware,
                    request.stop_at_half_width,
                    request.mmlu
                ],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// A scorecard.
    pub(crate) fn scorecard(&self, id: u32) -> Result<ScorecardRowStored, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT * FROM scorecards WHERE id = ?1",
                [id],
                scorecard_row,
            )
            .optional()
        })?
        .ok_or_else(|| ApiError::failed(format!("there is no scorecard {id}")))
    }

    /// All scorecards, the latest first.
    pub(crate) fn scorecards(&self) -> Result<Vec<ScorecardRowStored>, ApiError> {
        self.read(|c| {
            let mut statement = c.prepare("SELECT * FROM scorecards ORDER BY id DESC")?;
            let rows = statement.query_map([], scorecard_row)?;
            rows.collect()
        })
    }

    /// Notes why a figure is missing, or with no text that it no longer is.
    pub(crate) fn note(
        &self,
        scorecard: u32,
        model: &str,
        task: &str,
        text: Option<&str>,
    ) -> Result<(), ApiError> {
        self.write(|c| match text {
            Some(text) => c.execute(
                "INSERT OR REPLACE INTO notes (scorecard, model, task, text) VALUES (?1, ?2, ?3, ?4)",
                params![scorecard, model, task, text],
            ),
            None => c.execute(
                "DELETE FROM notes WHERE scorecard = ?1 AND model = ?2 AND task = ?3",
                params![scorecard, model, task],
            ),
        })
        .map(|_| ())
    }

    /// The notes of a scorecard.
    pub(crate) fn notes(&self, scorecard: u32) -> Result<Vec<Note>, ApiError> {
        self.read(|c| {
            let mut statement =
                c.prepare("SELECT * FROM notes WHERE scorecard = ?1 ORDER BY model, task")?;
            let rows = statement.query_map([scorecard], |row| {
                Ok(Note {
                    model: row.get("model")?,
                    task: row.get("task")?,
                    text: row.get("text")?,
                })
            })?;
            rows.collect()
        })
    }
}

fn scorecard_row(row: &Row<'_>) -> rusqlite::Result<ScorecardRowStored> {
    Ok(ScorecardRowStored {
        id: row.get("id")?,
        created_at: row.get("created_at")?,
        size: from_json(row, "size")?,
        models: from_json(row, "models")?,
        engine: from_json(row, "engine")?,
        hardware: row.get("hardware")?,
        stop_at_half_width: row.get("stop_at_half_width")?,
        mmlu: row.get("mmlu")?,
    })
}
