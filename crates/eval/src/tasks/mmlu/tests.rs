//! Tests of prompts and of the driver on fakes with exact expectations.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use billion_llm::decoder::TextCodec as _;

use super::*;
use crate::fakes::{ByteCodec, FakeDecoder, hashed_logits};
use crate::likelihood::log_softmax;
use crate::{Error, Event, UnderTest};

fn question(text: &str, answer: usize) -> Question {
    Question {
        text: text.to_owned(),
        choices: ["one", "two", "three", "four "].map(str::to_owned),
        answer,
    }
}

#[test]
fn prompt_is_the_harness_text() {
    let got = prompt(
        "high_school_us_history",
        &[question(" Early?\n", 2)],
        &question("Late?", 0),
    );
    assert_eq!(
        got,
        "The following are multiple choice questions (with answers) about high school us history.\n\n\
         Early?\nA. one\nB. two\nC. three\nD. four \nAnswer: C\n\n\
         Late?\nA. one\nB. two\nC. three\nD. four \nAnswer:"
    );
}

fn subject(dev: usize, test: usize) -> SubjectData {
    SubjectData {
        dev: (0..dev)
            .map(|i| question(&format!("Solved {i}?"), i % 4))
            .collect(),
        test: (0..test)
            .map(|i| question(&format!("{} number {i}?", "Long ".repeat(i)), (i * 7) % 4))
            .collect(),
    }
}

fn data(subjects: &[(&str, SubjectData)]) -> MmluData {
    let subjects = subjects
        .iter()
        .map(|(name, subject)| ((*name).to_owned(), subject.clone()))
        .collect::<BTreeMap<_, _>>();
    MmluData { subjects }
}

/// Log-likelihoods by the definition: whole sequences, one at a time, cut as the harness cuts them.
fn by_hand(codec: &ByteCodec, context_len: usize, text: &str) -> [f64; 4] {
    let context = codec.encode(text, true, true).expect("encoded");
    std::array::from_fn(|letter| {
        let whole = codec
            .encode(&format!("{text} {}", LETTERS[letter]), true, true)
            .expect("encoded");
        let all = &whole[whole.len().saturating_sub(context_len + 1)..];
        let answer = whole.len() - context.len();
        (all.len() - answer..all.len())
            .map(|at| {
                let row = hashed_logits(&all[..at], ByteCodec::VOCAB);
                log_softmax(&row, &[all[at]]).expect("finite")[0]
            })
            .sum()
    })
}

fn ask(
    decoder: &mut FakeDecoder,
    codec: &ByteCodec,
    data: &MmluData,
    options: &MmluOptions,
    answered: &[Sample],
) -> (Result<Outcome, Error>, Vec<Sample>) {
    let clock = decoder.clock.clone();
    let mut samples = Vec::new();
    let mut model = UnderTest {
        decoder,
        codec,
        clock: &clock,
    };
    let outcome = run(&mut model, data, options, answered, &mut |event| {
        if let Event::Answered { sample, .. } = event {
            samples.push(sample);
        }
        ControlFlow::Continue(())
    });
    (outcome, samples)
}

#[test]
fn batched_shared_and_cut_runs_equal_the_definition() {
    let data = data(&[("anatomy", subject(5, 5)), ("virology", subject(3, 9))]);
    for merges in [true, false] {
        let codec = ByteCodec { merges };
        let mut lengths: Vec<usize> = data
            .subjects
            .iter()
            .flat_map(|(name, s)| s.test.iter().map(|q| prompt(name, &s.dev, q).len()))
            .collect();
        lengths.sort_unstable();
        // Holds the shorter half of the prompts, so the rest is cut at the left.
        let middle = lengths[lengths.len() / 2];
        for (context_len, batch_rows, batch_tokens) in [
            (4000, 8, 512),
            (4000, 1, 1),
            (4000, 3, 4000),
            (middle, 8, 512),
        ] {
            let options = MmluOptions {
                batch_rows,
                batch_tokens,
                ..MmluOptions::default()
            };
            let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, context_len);
            let (outcome, samples) = ask(&mut decoder, &codec, &data, &options, &[]);
            let outcome = outcome.expect("asked");
            assert_eq!(samples.len(), 14);
            let mut cut = 0;
            for sample in &samples {
                let subject = &data.subjects[&sample.subject];
                let text = prompt(&sample.subject, &subject.dev, &subject.test[sample.index]);
                let want = by_hand(&codec, context_len, &text);
                for (got, want) in sample.ll.iter().zip(want) {
                    assert!((got - want).abs() < 1e-9, "{sample:?} {want:?}");
                }
                let answer = if merges { 1 } else { 2 };
                let tokens = codec.encode(&text, true, true).expect("encoded").len();
                cut += usize::from(tokens + answer > context_len + 1);
                assert_eq!(sample.gold, LETTERS[subject.test[sample.index].answer]);
                assert_eq!(sample.correct, sample.pred == sample.gold);
            }
            assert_eq!(outcome.truncated, cut);
            assert!((context_len == middle) == (cut > 0));
            assert_eq!(outcome.prompt_tokens_computed, decoder.tokens_run());
            assert_eq!((outcome.shots, outcome.total), (5, 14));
            assert_eq!(
                outcome.fewer_shots,
                BTreeMap::from([("virology".to_owned(), 3)])
            );
            assert!(decoder.seqs.is_empty());
            assert!(
                decoder
                    .passes
                    .iter()
                    .all(|(runs, _)| runs.len() <= batch_rows.max(4))
            );
        }
    }
}

#[test]
fn a_prefix_is_run_once_and_each_question_reads_one_row() {
    let data = data(&[("anatomy", subject(5, 6))]);
    let codec = ByteCodec { merges: true };
    let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let options = MmluOptions {
        batch_tokens: 4000,
        ..MmluOptions::default()
    };
    let (outcome, samples) = ask(&mut decoder, &codec, &data, &options, &[]);
    let subject = &data.subjects["anatomy"];
    let contexts: Vec<Vec<u32>> = subject
        .test
        .iter()
        .map(|q| {
            codec
                .encode(&prompt("anatomy", &subject.dev, q), true, true)
                .expect("encoded")
        })
        .collect();
    let common = (0..contexts[0].len())
        .take_while(|&i| contexts.iter().all(|c| c[i] == contexts[0][i]))
        .count();
    let rest: usize = contexts.iter().map(|c| c.len() - common).sum();
    let outcome = outcome.expect("asked");
    assert_eq!(outcome.prompt_tokens_computed, common + rest);
    assert!(common > 300);
    let last = decoder.passes.last().expect("passes");
    assert_eq!(
        (last.0.len(), last.1),
        (6, 6),
        "six questions, a row each, one pass"
    );
    // A resumed run asks only what is missing and counts the rest.
    let mut again = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let (resumed, new) = ask(&mut again, &codec, &data, &options, &samples[..5]);
    let resumed = resumed.expect("asked");
    assert_eq!(new, samples[5..]);
    assert_eq!((resumed.total, resumed.correct), (6, outcome.correct));
    assert_eq!(resumed.ci95, outcome.ci95);
    assert_eq!(
        again.passes, decoder.passes,
        "the passes are those of the undisturbed run, so that the numbers are"
    );
}

#[test]
fn options_choose_subjects_rows_and_shots() {
    let data = data(&[("anatomy", subject(0, 6)), ("virology", subject(0, 2))]);
    let codec = ByteCodec { merges: true };
    let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let options = MmluOptions {
        shots: Some(5),
        limit: Some(4),
        ..MmluOptions::default()
    };
    let (outcome, _) = ask(&mut decoder, &codec, &data, &options, &[]);
    let outcome = outcome.expect("asked");
    assert_eq!(
        (outcome.total, outcome.shots, outcome.fewer_shots.len()),
        (6, 0, 2)
    );
    assert_eq!(outcome.by_group["stem"].total, 4);
    assert_eq!(outcome.by_group["other"].total, 2);
    assert_eq!(outcome.by_subject["virology"].total, 2);
    let only = MmluOptions {
        subjects: vec!["virology".to_owned()],
        ..MmluOptions::default()
    };
    let (outcome, samples) = ask(&mut decoder, &codec, &data, &only, &[]);
    assert_eq!(outcome.expect("asked").total, 2);
    assert!(samples.iter().all(|s| s.subject == "virology"));
    for (subjects, limit, says) in [
        (
            vec!["human_virology".to_owned()],
            None,
            "did you mean virology?",
        ),
        (vec!["zzz".to_owned()], None, "names look like"),
        (Vec::new(), Some(0), "no MMLU question is left"),
    ] {
        let bad = MmluOptions {
            limit,
            subjects,
            ..MmluOptions::default()
        };
        let error = ask(&mut decoder, &codec, &data, &bad, &[])
            .0
            .expect_err("refused");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_break_cancels_and_damage_is_told() {
    let data = data(&[("anatomy", subject(0, 6))]);
    let codec = ByteCodec { merges: true };
    let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let clock = decoder.clock.clone();
    let mut answers = 0;
    let mut model = UnderTest {
        decoder: &mut decoder,
        codec: &codec,
        clock: &clock,
    };
    let got = run(
        &mut model,
        &data,
        &MmluOptions::default(),
        &[],
        &mut |event| {
            answers += usize::from(matches!(event, Event::Answered { .. }));
            if answers == 2 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    );
    assert!(matches!(got, Err(Error::Cancelled)));
    assert!(decoder.seqs.is_empty());
    decoder.logits = |_, vocab| vec![f32::NAN; vocab];
    let (got, _) = ask(&mut decoder, &codec, &data, &MmluOptions::default(), &[]);
    let error = got.expect_err("NaN").to_string();
    assert!(error.contains("question 0 of anatomy"), "{error}");
    assert!(decoder.seqs.is_empty());
}

#[test]
fn samples_are_the_lines_of_the_contract() {
    let sample = Sample::new("anatomy", 3, [-2.0, -1.0, -1.0, -3.0], 2);
    let json = serde_json::to_value(&sample).expect("serialised");
    assert_eq!(
        json,
        serde_json::json!({
            "subject": "anatomy", "index": 3, "ll": [-2.0, -1.0, -1.0, -3.0],
            "pred": "B", "gold": "C", "correct": false
        })
    );
}

/// Whatever is answered already, the rest is asked in the same passes.
#[test]
fn a_run_broken_off_anywhere_ends_alike() {
    let codec = ByteCodec { merges: false };
    // A subject with a lone question has nothing to share, and with it no round but the whole says how rates spread.
    for (stop_at_half_width, few) in [(None, 1), (Some(0.16), 4)] {
        let data = data(&[
            ("anatomy", subject(2, 23)),
            ("astronomy", subject(1, few)),
            ("virology", subject(3, 31)),
        ]);
        let options = MmluOptions {
            batch_rows: 5,
            stop_at_half_width,
            ..MmluOptions::default()
        };
        let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 4000);
        let (whole, samples) = ask(&mut decoder, &codec, &data, &options, &[]);
        let whole = whole.expect("asked");
        assert_eq!(whole.stopped_early.is_some(), stop_at_half_width.is_some());
        for cut in 0..samples.len() {
            let mut again = FakeDecoder::new(ByteCodec::VOCAB, 4000);
            let (rest, new) = ask(&mut again, &codec, &data, &options, &samples[..cut]);
            let rest = rest.expect("asked");
            assert_eq!(new, samples[cut..]);
            let comparable = Outcome {
                prompt_tokens_computed: whole.prompt_tokens_computed,
                seconds: whole.seconds,
                ..rest
            };
            assert_eq!(comparable, whole);
            assert!(
                again
                    .passes
                    .iter()
                    .all(|pass| decoder.passes.contains(pass)),
                "no pass is new"
            );
        }
    }
}

#[test]
fn a_run_stops_when_the_interval_is_narrow_and_says_so() {
    let data = data(&[("anatomy", subject(2, 60)), ("virology", subject(2, 120))]);
    let codec = ByteCodec { merges: true };
    let width = 0.1;
    let options = MmluOptions {
        stop_at_half_width: Some(width),
        ..MmluOptions::default()
    };
    let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let (outcome, samples) = ask(&mut decoder, &codec, &data, &options, &[]);
    let outcome = outcome.expect("asked");
    let stopped = outcome.stopped_early.expect("early");
    assert_eq!((stopped.of, stopped.after), (180, outcome.total));
    assert_eq!((stopped.stop_at_half_width, stopped.seed), (width, 0));
    assert_eq!(samples.len(), outcome.total);
    assert!(outcome.total < 120, "{}", outcome.total);
    assert!(outcome.ci95[1] - outcome.ci95[0] <= 2.0 * width);
    // Subjects in proportion to their sizes, rows not in file order, prefixes run once.
    let [small, large] = ["anatomy", "virology"].map(|s| outcome.by_subject[s].total);
    assert!(large.abs_diff(2 * small) <= 3, "{small} {large}");
    let rows: Vec<usize> = samples
        .iter()
        .filter(|s| s.subject == "virology")
        .map(|s| s.index)
        .collect();
    assert!(!rows.is_sorted());
    let prefixes = |decoder: &FakeDecoder| {
        let without = |(_, rows): &&(Vec<usize>, usize)| *rows == 0;
        decoder.passes.iter().filter(without).count()
    };
    assert_eq!(prefixes(&decoder), 2);
    assert!(decoder.seqs.is_empty());
    // Without room for prefixes they are run again, to the same numbers; another seed draws others.
    let mut forgetful = FakeDecoder::new(ByteCodec::VOCAB, 4000);
    let cramped = MmluOptions {
        kept_prefix_bytes: 0,
        ..options.clone()
    };
    let (again, same) = ask(&mut forgetful, &codec, &data, &cramped, &[]);
    assert_eq!(
        (again.expect("asked").ci95, same),
        (outcome.ci95, samples.clone())
    );
    assert!(prefixes(&forgetful) > 2 && forgetful.seqs.is_empty());
    let other = MmluOptions {
        seed: 1,
        ..options.clone()
    };
    let (_, others) = ask(&mut decoder, &codec, &data, &other, &[]);
    assert_ne!(others, samples);
    // A width that all questions do not reach asks them all, once, and has not stopped early.
    let narrow = MmluOptions {
        stop_at_half_width: Some(0.01),
        ..options.clone()
    };
    let (all, _) = ask(&mut decoder, &codec, &data, &narrow, &[]);
    let all = all.expect("asked");
    assert_eq!((all.total, all.stopped_early), (180, None));
    for width in [0.0, 0.5, f64::NAN] {
        let bad = MmluOptions {
            stop_at_half_width: Some(width),
            ..options.clone()
        };
        let error = ask(&mut decoder, &codec, &data, &bad, &[])
            .0
            .expect_err("refused");
        assert!(error.to_string().contains("more than 0"), "{error}");
    }
}
