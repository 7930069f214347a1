//! One pool of threads for every kernel: work is cut into chunks that whoever is free claims.
//!
//! There is no barrier over threads: a run ends when its chunks are finished, not when every worker has come by, so a
//! worker that the system has taken off its core costs nothing unless it holds a chunk. Waiting spins for some tens of
//! microseconds (kernels follow each other closely) and then sleeps.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread that has nothing to do looks for work before it sleeps: longer than the gap between two kernels of
/// a decoding step, much shorter than a time slice.
const SPIN: Duration = Duration::from_micros(60);

/// A fixed number of threads, the caller's own included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the one run in progress.
    busy: Mutex<()>,
}

/// A run's function behind a thin pointer: lives on the caller's stack until its last chunk is finished.
struct Work<'a> {
    run: &'a (dyn Fn(usize) + Sync),
    chunks: usize,
    finished: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Shared {
    /// Chunks that nobody has claimed; whoever lowers it from n owns chunk `chunks - n` of the current work.
    unclaimed: AtomicUsize,
    /// Valid for whoever holds a claimed chunk that is not finished.
    work: AtomicPtr<Work<'static>>,
    /// One flag a worker: it sleeps, or is about to.
    sleeping: Vec<AtomicBool>,
    /// The caller sleeps until its last chunk is finished; whoever finishes it wakes `caller`.
    caller_sleeps: AtomicBool,
    caller: Mutex<Option<Thread>>,
    stop: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads (at least one): the caller and `threads - 1` workers.
    ///
    /// If the system refuses threads, the pool is smaller.
    pub fn new(threads: usize) -> Self {
        let wanted = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            unclaimed: AtomicUsize::new(0),
            work: AtomicPtr::new(ptr::null_mut()),
            sleeping: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
            caller_sleeps: AtomicBool::new(false),
            caller: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let workers = (0..wanted)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("kernel-{index}"))
                    .spawn(move || shared.serve(index))
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            busy: Mutex::new(()),
        }
    }

    /// Threads that work in a run, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` once with each number of `0..chunks`, on all threads, and returns when all calls have returned.
    ///
    /// A run from inside a run, or beside another, is worked off by its caller alone. A panic of `f` is passed on after
    /// every chunk is finished.
    pub fn run(&self, chunks: usize, f: &(dyn Fn(usize) + Sync)) {
        let busy = if chunks > 1 && !self.workers.is_empty() {
            self.busy.try_lock().ok()
        } else {
            None
        };
        if busy.is_none() {
            (0..chunks).for_each(f);
            return;
        }
        let work = Work {
            run: f,
            chunks,
            finished: AtomicUsize::new(0),
            panic: Mutex::new(None),
        };
        let address = (&raw const work).cast_mut().cast::<Work<'static>>();
        self.shared.work.store(address, Ordering::Release);
        self.shared.unclaimed.store(chunks, Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter().zip(&self.shared.sleeping).take(chunks) {
            if sleeping.load(Ordering::SeqCst) && sleeping.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        while self.shared.claim_and_run() {}
        if !spin_until(|| work.finished.load(Ordering::Acquire) == chunks) {
            *lock(&self.shared.caller) = Some(thread::current());
            self.shared.caller_sleeps.store(true, Ordering::SeqCst);
            while work.finished.load(Ordering::SeqCst) != chunks {
                thread::park();
            }
            self.shared.caller_sleeps.store(false, Ordering::SeqCst);
        }
        let panic = lock(&work.panic).take();
        drop(busy);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker cannot panic: chunks are caught.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of worker `index`.
    fn serve(&self, index: usize) {
        let ready =
            || self.unclaimed.load(Ordering::SeqCst) > 0 || self.stop.load(Ordering::SeqCst);
        loop {
            while self.claim_and_run() {}
            if !spin_until(ready) {
                let sleeping = &self.sleeping[index];
                sleeping.store(true, Ordering::SeqCst);
                while !ready() && sleeping.load(Ordering::SeqCst) {
                    thread::park();
                }
                sleeping.store(false, Ordering::SeqCst);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Claims one chunk and runs it; false if none is left.
    fn claim_and_run(&self) -> bool {
        let claim = self
            .unclaimed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        let Ok(left) = claim else { return false };
        let address = self.work.load(Ordering::Acquire);
        // SAFETY: `left` was lowered from a number that `run` stored after `work`, and `run` keeps that `Work` in place
        // until `finished` counts every chunk, this one included.
        let work = unsafe { &*address };
        let chunks = work.chunks;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (work.run)(chunks - left))) {
            *lock(&work.panic) = Some(panic);
        }
        let finished = work.finished.fetch_add(1, Ordering::SeqCst) + 1;
        // From here on `work` may be gone.
        if finished == chunks
            && self.caller_sleeps.load(Ordering::SeqCst)
            && let Some(caller) = lock(&self.caller).as_ref()
        {
            caller.unpark();
        }
        true
    }
}

/// Locks, also after a panic elsewhere: what the pool keeps behind locks is always whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `ready` came true within [`SPIN`].
fn spin_until(ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for chunks in [0, 1, 2, 3, 17, 1000] {
                let counts: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
                for _ in 0..20 {
                    pool.run(chunks, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 20));
            }
        }
    }

    #[test]
    fn runs_that_follow_each_other_closely_keep_their_chunks_apart() {
        let pool = Pool::new(4);
        for round in 0..20_000_u32 {
            let sum = AtomicU32::new(0);
            let chunks = 2 + round % 5;
            pool.run(chunks as usize, &|i| {
                sum.fetch_add(round + i as u32, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), chunks * round + chunks * (chunks - 1) / 2);
        }
    }

    #[test]
    fn runs_nest_and_cross() {
        let pool = Pool::new(3);
        let count = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| {
                            pool.run(3, &|_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 3 * 50 * 12);
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_lives() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|i| assert!(i != 5, "chunk five"));
        }));
        assert!(caught.is_err());
        let count = AtomicU32::new(0);
        pool.run(8, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            thread::sleep(SPIN * 10);
            let both = AtomicU32::new(0);
            // Each chunk waits for the other, so both threads must come.
            pool.run(2, &|_| {
                both.fetch_add(1, Ordering::SeqCst);
                let start = Instant::now();
                while both.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                    assert!(
                        start.elapsed() < Duration::from_secs(20),
                        "the worker slept on"
                    );
                }
            });
        }
    }
}
