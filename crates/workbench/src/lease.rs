//! The machine-wide lease: a speed or memory run has the machine to itself among all processes of Billion of this
//! person; everything else that computes shares it, and whoever waits says so.
//!
//! A lease is a lock on a file, so the system frees it when its process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::ApiError;
use crate::cancel::Cancel;

/// How often a waiter tries again.
const RETRY: Duration = Duration::from_millis(100);

/// Where the lock lies.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    path: PathBuf,
}

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "its drop frees the lock")] File);

impl Lease {
    /// In the person's runtime folder where the system has one, or else in the data folder.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let folder = dirs::runtime_dir()
            .filter(|dir| dir.is_dir())
            .unwrap_or_else(|| data_dir.to_owned());
        Self {
            path: folder.join("billion.lease"),
        }
    }

    /// Waits until nobody else computes, and keeps everybody from beginning. `what` is told to those who wait.
    /// `on_wait` hears why it must wait, once.
    pub(crate) fn alone(
        &self,
        what: &str,
        cancel: &Cancel,
        on_wait: &mut dyn FnMut(&str),
    ) -> Result<Held, ApiError> {
        let mut file = self.open()?;
        let mut told = false;
        while !acquired(file.try_lock())? {
            if !told {
                on_wait("waits until other work of Billion is done, so that the figures are true");
                told = true;
            }
            cancel.check()?;
            std::thread::sleep(RETRY);
        }
        // The words are a courtesy to those who wait; the lock holds without them.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(what.as_bytes()));
        Ok(Held(file))
    }

    /// Waits until no measurement needs the machine to itself. `on_wait` hears why it must wait, once.
    pub(crate) fn shared(
        &self,
        cancel: &Cancel,
        on_wait: &mut dyn FnMut(&str),
    ) -> Result<Held, ApiError> {
        let mut file = self.open()?;
        let mut told = false;
        while !acquired(file.try_lock_shared())? {
            if !told {
                let mut what = String::new();
                let _ = file
                    .seek(SeekFrom::Start(0))
                    .and_then(|_| file.read_to_string(&mut what));
                if what.is_empty() {
                    "a measurement".clone_into(&mut what);
                }
                on_wait(&format!("waits: {what} has the machine to itself"));
                told = true;
            }
            cancel.check()?;
            std::thread::sleep(RETRY);
        }
        Ok(Held(file))
    }

    fn open(&self) -> Result<File, ApiError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| {
                ApiError::failed(format!(
                    "cannot open {}: {error}; make it writable",
                    self.path.display()
                ))
            })
    }
}

/// True if the lock is ours, false if someone else's.
fn acquired(tried: Result<(), TryLockError>) -> Result<bool, ApiError> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(ApiError::failed(format!(
            "the machine's lease cannot be taken: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn many_share_and_one_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lease = Lease {
            path: dir.path().join("lease"),
        };
        let cancel = Cancel::default();
        let first = lease.shared(&cancel, &mut |_| unreachable!()).unwrap();
        let second = lease.shared(&cancel, &mut |_| unreachable!()).unwrap();
        let waited = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let alone = scope.spawn(|| {
                lease.alone("a speed run", &cancel, &mut |why| {
                    assert!(why.contains("other work"), "{why}");
                    waited.store(true, Ordering::Release);
                })
            });
            while !waited.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            drop((first, second));
            let held = alone.join().unwrap().unwrap();
            let stop = Cancel::default();
            let refused = lease.shared(&stop, &mut |why| {
                assert_eq!(why, "waits: a speed run has the machine to itself");
                stop.set();
            });
            assert_eq!(refused.unwrap_err().code, crate::api::ErrorCode::Cancelled);
            drop(held);
            lease.shared(&cancel, &mut |_| unreachable!()).unwrap();
        });
    }
}
