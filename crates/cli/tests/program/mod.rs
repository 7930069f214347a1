//! Starts the built binary with a data folder of its own and the checkout's starter pack.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A finished run of the binary.
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// The binary, its data folder, and what its environment holds besides.
pub struct Program {
    data: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Program {
    pub fn new() -> Self {
        Self {
            data: tempfile::tempdir().expect("a folder"),
            environment: Vec::new(),
        }
    }

    /// With a variable in its environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// A folder that is gone when the test ends.
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_billion"));
        command
            .args(args)
            .env("BILLION_DATA", self.data.path().join("data"))
            .env(
                "BILLION_STARTER",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/pack"),
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it and does not wait.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("started")
    }

    pub fn run(&self, args: &[&str]) -> Finished {
        self.command(args).output().expect("started").into()
    }

    #[cfg(target_os = "linux")]
    pub fn run_into(&self, args: &[&str], out: std::fs::File) -> Finished {
        let run = self.command(args).stdout(out).output();
        run.expect("started").into()
    }

    pub fn run_with_input(&self, args: &[&str], input: &str) -> Finished {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        stdin
            .write_all(input.as_bytes())
            .expect("read by the program");
        drop(stdin);
        child.wait_with_output().expect("ended").into()
    }

    /// Sends SIGINT to the running program and its worker, as a terminal does.
    #[cfg(unix)]
    pub fn interrupt_after(&self, args: &[&str], wait: std::time::Duration) -> Finished {
        use std::os::unix::process::CommandExt as _;
        let child = self
            .command(args)
            .process_group(0)
            .spawn()
            .expect("started");
        std::thread::sleep(wait);
        let sent = Command::new("kill")
            .args(["-INT", "--", &format!("-{}", child.id())])
            .status()
            .expect("kill is there");
        assert!(sent.success(), "it was still running");
        child.wait_with_output().expect("ended").into()
    }

    /// Standard output of a run that succeeds.
    pub fn text(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.status, 0, "{args:?}: {}", run.stderr);
        run.stdout
    }

    /// The one document of a run with `--json` that succeeds.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.text(&args)).expect("one JSON document")
    }

    /// Fails with this status, an empty standard output, and one line that holds `says`.
    pub fn fails(&self, args: &[&str], status: i32, says: &str) {
        let run = self.run(args);
        assert_eq!(run.status, status, "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert_eq!(
            run.stderr.trim_end().lines().count(),
            1,
            "{args:?}: {}",
            run.stderr
        );
        assert!(!run.stderr.contains("panicked"), "{args:?}: {}", run.stderr);
    }
}
