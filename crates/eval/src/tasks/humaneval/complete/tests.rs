//! Prompts are the harness's text, and the driver on fakes: any slots, resumed, sampled, cancelled.

use super::*;
use crate::fakes::{ByteCodec, FakeDecoder};

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}";

fn problems(count: usize) -> Vec<Problem> {
    (0..count)
        .map(|i| Problem {
            task_id: format!("HumanEval/{i}"),
            prompt: format!("def f{i}(x):\n    '''{}'''\n", "Adds. ".repeat(i % 5)),
            canonical_solution: "    return x\n".to_owned(),
            test: "def check(c):\n    assert c(1) == 1\n".to_owned(),
            entry_point: format!("f{i}"),
        })
        .collect()
}

fn complete(
    decoder: &mut FakeDecoder,
    template: Option<&ChatTemplate>,
    problems: &[Problem],
    options: &HumanEvalOptions,
    done: &[Completion],
) -> (Result<Outcome, Error>, Vec<Completion>) {
    let clock = decoder.clock.clone();
    let codec = ByteCodec { merges: false };
    let mut model = UnderTest {
        decoder,
        codec: &codec,
        clock: &clock,
    };
    let mut heard = Vec::new();
    let outcome = run(
        &mut model,
        template,
        problems,
        options,
        done,
        &mut |event| {
            if let Event::Answered {
                sample,
                done,
                total,
            } = event
            {
                heard.push(sample);
                assert!(done <= total);
            }
            ControlFlow::Continue(())
        },
    );
    assert!(decoder.seqs.is_empty(), "sequences left open");
    (outcome, heard)
}

fn decoder() -> FakeDecoder {
    let mut decoder = FakeDecoder::new(ByteCodec::VOCAB, 200);
    decoder.micros_per_pass = 1000;
    decoder
}

fn options() -> HumanEvalOptions {
    HumanEvalOptions {
        max_tokens: 20,
        ..HumanEvalOptions::default()
    }
}

fn sorted(mut completions: Vec<Completion>) -> Vec<Completion> {
    completions.sort_by_key(|c| (c.task_id.clone(), c.sample));
    completions
}

#[test]
fn slots_change_speed_and_nothing_else() {
    let problems = problems(13);
    let mut slow = options();
    slow.slots = 1;
    let (alone, heard) = complete(&mut decoder(), None, &problems, &slow, &[]);
    let alone = alone.expect("completed");
    assert_eq!(alone.form, Form::Base);
    assert_eq!(alone.completions, heard, "one by one they come in order");
    assert_eq!(alone.tokens, 13 * 20);
    // A millisecond a pass: one for each prompt, and one for each token but a completion's first.
    assert!((alone.reading_seconds - 0.013).abs() < 1e-9);
    assert!((alone.seconds - alone.reading_seconds - 13.0 * 0.019).abs() < 1e-9);
    let rate = alone.tokens as f64 / (13.0 * 0.019);
    assert!((alone.tokens_per_s - rate).abs() < 1e-6);
    for slots in [2, 3, 8, 16] {
        let many = HumanEvalOptions { slots, ..options() };
        let (outcome, heard) = complete(&mut decoder(), None, &problems, &many, &[]);
        let outcome = outcome.expect("completed");
        assert_eq!(outcome.completions, alone.completions, "{slots} slots");
        assert_eq!(sorted(heard), sorted(alone.completions.clone()));
        assert!(outcome.tokens_per_s > 1.5 * alone.tokens_per_s);
    }
}

#[test]
fn samples_differ_repeat_and_resume() {
    let problems = problems(4);
    let sampled = HumanEvalOptions {
        n: 3,
        temperature: 0.8,
        limit: Some(3),
        slots: 4,
        ..options()
    };
    let (whole, _) = complete(&mut decoder(), None, &problems, &sampled, &[]);
    let whole = whole.expect("completed");
    let keys: Vec<(&str, u32)> = whole
        .completions
        .iter()
        .map(|c| (c.task_id.as_str(), c.sample))
        .collect();
    assert_eq!(keys.len(), 9);
    assert_eq!((keys[0], keys[8]), (("HumanEval/0", 0), ("HumanEval/2", 2)));
    let texts: std::collections::BTreeSet<&str> = whole
        .completions
        .iter()
        .map(|c| c.completion.as_str())
        .collect();
    assert_eq!(texts.len(), 9, "samples are drawn apart");
    // Some were written before an interruption, in any order.
    let done: Vec<Completion> = [7, 2, 3].map(|i| whole.completions[i].clone()).into();
    let (resumed, heard) = complete(&mut decoder(), None, &problems, &sampled, &done);
    let resumed = resumed.expect("completed");
    assert_eq!(resumed.completions, whole.completions);
    assert_eq!((heard.len(), resumed.tokens), (6, 6 * 20));
    let (finished, heard) = complete(
        &mut decoder(),
        None,
        &problems,
        &sampled,
        &whole.completions,
    );
    let finished = finished.expect("nothing left to do");
    assert!(heard.is_empty() && finished.tokens_per_s == 0.0);
    // Another seed is another run; a prompt is run once for its three samples.
    let other = HumanEvalOptions { seed: 1, ..sampled };
    let mut decoder = decoder();
    let (other, _) = complete(&mut decoder, None, &problems, &other, &[]);
    assert_ne!(other.expect("completed").completions, whole.completions);
    let prompts: usize = problems[..3].iter().map(|p| p.prompt.len() + 1).sum();
    assert_eq!(decoder.tokens_run(), prompts + 9 * 19);
}

#[test]
fn the_instruct_form_is_the_harness_one() {
    let template = ChatTemplate::new(TEMPLATE, "", "").expect("a template");
    let codec = ByteCodec { merges: false };
    let mut problem = problems(1).remove(0);
    problem.prompt = "def f(x):\n    '''Adds.'''\n".to_owned();
    let text = |template: Option<&ChatTemplate>, form| {
        let tokens = prompt(&codec, template, form, &problem)?;
        Ok::<_, Error>(codec.decode(&tokens))
    };
    for form in [Form::Auto, Form::Instruct] {
        assert_eq!(
            text(Some(&template), form).expect("encoded"),
            "<user>Write a solution to the following problem and make sure that it passes the tests:\n\
             ```python\ndef f(x):\n    '''Adds.'''\n\n```\n</s>\
             <assistant>Here is the completed function:\n```python\ndef f(x):\n    '''Adds.'''\n\n"
        );
    }
    assert_eq!(
        text(Some(&template), Form::Base).expect("encoded"),
        problem.prompt
    );
    assert_eq!(text(None, Form::Auto).expect("encoded"), problem.prompt);
    // A template that drops the answer's beginning cannot ask in this form, and one is needed for it.
    let drops = ChatTemplate::new("{{ messages[0].content }}", "", "").expect("a template");
    let error = text(Some(&drops), Form::Auto)
        .expect_err("dropped")
        .to_string();
    assert!(
        error.contains("HumanEval/0") && error.contains("ask in the base form"),
        "{error}"
    );
    assert!(text(None, Form::Instruct).is_err());

    // An answer ends where the harness cuts it.
    let stop = stop_strings(Form::Instruct);
    assert_eq!(stop, ["\nclass", "\ndef", "\n#", "\nif", "\nprint", "```"]);
    assert_eq!(stop_strings(Form::Base), stop[..5]);
    let (outcome, _) = complete(
        &mut decoder(),
        Some(&template),
        &problems(1),
        &options(),
        &[],
    );
    assert_eq!(outcome.expect("completed").form, Form::Instruct);
}

#[test]
fn a_template_that_writes_bos_gets_no_second_one() {
    struct Bos;
    impl TextCodec for Bos {
        fn encode(&self, text: &str, add_special: bool, _: bool) -> Result<Vec<u32>, String> {
            let written = text.strip_prefix("<s>");
            let bos = usize::from(add_special) + usize::from(written.is_some());
            let rest = written.unwrap_or(text).bytes().map(u32::from);
            Ok(std::iter::repeat_n(256, bos).chain(rest).collect())
        }
        fn token_bytes(&self, _: u32) -> Vec<u8> {
            Vec::new()
        }
        fn decode(&self, _: &[u32]) -> String {
            String::new()
        }
        fn eos_tokens(&self) -> &[u32] {
            &[]
        }
    }
    let problem = &problems(1)[0];
    for source in [format!("<s>{TEMPLATE}"), TEMPLATE.to_owned()] {
        let template = ChatTemplate::new(&source, "", "").expect("a template");
        let tokens = prompt(&Bos, Some(&template), Form::Auto, problem).expect("encoded");
        assert_eq!(tokens[..2], [256, u32::from(b'<')]);
    }
}

#[test]
fn a_problem_that_does_not_fit_is_not_solved_and_bad_options_say_so() {
    let mut problems = problems(3);
    problems[1].prompt = "x".repeat(400);
    let (outcome, heard) = complete(&mut decoder(), None, &problems, &options(), &[]);
    let outcome = outcome.expect("completed");
    let long = &outcome.completions[1];
    assert_eq!(
        (long.tokens, long.finish_reason),
        (0, FinishReason::Context)
    );
    assert_eq!((long.prompt_tokens, heard.len()), (401, 3));

    for (bad, part) in [
        (HumanEvalOptions { n: 0, ..options() }, "0 samples"),
        (HumanEvalOptions { n: 5, ..options() }, "all be alike"),
        (
            HumanEvalOptions {
                max_tokens: 0,
                ..options()
            },
            "0 tokens",
        ),
        (
            HumanEvalOptions {
                temperature: -1.0,
                ..options()
            },
            "temperature is -1",
        ),
    ] {
        let (outcome, _) = complete(&mut decoder(), None, &problems, &bad, &[]);
        let error = outcome.expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut poisoned = decoder();
    poisoned.logits = |_, vocab| vec![f32::NAN; vocab];
    let (outcome, _) = complete(&mut poisoned, None, &problems, &options(), &[]);
    assert!(matches!(outcome, Err(Error::NotANumber(what)) if what == "HumanEval/0"));
}

#[test]
fn a_cancel_ends_it_after_any_event() {
    let problems = problems(6);
    for events in 1..20 {
        let mut decoder = decoder();
        let clock = decoder.clock.clone();
        let codec = ByteCodec { merges: false };
        let mut model = UnderTest {
            decoder: &mut decoder,
            codec: &codec,
            clock: &clock,
        };
        let mut left = events;
        let outcome = run(&mut model, None, &problems, &options(), &[], &mut |_| {
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(
            matches!(outcome, Err(Error::Cancelled)),
            "after {events} events"
        );
        assert_eq!((left, decoder.seqs.len()), (0, 0));
    }
}

#[test]
fn seeds_differ_by_run_problem_and_sample() {
    let mut seeds = std::collections::BTreeSet::new();
    for seed in 0..3 {
        for task in ["HumanEval/1", "HumanEval/11", "HumanEval/111"] {
            for sample in 0..20 {
                seeds.insert(sample_seed(seed, task, sample));
            }
        }
    }
    assert_eq!(seeds.len(), 3 * 3 * 20);
    // Runs are repeated years later: this figure must never change.
    assert_eq!(sample_seed(7, "HumanEval/1", 2), 10_712_869_544_949_298_935);
}
