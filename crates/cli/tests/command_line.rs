//! Runs the real binary, as a person or a script does: the JSON documents of cli.md, exit statuses, and clear one-line
//! errors. Most runs use a tiny committed model; a few use the starter model.

mod humaneval;
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod program;

use program::Program;
use serde_json::Value;

/// The tiny Llama beside `llm`'s tests.
fn tiny() -> String {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa.gguf"
    )
    .to_owned()
}

/// What transformers says of the starter model (tests/starter/make.py).
fn expected() -> Value {
    serde_json::from_str(include_str!("starter/expected.json")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value[name].is_number(), "{name} of {value}");
    }
}

#[test]
fn the_starter_is_listed_and_described() {
    let program = Program::new();
    let models = program.json(&["models", "list"]);
    let starter = models
        .as_array()
        .and_then(|all| all.iter().find(|m| m["id"] == "starter"))
        .expect("the starter is listed");
    assert_eq!(starter["installed"], true);
    assert_eq!(starter["params"], 134_515_008);
    assert_eq!(
        (&starter["architecture"], &starter["quant"]),
        (&"llama".into(), &"Q4_1".into())
    );
    numbers(starter, &["bytes"]);
    assert!(starter["license"].is_string() && !starter["fit"].is_null());
    let info = program.json(&["models", "info", "starter"]);
    assert_eq!(
        info[0]["sha256"],
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    let table = program.text(&["models", "list"]);
    assert!(
        table.lines().any(|line| line.starts_with("starter ")),
        "{table}"
    );
}

#[test]
fn a_model_is_imported_and_removed() {
    let program = Program::new();
    let imported = program.json(&["models", "import", &tiny()]);
    let id = imported[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(imported[0]["installed"], true);
    let ids = |program: &Program| -> Vec<String> {
        let models = program.json(&["models", "list"]);
        let installed = models
            .as_array()
            .expect("a list")
            .iter()
            .filter(|m| m["installed"] == true);
        installed
            .map(|m| m["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert!(ids(&program).contains(&id));
    let removed = program.json(&["models", "rm", &id]);
    assert_eq!(
        (&removed[0]["id"], &removed[0]["installed"]),
        (&Value::from(id.clone()), &false.into())
    );
    assert!(!ids(&program).contains(&id));
    program.fails(&["models", "rm", "starter"], 1, "ships with Billion");
}

#[test]
fn the_starter_answers_side_by_side_the_same_and_knows_paris() {
    let program = Program::new();
    let ask = [
        "chat",
        "--model",
        "starter",
        "--prompt",
        "What is the capital of France?",
        "--max-tokens",
        "12",
        "--compare",
        "starter",
    ];
    let answer = program.json(&ask);
    let replies = answer["replies"].as_array().expect("replies");
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[0]["text"], replies[1]["text"]);
    let exact: Vec<&str> = ask
        .iter()
        .copied()
        .chain(["--executor", "candle"])
        .collect();
    let exact = program.json(&exact);
    for replies in [replies, exact["replies"].as_array().expect("replies")] {
        assert_eq!(replies[0]["text"], "The capital of France is Paris.");
    }
    numbers(
        &replies[0],
        &["prompt_tokens", "tokens", "ttft_s", "tokens_per_s"],
    );
    assert!(replies[0]["finish_reason"].is_string() && replies[0]["model"] == "starter");
}

#[test]
fn a_conversation_reads_lines_until_quit() {
    let program = Program::new();
    let run = program.run_with_input(
        &["chat", "--model", "starter", "--max-tokens", "4"],
        "Hello\n\n/new\nHello\n/quit\nnever read\n",
    );
    assert_eq!(run.status, 0, "{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.stdout);
    assert_eq!(
        lines[0], lines[1],
        "a new conversation begins like the first"
    );
}

/// Of a log-likelihood in nats. Both compute in F32, and add in another order.
const CANDLE_LL_TOLERANCE: f64 = 1e-3;
/// Of a log-likelihood in nats. Keys and values are rounded to 11 bits, activations to 12 or, without VNNI, 16; measured: 2.3e-2
/// and 2.5e-3 at most. With 8 bits it would be up to 0.39.
const CPU_LL_TOLERANCE: f64 = 5e-2;

#[test]
fn mmlu_reports_and_writes_samples() {
    mmlu_agrees_with_transformers("cpu", CPU_LL_TOLERANCE);
}

#[test]
fn mmlu_on_the_second_executor_agrees_too() {
    mmlu_agrees_with_transformers("candle", CANDLE_LL_TOLERANCE);
}

fn mmlu_agrees_with_transformers(executor: &str, tolerance: f64) {
    let program = Program::new();
    let samples = program.folder().join("samples.jsonl");
    let report = program.json(&[
        "bench",
        "mmlu",
        "--model",
        "starter",
        "--limit",
        "2",
        "--subjects",
        "abstract_algebra,anatomy",
        "--samples",
        &samples.display().to_string(),
        "--executor",
        executor,
    ]);
    numbers(
        &report,
        &[
            "accuracy",
            "correct",
            "total",
            "shots",
            "prompt_tokens_computed",
            "seconds",
        ],
    );
    assert_eq!((&report["total"], &report["shots"]), (&4.into(), &0.into()));
    assert_eq!(report["ci95"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["by_subject"]["anatomy"]["total"], 2);
    assert_eq!(report["by_group"]["stem"]["total"], 4);
    let text = std::fs::read_to_string(&samples).expect("written");
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let keys: Vec<(&str, u64)> = lines
        .iter()
        .map(|l| {
            (
                l["subject"].as_str().unwrap_or_default(),
                l["index"].as_u64().unwrap_or(99),
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            ("abstract_algebra", 0),
            ("abstract_algebra", 1),
            ("anatomy", 0),
            ("anatomy", 1)
        ]
    );
    for (line, want) in lines
        .iter()
        .zip(expected()["mmlu"].as_array().expect("samples"))
    {
        let ll: Vec<f64> = line["ll"]
            .as_array()
            .expect("four")
            .iter()
            .map(number)
            .collect();
        for (got, want) in ll.iter().zip(want["ll"].as_array().expect("four")) {
            let error = (got - number(want)).abs();
            assert!(
                error < tolerance,
                "{executor}, off by {error}: {line} {want}"
            );
        }
        let best = (0..4)
            .max_by(|&a, &b| ll[a].total_cmp(&ll[b]))
            .expect("four");
        assert_eq!(line["pred"], ["A", "B", "C", "D"][best]);
        assert_eq!(line["gold"], want["gold"]);
    }
    let runs = program.json(&["results", "list"]);
    assert_eq!(
        (&runs[0]["task"], &runs[0]["model"]),
        (&"mmlu".into(), &"starter".into())
    );
    let shown = program.json(&["results", "show", &runs[0]["id"].to_string()]);
    assert_eq!(shown["questions"].as_array().map(Vec::len), Some(4));
    assert!(
        program
            .text(&["results", "show", &runs[0]["id"].to_string()])
            .contains("4 questions")
    );
}

#[test]
fn speed_memory_and_perplexity_report_what_the_contract_says() {
    let program = Program::new();
    let speed = program.json(&[
        "bench",
        "speed",
        "--model",
        &tiny(),
        "--prompt",
        "16",
        "--gen",
        "8",
        "--repeat",
        "2",
        "--threads",
        "1",
    ]);
    for figure in ["prefill_tokens_per_s", "decode_tokens_per_s"] {
        numbers(&speed[figure], &["median", "min", "max"]);
    }
    numbers(&speed, &["ttft_s", "load_s", "threads"]);
    assert!(speed["decode_tokens_per_s"]["outliers"].is_array() && speed["device"] == "cpu");
    assert!(speed["isa"].is_string() && speed["threads"] == 1);

    let memory = program.json(&["bench", "memory", "--model", &tiny(), "--ctx", "32"]);
    numbers(
        &memory,
        &[
            "weights_bytes",
            "kv_bytes",
            "peak_rss_bytes",
            "idle_rss_bytes",
        ],
    );
    assert!(memory["peak_rss_bytes"].as_u64() >= memory["weights_bytes"].as_u64());
    assert_eq!(
        memory["kv_bytes_per_token"]
            .as_u64()
            .map(|bytes| bytes * 32),
        memory["kv_bytes"].as_u64()
    );

    let want = &expected()["perplexity"];
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/starter/text.txt");
    let got = program.json(&[
        "perplexity",
        "--model",
        "starter",
        "--text",
        text,
        "--ctx",
        "64",
    ]);
    assert_eq!(got["tokens"], want["tokens"]);
    let perplexity = number(&got["perplexity"]);
    assert!(
        (perplexity / number(&want["perplexity"]) - 1.0).abs() < 0.01,
        "{got} {want}"
    );
    assert!((number(&got["nll_mean"]).exp() / perplexity - 1.0).abs() < 1e-9);
    assert_eq!(
        program.json(&["results", "list"]).as_array().map(Vec::len),
        Some(3)
    );
}

/// With a source all figures are there and stored; without one, the reason and nothing else.
#[test]
fn energy_is_measured_or_says_why_not() {
    let program = Program::new();
    let args = [
        "bench",
        "energy",
        "--model",
        &tiny(),
        "--gen",
        "16",
        "--repeat",
        "1",
    ];
    let report = program.json(&args);
    let object = report.as_object().expect("a document");
    for key in ["source", "joules_per_token", "idle_watts", "reason"] {
        assert!(object.contains_key(key), "{key} of {report}");
    }
    let stored = program.json(&["results", "list"]);
    if report["reason"].is_null() {
        assert!(
            ["rapl", "nvml", "ioreport", "battery"]
                .contains(&report["source"].as_str().expect("a source")),
            "{report}"
        );
        numbers(
            &report,
            &[
                "run",
                "joules_per_token",
                "gross_joules_per_token",
                "idle_watts",
                "load_watts",
            ],
        );
        assert!(number(&report["joules_per_token"]) > 0.0, "{report}");
        assert_eq!(stored[0]["task"], "energy");
    } else {
        for key in [
            "run",
            "joules_per_token",
            "idle_watts",
            "load_watts",
            "spread",
        ] {
            assert!(report[key].is_null(), "{key} of {report}");
        }
        let reason = report["reason"].as_str().expect("words");
        assert!(reason.contains(": ") && !reason.contains('\n'), "{reason}");
        assert_eq!(stored.as_array().map(Vec::len), Some(0));
        let words = program.text(&args);
        assert!(
            words.contains("unavailable") && words.contains(reason),
            "{words}"
        );
    }
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let program = Program::new();
    for (args, says) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (
            &["bench", "humaneval", "--self-test", "--model", "starter"],
            "cannot be used with",
        ),
        (
            &["speculate", "--target", "starter"],
            "--draft <MODEL>|--lookup",
        ),
        (&["bench", "mmlu"], "--model"),
        (
            &["bench", "mmlu", "--model", "starter", "--shots", "6"],
            "6",
        ),
        (
            &["bench", "speed", "--model", "starter", "--repeat", "0"],
            "0",
        ),
        (
            &["chat", "--model", "starter", "--temperature", "hot"],
            "number from 0",
        ),
        (
            &["chat", "--model", "starter", "--max-tokens", "many"],
            "many",
        ),
        (
            &["chat", "--model", "starter", "--adapter"],
            "a value is required for '--adapter <FOLDER>'",
        ),
        (
            &["bench", "speed", "--model", "starter", "--threads", "0"],
            "0",
        ),
        (
            &["bench", "mmlu", "--model", "starter", "--limit", "0"],
            "0",
        ),
        (
            &["chat", "--model", "starter", "--temperature", "-1"],
            "number from 0",
        ),
        (
            &["chat", "--model", "starter", "--device", "tpu"],
            "cpu, cuda, metal",
        ),
        (
            &["scorecard", "--models", "starter", "--quick", "--full"],
            "cannot be used with",
        ),
    ] {
        program.fails(args, 2, says);
    }
    let nothing = program.run(&[]);
    assert_eq!((nothing.status, nothing.stdout.as_str()), (2, ""));
    assert!(nothing.stderr.contains("scorecard"), "{}", nothing.stderr);
    let help = program.run(&["bench", "--help"]);
    assert_eq!((help.status, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("mmlu") && help.stdout.contains("humaneval"));
}

#[test]
fn bad_input_is_one_line_and_status_1() {
    let program = Program::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = program.folder().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let whole = std::fs::read(tiny()).expect("the fixture");
    let half = file("half.gguf", &whole[..whole.len() / 2]);
    let empty = file("empty.gguf", b"");
    let latin = file("latin1.txt", b"caf\xe9");
    let text = file("one.txt", b"Some words to be scored.");
    let folder = program.folder().join("nothing");
    std::fs::create_dir(&folder).expect("made");
    let folder = folder.display().to_string();
    let speed = |model: &'static str| ["bench", "speed", "--model", model];
    for (args, says) in [
        (&speed("startr")[..], "did you mean starter?"),
        (&speed("tinyllama"), "not on this machine"),
        (&speed("/no/such.gguf"), "/no/such.gguf"),
        (&["models", "import", &half], "half.gguf"),
        (&["models", "import", &empty], "empty.gguf"),
        (&["models", "import", &folder], "nothing"),
        (&["chat", "--model", &half, "--prompt", "x"], "half.gguf"),
        (
            &[
                "chat", "--model", "starter", "--device", "cuda", "--prompt", "x",
            ],
            "--bin billion-cuda",
        ),
        (&["chat", "--model", "starter"], "--prompt"),
        (
            &["perplexity", "--model", "starter", "--text", "/none.txt"],
            "/none.txt",
        ),
        (
            &["perplexity", "--model", "starter", "--text", &latin],
            "UTF-8",
        ),
        (
            &[
                "perplexity",
                "--model",
                "starter",
                "--text",
                &text,
                "--ctx",
                "99999999",
            ],
            "99999999",
        ),
        (
            &[
                "bench",
                "mmlu",
                "--model",
                "starter",
                "--subjects",
                "astrology",
            ],
            "astrology",
        ),
        (
            &["bench", "mmlu", "--model", "starter", "--data", &folder],
            "nothing",
        ),
        (
            // Said at once: without a limit the questions would take an hour.
            &["bench", "mmlu", "--model", "starter", "--samples", &folder],
            "--samples",
        ),
        (
            &["bench", "memory", "--model", "starter", "--ctx", "99999999"],
            "99999999",
        ),
        (&["results", "show", "4000"], "4000"),
    ] {
        let mut args = args.to_vec();
        args.push("--json");
        program.fails(&args, 1, says);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_is_lost_is_an_error() {
    let program = Program::new();
    let full = std::fs::File::create("/dev/full").expect("a full device");
    let run = program.run_into(&["models", "list", "--json"], full);
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("standard output") && run.stderr.lines().count() == 1,
        "{}",
        run.stderr
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_cancels_with_status_130() {
    let program = Program::new();
    let run = program.interrupt_after(
        &["bench", "mmlu", "--model", "starter", "--json"],
        std::time::Duration::from_secs(2),
    );
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (130, ""),
        "{}",
        run.stderr
    );
    assert_eq!(run.stderr.trim_end().lines().count(), 1, "{}", run.stderr);
}
