//! From what a worker measured of a pair to its report: rates, ratios, theory beside them, and advice.

use std::fmt::Write as _;

use billion_eval::meters::speculation::{PromptOutcome, Timing, Tried};
use billion_eval::stats::Summary;
use billion_llm::generate::FinishReason;
use billion_llm::generate::speculate::Counts;
use sha2::{Digest, Sha256};

use super::prompts::kind_name;
use crate::api::{
    ApiError, DraftLength, LengthSpeed, PassCosts, PromptKind, PromptSpeculation, Repeats,
    SpeculationAdvice, SpeculationReport, TracedText,
};
use crate::hashes::hex;
use crate::words::percent;
use crate::worker::Speculated;

/// What a pair must bring to be worth its memory.
const WORTH: f64 = 1.05;
/// A fixed number of drafted tokens is preferred to "auto" only where it is faster by more than this.
const PREFER_AUTO: f64 = 1.03;

/// A prompt that was measured.
pub(crate) struct Asked {
    pub(crate) kind: PromptKind,
    pub(crate) prompt: String,
}

/// Fills a report with what was measured; `head` says of what.
pub(crate) fn report(
    head: &SpeculationReport,
    asked: &[Asked],
    found: Speculated,
) -> Result<SpeculationReport, ApiError> {
    let Speculated { outcome, pieces } = found;
    let prompts = &outcome.prompts;
    let ratios: Vec<f64> = (0..prompts.first().map_or(0, |p| p.plain.len()))
        .filter_map(|repeat| {
            let of = |way: fn(&PromptOutcome) -> &[Timing]| {
                together(prompts.iter().filter_map(|p| way(p).get(repeat).copied())).rate()
            };
            Some(of(|p| &p.speculative)? / of(|p| &p.plain)?)
        })
        .collect();
    let Some(speedup_repeats) = repeats(&ratios) else {
        return Err(ApiError::failed(
            "the target ended every text after its first token, so there is nothing to time; take other prompts, or --raw",
        ));
    };
    let by_prompt: Vec<PromptSpeculation> = asked
        .iter()
        .zip(prompts)
        .zip(pieces)
        .map(|((asked, prompt), pieces)| of_prompt(asked, prompt, pieces))
        .collect();
    let all = |way: fn(&PromptOutcome) -> &[Timing]| {
        together(prompts.iter().flat_map(|p| way(p).iter().copied())).rate()
    };
    let counts = prompts
        .iter()
        .fold(Counts::default(), |sum, prompt| added(&sum, &prompt.counts));
    let written: usize = prompts
        .iter()
        .map(|p| p.trace.len().saturating_sub(1))
        .sum();
    let tokens: Vec<u32> = prompts.iter().flat_map(PromptOutcome::tokens).collect();
    let plain: Vec<u32> = prompts
        .iter()
        .flat_map(|p| p.plain_tokens.iter().copied())
        .collect();
    let mut report = SpeculationReport {
        speedup: speedup_repeats.median,
        speedup_repeats,
        baseline_tokens_per_s: all(|p| &p.plain).unwrap_or_default(),
        speculative_tokens_per_s: all(|p| &p.speculative).unwrap_or_default(),
        acceptance_rate: counts.acceptance_rate(),
        alpha: counts.alpha(),
        tokens_per_step: per_pass(written, counts.passes),
        predicted_speedup: predicted(prompts, |p| {
            p.costs
                .predicted_speedup(&p.counts, p.counts.draft_prefill.as_secs_f64())
        }),
        identical: prompts
            .iter()
            .map(|p| p.identical)
            .collect::<Option<Vec<bool>>>()
            .map(|all| all.into_iter().all(|same| same)),
        baseline_sha256: hash(&plain),
        speculative_sha256: hash(&tokens),
        tokens,
        by_k: by_k(prompts),
        by_prompt,
        seconds: outcome.seconds,
        other_cores_busy: outcome.other_cores_busy,
        notes: outcome.notes,
        ..head.clone()
    };
    report.advice = advice(&report);
    Ok(report)
}

fn of_prompt(asked: &Asked, prompt: &PromptOutcome, pieces: Vec<TracedText>) -> PromptSpeculation {
    let counts = &prompt.counts;
    let ratios: Vec<f64> = prompt
        .plain
        .iter()
        .zip(&prompt.speculative)
        .filter_map(|(plain, drafted)| Some(drafted.rate()? / plain.rate()?))
        .collect();
    // A text of one token has nothing to time.
    let speedup_repeats = repeats(&ratios).unwrap_or_default();
    let rate = |timings: &[Timing]| {
        let rates: Vec<f64> = timings.iter().filter_map(Timing::rate).collect();
        Summary::of(&rates).map_or(0.0, |rates| rates.median)
    };
    let tokens = prompt.tokens();
    PromptSpeculation {
        kind: asked.kind,
        prompt: asked.prompt.clone(),
        prompt_tokens: prompt.prompt_tokens as u32,
        text: prompt.text.clone(),
        finish_reason: match prompt.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Context => "context",
        }
        .to_owned(),
        speedup: speedup_repeats.median,
        speedup_repeats,
        baseline_tokens_per_s: rate(&prompt.plain),
        speculative_tokens_per_s: rate(&prompt.speculative),
        drafted: counts.drafted as u32,
        accepted: counts.accepted as u32,
        passes: counts.passes as u32,
        plain_passes: counts.plain as u32,
        acceptance_rate: counts.acceptance_rate(),
        alpha: counts.alpha(),
        tokens_per_step: per_pass(tokens.len().saturating_sub(1), counts.passes),
        predicted_speedup: prompt
            .costs
            .predicted_speedup(counts, counts.draft_prefill.as_secs_f64()),
        costs: PassCosts {
            target_pass_s: prompt.costs.target_pass_s.clone(),
            draft_step_s: prompt.costs.draft_step_s,
            draft_prompt_s: counts.draft_prefill.as_secs_f64(),
        },
        switched_off: counts.resting,
        identical: prompt.identical,
        first_difference: prompt.first_difference.map(|at| at as u32),
        baseline_sha256: hash(&prompt.plain_tokens),
        speculative_sha256: hash(&tokens),
        tokens,
        pieces,
    }
}

/// Speed by number of drafted tokens, against the plain texts of the repeats.
fn by_k(prompts: &[PromptOutcome]) -> Vec<LengthSpeed> {
    let tried = prompts.first().map_or(0, |prompt| prompt.tried.len());
    (0..tried)
        .filter_map(|at| {
            let of: Vec<(&PromptOutcome, &Tried)> = prompts
                .iter()
                .filter_map(|prompt| Some((prompt, prompt.tried.get(at)?)))
                .collect();
            let k = of.first()?.1.k;
            let drafted = together(of.iter().map(|(_, tried)| tried.timing)).rate()?;
            let plain = together(of.iter().flat_map(|(p, _)| p.plain.iter().copied())).rate()?;
            let counts = of.iter().fold(Counts::default(), |sum, (_, tried)| {
                added(&sum, &tried.counts)
            });
            let written = of.iter().map(|(_, tried)| tried.timing.tokens).sum();
            Some(LengthSpeed {
                k: k as u32,
                speedup: drafted / plain,
                predicted_speedup: predicted(prompts, |p| {
                    let counts = &p.tried.get(at)?.counts;
                    p.costs
                        .predicted_speedup(counts, counts.draft_prefill.as_secs_f64())
                }),
                acceptance_rate: counts.acceptance_rate(),
                tokens_per_step: per_pass(written, counts.passes),
            })
        })
        .collect()
}

/// The speed-up of all prompts together, from what theory says of each: plain times over predicted ones. A prompt without
/// any draft is as fast as plain decoding.
fn predicted(prompts: &[PromptOutcome], of: impl Fn(&PromptOutcome) -> Option<f64>) -> Option<f64> {
    let (mut plain_s, mut drafted_s, mut any) = (0.0, 0.0, false);
    for prompt in prompts {
        let tokens = prompt.trace.len().saturating_sub(1) as f64;
        let seconds = tokens * prompt.costs.target_pass_s.first().copied()?;
        let speedup = of(prompt);
        any |= speedup.is_some();
        plain_s += seconds;
        drafted_s += seconds / speedup.unwrap_or(1.0);
    }
    (any && drafted_s > 0.0).then(|| plain_s / drafted_s)
}

fn added(sum: &Counts, one: &Counts) -> Counts {
    Counts {
        drafted: sum.drafted + one.drafted,
        accepted: sum.accepted + one.accepted,
        tested: sum.tested + one.tested,
        passes: sum.passes + one.passes,
        ..sum.clone()
    }
}

fn together(timings: impl Iterator<Item = Timing>) -> Timing {
    timings.fold(
        Timing {
            tokens: 0,
            seconds: 0.0,
        },
        |sum, one| Timing {
            tokens: sum.tokens + one.tokens,
            seconds: sum.seconds + one.seconds,
        },
    )
}

fn per_pass(tokens: usize, passes: usize) -> f64 {
    if passes == 0 {
        return 0.0;
    }
    tokens as f64 / passes as f64
}

fn repeats(values: &[f64]) -> Option<Repeats> {
    let summary = Summary::of(values)?;
    Some(Repeats {
        median: summary.median,
        min: summary.min,
        max: summary.max,
        runs: summary.runs,
    })
}

/// SHA-256 of tokens as little-endian u32.
fn hash(tokens: &[u32]) -> String {
    let mut all = Sha256::new();
    for token in tokens {
        all.update(token.to_le_bytes());
    }
    hex(&all.finalize())
}

/// Whether to use the pair. Says no where the repeats do not agree that it is faster.
fn advice(report: &SpeculationReport) -> SpeculationAdvice {
    let asked = (report.k, report.speedup, report.acceptance_rate);
    let best = report
        .by_k
        .iter()
        .max_by(|a, b| a.speedup.total_cmp(&b.speedup))
        .map(|tried| {
            (
                DraftLength::Fixed(tried.k),
                tried.speedup,
                tried.acceptance_rate,
            )
        })
        .filter(|(_, speedup, _)| *speedup > asked.1 * PREFER_AUTO)
        .unwrap_or(asked);
    let on = best.1 >= WORTH && (best.0 != asked.0 || report.speedup_repeats.min > 1.0);
    // Others than the one that was asked for were tried once.
    let once = if best.0 == asked.0 {
        ""
    } else {
        ", tried once"
    };
    let how = match best.0 {
        DraftLength::Fixed(1) => "with one token drafted at a time".to_owned(),
        DraftLength::Fixed(k) => format!("with {k} tokens drafted at a time"),
        DraftLength::Auto(_) => "with as many tokens drafted as pay (auto)".to_owned(),
    };
    let accepted = best.2.map_or_else(
        || "nothing was drafted".to_owned(),
        |rate| format!("{} of drafted tokens are accepted", percent(rate)),
    );
    let same = match report.identical {
        Some(false) => {
            return SpeculationAdvice {
                on: false,
                k: best.0,
                words:
                    "Its output differs from plain decoding, which must not be; please report this."
                        .to_owned(),
            };
        }
        Some(true) => "the same tokens",
        None => "the same distribution",
    };
    let mut words = format!(
        "{} as fast as plain decoding {how}{once}, {same}; {accepted}.",
        times(best.1)
    );
    let slower: Vec<&str> = report
        .by_prompt
        .iter()
        .filter(|prompt| prompt.speedup > 0.0 && prompt.speedup < 0.97)
        .map(|prompt| kind_name(prompt.kind))
        .collect();
    if on && !slower.is_empty() {
        let _ = write!(words, " Slower for: {}.", slower.join(", "));
    }
    SpeculationAdvice {
        on,
        k: best.0,
        words,
    }
}

/// "1.92 times".
pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.2} times")
}
