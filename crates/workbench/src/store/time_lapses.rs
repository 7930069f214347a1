//! Time-lapses of a training: what was asked for, and how far each checkpoint is. Figures are those of its runs.

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, from_json, json};
use crate::api::{ApiError, TimeLapseHead, TimeLapseRequest};
use crate::machine::now;

/// A stored time-lapse.
#[derive(Clone, Debug)]
pub(crate) struct TimeLapseRow {
    pub(crate) head: TimeLapseHead,
    pub(crate) prompt: String,
}

/// A checkpoint of a time-lapse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PointRow {
    pub(crate) step: u32,
    /// Its weights came for this, and go when it is done.
    pub(crate) fetched: bool,
    pub(crate) mmlu: Option<u32>,
    pub(crate) perplexity: Option<u32>,
    pub(crate) continuation: Option<String>,
    pub(crate) problem: Option<String>,
    /// Nothing more will come.
    pub(crate) done: bool,
}

impl Store {
    /// Begins a time-lapse.
    pub(crate) fn new_time_lapse(&self, request: &TimeLapseRequest) -> Result<u32, ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT INTO time_lapses (created_at, model, steps, prompt) VALUES (?1, ?2, ?3, ?4)",
                params![now(), request.model, json(&request.steps), request.prompt],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// All time-lapses, the latest first.
    pub(crate) fn time_lapses(&self) -> Result<Vec<TimeLapseRow>, ApiError> {
        self.read(|c| {
            let mut statement = c.prepare(&format!("{SELECT} ORDER BY id DESC"))?;
            let rows = statement.query_map([], time_lapse)?;
            rows.collect()
        })
    }

    /// A time-lapse.
    pub(crate) fn time_lapse(&self, id: u32) -> Result<TimeLapseRow, ApiError> {
        self.read(|c| {
            c.query_row(&format!("{SELECT} WHERE id = ?1"), [id], time_lapse)
                .optional()
        })?
        .ok_or_else(|| ApiError::failed(format!("there is no time-lapse {id}")))
    }

    /// Its checkpoints that were begun, by step.
    pub(crate) fn points(&self, time_lapse: u32) -> Result<Vec<PointRow>, ApiError> {
        self.read(|c| {
            let mut statement =
                c.prepare("SELECT * FROM time_lapse_points WHERE time_lapse = ?1 ORDER BY step")?;
            let rows = statement.query_map([time_lapse], point)?;
            rows.collect()
        })
    }

    /// Begins a checkpoint, or gives what there is of it. `fetched` is kept as it was when it was first begun.
    pub(crate) fn begin_point(
        &self,
        time_lapse: u32,
        step: u32,
        fetched: bool,
    ) -> Result<PointRow, ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT OR IGNORE INTO time_lapse_points (time_lapse, step, fetched) VALUES (?1, ?2, ?3)",
                params![time_lapse, step, fetched],
            )?;
            c.query_row(
                "SELECT * FROM time_lapse_points WHERE time_lapse = ?1 AND step = ?2",
                params![time_lapse, step],
                point,
            )
        })
    }

    /// Keeps what is known of a checkpoint now.
    pub(crate) fn save_point(&self, time_lapse: u32, point: &PointRow) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE time_lapse_points SET mmlu = ?3, perplexity = ?4, continuation = ?5, problem = ?6, done = ?7
                 WHERE time_lapse = ?1 AND step = ?2",
                params![
                    time_lapse,
                    point.step,
                    point.mmlu,
                    point.perplexity,
                    point.continuation,
                    point.problem,
                    point.done
                ],
            )
        })
        .map(|_| ())
    }
}

const SELECT: &str = "SELECT *, (SELECT count(*) FROM time_lapse_points WHERE time_lapse = time_lapses.id AND done) AS done
    FROM time_lapses";

fn time_lapse(row: &Row<'_>) -> rusqlite::Result<TimeLapseRow> {
    let steps: Vec<u32> = from_json(row, "steps")?;
    Ok(TimeLapseRow {
        head: TimeLapseHead {
            id: row.get("id")?,
            model: row.get("model")?,
            steps: steps.len() as u32,
            done: row.get("done")?,
            created_at: row.get("created_at")?,
        },
        prompt: row.get("prompt")?,
    })
}

fn point(row: &Row<'_>) -> rusqlite::Result<PointRow> {
    Ok(PointRow {
        step: row.get("step")?,
        fetched: row.get("fetched")?,
        mmlu: row.get("mmlu")?,
        perplexity: row.get("perplexity")?,
        continuation: row.get("continuation")?,
        problem: row.get("problem")?,
        done: row.get("done")?,
    })
}
