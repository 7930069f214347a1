//! Generation over a fake decoder that spells a fixed script and a fake codec of one token a byte.

use super::*;
use crate::decoder::Logits;
use std::collections::HashMap;

/// Says `script[n]` after `n` tokens of any prompt of `prompt_len` tokens; records every pass.
struct Scripted {
    script: Vec<u32>,
    prompt_len: usize,
    context_len: usize,
    sequences: HashMap<SeqId, Vec<u32>>,
    passes: Vec<Vec<u32>>,
    poison_at: Option<usize>,
}

impl Scripted {
    fn new(script: &[u8], prompt_len: usize) -> Self {
        Self {
            script: script.iter().map(|&b| u32::from(b)).chain([EOS]).collect(),
            prompt_len,
            context_len: 1000,
            sequences: HashMap::new(),
            passes: Vec::new(),
            poison_at: None,
        }
    }
}

pub(super) const EOS: u32 = 256;
pub(super) const VOCAB: usize = 257;

impl Decoder for Scripted {
    fn vocab_size(&self) -> usize {
        VOCAB
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn open(&mut self) -> Result<SeqId, DecodeError> {
        let seq = SeqId(self.sequences.len() as u32);
        self.sequences.insert(seq, Vec::new());
        Ok(seq)
    }
    fn fork(&mut self, _: SeqId, _: usize) -> Result<SeqId, DecodeError> {
        Err(DecodeError::Invalid("the fake does not fork".to_owned()))
    }
    fn len(&self, seq: SeqId) -> usize {
        self.sequences.get(&seq).map_or(0, Vec::len)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError> {
        self.sequences.get_mut(&seq).expect("open").truncate(len);
        Ok(())
    }
    fn close(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError> {
        let [run] = runs else {
            return Err(DecodeError::Invalid("one run".to_owned()));
        };
        self.passes.push(run.tokens.to_vec());
        let held = self.sequences.get_mut(&run.seq).expect("open");
        let mut data = Vec::new();
        for (i, &token) in run.tokens.iter().enumerate() {
            held.push(token);
            if run.want.contains(&i) {
                let said = held.len().saturating_sub(self.prompt_len);
                let mut row = vec![0.0; VOCAB];
                row[*self.script.get(said).unwrap_or(&EOS) as usize] = 1.0;
                if self.poison_at == Some(said) {
                    row[5] = f32::NAN;
                }
                data.extend(row);
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

/// One token a byte, and EOS.
pub(super) struct Bytes;

impl TextCodec for Bytes {
    fn encode(&self, text: &str, _: bool, _: bool) -> Result<Vec<u32>, String> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn token_bytes(&self, token: u32) -> Vec<u8> {
        u8::try_from(token).map_or_else(|_| Vec::new(), |b| vec![b])
    }
    fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&t| self.token_bytes(t)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    fn eos_tokens(&self) -> &[u32] {
        &[EOS]
    }
}

/// Generates after `prompt`; returns the result and the texts streamed.
fn run(
    decoder: &mut Scripted,
    session: &mut Session,
    prompt: &str,
    options: &GenerateOptions,
) -> (Generation, Vec<String>) {
    let prompt = Bytes.encode(prompt, false, false).unwrap();
    let mut texts = Vec::new();
    let result = generate(decoder, &Bytes, session, &prompt, options, &mut |piece| {
        if let Piece::Text { text, .. } | Piece::Rest(text) = piece {
            texts.push(text.to_owned());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    (result, texts)
}

#[test]
fn the_script_comes_out_and_eos_ends_it() {
    let mut decoder = Scripted::new("grün 🦀".as_bytes(), 3);
    let (result, texts) = run(
        &mut decoder,
        &mut Session::new(),
        "abc",
        &GenerateOptions::default(),
    );
    assert_eq!(result.text, "grün 🦀");
    assert_eq!(texts.concat(), "grün 🦀");
    assert_eq!(result.finish_reason, FinishReason::Stop);
    assert_eq!(*result.tokens.last().unwrap(), EOS);
    assert_eq!(result.tokens.len(), "grün 🦀".len() + 1);
    assert_eq!((result.prompt_tokens, result.reused_tokens), (3, 0));
    assert!(result.time_to_first_token.unwrap() >= result.prefill);
}

#[test]
fn limits_end_it() {
    let mut decoder = Scripted::new(b"hello world", 1);
    let options = GenerateOptions {
        max_tokens: 5,
        ..GenerateOptions::default()
    };
    let (result, _) = run(&mut decoder, &mut Session::new(), "a", &options);
    assert_eq!(
        (result.text.as_str(), result.finish_reason),
        ("hello", FinishReason::Length)
    );
    assert_eq!(
        decoder.passes.len(),
        5,
        "nothing is run after the last token"
    );

    let mut decoder = Scripted::new(b"hello world", 1);
    decoder.context_len = 4;
    let (result, _) = run(
        &mut decoder,
        &mut Session::new(),
        "a",
        &GenerateOptions::default(),
    );
    assert_eq!(
        (result.text.as_str(), result.finish_reason),
        ("hell", FinishReason::Context)
    );

    let options = GenerateOptions {
        max_tokens: 14,
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    let (result, _) = run(
        &mut Scripted::new(b"hello world", 1),
        &mut Session::new(),
        "a",
        &options,
    );
    assert_eq!(result.tokens.len(), 14);
    assert_eq!(result.finish_reason, FinishReason::Length);
}

#[test]
fn stop_strings_end_it_and_do_not_leak() {
    let options = GenerateOptions {
        stop: vec!["\nUser:".to_owned()],
        ..GenerateOptions::default()
    };
    let (result, texts) = run(
        &mut Scripted::new(b"fine\nUseful\nUser: x", 1),
        &mut Session::new(),
        "a",
        &options,
    );
    assert_eq!(result.text, "fine\nUseful");
    assert_eq!(texts.concat(), "fine\nUseful");
    assert_eq!(result.finish_reason, FinishReason::Stop);
}

#[test]
fn cancel_works_between_chunks_and_between_tokens() {
    let prompt: Vec<u32> = (0..10).collect();
    let options = GenerateOptions {
        prefill_chunk: 4,
        ..GenerateOptions::default()
    };
    let mut decoder = Scripted::new(b"hello", 10);
    let mut session = Session::new();
    let mut heard = Vec::new();
    let result = generate(
        &mut decoder,
        &Bytes,
        &mut session,
        &prompt,
        &options,
        &mut |piece| {
            heard.push(format!("{piece:?}"));
            ControlFlow::Break(())
        },
    )
    .unwrap();
    assert_eq!(heard, ["Prefill { done: 4, total: 10 }"]);
    assert_eq!(result.finish_reason, FinishReason::Cancelled);
    assert_eq!((result.tokens.len(), result.time_to_first_token), (0, None));
    assert_eq!(decoder.passes, [[0, 1, 2, 3]]);

    // The cancelled part is reused, and the cancel now comes after the second token.
    let mut tokens = 0;
    let result = generate(
        &mut decoder,
        &Bytes,
        &mut session,
        &prompt,
        &options,
        &mut |piece| {
            tokens += usize::from(matches!(piece, Piece::Text { .. }));
            if tokens == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )
    .unwrap();
    assert_eq!(result.reused_tokens, 4);
    assert_eq!(
        (result.text.as_str(), result.finish_reason),
        ("he", FinishReason::Cancelled)
    );
}

#[test]
fn a_session_runs_only_what_is_new() {
    let mut decoder = Scripted::new(b"yes", 4);
    let mut session = Session::new();
    let options = GenerateOptions::default();
    run(&mut decoder, &mut session, "abcd", &options);
    assert_eq!(
        session.held(),
        "abcdyes".bytes().map(u32::from).collect::<Vec<_>>(),
        "EOS is not run"
    );

    decoder.passes.clear();
    decoder.prompt_len = 10;
    let (result, _) = run(&mut decoder, &mut session, "abcdyes fg", &options);
    assert_eq!(result.reused_tokens, 7);
    assert_eq!(
        decoder.passes[0],
        " fg".bytes().map(u32::from).collect::<Vec<_>>()
    );
    assert_eq!(result.text, "yes");

    // The same prompt again: its last token is run again, for its logits.
    decoder.passes.clear();
    let (result, _) = run(&mut decoder, &mut session, "abcdyes fg", &options);
    assert_eq!(result.reused_tokens, 9);
    assert_eq!(decoder.passes[0], [u32::from(b'g')]);
    assert_eq!(result.text, "yes");

    // A prompt that parts early.
    decoder.passes.clear();
    decoder.prompt_len = 3;
    let (result, _) = run(&mut decoder, &mut session, "abX", &options);
    assert_eq!((result.reused_tokens, decoder.passes[0].len()), (2, 1));
    session.close(&mut decoder);
    assert!(decoder.sequences.is_empty());
}

#[test]
fn impossible_requests_say_why() {
    let mut decoder = Scripted::new(b"x", 1);
    decoder.context_len = 8;
    let mut attempt = |prompt: &[u32], options: &GenerateOptions| {
        generate(
            &mut decoder,
            &Bytes,
            &mut Session::new(),
            prompt,
            options,
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap_err()
        .to_string()
    };
    let options = GenerateOptions::default();
    assert!(attempt(&[], &options).contains("empty"));
    let long = attempt(&[1; 10], &options);
    assert!(
        long.contains("10 tokens") && long.contains("holds 8") && long.contains("by 3 tokens"),
        "{long}"
    );
    let bad = GenerateOptions {
        sampler: SamplerOptions {
            temperature: -1.0,
            ..SamplerOptions::default()
        },
        ..GenerateOptions::default()
    };
    assert!(attempt(&[1], &bad).contains("temperature is -1"));
}

#[test]
fn not_a_number_is_an_error() {
    let mut decoder = Scripted::new(b"hello", 1);
    decoder.poison_at = Some(2);
    let mut shown = String::new();
    let error = generate(
        &mut decoder,
        &Bytes,
        &mut Session::new(),
        &[1],
        &GenerateOptions::default(),
        &mut |piece| {
            if let Piece::Text { text, .. } = piece {
                shown.push_str(text);
            }
            ControlFlow::Continue(())
        },
    )
    .unwrap_err();
    assert_eq!(shown, "he");
    assert!(error.to_string().contains("after 3 tokens"), "{error}");
}
