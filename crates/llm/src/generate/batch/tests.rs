//! Batches over a fake decoder whose logits hash the tokens before, held against `generate` one by one.

use std::collections::BTreeMap;

use super::*;
use crate::decoder::EXACT_ROWS;
use crate::generate::tests::{Bytes, EOS, VOCAB};
use crate::generate::{FinishReason, SamplerOptions, Session, generate};

/// Keeps tokens instead of keys and values, records the lengths of each pass's runs, and can be short of memory.
struct Hashing {
    sequences: BTreeMap<u32, Vec<u32>>,
    opened: u32,
    passes: Vec<Vec<usize>>,
    context_len: usize,
    /// Most tokens that all sequences together may hold for a pass over a prompt to run.
    room: usize,
    /// Passes of more rows than this fail.
    fails_above: usize,
    exact_rows: usize,
}

impl Hashing {
    fn new() -> Self {
        Self {
            sequences: BTreeMap::new(),
            opened: 0,
            passes: Vec::new(),
            context_len: 400,
            room: usize::MAX,
            fails_above: usize::MAX,
            exact_rows: EXACT_ROWS,
        }
    }

    fn insert(&mut self, tokens: Vec<u32>) -> SeqId {
        self.opened += 1;
        self.sequences.insert(self.opened, tokens);
        SeqId(self.opened)
    }

    fn tokens_run(&self) -> usize {
        self.passes.iter().flatten().sum()
    }
}

/// Greedy text ends after 13 tokens on average. A token 7 (a control character) poisons what follows.
fn logits(tokens: &[u32]) -> impl Iterator<Item = f32> {
    let hash = tokens
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3)
        });
    let ends = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let poisoned = tokens.contains(&7);
    (0..VOCAB as u64).map(move |token| match token {
        _ if poisoned => f32::NAN,
        256 if ends.is_multiple_of(13) => 100.0,
        // Letters mostly, so that stop strings are met.
        97..=104 => ((hash ^ token).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 1e6,
        _ => -20.0,
    })
}

impl Decoder for Hashing {
    fn vocab_size(&self) -> usize {
        VOCAB
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn exact_rows(&self) -> usize {
        self.exact_rows
    }
    fn open(&mut self) -> Result<SeqId, DecodeError> {
        Ok(self.insert(Vec::new()))
    }
    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError> {
        let tokens = self.sequences[&seq.0][..len].to_vec();
        Ok(self.insert(tokens))
    }
    fn len(&self, seq: SeqId) -> usize {
        self.sequences[&seq.0].len()
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.sequences.get_mut(&seq.0).expect("open").truncate(len);
        Ok(())
    }
    fn close(&mut self, seq: SeqId) {
        assert!(self.sequences.remove(&seq.0).is_some(), "closed twice");
    }
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        let rows: usize = runs.iter().map(|run| run.tokens.len()).sum();
        let held: usize = self.sequences.values().map(Vec::len).sum();
        if rows > runs.len() && held + rows > self.room {
            return Err(DecodeError::Backend("no memory".to_owned()));
        }
        if runs.len() > self.fails_above {
            return Err(DecodeError::Backend("a fault".to_owned()));
        }
        if let Some(&token) = runs.iter().flat_map(|r| r.tokens).find(|t| **t > EOS) {
            return Err(DecodeError::TokenOutOfRange {
                token,
                vocab_size: VOCAB,
            });
        }
        self.passes
            .push(runs.iter().map(|run| run.tokens.len()).collect());
        let mut data = Vec::new();
        for run in runs {
            let held = self.sequences.get_mut(&run.seq.0).expect("open");
            for (i, &token) in run.tokens.iter().enumerate() {
                held.push(token);
                if run.want.contains(&i) {
                    data.extend(logits(held));
                }
            }
        }
        Ok(Logits {
            data,
            vocab_size: VOCAB,
        })
    }
    fn kv_bytes_per_token(&self) -> usize {
        1
    }
    fn weights_bytes(&self) -> usize {
        0
    }
}

/// Prompts of unlike lengths; every option that changes a text is used.
fn requests() -> Vec<Request> {
    (0..30)
        .map(|i: u32| Request {
            prompt: (0..5 + i * 7 % 40).map(|t| 97 + (t * i) % 26).collect(),
            options: GenerateOptions {
                max_tokens: 3 + i as usize * 5 % 60,
                sampler: SamplerOptions {
                    temperature: if i.is_multiple_of(2) { 0.0 } else { 1.0 },
                    repetition_penalty: if i.is_multiple_of(3) { 1.0 } else { 1.1 },
                    seed: u64::from(i),
                    ..SamplerOptions::default()
                },
                stop: if i.is_multiple_of(5) {
                    vec!["ab".to_owned(), "cd".to_owned()]
                } else {
                    Vec::new()
                },
                ignore_eos: i.is_multiple_of(7),
                prefill_chunk: 16,
            },
        })
        .collect()
}

/// What tells one generation from another: not its times.
type Said = (Vec<u32>, String, FinishReason, usize);

fn said(generation: Generation) -> Said {
    (
        generation.tokens,
        generation.text,
        generation.finish_reason,
        generation.prompt_tokens,
    )
}

fn one_by_one(requests: &[Request]) -> (Vec<Result<Said, String>>, usize) {
    let mut decoder = Hashing::new();
    let results = requests
        .iter()
        .map(|Request { prompt, options }| {
            let mut session = Session::new();
            let result = generate(
                &mut decoder,
                &Bytes,
                &mut session,
                prompt,
                options,
                &mut |_| ControlFlow::Continue(()),
            );
            session.close(&mut decoder);
            result.map(said).map_err(|error| error.to_string())
        })
        .collect();
    (results, decoder.tokens_run())
}

fn batched(decoder: &mut Hashing, requests: &[Request], slots: usize) -> Vec<Result<Said, String>> {
    let mut results = vec![None; requests.len()];
    let mut shown = vec![String::new(); requests.len()];
    let flow = generate_batch(decoder, &Bytes, requests, slots, &mut |event| {
        match event {
            BatchEvent::Piece {
                request,
                piece: Piece::Text { text, .. } | Piece::Rest(text),
            } => shown[request].push_str(text),
            BatchEvent::Piece { .. } => {}
            BatchEvent::Finished { request, result } => {
                if let Ok(generation) = &result {
                    assert_eq!(shown[request], generation.text, "what was streamed");
                }
                let result = result.map(said).map_err(|error| error.to_string());
                assert!(results[request].replace(result).is_none(), "told twice");
            }
        }
        ControlFlow::Continue(())
    });
    assert!(flow.unwrap().is_continue());
    assert!(decoder.sequences.is_empty(), "sequences left open");
    results.into_iter().map(Option::unwrap).collect()
}

#[test]
fn any_number_of_slots_gives_what_one_by_one_gives() {
    let requests = requests();
    let (expected, _) = one_by_one(&requests);
    let reasons: Vec<_> = expected.iter().flatten().map(|said| said.2).collect();
    assert!(reasons.contains(&FinishReason::Stop) && reasons.contains(&FinishReason::Length));
    let slots = [0, 1, 2, 3, 8, 16, 17, 100].map(|slots| (slots, EXACT_ROWS));
    for (slots, exact_rows) in slots.into_iter().chain([(8, 1), (8, 3)]) {
        let mut decoder = Hashing::new();
        decoder.exact_rows = exact_rows;
        assert_eq!(
            batched(&mut decoder, &requests, slots),
            expected,
            "{slots} slots"
        );
        let widest = decoder.passes.iter().map(Vec::len).max().unwrap();
        assert!(widest <= slots.clamp(1, exact_rows), "{widest} rows");
        let mixed = |pass: &Vec<usize>| pass.len() > 1 && pass.iter().any(|&tokens| tokens > 1);
        assert!(!decoder.passes.iter().any(mixed), "prompts run alone");
    }
}

#[test]
fn a_place_that_is_free_is_taken_at_once() {
    let requests: Vec<Request> = requests()
        .into_iter()
        .map(|mut request| {
            request.options.ignore_eos = true;
            request.options.stop.clear();
            request.options.prefill_chunk = 100;
            request
        })
        .collect();
    let mut decoder = Hashing::new();
    batched(&mut decoder, &requests, 4);
    // Every request but the last few finds the other places taken: passes of fewer rows come at the end only.
    let widths: Vec<usize> = decoder
        .passes
        .iter()
        .filter(|pass| pass.iter().all(|&tokens| tokens == 1))
        .map(Vec::len)
        .collect();
    let first_narrow = widths.iter().position(|&rows| rows < 4).unwrap();
    let longest = requests.iter().map(|r| r.options.max_tokens).max().unwrap();
    assert!(
        widths.len() - first_narrow <= longest
            && widths[first_narrow..].is_sorted_by(|a, b| a >= b),
        "{widths:?}"
    );
}

/// 40 tokens, of which 36 are common to all problems.
fn problem_request(problem: u32) -> Request {
    Request {
        prompt: (0..36)
            .chain((0..4).map(|t| 60 + problem * 4 + t))
            .map(|t| t + 20)
            .collect(),
        options: GenerateOptions {
            max_tokens: 20,
            prefill_chunk: 16,
            ..GenerateOptions::default()
        },
    }
}

#[test]
fn prompts_that_begin_alike_run_their_common_chunks_once() {
    let mut requests = Vec::new();
    for (problem, samples) in [(0, 5), (1, 1), (2, 3)] {
        for sample in 0..samples {
            let mut request = problem_request(problem);
            request.options.sampler.seed = sample;
            request.options.sampler.temperature = 1.0;
            requests.push(request);
        }
    }
    let (expected, tokens_apart) = one_by_one(&requests);
    for slots in [1, 2, 8] {
        let mut decoder = Hashing::new();
        assert_eq!(
            batched(&mut decoder, &requests, slots),
            expected,
            "{slots} slots"
        );
        // 9 prompts of 40 tokens, of which 32 are common to all: equal ones are run once.
        let prompts: usize = decoder.tokens_run() + 9 * 40 - tokens_apart;
        assert_eq!(prompts, 40 + 8 + 8);
    }
}

#[test]
fn what_cannot_run_fails_alone() {
    let mut requests = requests();
    requests[3].prompt = vec![97; 400];
    requests[4].prompt.clear();
    requests[5].options.sampler.top_p = 2.0;
    requests[6].prompt[2] = 7;
    requests[7].prompt[0] = 999;
    requests[29].prompt = vec![98; 1000];
    let (expected, _) = one_by_one(&requests);
    for slots in [1, 4] {
        let results = batched(&mut Hashing::new(), &requests, slots);
        assert_eq!(results, expected);
        for (request, part) in [
            (3, "400 tokens"),
            (4, "empty"),
            (5, "top_p is 2"),
            (6, "not numbers"),
            (7, "token id 999"),
            (29, "1000 tokens"),
        ] {
            let error = results[request].as_ref().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 24);
    }
    assert!(batched(&mut Hashing::new(), &[], 4).is_empty());
}

#[test]
fn a_cancel_at_any_moment_leaves_nothing_behind() {
    let requests = requests();
    for moment in (0..200).chain([400]) {
        let mut decoder = Hashing::new();
        let mut left = moment;
        let flow = generate_batch(&mut decoder, &Bytes, &requests, 4, &mut |_| {
            assert!(left >= 0, "heard of something after the cancel");
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(flow.unwrap(), ControlFlow::Break(()), "at {moment}");
        assert!(decoder.sequences.is_empty(), "at {moment}");
    }
}

#[test]
fn short_memory_means_fewer_at_once_and_no_memory_is_an_error() {
    let requests = requests();
    let (expected, _) = one_by_one(&requests);
    let mut decoder = Hashing::new();
    decoder.room = 250;
    assert_eq!(batched(&mut decoder, &requests, 4), expected);

    // Too little for the longest prompt even alone: it fails, the others do not.
    let mut decoder = Hashing::new();
    decoder.room = 44;
    let results = batched(&mut decoder, &requests, 1);
    assert!(results.iter().any(Result::is_ok));
    assert!(results.iter().flatten().all(|said| said.3 <= 44));

    // A pass that several share fails for all of them.
    let mut decoder = Hashing::new();
    decoder.fails_above = 2;
    let error = generate_batch(&mut decoder, &Bytes, &requests, 4, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap_err();
    assert!(error.to_string().contains("a fault"));
    assert!(decoder.sequences.is_empty());
}
