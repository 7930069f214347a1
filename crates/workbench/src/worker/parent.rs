//! The parent's end of a worker: starting it, asking it, cancelling (ask first, kill after two seconds), and saying
//! clearly what happened when it dies.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use billion_eval::tasks::humaneval::{Completion, Judgement};

use super::protocol::{Answer, Ask, Body, Outcome, PROTOCOL, Request, TuneNews};
use crate::api::{ApiError, ErrorCode, ReplySpeculation};
use crate::cancel::Cancel;
use crate::machine;

/// How long a worker may take to say hello; it only starts and detects the processor.
const HELLO: Duration = Duration::from_secs(20);
/// How long a cancelled worker may take before it is killed.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// The same while it trains: a step has its end, and then its checkpoint, so that nothing is lost.
const TRAINING_GRACE: Duration = Duration::from_mins(1);
/// How often a waiting request looks whether it was cancelled.
const TICK: Duration = Duration::from_millis(20);
/// Lines of standard error kept for the message when a worker dies.
const STDERR_LINES: usize = 12;

/// A running worker process. Dropping it ends the process.
pub(crate) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Heard>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    next_id: u64,
    /// What the loaded model takes, for the message when it is killed.
    needs_bytes: Option<u64>,
    dead: bool,
}

/// What the reading thread hears.
enum Heard {
    Answer(Answer),
    /// Not a message of the protocol.
    Noise(String),
    /// The worker's output ended.
    Gone,
}

/// What a request hears before its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// See `Body::Progress`.
    Progress { step: String, done: u32, total: u32 },
    /// See `Body::Text`.
    Text {
        text: String,
        tokens: u32,
        speculation: Option<ReplySpeculation>,
    },
    /// See `Body::Sample`.
    Sample {
        sample: super::MmluSample,
        done: u32,
        total: u32,
    },
    /// See `Body::Completion`.
    Completion {
        completion: Completion,
        done: u32,
        total: u32,
    },
    /// See `Body::Judged`.
    Judged {
        index: u32,
        judgement: Judgement,
        done: u32,
    },
    /// See `Body::Answer`.
    Answer { index: u32, text: String, done: u32 },
    /// See `Body::Tuning`.
    Tuning(Box<TuneNews>),
}

impl Worker {
    /// Starts `engine --engine-worker` and waits for its hello.
    pub(crate) fn spawn(engine: &Path) -> Result<Self, ApiError> {
        let mut child = spawn_from_lasting_thread(engine).map_err(|error| {
            ApiError::failed(format!(
                "the engine {} could not be started: {error}; reinstall Billion, or build it with `cargo build --release -p billion-cli`",
                engine.display()
            ))
        })?;
        let stdin = child.stdin.take();
        let (sender, messages) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        std::thread::spawn(move || read_messages(BufReader::new(stdout), &sender));
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let kept = Arc::clone(&stderr);
        std::thread::spawn(move || keep_last_lines(lines, &kept));
        let mut worker = Self {
            child,
            stdin,
            messages,
            stderr,
            next_id: 1,
            needs_bytes: None,
            dead: false,
        };
        match worker.messages.recv_timeout(HELLO) {
            Ok(Heard::Answer(Answer {
                body: Body::Hello {
                    protocol: PROTOCOL, ..
                },
                ..
            })) => Ok(worker),
            Ok(Heard::Answer(Answer {
                body: Body::Hello { protocol, version },
                ..
            })) => Err(ApiError::failed(format!(
                "the engine {} is Billion {version} and speaks protocol {protocol}, but this is Billion {} and speaks {PROTOCOL}; install both from the same release",
                engine.display(),
                env!("CARGO_PKG_VERSION")
            ))),
            Ok(Heard::Gone) => {
                let mut death = worker.death("while it started");
                if engine
                    .file_stem()
                    .is_some_and(|name| name == "billion-cuda")
                {
                    death.message.push_str(
                        " billion-cuda needs NVIDIA's driver and CUDA's libraries (cudart, cublas, curand, nvrtc) of the \
                         version that it was built with; --device cpu does without.",
                    );
                }
                Err(death)
            }
            Ok(Heard::Answer(_) | Heard::Noise(_)) => Err(ApiError::failed(format!(
                "{} is not Billion's engine: it did not say hello",
                engine.display()
            ))),
            Err(_) => Err(ApiError::failed(format!(
                "the engine {} did not answer within {} s; the machine may be overloaded, try again",
                engine.display(),
                HELLO.as_secs()
            ))),
        }
    }

    /// It can take a request.
    pub(crate) fn is_alive(&mut self) -> bool {
        if !self.dead && !matches!(self.child.try_wait(), Ok(None)) {
            self.dead = true;
        }
        !self.dead
    }

    /// Says what the model will take, for the message if the system kills the worker.
    pub(crate) fn expect_memory(&mut self, bytes: u64) {
        self.needs_bytes = Some(bytes);
    }

    /// Asks and waits for the end. A cancelled reply is an outcome like any other; other work ends in
    /// `ErrorCode::Cancelled`, and so does everything that had to be killed. `ErrorCode::WorkerDied` if the process ends.
    pub(crate) fn request(
        &mut self,
        ask: Ask,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Outcome, ApiError> {
        let id = self.next_id;
        self.next_id += 1;
        let grace = match &ask {
            Ask::Tune(_) => TRAINING_GRACE,
            _ => CANCEL_GRACE,
        };
        if !self.say(&Request { id, ask }) {
            return Err(self.death("before it could be asked"));
        }
        let mut kill_at: Option<Instant> = None;
        loop {
            match self.messages.recv_timeout(TICK) {
                Ok(Heard::Answer(answer)) if answer.id == id => match answer.body {
                    Body::Progress { step, done, total } => {
                        on_event(Event::Progress { step, done, total });
                    }
                    Body::Text {
                        text,
                        tokens,
                        speculation,
                    } => on_event(Event::Text {
                        text,
                        tokens,
                        speculation,
                    }),
                    Body::Sample {
                        sample,
                        done,
                        total,
                    } => on_event(Event::Sample {
                        sample,
                        done,
                        total,
                    }),
                    Body::Completion {
                        completion,
                        done,
                        total,
                    } => on_event(Event::Completion {
                        completion,
                        done,
                        total,
                    }),
                    Body::Judged {
                        index,
                        judgement,
                        done,
                    } => on_event(Event::Judged {
                        index,
                        judgement,
                        done,
                    }),
                    Body::Answer { index, text, done } => {
                        on_event(Event::Answer { index, text, done });
                    }
                    Body::Tuning(news) => on_event(Event::Tuning(news)),
                    Body::Done { outcome } => return Ok(*outcome),
                    Body::Failed { error, last } => {
                        if last {
                            self.end();
                        }
                        return Err(error);
                    }
                    Body::Hello { .. } => {}
                },
                Ok(Heard::Noise(line)) => {
                    self.end();
                    return Err(died(format!(
                        "the engine wrote something that is not a message ({line:?}) and was ended; try again"
                    )));
                }
                Ok(Heard::Gone) | Err(RecvTimeoutError::Disconnected) => {
                    let death = self.death("in the middle of the work");
                    // The same signal may have reached both.
                    return Err(cancel.check().err().unwrap_or(death));
                }
                // Late words about an earlier request, or nothing new.
                Ok(Heard::Answer(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            match kill_at {
                None if cancel.is_set() => {
                    kill_at = Some(Instant::now() + grace);
                    let next = self.next_id;
                    self.next_id += 1;
                    self.say(&Request {
                        id: next,
                        ask: Ask::Cancel { request: id },
                    });
                }
                Some(at) if Instant::now() >= at => {
                    self.end();
                    return Err(ApiError::cancelled());
                }
                _ => {}
            }
        }
    }

    /// Writes a request; false if the worker is gone.
    fn say(&mut self, request: &Request) -> bool {
        let Some(stdin) = &mut self.stdin else {
            return false;
        };
        let mut line = serde_json::to_vec(request).expect("requests have string keys only");
        line.push(b'\n');
        stdin.write_all(&line).and_then(|()| stdin.flush()).is_ok()
    }

    /// Kills the process and reaps it.
    fn end(&mut self) {
        self.dead = true;
        self.stdin = None;
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Why the process ended, as a person reads it.
    fn death(&mut self, when: &str) -> ApiError {
        // Its output has ended; give it a moment to end itself and its last words a moment to arrive.
        let deadline = Instant::now() + Duration::from_millis(500);
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => break None,
            }
        };
        self.end();
        std::thread::sleep(Duration::from_millis(30));
        let how = match status {
            Some(status) => describe_exit(status, self.needs_bytes),
            None => "closed its output and was ended".to_owned(),
        };
        let words = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let last = words
            .iter()
            .rev()
            .take(3)
            .rev()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" / ");
        let last = if last.is_empty() {
            String::new()
        } else {
            format!(" Its last words: {last}.")
        };
        died(format!(
            "the engine process ended {when}: it {how}.{last} Try again: a new one starts by itself."
        ))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn died(message: String) -> ApiError {
    ApiError {
        code: ErrorCode::WorkerDied,
        message,
        link: None,
    }
}

fn describe_exit(status: std::process::ExitStatus, needs_bytes: Option<u64>) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let free = machine::free_memory_bytes();
        return match signal {
            libc::SIGKILL => {
                let figures = needs_bytes.map_or_else(String::new, |needs| {
                    format!(
                        " (the model needs about {}, {} are free now)",
                        machine::bytes_words(needs),
                        machine::bytes_words(free)
                    )
                });
                format!("was killed, perhaps because memory ran out{figures}")
            }
            libc::SIGSEGV => "crashed (signal 11, invalid memory access)".to_owned(),
            libc::SIGILL => {
                "crashed (signal 4, an instruction this processor does not have)".to_owned()
            }
            libc::SIGABRT => "aborted (signal 6)".to_owned(),
            libc::SIGBUS => {
                "crashed (signal 7, a mapped file became shorter or unreadable)".to_owned()
            }
            other => format!("was ended by signal {other}"),
        };
    }
    let _ = needs_bytes;
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => "ended".to_owned(),
    }
}

fn read_messages(mut lines: impl BufRead, sender: &Sender<Heard>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let heard = serde_json::from_slice(&line).map_or_else(
                    |_| {
                        Heard::Noise(
                            String::from_utf8_lossy(&line[..line.len().min(200)])
                                .trim_end()
                                .to_owned(),
                        )
                    },
                    Heard::Answer,
                );
                if sender.send(heard).is_err() {
                    return;
                }
            }
        }
    }
    // Nobody listens any more only if the worker was dropped.
    let _ = sender.send(Heard::Gone);
}

fn keep_last_lines(lines: impl BufRead, kept: &Mutex<VecDeque<String>>) {
    for line in lines.split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line[..line.len().min(400)])
            .trim()
            .to_owned();
        if line.is_empty() {
            continue;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == STDERR_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

type Spawned = std::io::Result<Child>;

/// An executable to start, and where the process goes.
type SpawnRequest = (PathBuf, Sender<Spawned>);

/// Starts the process from a thread that lives as long as this process: Linux sends the parent-death signal when the
/// *thread* that started a child ends, and ours come and go.
fn spawn_from_lasting_thread(engine: &Path) -> Spawned {
    static SPAWNER: OnceLock<Mutex<Sender<SpawnRequest>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<SpawnRequest>();
        std::thread::Builder::new()
            .name("worker-spawner".to_owned())
            .spawn(move || {
                for (engine, reply) in requests {
                    let spawned = Command::new(&engine)
                        .arg("--engine-worker")
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .stderr(Stdio::piped())
                        .spawn();
                    // The asker waits below.
                    let _ = reply.send(spawned);
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (reply, spawned) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((engine.to_owned(), reply))
        .expect("the spawner never ends");
    spawned.recv().expect("the spawner always replies")
}
