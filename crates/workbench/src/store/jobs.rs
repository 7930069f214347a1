//! Jobs: recorded before they start, owned by a process, interrupted once that process is gone.

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, from_json, from_json_opt, json};
use crate::api::{ApiError, Job, JobState};
use crate::machine::{Owner, now};
use crate::requests::JobProgress;

/// A job with the run it made.
const ONE: &str = "SELECT *, work ->> '$.finetune' AS finetune, (SELECT max(id) FROM runs WHERE runs.job = jobs.id AND report IS NOT NULL) AS run FROM jobs
    WHERE id = ?1";
/// As `ONE`, of every job that was not dismissed.
const LISTED: &str = "SELECT *, work ->> '$.finetune' AS finetune, (SELECT max(id) FROM runs WHERE runs.job = jobs.id AND report IS NOT NULL) AS run FROM jobs
    WHERE dismissed = 0 ORDER BY id DESC";

/// A job to record.
#[derive(Clone, Debug)]
pub(crate) struct NewJob<'a, W> {
    pub(crate) title: &'a str,
    /// What to do, enough to resume it.
    pub(crate) work: &'a W,
    pub(crate) scorecard: Option<u32>,
    /// The model that it brings or makes.
    pub(crate) model: Option<&'a str>,
    /// What it has done is kept when it stops, so that it may be paused.
    pub(crate) pausable: bool,
}

/// What the owner of a job was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// End it.
    Cancel,
    /// End it for now.
    Pause,
}

/// A job with what the shells do not see.
#[derive(Clone, Debug)]
pub(crate) struct JobRow<W> {
    pub(crate) job: Job,
    pub(crate) work: W,
}

impl Store {
    /// Records a queued job of this process.
    pub(crate) fn new_job<W: serde::Serialize>(
        &self,
        new: &NewJob<'_, W>,
    ) -> Result<u32, ApiError> {
        let me = Owner::me();
        self.write(|c| {
            c.execute(
                "INSERT INTO jobs (title, work, state, step, done, total, started_at, scorecard, model, pausable, owner_pid, owner_started_at)
                 VALUES (?1, ?2, 'queued', 'starts', 0, 0, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.title,
                    json(new.work),
                    now(),
                    new.scorecard,
                    new.model,
                    new.pausable,
                    me.pid,
                    me.started_at as i64
                ],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// Makes this process the owner of a job that nobody works on, and queues it again. False if someone does.
    pub(crate) fn take_job(&self, id: u32) -> Result<bool, ApiError> {
        let me = Owner::me();
        self.write(|c| {
            let row = c
                .query_row(ONE, [id], |row| Ok((job(row)?, owner(row)?)))
                .optional()?;
            let free = row.is_some_and(|(job, owner)| {
                matches!(job.state, JobState::Failed | JobState::Cancelled | JobState::Paused | JobState::Interrupted)
                    || (is_open(job.state) && !owner.is_alive())
            });
            if free {
                c.execute(
                    "UPDATE jobs SET state = 'queued', step = 'starts again', eta_s = NULL, rate = NULL, error = NULL, cancel_requested = 0,
                     dismissed = 0, owner_pid = ?2, owner_started_at = ?3 WHERE id = ?1",
                    params![id, me.pid, me.started_at as i64],
                )?;
            }
            Ok(free)
        })
    }

    /// A job with its work.
    pub(crate) fn job<W: serde::de::DeserializeOwned>(
        &self,
        id: u32,
    ) -> Result<JobRow<W>, ApiError> {
        self.read(|c| {
            c.query_row(ONE, [id], |row| {
                Ok(JobRow {
                    job: job(row)?,
                    work: from_json(row, "work")?,
                })
            })
            .optional()
        })?
        .ok_or_else(|| ApiError::failed(format!("there is no job {id}")))
    }

    /// All jobs that were not dismissed, the latest first. Open jobs whose process is gone become interrupted.
    pub(crate) fn jobs(&self) -> Result<Vec<Job>, ApiError> {
        let all = self.read(|c| {
            let mut statement = c.prepare(LISTED)?;
            let rows = statement.query_map([], |row| Ok((job(row)?, owner(row)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let me = Owner::me();
        let mut jobs = Vec::with_capacity(all.len());
        for (mut job, owner) in all {
            if is_open(job.state) && owner != me && !owner.is_alive() {
                job.state = JobState::Interrupted;
                job.eta_s = None;
                job.rate = None;
                self.write(|c| {
                    c.execute(
                        "UPDATE jobs SET state = 'interrupted', eta_s = NULL, rate = NULL
                         WHERE id = ?1 AND state IN ('queued', 'running') AND owner_pid = ?2",
                        params![job.id, owner.pid],
                    )
                })?;
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Notes how far a job is, and tells whether someone asked to stop it.
    pub(crate) fn progress_job(
        &self,
        id: u32,
        state: JobState,
        progress: &JobProgress,
    ) -> Result<bool, ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE jobs SET state = ?2, step = ?3, done = ?4, total = ?5, eta_s = ?6, rate = ?7 WHERE id = ?1",
                params![
                    id,
                    state_name(state),
                    progress.step,
                    progress.done,
                    progress.total,
                    progress.eta_s,
                    progress.rate.as_ref().map(json)
                ],
            )
        })?;
        Ok(self.asked_to_stop(id)?.is_some())
    }

    /// What someone, perhaps in another process, asked of the job's owner. A job that is gone is to end.
    pub(crate) fn asked_to_stop(&self, id: u32) -> Result<Option<Stop>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT cancel_requested FROM jobs WHERE id = ?1",
                [id],
                |row| row.get::<_, u32>(0),
            )
            .optional()
        })
        .map(|asked| match asked {
            Some(0) => None,
            Some(2) => Some(Stop::Pause),
            _ => Some(Stop::Cancel),
        })
    }

    /// Asks the owner of an open job to end it. A job without an owner ends at once.
    pub(crate) fn request_stop(&self, id: u32, stop: Stop) -> Result<(), ApiError> {
        let (asked, step, state) = match stop {
            Stop::Cancel => (1, "is being cancelled", "cancelled"),
            Stop::Pause => (2, "is being paused", "paused"),
        };
        self.write(|c| {
            let Some((job, owner)) = c
                .query_row(ONE, [id], |row| Ok((job(row)?, owner(row)?)))
                .optional()?
            else {
                return Ok(());
            };
            if job.state == JobState::Interrupted || (is_open(job.state) && !owner.is_alive()) {
                c.execute(
                    "UPDATE jobs SET state = ?2, eta_s = NULL, rate = NULL WHERE id = ?1",
                    params![id, state],
                )?;
            } else if is_open(job.state) {
                c.execute(
                    "UPDATE jobs SET cancel_requested = ?2, step = ?3 WHERE id = ?1",
                    params![id, asked, step],
                )?;
            }
            Ok(())
        })
    }

    /// The download of a model that is not done, the latest; `model` as it was recorded.
    pub(crate) fn open_download(&self, model: &str) -> Result<Option<u32>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT id FROM jobs WHERE model = ?1 AND work ->> '$.kind' = 'download' AND dismissed = 0
                 AND state NOT IN ('done', 'cancelled') ORDER BY id DESC",
                [model],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Jobs of a kind (`Work`'s tag) that are not done, the latest first.
    pub(crate) fn open_jobs(&self, kind: &str) -> Result<Vec<u32>, ApiError> {
        self.read(|c| {
            let mut statement = c.prepare(
                "SELECT id FROM jobs WHERE work ->> '$.kind' = ?1 AND dismissed = 0
                 AND state NOT IN ('done', 'cancelled') ORDER BY id DESC",
            )?;
            let rows = statement.query_map([kind], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// Ends a job; `step` says how, in words.
    pub(crate) fn finish_job(
        &self,
        id: u32,
        state: JobState,
        step: &str,
        error: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE jobs SET state = ?2, step = ?3, eta_s = NULL, rate = NULL, error = ?4 WHERE id = ?1",
                params![id, state_name(state), step, error.map(json)],
            )
        })
        .map(|_| ())
    }

    /// Takes an ended job off the list. False if it is still open.
    pub(crate) fn dismiss_job(&self, id: u32) -> Result<bool, ApiError> {
        self.write(|c| {
            let open = c
                .query_row(ONE, [id], |row| {
                    Ok(is_open(job(row)?.state) && owner(row)?.is_alive())
                })
                .optional()?
                .unwrap_or(false);
            if !open {
                c.execute("UPDATE jobs SET dismissed = 1 WHERE id = ?1", [id])?;
            }
            Ok(!open)
        })
    }
}

/// Queued or running.
fn is_open(state: JobState) -> bool {
    matches!(state, JobState::Queued | JobState::Running)
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Paused => "paused",
        JobState::Interrupted => "interrupted",
    }
}

fn owner(row: &Row<'_>) -> rusqlite::Result<Owner> {
    Ok(Owner {
        pid: row.get("owner_pid")?,
        started_at: row.get::<_, i64>("owner_started_at")? as u64,
    })
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let state = match row.get::<_, String>("state")?.as_str() {
        "queued" => JobState::Queued,
        "running" => JobState::Running,
        "done" => JobState::Done,
        "cancelled" => JobState::Cancelled,
        "paused" => JobState::Paused,
        "interrupted" => JobState::Interrupted,
        _ => JobState::Failed,
    };
    let scorecard: Option<u32> = row.get("scorecard")?;
    let finetune: Option<u32> = row.get("finetune")?;
    Ok(Job {
        id: row.get("id")?,
        title: row.get("title")?,
        state,
        step: row.get("step")?,
        done: row.get("done")?,
        total: row.get("total")?,
        eta_s: row.get("eta_s")?,
        rate: from_json_opt(row, "rate")?,
        pausable: row.get("pausable")?,
        error: from_json_opt(row, "error")?,
        started_at: row.get("started_at")?,
        scorecard,
        // Jobs that make several are shown where these come together.
        run: match (scorecard, finetune) {
            (None, None) => row.get("run")?,
            _ => None,
        },
        model: row.get("model")?,
        finetune,
    })
}
