//! What passes cost at a place of a text, measured apart from any generation, and the speed-up that theory makes of that.

use std::ops::ControlFlow;
use std::time::Instant;

use super::{Counts, MOST_DRAFTED, Target};
use crate::decoder::Decoder;
use crate::generate::{
    GenerateError, GenerateOptions, Sampler, SamplerOptions, Session, chunk_end,
};

/// Seconds of passes, medians of a few. The choice of tokens from their logits is part of a pass.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Costs {
    /// A pass of the target over 1, 2, 3, … tokens.
    pub target_pass_s: Vec<f64>,
    /// A step of the draft; 0 where drafts cost nothing.
    pub draft_step_s: f64,
}

impl Costs {
    /// Time of plain decoding over that of speculative decoding, as Leviathan et al. 2023 (theorem 3.8) have it: with a
    /// probability alpha that a drafted token is kept, a pass over a draft of k gives (1 - alpha^(k+1)) / (1 - alpha) tokens
    /// and costs a pass over k + 1 tokens and k steps of the draft. `counts` says how many passes had which k, and alpha;
    /// `extra_s` is what else speculation took: the draft's pass over the prompt. None where nothing was drafted or a pass
    /// was not measured.
    pub fn predicted_speedup(&self, counts: &Counts, extra_s: f64) -> Option<f64> {
        let alpha = counts.alpha()?;
        let plain = *self.target_pass_s.first()?;
        let (mut tokens, mut seconds) = (0.0, extra_s);
        for (drafted, &passes) in counts.by_drafted.iter().enumerate() {
            if passes == 0 {
                continue;
            }
            let passes = passes as f64;
            tokens += passes * expected_tokens(alpha, drafted);
            seconds +=
                passes * (self.target_pass_s.get(drafted)? + drafted as f64 * self.draft_step_s);
        }
        (seconds > 0.0).then(|| tokens * plain / seconds)
    }
}

/// Tokens that a pass over a draft of `drafted` tokens gives on average.
fn expected_tokens(alpha: f64, drafted: usize) -> f64 {
    (0..=drafted).map(|i| alpha.powi(i as i32)).sum()
}

/// Times passes of the target over 1 to `most_rows` tokens, and steps of the draft, in the middle of `text`, which is a
/// prompt and what followed. `go_on` is asked before each pass; none if it breaks. Sessions stay usable.
pub fn pass_costs(
    target: &mut Target<'_>,
    draft: Option<(&mut dyn Decoder, &mut Session)>,
    (text, prompt_tokens): (&[u32], usize),
    most_rows: usize,
    (sampler, repeats): (&SamplerOptions, usize),
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Costs>, GenerateError> {
    // The last token of a full context was never run.
    let room = draft.as_ref().map_or(usize::MAX, |(d, _)| d.context_len());
    let text = &text[..text.len().min(room).min(target.decoder.context_len())];
    if text.len() < 2 {
        return Ok(Some(Costs::default()));
    }
    let written = text.len().saturating_sub(prompt_tokens);
    let most_rows = most_rows.clamp(1, MOST_DRAFTED + 1);
    // In the middle of what was written, but with as many tokens after it as a pass takes.
    let place = (prompt_tokens + written / 2)
        .min(text.len().saturating_sub(most_rows))
        .max(1);
    let most_rows = most_rows.min(text.len() - place);
    let mut timed = Timed {
        text,
        place,
        sampler: Sampler::new(*sampler),
    };
    timed.fill(target.decoder, target.session)?;
    let mut passes = vec![Vec::with_capacity(repeats); most_rows];
    for _ in 0..repeats.max(1) {
        for rows in 1..=most_rows {
            if go_on().is_break() {
                return Ok(None);
            }
            passes[rows - 1].push(timed.pass(target.decoder, target.session, rows)?);
        }
    }
    let mut draft_step_s = 0.0;
    if let Some((decoder, session)) = draft {
        timed.fill(decoder, session)?;
        let mut steps = Vec::with_capacity(4 * repeats);
        for _ in 0..4 * repeats.max(1) {
            if go_on().is_break() {
                return Ok(None);
            }
            steps.push(timed.pass(decoder, session, 1)?);
        }
        draft_step_s = median(&mut steps);
    }
    Ok(Some(Costs {
        target_pass_s: passes.iter_mut().map(|times| median(times)).collect(),
        draft_step_s,
    }))
}

/// Passes at one place of a text.
struct Timed<'a> {
    text: &'a [u32],
    place: usize,
    sampler: Sampler,
}

impl Timed<'_> {
    /// Brings a cache to the place.
    fn fill(&self, decoder: &mut dyn Decoder, session: &mut Session) -> Result<(), GenerateError> {
        let before = &self.text[..self.place];
        let options = GenerateOptions::default();
        let seq = session.rewind_to(decoder, &self.text[..=self.place])?;
        while session.held.len() < before.len() {
            let done = session.held.len();
            let end = chunk_end(before.len(), done, &options);
            let logits = session.append(decoder, seq, &before[done..end], &[])?;
            decoder.recycle(logits);
        }
        Ok(())
    }

    /// Seconds of a pass over `rows` tokens, which are forgotten again.
    fn pass(
        &mut self,
        decoder: &mut dyn Decoder,
        session: &mut Session,
        rows: usize,
    ) -> Result<f64, GenerateError> {
        let tokens = &self.text[self.place..self.place + rows];
        let want: Vec<usize> = (0..rows).collect();
        let seq = session.rewind_to(decoder, &self.text[..=self.place])?;
        let start = Instant::now();
        let logits = session.append(decoder, seq, tokens, &want)?;
        for row in 0..rows {
            let history = &self.text[..=self.place + row];
            let chosen = self.sampler.distribution(logits.row(row), history);
            std::hint::black_box(chosen.draw(self.sampler.unit()));
        }
        let took = start.elapsed().as_secs_f64();
        decoder.recycle(logits);
        decoder.truncate(seq, self.place)?;
        session.held.truncate(self.place);
        Ok(took)
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let half = times.len() / 2;
    match times.len() % 2 {
        1 => times[half],
        _ => f64::midpoint(times[half - 1], times[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theory_is_that_of_the_paper() {
        let costs = Costs {
            target_pass_s: vec![1.0; 8],
            draft_step_s: 0.05,
        };
        let mut counts = Counts {
            accepted: 8,
            tested: 10,
            ..Counts::default()
        };
        counts.by_drafted[5] = 30;
        // Leviathan et al., table 1: alpha 0.8 and gamma 5 give (1 - 0.8^6) / (0.2 (0.05 * 5 + 1)) at c = 0.05.
        let wanted = (1.0 - 0.8_f64.powi(6)) / (0.2 * (0.05 * 5.0 + 1.0));
        let found = costs.predicted_speedup(&counts, 0.0).expect("drafted");
        assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        // Half of the passes without drafts are as fast as plain ones.
        counts.by_drafted[0] = 30;
        let found = costs.predicted_speedup(&counts, 0.0).expect("drafted");
        let tokens = wanted * 1.25 + 1.0;
        assert!((found - tokens / 2.25).abs() < 1e-12, "{found}");
        let slower = costs.predicted_speedup(&counts, 10.0).expect("drafted");
        assert!(slower < found);
        assert_eq!(costs.predicted_speedup(&Counts::default(), 0.0), None);
        counts.by_drafted[12] = 1;
        assert_eq!(costs.predicted_speedup(&counts, 0.0), None);
    }
}
