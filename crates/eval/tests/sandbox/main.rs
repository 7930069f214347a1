//! The sandbox against real programs: the 164 canonical solutions, honest programs of every kind, hostile ones. They run
//! in the starter pack's Python, which `./test` fetches; it is compiled once and kept in the target folder.

mod canonical;
mod honest;
mod hostile;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use billion_eval::sandbox::{Limits, Python};
use billion_eval::tasks::humaneval::{Judgement, Problem, judge};

fn pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/pack")
}

fn python() -> &'static Python {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandbox");
        Python::open(&pack().join("python/python.wasm"), &cache).expect("the starter pack's Python")
    })
}

/// One test at a time: they measure time, and each uses every core.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    python();
    guard
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn seconds(seconds: u64) -> Limits {
    Limits {
        time: Duration::from_secs(seconds),
        ..Limits::default()
    }
}

/// A problem of this file's own: `f` with this body of `check`.
fn problem(check: &str) -> Problem {
    Problem {
        task_id: "Test/0".to_owned(),
        prompt: "def f(n):\n    \"\"\" Told by the tests. \"\"\"\n".to_owned(),
        canonical_solution: String::new(),
        test: format!("\n\ndef check(candidate):\n{check}"),
        entry_point: "f".to_owned(),
    }
}

fn judged(check: &str, completion: &str) -> Judgement {
    judge(python(), &problem(check), completion, &Limits::default()).expect("a verdict")
}
