//! What is stored of a fine-tuning: what training gave over all its sessions, the report, and the report card that the window
//! shows of it.

use billion_lora::train::Ending;
use serde::{Deserialize, Serialize};

use crate::api::{
    ApiError, ComparedAnswer, Fact, Forgetting, HeldOut, LossPoint, Recall, ReportCard,
};
use crate::facade::Workbench;
use crate::figures::{RunFigure, finetune_figures};
use crate::reports::MmluReport;
use crate::scorecards::report_of;
use crate::store::{AnswerRow, FinetuneRow, Purpose};
use crate::words::{counted, grouped, percent};
use crate::worker::Tuned;

/// Fewer held-out rows than this say little.
const FEW_ROWS: u32 = 20;
/// Chance below which a difference counts as real.
const SIGNIFICANT: f64 = 0.05;

/// What training gave, all sessions together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub(crate) ending: Ending,
    pub(crate) steps: u32,
    pub(crate) best_step: u32,
    pub(crate) trainable_params: u64,
    pub(crate) trainable_share: f64,
    /// Time with looks at held-out rows and checkpoints.
    pub(crate) seconds: f64,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) joules: Option<f64>,
    pub(crate) energy_covers: Option<String>,
    /// Why there are no joules.
    pub(crate) energy_reason: Option<String>,
    pub(crate) rows_train: u32,
    pub(crate) rows_held_out: u32,
    pub(crate) template: String,
    pub(crate) left_out: String,
}

impl Trained {
    /// Nothing is left to train.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.ending, Ending::Stopped)
    }
}

/// The parts of the report card that come after training, as far as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Card {
    /// Times that training was begun or gone on with, those that ended with a crash included.
    pub(crate) sessions: u32,
    pub(crate) mmlu_before: Option<u32>,
    pub(crate) mmlu_after: Option<u32>,
    pub(crate) forgetting: Option<Forgetting>,
    pub(crate) complete: bool,
}

/// A session added to those before it.
pub(super) fn sums(before: Option<&Trained>, now: &Tuned) -> Trained {
    let more = |part: Option<f64>, all: Option<f64>| match before {
        Some(_) => Some(part? + all?),
        None => part,
    };
    Trained {
        ending: now.ending.clone(),
        steps: now.steps,
        best_step: now.best_step,
        trainable_params: now.trainable_params,
        trainable_share: now.trainable_share,
        seconds: now.seconds + before.map_or(0.0, |before| before.seconds),
        peak_rss_bytes: now
            .peak_rss_bytes
            .max(before.and_then(|before| before.peak_rss_bytes)),
        joules: more(
            now.energy.gross_joules,
            before.and_then(|before| before.joules),
        ),
        energy_covers: now.energy.covers.clone(),
        energy_reason: now
            .energy
            .reason
            .clone()
            .or_else(|| before.and_then(|before| before.energy_reason.clone())),
        rows_train: now.rows_train,
        rows_held_out: now.rows_held_out,
        template: now.template.clone(),
        left_out: now.left_out.clone(),
    }
}

/// `finetune`: what the store keeps of a finished training, and cli.md's document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinetuneReport {
    /// Number of the stored run.
    pub run: u32,
    /// Number of the fine-tuning.
    pub finetune: u32,
    /// Id of the model that was tuned.
    pub model: String,
    /// What commands take as MODEL for model and adapter together.
    pub tuned: String,
    /// Folder of the adapter.
    pub out: String,
    /// Loss of each optimizer step, nats a token.
    pub loss: Vec<LossPoint>,
    /// Loss on the held-out rows; step 0 is the model before training.
    pub held_out_loss: Vec<LossPoint>,
    /// Loss on the held-out rows of the adapter that was kept; none without such rows.
    pub eval_loss: Option<f64>,
    /// The same before training.
    pub eval_loss_before: Option<f64>,
    /// Optimizer steps.
    pub steps: u32,
    /// Step of the adapter that was kept.
    pub best_step: u32,
    /// Why training ended, in words.
    pub ending: String,
    /// Parameters that were trained.
    pub trainable_params: u64,
    /// Their share of all parameters.
    pub trainable_share: f64,
    /// Tokens that went through the model in training; there is no padding.
    pub tokens: u64,
    /// Those by the time of the steps.
    pub tokens_per_s: f64,
    /// Time of the steps alone.
    pub step_seconds: f64,
    /// Time of the training with looks at the held-out rows and checkpoints, all sessions together.
    pub seconds: f64,
    /// Times that training was begun or gone on with.
    pub sessions: u32,
    /// Most memory of the training process.
    pub peak_rss_bytes: Option<u64>,
    /// Energy of the training, the idle machine included.
    pub joules: Option<f64>,
    /// What was counted, in words.
    pub energy_covers: Option<String>,
    /// Why there is no energy.
    pub energy_reason: Option<String>,
    /// Rows that were trained on.
    pub rows_train: u32,
    /// Rows held out.
    pub rows_held_out: u32,
    /// SHA-256 of the dataset.
    pub data_sha256: String,
    /// SHA-256 of `adapter_model.safetensors`.
    pub adapter_sha256: Option<String>,
    /// How a row became a prompt.
    pub template: String,
    /// Exact answers on rows of the training; none where its answers are long.
    #[serde(default)]
    pub recall: Option<Recall>,
    /// Answers before and after, side by side.
    #[serde(default)]
    pub answers: Vec<ComparedAnswer>,
    /// MMLU before and after; none where it was not asked for.
    #[serde(default)]
    pub forgetting: Option<Forgetting>,
    /// Every part that was asked for is there.
    #[serde(default)]
    pub complete: bool,
    /// What a reader must know, in words.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl FinetuneReport {
    /// Did it help? In sentences.
    pub fn verdicts(&self) -> Vec<String> {
        verdicts(self)
    }

    /// Losses, recall, forgetting, and what the training took: label and value.
    pub fn figures(&self) -> Vec<Fact> {
        finetune_figures(self)
            .into_iter()
            .map(RunFigure::fact)
            .collect()
    }
}

impl Workbench {
    /// Writes the report as far as it is.
    pub(super) fn store_report(&self, id: u32, run: u32) -> Result<(), ApiError> {
        let row = self.store.finetune(id)?;
        let Some(trained) = &row.trained else {
            return Ok(());
        };
        let report = self.report(&row, trained, run)?;
        self.store.finish_run(run, 0, &report)
    }

    /// What there is to show of a fine-tuning.
    pub(super) fn report_card(
        &self,
        row: &FinetuneRow,
        trained: &Trained,
    ) -> Result<ReportCard, ApiError> {
        Ok(card_of(&self.report(row, trained, row.run.unwrap_or(0))?))
    }

    fn report(
        &self,
        row: &FinetuneRow,
        trained: &Trained,
        run: u32,
    ) -> Result<FinetuneReport, ApiError> {
        let [loss, held_out_loss] = self.store.losses(row.id)?;
        let answers = self.store.answers(row.id)?;
        let at = |step: u32| {
            held_out_loss
                .iter()
                .find(|point| point.step == step)
                .map(|point| point.loss)
        };
        let settings = match row.run {
            Some(run) => self.store.run(run)?.run.settings,
            None => serde_json::Value::Null,
        };
        let progress = &row.progress;
        Ok(FinetuneReport {
            run,
            finetune: row.id,
            model: row.model.clone(),
            tuned: row.tuned.clone(),
            out: row
                .request
                .out
                .clone()
                .or_else(|| row.adapter.clone())
                .unwrap_or_default(),
            eval_loss: at(trained.best_step),
            eval_loss_before: at(0),
            loss,
            held_out_loss,
            steps: trained.steps,
            best_step: trained.best_step,
            ending: ending_words(trained),
            trainable_params: trained.trainable_params,
            trainable_share: trained.trainable_share,
            tokens: progress.spent_tokens,
            tokens_per_s: if progress.spent_s > 0.0 {
                progress.spent_tokens as f64 / progress.spent_s
            } else {
                0.0
            },
            step_seconds: progress.spent_s,
            // A session that ended with a crash told its steps, but not its end.
            seconds: trained.seconds.max(progress.spent_s),
            sessions: row.card.sessions,
            peak_rss_bytes: trained.peak_rss_bytes,
            joules: trained.joules,
            energy_covers: trained.energy_covers.clone(),
            energy_reason: trained.energy_reason.clone(),
            rows_train: trained.rows_train,
            rows_held_out: trained.rows_held_out,
            data_sha256: settings["data_sha256"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            adapter_sha256: row.adapter_sha256.clone(),
            template: trained.template.clone(),
            recall: recall(&answers),
            answers: compared(&answers),
            forgetting: row.card.forgetting.clone(),
            complete: row.card.complete,
            notes: notes(trained, row.card.sessions),
        })
    }

    /// What two runs of MMLU say was forgotten.
    pub(super) fn forgetting(&self, before: u32, after: u32) -> Result<Forgetting, ApiError> {
        let accuracy = |run: u32| -> Result<f64, ApiError> {
            let report: MmluReport = report_of(&self.store.run(run)?)?;
            Ok(report.accuracy)
        };
        let compared = self.compare_runs(before, after)?;
        let (was, is) = (accuracy(before)?, accuracy(after)?);
        let p = compared.p_value.unwrap_or(1.0);
        let figures = format!(
            "MMLU {} before, {} after, on {} (p = {p:.3})",
            percent(was),
            percent(is),
            counted(u64::from(compared.shared), "question")
        );
        let verdict = if p >= SIGNIFICANT {
            format!("No real difference in general knowledge: {figures}.")
        } else if compared.only_a > compared.only_b {
            format!("It forgot some general knowledge: {figures}.")
        } else {
            format!("It answers more of general knowledge than before: {figures}.")
        };
        Ok(Forgetting {
            before,
            after,
            accuracy_before: was,
            accuracy_after: is,
            questions: compared.shared,
            lost: compared.only_a,
            gained: compared.only_b,
            p_value: p,
            verdict,
        })
    }
}

fn notes(trained: &Trained, sessions: u32) -> Vec<String> {
    let mut notes = Vec::new();
    if !trained.left_out.is_empty() {
        notes.push(trained.left_out.clone());
    }
    if sessions > 1 {
        notes.push(format!(
            "trained in {sessions} sessions; steps that were done twice after a break count in time and tokens"
        ));
    }
    notes
}

fn ending_words(trained: &Trained) -> String {
    match &trained.ending {
        Ending::Finished => format!(
            "all {} were taken",
            counted(u64::from(trained.steps), "step")
        ),
        Ending::Stopped => format!(
            "stopped after {}",
            counted(u64::from(trained.steps), "step")
        ),
        Ending::NoImprovement => format!(
            "stopped early after {}: the held-out loss did not fall any more",
            counted(u64::from(trained.steps), "step")
        ),
        Ending::Diverged { explanation } => explanation.clone(),
    }
}

/// Word for word, but for space around it.
fn same(wanted: &str, said: &str) -> bool {
    wanted.trim() == said.trim()
}

fn recall(answers: &[AnswerRow]) -> Option<Recall> {
    let rows: Vec<&AnswerRow> = answers
        .iter()
        .filter(|row| row.purpose == Purpose::Recall && row.base.is_some() && row.tuned.is_some())
        .collect();
    let right = |said: fn(&AnswerRow) -> Option<&String>| {
        rows.iter()
            .filter(|row| said(row).is_some_and(|said| same(&row.wanted, said)))
            .count() as u32
    };
    (!rows.is_empty()).then(|| Recall {
        rows: rows.len() as u32,
        before: right(|row| row.base.as_ref()),
        after: right(|row| row.tuned.as_ref()),
    })
}

fn compared(answers: &[AnswerRow]) -> Vec<ComparedAnswer> {
    answers
        .iter()
        .filter(|row| row.purpose == Purpose::Shown)
        .filter_map(|row| {
            Some(ComparedAnswer {
                row: row.row,
                trained: row.trained,
                prompt: row.shown.clone(),
                wanted: row.wanted.clone(),
                base: row.base.clone()?,
                tuned: row.tuned.clone()?,
            })
        })
        .collect()
}

/// The report as the window shows it.
fn card_of(report: &FinetuneReport) -> ReportCard {
    ReportCard {
        verdicts: verdicts(report),
        held_out: held_out(report),
        recall: report.recall,
        answers: report.answers.clone(),
        forgetting: report.forgetting.clone(),
        figures: report.figures(),
        complete: report.complete,
    }
}

fn held_out(report: &FinetuneReport) -> Option<HeldOut> {
    let (before, after) = (report.eval_loss_before?, report.eval_loss?);
    Some(HeldOut {
        rows: report.rows_held_out,
        loss_before: before,
        loss_after: after,
        perplexity_before: before.exp(),
        perplexity_after: after.exp(),
    })
}

/// Did it help? In sentences, surest first.
fn verdicts(report: &FinetuneReport) -> Vec<String> {
    let mut said = Vec::new();
    match held_out(report) {
        Some(held) => {
            let figures = format!(
                "from {:.3} to {:.3} nats a token (perplexity {:.2} to {:.2})",
                held.loss_before, held.loss_after, held.perplexity_before, held.perplexity_after
            );
            let rows = counted(u64::from(held.rows), "row");
            said.push(if held.loss_after < held.loss_before {
                format!("It helped: on {rows} that training did not see, the loss fell {figures}.")
            } else {
                format!(
                    "It did not help: on {rows} that training did not see, the loss went {figures}."
                )
            });
            if held.rows < FEW_ROWS {
                said.push(format!(
                    "Only {rows} were held out, so take that as a hint; more rows make it sure."
                ));
            }
        }
        None => said.push(
            "No rows were held out, so nothing tells whether it learnt more than its rows by heart."
                .to_owned(),
        ),
    }
    if report.best_step < report.steps && report.eval_loss.is_some() {
        said.push(format!(
            "The adapter of step {} of {} was kept: after it the held-out loss rose.",
            grouped(u64::from(report.best_step)),
            grouped(u64::from(report.steps))
        ));
    }
    if let Some(recall) = report.recall {
        said.push(format!(
            "Of {} training rows with short answers, {} are answered word for word; before, {}.",
            recall.rows, recall.after, recall.before
        ));
    }
    said.extend(report.forgetting.iter().map(|f| f.verdict.clone()));
    said
}

/// "held-out loss 2.41 → 1.73".
pub(crate) fn headline(report: &FinetuneReport) -> String {
    match (report.eval_loss_before, report.eval_loss) {
        (Some(before), Some(after)) => format!("held-out loss {before:.2} → {after:.2}"),
        _ => match (report.loss.first(), report.loss.last()) {
            (Some(first), Some(last)) => {
                format!(
                    "loss {:.2} → {:.2}, nothing held out",
                    first.loss, last.loss
                )
            }
            _ => "no step was taken".to_owned(),
        },
    }
}
