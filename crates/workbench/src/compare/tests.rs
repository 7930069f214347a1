//! Comparisons of runs in a store of their own: flips, changes, and what should not be compared.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::facade::OpenOptions;
use crate::reports::{MmluPart, MmluReport, SpeedReport, Spread};
use crate::store::NewRun;
use crate::worker::MmluSample;

fn open() -> (tempfile::TempDir, Arc<Workbench>) {
    let dir = tempfile::tempdir().unwrap();
    let workbench = Workbench::open(OpenOptions {
        data_dir: Some(dir.path().to_owned()),
        engine: Some(dir.path().join("billion")),
        resource_dir: None,
        hub: None,
    })
    .unwrap();
    (dir, workbench)
}

fn new_run(task: &str, model: &str) -> NewRun {
    NewRun {
        task: task.to_owned(),
        model: model.to_owned(),
        name: model.to_uppercase(),
        path: format!("/models/{model}.gguf"),
        sha256: "0".repeat(64),
        quant: "Q4_0".to_owned(),
        params: 1_000_000,
        task_version: format!("{task} 1"),
        shots: 0,
        seed: 0,
        hardware: "a machine".to_owned(),
        isa: "avx2".to_owned(),
        threads: 2,
        settings: json!({ "limit": 4, "data_sha256": "d" }),
        command: format!("billion bench {task} --model {model}"),
        scorecard: None,
        job: 0,
    }
}

/// Stores a finished MMLU run of one subject in which the questions of `right` were answered right.
fn mmlu(workbench: &Workbench, run: &NewRun, total: u32, right: &[u32]) -> u32 {
    let id = workbench.store.begin_run(run).unwrap();
    for index in 0..total {
        let good = right.contains(&index);
        let ll = if good {
            [-2.0, -1.0, -3.0, -4.0]
        } else {
            [-1.0, -2.0, -3.0, -4.0]
        };
        workbench
            .store
            .add_sample(id, &MmluSample::new("astronomy", index as usize, ll, 1))
            .unwrap();
    }
    let part = MmluPart {
        accuracy: right.len() as f64 / f64::from(total),
        correct: right.len() as u32,
        total,
        shots: Some(0),
        stderr: None,
    };
    let report = MmluReport {
        run: id,
        model: run.model.clone(),
        accuracy: part.accuracy,
        correct: part.correct,
        total,
        ci95: [0.0, 1.0],
        by_subject: BTreeMap::from([("astronomy".to_owned(), part.clone())]),
        by_group: BTreeMap::from([("stem".to_owned(), part)]),
        shots: run.shots,
        prompt_tokens_computed: 1000,
        truncated: 0,
        stderr: None,
        stopped_early: None,
        notes: Vec::new(),
        seconds: 2.0,
    };
    workbench.store.finish_run(id, run.shots, &report).unwrap();
    id
}

fn speed(workbench: &Workbench, run: &NewRun, decode: f64) -> u32 {
    let id = workbench.store.begin_run(run).unwrap();
    let spread = |median: f64| Spread {
        median,
        min: median,
        max: median,
        runs: vec![median],
        outliers: Vec::new(),
    };
    let report = SpeedReport {
        run: id,
        model: run.model.clone(),
        prefill_tokens_per_s: spread(100.0),
        decode_tokens_per_s: spread(decode),
        ttft_s: 0.5,
        load_s: 0.1,
        device: "cpu".to_owned(),
        threads: 2,
        isa: "avx2".to_owned(),
        prompt: 16,
        generate: 8,
        batch: 1,
        depth: 0,
        other_cores_busy: None,
        notes: Vec::new(),
    };
    workbench.store.finish_run(id, 0, &report).unwrap();
    id
}

fn row<'a>(comparison: &'a RunComparison, label: &str) -> &'a ComparedRow {
    comparison
        .rows
        .iter()
        .find(|row| row.label == label)
        .unwrap_or_else(|| panic!("{label} of {:?}", comparison.rows))
}

#[test]
fn flips_counts_and_verdict_agree() {
    let (_dir, workbench) = open();
    let right: Vec<u32> = (0..10).collect();
    let a = mmlu(&workbench, &new_run("mmlu", "a"), 12, &right);
    let b = mmlu(&workbench, &new_run("mmlu", "b"), 12, &[9, 10]);
    let got = workbench.compare_runs(a, b).unwrap();
    assert_eq!(
        (
            got.shared,
            got.both_right,
            got.only_a,
            got.only_b,
            got.both_wrong
        ),
        (12, 1, 9, 1, 1)
    );
    assert_eq!(got.flips.len(), 10);
    let first = &got.flips[0];
    assert_eq!(
        (
            first.name.as_str(),
            first.gold.as_str(),
            first.a.as_str(),
            first.b.as_str(),
            first.a_right
        ),
        ("astronomy, question 1", "B", "B", "A", true)
    );
    // 10 flips, 1 of them to the other side: 2 (1 + 10) / 2^10.
    assert!((got.p_value.unwrap() - 22.0 / 1024.0).abs() < 1e-12);
    let verdict = got.verdict.as_ref().unwrap();
    assert!(verdict.starts_with("A is better than B"), "{verdict}");
    assert_eq!(
        row(&got, "Accuracy").change.as_deref(),
        Some("−66.7 points")
    );
    assert_eq!(row(&got, "Right answers").change.as_deref(), Some("−8"));
    assert_eq!(row(&got, "Time").change, None, "the same");
    assert_eq!(row(&got, "Model").b, "B");
    assert!(
        got.rows.iter().all(|row| row.label != "Seed"),
        "the same fact"
    );
    assert_eq!(
        got.notes,
        ["Both runs are of the same weights under two names."]
    );
    let turned = workbench.compare_runs(b, a).unwrap();
    assert_eq!((turned.only_a, turned.only_b), (1, 9));
    assert!(turned.verdict.unwrap().starts_with("A is better than B"));
}

#[test]
fn a_quick_run_against_a_long_one_uses_what_they_share_and_says_so() {
    let (_dir, workbench) = open();
    let a = mmlu(&workbench, &new_run("mmlu", "a"), 4, &[0]);
    let long = NewRun {
        shots: 5,
        task_version: "mmlu 2".to_owned(),
        settings: json!({ "limit": null, "data_sha256": "d" }),
        ..new_run("mmlu", "a")
    };
    let b = mmlu(&workbench, &long, 40, &[0, 20]);
    let got = workbench.compare_runs(a, b).unwrap();
    assert_eq!((got.shared, got.flips.len()), (4, 0));
    assert!(
        got.verdict
            .unwrap()
            .contains("A (run 1) and A (run 2) cannot be told apart")
    );
    for says in [
        "The task changed",
        "0-shot",
        "different sets of questions",
        "the 4 questions that both answered; the longer run has 40",
    ] {
        assert!(
            got.notes.iter().any(|note| note.contains(says)),
            "{says}: {:?}",
            got.notes
        );
    }
}

#[test]
fn questions_of_other_files_are_not_taken_for_the_same_without_a_word() {
    let (_dir, workbench) = open();
    let a = mmlu(&workbench, &new_run("mmlu", "a"), 4, &[0]);
    let other = NewRun {
        settings: json!({ "limit": 4, "data_sha256": "e" }),
        ..new_run("mmlu", "b")
    };
    let b = mmlu(&workbench, &other, 4, &[0, 1]);
    let got = workbench.compare_runs(a, b).unwrap();
    assert!(
        got.notes.iter().any(|note| note.contains("may differ")),
        "{:?}",
        got.notes
    );

    let answer = |text: &str| Answer {
        name: String::new(),
        question: Some(text.to_owned()),
        gold: "A".to_owned(),
        chosen: "A".to_owned(),
        right: true,
    };
    let mut left: Sheet = [
        ("k0".to_owned(), answer("x")),
        ("k1".to_owned(), answer("y")),
    ]
    .into();
    let right: Sheet = [
        ("k0".to_owned(), answer("x")),
        ("k1".to_owned(), answer("z")),
    ]
    .into();
    let (first, second) = (
        workbench.store.run(a).unwrap(),
        workbench.store.run(b).unwrap(),
    );
    let note = keep_same_questions(&first, &second, &mut left, &right).unwrap();
    assert!(
        note.contains("1 question with the same place but another text was left out"),
        "{note}"
    );
    assert_eq!(left.len(), 1);
}

#[test]
fn speeds_change_by_ratio_and_machines_are_told() {
    let (_dir, workbench) = open();
    let a = speed(&workbench, &new_run("speed", "a"), 40.0);
    let other = NewRun {
        hardware: "another machine".to_owned(),
        threads: 8,
        ..new_run("speed", "a")
    };
    let b = speed(&workbench, &other, 50.0);
    let got = workbench.compare_runs(a, b).unwrap();
    assert_eq!(row(&got, "Generating").change.as_deref(), Some("+25.0 %"));
    assert_eq!((got.verdict, got.p_value, got.shared), (None, None, 0));
    assert!(got.notes[0].contains("The machines differ") && got.notes[1].contains("2 threads"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (_dir, workbench) = open();
    let a = mmlu(&workbench, &new_run("mmlu", "a"), 4, &[0]);
    let b = speed(&workbench, &new_run("speed", "a"), 40.0);
    let open = workbench.store.begin_run(&new_run("mmlu", "a")).unwrap();
    for (a, b, says) in [
        (a, b, "only runs of the same task"),
        (a, a, "cannot be compared with itself"),
        (a, 99, "there is no run 99"),
        (a, open, "is not finished"),
    ] {
        let error = workbench.compare_runs(a, b).unwrap_err();
        assert!(error.message.contains(says), "{}", error.message);
    }
}
