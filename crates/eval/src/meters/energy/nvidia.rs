//! NVIDIA's graphics boards through NVML, which comes with the driver and is loaded when asked for.

use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{Meter, Source};

/// No board takes more.
const MOST_WATTS_OF_A_BOARD: f64 = 2000.0;

/// Boards renew their power every 20 to 100 ms.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

struct Boards {
    nvml: Nvml,
    all: Vec<Board>,
    joules: f64,
    last: Option<Duration>,
}

struct Board {
    index: u32,
    name: String,
    /// It counts its energy (from Volta on); otherwise its power is integrated.
    counts: bool,
    /// Joules counted, or watts, at the last poll.
    last: Option<f64>,
}

/// Opens every board. Those at rest take part in the idle power, which is subtracted.
pub(super) fn open() -> Result<Box<dyn Meter>, String> {
    let nvml = Nvml::init().map_err(|error| {
        format!(
            "the NVIDIA driver's library cannot be used ({error}); install the driver of this graphics card"
        )
    })?;
    let count = nvml.device_count().map_err(words)?;
    let mut boards = Vec::new();
    for index in 0..count {
        let device = nvml.device_by_index(index).map_err(words)?;
        let counts = device.total_energy_consumption().is_ok();
        if !counts {
            device.power_usage().map_err(|error| {
                format!("this graphics card tells neither its energy nor its power ({error})")
            })?;
        }
        boards.push(Board {
            index,
            name: device.name().map_err(words)?,
            counts,
            last: None,
        });
    }
    if boards.is_empty() {
        return Err("the driver finds no graphics card".to_owned());
    }
    Ok(Box::new(Boards {
        nvml,
        all: boards,
        joules: 0.0,
        last: None,
    }))
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn words(error: NvmlError) -> String {
    format!("the NVIDIA driver says: {error}")
}

impl Meter for Boards {
    fn source(&self) -> Source {
        Source::Nvml
    }

    fn covers(&self) -> String {
        let names: Vec<&str> = self.all.iter().map(|b| b.name.as_str()).collect();
        format!(
            "the graphics board ({}), without the rest of the machine",
            names.join(" + ")
        )
    }

    fn poll(&mut self, now: Duration) -> Result<f64, String> {
        let seconds = self
            .last
            .map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        for board in &mut self.all {
            let device = self.nvml.device_by_index(board.index).map_err(words)?;
            // Millijoules and milliwatts.
            let value = if board.counts {
                device.total_energy_consumption().map_err(words)? as f64 / 1e3
            } else {
                f64::from(device.power_usage().map_err(words)?) / 1e3
            };
            let before = board.last.replace(value).unwrap_or(value);
            self.joules += if board.counts {
                value - before
            } else {
                f64::midpoint(before, value) * seconds
            };
        }
        self.last = Some(now);
        Ok(self.joules)
    }

    fn least_window(&self) -> Duration {
        LEAST_WINDOW
    }

    fn most_watts(&self) -> f64 {
        MOST_WATTS_OF_A_BOARD * self.all.len() as f64
    }
}
