//! The command line as a script sees it: exit status, and what goes to which stream.

use std::process::{Command, Output};

fn billion(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_billion"))
        .args(arguments)
        .env("BILLION_DATA", folder.path())
        .output()
        .unwrap()
}

#[test]
fn wrong_usage_exits_with_2_and_says_why_on_stderr_only() {
    for arguments in [
        &["no-such-command"][..],
        &["bench", "mmlu"],
        &["chat", "--max-tokens", "many"],
    ] {
        let output = billion(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_model_that_is_not_there_is_one_line_on_stderr_and_status_1() {
    let output = billion(&["models", "info", "/no/such/model.gguf", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.contains("/no/such/model.gguf"), "{said}");
}
