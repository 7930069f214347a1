//! The worker's main loop: requests from stdin on a thread of their own, so that a cancel acts while work runs; work on
//! the main thread; messages to stdout and nothing else there.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::Engine;
use super::outbox::Outbox;
use super::protocol::{Ask, Body, PROTOCOL, Request};
use crate::api::{ApiError, ErrorCode};

/// Requests that were cancelled, shared between the reading and the working thread.
#[derive(Clone, Default)]
pub(super) struct Cancelled(Arc<Mutex<HashSet<u64>>>);

impl Cancelled {
    /// The request was cancelled.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&id)
    }

    fn insert(&self, id: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    fn forget(&self, id: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

/// The main loop of `billion --engine-worker` over stdin and stdout; returns the exit status.
pub fn run_engine_worker() -> i32 {
    end_with_parent();
    let out = match protocol_output() {
        Ok(out) => out,
        Err(error) => {
            eprintln!("the engine worker cannot use its standard output: {error}");
            return 1;
        }
    };
    let outbox = Outbox::new(out);
    let hello = Body::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if !outbox.send(0, hello) {
        return 0;
    }
    let cancelled = Cancelled::default();
    let (sender, requests) = channel();
    let heard = cancelled.clone();
    std::thread::spawn(move || {
        read_requests(std::io::stdin().lock(), &sender, &heard);
        // The parent is gone or wants us gone; whatever runs is of no use to anyone.
        std::process::exit(0);
    });
    let mut engine = Engine::default();
    for Request { id, ask } in requests {
        let work = catch_unwind(AssertUnwindSafe(|| {
            engine.handle(id, ask, &outbox, &cancelled)
        }));
        let (body, end) = match work {
            Ok(Ok(outcome)) => (
                Body::Done {
                    outcome: Box::new(outcome),
                },
                None,
            ),
            // Only the end of the process ends a thread that goes on.
            Ok(Err(error)) => {
                let last = engine.runs_on();
                (Body::Failed { error, last }, last.then_some(1))
            }
            Err(panic) => {
                let error = panicked(panic.as_ref());
                (Body::Failed { error, last: true }, Some(101))
            }
        };
        cancelled.forget(id);
        if !outbox.send(id, body) {
            return 0;
        }
        if let Some(status) = end {
            outbox.close();
            return status;
        }
    }
    0
}

fn read_requests(lines: impl BufRead, requests: &Sender<Request>, cancelled: &Cancelled) {
    for line in lines.lines() {
        let Ok(line) = line else { return };
        match serde_json::from_str::<Request>(&line) {
            Ok(Request {
                ask: Ask::Cancel { request },
                ..
            }) => cancelled.insert(request),
            Ok(request) => {
                if requests.send(request).is_err() {
                    return;
                }
            }
            Err(error) => {
                eprintln!("the engine worker was asked something it does not understand: {error}");
                return;
            }
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ApiError {
    let words = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned());
    ApiError {
        code: ErrorCode::WorkerDied,
        message: format!(
            "the engine made a mistake and ended ({words}). Try again: a new one starts by itself. If it happens again, please report it."
        ),
        link: None,
    }
}

/// The way to the parent, under a number of its own; what libraries print goes to standard error instead.
#[cfg(unix)]
fn protocol_output() -> std::io::Result<Box<dyn Write + Send>> {
    let out = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(Box::new(std::fs::File::from(out)))
}

#[cfg(not(unix))]
fn protocol_output() -> std::io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(std::io::stdout()))
}

/// Linux ends us when the thread that started us ends (the parent keeps that thread), whatever state we are in.
fn end_with_parent() {
    #[cfg(target_os = "linux")]
    // A refusal leaves the end of stdin, which is the first fence.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}
