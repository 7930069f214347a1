//! Perplexity of a text.

use serde_json::json;

use super::{Details, Place, shell};
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
        let text_sha256 = self.hash_of(std::slice::from_ref(&request.text))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        let window = request.ctx.unwrap_or(bench.loaded.context_len);
        let text = request.text.clone();
        let run = bench.new_run(
            "perplexity",
            PERPLEXITY_VERSION,
            Place {
                job,
                scorecard: None,
            },
            Details {
                settings: json!({ "text": text, "text_sha256": text_sha256, "ctx": window }),
                options: format!("--text {} --ctx {window}", shell(&text)),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let ask = Ask::Perplexity {
                text,
                ctx: request.ctx,
            };
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
