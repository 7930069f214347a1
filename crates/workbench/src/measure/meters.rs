//! Speed, memory and energy: each has the machine to itself.

use serde_json::json;

use super::{Bench, Details, Place};
use crate::api::ApiError;
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::progress::Meter;
use crate::reports::{EnergyReport, MemoryReport, SpeedReport, Spread};
use crate::requests::{EnergyRequest, JobProgress, MemoryRequest, SpeedRequest};
use crate::worker::{Ask, Event, Outcome};

/// Versions of the tasks; raised when a change makes results incomparable.
const SPEED_VERSION: &str = "speed 1 (prefill and decode apart, as llama-bench)";
const ENERGY_VERSION: &str = "energy 1 (generating from an empty cache, idle subtracted)";
const MEMORY_VERSION: &str = "memory 1 (fresh process, full cache)";

impl Workbench {
    pub(crate) fn measure_speed(
        &self,
        job: u32,
        request: &SpeedRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeedReport, ApiError> {
        let mut meter = Meter::new(request.repeat + 1, on_progress);
        let _lease = self
            .lease
            .alone("a speed measurement", cancel, &mut |why| meter.tell(why, 0))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        meter.finish(1);
        self.speed(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request,
            cancel,
            &mut meter,
        )
    }

    pub(crate) fn measure_memory(
        &self,
        job: u32,
        request: &MemoryRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MemoryReport, ApiError> {
        let mut meter = Meter::new(100, on_progress);
        let _lease = self
            .lease
            .alone("a memory measurement", cancel, &mut |why| {
                meter.tell(why, 0);
            })?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        self.memory(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request.ctx,
            100,
            cancel,
            &mut meter,
        )
    }

    pub(crate) fn measure_energy(
        &self,
        job: u32,
        request: &EnergyRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<EnergyReport, ApiError> {
        let mut meter = Meter::new(request.repeat + 2, on_progress);
        let _lease = self
            .lease
            .alone("an energy measurement", cancel, &mut |why| {
                meter.tell(why, 0);
            })?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        self.energy(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request,
            cancel,
            &mut meter,
        )
    }

    /// Takes `request.repeat` + 2 units. Without figures nothing is stored, and the report says why.
    pub(super) fn energy(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &EnergyRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<EnergyReport, ApiError> {
        let EnergyRequest {
            generate, repeat, ..
        } = *request;
        let ask = Ask::Energy { generate, repeat };
        let outcome = bench.worker.request(ask, cancel, &mut |event| {
            if let Event::Progress { step, done, .. } = event {
                meter.tell(&format!("energy, {step}"), done);
            }
        })?;
        let Outcome::Energy(found) = outcome else {
            return Err(unexpected(&outcome));
        };
        let spread: Option<Spread> = found.joules_per_token.map(Into::into);
        let mut report = EnergyReport {
            run: None,
            model: bench.model.id.clone(),
            source: found.source.map(|source| source.name().to_owned()),
            covers: found.covers,
            joules_per_token: spread.as_ref().map(|spread| spread.median),
            spread,
            gross_joules_per_token: found.gross_joules_per_token.map(|gross| gross.median),
            idle_watts: found.idle_watts,
            load_watts: found.load_watts,
            mmlu_joules: None,
            correct_per_wh: None,
            tokens: found.tokens as u32,
            seconds: found.seconds,
            generate,
            device: bench.engine.device.clone(),
            threads: bench.loaded.threads,
            isa: bench.loaded.isa.clone(),
            other_cores_busy: found.other_cores_busy,
            notes: found.notes,
            reason: found.reason,
        };
        if report.joules_per_token.is_none() {
            return Ok(report);
        }
        let run = bench.new_run(
            "energy",
            ENERGY_VERSION,
            place,
            Details {
                settings: json!({ "gen": generate, "repeat": repeat, "source": report.source }),
                options: format!("--gen {generate} --repeat {repeat}"),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            report.run = Some(id);
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }

    pub(super) fn memory(
        &self,
        bench: &mut Bench,
        place: Place,
        ctx: Option<u32>,
        units: u32,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<MemoryReport, ApiError> {
        let run = bench.new_run(
            "memory",
            MEMORY_VERSION,
            place,
            Details {
                settings: json!({ "ctx": ctx }),
                options: ctx.map_or_else(String::new, |ctx| format!("--ctx {ctx}")),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let outcome = bench
                .worker
                .request(Ask::Memory { ctx }, cancel, &mut |event| {
                    if let Event::Progress { done, total, .. } = event {
                        let share = f64::from(done) / f64::from(total.max(1));
                        meter.tell(
                            &format!("memory, {done} of {total} tokens in the cache"),
                            (share * f64::from(units)) as u32,
                        );
                    }
                })?;
            let Outcome::Memory(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = MemoryReport {
                run: id,
                model: bench.model.id.clone(),
                weights_bytes: found.weights_bytes,
                kv_bytes: found.kv_bytes,
                kv_bytes_per_token: found.kv_bytes_per_token,
                peak_rss_bytes: found.peak_rss_bytes,
                idle_rss_bytes: found.idle_rss_bytes,
                ctx: found.ctx as u32,
                notes: found.notes,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }

    pub(super) fn speed(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &SpeedRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<SpeedReport, ApiError> {
        let SpeedRequest {
            prompt,
            generate,
            repeat,
            batch,
            depth,
            ..
        } = *request;
        let run = bench.new_run("speed", SPEED_VERSION, place, Details {
            settings: json!({ "prompt": prompt, "gen": generate, "repeat": repeat, "batch": batch, "depth": depth }),
            options: format!("--prompt {prompt} --gen {generate} --repeat {repeat} --batch {batch} --depth {depth}"),
            ..Details::default()
        });
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let ask = Ask::Speed {
                prompt,
                generate,
                repeat,
                batch,
                depth,
            };
            let outcome = bench.worker.request(ask, cancel, &mut |event| {
                if let Event::Progress { step, done, total } = event {
                    meter.tell(&format!("speed, {step} ({done} of {total})"), done);
                }
            })?;
            let Outcome::Speed(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = SpeedReport {
                run: id,
                model: bench.model.id.clone(),
                prefill_tokens_per_s: found.prefill_tokens_per_s.into(),
                decode_tokens_per_s: found.decode_tokens_per_s.into(),
                ttft_s: found.ttft_s.median,
                load_s: bench.loaded.load_s,
                device: bench.engine.device.clone(),
                threads: bench.loaded.threads,
                isa: bench.loaded.isa.clone(),
                prompt,
                generate,
                batch,
                depth,
                other_cores_busy: found.other_cores_busy,
                notes: found.notes,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }
}
