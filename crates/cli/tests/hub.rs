//! Models of the hub on the command line, against the loopback hub of `billion-hub`'s tests: fetched over a kill, used,
//! removed; written in other formats; a model over its training.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loopback::{HubServer, bytes_below, padded};
use program::Program;
use serde_json::{Value, json};

#[path = "../../hub/tests/loopback/mod.rs"]
mod loopback;
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod program;

const MODEL: &str = "tinyllama-1.1b-chat";
const REPO: &str = "models/TinyLlama/TinyLlama-1.1B-Chat-v1.0";
/// What is added to the tiny model, so that there is time to kill.
const PADDING: usize = 24 << 20;
/// A download that has not begun, or not ended, by then has failed.
const SOON: Duration = Duration::from_mins(1);

#[test]
fn a_pull_that_was_killed_goes_on_and_the_model_talks_and_is_removed() {
    let hub = HubServer::start();
    put_model(&hub, PADDING);
    let program = program_of(&hub);
    hub.fault(|fault| fault.bytes_per_s = Some(2_000_000));

    let mut pull = program.start(&["models", "pull", MODEL]);
    let begun = Instant::now();
    while hub.sent_so_far() < 8 << 20 {
        assert!(begun.elapsed() < SOON, "{} bytes", hub.sent_so_far());
        std::thread::sleep(Duration::from_millis(5));
    }
    pull.kill().expect("it ran");
    pull.wait().expect("it ended");
    let before = hub.sent();
    assert!(before < PADDING as u64, "it was killed too late");
    // What is there in part is no model.
    assert!(!is_installed(&program), "half a model counts as one");
    program.fails(&["chat", "--model", MODEL, "--prompt", "Hi"], 1, MODEL);

    hub.fault(|fault| fault.bytes_per_s = None);
    let pulled = program.json(&["models", "pull", MODEL]);
    assert_eq!(pulled[0]["id"], MODEL);
    assert_eq!(pulled[0]["installed"], true);
    let again = hub.sent();
    let whole = PADDING as u64 + (4 << 20);
    assert!(
        before + again < whole,
        "{before} bytes before the kill and {again} after it"
    );
    // What is there is not fetched again.
    program.json(&["models", "pull", MODEL]);
    assert_eq!(hub.sent(), 0);

    let said = program.json(&[
        "chat",
        "--model",
        MODEL,
        "--prompt",
        "Hello.",
        "--max-tokens",
        "4",
    ]);
    assert_eq!(said["replies"][0]["model"], MODEL);
    assert!(said["replies"][0]["tokens"].as_u64() > Some(0), "{said}");

    program.json(&["models", "rm", MODEL]);
    assert!(!is_installed(&program));
    let left = bytes_below(&program.folder().join("hf"));
    assert!(left < 1 << 20, "{left} bytes are left of a removed model");
    program.fails(&["models", "rm", MODEL], 1, MODEL);
}

#[test]
fn a_gate_and_an_unknown_revision_say_what_to_do() {
    let hub = HubServer::start();
    put_model(&hub, 0);
    hub.gate(REPO);
    hub.put_folder("models/EleutherAI/pythia-70m", &fixture("families/pythia"));
    let program = program_of(&hub);
    program.fails(&["models", "pull", MODEL], 1, "token");
    program.fails(&["models", "pull", "pythia-70m@step7"], 1, "step7");
    let left = bytes_below(&program.folder().join("hf"));
    assert!(
        left < 1 << 20,
        "{left} bytes are left of a refused download"
    );
}

#[test]
fn a_model_is_written_to_a_file_and_into_the_library() {
    let hub = HubServer::start();
    put_model(&hub, 0);
    let program = program_of(&hub);
    program.json(&["models", "pull", MODEL]);

    let out = program.folder().join("tiny.gguf");
    let out = out.to_str().expect("UTF-8");
    let convert = ["convert", "--model", MODEL, "--quant", "q8_0", "--out", out];
    let written = program.json(&convert);
    let size = std::fs::metadata(out).expect("written").len();
    assert_eq!(written["bytes"].as_u64(), Some(size));
    let greedy = |model: &str| {
        let said = program.json(&[
            "chat",
            "--model",
            model,
            "--prompt",
            "Hello.",
            "--max-tokens",
            "8",
        ]);
        said["replies"][0]["text"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    let of_file = greedy(out);

    // The same in the library: made on first use, kept, and the same bytes.
    let kept = format!("{MODEL}:q8_0");
    let pulled = program.json(&["models", "pull", &kept]);
    assert_eq!(
        (&pulled[0]["id"], &pulled[0]["quant"]),
        (&json!(kept), &json!("Q8_0"))
    );
    assert_eq!(greedy(&kept), of_file);
    let listed = program.json(&["models", "list"]);
    let listed = listed.as_array().expect("a list");
    assert!(
        listed
            .iter()
            .any(|entry| entry["id"] == json!(kept) && entry["installed"] == true)
    );

    program.fails(
        &[
            "convert",
            "--model",
            out,
            "--quant",
            "q4_0",
            "--out",
            "again.gguf",
        ],
        1,
        "Q8_0",
    );
    program.json(&["models", "rm", &kept]);
    assert!(
        is_installed(&program),
        "the publisher's weights went with it"
    );
}

#[test]
fn a_time_lapse_measures_each_step_and_keeps_no_weights() {
    let hub = HubServer::start();
    let folder = fixture("families/pythia");
    for (step, seed) in [("step0", 1), ("step1000", 2), ("step143000", 3)] {
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            let bytes = std::fs::read(folder.join(file)).expect("a fixture");
            hub.put_at("models/EleutherAI/pythia-70m", step, file, bytes);
        }
        let weights = std::fs::read(folder.join("model.safetensors")).expect("a fixture");
        hub.put_at(
            "models/EleutherAI/pythia-70m",
            step,
            "model.safetensors",
            padded(&weights, seed << 12),
        );
    }
    let program = program_of(&hub);
    let lapse = program.json(&[
        "models",
        "time-lapse",
        "--model",
        "pythia-70m",
        "--steps",
        "1000,0,143000",
    ]);
    let points = lapse["points"].as_array().expect("points");
    let steps: Vec<_> = points.iter().map(|point| point["step"].as_u64()).collect();
    assert_eq!(steps, [Some(0), Some(1000), Some(143_000)]);
    for point in points {
        assert_eq!(point["problem"], Value::Null, "{point}");
        for figure in ["mmlu", "perplexity", "continuation"] {
            assert_ne!(point[figure], Value::Null, "{figure} of {point}");
        }
    }
    let left = bytes_below(&program.folder().join("hf"));
    assert!(left < 64 << 10, "{left} bytes are left of the weights");
}

fn program_of(hub: &HubServer) -> Program {
    let program = Program::new();
    let home = program.folder().join("hf");
    let home = home.to_str().expect("UTF-8").to_owned();
    program
        .with("HF_ENDPOINT", &hub.endpoint)
        .with("HF_HOME", &home)
        .with("BILLION_KEYCHAIN", "off")
}

fn is_installed(program: &Program) -> bool {
    let listed = program.json(&["models", "list"]);
    let mut entries = listed.as_array().expect("a list").iter();
    entries.any(|entry| entry["id"] == MODEL && entry["installed"] == true)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../llm/tests/fixtures")
        .join(name)
}

/// Serves the tiny Llama of the engine's tests under a known name, made larger by a tensor that no layer asks for.
fn put_model(hub: &HubServer, padding: usize) {
    let folder = fixture("gqa");
    hub.put_folder(REPO, &folder);
    let weights = std::fs::read(folder.join("model.safetensors")).expect("a fixture");
    hub.put(REPO, "model.safetensors", padded(&weights, padding));
}
