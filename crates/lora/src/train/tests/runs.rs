//! Whole runs on tiny models: learnt by heart, resumed, stopped, broken.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::fixtures::{CASES, model};
use crate::Error;
use crate::dataset::Example;
use crate::train::{
    CHECKPOINT_FILE, Ending, Recompute, Schedule, TrainEvent, TrainOptions, TrainOutcome,
    TrainingRows, evaluate, forecast, train,
};

fn rows(count: u32, len: usize, seed: u32) -> Vec<Example> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    (1..=count)
        .map(|row| {
            let len = len + row as usize % 5;
            Example {
                tokens: (0..len).map(|_| next() % 100).collect(),
                scored: (0..len).map(|i| i > len / 3).collect(),
                row,
            }
        })
        .collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        alpha: 8.0,
        dropout: 0.1,
        targets: vec!["all-linear".to_owned()],
        learning_rate: 5e-3,
        batch: 2,
        accumulate: 2,
        epochs: 3,
        threads: Some(2),
        ..TrainOptions::default()
    }
}

/// Trains; stops behind step `stop` and may resume.
fn run(
    name: &str,
    (rows, held_out): (&[Example], &[Example]),
    options: &TrainOptions,
    (folder, resume): (&Path, bool),
    stop: Option<u32>,
) -> Result<(TrainOutcome, Vec<TrainEvent>), Error> {
    let mut events = Vec::new();
    let rows = TrainingRows {
        train: rows,
        held_out,
    };
    let files = model(name);
    let outcome = train(&files, rows, options, (folder, resume), &mut |event| {
        let at_stop = matches!(&event, TrainEvent::Step(step) if Some(step.step) == stop);
        events.push(event);
        if at_stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok((outcome, events))
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions {
        epochs: 250,
        rank: 16,
        alpha: 32.0,
        dropout: 0.0,
        learning_rate: 2e-2,
        accumulate: 1,
        ..options()
    };
    let rows = rows(2, 8, 3);
    for (_, name) in CASES {
        let (outcome, _) = run(name, (&rows, &[]), &options, (folder.path(), false), None).unwrap();
        let ((_, first), (_, last)) = (outcome.losses[0], outcome.losses[outcome.losses.len() - 1]);
        // Heads of 32 random numbers a token, which are frozen, cannot tell 288 tokens apart with more certainty.
        assert!(
            last < 0.35 && last < first / 15.0,
            "{name}: {first} to {last}"
        );
        // What is returned is what was learnt, also in the row order of its file.
        let kept = evaluate(&model(name), &rows, Some(&outcome.adapter), &options).unwrap();
        assert!((kept - last).abs() < 0.01, "{name}: {kept}");
    }
}

#[test]
fn the_starter_model_learns_a_batch_by_heart_and_resumes() {
    let options = TrainOptions {
        epochs: 30,
        targets: Vec::new(),
        dropout: 0.0,
        learning_rate: 4e-3,
        warmup: 0.0,
        schedule: Schedule::Constant,
        accumulate: 1,
        ..options()
    };
    // Its first hundred tokens mean nothing to the model.
    let mut rows = rows(2, 10, 3);
    for token in rows.iter_mut().flat_map(|row| &mut row.tokens) {
        *token = 300 + 97 * *token;
    }
    let name = "../../../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf";
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [whole, parts] = folders.each_ref().map(tempfile::TempDir::path);
    let (outcome, _) = run(name, (&rows, &[]), &options, (whole, false), None).unwrap();
    let losses: Vec<f64> = outcome.losses.iter().map(|(_, loss)| *loss).collect();
    assert!(losses[losses.len() - 1] < 0.05, "{losses:?}");
    // In the arithmetic of quantized weights too, a resumed run is the undisturbed one.
    run(name, (&rows, &[]), &options, (parts, false), Some(17)).unwrap();
    let (resumed, _) = run(name, (&rows, &[]), &options, (parts, true), None).unwrap();
    assert_eq!(resumed.losses, outcome.losses);
    assert_eq!(resumed.adapter, outcome.adapter);
}

#[test]
fn a_resumed_run_is_the_undisturbed_one() {
    let (rows, held_out) = (rows(11, 9, 1), rows(3, 9, 2));
    for recompute in [Recompute::None, Recompute::EveryBlock] {
        for name in ["gqa", "families/pythia", "families/stablelm_12b"] {
            let options = TrainOptions {
                recompute,
                checkpoint_every: Some(2),
                eval_every: Some(3),
                ..options()
            };
            let whole = tempfile::tempdir().unwrap();
            let sets = (&rows[..], &held_out[..]);
            let (expected, events) =
                run(name, sets, &options, (whole.path(), false), None).unwrap();
            assert_eq!((expected.steps, &expected.ending), (9, &Ending::Finished));
            let forecasts = events
                .iter()
                .filter(|e| matches!(e, TrainEvent::Forecast(_)));
            assert_eq!(forecasts.count(), 1);

            let parts = tempfile::tempdir().unwrap();
            let folder = parts.path();
            let (first, _) = run(name, sets, &options, (folder, false), Some(3)).unwrap();
            assert_eq!((first.steps, first.ending), (3, Ending::Stopped));
            let (_, _) = run(name, sets, &options, (folder, true), Some(7)).unwrap();
            let (last, events) = run(name, sets, &options, (folder, true), None).unwrap();
            assert!(matches!(events[0], TrainEvent::Resumed { step: 7, .. }));
            assert_eq!(last.losses, expected.losses, "{name}");
            assert_eq!(last.held_out, expected.held_out, "{name}");
            assert_eq!(last.adapter, expected.adapter, "{name}");
        }
    }
}

#[test]
fn a_checkpoint_is_whole_or_the_one_before() {
    let rows = rows(11, 9, 1);
    let options = TrainOptions {
        checkpoint_every: Some(2),
        ..options()
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sets = (&rows[..], &[][..]);
    let (expected, _) = run("gqa", sets, &options, (folder, false), None).unwrap();
    fs::remove_file(folder.join(CHECKPOINT_FILE)).unwrap();
    run("gqa", sets, &options, (folder, false), Some(4)).unwrap();
    let path = folder.join(CHECKPOINT_FILE);
    let fourth = fs::read(&path).unwrap();

    // A disk that takes no more: here, a folder where the temporary file should be.
    let temporary = path.with_extension("tmp");
    fs::create_dir(&temporary).unwrap();
    let error = run("gqa", sets, &options, (folder, true), None).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert!(fs::read(&path).unwrap() == fourth);
    fs::remove_dir(&temporary).unwrap();

    // What a killed process left half written does not matter.
    fs::write(&temporary, &fourth[..fourth.len() / 2]).unwrap();
    let (resumed, _) = run("gqa", sets, &options, (folder, true), None).unwrap();
    assert_eq!(resumed.losses, expected.losses);
    assert_eq!(resumed.adapter, expected.adapter);

    let refused = |bytes: &[u8], options: &TrainOptions, rows: &[Example]| {
        fs::write(&path, bytes).unwrap();
        let error = run("gqa", (rows, &[]), options, (folder, true), None).unwrap_err();
        error.to_string()
    };
    for len in [0, 7, 100, fourth.len() - 1] {
        let error = refused(&fourth[..len], &options, &rows);
        assert!(error.contains("no whole checkpoint"), "{len}: {error}");
    }
    let other = TrainOptions {
        learning_rate: 1.0,
        ..options.clone()
    };
    assert!(refused(&fourth, &other, &rows).contains("other options"));
    assert!(refused(&fourth, &options, &rows[1..]).contains("other rows"));
    let same = TrainOptions {
        threads: Some(1),
        checkpoint_every: None,
        ..options.clone()
    };
    fs::write(&path, &fourth).unwrap();
    let (resumed, _) = run("gqa", sets, &same, (folder, true), None).unwrap();
    assert_eq!(resumed.adapter, expected.adapter);
}

#[test]
fn a_run_that_diverges_says_why_and_keeps_what_was_good() {
    let (rows, held_out) = (rows(8, 9, 1), rows(2, 9, 2));
    let options = TrainOptions {
        learning_rate: 1e30,
        warmup: 0.0,
        ..options()
    };
    let folder = tempfile::tempdir().unwrap();
    let sets = (&rows[..], &held_out[..]);
    let (outcome, _) = run("gqa", sets, &options, (folder.path(), false), None).unwrap();
    let Ending::Diverged { explanation } = &outcome.ending else {
        panic!("{:?}", outcome.ending)
    };
    assert!(explanation.contains("learning rate"), "{explanation}");
    let loss = evaluate(&model("gqa"), &rows, Some(&outcome.adapter), &options).unwrap();
    assert!(loss.is_finite(), "{loss}");
}

#[test]
fn a_run_without_improvement_stops_and_keeps_the_best() {
    let (rows, held_out) = (rows(4, 9, 1), rows(4, 9, 77));
    let options = TrainOptions {
        epochs: 200,
        learning_rate: 2e-2,
        eval_every: Some(2),
        patience: Some(3),
        ..options()
    };
    let folder = tempfile::tempdir().unwrap();
    let sets = (&rows[..], &held_out[..]);
    let (outcome, _) = run("gqa", sets, &options, (folder.path(), false), None).unwrap();
    assert_eq!(outcome.ending, Ending::NoImprovement);
    let best = outcome
        .held_out
        .iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert_eq!(outcome.best_step, best.0);
    assert_eq!(outcome.steps, best.0 + 6);
    let kept = evaluate(&model("gqa"), &held_out, Some(&outcome.adapter), &options).unwrap();
    assert!((kept - best.1).abs() < 1e-9, "{kept}, seen {}", best.1);
    let base = evaluate(&model("gqa"), &held_out, None, &options).unwrap();
    assert_eq!(base.to_bits(), outcome.held_out[0].1.to_bits());
}

#[test]
fn a_forecast_knows_the_run() {
    let (rows, held_out) = (rows(9, 9, 1), rows(2, 9, 2));
    let set = TrainingRows {
        train: &rows,
        held_out: &held_out,
    };
    let told = forecast(&model("gqa"), set, &options()).unwrap();
    assert_eq!(told.steps, 9);
    assert_eq!(
        told.tokens,
        3 * rows.iter().map(|r| r.tokens.len() as u64).sum::<u64>()
    );
    assert!(told.seconds > 0.0 && told.peak_bytes > 0 && told.tokens_per_s > 0.0);
    assert!(told.trainable_params > 0 && told.share > 0.0 && told.share < 1.0);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let rows = rows(3, 9, 1);
    let folder = tempfile::tempdir().unwrap();
    let refused = |rows: &[Example], change: &dyn Fn(&mut TrainOptions)| {
        let mut options = options();
        change(&mut options);
        let error = run("gqa", (rows, &[]), &options, (folder.path(), false), None).unwrap_err();
        error.to_string()
    };
    let same = |_: &mut TrainOptions| ();
    assert!(refused(&[], &same).contains("none of 0 rows"));
    let mut outside = rows.clone();
    outside[1].tokens[2] = 1_000_000;
    assert!(refused(&outside, &same).contains("row 2: token 1000000"));
    assert!(refused(&rows, &|o| o.rank = 0).contains("rank is 0"));
    assert!(refused(&rows, &|o| o.learning_rate = f32::NAN).contains("learning_rate"));
    assert!(refused(&rows, &|o| o.dropout = 1.0).contains("dropout 1"));
    assert!(refused(&rows, &|o| o.targets = vec!["nose".into()]).contains("nose"));
    assert!(refused(&rows, &|o| o.memory_bytes = Some(1000)).contains("MB"));
    assert!(refused(&rows, &|o| o.device = "abacus".into()).contains("abacus"));
    assert!(refused(&rows, &|o| o.max_len = Some(2)).contains("first 2"));
}
