//! Perplexity of a text.

use std::path::PathBuf;

use serde_json::json;

use super::{Bench, Details, Place, shell};
use crate::api::ApiError;
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::progress::Meter;
use crate::reports::PerplexityReport;
use crate::requests::{JobProgress, PerplexityRequest};
use crate::worker::{Ask, Event, Outcome};

/// Version of the task; raised when a change makes results incomparable.
const PERPLEXITY_VERSION: &str = "perplexity 1 (windows without overlap, token 1 on scored)";

impl Workbench {
    pub(crate) fn measure_perplexity(
        &self,
        job: u32,
        request: &PerplexityRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<PerplexityReport, ApiError> {
        let mut meter = Meter::new(0, on_progress);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        // A text that cannot be read is said before a model is loaded.
        self.hash_of(std::slice::from_ref(&request.text))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        let place = Place {
            job,
            scorecard: None,
        };
        self.perplexity_of(
            &mut bench,
            place,
            request.text.clone(),
            request.ctx,
            cancel,
            &mut meter,
        )
    }

    /// Scores a text in windows of `ctx` tokens (none takes the model's context), and stores the run.
    pub(super) fn perplexity_of(
        &self,
        bench: &mut Bench,
        place: Place,
        text: PathBuf,
        ctx: Option<u32>,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<PerplexityReport, ApiError> {
        let text_sha256 = self.hash_of(std::slice::from_ref(&text))?;
        let window = ctx.unwrap_or(bench.loaded.context_len);
        let run = bench.new_run(
            "perplexity",
            PERPLEXITY_VERSION,
            place,
            Details {
                settings: json!({ "text": text, "text_sha256": text_sha256, "ctx": window }),
                options: format!("--text {} --ctx {window}", shell(&text)),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let ask = Ask::Perplexity { text, ctx };
            let outcome = bench.worker.request(ask, cancel, &mut |event| {
                if let Event::Progress { step, done, total } = event {
                    meter.total(total);
                    meter.count("tokens");
                    meter.tell(&step, done);
                }
            })?;
            let Outcome::Perplexity(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = PerplexityReport {
                run: id,
                model: bench.model.id.clone(),
                tokens: found.tokens as u64,
                nll_mean: found.nll_mean,
                perplexity: found.perplexity,
                ctx: found.window as u32,
                seconds: found.seconds,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }
}
