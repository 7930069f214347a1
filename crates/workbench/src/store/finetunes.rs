//! Fine-tunings: what was asked for, losses as they come, answers before and after, and where the adapter lies.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::{Store, from_json, from_json_opt, json};
use crate::api::{ApiError, FinetuneRequest, LossPoint, TuneProgress};
use crate::finetune::{Card, Trained};
use crate::machine::now;

/// A fine-tuning to record.
#[derive(Clone, Debug)]
pub(crate) struct NewFinetune<'a> {
    pub(crate) name: &'a str,
    /// Made unlike all others by a number at its end, where it must be.
    pub(crate) tuned: &'a str,
    pub(crate) model: &'a str,
    pub(crate) model_name: &'a str,
    pub(crate) request: &'a FinetuneRequest,
}

/// A stored fine-tuning.
#[derive(Clone, Debug)]
pub(crate) struct FinetuneRow {
    pub(crate) id: u32,
    pub(crate) created_at: f64,
    pub(crate) name: String,
    pub(crate) tuned: String,
    pub(crate) model: String,
    pub(crate) model_name: String,
    pub(crate) request: FinetuneRequest,
    pub(crate) adapter: Option<String>,
    pub(crate) adapter_sha256: Option<String>,
    pub(crate) progress: TuneProgress,
    pub(crate) trained: Option<Trained>,
    pub(crate) card: Card,
    pub(crate) job: u32,
    pub(crate) run: Option<u32>,
}

/// A row that is asked before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnswerRow {
    pub(crate) purpose: Purpose,
    pub(crate) place: u32,
    pub(crate) row: u32,
    /// Training saw it.
    pub(crate) trained: bool,
    /// The question as people read it.
    pub(crate) shown: String,
    /// The tokens that the answer follows.
    pub(crate) tokens: Vec<u32>,
    pub(crate) wanted: String,
    pub(crate) base: Option<String>,
    pub(crate) tuned: Option<String>,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be read side by side.
    Shown,
    /// To be compared word for word.
    Recall,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Recall => "recall",
        }
    }
}

/// Whose answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// The model as it was.
    Base,
    /// Model and adapter.
    Tuned,
}

impl Store {
    /// Begins a fine-tuning.
    pub(crate) fn new_finetune(&self, new: &NewFinetune<'_>) -> Result<u32, ApiError> {
        self.write(|c| {
            let taken = |tuned: &str| {
                c.query_row(
                    "SELECT count(*) FROM finetunes WHERE tuned = ?1",
                    [tuned],
                    |row| row.get::<_, u32>(0),
                )
            };
            let mut tuned = new.tuned.to_owned();
            let mut number = 1;
            while taken(&tuned)? > 0 {
                number += 1;
                tuned = format!("{}-{number}", new.tuned);
            }
            c.execute(
                "INSERT INTO finetunes (created_at, name, tuned, model, model_name, request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    now(),
                    new.name,
                    tuned,
                    new.model,
                    new.model_name,
                    json(new.request)
                ],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// All fine-tunings, the latest first.
    pub(crate) fn finetunes(&self) -> Result<Vec<FinetuneRow>, ApiError> {
        self.finetunes_where("1", &[])
    }

    /// A fine-tuning.
    pub(crate) fn finetune(&self, id: u32) -> Result<FinetuneRow, ApiError> {
        let found = self.finetunes_where("id = ?1", &[i64::from(id).into()])?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| ApiError::failed(format!("there is no fine-tuning {id}")))
    }

    /// The fine-tuning of that reference.
    pub(crate) fn finetune_of(&self, tuned: &str) -> Result<Option<FinetuneRow>, ApiError> {
        let found = self.finetunes_where("tuned = ?1", &[tuned.to_owned().into()])?;
        Ok(found.into_iter().next())
    }

    fn finetunes_where(
        &self,
        condition: &str,
        values: &[Value],
    ) -> Result<Vec<FinetuneRow>, ApiError> {
        let sql = format!("SELECT * FROM finetunes WHERE {condition} ORDER BY id DESC");
        self.read(|c| {
            let mut statement = c.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), finetune)?;
            rows.collect()
        })
    }

    /// The job and the run that a fine-tuning belongs to.
    pub(crate) fn set_finetune_work(
        &self,
        id: u32,
        job: u32,
        run: Option<u32>,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE finetunes SET job = ?2, run = ?3 WHERE id = ?1",
                params![id, job, run],
            )
        })
        .map(|_| ())
    }

    /// Losses that have come, and where training is now. Losses after `restart`, which an earlier session left, go first.
    pub(crate) fn add_losses(
        &self,
        id: u32,
        restart: Option<u32>,
        train: &[LossPoint],
        held_out: &[LossPoint],
        progress: &TuneProgress,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            if let Some(step) = restart {
                c.execute(
                    "DELETE FROM finetune_losses WHERE finetune = ?1 AND step > ?2",
                    params![id, step],
                )?;
            }
            let mut insert = c.prepare_cached(
                "INSERT OR REPLACE INTO finetune_losses (finetune, held_out, step, loss) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (of, points) in [(false, train), (true, held_out)] {
                for point in points.iter().filter(|point| point.loss.is_finite()) {
                    insert.execute(params![id, of, point.step, point.loss])?;
                }
            }
            c.execute(
                "UPDATE finetunes SET progress = ?2 WHERE id = ?1",
                params![id, json(progress)],
            )
        })
        .map(|_| ())
    }

    /// Losses by step: of the training rows, and of those that training does not see.
    pub(crate) fn losses(&self, id: u32) -> Result<[Vec<LossPoint>; 2], ApiError> {
        let of = |held_out: bool| {
            self.read(|c| {
                let mut statement = c.prepare(
                    "SELECT step, loss FROM finetune_losses WHERE finetune = ?1 AND held_out = ?2 ORDER BY step",
                )?;
                let rows = statement.query_map(params![id, held_out], |row| {
                    Ok(LossPoint {
                        step: row.get("step")?,
                        loss: row.get("loss")?,
                    })
                })?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
        };
        Ok([of(false)?, of(true)?])
    }

    /// Where an adapter that can be used lies.
    pub(crate) fn set_adapter(&self, id: u32, folder: &str, sha256: &str) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE finetunes SET adapter = ?2, adapter_sha256 = ?3 WHERE id = ?1",
                params![id, folder, sha256],
            )
        })
        .map(|_| ())
    }

    /// What training gave.
    pub(crate) fn set_trained(&self, id: u32, trained: &Trained) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE finetunes SET trained = ?2 WHERE id = ?1",
                params![id, json(trained)],
            )
        })
        .map(|_| ())
    }

    /// The report card as far as it is.
    pub(crate) fn set_card(&self, id: u32, card: &Card) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE finetunes SET card = ?2 WHERE id = ?1",
                params![id, json(card)],
            )
        })
        .map(|_| ())
    }

    /// Keeps what is to be asked, in place of what was.
    pub(crate) fn set_questions(&self, id: u32, rows: &[AnswerRow]) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute("DELETE FROM finetune_answers WHERE finetune = ?1", [id])?;
            for row in rows {
                c.execute(
                    "INSERT INTO finetune_answers (finetune, purpose, place, row, trained, shown, tokens, wanted)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        id,
                        row.purpose.name(),
                        row.place,
                        row.row,
                        row.trained,
                        row.shown,
                        json(&row.tokens),
                        row.wanted
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// Keeps an answer.
    pub(crate) fn set_answer(
        &self,
        id: u32,
        (purpose, place): (Purpose, u32),
        who: Answerer,
        text: &str,
    ) -> Result<(), ApiError> {
        let column = match who {
            Answerer::Base => "base",
            Answerer::Tuned => "tuned",
        };
        self.write(|c| {
            c.execute(
                &format!(
                    "UPDATE finetune_answers SET {column} = ?4 WHERE finetune = ?1 AND purpose = ?2 AND place = ?3"
                ),
                params![id, purpose.name(), place, text],
            )
        })
        .map(|_| ())
    }

    /// What is asked, with the answers so far, in order.
    pub(crate) fn answers(&self, id: u32) -> Result<Vec<AnswerRow>, ApiError> {
        self.read(|c| {
            let mut statement = c.prepare(
                "SELECT * FROM finetune_answers WHERE finetune = ?1 ORDER BY purpose DESC, place",
            )?;
            let rows = statement.query_map([id], |row| {
                Ok(AnswerRow {
                    purpose: match row.get::<_, String>("purpose")?.as_str() {
                        "recall" => Purpose::Recall,
                        _ => Purpose::Shown,
                    },
                    place: row.get("place")?,
                    row: row.get("row")?,
                    trained: row.get("trained")?,
                    shown: row.get("shown")?,
                    tokens: from_json(row, "tokens")?,
                    wanted: row.get("wanted")?,
                    base: row.get("base")?,
                    tuned: row.get("tuned")?,
                })
            })?;
            rows.collect()
        })
    }

    /// Deletes a fine-tuning; its run stays.
    pub(crate) fn delete_finetune(&self, id: u32) -> Result<(), ApiError> {
        self.write(|c| c.execute("DELETE FROM finetunes WHERE id = ?1", [id]))
            .map(|_| ())
    }

    /// The finished run that the same work made before, the latest, if there is one.
    pub(crate) fn finished_run(&self, run: &super::NewRun) -> Result<Option<u32>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT id FROM runs WHERE report IS NOT NULL AND task = ?1 AND model = ?2 AND sha256 = ?3
                 AND task_version = ?4 AND settings = ?5 AND isa = ?6 AND app_version = ?7 ORDER BY id DESC",
                params![
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
}

fn finetune(row: &Row<'_>) -> rusqlite::Result<FinetuneRow> {
    Ok(FinetuneRow {
        id: row.get("id")?,
        created_at: row.get("created_at")?,
        name: row.get("name")?,
        tuned: row.get("tuned")?,
        model: row.get("model")?,
        model_name: row.get("model_name")?,
        request: from_json(row, "request")?,
        adapter: row.get("adapter")?,
        adapter_sha256: row.get("adapter_sha256")?,
        progress: from_json_opt(row, "progress")?.unwrap_or_default(),
        trained: from_json_opt(row, "trained")?,
        card: from_json_opt(row, "card")?.unwrap_or_default(),
        job: row.get("job")?,
        run: row.get("run")?,
    })
}
