//! A model with an adapter on the command line: measured, chatted with, and merged. Model and adapter are the tiny ones of
//! `billion-llm`'s tests.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod program;

use program::Program;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../llm/tests/fixtures/gqa");
const ADAPTER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../llm/tests/fixtures/adapters/gqa"
);
const OTHER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../llm/tests/fixtures/adapters/pythia"
);

#[test]
fn an_adapter_makes_another_model_of_its_base_and_merges_into_a_file() {
    let program = Program::new();
    let text = program.folder().join("text.txt");
    std::fs::write(
        &text,
        "Nobody knew who had the key of the archive. ".repeat(8),
    )
    .expect("written");
    let text = text.display().to_string();
    let perplexity = |model: &str, adapter: &[&str]| {
        let args = [
            "perplexity",
            "--model",
            model,
            "--text",
            &text,
            "--ctx",
            "64",
        ];
        let all = [&args, adapter].concat();
        program.json(&all)["nll_mean"].as_f64().expect("a number")
    };
    let base = perplexity(MODEL, &[]);
    let tuned = perplexity(MODEL, &["--adapter", ADAPTER]);
    assert!((base - tuned).abs() > 0.05, "{base} and {tuned}");

    let runs = program.json(&["results", "list"]);
    let runs = runs.as_array().expect("a list");
    let ids: Vec<&str> = runs
        .iter()
        .map(|run| run["model"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids.len(), 2);
    let (with, without) = (ids[0], ids[1]);
    assert!(
        with.starts_with(without) && with[without.len()..].starts_with('+'),
        "{ids:?}"
    );

    let out = program.folder().join("merged.gguf").display().to_string();
    let report = program.json(&[
        "convert",
        "--model",
        MODEL,
        "--adapter",
        ADAPTER,
        "--quant",
        "f16",
        "--out",
        &out,
    ]);
    let merge = &report["merge"];
    let number = |key: &str| merge[key].as_f64().expect("a number");
    assert!(
        number("difference") <= number("bound") && number("moved") > 0.1,
        "{merge}"
    );
    let merged = perplexity(&out, &[]);
    assert!((merged - tuned).abs() < 0.01, "{merged} and {tuned}");

    // A merged adapter is a quantized model's too.
    let eight = program.folder().join("eight.gguf").display().to_string();
    program.json(&[
        "convert", "--model", MODEL, "--quant", "q8_0", "--out", &eight,
    ]);
    program.json(&[
        "convert",
        "--model",
        &eight,
        "--adapter",
        ADAPTER,
        "--quant",
        "q8_0",
        "--out",
        &out,
    ]);
    let merged = perplexity(&out, &[]);
    assert!((merged - tuned).abs() < 0.1, "{merged} and {tuned}");
}

#[test]
fn chat_compares_base_and_tuned() {
    let program = Program::new();
    let args = [
        "chat",
        "--model",
        MODEL,
        "--compare",
        MODEL,
        "--adapter",
        ADAPTER,
        "--prompt",
        "The key",
        "--max-tokens",
        "12",
    ];
    let replies = program.json(&args);
    let text = |at: usize| {
        replies["replies"][at]["text"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_ne!(text(0), text(1));
    let alone = program.json(&[
        "chat",
        "--model",
        MODEL,
        "--prompt",
        "The key",
        "--max-tokens",
        "12",
    ]);
    assert_eq!(alone["replies"][0]["text"], text(1).as_str());
}

#[test]
fn an_adapter_that_does_not_fit_says_why() {
    let program = Program::new();
    let chat = ["chat", "--model", MODEL, "--prompt", "A", "--adapter"];
    program.fails(
        &[&chat[..], &[OTHER]].concat(),
        1,
        "is no linear map of a block that Billion adapts",
    );
    program.fails(
        &[&chat[..], &["nowhere"]].concat(),
        1,
        "no such folder; name the folder of a PEFT adapter",
    );
    let out = program.folder().join("merged.gguf").display().to_string();
    let convert = [
        "convert",
        "--model",
        MODEL,
        "--quant",
        "f16",
        "--out",
        &out,
        "--adapter",
    ];
    program.fails(
        &[&convert[..], &[OTHER]].concat(),
        1,
        "is no linear map of a block that Billion adapts",
    );
    program.fails(
        &["scorecard", "--models", "a,b", "--adapter", ADAPTER],
        1,
        "belongs to one model",
    );
    assert!(!program.folder().join("merged.gguf").exists());
}
