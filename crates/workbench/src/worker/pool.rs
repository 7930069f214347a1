//! The workers of chats: one a model, kept between replies so that a following turn reuses weights and KV cache. The
//! one used longest ago goes when there are too many or memory is short.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Ask, LoadedModel, Outcome, Worker};
use crate::api::ApiError;
use crate::cancel::Cancel;
use crate::machine;
use crate::requests::EngineOptions;

/// Models kept loaded.
const KEPT: usize = 4;

/// A loaded worker and what it is loaded with.
pub(crate) struct Seat {
    path: PathBuf,
    engine: EngineOptions,
    /// The draft loaded beside it, and how.
    draft: Option<(PathBuf, EngineOptions)>,
    /// The process.
    pub(crate) worker: Worker,
}

impl Seat {
    /// Makes sure that this draft is loaded beside the model. One that cannot be leaves the seat as it was, without a
    /// draft.
    pub(crate) fn add_draft(
        &mut self,
        path: &Path,
        engine: &EngineOptions,
        needs_bytes: u64,
        cancel: &Cancel,
        on_loading: &mut dyn FnMut(),
    ) -> Result<(), ApiError> {
        let wanted = Some((path.to_owned(), engine.clone()));
        if self.draft == wanted {
            return Ok(());
        }
        on_loading();
        self.draft = None;
        self.worker.expect_memory(needs_bytes);
        let ask = Ask::LoadDraft {
            path: path.to_owned(),
            engine: engine.clone(),
        };
        match self.worker.request(ask, cancel, &mut |_| {})? {
            Outcome::DraftLoaded(_) => {
                self.draft = wanted;
                Ok(())
            }
            _ => Err(ApiError::failed(
                "the engine answered something else than was asked; install Billion again",
            )),
        }
    }
}

/// Workers that wait for their next turn, the last used at the end.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Seat>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Takes out a worker with this model loaded, starting and loading one if there is none. `on_loading` is told
    /// before anything slow happens. `needs_bytes` is what the model will take in memory.
    pub(crate) fn take(
        &self,
        executable: &Path,
        path: &Path,
        engine: &EngineOptions,
        needs_bytes: u64,
        cancel: &Cancel,
        on_loading: &mut dyn FnMut(),
    ) -> Result<Seat, ApiError> {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain_mut(|seat| seat.worker.is_alive());
            if let Some(at) = idle
                .iter()
                .position(|seat| seat.path == path && seat.engine == *engine)
            {
                return Ok(idle.remove(at));
            }
            while !idle.is_empty()
                && (idle.len() >= KEPT || machine::free_memory_bytes() < needs_bytes)
            {
                drop(idle.remove(0));
            }
        }
        on_loading();
        let mut worker = Worker::spawn(executable)?;
        load(&mut worker, path, engine, needs_bytes, cancel)?;
        Ok(Seat {
            path: path.to_owned(),
            engine: engine.clone(),
            draft: None,
            worker,
        })
    }

    /// Puts a worker back for the next turn.
    pub(crate) fn put_back(&self, mut seat: Seat) {
        if seat.worker.is_alive() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(seat);
        }
    }

    /// Ends the worker of a model.
    pub(crate) fn unload(&self, path: &Path) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|seat| {
                let of_draft = seat.draft.as_ref().is_some_and(|(draft, _)| draft == path);
                seat.path != path && !of_draft
            });
    }
}

/// Loads a model into a fresh worker.
pub(crate) fn load(
    worker: &mut Worker,
    path: &Path,
    engine: &EngineOptions,
    needs_bytes: u64,
    cancel: &Cancel,
) -> Result<LoadedModel, ApiError> {
    worker.expect_memory(needs_bytes);
    let ask = Ask::Load {
        path: path.to_owned(),
        engine: engine.clone(),
    };
    match worker.request(ask, cancel, &mut |_| {})? {
        Outcome::Loaded(loaded) => Ok(loaded),
        _ => Err(ApiError::failed(
            "the engine answered something else than was asked; install Billion again",
        )),
    }
}
