//! One interpreter's state on the host: its limits, its clock, its output, its line to the host, and why it stopped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::{ResourceLimiter, Trap};

/// What a program may use. Memory, output and host calls are limits of each of the two interpreters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time for everything: both interpreters' start, the program, its tests; and what it sleeps. So a busy
    /// machine changes no verdict, until five times as much has passed on the wall.
    pub time: Duration,
    /// Memory of an interpreter; an idle one takes about 11 MiB.
    pub memory_bytes: usize,
    /// Bytes on standard output and standard error together. They go nowhere.
    pub output_bytes: u64,
    /// Bytes of one answer of the program's function.
    pub answer_bytes: usize,
    /// Calls of the host by an interpreter (clock, random bytes, output); starting takes about 1,000.
    pub host_calls: u64,
}

impl Default for Limits {
    /// Ten seconds, since WebAssembly runs Python several times slower than the machine itself does.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            memory_bytes: 256 << 20,
            output_bytes: 1 << 20,
            answer_bytes: 4 << 20,
            host_calls: 5_000_000,
        }
    }
}

/// Why an interpreter stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It ended by itself, with this status.
    Exit(i32),
    /// Its time was over, slept time included.
    Time,
    /// It asked for more memory than it may have.
    Memory,
    /// It wrote more than it may.
    Output(&'static str),
    /// It called the host too often.
    HostCalls,
    /// It broke the protocol of its line.
    Tamper(String),
    /// Its stack was used up.
    Stack,
    /// The interpreter gave up (`abort()`, a fatal error of Python).
    Crash(String),
    /// Nobody needs it any more.
    Over,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Stop {}

/// So many times the limit may pass on the wall, for a machine that has other things to do.
const WALL_FACTOR: u32 = 5;

/// The time of one judgement, shared by its two interpreters. Sleeping is not waited for: it moves the clock.
pub(super) struct Budget {
    start: Instant,
    limit: Duration,
    /// Processor time and slept time.
    used_nanos: AtomicU64,
    slept_nanos: AtomicU64,
    over: AtomicBool,
    cancelled: Arc<AtomicBool>,
}

impl Budget {
    /// Time that also ends when `cancelled` is set.
    pub(super) fn new(limit: Duration, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            start: Instant::now(),
            limit,
            used_nanos: AtomicU64::new(0),
            slept_nanos: AtomicU64::new(0),
            over: AtomicBool::new(false),
            cancelled,
        }
    }

    /// Processor time used so far, slept time included. Where a thread's processor time is not known, the wall's.
    pub(super) fn used(&self) -> Duration {
        if cfg!(unix) {
            Duration::from_nanos(self.used_nanos.load(Ordering::Relaxed))
        } else {
            self.passed()
        }
    }

    /// Time since the start as a guest sees it: on the wall, slept time included.
    fn passed(&self) -> Duration {
        let slept = Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed));
        self.start.elapsed().saturating_add(slept)
    }

    fn is_used_up(&self) -> bool {
        self.used() >= self.limit || self.start.elapsed() >= self.limit.saturating_mul(WALL_FACTOR)
    }

    /// Takes processor time.
    pub(super) fn charge(&self, time: Duration) {
        add(&self.used_nanos, time.as_nanos() as u64);
    }

    fn sleep(&self, nanos: u64) {
        add(&self.slept_nanos, nanos);
        add(&self.used_nanos, nanos);
    }

    /// The judgement is made: whoever still runs stops at the next tick.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Why an interpreter must stop now, if it must.
    pub(super) fn stop(&self) -> Option<Stop> {
        if self.over.load(Ordering::Relaxed) || self.cancelled.load(Ordering::Relaxed) {
            return Some(Stop::Over);
        }
        self.is_used_up().then_some(Stop::Time)
    }
}

fn add(counter: &AtomicU64, nanos: u64) {
    let sum = |before: u64| Some(before.saturating_add(nanos));
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

/// The processor time of the thread that asks; nothing where it is not known.
fn thread_time() -> Duration {
    #[cfg(unix)]
    {
        use nix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
    }
    #[cfg(not(unix))]
    Duration::ZERO
}

/// An interpreter's line to the host, whole messages both ways.
pub(super) trait Line: Send {
    /// Takes a message of the guest; gives what it may read next, if that is known already.
    fn said(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, Stop>;
    /// The next message for the guest; waits for it.
    fn next(&mut self) -> Result<Vec<u8>, Stop>;
}

/// The state behind one interpreter.
pub(super) struct Guest {
    pub(super) args: Vec<Vec<u8>>,
    pub(super) budget: Arc<Budget>,
    pub(super) answer_bytes: usize,
    memory_bytes: usize,
    output_left: u64,
    host_calls_left: u64,
    random: u64,
    /// The thread's processor time that is charged already.
    charged: Duration,
    line: Box<dyn Line>,
    inbox: VecDeque<u8>,
    /// The end of standard error, for the words of a crash.
    last_words: VecDeque<u8>,
    /// Why the host stopped it.
    pub(super) stop: Option<Stop>,
}

/// So much of standard error is kept.
const LAST_WORDS: usize = 400;

impl Guest {
    /// A guest that finds `messages` on its line when it starts. Its random bytes follow from `seed` alone, so that a
    /// verdict can be reproduced.
    pub(super) fn new(
        driver: &str,
        messages: &[&[u8]],
        line: Box<dyn Line>,
        budget: Arc<Budget>,
        limits: &Limits,
        seed: u64,
    ) -> Self {
        // -I: no environment, no user's folder; -S: no site; -B: writes no bytecode.
        let args = ["python", "-I", "-S", "-B", "-c", driver];
        let mut guest = Self {
            args: args.map(|a| a.as_bytes().to_vec()).to_vec(),
            budget,
            answer_bytes: limits.answer_bytes,
            memory_bytes: limits.memory_bytes,
            output_left: limits.output_bytes,
            host_calls_left: limits.host_calls,
            random: seed,
            charged: Duration::ZERO,
            line,
            inbox: VecDeque::new(),
            last_words: VecDeque::new(),
            stop: None,
        };
        for message in messages {
            guest.deliver(message);
        }
        guest
    }

    /// Charges the processor time since the last tick, on the guest's own thread; gives why it must stop, if it must.
    pub(super) fn tick(&mut self) -> Option<Stop> {
        let now = thread_time();
        self.budget.charge(now.saturating_sub(self.charged));
        self.charged = now;
        self.budget.stop()
    }

    /// Counts a call of the host.
    pub(super) fn called(&mut self) -> Result<(), Stop> {
        if let Some(stop) = self.budget.stop() {
            return Err(stop);
        }
        self.host_calls_left = self.host_calls_left.checked_sub(1).ok_or(Stop::HostCalls)?;
        Ok(())
    }

    /// Bytes on standard output or standard error.
    pub(super) fn printed(&mut self, bytes: &[u8], is_error: bool) -> Result<(), Stop> {
        let count = bytes.len() as u64;
        self.output_left = (self.output_left.checked_sub(count)).ok_or(Stop::Output("printed"))?;
        if is_error {
            self.last_words.extend(bytes);
            let excess = self.last_words.len().saturating_sub(LAST_WORDS);
            self.last_words.drain(..excess);
        }
        Ok(())
    }

    /// A message on the line.
    pub(super) fn said(&mut self, message: &[u8]) -> Result<(), Stop> {
        for answer in self.line.said(message)? {
            self.deliver(&answer);
        }
        Ok(())
    }

    /// At most `most` bytes of the line; waits for them.
    pub(super) fn heard(&mut self, most: usize) -> Result<Vec<u8>, Stop> {
        if self.inbox.is_empty() {
            let message = self.line.next()?;
            self.deliver(&message);
        }
        let count = most.min(self.inbox.len());
        Ok(self.inbox.drain(..count).collect())
    }

    fn deliver(&mut self, message: &[u8]) {
        self.inbox.extend((message.len() as u32).to_le_bytes());
        self.inbox.extend(message);
    }

    /// Nanoseconds of the monotonic clock, which never starts at zero.
    pub(super) fn monotonic_nanos(&self) -> u64 {
        1_000_000_000 + self.budget.passed().as_nanos() as u64
    }

    /// Lets `nanos` pass on the guest's clock without waiting.
    pub(super) fn sleep(&mut self, nanos: u64) -> Result<(), Stop> {
        self.budget.sleep(nanos);
        self.budget.stop().map_or(Ok(()), Err)
    }

    /// SplitMix64 (G. Steele et al. 2014): reproducible, not secret.
    pub(super) fn fill_random(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }

    /// The end of what it wrote on standard error.
    pub(super) fn last_words(&self) -> String {
        let words: Vec<u8> = self.last_words.iter().copied().collect();
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    /// Why a run ended that returned `result`.
    pub(super) fn why(&mut self, result: wasmtime::Result<()>) -> Stop {
        if let Some(stop) = self.stop.take() {
            return stop;
        }
        let Err(error) = result else {
            return Stop::Exit(0);
        };
        match error.downcast_ref::<Trap>() {
            // The C stack lies at the bottom of the memory: below it there is nothing.
            Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => Stop::Stack,
            Some(Trap::Interrupt) => self.budget.stop().unwrap_or(Stop::Time),
            Some(trap) => Stop::Crash(match self.last_words().as_str() {
                "" => trap.to_string(),
                words => words.to_owned(),
            }),
            None => Stop::Crash(error.to_string()),
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= self.memory_bytes {
            return Ok(true);
        }
        // Not a MemoryError of Python: a program could catch that, and Python itself can fail badly on one.
        self.stop = Some(Stop::Memory);
        Err(wasmtime::Error::new(Stop::Memory))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 100_000)
    }
}
