//! The worker's way out: messages as lines, with progress and text coalesced to at most 25 flushes a second.
//!
//! Text pieces are joined and never reordered; of progress only the latest counts; everything else goes out at once,
//! after what was held back before it.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Answer, Body};

/// Least time between two flushes of coalesced messages: 25 a second.
const INTERVAL: Duration = Duration::from_millis(40);

/// Where messages leave. Clones share the way out.
#[derive(Clone)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    text: Option<Answer>,
    progress: Option<Answer>,
    flushed_at: Option<Instant>,
    /// The reader is gone; nothing can be said any more.
    broken: bool,
    closed: bool,
}

impl Outbox {
    /// Starts the thread that flushes what is held back.
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                out,
                text: None,
                progress: None,
                flushed_at: None,
                broken: false,
                closed: false,
            }),
            wake: Condvar::new(),
        });
        let flusher = Arc::clone(&shared);
        std::thread::spawn(move || flush_loop(&flusher));
        Self { shared }
    }

    /// Sends or holds back a message. False if the parent is gone.
    pub(super) fn send(&self, id: u64, body: Body) -> bool {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match body {
            Body::Text {
                text,
                tokens,
                speculation,
            } => {
                match &mut state.text {
                    Some(Answer {
                        id: held,
                        body:
                            Body::Text {
                                text: joined,
                                tokens: count,
                                speculation: latest,
                            },
                    }) if *held == id => {
                        joined.push_str(&text);
                        *count = tokens;
                        *latest = speculation;
                    }
                    _ => {
                        state.flush();
                        state.text = Some(Answer {
                            id,
                            body: Body::Text {
                                text,
                                tokens,
                                speculation,
                            },
                        });
                    }
                }
                self.shared.wake.notify_one();
            }
            body @ Body::Progress { .. } => {
                state.progress = Some(Answer { id, body });
                self.shared.wake.notify_one();
            }
            body => {
                state.flush();
                state.write(&Answer { id, body });
            }
        }
        !state.broken
    }

    /// Sends what is held back and ends the flushing thread.
    pub(super) fn close(&self) {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.flush();
        state.closed = true;
        self.shared.wake.notify_one();
    }
}

fn flush_loop(shared: &Shared) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.closed {
        if state.text.is_none() && state.progress.is_none() {
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let wait = state
            .flushed_at
            .map_or(Duration::ZERO, |at| INTERVAL.saturating_sub(at.elapsed()));
        if wait.is_zero() {
            state.flush();
        } else {
            state = shared
                .wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    /// Progress first: reading the prompt comes before the text.
    fn flush(&mut self) {
        let held = [self.progress.take(), self.text.take()];
        for answer in held.into_iter().flatten() {
            self.write(&answer);
            self.flushed_at = Some(Instant::now());
        }
    }

    fn write(&mut self, answer: &Answer) {
        let mut line = serde_json::to_vec(answer).expect("messages have string keys only");
        line.push(b'\n');
        if self
            .out
            .write_all(&line)
            .and_then(|()| self.out.flush())
            .is_err()
        {
            self.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects lines and when they came.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<Answer>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap()
                .push(serde_json::from_slice(bytes).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_is_joined_in_order_and_terminal_messages_come_last() {
        let lines = Lines::default();
        let outbox = Outbox::new(Box::new(lines.clone()));
        let start = Instant::now();
        for i in 0..3000u32 {
            assert!(outbox.send(
                7,
                Body::Progress {
                    step: "reading".to_owned(),
                    done: i,
                    total: 3000
                }
            ));
            assert!(outbox.send(
                7,
                Body::Text {
                    text: format!("{i},"),
                    tokens: i + 1,
                    speculation: None,
                }
            ));
        }
        let error = crate::api::ApiError::cancelled();
        outbox.send(7, Body::Failed { error, last: false });
        let flushes = start.elapsed().as_millis() as usize / 40 + 2;
        outbox.close();
        let got = lines.0.lock().unwrap();
        assert!(
            got.len() <= 2 * flushes + 1,
            "{} messages in {flushes} flushes",
            got.len()
        );
        let text: String = got
            .iter()
            .filter_map(|a| match &a.body {
                Body::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let wanted: Vec<String> = (0..3000).map(|i| format!("{i},")).collect();
        assert_eq!(text, wanted.concat());
        assert!(matches!(got.last().unwrap().body, Body::Failed { .. }));
    }

    #[test]
    fn a_lone_piece_is_not_held_for_ever() {
        let lines = Lines::default();
        let outbox = Outbox::new(Box::new(lines.clone()));
        outbox.send(
            1,
            Body::Text {
                text: "a".to_owned(),
                tokens: 1,
                speculation: None,
            },
        );
        outbox.send(
            1,
            Body::Text {
                text: "b".to_owned(),
                tokens: 2,
                speculation: None,
            },
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        let text = || -> String {
            let got = lines.0.lock().unwrap();
            got.iter()
                .filter_map(|a| match &a.body {
                    Body::Text { text, .. } => Some(text.clone()),
                    _ => None,
                })
                .collect()
        };
        while text() != "ab" {
            assert!(Instant::now() < deadline, "the text was never flushed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
