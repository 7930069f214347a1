//! Runs and their samples: begun before the first figure, filled as it comes, finished with a report.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;

use super::{Store, from_json, from_json_opt, json};
use crate::api::ApiError;
use crate::machine::now;
use crate::worker::MmluSample;

/// A run to begin; nothing of it may be missing.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) task: String,
    pub(crate) model: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) quant: String,
    pub(crate) params: u64,
    pub(crate) task_version: String,
    pub(crate) shots: u32,
    pub(crate) seed: u32,
    pub(crate) hardware: String,
    pub(crate) isa: String,
    pub(crate) threads: u32,
    /// Whatever else fixes the result.
    pub(crate) settings: serde_json::Value,
    /// Command that makes it again.
    pub(crate) command: String,
    pub(crate) scorecard: Option<u32>,
    /// The job that makes it.
    pub(crate) job: u32,
}

/// A stored run.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) id: u32,
    pub(crate) run: NewRun,
    pub(crate) app_version: String,
    pub(crate) created_at: f64,
    /// Time of all sessions so far.
    pub(crate) spent_s: f64,
    /// Prompt tokens of all sessions so far.
    pub(crate) spent_tokens: u64,
    /// None until it is finished.
    pub(crate) report: Option<serde_json::Value>,
}

/// Which runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunFilter<'a> {
    pub(crate) id: Option<u32>,
    pub(crate) task: Option<&'a str>,
    pub(crate) scorecard: Option<u32>,
    /// Only runs with a report.
    pub(crate) finished: bool,
}

impl Store {
    /// Begins a run.
    pub(crate) fn begin_run(&self, run: &NewRun) -> Result<u32, ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT INTO runs (task, model, name, path, sha256, quant, params, task_version, shots, seed, hardware, isa,
                 threads, app_version, created_at, settings, command, scorecard, job)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
                params![
                    run.task,
                    run.model,
                    run.name,
                    run.path,
                    run.sha256,
                    run.quant,
                    run.params as i64,
                    run.task_version,
                    run.shots,
                    run.seed,
                    run.hardware,
                    run.isa,
                    run.threads,
                    env!("CARGO_PKG_VERSION"),
                    now(),
                    json(&run.settings),
                    run.command,
                    run.scorecard,
                    run.job
                ],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// The unfinished run of a job that the same work would make, if there is one.
    pub(crate) fn open_run(&self, job: u32, run: &NewRun) -> Result<Option<u32>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT id FROM runs WHERE job = ?1 AND report IS NULL AND task = ?2 AND model = ?3 AND sha256 = ?4
                 AND task_version = ?5 AND settings = ?6 AND isa = ?7 AND app_version = ?8 ORDER BY id DESC",
                params![
                    job,
                    run.task,
                    run.model,
                    run.sha256,
                    run.task_version,
                    json(&run.settings),
                    run.isa,
                    env!("CARGO_PKG_VERSION")
                ],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Adds an answered question.
    pub(crate) fn add_sample(&self, run: u32, sample: &MmluSample) -> Result<(), ApiError> {
        self.write(|c| {
            let mut insert = c.prepare_cached(
                "INSERT OR REPLACE INTO samples (run, subject, row, ll, pred, gold) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            insert.execute(params![
                run,
                sample.subject,
                sample.index as i64,
                json(&sample.ll),
                sample.pred.to_string(),
                sample.gold.to_string()
            ])
        })
        .map(|_| ())
    }

    /// Adds the cost of a session.
    pub(crate) fn add_cost(&self, run: u32, seconds: f64, tokens: u64) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE runs SET spent_s = spent_s + ?2, spent_tokens = spent_tokens + ?3 WHERE id = ?1",
                params![run, seconds, tokens as i64],
            )
        })
        .map(|_| ())
    }

    /// Finishes a run with its report.
    pub(crate) fn finish_run(
        &self,
        run: u32,
        shots: u32,
        report: &impl Serialize,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE runs SET report = ?2, shots = ?3, created_at = ?4 WHERE id = ?1",
                params![run, json(report), shots, now()],
            )
        })
        .map(|_| ())
    }

    /// Runs, the latest first.
    pub(crate) fn runs(&self, filter: RunFilter<'_>) -> Result<Vec<RunRow>, ApiError> {
        let mut sql = "SELECT * FROM runs WHERE 1".to_owned();
        let mut values: Vec<Value> = Vec::new();
        if let Some(id) = filter.id {
            sql.push_str(" AND id = ?");
            values.push(i64::from(id).into());
        }
        if let Some(task) = filter.task {
            sql.push_str(" AND task = ?");
            values.push(task.to_owned().into());
        }
        if let Some(scorecard) = filter.scorecard {
            sql.push_str(" AND scorecard = ?");
            values.push(i64::from(scorecard).into());
        }
        if filter.finished {
            sql.push_str(" AND report IS NOT NULL");
        }
        sql.push_str(" ORDER BY created_at DESC, id DESC");
        self.read(|c| {
            let mut statement = c.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), run_row)?;
            rows.collect()
        })
    }

    /// One run.
    pub(crate) fn run(&self, id: u32) -> Result<RunRow, ApiError> {
        self.runs(RunFilter {
            id: Some(id),
            ..RunFilter::default()
        })?
        .into_iter()
        .next()
        .ok_or_else(|| {
            ApiError::failed(format!(
                "there is no run {id}; `billion results list` shows all"
            ))
        })
    }

    /// The answered questions of a run, by subject and row.
    pub(crate) fn samples(&self, run: u32) -> Result<Vec<MmluSample>, ApiError> {
        self.read(|c| {
            let mut statement =
                c.prepare("SELECT * FROM samples WHERE run = ?1 ORDER BY subject, row")?;
            let rows = statement.query_map([run], |row| {
                let letter = |column| {
                    row.get::<_, String>(column)
                        .map(|text| text.chars().next().unwrap_or('?'))
                };
                let (pred, gold) = (letter("pred")?, letter("gold")?);
                Ok(MmluSample {
                    subject: row.get("subject")?,
                    index: row.get::<_, i64>("row")? as usize,
                    ll: from_json(row, "ll")?,
                    pred,
                    gold,
                    correct: pred == gold,
                })
            })?;
            rows.collect()
        })
    }

    /// How many answers a run has.
    pub(crate) fn count_answers(&self, run: u32) -> Result<u64, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT (SELECT count(*) FROM samples WHERE run = ?1) + (SELECT count(*) FROM completions WHERE run = ?1)",
                [run],
                |row| row.get::<_, i64>(0),
            )
        })
        .map(|count| count as u64)
    }

    /// Deletes a run and its samples. False if there was none.
    pub(crate) fn delete_run(&self, id: u32) -> Result<bool, ApiError> {
        self.write(|c| {
            // One that is being written keeps its place until its job has ended.
            c.execute("DELETE FROM runs WHERE id = ?1", [id])
        })
        .map(|deleted| deleted > 0)
    }
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: row.get("id")?,
        run: NewRun {
            task: row.get("task")?,
            model: row.get("model")?,
            name: row.get("name")?,
            path: row.get("path")?,
            sha256: row.get("sha256")?,
            quant: row.get("quant")?,
            params: row.get::<_, i64>("params")? as u64,
            task_version: row.get("task_version")?,
            shots: row.get("shots")?,
            seed: row.get("seed")?,
            hardware: row.get("hardware")?,
            isa: row.get("isa")?,
            threads: row.get("threads")?,
            settings: from_json(row, "settings")?,
            command: row.get("command")?,
            scorecard: row.get("scorecard")?,
            job: row.get("job")?,
        },
        app_version: row.get("app_version")?,
        created_at: row.get("created_at")?,
        spent_s: row.get("spent_s")?,
        spent_tokens: row.get::<_, i64>("spent_tokens")? as u64,
        report: from_json_opt(row, "report")?,
    })
}
