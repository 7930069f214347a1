//! `speculate` and drafts in `chat`, by the real binary: the document of cli.md, the proof, and what is refused.

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod program;

use program::Program;
use serde_json::Value;

const TINY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../llm/tests/fixtures/gqa.gguf"
);

const SUMMARY: &str = "Repeat this sentence word by word, three times: The tide mill at Carrow stands on a narrow creek that fills twice a day.";

fn tokens(value: &Value) -> Vec<u64> {
    let list = value.as_array().expect("a list of tokens");
    list.iter().map(|t| t.as_u64().expect("a token")).collect()
}

#[test]
fn prompt_lookup_with_the_starter_is_faster_to_tell_and_the_same() {
    let program = Program::new();
    let found = program.json(&[
        "speculate",
        "--target",
        "starter",
        "--lookup",
        "--prompt",
        SUMMARY,
        "--max-tokens",
        "48",
        "--repeat",
        "2",
    ]);
    for name in [
        "speedup",
        "baseline_tokens_per_s",
        "speculative_tokens_per_s",
        "acceptance_rate",
        "alpha",
        "tokens_per_step",
    ] {
        let value = found[name].as_f64();
        assert!(value.is_some_and(|v| v > 0.0), "{name} of {found}");
    }
    assert_eq!(
        (&found["k"], &found["draft"]),
        (&"auto".into(), &Value::Null)
    );
    assert_eq!(found["identical"], true);
    assert_eq!(found["baseline_sha256"], found["speculative_sha256"]);
    let prompts = found["by_prompt"].as_array().expect("prompts");
    assert_eq!(prompts.len(), 1);
    assert_eq!(tokens(&prompts[0]["tokens"]), tokens(&found["tokens"]));
    assert!(tokens(&found["tokens"]).len() > 8);

    // The same text as a chat writes.
    let chat = |more: &[&str]| {
        let mut args = vec![
            "chat",
            "--model",
            "starter",
            "--prompt",
            SUMMARY,
            "--max-tokens",
            "48",
        ];
        args.extend(more);
        program.json(&args)["replies"][0].clone()
    };
    let (plain, drafted) = (chat(&[]), chat(&["--lookup"]));
    assert_eq!(plain["text"], prompts[0]["text"]);
    assert_eq!(plain["text"], drafted["text"]);
    assert_eq!(plain["speculation"], Value::Null);
    assert!(drafted["speculation"]["drafted"].as_u64() > Some(0));

    let run = found["run"].to_string();
    let shown = program.text(&["results", "show", &run]);
    assert!(
        shown.contains("Speed-up") && shown.contains("identical to the token"),
        "{shown}"
    );
    for format in ["json", "csv", "html", "svg", "png"] {
        let out = program.folder().join(format!("pair.{format}"));
        let out = out.to_str().expect("UTF-8");
        program.json(&["results", "export", &run, "--format", format, "--out", out]);
    }
    let html = std::fs::read_to_string(program.folder().join("pair.html")).expect("written");
    assert!(
        html.contains("speculative decoding")
            && html.contains("billion speculate")
            && html.contains("<ins>")
    );
}

#[test]
fn a_model_drafts_for_a_model_at_every_k() {
    let program = Program::new();
    // Random weights that repeat themselves; another file of the same model is a draft that is always right.
    let twin = program.folder().join("twin.gguf");
    std::fs::copy(TINY, &twin).expect("copied");
    let twin = twin.to_str().expect("UTF-8");
    let prompts = program.folder().join("prompts.jsonl");
    std::fs::write(&prompts, "\"ab\"\n\n{\"prompt\": \"hello\"}\n").expect("written");
    let file = prompts.to_str().expect("UTF-8");
    let base = [
        "speculate",
        "--target",
        TINY,
        "--draft",
        twin,
        "--prompts",
        file,
        "--raw",
        "--repeat",
        "1",
        "--max-tokens",
        "20",
    ];
    for (k, given) in [("1", 1), ("5", 5), ("15", 15)] {
        let found = program.json(&[&base[..], &["--k", k, "--sweep"]].concat());
        assert_eq!(found["k"], given);
        assert_eq!(found["identical"], true, "{found}");
        assert_eq!(found["acceptance_rate"], 1.0);
        assert_eq!(found["by_prompt"].as_array().map(Vec::len), Some(2));
        let tried = found["by_k"].as_array().expect("a sweep");
        assert_eq!(tried.len(), 7);
        assert!(
            tried.iter().all(|t| t["acceptance_rate"] == 1.0),
            "{tried:?}"
        );
    }
    let drawn = program.json(&[&base[..], &["--k", "4", "--temperature", "0.8"]].concat());
    assert_eq!(drawn["identical"], Value::Null);
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let program = Program::new();
    let refused = |args: &[&str], status: i32| {
        let run = program.run(&[&["speculate", "--json"], args].concat());
        assert_eq!(run.status, status, "{}", run.stderr);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
        run.stderr
    };
    let other = refused(&["--target", "starter", "--draft", TINY], 1);
    assert!(
        other.contains("cannot work together: token ") && other.contains("same family"),
        "{other}"
    );
    refused(&["--target", "starter"], 2);
    refused(&["--target", "starter", "--lookup", "--draft", TINY], 2);
    let wide = refused(&["--target", "starter", "--lookup", "--k", "16"], 2);
    assert!(wide.contains("1 to 15, or auto"), "{wide}");
    let cuda = refused(
        &["--target", TINY, "--draft", TINY, "--draft-device", "cuda"],
        1,
    );
    assert!(cuda.contains("billion-cuda"), "{cuda}");
    let missing = refused(
        &[
            "--target",
            "starter",
            "--lookup",
            "--prompts",
            "nowhere.txt",
        ],
        1,
    );
    assert!(missing.contains("nowhere.txt"), "{missing}");
    let broken = program.folder().join("broken.jsonl");
    std::fs::write(&broken, "\"a\"\n{\"text\": 1}\n").expect("written");
    let broken = broken.to_str().expect("UTF-8");
    let told = refused(&["--target", "starter", "--lookup", "--prompts", broken], 1);
    assert!(
        told.contains("line 2") && told.contains("\"prompt\""),
        "{told}"
    );
    let long = "word ".repeat(9000);
    let told = refused(&["--target", "starter", "--lookup", "--prompt", &long], 1);
    assert!(
        told.contains("tokens") && told.contains("shorten"),
        "{told}"
    );
}
