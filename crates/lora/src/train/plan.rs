//! What a run will do, as a function of its rows and options: rows as they are trained on, steps, the rows of each step.

use super::options::TrainOptions;
use super::random::{Random, order};
use crate::Error;
use crate::dataset::Example;

/// Steps and their rows.
pub(super) struct Plan<'a> {
    rows: &'a [Example],
    options: &'a TrainOptions,
    pub steps_per_epoch: u32,
    /// Optimizer steps of the run.
    pub steps: u32,
    order: Vec<u32>,
    /// The epoch whose order is at hand.
    epoch: Option<u32>,
}

impl<'a> Plan<'a> {
    pub fn new(rows: &'a [Example], options: &'a TrainOptions) -> Self {
        let per_step = options.batch as usize * options.accumulate as usize;
        let steps_per_epoch = rows.len().div_ceil(per_step) as u32;
        let all = steps_per_epoch.saturating_mul(options.epochs);
        Self {
            rows,
            options,
            steps_per_epoch,
            steps: options.max_steps.map_or(all, |most| most.min(all)),
            order: Vec::new(),
            epoch: None,
        }
    }

    /// The rows of step `step`, from 1, with their dropout keys.
    pub fn step(&mut self, step: u32) -> Vec<(&'a Example, u64)> {
        let (epoch, at) = (
            (step - 1) / self.steps_per_epoch,
            (step - 1) % self.steps_per_epoch,
        );
        if self.epoch != Some(epoch) {
            self.order = order(self.options.seed, epoch, self.rows.len());
            self.epoch = Some(epoch);
        }
        let per_step = self.options.batch as usize * self.options.accumulate as usize;
        let start = at as usize * per_step;
        let end = (start + per_step).min(self.order.len());
        self.order[start..end]
            .iter()
            .map(|row| {
                let keys = [self.options.seed, u64::from(step), u64::from(*row)];
                (&self.rows[*row as usize], Random::new(&keys).next())
            })
            .collect()
    }

    /// Tokens of all steps.
    pub fn tokens(&mut self) -> u64 {
        let epoch: u64 = self.rows.iter().map(|row| row.tokens.len() as u64).sum();
        let whole = self.steps / self.steps_per_epoch.max(1);
        let rest = whole * self.steps_per_epoch + 1..=self.steps;
        let rest: u64 = rest
            .map(|step| {
                let rows = self.step(step);
                rows.iter()
                    .map(|(row, _)| row.tokens.len() as u64)
                    .sum::<u64>()
            })
            .sum();
        epoch * u64::from(whole) + rest
    }

    /// Steps between looks at the held-out rows.
    pub fn eval_every(&self) -> u32 {
        let usual = (self.steps.div_ceil(10)).min(self.steps_per_epoch);
        self.options.eval_every.unwrap_or(usual).max(1)
    }

    /// Steps between checkpoints.
    pub fn checkpoint_every(&self) -> u32 {
        let usual = self.steps.div_ceil(10);
        self.options.checkpoint_every.unwrap_or(usual).max(1)
    }

    /// Looks at the held-out rows, that before the first step included.
    pub fn looks(&self) -> u32 {
        1 + self.steps.div_ceil(self.eval_every())
    }
}

/// Rows as they are trained on: cut to `most` tokens, checked, and without those of which nothing is learnt.
pub(super) fn usable(
    rows: &[Example],
    vocab_size: usize,
    most: usize,
) -> Result<Vec<Example>, Error> {
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let outside = row.tokens.iter().find(|t| **t as usize >= vocab_size);
        let problem = if row.tokens.len() == row.scored.len() {
            outside.map(|token| {
                format!("token {token} is outside the model's vocabulary of {vocab_size}: the rows were made for another model")
            })
        } else {
            let (tokens, marks) = (row.tokens.len(), row.scored.len());
            Some(format!("{tokens} tokens with {marks} marks"))
        };
        if let Some(problem) = problem {
            return Err(Error::Options(format!("row {}: {problem}", row.row)));
        }
        let len = row.tokens.len().min(most);
        if row.scored[..len].iter().skip(1).any(|scored| *scored) {
            let mut row = Example {
                tokens: row.tokens[..len].to_vec(),
                scored: row.scored[..len].to_vec(),
                row: row.row,
            };
            row.scored[0] = false;
            kept.push(row);
        }
    }
    Ok(kept)
}

/// Tokens that are scored.
pub(super) fn scored(rows: &[(&Example, u64)]) -> usize {
    let of_row = |row: &Example| row.scored.iter().filter(|scored| **scored).count();
    rows.iter().map(|(row, _)| of_row(row)).sum()
}

/// A number that changes with any row.
pub(super) fn digest<'a>(start: u64, rows: impl Iterator<Item = &'a Example>) -> u64 {
    let mut state = start;
    for row in rows {
        for (token, scored) in row.tokens.iter().zip(&row.scored) {
            state = Random::new(&[state, u64::from(*token) * 2 + u64::from(*scored)]).next();
        }
        state = Random::new(&[state, u64::MAX]).next();
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(len: usize) -> Example {
        let mut scored = vec![true; len];
        scored[0] = false;
        Example {
            tokens: (0..len as u32).collect(),
            scored,
            row: len as u32,
        }
    }

    #[test]
    fn every_epoch_sees_every_row_once() {
        let rows: Vec<Example> = (2..13).map(row).collect();
        let options = TrainOptions {
            epochs: 2,
            batch: 2,
            accumulate: 2,
            ..TrainOptions::default()
        };
        let mut plan = Plan::new(&rows, &options);
        assert_eq!((plan.steps_per_epoch, plan.steps), (3, 6));
        for epoch in 0..2 {
            let mut seen: Vec<u32> = (1..=3)
                .flat_map(|step| plan.step(3 * epoch + step))
                .map(|(row, _)| row.row)
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (2..13).collect::<Vec<_>>());
        }
        assert_eq!(plan.tokens(), 2 * (2..13).sum::<u64>());
        let options = TrainOptions {
            max_steps: Some(4),
            ..options
        };
        let mut plan = Plan::new(&rows, &options);
        assert_eq!(plan.steps, 4);
        let fourth: u64 = plan
            .step(4)
            .iter()
            .map(|(r, _)| r.tokens.len() as u64)
            .sum();
        assert_eq!(plan.tokens(), (2..13).sum::<u64>() + fourth);
    }

    #[test]
    fn rows_are_cut_and_checked() {
        let mut blank = row(6);
        blank.scored[..4].fill(false);
        let kept = usable(&[row(10), blank.clone()], 100, 4).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].tokens, [0, 1, 2, 3]);
        let error = usable(&[row(10)], 9, 40).unwrap_err().to_string();
        assert!(error.contains("row 10: token 9"), "{error}");
        blank.scored.pop();
        assert!(usable(&[blank], 100, 40).is_err());
        assert!(digest(0, [row(3)].iter()) != digest(0, [row(4)].iter()));
    }
}
