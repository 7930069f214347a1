//! A request to stop that several places share: the person's button, Ctrl-C, another process through the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::ApiError;

/// How often an outside source is asked.
const POLL: Duration = Duration::from_millis(300);

type Outside = Box<dyn Fn() -> bool + Send + Sync>;

/// Set once, seen by all clones.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    flag: Arc<AtomicBool>,
    outside: Option<Arc<(Outside, Mutex<Option<Instant>>)>>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancel").field(&self.flag).finish()
    }
}

impl Cancel {
    /// Is also set when `outside` says so; it is asked a few times a second while someone waits.
    pub(crate) fn or_when(&self, outside: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            flag: Arc::clone(&self.flag),
            outside: Some(Arc::new((Box::new(outside), Mutex::new(None)))),
        }
    }

    /// Asks everyone to stop.
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// Someone asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        if self.flag.load(Ordering::Acquire) {
            return true;
        }
        let Some(outside) = &self.outside else {
            return false;
        };
        let mut asked_at = outside.1.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_at.is_some_and(|at| at.elapsed() < POLL) {
            return false;
        }
        *asked_at = Some(Instant::now());
        if (outside.0)() {
            self.set();
            return true;
        }
        false
    }

    /// An error if someone asked to stop.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.is_set() {
            Err(ApiError::cancelled())
        } else {
            Ok(())
        }
    }
}
