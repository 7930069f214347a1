//! `finetune` as a person or a script runs it: a tiny model trained in seconds, the documents of cli.md, a training that is
//! killed and goes on, adapters that are used and merged, and bad input.

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod program;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::Program;
use serde_json::Value;

/// A tiny Llama beside `llm`'s tests: a base model.
fn tiny() -> String {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa.gguf"
    )
    .to_owned()
}

/// A dataset of so many rows in the program's folder.
fn dataset(program: &Program, rows: usize) -> String {
    let path = program.folder().join("rows.jsonl");
    let mut text = String::new();
    for row in 0..rows {
        let _ = writeln!(
            text,
            "{{\"question\": \"What is {row}?\", \"answer\": \"It is {}.\"}}",
            row * 7
        );
    }
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn out(program: &Program) -> PathBuf {
    program.folder().join("adapter")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn losses(report: &Value) -> Vec<(u64, f64)> {
    let all = report["loss"].as_array().expect("a list");
    all.iter()
        .map(|point| {
            (
                point["step"].as_u64().expect("a step"),
                number(&point["loss"]),
            )
        })
        .collect()
}

#[test]
fn an_adapter_is_trained_stored_used_and_merged() {
    let program = Program::new();
    let (data, out) = (dataset(&program, 40), out(&program));
    let model = tiny();
    let train = [
        "finetune",
        "--model",
        &model,
        "--data",
        &data,
        "--out",
        path(&out),
        "--epochs",
        "4",
        "--rank",
        "4",
        "--alpha",
        "8",
        "--targets",
        "all",
        "--lr",
        "0.01",
        "--batch",
        "4",
        "--max-len",
        "96",
        "--seed",
        "3",
    ];
    let report = program.json(&train);
    // 36 rows are left of 40, in batches of 4, four times.
    let loss = losses(&report);
    let steps: Vec<u64> = loss.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=36).collect::<Vec<_>>(), "steps count from 1");
    assert!(
        loss[35].1 < loss[0].1 - 0.5,
        "it learns: {} to {}",
        loss[0].1,
        loss[35].1
    );
    assert_eq!(report["rows_held_out"], 4);
    for name in [
        "eval_loss",
        "tokens_per_s",
        "seconds",
        "peak_rss_bytes",
        "trainable_params",
    ] {
        assert!(number(&report[name]) > 0.0, "{name}: {}", report[name]);
    }
    assert_eq!(report["out"], path(&out));
    assert!(report["complete"].as_bool().unwrap_or_default());
    let files: Vec<String> = std::fs::read_dir(&out)
        .expect("the folder is there")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(files.iter().any(|name| name == file), "{files:?}");
    }
    let config: Value = serde_json::from_str(
        &std::fs::read_to_string(out.join("adapter_config.json")).expect("readable"),
    )
    .expect("JSON");
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&4.into(), &8.into())
    );

    // In Results like every run.
    let run = report["run"].to_string();
    let runs = program.json(&["results", "list", "--task", "finetune"]);
    assert_eq!(runs[0]["id"].to_string(), run);
    let shown = program.text(&["results", "show", &run]);
    assert!(
        shown.contains("billion finetune --model") && !shown.contains("--skip-bad-rows"),
        "{shown}"
    );
    for format in ["json", "csv", "html", "png", "svg"] {
        let file = program.folder().join(format!("run.{format}"));
        program.text(&["results", "export", &run, "--out", path(&file)]);
        assert!(
            std::fs::metadata(&file).expect("written").len() > 500,
            "{format}"
        );
    }

    // Model and adapter under one name, and merged into one file.
    let tuned = report["tuned"].as_str().expect("a reference").to_owned();
    let listed = program.json(&["models", "list"]);
    let entry = listed
        .as_array()
        .and_then(|all| all.iter().find(|model| model["id"] == tuned.as_str()))
        .expect("the tuned model is listed");
    assert_eq!(entry["source"], "tuned");
    let ask = |model: &str| {
        let reply = program.json(&[
            "chat",
            "--model",
            model,
            "--prompt",
            "What is 5?",
            "--max-tokens",
            "8",
        ]);
        reply["replies"][0]["text"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_ne!(ask(&tuned), ask(&model), "an adapter changes what is said");
    let text = program.folder().join("text.txt");
    std::fs::write(&text, "What is 5? It is 35. ".repeat(20)).expect("written");
    let measured = program.json(&[
        "perplexity",
        "--model",
        &tuned,
        "--text",
        path(&text),
        "--ctx",
        "64",
    ]);
    let shown = program.text(&["results", "show", &measured["run"].to_string()]);
    assert!(shown.contains("SHA-256 of the adapter"), "{shown}");
    let same = program.json(&train);
    assert_eq!(losses(&same), loss, "the same seed gives the same losses");
    assert_ne!(
        same["tuned"], report["tuned"],
        "each result has its own name"
    );
    program.text(&["models", "rm", &tuned]);
    let left = program.json(&["models", "list"]);
    assert!(
        left.as_array()
            .expect("a list")
            .iter()
            .all(|model| model["id"] != tuned.as_str())
    );
    assert!(
        out.join("adapter_model.safetensors").is_file(),
        "what was exported stays"
    );
}

#[cfg(unix)]
#[test]
fn a_killed_training_goes_on_where_it_was() {
    let program = Program::new();
    let (data, out) = (dataset(&program, 60), out(&program));
    let model = tiny();
    let whole = program.folder().join("whole");
    let args = |out: &Path| -> Vec<String> {
        let text = [
            "finetune",
            "--model",
            &model,
            "--data",
            &data,
            "--out",
            path(out),
            "--epochs",
            "60",
            "--batch",
            "2",
            "--checkpoint-every",
            "20",
            "--eval-every",
            "100",
        ];
        text.map(str::to_owned).to_vec()
    };
    let given = args(&whole);
    let undisturbed = program.json(&given.iter().map(String::as_str).collect::<Vec<_>>());

    let checkpoints = program.folder().join("data/finetunes/2/run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_billion"))
        .args(args(&out))
        .env("BILLION_DATA", program.folder().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let begun = Instant::now();
    let written = || std::fs::read_dir(&checkpoints).is_ok_and(|mut files| files.next().is_some());
    while !written() {
        assert!(begun.elapsed() < Duration::from_mins(1), "no checkpoint");
        assert!(
            child.try_wait().expect("asked").is_none(),
            "it ended too early"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(
        !out.join("adapter_config.json").exists(),
        "it was not done yet"
    );

    let mut again = args(&out);
    again.push("--resume".to_owned());
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let resumed = program.json(&again);
    assert_eq!(losses(&resumed), losses(&undisturbed), "the same curve");
    assert_eq!(resumed["eval_loss"], undisturbed["eval_loss"]);
    assert_eq!(resumed["sessions"], 2);
    assert!(out.join("adapter_config.json").is_file());
    let report = program.json(&again);
    assert_eq!(
        report["run"], resumed["run"],
        "what is done is not done again"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_a_checkpoint_and_says_130() {
    let program = Program::new();
    let (data, out) = (dataset(&program, 60), out(&program));
    let model = tiny();
    let args = [
        "finetune",
        "--model",
        &model,
        "--data",
        &data,
        "--out",
        path(&out),
        "--epochs",
        "1000",
        "--batch",
        "1",
    ];
    let ended = program.interrupt_after(&args, Duration::from_secs(3));
    assert_eq!(ended.status, 130, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn bad_input_says_what_is_wrong_and_what_to_do() {
    let program = Program::new();
    let model = tiny();
    let file = |name: &str, text: &str| {
        let path = program.folder().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let out = out(&program);
    let fails = |data: &str, more: &[&str], status: i32, says: &str| {
        let mut args = vec![
            "finetune",
            "--model",
            &model,
            "--data",
            data,
            "--out",
            path(&out),
        ];
        args.extend(more);
        program.fails(&args, status, says);
    };
    fails("/nowhere/rows.jsonl", &[], 1, "rows.jsonl");
    fails(&file("empty.jsonl", ""), &["--epochs", "1"], 1, "empty");
    fails(
        &file(
            "broken.jsonl",
            "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \n",
        ),
        &["--epochs", "1"],
        1,
        "line 2",
    );
    fails(
        &file("columns.csv", "frage,antwort\na,b\nc,d\n"),
        &[],
        1,
        "frage",
    );
    let good = dataset(&program, 8);
    fails(&good, &["--epochs", "0"], 2, "--epochs");
    fails(&good, &["--lr", "-1"], 2, "--lr");
    fails(&good, &["--eval-fraction", "1"], 2, "--eval-fraction");
    fails(&good, &["--map", "subject=a"], 2, "PART=COLUMN");
    fails(
        &good,
        &["--targets", "nose_proj", "--epochs", "1"],
        1,
        "nose_proj",
    );
    let taken = file("taken", "");
    program.fails(
        &[
            "finetune", "--model", &model, "--data", &good, "--out", &taken, "--epochs", "1",
        ],
        1,
        "is a file",
    );
    // Columns named by hand, and a row without an answer left out with consent.
    let rows = "frage,antwort\na b c,d e\nf g,h i\nj k,\nl,m n\no,p\n";
    let data = file("named.csv", rows);
    let named = [
        "--layout",
        "question-answer",
        "--map",
        "prompt=frage,answer=antwort",
        "--epochs",
        "1",
        "--eval-fraction",
        "0",
    ];
    fails(&data, &named, 1, "4");
    let mut args = vec![
        "finetune",
        "--model",
        &model,
        "--data",
        &data,
        "--out",
        path(&out),
        "--skip-bad-rows",
    ];
    args.extend(named);
    let report = program.json(&args);
    assert_eq!(report["rows_train"], 4);
    assert_eq!(report["eval_loss"], Value::Null);
    assert!(
        report["notes"][0]
            .as_str()
            .is_some_and(|note| note.contains("1 row")),
        "{}",
        report["notes"]
    );
}
