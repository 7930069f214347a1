//! On fakes: what is compared, counted and refused. How drafts are accepted is tested in `billion_llm`.

use std::ops::ControlFlow;

use billion_llm::decoder::{DecodeError, Decoder, Logits, Run, SeqId};
use billion_llm::generate::SamplerOptions;
use billion_llm::generate::speculate::Width;

use super::{Instruments, Outcome, Pair, SWEEP, SpeculationOptions, run};
use crate::fakes::{ByteCodec, FakeClock, FakeDecoder, hashed_logits};
use crate::{Error, Event};

const VOCAB: usize = 12;

fn options() -> SpeculationOptions {
    SpeculationOptions {
        width: Width::Fixed(3),
        sampler: SamplerOptions::default(),
        max_tokens: 40,
        repeat: 2,
        sweep: false,
    }
}

fn measure<'a>(
    target: &'a mut dyn Decoder,
    draft: Option<&'a mut dyn Decoder>,
    options: &SpeculationOptions,
) -> Result<Outcome, Error> {
    let mut pair = Pair {
        target,
        draft,
        codec: &ByteCodec { merges: false },
    };
    let prompts = [vec![1, 2, 3], vec![4, 5, 4, 5, 4]];
    run(
        &mut pair,
        &prompts,
        options,
        &Instruments {
            clock: &FakeClock::default(),
            cpu_times: &|| None,
            suspended: &|| None,
        },
        &mut |_| ControlFlow::Continue(()),
    )
}

/// Of two tokens before only, so that it is often but not always right.
fn half_right(tokens: &[u32], vocab_size: usize) -> Vec<f32> {
    if tokens.len().is_multiple_of(3) {
        return hashed_logits(&[7], vocab_size);
    }
    hashed_logits(tokens, vocab_size)
}

#[test]
fn both_ways_are_compared_and_drafts_counted() {
    let mut target = FakeDecoder::new(VOCAB, 200);
    let mut draft = FakeDecoder::new(VOCAB, 200);
    draft.logits = half_right;
    let options = SpeculationOptions {
        sweep: true,
        ..options()
    };
    let found = measure(&mut target, Some(&mut draft), &options).expect("measured");
    assert_eq!(found.prompts.len(), 2);
    for prompt in &found.prompts {
        assert_eq!(prompt.identical, Some(true));
        assert_eq!(prompt.first_difference, None);
        assert_eq!(prompt.tokens(), prompt.plain_tokens);
        assert_eq!((prompt.plain.len(), prompt.speculative.len()), (2, 2));
        let counts = &prompt.counts;
        assert!(counts.accepted > 0 && counts.accepted < counts.drafted);
        assert_eq!(counts.by_drafted.iter().sum::<usize>(), counts.passes);
        assert_eq!(prompt.tried.iter().map(|t| t.k).collect::<Vec<_>>(), SWEEP);
        assert_eq!(prompt.costs.target_pass_s.len(), 16);
        assert!(prompt.costs.draft_step_s > 0.0);
        assert!(prompt.costs.predicted_speedup(counts, 0.0).is_some());
    }
    assert!(target.seqs.is_empty() && draft.seqs.is_empty());
    // Prompt lookup needs no second model.
    let found = measure(&mut target, None, &options).expect("measured");
    assert!(found.prompts.iter().all(|p| p.identical == Some(true)));
    assert!(found.prompts.iter().all(|p| p.costs.draft_step_s == 0.0));
}

/// A decoder whose passes over several rows give other logits than passes over one.
struct Varying(FakeDecoder);

impl Decoder for Varying {
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.0.context_len()
    }
    fn open(&mut self) -> Result<SeqId, DecodeError> {
        self.0.open()
    }
    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        self.0.fork(seq, len)
    }
    fn len(&self, seq: SeqId) -> usize {
        self.0.len(seq)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.0.truncate(seq, len)
    }
    fn close(&mut self, seq: SeqId) {
        self.0.close(seq);
    }
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        let mut logits = self.0.forward(runs)?;
        if runs[0].want.len() > 2 {
            logits.data.reverse();
        }
        Ok(logits)
    }
    fn kv_bytes_per_token(&self) -> usize {
        64
    }
    fn weights_bytes(&self) -> usize {
        1000
    }
}

#[test]
fn output_that_differs_is_told_with_its_place() {
    let mut target = Varying(FakeDecoder::new(VOCAB, 200));
    let mut draft = FakeDecoder::new(VOCAB, 200);
    let found = measure(&mut target, Some(&mut draft), &options()).expect("measured");
    for prompt in &found.prompts {
        assert_eq!(prompt.identical, Some(false));
        let at = prompt.first_difference.expect("a place");
        let tokens = prompt.tokens();
        assert_eq!(tokens[..at], prompt.plain_tokens[..at]);
        assert_ne!(tokens.get(at), prompt.plain_tokens.get(at));
    }
}

#[test]
fn drawn_text_is_not_compared() {
    let mut target = FakeDecoder::new(VOCAB, 200);
    let mut draft = FakeDecoder::new(VOCAB, 200);
    let options = SpeculationOptions {
        sampler: SamplerOptions {
            temperature: 1.0,
            ..SamplerOptions::default()
        },
        ..options()
    };
    let found = measure(&mut target, Some(&mut draft), &options).expect("measured");
    assert!(found.prompts.iter().all(|p| p.identical.is_none()));
    assert!(found.prompts.iter().all(|p| p.first_difference.is_none()));
}

#[test]
fn a_break_cancels_and_impossible_options_are_refused() {
    let mut target = FakeDecoder::new(VOCAB, 200);
    for steps in [1, 30, 90, 200] {
        let mut left = steps;
        let mut pair = Pair {
            target: &mut target,
            draft: None,
            codec: &ByteCodec { merges: false },
        };
        let stopped = run(
            &mut pair,
            &[vec![1, 2, 1, 2, 1]],
            &SpeculationOptions {
                repeat: 4,
                ..options()
            },
            &Instruments {
                clock: &FakeClock::default(),
                cpu_times: &|| None,
                suspended: &|| None,
            },
            &mut |event| {
                assert!(matches!(event, Event::Step { done, total: 9, .. } if done < 9));
                left -= 1;
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        assert!(matches!(stopped, Err(Error::Cancelled)), "{steps}");
        assert!(target.seqs.is_empty(), "{steps}");
    }
    let refused = |options: SpeculationOptions, context: usize| {
        let mut target = FakeDecoder::new(VOCAB, context);
        measure(&mut target, None, &options)
            .expect_err("refused")
            .to_string()
    };
    let none = SpeculationOptions {
        repeat: 0,
        ..options()
    };
    assert!(refused(none, 200).contains("repeat"));
    let short = SpeculationOptions {
        max_tokens: 1,
        ..options()
    };
    assert!(refused(short, 200).contains("at least 2"));
    assert!(refused(options(), 6).contains("prompt 2 has 5 tokens, but the target holds 6"));
    let wide = SpeculationOptions {
        width: Width::Fixed(16),
        ..options()
    };
    assert!(refused(wide, 200).contains("k is 16"));
}

#[test]
fn a_full_context_ends_both_ways_alike() {
    let mut target = FakeDecoder::new(VOCAB, 12);
    let mut draft = FakeDecoder::new(VOCAB, 12);
    let found = measure(&mut target, Some(&mut draft), &options()).expect("measured");
    for prompt in &found.prompts {
        assert_eq!(prompt.identical, Some(true));
        assert!(prompt.plain_tokens.len() < 12);
    }
}
