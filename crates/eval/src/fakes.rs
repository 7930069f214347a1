//! Fakes for tests: a decoder whose logits are a plain function of the tokens before, a clock that this decoder turns,
//! and tokenizers of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use billion_llm::decoder::{DecodeError, Decoder, Logits, Run, SeqId, TextCodec};

use crate::clock::Clock;

/// A clock that moves only when told.
#[derive(Clone, Debug, Default)]
pub struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    pub fn advance_micros(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Pseudo-random logits that depend on every token before, in order.
pub fn hashed_logits(tokens: &[u32], vocab_size: usize) -> Vec<f32> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &token in tokens {
        hash = (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3);
    }
    (0..vocab_size as u64)
        .map(|i| {
            let x = (hash ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            x as f32 / (1u64 << 22) as f32
        })
        .collect()
}

/// A decoder that keeps tokens instead of keys and values. Every pass is recorded and costs `micros_per_pass` plus
/// `micros_per_token`.
pub struct FakeDecoder {
    pub vocab_size: usize,
    pub context_len: usize,
    pub clock: FakeClock,
    pub micros_per_pass: u64,
    pub micros_per_token: u64,
    pub logits: fn(&[u32], usize) -> Vec<f32>,
    /// Lengths of the runs of each pass, and how many rows of logits it gave.
    pub passes: Vec<(Vec<usize>, usize)>,
    pub seqs: BTreeMap<u32, Vec<u32>>,
    pub next: u32,
}

impl FakeDecoder {
    pub fn new(vocab_size: usize, context_len: usize) -> Self {
        Self {
            vocab_size,
            context_len,
            clock: FakeClock::default(),
            micros_per_pass: 0,
            micros_per_token: 0,
            logits: hashed_logits,
            passes: Vec::new(),
            seqs: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn tokens_run(&self) -> usize {
        self.passes.iter().flat_map(|(runs, _)| runs).sum()
    }

    fn insert(&mut self, tokens: Vec<u32>) -> SeqId {
        self.next += 1;
        self.seqs.insert(self.next, tokens);
        SeqId(self.next)
    }
}

impl Decoder for FakeDecoder {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn open(&mut self) -> Result<SeqId, DecodeError> {
        Ok(self.insert(Vec::new()))
    }
    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        let tokens = self.seqs[&seq.0][..len].to_vec();
        Ok(self.insert(tokens))
    }
    fn len(&self, seq: SeqId) -> usize {
        self.seqs.get(&seq.0).map_or(0, Vec::len)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.seqs.get_mut(&seq.0).expect("open").truncate(len);
        Ok(())
    }
    fn close(&mut self, seq: SeqId) {
        self.seqs.remove(&seq.0);
    }
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        let mut logits = Logits {
            data: Vec::new(),
            vocab_size: self.vocab_size,
        };
        for run in runs {
            assert!(!run.tokens.is_empty(), "an empty run");
            let held = self.seqs.get_mut(&run.seq.0).expect("open");
            if held.len() + run.tokens.len() > self.context_len {
                return Err(DecodeError::ContextFull {
                    have: held.len(),
                    add: run.tokens.len(),
                    limit: self.context_len,
                });
            }
            for (i, &token) in run.tokens.iter().enumerate() {
                held.push(token);
                if run.want.contains(&i) {
                    logits.data.extend((self.logits)(held, self.vocab_size));
                }
            }
        }
        let lengths: Vec<usize> = runs.iter().map(|run| run.tokens.len()).collect();
        let tokens: usize = lengths.iter().sum();
        self.clock
            .advance_micros(self.micros_per_pass + self.micros_per_token * tokens as u64);
        self.passes.push((lengths, logits.rows()));
        Ok(logits)
    }
    fn kv_bytes_per_token(&self) -> usize {
        64
    }
    fn weights_bytes(&self) -> usize {
        1000
    }
}

/// A token a byte, with BOS 256; where `merges`, " A" to " D" are the single tokens 257 to 260.
pub struct ByteCodec {
    pub merges: bool,
}

impl ByteCodec {
    pub const BOS: u32 = 256;
    pub const VOCAB: usize = 261;
}

impl TextCodec for ByteCodec {
    fn encode(&self, text: &str, add_special: bool, _: bool) -> Result<Vec<u32>, String> {
        let mut tokens = if add_special {
            vec![Self::BOS]
        } else {
            Vec::new()
        };
        let mut rest = text.as_bytes();
        while let [first, more @ ..] = rest {
            match more {
                [letter @ b'A'..=b'D', after @ ..] if self.merges && *first == b' ' => {
                    tokens.push(257 + u32::from(letter - b'A'));
                    rest = after;
                }
                _ => {
                    tokens.push(u32::from(*first));
                    rest = more;
                }
            }
        }
        Ok(tokens)
    }
    fn token_bytes(&self, token: u32) -> Vec<u8> {
        u8::try_from(token).map_or_else(|_| Vec::new(), |b| vec![b])
    }
    fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&t| self.token_bytes(t)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    fn eos_tokens(&self) -> &[u32] {
        &[]
    }
}
