//! From what the window asks of one benchmark to the work of a job.

use std::path::{Path, PathBuf};

use super::absolute;
use crate::api::{ApiError, BenchRequest};
use crate::facade::Workbench;
use crate::jobs::Work;
use crate::requests::{
    EnergyRequest, EngineOptions, HumanEvalRequest, MemoryRequest, MmluRequest, PerplexityRequest,
    SpeedRequest,
};

impl Workbench {
    /// Title and work of a benchmark in the background.
    pub(crate) fn bench_work(
        &self,
        request: &BenchRequest,
        engine: EngineOptions,
    ) -> Result<(String, Work), ApiError> {
        match request.clone() {
            BenchRequest::Mmlu {
                model,
                shots,
                limit,
                subjects,
                stop_at_half_width,
            } => self.mmlu_work(&MmluRequest {
                model,
                shots,
                limit,
                subjects,
                stop_at_half_width,
                engine,
                ..MmluRequest::default()
            }),
            BenchRequest::Humaneval {
                model,
                limit,
                n,
                temperature,
                max_tokens,
                seed,
            } => self.humaneval_work(&HumanEvalRequest {
                model,
                limit,
                n,
                temperature,
                max_tokens,
                seed,
                samples: None,
                engine,
            }),
            BenchRequest::Speed {
                model,
                prompt,
                generate,
                repeat,
                batch,
                depth,
            } => {
                for (what, value) in [
                    ("prompt", prompt),
                    ("generated tokens", generate),
                    ("repeats", repeat),
                    ("sequences together", batch),
                ] {
                    if value == 0 {
                        return Err(ApiError::failed(format!(
                            "{what}: 0 leaves nothing to measure; take at least 1"
                        )));
                    }
                }
                self.speed_work(&SpeedRequest {
                    model,
                    prompt,
                    generate,
                    repeat,
                    batch,
                    depth,
                    engine,
                })
            }
            BenchRequest::Memory { model, ctx } => {
                self.memory_work(&MemoryRequest { model, ctx, engine })
            }
            BenchRequest::Energy { model } => self.energy_work(&EnergyRequest {
                model,
                engine,
                ..EnergyRequest::default()
            }),
            BenchRequest::Perplexity { model, text, ctx } => {
                self.perplexity_work(&PerplexityRequest {
                    model,
                    text: PathBuf::from(text),
                    ctx,
                    engine,
                })
            }
        }
    }

    pub(super) fn mmlu_work(&self, request: &MmluRequest) -> Result<(String, Work), ApiError> {
        let (model, name) = self.named(&request.model)?;
        let request = MmluRequest {
            model,
            data: self.mmlu_pin(request.data.as_deref())?,
            samples: request.samples.as_deref().map(absolute),
            ..request.clone()
        };
        Ok((format!("MMLU of {name}"), Work::Mmlu(request)))
    }

    pub(super) fn humaneval_work(
        &self,
        request: &HumanEvalRequest,
    ) -> Result<(String, Work), ApiError> {
        request.check()?;
        let (model, name) = self.named(&request.model)?;
        let request = HumanEvalRequest {
            model,
            samples: request.samples.as_deref().map(absolute),
            ..request.clone()
        };
        Ok((format!("HumanEval of {name}"), Work::HumanEval(request)))
    }

    pub(super) fn speed_work(&self, request: &SpeedRequest) -> Result<(String, Work), ApiError> {
        let (model, name) = self.named(&request.model)?;
        let request = SpeedRequest {
            model,
            ..request.clone()
        };
        Ok((format!("Speed of {name}"), Work::Speed(request)))
    }

    pub(super) fn memory_work(&self, request: &MemoryRequest) -> Result<(String, Work), ApiError> {
        let (model, name) = self.named(&request.model)?;
        let request = MemoryRequest {
            model,
            ..request.clone()
        };
        Ok((format!("Memory of {name}"), Work::Memory(request)))
    }

    pub(super) fn energy_work(&self, request: &EnergyRequest) -> Result<(String, Work), ApiError> {
        let (model, name) = self.named(&request.model)?;
        let request = EnergyRequest {
            model,
            ..request.clone()
        };
        Ok((format!("Energy of {name}"), Work::Energy(request)))
    }

    pub(super) fn perplexity_work(
        &self,
        request: &PerplexityRequest,
    ) -> Result<(String, Work), ApiError> {
        let (model, name) = self.named(&request.model)?;
        let request = PerplexityRequest {
            model,
            text: absolute(Path::new(&request.text)),
            ..request.clone()
        };
        Ok((format!("Perplexity of {name}"), Work::Perplexity(request)))
    }
}
