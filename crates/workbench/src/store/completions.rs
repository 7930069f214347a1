//! Completions of HumanEval runs: stored as they are written, judged later.

use rusqlite::{Row, params};

use super::Store;
use crate::api::ApiError;

/// A stored completion.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionRow {
    /// Row of its problem in the file, from 0.
    pub(crate) row: u32,
    /// Which sample of the problem, from 0.
    pub(crate) sample: u32,
    /// "HumanEval/0".
    pub(crate) task_id: String,
    pub(crate) completion: String,
    pub(crate) tokens: u32,
    pub(crate) prompt_tokens: u32,
    pub(crate) finish_reason: String,
    /// None until it was run.
    pub(crate) judged: Option<Judged>,
}

/// What came of running a completion.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    /// "passed", "wrong_answer", ….
    pub(crate) verdict: String,
    pub(crate) detail: String,
    pub(crate) seconds: f64,
}

impl Store {
    /// Adds what a model wrote.
    pub(crate) fn add_completion(&self, run: u32, made: &CompletionRow) -> Result<(), ApiError> {
        self.write(|c| {
            let mut insert = c.prepare_cached(
                "INSERT OR REPLACE INTO completions (run, row, sample, task_id, completion, tokens, prompt_tokens, finish_reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            insert.execute(params![
                run,
                made.row,
                made.sample,
                made.task_id,
                made.completion,
                made.tokens,
                made.prompt_tokens,
                made.finish_reason
            ])
        })
        .map(|_| ())
    }

    /// Adds what came of running it.
    pub(crate) fn judge_completion(
        &self,
        run: u32,
        (row, sample): (u32, u32),
        judged: &Judged,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            let mut update = c.prepare_cached(
                "UPDATE completions SET verdict = ?4, detail = ?5, seconds = ?6 WHERE run = ?1 AND row = ?2 AND sample = ?3",
            )?;
            update.execute(params![
                run,
                row,
                sample,
                judged.verdict,
                judged.detail,
                judged.seconds
            ])
        })
        .map(|_| ())
    }

    /// The completions of a run, by problem and sample.
    pub(crate) fn completions(&self, run: u32) -> Result<Vec<CompletionRow>, ApiError> {
        self.read(|c| {
            let mut statement =
                c.prepare("SELECT * FROM completions WHERE run = ?1 ORDER BY row, sample")?;
            let rows = statement.query_map([run], completion)?;
            rows.collect()
        })
    }
}

fn completion(row: &Row<'_>) -> rusqlite::Result<CompletionRow> {
    let verdict: Option<String> = row.get("verdict")?;
    let judged = match verdict {
        Some(verdict) => Some(Judged {
            verdict,
            detail: row.get::<_, Option<String>>("detail")?.unwrap_or_default(),
            seconds: row.get::<_, Option<f64>>("seconds")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(CompletionRow {
        row: row.get("row")?,
        sample: row.get("sample")?,
        task_id: row.get("task_id")?,
        completion: row.get("completion")?,
        tokens: row.get("tokens")?,
        prompt_tokens: row.get("prompt_tokens")?,
        finish_reason: row.get("finish_reason")?,
        judged,
    })
}
