//! `bench humaneval` as a script sees it: a model's completions, another tool's, and the self-test.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::Program;

/// The first problem's right answer, and what a program does that tries to pass without one.
const RIGHT: &str = "    for i, a in enumerate(numbers):\n        for b in numbers[i + 1:]:\n            if abs(a - b) < threshold:\n                return True\n    return False\n";
const WRONG: &str = "    return True\n";
const BROKEN: &str = "    return (\n";
const LIAR: &str =
    "    class Yes:\n        def __eq__(self, other):\n            return True\n    return Yes()\n";
const QUITTER: &str = "    import os\n    os._exit(0)\n";

fn write(path: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).expect("written");
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("samples");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

#[test]
fn completions_of_another_tool_are_scored_line_by_line() {
    let program = Program::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (file, samples) = (dir.path().join("c.jsonl"), dir.path().join("s.jsonl"));
    let given = [RIGHT, WRONG, BROKEN, LIAR, QUITTER, RIGHT];
    let lines: Vec<Value> = given
        .iter()
        .map(|completion| {
            json!({ "task_id": "HumanEval/0", "completion": completion, "model": "another" })
        })
        .collect();
    write(&file, &lines);
    let (file, samples) = (file.display().to_string(), samples.display().to_string());
    let report = program.json(&[
        "bench",
        "humaneval",
        "--completions",
        &file,
        "--samples",
        &samples,
    ]);
    assert_eq!(
        (&report["total"], &report["passed"]),
        (&6.into(), &2.into())
    );
    assert_eq!(report["tokens_per_s"], Value::Null);
    let verdicts = report["verdicts"].as_object().expect("verdicts");
    let counted: u64 = verdicts.values().filter_map(Value::as_u64).sum();
    assert_eq!(counted, 6, "{verdicts:?}");
    assert_eq!(verdicts["passed"], 2);
    let judged = read(Path::new(&samples));
    let passed: Vec<bool> = judged.iter().map(|line| line["passed"] == true).collect();
    assert_eq!(passed, [true, false, false, false, false, true]);
    assert_eq!(judged[2]["verdict"], "syntax_error");
    assert!(
        program.json(&["results", "list"]) == json!([]),
        "another tool's completions are no run of a model"
    );

    write(
        Path::new(&file),
        &[
            lines[0].clone(),
            json!({ "task_id": "HumanEval/164", "completion": "" }),
        ],
    );
    let ask = ["bench", "humaneval", "--completions", &file];
    program.fails(&ask, 1, "line 2");
    program.fails(&["bench", "humaneval"], 2, "--model");
}

#[test]
fn a_model_writes_completions_that_are_stored_and_judged() {
    let program = Program::new();
    let dir = tempfile::tempdir().expect("a folder");
    let samples = dir.path().join("s.jsonl").display().to_string();
    let report = program.json(&[
        "bench",
        "humaneval",
        "--model",
        "starter",
        "--limit",
        "3",
        "--max-tokens",
        "128",
        "--samples",
        &samples,
    ]);
    assert_eq!(
        (&report["total"], &report["problems"]),
        (&3.into(), &3.into())
    );
    assert_eq!(
        report["form"], "instruct",
        "the starter has a chat template"
    );
    for name in ["pass_at_1", "passed", "seconds", "tokens_per_s", "run"] {
        assert!(report[name].is_number(), "{name} of {report}");
    }
    assert_eq!(report["ci95"].as_array().map(Vec::len), Some(2));
    let judged = read(Path::new(&samples));
    assert_eq!(judged.len(), 3);
    let passed = judged.iter().filter(|line| line["passed"] == true).count();
    assert_eq!(report["passed"], passed);

    // What was written scores the same from its own file: the two ways are one.
    let again = program.json(&["bench", "humaneval", "--completions", &samples]);
    for name in ["passed", "total", "verdicts", "pass_at_1", "ci95"] {
        assert_eq!(report[name], again[name], "{name}");
    }
    let run = report["run"].to_string();
    let shown = program.json(&["results", "show", &run]);
    assert_eq!(shown["completions"].as_array().map(Vec::len), Some(3));
    program.fails(
        &[
            "bench",
            "humaneval",
            "--model",
            "starter",
            "--n",
            "2",
            "--temperature",
            "0",
        ],
        1,
        "temperature above 0",
    );
}

/// All canonical solutions pass and `return None` passes none: what makes every verdict worth something.
#[test]
fn the_self_test_passes() {
    let report = Program::new().json(&["bench", "humaneval", "--self-test"]);
    assert_eq!(
        (
            &report["total"],
            &report["passed"],
            &report["passed_nothing"]
        ),
        (&164.into(), &164.into(), &0.into())
    );
}
