//! One judgement by two interpreters: who may say what when, and what each ending means.
//!
//! B is started first and loads the program; only if that works is A started. From then on one of them runs at a time: A's
//! call goes to B, B's answer to A. A message out of turn is tampering. A passes a program by giving the host's nonce.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guest::{Budget, Guest, Limits, Line, Stop};
use super::interpreter::Python;
use super::value::{self, Fault};
use crate::Error;

const EXAMINER: &str = include_str!("examiner.py");
const CANDIDATE: &str = include_str!("candidate.py");

/// Calls of the program's function by its tests; none of HumanEval's makes more than a few hundred.
const MOST_CALLS: usize = 100_000;

/// Characters of a judgement's detail.
const DETAIL_CHARS: usize = 300;

/// Random bytes of the two interpreters follow from these, so that a verdict can be reproduced.
const SEED_A: u64 = 0xa;
const SEED_B: u64 = 0xb;

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every test passed.
    Passed,
    /// A test failed.
    WrongAnswer,
    /// The program raised an exception.
    Exception,
    /// It is not valid Python.
    SyntaxError,
    /// It took longer than the limit, slept time included.
    Timeout,
    /// It wanted more memory than the limit.
    Memory,
    /// It printed or returned more than the limit.
    Output,
    /// It called the host more often than the limit.
    HostCalls,
    /// It used up the interpreter's stack.
    StackOverflow,
    /// It ended the interpreter.
    Exit,
    /// The interpreter itself gave up.
    Crash,
    /// It answered with what is no plain value, or spoke out of turn: what a program does that tries to fool its tests.
    Tamper,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 12] = [
        Self::Passed,
        Self::WrongAnswer,
        Self::Exception,
        Self::SyntaxError,
        Self::Timeout,
        Self::Memory,
        Self::Output,
        Self::HostCalls,
        Self::StackOverflow,
        Self::Exit,
        Self::Crash,
        Self::Tamper,
    ];

    /// The verdict in words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::WrongAnswer => "wrong answer",
            Self::Exception => "exception",
            Self::SyntaxError => "syntax error",
            Self::Timeout => "out of time",
            Self::Memory => "out of memory",
            Self::Output => "too much output",
            Self::HostCalls => "too many system calls",
            Self::StackOverflow => "stack overflow",
            Self::Exit => "ended itself",
            Self::Crash => "crashed",
            Self::Tamper => "tampering",
        }
    }
}

/// A program and what to ask of it.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The whole program under test.
    pub program: &'a str,
    /// What the tests need of the program besides its function: run in A before them.
    pub context: &'a str,
    /// Defines `check(candidate)`.
    pub test: &'a str,
    /// Name of the function.
    pub entry_point: &'a str,
}

/// What was found out about a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// One line about it for people; empty where the verdict says all. The program may have written part of it.
    pub detail: String,
    /// Processor time it took, slept time included.
    pub time: Duration,
}

impl Python {
    /// Judges a program. An error means that no verdict could be made, which is no fault of the program.
    pub fn examine(&self, trial: &Trial<'_>, limits: &Limits) -> Result<Finding, Error> {
        self.examine_until(trial, limits, &Arc::default())
    }

    /// The same, but what is found means nothing once `cancelled` is set; then it ends within milliseconds.
    pub(crate) fn examine_until(
        &self,
        trial: &Trial<'_>,
        limits: &Limits,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Finding, Error> {
        let budget = Arc::new(Budget::new(limits.time, Arc::clone(cancelled)));
        let (verdict, detail) = std::thread::scope(|scope| {
            let ending = Ending(&budget);
            let found = self.examine_in(scope, trial, limits, &budget);
            drop(ending);
            found
        })?;
        // The program may have written it: nothing in it may move a terminal's cursor.
        let one_line = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        let printable = one_line.chars().filter(|c| !c.is_control());
        Ok(Finding {
            verdict,
            detail: printable.take(DETAIL_CHARS).collect(),
            time: budget.used(),
        })
    }

    fn examine_in<'scope>(
        &self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        trial: &Trial<'_>,
        limits: &Limits,
        budget: &Arc<Budget>,
    ) -> Result<(Verdict, String), Error> {
        let failed = |e: std::io::Error| Error::Sandbox {
            what: "cannot start an interpreter".to_owned(),
            problem: e.to_string(),
        };
        let (ask, asked) = channel();
        let (reply, replies) = channel();
        let line = CandidateLine {
            turn: Turn::Loading,
            asked,
            reply: reply.clone(),
            budget: Arc::clone(budget),
        };
        let messages = [trial.program.as_bytes(), trial.entry_point.as_bytes()];
        let budget_b = Arc::clone(budget);
        let b = Guest::new(
            CANDIDATE,
            &messages,
            Box::new(line),
            budget_b,
            limits,
            SEED_B,
        );
        self.start(scope, b, move |stop| {
            let _ = reply.send(Reply::Stopped(stop));
        })
        .map_err(failed)?;
        let end = match wait(&replies, budget) {
            Ok(Reply::Ready) => {
                let nonce = nonce();
                let left = Arc::<Mutex<Left>>::default();
                let line = ExaminerLine {
                    nonce: nonce.clone(),
                    ask,
                    replies,
                    budget: Arc::clone(budget),
                    left: Arc::clone(&left),
                    calls: 0,
                    raised: None,
                };
                let messages = [
                    nonce.as_bytes(),
                    trial.context.as_bytes(),
                    trial.test.as_bytes(),
                    trial.entry_point.as_bytes(),
                ];
                let budget_a = Arc::clone(budget);
                let a = Guest::new(
                    EXAMINER,
                    &messages,
                    Box::new(line),
                    budget_a,
                    limits,
                    SEED_A,
                );
                let (over, end_of_a) = channel();
                self.start(scope, a, move |stop| {
                    let _ = over.send(stop);
                })
                .map_err(failed)?;
                let stop = end_of_a
                    .recv()
                    .expect("a started interpreter tells its end");
                let mut left = lock(&left);
                let answered = left.answered;
                let end = left.end.take();
                end.unwrap_or(End::Examiner { stop, answered })
            }
            Ok(reply) => End::Reply(reply),
            Err(stop) => End::Reply(Reply::Stopped(stop)),
        };
        judged(end)
    }
}

/// Ends what still runs when the judgement is made, however that is.
struct Ending<'a>(&'a Budget);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How a judgement ended.
enum End {
    /// A told its result.
    Done {
        /// `P`, `W` or `X`.
        status: u8,
        detail: String,
        /// The last exception of B, type and message.
        raised: Option<(String, String)>,
    },
    /// B said what ends it.
    Reply(Reply),
    /// A stopped without a result.
    Examiner {
        /// Why.
        stop: Stop,
        /// Whether it had an answer of B to work with.
        answered: bool,
    },
}

/// What B tells A's side.
enum Reply {
    /// The program is loaded.
    Ready,
    /// The program cannot be compiled.
    Syntax(String),
    /// An exception: type and message.
    Raised(Vec<u8>),
    /// An answer of a sound form.
    Answer(Vec<u8>),
    /// An answer that is no plain value.
    NotPlain(String),
    /// B is no more.
    Stopped(Stop),
}

fn judged(end: End) -> Result<(Verdict, String), Error> {
    match end {
        End::Done { status: b'P', .. } => Ok((Verdict::Passed, String::new())),
        End::Done {
            status: b'X',
            raised: Some((name, message)),
            ..
        } => Ok(exception(&name, &message)),
        End::Done { detail, .. } => Ok((Verdict::WrongAnswer, detail)),
        End::Reply(Reply::Syntax(detail)) => Ok((Verdict::SyntaxError, detail)),
        End::Reply(Reply::Raised(body)) => {
            let (name, message) = name_and_message(&body);
            Ok(exception(&name, &message))
        }
        End::Reply(Reply::NotPlain(what)) => Ok(match what.strip_prefix('!') {
            Some(what) => (
                Verdict::Tamper,
                format!("returned {what}, a type of its own, where a plain value belongs"),
            ),
            None => (
                Verdict::WrongAnswer,
                format!("returned {what}, which is no plain value"),
            ),
        }),
        End::Reply(Reply::Ready | Reply::Answer(_)) => Ok(stopped(out_of_turn())),
        // The tests can take long or much memory over what B answered, or fail over it.
        End::Reply(Reply::Stopped(stop))
        | End::Examiner {
            stop,
            answered: true,
        }
        | End::Examiner {
            stop: stop @ (Stop::Time | Stop::Over),
            ..
        } => Ok(stopped(stop)),
        End::Examiner { stop, .. } => Err(Error::Sandbox {
            what: "the interpreter that holds the tests stopped".to_owned(),
            problem: stopped(stop).1,
        }),
    }
}

fn exception(name: &str, message: &str) -> (Verdict, String) {
    let verdict = match name {
        "MemoryError" => Verdict::Memory,
        "SystemExit" => Verdict::Exit,
        _ => Verdict::Exception,
    };
    let detail = if message.is_empty() {
        name.to_owned()
    } else {
        format!("{name}: {message}")
    };
    (verdict, detail)
}

fn stopped(stop: Stop) -> (Verdict, String) {
    match stop {
        Stop::Exit(status) => (Verdict::Exit, format!("exit status {status}")),
        Stop::Time | Stop::Over => (Verdict::Timeout, String::new()),
        Stop::Memory => (Verdict::Memory, String::new()),
        Stop::Output(verb) => (Verdict::Output, format!("{verb} more than its limit")),
        Stop::HostCalls => (Verdict::HostCalls, String::new()),
        Stop::Tamper(detail) => (Verdict::Tamper, detail),
        Stop::Stack => (Verdict::StackOverflow, String::new()),
        Stop::Crash(detail) => (Verdict::Crash, detail),
    }
}

fn out_of_turn() -> Stop {
    Stop::Tamper("spoke out of turn".to_owned())
}

fn name_and_message(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let (name, message) = text.split_once('\n').unwrap_or((&text, ""));
    (name.to_owned(), message.to_owned())
}

/// Whose turn it is on B's line.
#[derive(PartialEq)]
enum Turn {
    /// B loads the program.
    Loading,
    /// A call awaits B's answer.
    Answering,
    /// B waits for a call.
    Waiting,
    /// B has nothing more to say.
    Ended,
}

struct CandidateLine {
    turn: Turn,
    asked: Receiver<Vec<u8>>,
    reply: Sender<Reply>,
    budget: Arc<Budget>,
}

impl Line for CandidateLine {
    fn said(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        let (&kind, body) = message.split_first().ok_or_else(out_of_turn)?;
        let text = || String::from_utf8_lossy(body).into_owned();
        let (reply, next) = match (&self.turn, kind) {
            (Turn::Loading, b'R') => (Reply::Ready, Turn::Waiting),
            (Turn::Loading, b'S') => (Reply::Syntax(text()), Turn::Ended),
            (Turn::Loading, b'E') => (Reply::Raised(body.to_vec()), Turn::Ended),
            (Turn::Answering, b'E') => (Reply::Raised(body.to_vec()), Turn::Waiting),
            (Turn::Answering, b'O') => (Reply::NotPlain(text()), Turn::Ended),
            (Turn::Answering, b'V' | b'I' | b'G' | b'K' | b'W' | b'T' | b'D' | b'F') => {
                match value::check(body) {
                    Ok(()) => (Reply::Answer(message.to_vec()), Turn::Waiting),
                    Err(Fault::NotPlain(what)) => (Reply::NotPlain(what.to_owned()), Turn::Ended),
                    Err(Fault::Malformed(what)) => {
                        return Err(Stop::Tamper(format!("its answer is {what}")));
                    }
                }
            }
            _ => return Err(out_of_turn()),
        };
        self.turn = next;
        self.reply.send(reply).map_err(|_| Stop::Over)?;
        Ok(Vec::new())
    }

    fn next(&mut self) -> Result<Vec<u8>, Stop> {
        if self.turn != Turn::Waiting {
            return Err(match self.turn {
                Turn::Ended => Stop::Over,
                _ => Stop::Tamper("listened out of turn".to_owned()),
            });
        }
        let call = wait(&self.asked, &self.budget)?;
        self.turn = Turn::Answering;
        Ok(call)
    }
}

/// What A's line leaves for the judgement.
#[derive(Default)]
struct Left {
    end: Option<End>,
    /// Whether B has answered anything.
    answered: bool,
}

fn lock(left: &Mutex<Left>) -> std::sync::MutexGuard<'_, Left> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

struct ExaminerLine {
    nonce: String,
    ask: Sender<Vec<u8>>,
    replies: Receiver<Reply>,
    budget: Arc<Budget>,
    left: Arc<Mutex<Left>>,
    calls: usize,
    /// The last exception of B, type and message.
    raised: Option<(String, String)>,
}

impl ExaminerLine {
    /// Ends A, and leaves why.
    fn end(&mut self, end: End) -> Stop {
        lock(&self.left).end = Some(end);
        Stop::Over
    }

    fn call(&mut self, call: &[u8]) -> Result<Vec<u8>, Stop> {
        self.calls += 1;
        if self.calls > MOST_CALLS {
            return Err(Stop::HostCalls);
        }
        // If B is gone its end lies among the replies.
        let _ = self.ask.send(call.to_vec());
        match wait(&self.replies, &self.budget)? {
            Reply::Answer(message) => {
                lock(&self.left).answered = true;
                Ok(message)
            }
            Reply::Raised(body) => {
                lock(&self.left).answered = true;
                self.raised = Some(name_and_message(&body));
                Ok([b"E", body.as_slice()].concat())
            }
            reply => Err(self.end(End::Reply(reply))),
        }
    }
}

impl Line for ExaminerLine {
    fn said(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        match message.split_first() {
            Some((b'C', call)) => Ok(vec![self.call(call)?]),
            Some((b'D', body)) => {
                let words = body.strip_prefix(self.nonce.as_bytes());
                let Some((&status, detail)) = words.and_then(|w| w.split_first()) else {
                    return Err(Stop::Tamper("the wrong nonce".to_owned()));
                };
                let end = End::Done {
                    status,
                    detail: String::from_utf8_lossy(detail).into_owned(),
                    raised: self.raised.take(),
                };
                Err(self.end(end))
            }
            _ => Err(out_of_turn()),
        }
    }

    fn next(&mut self) -> Result<Vec<u8>, Stop> {
        Err(out_of_turn())
    }
}

/// The next message, as long as there is time.
fn wait<T>(from: &Receiver<T>, budget: &Budget) -> Result<T, Stop> {
    /// Sleeping moves the clock, so the time left is looked at again this often.
    const LOOK: Duration = Duration::from_millis(20);
    loop {
        match from.recv_timeout(LOOK) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Disconnected) => return Err(Stop::Over),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(stop) = budget.stop() {
                    // B tells its own end at about the same time, and more exactly.
                    return from.recv_timeout(LOOK).map_err(|_| stop);
                }
            }
        }
    }
}

/// 128 bits that nobody can guess: SipHash under keys from the system's random source.
fn nonce() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}
