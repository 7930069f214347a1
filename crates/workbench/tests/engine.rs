//! The workbench over real worker processes and the starter model: chat, stop, a killed worker, an interrupted
//! benchmark.
//!
//! This program is its own engine: with `--engine-worker` it is a worker, with `--mmlu DATA REQUEST` a second process that
//! measures, and with `--resume DATA JOB` one that goes on. So it has a main function of its own instead of the test harness.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test; clippy only sees that where the harness is used"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billion_workbench::api::{
    ChatEvent, ChatSend, ChatTurn, DraftLength, Drafter, ErrorCode, Job, JobState, PromptKind,
    Reply, ReplyOptions, RunDetails, Scorecard, ScorecardRequest, ScorecardSize,
    SpeculationRequest,
};
use billion_workbench::{
    EngineOptions, MmluRequest, OpenOptions, ReplyRequest, SpeculateRequest, Workbench,
    run_engine_worker,
};

/// A cancelled worker is killed after two seconds; the rest is for a machine that is busy with other tests.
const STOPPED_WITHIN: Duration = Duration::from_secs(4);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--engine-worker"] => std::process::exit(run_engine_worker()),
        ["--mmlu", data, request] => {
            let request: MmluRequest = serde_json::from_str(request).unwrap();
            let done = open(Path::new(data)).bench_mmlu(&request, &mut |_| {});
            std::process::exit(i32::from(done.is_err()));
        }
        ["--resume", data, job] => {
            let workbench = open(Path::new(data));
            let job: u32 = job.parse().unwrap();
            // The process before this one may have been killed before the job was its own.
            let _ = workbench.resume_job(job);
            wait(&workbench, "the resumed job is done", |job| {
                job.state == JobState::Done
            });
            std::process::exit(0);
        }
        _ => {}
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let tests: [(&str, fn()); 10] = [
        ("a_chat_is_streamed_stored_edited_and_found", chat),
        ("a_stopped_reply_ends_soon_and_keeps_its_text", stop),
        ("a_killed_worker_is_said_and_the_next_reply_works", killed),
        ("a_paused_scorecard_goes_on_to_the_same_result", paused),
        (
            "an_interrupted_benchmark_resumes_to_the_same_result",
            resumed,
        ),
        (
            "an_mmlu_run_killed_at_random_moments_ends_alike",
            killed_often,
        ),
        ("a_template_that_runs_on_ends_with_its_worker", runs_on),
        ("drafts_change_no_reply_and_say_how_they_fare", drafted),
        ("a_pair_is_checked_measured_and_stored", pair),
        ("what_cannot_be_done_is_said", refused),
    ];
    let chosen = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if chosen.is_none_or(|part| name.contains(part.as_str())) {
            let start = Instant::now();
            test();
            println!(
                "test {name} ... ok ({:.1} s)",
                start.elapsed().as_secs_f64()
            );
        }
    }
}

fn open(data: &Path) -> Arc<Workbench> {
    Workbench::open(OpenOptions {
        data_dir: Some(data.to_owned()),
        engine: Some(std::env::current_exe().unwrap()),
        resource_dir: None,
        hub: None,
    })
    .unwrap()
}

fn send(text: &str, max_tokens: u32) -> ChatSend {
    ChatSend {
        chat: None,
        models: vec!["starter".to_owned()],
        keep_turns: None,
        text: Some(text.to_owned()),
        options: ReplyOptions {
            max_tokens,
            ..ReplyOptions::default()
        },
    }
}

/// The first question of a chat, answered again.
fn again(chat: u32, max_tokens: u32) -> ChatSend {
    ChatSend {
        chat: Some(chat),
        keep_turns: Some(1),
        text: None,
        ..send("", max_tokens)
    }
}

/// Sends and returns the events.
fn answer(workbench: &Workbench, send: &ChatSend) -> Vec<ChatEvent> {
    let mut events = Vec::new();
    workbench
        .send_chat(send, &mut |event| events.push(event))
        .unwrap();
    events
}

fn finished(events: &[ChatEvent]) -> Vec<&Reply> {
    events
        .iter()
        .filter_map(|event| match event {
            ChatEvent::Finished { reply, .. } => Some(reply),
            _ => None,
        })
        .collect()
}

fn saved(events: &[ChatEvent]) -> u32 {
    let ChatEvent::Saved { chat, .. } = &events[0] else {
        panic!("{:?}", events[0])
    };
    *chat
}

fn first_reply(workbench: &Workbench, chat: u32) -> Reply {
    match &workbench.chat(chat).unwrap().turns[1] {
        ChatTurn::Replies { replies } => replies[0].clone(),
        ChatTurn::User { .. } => panic!("a question where its answer belongs"),
    }
}

fn chat() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let events = answer(&workbench, &send("What is the capital of France?", 24));
    let chat = saved(&events);
    let reply = finished(&events)[0];
    assert_eq!(reply.error, None);
    assert!(reply.text.contains("Paris"), "{:?}", reply.text);
    assert!(reply.tokens > 1 && reply.tokens_per_s.unwrap() > 0.0 && reply.ttft_s.unwrap() > 0.0);
    let streamed: String = events
        .iter()
        .filter_map(|event| match event {
            ChatEvent::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(streamed, reply.text);
    let happened = |what: &dyn Fn(&ChatEvent) -> bool| events.iter().any(what);
    assert!(happened(&|event| matches!(
        event,
        ChatEvent::Loading { column: 0 }
    )));
    assert!(happened(
        &|event| matches!(event, ChatEvent::Reading { done, total, .. } if done == total)
    ));
    assert!(matches!(events.last(), Some(ChatEvent::Done)));

    // A second turn, then the first question again: the same greedy answer, from the same worker.
    let more = ChatSend {
        chat: Some(chat),
        ..send("And of Italy?", 12)
    };
    let second = answer(&workbench, &more);
    let loads = |event: &ChatEvent| matches!(event, ChatEvent::Loading { .. });
    assert!(!second.iter().any(loads), "the worker is kept");
    assert!(finished(&second)[0].prompt_tokens > reply.prompt_tokens + reply.tokens);
    let third = answer(&workbench, &again(chat, 24));
    assert_eq!(finished(&third)[0].text, reply.text);

    let stored = workbench.chat(chat).unwrap();
    assert_eq!(stored.title, "What is the capital of France?");
    assert_eq!(stored.turns.len(), 2);
    assert_eq!(first_reply(&workbench, chat).text, reply.text);
    assert_eq!(workbench.chats("PARIS").unwrap().len(), 1);
    assert!(workbench.chats("Madrid").unwrap().is_empty());

    // Two columns are answered one after the other, each in its own place.
    let both = ChatSend {
        models: vec!["starter".to_owned(), "smollm2".to_owned()],
        ..send("Say yes.", 6)
    };
    let compared = answer(&workbench, &both);
    let replies = finished(&compared);
    assert_eq!(replies.len(), 2);
    assert_eq!(
        replies[0].text, replies[1].text,
        "the same model under two names"
    );
    workbench.delete_chat(chat).unwrap();
    assert_eq!(workbench.chats("").unwrap().len(), 1);
}

/// The starter model under another path: a draft that is always right.
fn twin(folder: &Path) -> String {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
    let twin = folder.join("twin.gguf");
    std::fs::copy(starter, &twin).unwrap();
    twin.display().to_string()
}

fn tiny() -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm/tests/fixtures/gqa.gguf");
    fixture.display().to_string()
}

fn drafted() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let question = "Say the sentence \"the cat sat on the mat\" five times.";
    let with = |draft: Option<Drafter>| {
        let mut send = send(question, 48);
        send.options.draft = draft;
        let events = answer(&workbench, &send);
        let live = events.iter().any(
            |event| matches!(event, ChatEvent::Text { speculation: Some(s), .. } if s.drafted > 0),
        );
        (finished(&events)[0].clone(), saved(&events), live)
    };
    let (plain, ..) = with(None);
    assert_eq!(plain.speculation, None);

    let (lookup, chat, live) = with(Some(Drafter::Lookup));
    assert_eq!(lookup.text, plain.text);
    let fared = lookup.speculation.unwrap();
    assert_eq!(fared.draft, "prompt lookup");
    assert!(fared.accepted <= fared.drafted && fared.problem.is_none());
    assert!(live && fared.drafted > 0, "{fared:?}");
    // It stays with the chat.
    let stored = workbench.chat(chat).unwrap();
    assert_eq!(stored.options.draft, Some(Drafter::Lookup));

    let model = Drafter::Model {
        model: twin(dir.path()),
    };
    let (twin, ..) = with(Some(model));
    assert_eq!(twin.text, plain.text);
    let fared = twin.speculation.unwrap();
    assert!(
        fared.drafted > 0 && fared.accepted == fared.drafted,
        "the same model is always right: {fared:?}"
    );
    let (again, ..) = with(None);
    assert_eq!((again.text, again.speculation), (plain.text.clone(), None));

    // A draft that cannot be one is no reason not to answer.
    for model in [tiny(), "starter".to_owned(), "/nowhere.gguf".to_owned()] {
        let (reply, ..) = with(Some(Drafter::Model {
            model: model.clone(),
        }));
        assert_eq!(reply.text, plain.text, "{model}");
        let problem = reply.speculation.unwrap().problem.unwrap();
        assert!(!problem.is_empty(), "{model}");
    }
}

fn pair() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let model = |model: String| Drafter::Model { model };
    let check = |drafter: &Drafter| workbench.check_pair("starter", drafter).unwrap();
    assert!(check(&Drafter::Lookup).works);
    let other = check(&model(tiny()));
    let problem = other.problem.unwrap();
    assert!(!other.works && other.notes.is_empty());
    assert!(
        problem.contains("token ") && problem.contains("tokens differ"),
        "{problem}"
    );
    let twin = twin(dir.path());
    let same = check(&model(twin.clone()));
    assert!(same.works && same.notes[0].contains("49,152"), "{same:?}");

    let ask = SpeculationRequest {
        target: "starter".to_owned(),
        drafter: model(twin),
        k: DraftLength::Fixed(3),
        kinds: vec![PromptKind::Chat],
        prompts: vec!["Count to ten.".to_owned()],
        raw: false,
        temperature: 0.0,
        seed: 0,
        max_tokens: 24,
        repeat: 2,
        sweep: false,
    };
    let request = |ask: SpeculationRequest| SpeculateRequest {
        ask,
        engine: EngineOptions::default(),
        draft_device: None,
    };
    let report = workbench
        .speculate(&request(ask.clone()), &mut |_| {})
        .unwrap();
    assert_eq!(
        (report.identical, report.acceptance_rate),
        (Some(true), Some(1.0))
    );
    assert_eq!(report.baseline_sha256, report.speculative_sha256);
    assert_eq!(report.by_prompt.len(), 2);
    for prompt in &report.by_prompt {
        let text: String = prompt
            .pieces
            .iter()
            .map(|piece| piece.text.as_str())
            .collect();
        assert!(text.starts_with(&prompt.text), "{text:?} {:?}", prompt.text);
        let tokens: u32 = prompt.pieces.iter().map(|piece| piece.tokens).sum();
        assert_eq!(tokens as usize, prompt.tokens.len());
        assert!(prompt.tokens_per_step > 2.0 && prompt.costs.draft_step_s > 0.0);
        assert_eq!(prompt.speedup_repeats.runs.len(), 2);
    }
    let shown = workbench.speculation(report.run).unwrap();
    assert_eq!(shown.report, report);
    assert!(
        shown
            .command
            .contains("billion speculate --target starter --draft ")
    );
    assert!(!shown.charts.is_empty());
    let details = latest_run(&workbench);
    assert_eq!(
        (details.summary.id, details.summary.task.as_str()),
        (report.run, "speculate")
    );

    let refused = |change: &dyn Fn(&mut SpeculationRequest)| {
        let mut ask = ask.clone();
        change(&mut ask);
        let error = workbench.speculate(&request(ask), &mut |_| {}).unwrap_err();
        error.message
    };
    assert!(refused(&|ask| ask.drafter = model(tiny())).contains("cannot work together"));
    assert!(refused(&|ask| ask.k = DraftLength::Fixed(16)).contains("1 to 15"));
    assert!(
        refused(&|ask| {
            ask.kinds.clear();
            ask.prompts.clear();
        })
        .contains("no prompt")
    );
    assert!(refused(&|ask| ask.temperature = f32::NAN).contains("temperature"));
    assert!(refused(&|ask| ask.max_tokens = 1).contains("cannot be timed"));
    assert!(refused(&|ask| "/nowhere.gguf".clone_into(&mut ask.target)).contains("nowhere"));
    let one = |run: u32| workbench.speculation(run);
    assert!(one(9_999).unwrap_err().message.contains("no run 9999"));
}

fn stop() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let mut stopped_at = None;
    let mut said = String::new();
    let mut reply = None;
    let mut chat = 0;
    let long = send("Write a very long story about a ship.", 1500);
    workbench
        .send_chat(&long, &mut |event| match event {
            ChatEvent::Saved { chat: id, .. } => chat = id,
            ChatEvent::Text { text, .. } => {
                said.push_str(&text);
                if stopped_at.is_none() && said.len() > 20 {
                    let more = ChatSend {
                        chat: Some(chat),
                        ..send("again", 1)
                    };
                    let busy = workbench.send_chat(&more, &mut |_| {});
                    assert_eq!(busy.unwrap_err().code, ErrorCode::Busy);
                    stopped_at = Some(Instant::now());
                    workbench.stop_chat(chat).unwrap();
                }
            }
            ChatEvent::Finished {
                reply: finished, ..
            } => reply = Some(finished),
            _ => {}
        })
        .unwrap();
    assert!(stopped_at.unwrap().elapsed() < STOPPED_WITHIN);
    let reply = reply.unwrap();
    assert_eq!(reply.error, None);
    assert_eq!(reply.finish_reason, "cancelled");
    assert!(reply.text.len() > 20 && reply.text == said);
    assert_eq!(first_reply(&workbench, chat), reply);
}

/// Children of a process that run as workers.
fn workers_of(parent: u32) -> Vec<u32> {
    let listed = Command::new("ps")
        .args(["-eo", "pid=,ppid=,args="])
        .output()
        .unwrap();
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid: u32 = words.next()?.parse().ok()?;
            let ppid: u32 = words.next()?.parse().ok()?;
            (ppid == parent && words.any(|word| word == "--engine-worker")).then_some(pid)
        })
        .collect()
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

fn killed() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let mut killed = false;
    let mut reply = None;
    let mut chat = 0;
    let long = send("Write a very long story about a ship.", 1500);
    workbench
        .send_chat(&long, &mut |event| match event {
            ChatEvent::Saved { chat: id, .. } => chat = id,
            ChatEvent::Text { .. } if !killed => {
                killed = true;
                let workers = workers_of(std::process::id());
                assert_eq!(workers.len(), 1);
                kill(workers[0]);
            }
            ChatEvent::Finished {
                reply: finished, ..
            } => reply = Some(finished),
            _ => {}
        })
        .unwrap();
    let reply = reply.unwrap();
    let error = reply.error.clone().expect("the reply broke off");
    assert_eq!(error.code, ErrorCode::WorkerDied);
    let words = &error.message;
    assert!(
        words.contains("was killed") && words.contains("Try again"),
        "{words}"
    );
    assert!(!reply.text.is_empty(), "what was said is kept");
    assert_eq!(first_reply(&workbench, chat), reply);
    let events = answer(&workbench, &again(chat, 5));
    assert_eq!(finished(&events)[0].error, None);
    assert!(finished(&events)[0].tokens > 0);
}

fn mmlu() -> MmluRequest {
    MmluRequest {
        model: "starter".to_owned(),
        limit: Some(12),
        subjects: vec!["abstract_algebra".to_owned(), "astronomy".to_owned()],
        ..MmluRequest::default()
    }
}

/// Waits until `done` of the first job, or fails after five minutes.
fn wait(workbench: &Workbench, what: &str, done: impl Fn(&Job) -> bool) -> Job {
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        let jobs = workbench.jobs().unwrap();
        if let Some(job) = jobs.first().filter(|job| done(job)) {
            return job.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {jobs:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn latest_run(workbench: &Workbench) -> RunDetails {
    let runs = workbench.runs().unwrap();
    workbench.run_details(runs[0].id).unwrap()
}

fn resumed() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let samples = dir.path().join("samples.jsonl");
    let request = MmluRequest {
        samples: Some(samples.clone()),
        ..mmlu()
    };
    let undisturbed = workbench.bench_mmlu(&request, &mut |_| {}).unwrap();
    assert_eq!(undisturbed.total, 24);
    let lines = std::fs::read_to_string(&samples).unwrap();
    assert_eq!(lines.lines().count(), 24);
    assert!(
        workbench.jobs().unwrap().is_empty(),
        "whoever waited has seen the result"
    );
    let first = latest_run(&workbench);
    assert_eq!(first.questions.len(), 24);
    let whole =
        |q: &billion_workbench::api::AnsweredQuestion| q.question.is_some() && q.choices.len() == 4;
    assert!(first.questions.iter().all(whole));

    // Another process on the same store, killed in the middle.
    let seen: Arc<Mutex<Vec<JobState>>> = Arc::default();
    let record = Arc::clone(&seen);
    workbench.watch_jobs(Box::new(move |jobs| {
        record.lock().unwrap().extend(jobs.iter().map(|j| j.state));
    }));
    let mut other = process(
        "--mmlu",
        dir.path(),
        &serde_json::to_string(&mmlu()).unwrap(),
    );
    let running = wait(&workbench, "the other process answers", |job| job.done >= 3);
    let orphans = workers_of(other.id());
    assert_eq!(orphans.len(), 1);
    let busy = workbench.resume_job(running.id).unwrap_err();
    assert_eq!(busy.code, ErrorCode::Busy);
    kill(other.id());
    other.wait().unwrap();
    let interrupted = wait(&workbench, "the job is interrupted", |job| {
        job.state == JobState::Interrupted
    });
    let deadline = Instant::now() + Duration::from_secs(5);
    while PathBuf::from(format!("/proc/{}/fd/0", orphans[0])).exists() {
        assert!(Instant::now() < deadline, "the worker outlived its parent");
        std::thread::sleep(Duration::from_millis(20));
    }

    while !seen.lock().unwrap().contains(&JobState::Interrupted) {
        assert!(Instant::now() < deadline, "the watcher was not told");
        std::thread::sleep(Duration::from_millis(20));
    }

    workbench.resume_job(interrupted.id).unwrap();
    let done = wait(&workbench, "the job is done", |job| {
        job.state == JobState::Done
    });
    assert_eq!(done.id, interrupted.id);
    let second = latest_run(&workbench);
    assert_ne!(second.summary.id, first.summary.id);
    assert_eq!(second.summary.headline, first.summary.headline);
    assert_eq!(first.questions, second.questions);
    std::thread::sleep(Duration::from_millis(500));
    workbench.dismiss_job(done.id).unwrap();
    assert!(workbench.jobs().unwrap().is_empty());
    let states = seen.lock().unwrap().clone();
    for state in [JobState::Running, JobState::Interrupted, JobState::Done] {
        assert!(
            states.contains(&state),
            "{state:?} was not seen: {states:?}"
        );
    }
}

/// This program again, as another process over the same store.
fn process(what: &str, data: &Path, argument: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(what)
        .arg(data)
        .arg(argument)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// A number below `below`, the next of a seeded row (SplitMix64).
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

/// An official folder of our own: sums with a solved example or two before them.
fn sums(folder: &Path, questions: u64) {
    for (subject, state) in [("elementary_mathematics", 1), ("abstract_algebra", 2)] {
        let mut state = state;
        for (split, rows) in [("dev", state), ("test", questions)] {
            let mut text = String::new();
            for row in 0..rows {
                let (a, b) = (10 + random(&mut state, 90), 10 + random(&mut state, 90));
                let right = random(&mut state, 4);
                let choice = |n: u64| a + b + 3 * n - 3 * right;
                let (c0, c1, c2, c3) = (choice(0), choice(1), choice(2), choice(3));
                let letter = ["A", "B", "C", "D"][right as usize];
                writeln!(
                    text,
                    "\"In question {row} of {subject}, what is {a} + {b}?\",{c0},{c1},{c2},{c3},{letter}"
                )
                .unwrap();
            }
            std::fs::create_dir_all(folder.join(split)).unwrap();
            let file = folder.join(split).join(format!("{subject}_{split}.csv"));
            std::fs::write(file, text).unwrap();
        }
    }
}

fn killed_often() {
    let full = std::env::var_os("BILLION_FULL").is_some();
    let kills = if full { 10 } else { 3 };
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let folder = dir.path().join("questions");
    sums(&folder, 30 * kills);
    // File order, and rounds that could stop early but have too few questions to.
    let orders = [None, Some(0.01)];
    let mut state = 2026;
    for stop_at_half_width in orders.into_iter().take(if full { 2 } else { 1 }) {
        let request = MmluRequest {
            model: "starter".to_owned(),
            data: Some(folder.clone()),
            stop_at_half_width,
            ..MmluRequest::default()
        };
        let undisturbed = workbench.bench_mmlu(&request, &mut |_| {}).unwrap();
        assert_eq!(u64::from(undisturbed.total), 60 * kills);
        let first = latest_run(&workbench);
        let mut other = process(
            "--mmlu",
            dir.path(),
            &serde_json::to_string(&request).unwrap(),
        );
        let job = wait(&workbench, "the other process has begun", |_| true).id;
        for kill_number in 1..=kills {
            // Two of three while questions are answered, the third anywhere: while it starts, loads or reads.
            let share = u64::from(undisturbed.total) / (kills + 1);
            let answering = random(&mut state, 3) > 0;
            if answering {
                let until = (kill_number - 1) * share + random(&mut state, share);
                wait(&workbench, "questions are answered", |job| {
                    u64::from(job.done) >= until
                });
            }
            // Short enough that the job is not over: a hundred questions and more are answered in a second.
            let most = if answering { 50 } else { 400 };
            std::thread::sleep(Duration::from_millis(random(&mut state, most)));
            kill(other.id());
            other.wait().unwrap();
            wait(&workbench, "the job is interrupted", |job| {
                job.state == JobState::Interrupted
            });
            other = process("--resume", dir.path(), &job.to_string());
        }
        assert!(other.wait().unwrap().success());
        let second = latest_run(&workbench);
        assert_ne!(second.summary.id, first.summary.id);
        assert_eq!(second.summary.headline, first.summary.headline);
        assert_eq!(
            first.questions, second.questions,
            "every log-likelihood, to the last bit"
        );
        workbench.dismiss_job(job).unwrap();
    }
}

fn paused() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let request = ScorecardRequest {
        models: vec!["starter".to_owned()],
        size: ScorecardSize::Quick,
        stop_at_half_width: None,
        mmlu: None,
    };
    let whole = workbench
        .run_scorecard(&request, &EngineOptions::default(), &mut |_| {})
        .unwrap();
    let job = workbench.start_scorecard(&request).unwrap();
    assert!(job.pausable);
    let rated = wait(&workbench, "questions are answered at a rate", |job| {
        job.rate.is_some()
    });
    let rate = rated.rate.unwrap();
    assert_eq!(rate.unit, "questions");
    assert!(rate.per_s > 0.0);
    workbench.pause_job(job.id).unwrap();
    let stopped = wait(&workbench, "the job is paused", |job| {
        job.state == JobState::Paused
    });
    assert!(stopped.done < stopped.total && stopped.rate.is_none());
    assert_eq!(workers_of(std::process::id()), [0; 0], "nothing goes on");
    workbench.resume_job(job.id).unwrap();
    let done = wait(&workbench, "the job is done", |job| {
        job.state == JobState::Done
    });
    let card = workbench.scorecard(done.scorecard.unwrap()).unwrap();
    assert!(card.complete);
    let accuracy = |card: &Scorecard| {
        card.rows[0]
            .mmlu
            .as_ref()
            .map(|figure| (figure.value, figure.lo))
    };
    assert_eq!(accuracy(&card), accuracy(&whole));
    let again = workbench.pause_job(job.id);
    assert!(again.is_ok(), "a job that has ended has nothing to pause");
    let ended = workbench.jobs().unwrap().remove(0);
    assert_eq!(ended.state, JobState::Done);
}

/// A chat template that fuel does not end: adding lists is free, and writing out sums of more than 32 of them is too.
const ENDLESS: &str = "{% set ns = namespace(x=[0]) %}{% for i in range(22) %}{% set ns.x = ns.x + ns.x %}{% endfor %}\
    {% for i in range(100) %}{% set ns.y = ns.x %}{% for k in range(12) %}{% set ns.y = ns.y + [0] %}{% endfor %}{% endfor %}";

fn runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("endless");
    std::fs::create_dir(&model).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm/tests/fixtures/gqa");
    for file in std::fs::read_dir(fixture).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    std::fs::write(model.join("chat_template.jinja"), ENDLESS).unwrap();
    let workbench = open(&dir.path().join("data"));
    let chat = ChatSend {
        models: vec![model.display().to_string()],
        ..send("Hi", 4)
    };
    // The second time a new worker says the same.
    for _ in 0..2 {
        let start = Instant::now();
        let events = answer(&workbench, &chat);
        let error = finished(&events)[0].error.clone().unwrap();
        assert!(error.message.contains("does not end within"), "{error}");
        assert!(start.elapsed() < STOPPED_WITHIN);
        assert_eq!(workers_of(std::process::id()), [0; 0], "nothing goes on");
    }
}

fn refused() {
    let dir = tempfile::tempdir().unwrap();
    let workbench = open(dir.path());
    let missing = ReplyRequest {
        model: "no-such-model".to_owned(),
        session: 0,
        messages: Vec::new(),
        options: ReplyOptions::default(),
        engine: EngineOptions::default(),
    };
    let error = workbench.reply(&missing, &mut |_| {}).unwrap_err();
    assert!(error.message.contains("no-such-model"), "{error}");
    let cuda = ReplyRequest {
        model: "starter".to_owned(),
        engine: EngineOptions {
            device: "cuda".to_owned(),
            ..EngineOptions::default()
        },
        ..missing
    };
    let error = workbench.reply(&cuda, &mut |_| {}).unwrap_err();
    assert!(error.message.contains("--bin billion-cuda"), "{error}");
    let nothing = workbench.send_chat(&send("  ", 1), &mut |_| {});
    let nothing = nothing.unwrap_err();
    assert!(nothing.message.contains("nothing to send"), "{nothing}");
    let elsewhere = Workbench::open(OpenOptions {
        data_dir: Some(dir.path().join("other")),
        engine: Some(dir.path().join("billion")),
        resource_dir: None,
        hub: None,
    })
    .unwrap();
    let events = answer(&elsewhere, &send("hi", 1));
    let error = finished(&events)[0].error.clone().unwrap();
    assert!(error.message.contains("could not be started"), "{error}");
    let mut settings = workbench.settings().unwrap();
    settings.threads = Some(0);
    assert!(workbench.save_settings(&settings).is_err());
    settings.threads = Some(1);
    workbench.save_settings(&settings).unwrap();
    assert_eq!(workbench.settings().unwrap().threads, Some(1));
    let about = workbench.about().unwrap();
    assert!(about.memory_bytes > 0 && about.disk_bytes > 0 && !about.isa.is_empty());
    assert!(about.starter_dir.is_some());
}
