//! Figures of a report from timings made up here; what measures them is tested in `billion_eval`.

use billion_eval::meters::speculation::{Outcome, PromptOutcome, Timing, Tried};
use billion_llm::generate::FinishReason;
use billion_llm::generate::speculate::{Costs, Counts, Origin, Traced};

use super::{Asked, kind_name, prompt_of, report};
use crate::api::{DraftLength, PromptKind, SpeculationReport, TextOrigin, TracedText};
use crate::charts::speculation_charts;
use crate::worker::Speculated;

fn timing(seconds: f64) -> Timing {
    Timing {
        tokens: 100,
        seconds,
    }
}

/// 101 tokens in 25 passes over drafts of 5: theory says (1 - 0.8^6) / 0.2 / (1.5 + 5 * 0.05) times.
fn counts() -> Counts {
    let mut counts = Counts {
        drafted: 125,
        accepted: 76,
        tested: 95,
        passes: 25,
        ..Counts::default()
    };
    counts.by_drafted[5] = 25;
    counts
}

fn prompt(plain: &[f64], drafted: &[f64]) -> PromptOutcome {
    PromptOutcome {
        prompt_tokens: 7,
        plain_tokens: vec![3; 101],
        trace: vec![
            Traced {
                token: 3,
                origin: Origin::Accepted,
                rejected: Vec::new(),
            };
            101
        ],
        text: "text".to_owned(),
        finish_reason: FinishReason::Length,
        plain: plain.iter().copied().map(timing).collect(),
        speculative: drafted.iter().copied().map(timing).collect(),
        counts: counts(),
        identical: Some(true),
        first_difference: None,
        costs: Costs {
            target_pass_s: vec![1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            draft_step_s: 0.05,
        },
        tried: Vec::new(),
    }
}

fn of(prompts: Vec<PromptOutcome>, head: &SpeculationReport) -> SpeculationReport {
    let asked: Vec<Asked> = prompts
        .iter()
        .zip([PromptKind::Chat, PromptKind::Own, PromptKind::Own])
        .map(|(_, kind)| Asked {
            kind,
            prompt: "asked".to_owned(),
        })
        .collect();
    let piece = TracedText {
        text: "text".to_owned(),
        origin: TextOrigin::Accepted,
        rejected: String::new(),
        tokens: 101,
    };
    let found = Speculated {
        pieces: vec![vec![piece]; prompts.len()],
        outcome: Outcome {
            prompts,
            other_cores_busy: None,
            notes: Vec::new(),
            seconds: 1.0,
        },
    };
    report(head, &asked, found).expect("a report")
}

#[test]
fn a_speed_up_is_of_all_prompts_together_repeat_by_repeat() {
    let found = of(
        vec![
            prompt(&[10.0, 12.0, 10.0], &[5.0, 5.0, 4.0]),
            prompt(&[2.0, 4.0, 2.0], &[1.0, 3.0, 2.0]),
        ],
        &SpeculationReport::default(),
    );
    assert_eq!(found.speedup_repeats.runs, [2.0, 2.0, 2.0]);
    assert_eq!(found.speedup, 2.0);
    assert!((found.by_prompt[1].speedup - 4.0 / 3.0).abs() < 1e-12);
    assert_eq!(found.by_prompt[0].speedup_repeats.max, 2.5);
    assert_eq!(found.baseline_tokens_per_s, 600.0 / 40.0);
    assert_eq!(found.acceptance_rate, Some(76.0 / 125.0));
    assert_eq!(found.alpha, Some(0.8));
    assert_eq!(found.tokens_per_step, 4.0);
    let theory = (1.0 - 0.8_f64.powi(6)) / 0.2 / 1.75;
    let predicted = found.predicted_speedup.expect("drafted");
    assert!((predicted - theory).abs() < 1e-9, "{predicted} {theory}");
    assert_eq!(found.identical, Some(true));
    assert_eq!(found.tokens.len(), 202);
    assert_eq!(found.baseline_sha256, found.speculative_sha256);
    // SHA-256 of 101 times 03 00 00 00.
    assert_eq!(
        found.by_prompt[0].baseline_sha256,
        "e5fbac0ec3c779d060cc180b154b7f498453ca4ef209d72d3eee5062e764d253"
    );
    assert!(found.advice.on, "{}", found.advice.words);
    assert_eq!(found.advice.k, DraftLength::AUTO);

    let charts = speculation_charts(&found, "Target");
    assert_eq!(charts.len(), 2, "no chart by k without a sweep");
    assert_eq!(
        charts[0].x.categories,
        [kind_name(PromptKind::Chat), "Own prompt 1"]
    );
    assert_eq!(charts[0].series[0].points[0].hi, Some(2.5));
}

#[test]
fn advice_goes_by_the_repeats_and_by_what_else_was_tried() {
    let head = SpeculationReport {
        k: DraftLength::Fixed(5),
        ..SpeculationReport::default()
    };
    // One repeat says that it is slower.
    let unsure = of(vec![prompt(&[10.0, 10.0, 10.0], &[9.0, 9.0, 11.0])], &head);
    assert!(!unsure.advice.on, "{}", unsure.advice.words);
    let mut tried = prompt(&[10.0], &[12.0]);
    tried.tried = vec![
        Tried {
            k: 2,
            timing: timing(5.0),
            counts: counts(),
        },
        Tried {
            k: 4,
            timing: timing(8.0),
            counts: counts(),
        },
    ];
    let other = of(vec![tried], &head);
    assert_eq!(other.by_k.len(), 2);
    assert_eq!((other.by_k[0].k, other.by_k[0].speedup), (2, 2.0));
    assert!(other.advice.on && other.advice.k == DraftLength::Fixed(2));
    assert!(
        other
            .advice
            .words
            .contains("2 tokens drafted at a time, tried once"),
        "{}",
        other.advice.words
    );
    assert_eq!(speculation_charts(&other, "Target").len(), 3);

    let mut differs = prompt(&[10.0], &[2.0]);
    differs.identical = Some(false);
    differs.first_difference = Some(17);
    let told = of(vec![prompt(&[10.0], &[2.0]), differs], &head);
    assert_eq!(told.identical, Some(false));
    assert_eq!(told.by_prompt[1].first_difference, Some(17));
    assert!(!told.advice.on && told.advice.words.contains("differs"));

    let mut drawn = prompt(&[10.0], &[2.0]);
    drawn.identical = None;
    let told = of(vec![drawn], &head);
    assert_eq!(told.identical, None);
    assert!(told.advice.words.contains("same distribution"));
}

#[test]
fn texts_of_one_token_are_refused_with_the_next_step() {
    let mut short = prompt(&[1.0], &[1.0]);
    for timing in short.plain.iter_mut().chain(&mut short.speculative) {
        timing.tokens = 0;
    }
    let found = Speculated {
        pieces: vec![Vec::new()],
        outcome: Outcome {
            prompts: vec![short],
            other_cores_busy: None,
            notes: Vec::new(),
            seconds: 1.0,
        },
    };
    let asked = [Asked {
        kind: PromptKind::Chat,
        prompt: "asked".to_owned(),
    }];
    let error = report(&SpeculationReport::default(), &asked, found).expect_err("nothing timed");
    assert!(error.message.contains("--raw"), "{}", error.message);
}

#[test]
fn every_kind_of_the_lab_has_a_prompt() {
    let prompts = crate::Workbench::lab_prompts();
    assert_eq!(prompts.len(), 5);
    assert!(prompts.iter().all(|prompt| prompt.text.len() > 40));
    assert_eq!(prompt_of(PromptKind::Own), None);
}
