//! What a worker does with its one loaded model. Every measurement is `billion-eval`'s; this only feeds and reports it.

use std::ops::ControlFlow;
use std::path::Path;

use billion_eval::clock::{SystemClock, time_suspended};
use billion_eval::meters::load::CpuTimes;
use billion_eval::meters::{energy, memory, speed};
use billion_eval::tasks::{mmlu, perplexity};
use billion_eval::{Event, UnderTest};
use billion_llm::chat_template::Message as Said;
use billion_llm::decoder::TextCodec;
use billion_llm::generate::batch::{BatchEvent, Request, generate_batch};
use billion_llm::generate::{
    GenerateError, GenerateOptions, Generation, Piece, SamplerOptions, Session, generate,
};
use billion_llm::load::{self, LoadOptions, Loaded, ModelFiles};

use super::child::Cancelled;
use super::outbox::Outbox;
use super::protocol::{Ask, Body, CompleteAsk, Generated, LoadedModel, MmluAsk, Outcome};
use super::{conversion, programs, speculation, tuning};
use crate::api::{ApiError, Drafter, Message, ReplyOptions, ReplySpeculation, Role};
use crate::devices;
use crate::requests::{EngineOptions, Executor};

/// Chats whose KV cache is kept; the one used longest ago goes first.
const SESSIONS: usize = 4;
/// Prompts that are answered together.
const ANSWERS_AT_ONCE: usize = 8;

/// The worker's state.
#[derive(Default)]
pub(super) struct Engine {
    model: Option<Model>,
}

pub(super) struct Model {
    pub(super) loaded: Loaded,
    /// The smaller model that drafts for it.
    pub(super) draft: Option<Loaded>,
    /// Where it runs, as asked for.
    device: String,
    /// Why its chat template cannot be used; measurements do not need it.
    template_problem: Option<String>,
    /// Chats and their caches, the last used at the end.
    sessions: Vec<(u64, Caches)>,
    pub(super) clock: SystemClock,
    /// Its chat template goes on in a thread that nothing ends but the end of this process.
    runs_on: bool,
}

/// The caches of a chat.
#[derive(Default)]
struct Caches {
    target: Session,
    draft: Session,
}

/// A request at work: where its messages go and whether it was cancelled.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    id: u64,
    outbox: &'a Outbox,
    cancelled: &'a Cancelled,
}

impl Work<'_> {
    pub(super) fn send(self, body: Body) -> ControlFlow<()> {
        if self.outbox.send(self.id, body) && !self.cancelled.contains(self.id) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Whether nobody asked to stop, without a word.
    pub(super) fn goes_on(self) -> ControlFlow<()> {
        if self.cancelled.contains(self.id) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    pub(super) fn progress(self, step: &str, done: usize, total: usize) -> ControlFlow<()> {
        self.send(Body::Progress {
            step: step.to_owned(),
            done: done as u32,
            total: total as u32,
        })
    }

    /// A step or a repeat of a measurement without samples worth storing.
    pub(super) fn step<S>(self, event: Event<S>) -> ControlFlow<()> {
        match event {
            Event::Step { what, done, total } => self.progress(&what, done, total),
            Event::Answered { done, total, .. } => self.progress("repeats", done, total),
        }
    }
}

impl Engine {
    /// Does what is asked and gives the outcome of the terminal message.
    pub(super) fn handle(
        &mut self,
        id: u64,
        ask: Ask,
        outbox: &Outbox,
        cancelled: &Cancelled,
    ) -> Result<Outcome, ApiError> {
        let work = Work {
            id,
            outbox,
            cancelled,
        };
        if cancelled.contains(id) {
            return Err(ApiError::cancelled());
        }
        match ask {
            Ask::Load { path, engine } => {
                self.model = None;
                let model = Model::load(&path, &engine)?;
                let loaded = describe(&model.loaded);
                self.model = Some(model);
                Ok(Outcome::Loaded(loaded))
            }
            Ask::LoadDraft { path, engine } => {
                let model = self.loaded()?;
                model.load_draft(&path, &engine)?;
                let draft = model.draft.as_ref().map(describe);
                draft
                    .map(Outcome::DraftLoaded)
                    .ok_or_else(|| failed("the draft is gone"))
            }
            Ask::CheckPair { target, draft } => speculation::check_pair(work, &target, &draft),
            Ask::Unload => {
                self.model = None;
                Ok(Outcome::Unloaded)
            }
            Ask::Generate {
                session,
                messages,
                options,
            } => self
                .loaded()?
                .generate(work, session, &messages, &options)
                .map(Outcome::Generated),
            Ask::Mmlu(ask) => self.loaded()?.mmlu(work, &ask),
            Ask::Complete(ask) => self.loaded()?.complete(work, &ask),
            Ask::Judge(ask) => programs::judge(work, &ask),
            Ask::Perplexity { text, ctx } => self.loaded()?.perplexity(work, &text, ctx),
            Ask::Speed {
                prompt,
                generate,
                repeat,
                batch,
                depth,
            } => self.loaded()?.speed(
                work,
                &speed::SpeedOptions {
                    prompt: prompt as usize,
                    generate: generate as usize,
                    repeat: repeat as usize,
                    batch: batch as usize,
                    depth: depth as usize,
                },
            ),
            Ask::Memory { ctx } => self.loaded()?.memory(work, ctx),
            Ask::Energy { generate, repeat } => self.loaded()?.energy(
                work,
                &energy::EnergyOptions {
                    generate: generate as usize,
                    repeat: repeat as usize,
                    ..energy::EnergyOptions::default()
                },
            ),
            Ask::Speculate(ask) => speculation::speculate(self.loaded()?, work, &ask),
            Ask::Convert(ask) => conversion::convert(work, &ask),
            Ask::ConvertCheckpoint { folder } => conversion::convert_checkpoint(work, &folder),
            Ask::LookAtDataset(ask) => tuning::look(work, &ask),
            Ask::ForecastTuning(ask) => tuning::forecast(work, &ask),
            Ask::Tune(ask) => tuning::tune(work, &ask),
            Ask::Answer {
                prompts,
                max_tokens,
            } => self.loaded()?.answer(work, prompts, max_tokens),
            Ask::Cancel { .. } => Err(failed("a cancel is no work")),
        }
    }

    /// Something goes on that only the end of this process ends.
    pub(super) fn runs_on(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.runs_on)
    }

    fn loaded(&mut self) -> Result<&mut Model, ApiError> {
        self.model
            .as_mut()
            .ok_or_else(|| failed("no model is loaded in this engine process"))
    }
}

impl Model {
    fn load(path: &Path, engine: &EngineOptions) -> Result<Self, ApiError> {
        let options = load_options(engine)?;
        let files = ModelFiles::open(path).map_err(failed)?;
        let template_problem = files.chat_template_problem().map(ToString::to_string);
        let loaded = load::load(&files, &options).map_err(failed)?;
        Ok(Self {
            loaded,
            draft: None,
            device: engine.device.clone(),
            template_problem,
            sessions: Vec::new(),
            clock: SystemClock::default(),
            runs_on: false,
        })
    }

    /// Loads a draft, unless its vocabulary is another one.
    fn load_draft(&mut self, path: &Path, engine: &EngineOptions) -> Result<(), ApiError> {
        self.draft = None;
        // Their caches were the old draft's.
        for (_, caches) in &mut self.sessions {
            caches.draft = Session::new();
        }
        let options = load_options(engine)?;
        let files = ModelFiles::open(path).map_err(failed)?;
        self.loaded
            .tokenizer
            .agrees_with(files.tokenizer())
            .map_err(speculation::disagree)?;
        self.draft = Some(load::load(&files, &options).map_err(failed)?);
        Ok(())
    }

    fn generate(
        &mut self,
        work: Work<'_>,
        session: u64,
        messages: &[Message],
        options: &ReplyOptions,
    ) -> Result<Generated, ApiError> {
        let prompt = self.prompt(messages)?;
        let drafter = options.draft.clone();
        if matches!(drafter, Some(Drafter::Model { .. })) && self.draft.is_none() {
            return Err(failed("no draft is loaded in this engine process"));
        }
        let options = GenerateOptions {
            max_tokens: options.max_tokens as usize,
            sampler: SamplerOptions {
                temperature: options.temperature,
                top_k: options.top_k as usize,
                top_p: options.top_p,
                min_p: options.min_p,
                repetition_penalty: options.repetition_penalty,
                seed: u64::from(options.seed),
                ..SamplerOptions::default()
            },
            stop: options.stop.clone(),
            ..GenerateOptions::default()
        };
        let mut kept = self.session(session);
        let mut tokens = 0;
        let mut told = |piece: Piece<'_>, speculation: Option<ReplySpeculation>| match piece {
            Piece::Prefill { done, total } => work.progress("reading the prompt", done, total),
            Piece::Text { text, .. } => {
                tokens += 1;
                work.send(Body::Text {
                    text: text.to_owned(),
                    tokens,
                    speculation,
                })
            }
            Piece::Rest(text) => work.send(Body::Text {
                text: text.to_owned(),
                tokens,
                speculation,
            }),
        };
        let result: Result<(Generation, Option<ReplySpeculation>), GenerateError> = match &drafter {
            None => generate(
                self.loaded.decoder.as_mut(),
                self.loaded.tokenizer.as_ref(),
                &mut kept.target,
                &prompt,
                &options,
                &mut |piece| told(piece, None),
            )
            .map(|reply| (reply, None)),
            Some(drafter) => speculation::reply(
                self,
                drafter,
                (&mut kept.target, &mut kept.draft),
                &prompt,
                &options,
                &mut told,
            )
            .map(|(reply, fared)| (reply, Some(fared))),
        };
        self.sessions.push((session, kept));
        let (reply, speculation) = result.map_err(failed)?;
        Ok(Generated {
            speculation,
            prompt_tokens: reply.prompt_tokens as u32,
            reused_tokens: reply.reused_tokens as u32,
            tokens: reply.tokens.len() as u32,
            ttft_s: reply.time_to_first_token.map(|t| t.as_secs_f64()),
            decode_s: reply.decode.as_secs_f64(),
            finish_reason: finish_reason(reply.finish_reason).to_owned(),
            text: reply.text,
        })
    }

    /// Takes a chat's cache out, or a new one, freeing the cache used longest ago if there are too many.
    fn session(&mut self, id: u64) -> Caches {
        if let Some(at) = self.sessions.iter().position(|(held, _)| *held == id) {
            return self.sessions.remove(at).1;
        }
        if self.sessions.len() >= SESSIONS {
            let (_, oldest) = self.sessions.remove(0);
            self.close(oldest);
        }
        Caches::default()
    }

    /// Frees every chat's cache, so that a measurement finds the decoder as loaded.
    pub(super) fn forget_sessions(&mut self) {
        for (_, caches) in std::mem::take(&mut self.sessions) {
            self.close(caches);
        }
    }

    fn close(&mut self, mut caches: Caches) {
        caches.target.close(self.loaded.decoder.as_mut());
        if let Some(draft) = &mut self.draft {
            caches.draft.close(draft.decoder.as_mut());
        }
    }

    /// Tokens of a conversation: through the chat template, or the bare texts in a row for a base model.
    pub(super) fn prompt(&mut self, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
        let tokenizer = self.loaded.tokenizer.as_ref();
        if let Some(problem) = &self.template_problem {
            return Err(failed(problem));
        }
        let Some(template) = &self.loaded.chat_template else {
            let text: String = messages
                .iter()
                .filter(|m| m.role != Role::System)
                .map(|m| m.content.as_str())
                .collect();
            return tokenizer.encode(&text, true, false).map_err(failed);
        };
        let said: Vec<Said> = messages
            .iter()
            .map(|message| {
                let role = match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                Said::new(role, message.content.as_str())
            })
            .collect();
        let text = template.render(&said, true).map_err(|error| {
            self.runs_on = matches!(error, billion_llm::Error::ChatTemplateRunsOn { .. });
            failed(error)
        })?;
        tokenizer.encode_prompt(&text).map_err(failed)
    }

    fn mmlu(&mut self, work: Work<'_>, ask: &MmluAsk) -> Result<Outcome, ApiError> {
        let data = read_mmlu(&ask.data)?;
        let options = mmlu::MmluOptions {
            shots: ask.shots.map(|n| n as usize),
            limit: ask.limit.map(|n| n as usize),
            subjects: ask.subjects.clone(),
            stop_at_half_width: ask.stop_at_half_width,
            ..mmlu::MmluOptions::default()
        };
        let outcome = mmlu::run(
            &mut self.under_test(),
            &data,
            &options,
            &ask.answered,
            &mut |event| match event {
                Event::Step { what, done, total } => work.progress(&what, done, total),
                Event::Answered {
                    sample,
                    done,
                    total,
                } => work.send(Body::Sample {
                    sample,
                    done: done as u32,
                    total: total as u32,
                }),
            },
        );
        Ok(Outcome::Mmlu(Box::new(outcome.map_err(measured)?)))
    }

    fn complete(&mut self, work: Work<'_>, ask: &CompleteAsk) -> Result<Outcome, ApiError> {
        self.forget_sessions();
        let template = self.loaded.chat_template.as_ref();
        let model = UnderTest {
            decoder: self.loaded.decoder.as_mut(),
            codec: self.loaded.tokenizer.as_ref(),
            clock: &self.clock,
        };
        programs::complete(model, template, work, ask)
    }

    /// Answers prompts greedily, as many at a time as leave each one's rows exact.
    fn answer(
        &mut self,
        work: Work<'_>,
        prompts: Vec<Vec<u32>>,
        max_tokens: u32,
    ) -> Result<Outcome, ApiError> {
        self.forget_sessions();
        let total = prompts.len();
        let requests: Vec<Request> = prompts
            .into_iter()
            .map(|prompt| Request {
                prompt,
                options: GenerateOptions {
                    max_tokens: max_tokens as usize,
                    ..GenerateOptions::default()
                },
            })
            .collect();
        let slots = self.loaded.decoder.exact_rows().min(ANSWERS_AT_ONCE);
        let (mut done, mut failure) = (0, None);
        let flow = generate_batch(
            self.loaded.decoder.as_mut(),
            self.loaded.tokenizer.as_ref(),
            &requests,
            slots,
            &mut |event| match event {
                BatchEvent::Finished { request, result } => match result {
                    Ok(generation) => {
                        done += 1;
                        work.send(Body::Answer {
                            index: request as u32,
                            text: generation.text,
                            done,
                        })
                    }
                    // A question that fills the context has no room for an answer.
                    Err(GenerateError::PromptTooLong { .. }) => {
                        done += 1;
                        work.send(Body::Answer {
                            index: request as u32,
                            text: String::new(),
                            done,
                        })
                    }
                    Err(error) => {
                        failure.get_or_insert(failed(error));
                        ControlFlow::Break(())
                    }
                },
                BatchEvent::Piece { .. } => work.progress("answers", done as usize, total),
            },
        );
        if let Some(error) = failure {
            return Err(error);
        }
        match flow.map_err(failed)? {
            ControlFlow::Continue(()) => Ok(Outcome::Answered),
            ControlFlow::Break(()) => Err(ApiError::cancelled()),
        }
    }

    fn perplexity(
        &mut self,
        work: Work<'_>,
        text: &Path,
        window: Option<u32>,
    ) -> Result<Outcome, ApiError> {
        let bytes = std::fs::read(text)
            .map_err(|e| failed(format!("cannot read {}: {e}", text.display())))?;
        let words = String::from_utf8(bytes).map_err(|e| {
            failed(format!(
                "{} is not UTF-8 text: byte {} is invalid; convert the file to UTF-8",
                text.display(),
                e.utf8_error().valid_up_to()
            ))
        })?;
        let options = perplexity::PerplexityOptions {
            window: window.map(|n| n as usize),
            ..perplexity::PerplexityOptions::default()
        };
        let outcome = perplexity::run(&mut self.under_test(), &words, &options, &mut |event| {
            work.step(event)
        });
        Ok(Outcome::Perplexity(outcome.map_err(measured)?))
    }

    fn speed(
        &mut self,
        work: Work<'_>,
        options: &speed::SpeedOptions,
    ) -> Result<Outcome, ApiError> {
        self.forget_sessions();
        let instruments = speed::Instruments {
            clock: &SystemClock::default(),
            cpu_times: &CpuTimes::read,
            suspended: &time_suspended,
        };
        let outcome = speed::run(
            self.loaded.decoder.as_mut(),
            options,
            &instruments,
            &mut |event| work.step(event),
        );
        Ok(Outcome::Speed(Box::new(outcome.map_err(measured)?)))
    }

    fn memory(&mut self, work: Work<'_>, ctx: Option<u32>) -> Result<Outcome, ApiError> {
        if self.device != "cpu" {
            return Err(failed(
                "what a model takes of a GPU's memory is not measured, only main memory is; use --device cpu",
            ));
        }
        self.forget_sessions();
        let ctx = ctx.map(|n| n as usize);
        let outcome = memory::run(
            self.loaded.decoder.as_mut(),
            ctx,
            &memory::Rss::read,
            &mut |event| work.step(event),
        );
        Ok(Outcome::Memory(outcome.map_err(measured)?))
    }

    fn energy(
        &mut self,
        work: Work<'_>,
        options: &energy::EnergyOptions,
    ) -> Result<Outcome, ApiError> {
        self.forget_sessions();
        let wanted = energy::Wanted::of_device(&self.device);
        let instruments = energy::Instruments {
            clock: &SystemClock::default(),
            sleep: &std::thread::sleep,
            open: &|| energy::open(&wanted),
            cpu_times: &CpuTimes::read,
            suspended: &time_suspended,
        };
        let outcome = energy::run(
            self.loaded.decoder.as_mut(),
            options,
            &instruments,
            &mut |event| match event {
                Event::Step { what, done, total } => work.progress(&what, done, total),
                Event::Answered { done, total, .. } => work.progress("generating", done, total),
            },
        );
        Ok(Outcome::Energy(Box::new(outcome.map_err(measured)?)))
    }

    /// The model as measurements see it, with no chat in its cache.
    fn under_test(&mut self) -> UnderTest<'_> {
        self.forget_sessions();
        UnderTest {
            decoder: self.loaded.decoder.as_mut(),
            codec: self.loaded.tokenizer.as_ref(),
            clock: &self.clock,
        }
    }
}

/// How a model is loaded, as asked for.
fn load_options(engine: &EngineOptions) -> Result<LoadOptions, ApiError> {
    Ok(LoadOptions {
        device: devices::known(&engine.device)?,
        executor: match engine.executor {
            Executor::Cpu => load::Executor::Cpu,
            Executor::Candle => load::Executor::Candle,
        },
        threads: engine.threads.map(|n| n as usize),
        context_len: engine.context_len.map(|n| n as usize),
        adapter: engine.adapter.clone(),
    })
}

fn describe(loaded: &Loaded) -> LoadedModel {
    let Loaded {
        decoder,
        isa,
        threads,
        load_time,
        ..
    } = loaded;
    LoadedModel {
        isa: (*isa).to_owned(),
        threads: *threads as u32,
        load_s: load_time.as_secs_f64(),
        context_len: decoder.context_len() as u32,
        chat: loaded.chat_template.is_some(),
        weights_bytes: decoder.weights_bytes() as u64,
        kv_bytes_per_token: decoder.kv_bytes_per_token() as u64,
    }
}

/// MMLU from the starter pack's file, an official folder or archive, or parquet files.
pub(crate) fn read_mmlu(path: &Path) -> Result<mmlu::MmluData, ApiError> {
    mmlu::MmluData::read(path).map_err(failed)
}

fn finish_reason(reason: billion_llm::generate::FinishReason) -> &'static str {
    use billion_llm::generate::FinishReason;
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Context => "context",
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::failed(error.to_string())
}

/// A broken-off measurement is a cancelled one.
pub(super) fn measured(error: billion_eval::Error) -> ApiError {
    match error {
        billion_eval::Error::Cancelled => ApiError::cancelled(),
        other => failed(other),
    }
}
