//! A training process that is killed at any moment, again and again, ends where an undisturbed one does.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use billion_llm::load::ModelFiles;
use billion_lora::dataset::Example;
use billion_lora::train::{
    CHECKPOINT_FILE, TrainEvent, TrainOptions, TrainOutcome, TrainingRows, train,
};

/// Names the folder of the run to a process that is to be killed.
const FOLDER: &str = "BILLION_TEST_KILLED_RUN";

/// Longer between steps than a step and its checkpoint take, so that kills fall on both.
const PAUSE: Duration = Duration::from_millis(4);

fn run(folder: &Path, pause: Duration) -> TrainOutcome {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm/tests/fixtures/families/pythia");
    let files = ModelFiles::open(&model).expect("a committed model");
    let rows: Vec<Example> = (1..=9_u32)
        .map(|row| Example {
            tokens: (0..12).map(|i| (row * 17 + i * i * 7) % 100).collect(),
            scored: (0..12).map(|i| i > 3).collect(),
            row,
        })
        .collect();
    let options = TrainOptions {
        epochs: 10,
        batch: 2,
        dropout: 0.1,
        targets: vec!["all-linear".to_owned()],
        checkpoint_every: Some(1),
        eval_every: Some(7),
        ..TrainOptions::default()
    };
    let rows = TrainingRows {
        train: &rows[2..],
        held_out: &rows[..2],
    };
    train(&files, rows, &options, (folder, true), &mut |event| {
        if matches!(event, TrainEvent::Step(_)) {
            std::thread::sleep(pause);
        }
        ControlFlow::Continue(())
    })
    .expect("a run that goes on")
}

#[test]
fn a_run_killed_again_and_again_is_the_undisturbed_one() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        run(Path::new(&folder), PAUSE);
        return;
    }
    let whole = tempfile::tempdir().expect("a folder");
    let expected = run(whole.path(), Duration::ZERO);
    assert_eq!(expected.steps, 40);

    let killed = tempfile::tempdir().expect("a folder");
    let mut kills = 0;
    for wait in (0..40_u64).map(|i| 30 + i * 37 % 90) {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "a_run_killed_again_and_again_is_the_undisturbed_one",
            ])
            .env(FOLDER, killed.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test once more");
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().expect("its state").is_some() {
            break;
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        kills += 1;
    }
    println!("killed {kills} times");
    assert!(kills > 0);
    let found = run(killed.path(), Duration::ZERO);
    assert_eq!(found.losses, expected.losses);
    assert_eq!(found.held_out, expected.held_out);
    assert_eq!(found.adapter, expected.adapter);
    let bytes = |folder: &Path| std::fs::read(folder.join(CHECKPOINT_FILE)).expect("a checkpoint");
    assert!(bytes(killed.path()) == bytes(whole.path()));
}
