//! What is done with stored runs: listed, compared, exported; on the starter model, with runs of a few questions.

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod program;

use program::Program;
use serde_json::Value;

fn mmlu(program: &Program, limit: &str, subjects: &str) -> u64 {
    let report = program.json(&[
        "bench",
        "mmlu",
        "--model",
        "starter",
        "--limit",
        limit,
        "--subjects",
        subjects,
    ]);
    report["run"].as_u64().expect("a stored run")
}

fn length(value: &Value) -> usize {
    value.as_array().expect("a list").len()
}

#[test]
fn runs_are_compared_and_exported_in_every_form() {
    let program = Program::new();
    let a = mmlu(&program, "3", "astronomy,marketing").to_string();
    let b = mmlu(&program, "2", "astronomy").to_string();
    let same = program.json(&["results", "compare", &a, &b]);
    assert_eq!((&same["shared"], length(&same["flips"])), (&2.into(), 0));
    assert_eq!(same["p_value"], 1.0);
    assert!(
        same["verdict"]
            .as_str()
            .is_some_and(|text| text.contains("cannot be told apart"))
    );
    assert!(
        same["notes"]
            .to_string()
            .contains("different sets of questions"),
        "{same}"
    );
    let text = program.text(&["results", "compare", &a, &b]);
    assert!(
        text.contains("Accuracy") && text.contains("2 questions that both answered"),
        "{text}"
    );

    let list = |args: &[&str]| length(&program.json(&[&["results", "list"], args].concat()));
    assert_eq!(
        (list(&["--task", "mmlu"]), list(&["--task", "speed"])),
        (2, 0)
    );
    assert_eq!(
        (list(&["--model", "starter"]), list(&["--model", "x"])),
        (2, 0)
    );

    let out = |name: &str| program.folder().join(name).display().to_string();
    for (name, begins) in [
        ("a.json", "{"),
        ("a.csv", "run,task,model"),
        ("a.html", "<!DOCTYPE html>"),
        ("a.svg", "<svg "),
    ] {
        let file = out(name);
        let done = program.json(&["results", "export", &a, "--out", &file]);
        let text = std::fs::read_to_string(&file).expect("written");
        assert!(text.starts_with(begins), "{name}");
        assert_eq!(done["bytes"].as_u64(), Some(text.len() as u64));
    }
    let png = out("picture");
    program.json(&[
        "results", "export", &a, &b, "--format", "png", "--out", &png,
    ]);
    assert!(
        std::fs::read(&png)
            .expect("written")
            .starts_with(b"\x89PNG\r\n")
    );
    let csv = std::fs::read_to_string(out("a.csv")).expect("written");
    assert_eq!(csv.lines().count(), 1 + 6, "a row a question");

    program.fails(&["results", "compare", &a, &a], 1, "itself");
    program.fails(&["results", "compare", &a, "99"], 1, "no run 99");
    program.fails(&["results", "export", &a, "--out", &png], 1, "--format");
    program.fails(&["results", "export", "--out", &png], 2, "ID");
    program.fails(
        &["results", "export", &a, "--out", &out("no/such.csv")],
        1,
        "does not exist",
    );
    program.fails(
        &["results", "export", "99", "--out", &out("x.csv")],
        1,
        "no run 99",
    );
    program.fails(
        &[
            "scorecard",
            "--models",
            "starter",
            "--html",
            &out("no/such.html"),
        ],
        1,
        "does not exist",
    );
}
