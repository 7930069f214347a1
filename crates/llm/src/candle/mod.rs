//! The candle executor: the same decoder description on candle tensors.
//!
//! In F32 it is the oracle of the CPU executor and what training differentiates; with weights held as stored it runs models
//! on CUDA and Metal. It owns the sequences and the KV-cache contract (`Decoder`); the arithmetic is in `model`, the weights
//! are in `held`, the caches in `cache`.
//!
//! On a processor a row's result depends on that row alone in passes of up to [`EXACT_ROWS`] rows, because they are computed
//! row by row. On a GPU that would waste it: rows of a run are computed together there by kernels that add up in another
//! order for another number of rows. Only a run of a single row is exact there ([`Decoder::exact_rows`] is 1); runs of
//! different sequences never mix.

mod adapter;
mod cache;
#[cfg(test)]
pub(crate) mod fixtures;
mod held;
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use billion_kernels::Format;
use candle_core::{DType, Device};

pub use self::adapter::{CandleAdapter, CandleAdapterLayer, CandleLowRank};
use self::cache::KvCache;
pub use self::held::{Held, HeldAs};
pub use self::model::CandleModel;
use crate::Error;
use crate::adapter::AttachedLayers;
use crate::decoder::{DecodeError, Decoder, EXACT_ROWS, Logits, Run, SeqId};
use crate::spec::{DecoderSpec, DecoderTensors, TensorView};

/// Rows of one sequence computed at once in larger passes; bounds the memory of the attention scores.
const SEGMENT_ROWS: usize = 256;

/// Where, with how long a context and with what weights the executor runs.
#[derive(Clone, Debug)]
pub struct CandleOptions {
    /// Most tokens a sequence can hold; the model's own limit if none or if more is asked for.
    pub context_len: Option<usize>,
    /// Where tensors live and are computed.
    pub device: Device,
    /// How weights are held. Keys and values are F16 where weights held as stored are not F32.
    pub weights: HeldAs,
}

impl CandleOptions {
    /// On a device: in F32 on a processor, where it is the second opinion, and as stored on a GPU.
    pub fn on(device: Device) -> Self {
        Self {
            context_len: None,
            weights: if device.is_cpu() {
                HeldAs::F32
            } else {
                HeldAs::Stored
            },
            device,
        }
    }
}

impl Default for CandleOptions {
    /// The second opinion: F32 on the processor.
    fn default() -> Self {
        Self::on(Device::Cpu)
    }
}

/// A loaded model on candle tensors.
pub struct CandleDecoder {
    model: CandleModel,
    context_len: usize,
    /// Of keys and values.
    kv: DType,
    sequences: BTreeMap<SeqId, Sequence>,
    next_id: u32,
    /// What sequences are opened with.
    adapter: Option<Loaded>,
}

/// An adapter on the device.
#[derive(Clone)]
struct Loaded {
    adapter: Arc<CandleAdapter>,
    bytes: usize,
}

/// An open sequence.
#[derive(Clone)]
struct Sequence {
    cache: KvCache,
    /// What its keys and values are computed with.
    adapter: Option<Arc<CandleAdapter>>,
}

impl CandleDecoder {
    /// Brings the weights to the device; every shape is checked against `spec`.
    pub fn load(
        spec: &DecoderSpec,
        tensors: &DecoderTensors<TensorView<'_>>,
        options: &CandleOptions,
    ) -> Result<Self, Error> {
        let context_len = options
            .context_len
            .map_or(spec.context_len, |asked| asked.min(spec.context_len));
        if context_len == 0 {
            return Err(Error::Unsupported(
                "a context of 0 tokens holds nothing; ask for at least 1".to_owned(),
            ));
        }
        let is_f32 = tensors.all().all(|view| view.format == Format::F32);
        Ok(Self {
            model: CandleModel::load(spec, tensors, &options.device, options.weights)?,
            context_len,
            kv: if is_f32 || options.weights == HeldAs::F32 {
                DType::F32
            } else {
                DType::F16
            },
            sequences: BTreeMap::new(),
            next_id: 0,
            adapter: None,
        })
    }

    /// The loaded model, for work that needs its tensors.
    pub fn model(&self) -> &CandleModel {
        &self.model
    }

    fn sequence(&self, seq: SeqId) -> Result<&Sequence, DecodeError> {
        self.sequences
            .get(&seq)
            .ok_or_else(|| DecodeError::Invalid(format!("sequence {} is not open", seq.0)))
    }

    fn insert(&mut self, sequence: Sequence) -> Result<SeqId, DecodeError> {
        let id = SeqId(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| {
            DecodeError::Backend(format!("all {} sequence ids are used up", u32::MAX))
        })?;
        self.sequences.insert(id, sequence);
        Ok(id)
    }

    /// Checks a whole pass before anything is computed.
    fn check(&self, runs: &[Run<'_>]) -> Result<(), DecodeError> {
        let vocab_size = self.vocab_size();
        for (i, run) in runs.iter().enumerate() {
            let id = run.seq.0;
            let have = self.sequence(run.seq)?.cache.len();
            let add = run.tokens.len();
            if runs[..i].iter().any(|earlier| earlier.seq == run.seq) {
                return Err(DecodeError::Invalid(format!(
                    "sequence {id} is named twice in one pass"
                )));
            }
            if add == 0 {
                return Err(DecodeError::Invalid(format!(
                    "no tokens for sequence {id}; a run needs at least one"
                )));
            }
            if add > self.context_len - have {
                return Err(DecodeError::ContextFull {
                    have,
                    add,
                    limit: self.context_len,
                });
            }
            if let Some(&token) = run.tokens.iter().find(|&&t| t as usize >= vocab_size) {
                return Err(DecodeError::TokenOutOfRange { token, vocab_size });
            }
            if let Some(&index) = run.want.iter().find(|&&index| index >= add) {
                return Err(DecodeError::Invalid(format!(
                    "logits of token {index} are wanted, but sequence {id} gets {add} tokens"
                )));
            }
            if !run.want.is_sorted_by(|a, b| a < b) {
                return Err(DecodeError::Invalid(format!(
                    "the wanted positions of sequence {id} are not ascending"
                )));
            }
        }
        Ok(())
    }

    /// Appends `run` to `cache` and its wanted logits to `logits`, `rows` rows at a time.
    fn run(
        model: &CandleModel,
        sequence: &mut Sequence,
        run: &Run<'_>,
        rows: usize,
        logits: &mut Vec<f32>,
    ) -> candle_core::Result<()> {
        let Sequence { cache, adapter } = sequence;
        let mut want = run.want;
        for (chunk, tokens) in run.tokens.chunks(rows).enumerate() {
            let first = chunk * rows;
            let hidden = model.hidden_with(
                adapter.as_deref(),
                tokens,
                cache.len(),
                &mut |layer, k, v| cache.append(layer, &k, &v),
            )?;
            cache.advance(tokens.len());
            let here = want.partition_point(|&index| index < first + tokens.len());
            let (now, later) = want.split_at(here);
            want = later;
            if !now.is_empty() {
                let local: Vec<u32> = now.iter().map(|&index| (index - first) as u32).collect();
                let wanted = model.logits(&hidden, &local)?;
                logits.extend(wanted.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(())
    }
}

impl Decoder for CandleDecoder {
    fn vocab_size(&self) -> usize {
        self.model.spec().vocab_size
    }

    fn context_len(&self) -> usize {
        self.context_len
    }

    fn open(&mut self) -> Result<SeqId, DecodeError> {
        let cache = KvCache::new(
            self.model.spec(),
            self.context_len,
            self.kv,
            self.model.device(),
        );
        let adapter = self.adapter.as_ref();
        self.insert(Sequence {
            cache,
            adapter: adapter.map(|loaded| Arc::clone(&loaded.adapter)),
        })
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        let mut sequence = self.sequence(seq)?.clone();
        shorten(&mut sequence.cache, seq, len)?;
        self.insert(sequence)
    }

    fn len(&self, seq: SeqId) -> usize {
        self.sequences
            .get(&seq)
            .map_or(0, |sequence| sequence.cache.len())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.sequence(seq)?;
        match self.sequences.get_mut(&seq) {
            Some(sequence) => shorten(&mut sequence.cache, seq, len),
            None => Ok(()),
        }
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        self.check(runs)?;
        let total: usize = runs.iter().map(|run| run.tokens.len()).sum();
        let rows = if self.model.device().is_cpu() && total <= EXACT_ROWS {
            1
        } else {
            SEGMENT_ROWS
        };
        let before: Vec<usize> = runs.iter().map(|run| self.len(run.seq)).collect();
        let mut data = Vec::new();
        let mut result = Ok(());
        for run in runs {
            if let Some(sequence) = self.sequences.get_mut(&run.seq) {
                result = Self::run(&self.model, sequence, run, rows, &mut data);
            }
            if result.is_err() {
                break;
            }
        }
        if let Err(error) = result {
            for (run, len) in runs.iter().zip(before) {
                if let Some(sequence) = self.sequences.get_mut(&run.seq) {
                    sequence.cache.truncate(len);
                }
            }
            return Err(DecodeError::Backend(error.to_string()));
        }
        Ok(Logits {
            data,
            vocab_size: self.vocab_size(),
        })
    }

    fn set_adapter(&mut self, adapter: Option<&AttachedLayers>) -> Result<(), DecodeError> {
        self.adapter = match adapter {
            Some(attached) => {
                attached
                    .check(self.model.spec())
                    .map_err(DecodeError::Invalid)?;
                let adapter = CandleAdapter::new(attached, self.model.device());
                let adapter = adapter.map_err(|error| DecodeError::Backend(error.to_string()))?;
                Some(Loaded {
                    adapter: Arc::new(adapter),
                    bytes: attached.bytes(),
                })
            }
            None => None,
        };
        Ok(())
    }

    fn exact_rows(&self) -> usize {
        if self.model.device().is_cpu() {
            EXACT_ROWS
        } else {
            1
        }
    }

    fn kv_bytes_per_token(&self) -> usize {
        let spec = self.model.spec();
        2 * spec.layers * spec.kv_width() * self.kv.size_in_bytes()
    }

    fn weights_bytes(&self) -> usize {
        self.model.weights_bytes() + self.adapter.as_ref().map_or(0, |loaded| loaded.bytes)
    }
}

fn shorten(cache: &mut KvCache, seq: SeqId, len: usize) -> Result<(), DecodeError> {
    if len > cache.len() {
        return Err(DecodeError::Invalid(format!(
            "sequence {} holds {} tokens, fewer than the {len} to keep",
            seq.0,
            cache.len()
        )));
    }
    cache.truncate(len);
    Ok(())
}
