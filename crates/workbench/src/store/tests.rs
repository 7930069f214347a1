//! The store on a folder of its own.

use super::*;
use crate::api::{
    ChatTurn, ErrorCode, JobState, Rate, Reply, ReplyOptions, ScorecardRequest, ScorecardSize,
};
use crate::requests::{EngineOptions, JobProgress};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn run(job: u32) -> NewRun {
    NewRun {
        task: "mmlu".to_owned(),
        model: "m".to_owned(),
        name: "M".to_owned(),
        path: "/m".to_owned(),
        sha256: "0".repeat(64),
        quant: "Q4_1".to_owned(),
        params: 7,
        task_version: "1".to_owned(),
        shots: 0,
        seed: 0,
        hardware: "a machine".to_owned(),
        isa: "scalar".to_owned(),
        threads: 2,
        settings: serde_json::json!({ "limit": 3 }),
        command: "billion".to_owned(),
        scorecard: None,
        job,
    }
}

fn sample(index: usize, pred: char) -> crate::worker::MmluSample {
    crate::worker::MmluSample {
        subject: "anatomy".to_owned(),
        index,
        ll: [-1.25, -2.0, -3.0, -0.1],
        pred,
        gold: 'D',
        correct: pred == 'D',
    }
}

#[test]
fn a_run_without_its_model_hash_is_refused() {
    let (_dir, store) = open();
    for broken in [
        NewRun {
            sha256: String::new(),
            ..run(1)
        },
        NewRun {
            quant: String::new(),
            ..run(1)
        },
        NewRun {
            task_version: String::new(),
            ..run(1)
        },
        NewRun {
            hardware: String::new(),
            ..run(1)
        },
    ] {
        assert!(store.begin_run(&broken).is_err());
    }
    assert!(store.runs(RunFilter::default()).unwrap().is_empty());
}

#[test]
fn samples_come_back_as_stored_and_open_runs_are_found_again() {
    let (dir, store) = open();
    let id = store.begin_run(&run(4)).unwrap();
    for (index, pred) in [(1, 'A'), (0, 'D')] {
        store.add_sample(id, &sample(index, pred)).unwrap();
    }
    let other = Store::open(dir.path()).unwrap();
    assert_eq!(other.samples(id).unwrap(), [sample(0, 'D'), sample(1, 'A')]);
    assert_eq!(other.open_run(4, &run(4)).unwrap(), Some(id));
    assert_eq!(other.open_run(5, &run(5)).unwrap(), None, "another job's");
    let changed = NewRun {
        sha256: "1".repeat(64),
        ..run(4)
    };
    assert_eq!(other.open_run(4, &changed).unwrap(), None, "another file");
    store
        .finish_run(id, 0, &serde_json::json!({ "accuracy": 0.5 }))
        .unwrap();
    assert_eq!(other.open_run(4, &run(4)).unwrap(), None, "finished");
    assert!(store.delete_run(id).unwrap());
    assert!(other.samples(id).unwrap().is_empty());
}

#[test]
fn a_job_is_interrupted_only_when_its_process_is_gone() {
    let (_dir, store) = open();
    let new = NewJob {
        title: "a job",
        work: &serde_json::json!({}),
        model: None,
        scorecard: None,
        pausable: true,
    };
    let mine = store.new_job(&new).unwrap();
    let dead = store.new_job(&new).unwrap();
    store
        .write(|c| {
            c.execute(
                "UPDATE jobs SET owner_started_at = 12345, state = 'running' WHERE id = ?1",
                [dead],
            )
        })
        .unwrap();
    let states: Vec<JobState> = store.jobs().unwrap().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Interrupted, JobState::Queued]);
    assert!(!store.take_job(mine).unwrap(), "someone works on it");
    assert!(store.take_job(dead).unwrap());
    assert!(!store.dismiss_job(mine).unwrap());
    store.request_stop(mine, Stop::Pause).unwrap();
    assert_eq!(store.asked_to_stop(mine).unwrap(), Some(Stop::Pause));
    store.request_stop(mine, Stop::Cancel).unwrap();
    let rate = Rate {
        per_s: 4.25,
        unit: "questions".to_owned(),
    };
    let progress = JobProgress {
        step: "x".to_owned(),
        rate: Some(rate.clone()),
        ..JobProgress::default()
    };
    assert!(
        store
            .progress_job(mine, JobState::Running, &progress)
            .unwrap(),
        "cancel was asked for"
    );
    let told = store.job::<serde_json::Value>(mine).unwrap().job;
    assert_eq!((told.rate, told.pausable), (Some(rate), true));
    store
        .finish_job(mine, JobState::Paused, "paused", None)
        .unwrap();
    let paused = store.job::<serde_json::Value>(mine).unwrap().job;
    assert_eq!((paused.state, paused.rate), (JobState::Paused, None));
    assert!(store.take_job(mine).unwrap(), "a paused job goes on");
    assert_eq!(store.asked_to_stop(mine).unwrap(), None);
    store
        .finish_job(mine, JobState::Cancelled, "cancelled", None)
        .unwrap();
    assert!(store.dismiss_job(mine).unwrap());
    assert_eq!(store.jobs().unwrap().len(), 1);
}

#[test]
fn chats_are_found_by_title_and_text_in_any_case() {
    let (_dir, store) = open();
    let id = store
        .new_chat("Über Berge", &["m".to_owned()], &ReplyOptions::default())
        .unwrap();
    store
        .put_turn(
            id,
            0,
            &ChatTurn::User {
                text: "Wie hoch?".to_owned(),
            },
        )
        .unwrap();
    let reply = Reply {
        model: "m".to_owned(),
        text: "4.810 METER".to_owned(),
        prompt_tokens: 1,
        tokens: 2,
        ttft_s: Some(0.1),
        tokens_per_s: None,
        finish_reason: "stop".to_owned(),
        speculation: None,
        error: None,
    };
    store
        .put_turn(
            id,
            1,
            &ChatTurn::Replies {
                replies: vec![reply],
            },
        )
        .unwrap();
    for (search, found) in [("", 1), ("über", 1), ("meter", 1), ("50 %", 0), ("see", 0)] {
        assert_eq!(store.chats(search).unwrap().len(), found, "{search:?}");
    }
    assert_eq!(store.chat(id).unwrap().turns.len(), 2);
    store
        .change_chat(id, "t", &["m".to_owned()], &ReplyOptions::default(), 1)
        .unwrap();
    assert_eq!(store.chat(id).unwrap().turns.len(), 1);
    store.delete_chat(id).unwrap();
    assert!(store.chat(id).is_err());
    assert!(
        !store
            .put_turn(
                id,
                1,
                &ChatTurn::User {
                    text: "late".to_owned()
                }
            )
            .unwrap()
    );
}

#[test]
fn notes_and_scorecards_are_kept() {
    let (_dir, store) = open();
    let request = ScorecardRequest {
        models: vec!["a".to_owned()],
        size: ScorecardSize::Quick,
        stop_at_half_width: None,
        mmlu: None,
    };
    let id = store
        .new_scorecard(&request, &EngineOptions::default(), "a machine")
        .unwrap();
    store.note(id, "a", "mmlu", Some("why")).unwrap();
    assert_eq!(store.notes(id).unwrap().len(), 1);
    store.note(id, "a", "mmlu", None).unwrap();
    assert!(store.notes(id).unwrap().is_empty());
    assert_eq!(store.scorecard(id).unwrap().models, ["a"]);
    assert!(store.scorecard(id + 1).is_err());
}

#[test]
fn a_damaged_a_newer_and_a_foreign_store_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let refused = |words: &str| {
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Failed);
        assert!(
            error.message.contains(words) && error.message.contains("nothing was changed"),
            "{}",
            error.message
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    };
    std::fs::write(&path, "this is no database, but a text that is long enough to hold a header of one hundred bytes, and more").unwrap();
    refused("damaged or no database");
    std::fs::remove_file(&path).unwrap();
    {
        let foreign = Connection::open(&path).unwrap();
        foreign
            .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
            .unwrap();
    }
    refused("another program");
    std::fs::remove_file(&path).unwrap();
    drop(Store::open(dir.path()).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    refused("newer Billion (version 99");
}

#[test]
fn two_open_a_fresh_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let opened: Vec<Store> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Store::open(dir.path()).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let before = opened[1].data_version().unwrap();
    opened[0]
        .save_settings(&crate::api::Settings {
            threads: Some(3),
            ..Default::default()
        })
        .unwrap();
    assert_ne!(opened[1].data_version().unwrap(), before);
    assert_eq!(opened[1].settings().unwrap().threads, Some(3));
}

#[test]
fn hashes_are_known_while_size_and_time_are_the_same() {
    let (_dir, store) = open();
    store.keep_hash("/m", 10, 5, "abc").unwrap();
    assert_eq!(
        store.known_hash("/m", 10, 5).unwrap().as_deref(),
        Some("abc")
    );
    assert_eq!(store.known_hash("/m", 11, 5).unwrap(), None);
    assert_eq!(store.known_hash("/m", 10, 6).unwrap(), None);
}
