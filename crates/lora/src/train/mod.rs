//! Training of LoRA adapters (E. Hu et al. 2021, arXiv 2106.09685) on frozen weights as their file stores them, quantized or
//! not (QLoRA, T. Dettmers et al. 2023, arXiv 2305.14314).
//!
//! On a processor `cpu` computes forward and backward pass by hand over plain slices; `candle` trains by autograd on other
//! devices and is the second opinion in tests. Both share options, schedule, optimizer, checkpoints and events, which know
//! nothing of models. Rows come from `dataset`, adapter files are `billion_llm::adapter`'s; where a run is stored and who
//! watches it is the caller's business.

mod candle;
mod checkpoint;
mod cpu;
mod engine;
mod frozen;
mod memory;
mod optimizer;
mod options;
mod plan;
mod random;
mod run;
#[cfg(test)]
mod tests;
mod trainable;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use billion_kernels::Isa;
use billion_llm::adapter::Adapter;
use billion_llm::device::Device;
use billion_llm::load::ModelFiles;

pub use checkpoint::FILE as CHECKPOINT_FILE;
pub use options::{
    Ending, Forecast, Recompute, Schedule, Step, TrainEvent, TrainOptions, TrainOutcome,
};

use crate::Error;
use crate::dataset::Example;
use candle::CandleEngine;
use checkpoint::{Record, State};
use cpu::{CpuEngine, CpuSettings};
use engine::{Engine, Work};
use plan::Plan;
use run::{Run, mean_loss};
use trainable::Trainable;

/// Steps that a forecast times, after one that warms up.
const FORECAST_STEPS: u32 = 6;

/// Seconds after which a forecast has timed enough steps.
const FORECAST_SECONDS: f64 = 3.0;

/// What a run is about.
#[derive(Clone, Copy)]
pub struct TrainingRows<'a> {
    /// Rows to learn from, at least one with a scored token.
    pub train: &'a [Example],
    /// Rows to measure with; may be empty.
    pub held_out: &'a [Example],
}

/// Trains an adapter and returns it. `folder` is the run's own: checkpoints are written there, and with `resume` the run goes on
/// from the one found (from the start where there is none). `on` hears everything and may stop the run, which then can be
/// resumed.
pub fn train(
    files: &ModelFiles,
    rows: TrainingRows<'_>,
    options: &TrainOptions,
    (folder, resume): (&Path, bool),
    on: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
) -> Result<TrainOutcome, Error> {
    let begin = Instant::now();
    let set = Set::new(files, rows, options)?;
    std::fs::create_dir_all(folder).map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    let found = if resume {
        State::read(folder, options, set.digest, set.trainable.len)?
    } else {
        None
    };
    // What was decided at the start holds, or a resumed run would round elsewhere.
    let decided = found.as_ref().map(|state| state.record.recompute);
    set.with_engine(decided, &mut |engine| {
        let state = match &found {
            Some(state) => {
                let losses = checkpoint::from_bits(&state.record.losses);
                let step = state.record.step;
                if on(TrainEvent::Resumed { step, losses }).is_break() {
                    return Err(Error::Cancelled);
                }
                state.clone()
            }
            None => run::first_state(
                set.trainable.start(options.seed),
                Record::new(options, set.digest, engine.recomputes()),
            ),
        };
        let mut run = Run {
            plan: Plan::new(&set.train, options),
            held_out: &set.held_out,
            options,
            folder,
            model_params: files.params(),
        };
        let left = run::run(&mut run, engine, state, on)?;
        let adapter = set.trainable.adapter(&left.numbers, files.spec())?;
        Ok(run::outcome(left, adapter, begin.elapsed().as_secs_f64()))
    })
}

/// What a run of these options will take, from its first steps timed on this machine. Nothing is kept of them.
pub fn forecast(
    files: &ModelFiles,
    rows: TrainingRows<'_>,
    options: &TrainOptions,
) -> Result<Forecast, Error> {
    let set = Set::new(files, rows, options)?;
    set.with_engine(None, &mut |engine| {
        let numbers = set.trainable.start(options.seed);
        let mut gradients = vec![0.0; numbers.len()];
        let mut plan = Plan::new(&set.train, options);
        let (mut tokens, mut seconds, mut timed) = (0_u64, 0.0, 0_u32);
        for number in 0..=FORECAST_STEPS {
            let rows = plan.step(1 + number % plan.steps);
            let begin = Instant::now();
            let work = Work {
                numbers: &numbers,
                examples: &rows,
                scale: 1.0 / plan::scored(&rows) as f32,
                dropout: options.dropout,
            };
            engine.gradients(&work, &mut gradients)?;
            // The first one reads the weights from disk and allocates.
            if number > 0 {
                seconds += begin.elapsed().as_secs_f64();
                tokens += rows.iter().map(|(r, _)| r.tokens.len() as u64).sum::<u64>();
                timed += 1;
            }
            if seconds > FORECAST_SECONDS {
                break;
            }
        }
        let look = if set.held_out.is_empty() {
            0.0
        } else {
            let sample = &set.held_out[..set.held_out.len().min(options.batch as usize)];
            let begin = Instant::now();
            mean_loss(engine, &numbers, sample)?;
            let count = |rows: &[Example]| rows.iter().map(|r| r.tokens.len()).sum::<usize>();
            begin.elapsed().as_secs_f64() * count(&set.held_out) as f64 / count(sample) as f64
        };
        let tokens_per_s = tokens as f64 / seconds;
        let all = plan.tokens();
        debug_assert!(timed > 0);
        Ok(Forecast {
            seconds: all as f64 / tokens_per_s + look * f64::from(plan.looks()),
            peak_bytes: run::peak_bytes(engine, numbers.len()),
            steps: plan.steps,
            trainable_params: numbers.len() as u64,
            share: numbers.len() as f64 / files.params().max(1) as f64,
            tokens: all,
            tokens_per_s,
            recompute: engine.recomputes(),
        })
    })
}

/// Mean loss of rows in nats a scored token, of the model with an adapter or, without, as it is. The perplexity is e to that.
pub fn evaluate(
    files: &ModelFiles,
    rows: &[Example],
    adapter: Option<&Adapter>,
    options: &TrainOptions,
) -> Result<f64, Error> {
    let mut options = options.clone();
    if let Some(adapter) = adapter {
        options.rank = adapter.config.r as u32;
        options.alpha = adapter.config.lora_alpha as f32;
        options.rslora = adapter.config.use_rslora;
        options.targets.clone_from(&adapter.config.target_modules);
    }
    let rows = TrainingRows {
        train: rows,
        held_out: &[],
    };
    let set = Set::new(files, rows, &options)?;
    set.with_engine(None, &mut |engine| {
        let numbers = match adapter {
            Some(adapter) => set.trainable.numbers(adapter, files.spec())?,
            None => set.trainable.start(options.seed),
        };
        mean_loss(engine, &numbers, &set.train)
    })
}

/// Everything of a run but its engine, checked.
struct Set<'a> {
    files: &'a ModelFiles,
    options: &'a TrainOptions,
    train: Vec<Example>,
    held_out: Vec<Example>,
    trainable: Trainable,
    digest: u64,
}

impl<'a> Set<'a> {
    fn new(
        files: &'a ModelFiles,
        rows: TrainingRows<'_>,
        options: &'a TrainOptions,
    ) -> Result<Self, Error> {
        options.check()?;
        let spec = files.spec();
        let most = options
            .max_len
            .map_or(spec.context_len, |len| spec.context_len.min(len as usize));
        let train = plan::usable(rows.train, spec.vocab_size, most)?;
        let held_out = plan::usable(rows.held_out, spec.vocab_size, most)?;
        if train.is_empty() {
            return Err(Error::Options(format!(
                "none of {} rows has a token to learn within its first {most}; allow longer rows or map other columns",
                rows.train.len()
            )));
        }
        let trainable = Trainable::new(spec, options)?;
        let model = format!("{spec:?} {} {}", files.params(), files.weight_bytes());
        let model = model.bytes().fold(0, |state, byte| {
            random::Random::new(&[state, u64::from(byte)]).next()
        });
        // Models of one shape differ in their last norm.
        let tensors = files.tensors()?;
        let norm = tensors.final_norm.weight.contiguous();
        let model = norm.iter().fold(model, |state, byte| {
            random::Random::new(&[state, u64::from(*byte)]).next()
        });
        let model = random::Random::new(&[model, train.len() as u64]).next();
        let digest = plan::digest(plan::digest(model, train.iter()), held_out.iter());
        Ok(Self {
            files,
            options,
            train,
            held_out,
            trainable,
            digest,
        })
    }

    /// Calls `f` with the engine of the device asked for.
    fn with_engine<T>(
        &self,
        recompute: Option<bool>,
        f: &mut dyn FnMut(&mut dyn Engine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let longest = self.train.iter().chain(&self.held_out);
        let longest = longest.map(|row| row.tokens.len()).max().unwrap_or(0);
        let tensors = self.files.tensors()?;
        let spec = self.files.spec();
        let name = &self.options.device;
        let device = Device::from_name(name)
            .ok_or_else(|| Error::Options(format!("device {name:?}; use cpu, cuda or metal")))?;
        if device != Device::Cpu {
            return f(&mut CandleEngine::new(
                spec,
                &tensors,
                &self.trainable,
                device,
            )?);
        }
        let sizes = (longest, self.trainable.len);
        let memory = memory::plan(self.files, &tensors, self.options, sizes)?;
        let release = || self.files.weights().release();
        let threads = match self.options.threads {
            Some(threads) => threads as usize,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let settings = CpuSettings {
            isa: Isa::detect(),
            threads,
            recompute: recompute.unwrap_or(memory.recompute),
            weight_bytes: memory.weight_bytes,
        };
        let mut engine = CpuEngine::new(spec, &tensors, &self.trainable, &settings)?;
        if memory.release {
            engine = engine.releasing(&release);
        }
        f(&mut engine)
    }
}
