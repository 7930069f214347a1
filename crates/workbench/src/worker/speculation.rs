//! What a worker does with a pair: comparing vocabularies, measuring it, and replies with drafts.

use std::ops::ControlFlow;
use std::path::Path;

use billion_eval::clock::{SystemClock, time_suspended};
use billion_eval::meters::load::CpuTimes;
use billion_eval::meters::speculation;
use billion_llm::decoder::TextCodec as _;
use billion_llm::generate::speculate::{
    self, Counts, Draft, Lookup, Origin, Target, Traced, Width,
};
use billion_llm::generate::{
    GenerateError, GenerateOptions, Generation, Piece, SamplerOptions, Session,
};
use billion_llm::load::ModelFiles;
use billion_llm::tokenizer::{Disagreement, Tokenizer};

use super::engine::{Model, Work, failed, measured};
use super::protocol::{Outcome, PairFound, SpeculateAsk, Speculated};
use crate::api::{ApiError, Drafter, Message, ReplySpeculation, Role, TextOrigin, TracedText};

/// Tokens of a reply from which its plain passes tell what it would have cost without drafts.
const TELLING_TOKENS: usize = 16;

/// Compares two vocabularies token by token.
pub(super) fn check_pair(work: Work<'_>, target: &Path, draft: &Path) -> Result<Outcome, ApiError> {
    let open = |path: &Path| {
        if work.progress("reads the vocabularies", 0, 0).is_break() {
            return Err(ApiError::cancelled());
        }
        ModelFiles::open(path).map_err(failed)
    };
    let (target, draft) = (open(target)?, open(draft)?);
    let found = match target.tokenizer().agrees_with(draft.tokenizer()) {
        Ok(agreement) => PairFound {
            problem: None,
            shared: agreement.shared as u64,
            only_target: agreement.only_target as u64,
            only_draft: agreement.only_draft as u64,
        },
        Err(disagreement) => PairFound {
            problem: Some(disagree(disagreement).message),
            ..PairFound::default()
        },
    };
    Ok(Outcome::PairChecked(found))
}

/// Why two models cannot work together, and what to do.
#[allow(
    clippy::needless_pass_by_value,
    reason = "it is handed to `map_err` as it is"
)]
pub(super) fn disagree(found: Disagreement) -> ApiError {
    failed(format!(
        "{found}; a draft must have been trained with the target's tokenizer, so choose one of the same family, or prompt lookup"
    ))
}

/// Times both ways over prompts.
pub(super) fn speculate(
    model: &mut Model,
    work: Work<'_>,
    ask: &SpeculateAsk,
) -> Result<Outcome, ApiError> {
    model.forget_sessions();
    let prompts = ask
        .prompts
        .iter()
        .map(|prompt| prompt_tokens(model, prompt, ask.raw))
        .collect::<Result<Vec<_>, ApiError>>()?;
    let options = speculation::SpeculationOptions {
        width: ask.k.map_or(Width::Auto, |k| Width::Fixed(k as usize)),
        sampler: SamplerOptions {
            temperature: ask.temperature,
            seed: u64::from(ask.seed),
            ..SamplerOptions::default()
        },
        max_tokens: ask.max_tokens as usize,
        repeat: ask.repeat as usize,
        sweep: ask.sweep,
    };
    let draft = match (&mut model.draft, ask.lookup) {
        (_, true) => None,
        (Some(draft), false) => Some(draft),
        (None, false) => return Err(failed("no draft is loaded in this engine process")),
    };
    let tokenizer = model.loaded.tokenizer.as_ref();
    let mut pair = speculation::Pair {
        target: model.loaded.decoder.as_mut(),
        draft: match draft {
            Some(draft) => Some(draft.decoder.as_mut()),
            None => None,
        },
        codec: tokenizer,
    };
    let instruments = speculation::Instruments {
        clock: &SystemClock::default(),
        cpu_times: &CpuTimes::read,
        suspended: &time_suspended,
    };
    let outcome = speculation::run(&mut pair, &prompts, &options, &instruments, &mut |event| {
        work.step(event)
    })
    .map_err(measured)?;
    let pieces = outcome
        .prompts
        .iter()
        .map(|prompt| pieces(tokenizer, &prompt.trace))
        .collect();
    Ok(Outcome::Speculated(Box::new(Speculated {
        outcome,
        pieces,
    })))
}

fn prompt_tokens(model: &mut Model, prompt: &str, raw: bool) -> Result<Vec<u32>, ApiError> {
    if raw {
        let tokenizer = &model.loaded.tokenizer;
        return tokenizer.encode(prompt, true, false).map_err(failed);
    }
    model.prompt(&[Message {
        role: Role::User,
        content: prompt.to_owned(),
    }])
}

/// A reply with drafts. `told` hears every piece, and how drafts have fared.
pub(super) fn reply(
    model: &mut Model,
    drafter: &Drafter,
    (of_target, of_draft): (&mut Session, &mut Session),
    prompt: &[u32],
    options: &GenerateOptions,
    told: &mut dyn FnMut(Piece<'_>, Option<ReplySpeculation>) -> ControlFlow<()>,
) -> Result<(Generation, ReplySpeculation), GenerateError> {
    let draft = match (drafter, &mut model.draft) {
        (Drafter::Model { .. }, Some(draft)) => Draft::Model {
            decoder: draft.decoder.as_mut(),
            session: of_draft,
        },
        _ => Draft::Lookup(Lookup::default()),
    };
    let target = Target {
        decoder: model.loaded.decoder.as_mut(),
        session: of_target,
        codec: model.loaded.tokenizer.as_ref(),
    };
    let (mut tokens, mut first) = (0_usize, None);
    let made = speculate::speculate(
        target,
        draft,
        Width::Auto,
        prompt,
        options,
        &mut |piece, counts| {
            let mut took = 0.0;
            if let Piece::Text { .. } = piece {
                tokens += 1;
                took = first
                    .get_or_insert_with(std::time::Instant::now)
                    .elapsed()
                    .as_secs_f64();
            }
            told(piece, Some(fared(counts, tokens, took)))
        },
    )?;
    let took = made.generation.decode.as_secs_f64();
    let fared = fared(&made.counts, made.trace.len(), took);
    Ok((made.generation, fared))
}

/// How drafts have fared, `seconds` after the first of `tokens` tokens.
fn fared(counts: &Counts, tokens: usize, seconds: f64) -> ReplySpeculation {
    let plain_s = counts.plain_time.as_secs_f64() / counts.plain.max(1) as f64;
    let known = counts.plain > 0 && tokens >= TELLING_TOKENS && seconds > 0.0;
    ReplySpeculation {
        draft: String::new(),
        drafted: counts.drafted as u32,
        accepted: counts.accepted as u32,
        speedup: known.then(|| (tokens - 1) as f64 * plain_s / seconds),
        switched_off: counts.resting,
        problem: None,
    }
}

/// The text of a trace: neighbours of one origin together, a corrected token with what it replaces.
fn pieces(tokenizer: &Tokenizer, trace: &[Traced]) -> Vec<TracedText> {
    let mut pieces: Vec<(Vec<u8>, TracedText)> = Vec::new();
    for traced in trace {
        let origin = match traced.origin {
            Origin::Accepted => TextOrigin::Accepted,
            Origin::Corrected => TextOrigin::Corrected,
            Origin::Bonus => TextOrigin::Bonus,
            Origin::Plain => TextOrigin::Plain,
        };
        let bytes = tokenizer.token_bytes(traced.token);
        let rejected: String = spelled(tokenizer, &traced.rejected);
        match pieces.last_mut() {
            // A character that is not whole yet goes on, whatever its tokens' origins.
            Some((held, last))
                if std::str::from_utf8(held).is_err_and(|e| e.error_len().is_none())
                    || (last.origin == origin && rejected.is_empty()) =>
            {
                held.extend(bytes);
                last.rejected.push_str(&rejected);
                last.tokens += 1;
            }
            _ => pieces.push((
                bytes,
                TracedText {
                    text: String::new(),
                    origin,
                    rejected,
                    tokens: 1,
                },
            )),
        }
    }
    pieces
        .into_iter()
        .map(|(bytes, piece)| TracedText {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            ..piece
        })
        .collect()
}

/// Tokens as people read them, special ones by their names.
fn spelled(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let mut bytes = Vec::new();
    for &token in tokens {
        let own = tokenizer.token_bytes(token);
        if own.is_empty() {
            bytes.extend(tokenizer.token_text(token).unwrap_or_default().into_bytes());
        } else {
            bytes.extend(own);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
