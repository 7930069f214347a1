//! The CPU executor: runs any [`DecoderSpec`] on packed weights with the kernels of `billion-kernels`.
//!
//! Weights are packed once and nothing of the mapped file is kept; buffers are allocated once for the largest pass; the
//! keys and values of a sequence lie in pages that forks share. It owns no SIMD and no file formats. Prompts of any length
//! are cut into blocks of rows, so memory is bounded; a row's logits depend on its own tokens only.

mod adapted;
mod cache;
mod memory;
mod packed;
mod pass;
#[cfg(test)]
mod tests;

use crate::Error;
use crate::adapter::AttachedLayers;
use crate::decoder::{DecodeError, Decoder, EXACT_ROWS, Logits, Run, SeqId};
use crate::spec::{DecoderSpec, DecoderTensors, TensorView};
use adapted::Adapted;
use billion_kernels::attention::{KvFormat, KvShape, MAX_HEAD_DIM, PAGE_TOKENS};
use billion_kernels::{Isa, Pool};
use cache::Cache;
use packed::PackedDecoder;
use pass::{Arena, Block};
use std::sync::Arc;

/// Rows of a block: enough to reuse each weight many times, few enough that a block's activations stay in cache.
const BLOCK_ROWS: usize = 256;

/// How to execute.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads that compute, the caller's included; at least 1.
    pub threads: usize,
    /// Most tokens a sequence may hold; the model's own limit if that is smaller or nothing is said.
    pub context_len: Option<usize>,
    /// Instruction set; the best one here if nothing is said.
    pub isa: Option<Isa>,
}

impl Default for CpuOptions {
    /// All cores, the model's context, the best instruction set.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            context_len: None,
            isa: None,
        }
    }
}

/// A decoder on the CPU.
pub struct CpuDecoder {
    spec: DecoderSpec,
    isa: Isa,
    pool: Pool,
    weights: PackedDecoder,
    cache: Cache,
    arena: Arena,
    /// Memory of logits that were given back: at most [`EXACT_ROWS`] rows, what steps of generation ask for.
    spare_logits: Vec<f32>,
    context_len: usize,
    /// What sequences are opened with.
    adapter: Option<Arc<Adapted>>,
}

impl CpuDecoder {
    /// Packs the weights of a decoder. `tensors` may be dropped afterwards.
    pub fn load(
        spec: &DecoderSpec,
        tensors: &DecoderTensors<TensorView<'_>>,
        options: &CpuOptions,
    ) -> Result<Self, Error> {
        Self::load_stepwise(spec, tensors, options, &|| ())
    }

    /// As [`Self::load`], calling `packed` after each block: what was read so far will not be read again, so a mapped file
    /// can give those pages back and loading does not take twice the weights' memory.
    pub fn load_stepwise(
        spec: &DecoderSpec,
        tensors: &DecoderTensors<TensorView<'_>>,
        options: &CpuOptions,
        packed: &dyn Fn(),
    ) -> Result<Self, Error> {
        check(spec)?;
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let pool = Pool::new(options.threads);
        let needed = packed::source_bytes(tensors);
        memory::check(
            "the weights",
            needed,
            "choose a smaller quantization or model",
        )
        .map_err(Error::Backend)?;
        let weights = PackedDecoder::pack(isa, &pool, (spec, tensors), packed)?;
        let shape = KvShape {
            layers: spec.layers,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            format: if weights.is_f32() {
                KvFormat::F32
            } else {
                KvFormat::F16
            },
        };
        Ok(Self {
            spec: spec.clone(),
            isa,
            pool,
            weights,
            cache: Cache::new(shape),
            arena: Arena::default(),
            spare_logits: Vec::new(),
            adapter: None,
            context_len: options
                .context_len
                .map_or(spec.context_len, |n| n.min(spec.context_len)),
        })
    }

    /// Instruction set that it computes with.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Bytes that all sequences' keys and values take now; shared pages count once.
    pub fn kv_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Everything that can be wrong with a pass, before anything is touched.
    fn check_pass(&self, runs: &[Run<'_>]) -> Result<(), DecodeError> {
        for (i, run) in runs.iter().enumerate() {
            let name = run.seq.0;
            if !self.cache.is_open(run.seq) {
                return Err(DecodeError::Invalid(format!("sequence {name} is not open")));
            }
            if runs[..i].iter().any(|other| other.seq == run.seq) {
                return Err(DecodeError::Invalid(format!(
                    "sequence {name} appears twice"
                )));
            }
            if run.tokens.is_empty() {
                return Err(DecodeError::Invalid(format!(
                    "sequence {name} has no new tokens"
                )));
            }
            if !run.want.is_sorted_by(|a, b| a < b) {
                return Err(DecodeError::Invalid(format!(
                    "the wanted positions of sequence {name} are not ascending: {:?}",
                    run.want
                )));
            }
            if let Some(last) = run.want.last()
                && *last >= run.tokens.len()
            {
                return Err(DecodeError::Invalid(format!(
                    "position {last} is wanted of sequence {name}, which gets {} tokens",
                    run.tokens.len()
                )));
            }
            let vocab_size = self.spec.vocab_size;
            if let Some(&token) = run.tokens.iter().find(|t| **t as usize >= vocab_size) {
                return Err(DecodeError::TokenOutOfRange { token, vocab_size });
            }
            let (have, add, limit) = (self.cache.len(run.seq), run.tokens.len(), self.context_len);
            if have + add > limit {
                return Err(DecodeError::ContextFull { have, add, limit });
            }
        }
        Ok(())
    }
}

/// A description that the kernels can run.
fn check(spec: &DecoderSpec) -> Result<(), Error> {
    let problem = if spec.head_dim == 0 || spec.head_dim > MAX_HEAD_DIM {
        format!(
            "heads of {} numbers; 1 to {MAX_HEAD_DIM} are supported",
            spec.head_dim
        )
    } else if spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        format!(
            "{} query heads do not divide among {} key heads",
            spec.heads, spec.kv_heads
        )
    } else if spec.rotary.dims > spec.head_dim
        || spec.rotary.frequencies.len() * 2 != spec.rotary.dims
    {
        format!(
            "{} rotary dimensions with {} frequencies in heads of {}",
            spec.rotary.dims,
            spec.rotary.frequencies.len(),
            spec.head_dim
        )
    } else if [
        spec.layers,
        spec.heads,
        spec.hidden,
        spec.ffn,
        spec.vocab_size,
        spec.context_len,
    ]
    .contains(&0)
    {
        "a size is zero".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Unsupported(format!(
        "this {} model cannot run: {problem}",
        spec.architecture
    )))
}

impl Decoder for CpuDecoder {
    fn vocab_size(&self) -> usize {
        self.spec.vocab_size
    }

    fn context_len(&self) -> usize {
        self.context_len
    }

    fn open(&mut self) -> Result<SeqId, DecodeError> {
        self.cache.open(self.adapter.clone())
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        self.cache.fork(seq, len)
    }

    fn len(&self, seq: SeqId) -> usize {
        self.cache.len(seq)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.cache.truncate(seq, len)
    }

    fn close(&mut self, seq: SeqId) {
        self.cache.close(seq);
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        self.check_pass(runs)?;
        let vocab_size = self.spec.vocab_size;
        let wanted: usize = runs.iter().map(|run| run.want.len()).sum();
        let mut logits = Logits {
            data: memory::logits(std::mem::take(&mut self.spare_logits), wanted, vocab_size)?,
            vocab_size,
        };
        self.cache
            .reserve(runs.iter().map(|run| (run.seq, run.tokens.len())))?;
        // From here on nothing can fail.
        let mut block = Block::take(&mut self.arena);
        let mut rest = &mut logits.data[..];
        for run in runs {
            let (table, have) = self.cache.table(run.seq);
            let mut want = run.want.iter().copied().peekable();
            for (i, &token) in run.tokens.iter().enumerate() {
                let from = (table, self.cache.adapter(table));
                block.push(from, have + i, token, want.next_if_eq(&i).is_some());
                if block.rows() == BLOCK_ROWS {
                    rest = self.run_block(&mut block, rest);
                }
            }
        }
        self.run_block(&mut block, rest);
        block.give_back(&mut self.arena);
        for run in runs {
            self.cache.advance(run.seq, run.tokens.len());
        }
        Ok(logits)
    }

    fn recycle(&mut self, logits: Logits) {
        let room = logits.data.capacity();
        if room > self.spare_logits.capacity() && room <= EXACT_ROWS * self.spec.vocab_size {
            self.spare_logits = logits.data;
        }
    }

    fn set_adapter(&mut self, adapter: Option<&AttachedLayers>) -> Result<(), DecodeError> {
        self.adapter = match adapter {
            Some(attached) => Some(Arc::new(Adapted::new(attached, &self.spec)?)),
            None => None,
        };
        Ok(())
    }

    fn kv_bytes_per_token(&self) -> usize {
        self.cache.page_bytes() / PAGE_TOKENS
    }

    fn weights_bytes(&self) -> usize {
        self.weights.bytes() + self.adapter.as_ref().map_or(0, |adapter| adapter.bytes)
    }
}

impl CpuDecoder {
    /// Runs and empties a block; its logits go to the front of `logits`, whose rest is returned.
    fn run_block<'a>(&mut self, block: &mut Block, logits: &'a mut [f32]) -> &'a mut [f32] {
        let (now, rest) = logits.split_at_mut(block.wanted() * self.spec.vocab_size);
        if block.rows() > 0 {
            pass::Pass {
                spec: &self.spec,
                isa: self.isa,
                pool: &self.pool,
                weights: &self.weights,
                cache: &mut self.cache,
                arena: &mut self.arena,
            }
            .run(block, now);
            block.clear();
        }
        rest
    }
}
