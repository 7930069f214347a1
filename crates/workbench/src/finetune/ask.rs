//! The same questions to the model as it was and to model and adapter: some to be read side by side, and short ones of the
//! training to be compared word for word. Answers are kept as they come.

use billion_lora::dataset::{DatasetSample, Speaker};

use super::tuned::with_adapter;
use crate::api::ApiError;
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::requests::{EngineOptions, JobProgress};
use crate::store::{AnswerRow, Answerer, Purpose};
use crate::worker::{self, Ask, Event, Outcome, Tuned, Worker};

/// Answers that are shown side by side.
const SHOWN: usize = 5;
/// Most tokens of one of them.
const SHOWN_TOKENS: u32 = 160;
/// Rows of the training that are asked, and the least that say anything.
const RECALL: usize = 50;
const LEAST_RECALL: usize = 5;
/// Characters of an answer that can be expected word for word, and the tokens that it may take.
const SHORT: usize = 120;
const SHORT_TOKENS: u32 = 64;

/// What to ask: held-out rows where there are some, and rows of the training with short answers. Both are spread over the
/// file, so that a sorted one is not judged by its beginning.
pub(super) fn questions(tuned: &Tuned, seed: u64) -> Vec<AnswerRow> {
    let question = |purpose, place: usize, sample: &DatasetSample, trained| AnswerRow {
        purpose,
        place: place as u32,
        row: sample.row,
        trained,
        shown: shown(sample),
        tokens: sample.prompt.clone(),
        wanted: sample.answer.clone(),
        base: None,
        tuned: None,
    };
    let held_out = spread(
        &tuned.held_out_samples.iter().collect::<Vec<_>>(),
        SHOWN,
        seed,
    );
    let missing = SHOWN - held_out.len();
    let train: Vec<&DatasetSample> = tuned.train_samples.iter().collect();
    let seen = if held_out.is_empty() {
        spread(&train, missing, seed)
    } else {
        Vec::new()
    };
    let short: Vec<&DatasetSample> = train
        .into_iter()
        .filter(|sample| sample.answer.chars().count() <= SHORT && !sample.answer.trim().is_empty())
        .collect();
    let recall = if short.len() < LEAST_RECALL {
        Vec::new()
    } else {
        spread(&short, RECALL, seed)
    };
    let shown = held_out
        .iter()
        .map(|sample| (sample, false))
        .chain(seen.iter().map(|sample| (sample, true)));
    shown
        .enumerate()
        .map(|(place, (sample, trained))| question(Purpose::Shown, place, sample, trained))
        .chain(
            recall
                .iter()
                .enumerate()
                .map(|(place, sample)| question(Purpose::Recall, place, sample, true)),
        )
        .collect()
}

/// At most so many, evenly apart, from a place that the seed chooses.
fn spread<'a>(all: &[&'a DatasetSample], most: usize, seed: u64) -> Vec<&'a DatasetSample> {
    if all.len() <= most {
        return all.to_vec();
    }
    let first = (seed % all.len() as u64) as usize;
    let mut places: Vec<usize> = (0..most)
        .map(|n| (first + n * all.len() / most) % all.len())
        .collect();
    places.sort_unstable();
    places.into_iter().map(|place| all[place]).collect()
}

/// The question as people read it.
fn shown(sample: &DatasetSample) -> String {
    let said: Vec<_> = sample
        .turns
        .iter()
        .filter(|turn| turn.role != Speaker::System)
        .collect();
    match said[..] {
        [only] => only.text.clone(),
        _ => said
            .iter()
            .map(|turn| {
                let who = match turn.role {
                    Speaker::Assistant => "Model",
                    _ => "Person",
                };
                format!("{who}: {}", turn.text)
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

impl Workbench {
    /// Asks what has no answer yet.
    pub(super) fn ask_both(
        &self,
        id: u32,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let row = self.store.finetune(id)?;
        let Some(adapter) = &row.adapter else {
            return Ok(());
        };
        let model = self.resolve(&row.model)?;
        let all = self.store.answers(id)?;
        for (who, words, engine) in [
            (Answerer::Base, "the model as it was", engine.clone()),
            (
                Answerer::Tuned,
                "model and adapter",
                with_adapter(engine, adapter),
            ),
        ] {
            let open: Vec<&AnswerRow> = all
                .iter()
                .filter(|row| match who {
                    Answerer::Base => row.base.is_none(),
                    Answerer::Tuned => row.tuned.is_none(),
                })
                .collect();
            if open.is_empty() {
                continue;
            }
            cancel.check()?;
            let mut tell = |done: usize| {
                on_progress(&JobProgress {
                    step: format!("asks {words} the same questions"),
                    done: done as u32,
                    total: open.len() as u32,
                    ..JobProgress::default()
                });
            };
            tell(0);
            let mut worker = Worker::spawn(&self.executable(&engine)?)?;
            worker::load(
                &mut worker,
                &model.path,
                &engine,
                model.needs_bytes(),
                cancel,
            )?;
            let mut answered = 0;
            for (purpose, max_tokens) in [
                (Purpose::Shown, SHOWN_TOKENS),
                (Purpose::Recall, SHORT_TOKENS),
            ] {
                let asked: Vec<&&AnswerRow> =
                    open.iter().filter(|row| row.purpose == purpose).collect();
                if asked.is_empty() {
                    continue;
                }
                let ask = Ask::Answer {
                    prompts: asked.iter().map(|row| row.tokens.clone()).collect(),
                    max_tokens,
                };
                let mut broken = None;
                let outcome = worker.request(ask, cancel, &mut |event| {
                    if let Event::Answer { index, text, .. } = event
                        && let Some(row) = asked.get(index as usize)
                    {
                        answered += 1;
                        tell(answered);
                        let kept =
                            self.store
                                .set_answer(id, (purpose, row.place), who, text.trim());
                        if let Err(error) = kept {
                            broken.get_or_insert(error);
                        }
                    }
                })?;
                if let Some(error) = broken {
                    return Err(error);
                }
                let Outcome::Answered = outcome else {
                    return Err(unexpected(&outcome));
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_over_the_file() {
        let samples: Vec<DatasetSample> = (1..=90)
            .map(|row| DatasetSample {
                row,
                turns: Vec::new(),
                prompt: vec![1],
                answer: "a".to_owned(),
            })
            .collect();
        let all: Vec<&DatasetSample> = samples.iter().collect();
        let rows: Vec<u32> = spread(&all, 5, 0).iter().map(|sample| sample.row).collect();
        assert_eq!(rows, [1, 19, 37, 55, 73]);
        assert_eq!(spread(&all[..3], 5, 7).len(), 3);
        let other: Vec<u32> = spread(&all, 5, 10)
            .iter()
            .map(|sample| sample.row)
            .collect();
        assert_eq!(other, [11, 29, 47, 65, 83]);
    }
}
