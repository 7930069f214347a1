//! What the machine's batteries give while they discharge (Documentation/ABI/testing/sysfs-class-power): the whole
//! machine, screen included. Batteries of mice and keyboards do not count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Meter, Source};

/// No portable machine takes more from its batteries.
const MOST_WATTS: f64 = 400.0;

/// Fuel gauges renew their power every second to every half minute.
const WINDOW_OF_POWER: Duration = Duration::from_secs(30);

/// Their energy moves in steps of about 36 J (10 mWh).
const WINDOW_OF_ENERGY: Duration = Duration::from_mins(2);

/// What a battery's files tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// `power_now`, in microwatts.
    Power,
    /// `voltage_now` and `current_now`, in microvolts and microamperes.
    VoltageAndCurrent,
    /// `energy_now`, in microwatt-hours.
    Energy,
    /// `charge_now`, in microampere-hours, with the voltage.
    Charge,
}

struct Battery {
    folder: PathBuf,
    told: Told,
    /// Watts, or joules left, at the last poll.
    last: Option<f64>,
}

struct Batteries {
    all: Vec<Battery>,
    joules: f64,
    last: Option<Duration>,
}

/// The batteries below `root`/sys/class/power_supply, of which one at least discharges and none is charged.
pub(super) fn open(root: &Path) -> Result<Box<dyn Meter>, String> {
    let class = root.join("sys/class/power_supply");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&class)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    folders.retain(|folder| {
        word(folder, "type").as_deref() == Some("Battery")
            && word(folder, "scope").as_deref() != Some("Device")
            && word(folder, "present").as_deref() != Some("0")
    });
    folders.sort();
    if folders.is_empty() {
        return Err(if cfg!(target_os = "linux") {
            "this machine has none".to_owned()
        } else {
            "only read on Linux".to_owned()
        });
    }
    discharging(&folders)?;
    let mut batteries = Vec::new();
    for folder in folders {
        let told = [
            Told::Power,
            Told::VoltageAndCurrent,
            Told::Energy,
            Told::Charge,
        ]
        .into_iter()
        .find(|&told| read(&folder, told).is_some());
        match told {
            Some(told) => batteries.push(Battery {
                folder,
                told,
                last: None,
            }),
            None => {
                return Err(format!(
                    "{} tells neither its power nor its voltage and current nor its energy",
                    folder.display()
                ));
            }
        }
    }
    Ok(Box::new(Batteries {
        all: batteries,
        joules: 0.0,
        last: None,
    }))
}

/// One battery gives and none takes; otherwise they do not tell what the machine consumes.
fn discharging(folders: &[PathBuf]) -> Result<(), String> {
    let mut gives = false;
    for folder in folders {
        let status = word(folder, "status").unwrap_or_else(|| "unknown".to_owned());
        match status.as_str() {
            "Discharging" => gives = true,
            "Charging" => {
                return Err(
                    "the battery is being charged; unplug the machine and measure again".to_owned(),
                );
            }
            _ => {}
        }
    }
    if gives {
        Ok(())
    } else {
        let status = word(&folders[0], "status").unwrap_or_else(|| "unknown".to_owned());
        Err(format!(
            "the machine does not run on its battery (which says {status:?}); unplug it and measure again"
        ))
    }
}

fn word(folder: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(file))
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Watts, or joules left. Some drivers give the current of a discharging battery a minus sign.
fn read(folder: &Path, told: Told) -> Option<f64> {
    let micro = |file: &str| -> Option<f64> {
        word(folder, file)?
            .parse::<i64>()
            .ok()
            .map(|value| (value as f64 / 1e6).abs())
    };
    match told {
        Told::Power => micro("power_now"),
        Told::VoltageAndCurrent => Some(micro("voltage_now")? * micro("current_now")?),
        Told::Energy => micro("energy_now").map(|watt_hours| watt_hours * 3600.0),
        Told::Charge => Some(micro("charge_now")? * 3600.0 * micro("voltage_now")?),
    }
}

impl Meter for Batteries {
    fn source(&self) -> Source {
        Source::Battery
    }

    fn covers(&self) -> String {
        let how = |told| match told {
            Told::Power => "its own power reading",
            Told::VoltageAndCurrent => "voltage times current",
            Told::Energy => "its energy left",
            Told::Charge => "its charge left times voltage",
        };
        let parts: Vec<String> = self
            .all
            .iter()
            .map(|battery| {
                let name = battery.folder.file_name().unwrap_or_default();
                format!("{} by {}", name.display(), how(battery.told))
            })
            .collect();
        format!("the whole machine, screen included ({})", parts.join(", "))
    }

    fn poll(&mut self, now: Duration) -> Result<f64, String> {
        let folders: Vec<PathBuf> = self.all.iter().map(|b| b.folder.clone()).collect();
        discharging(&folders)?;
        let seconds = self
            .last
            .map_or(0.0, |last| now.saturating_sub(last).as_secs_f64());
        for battery in &mut self.all {
            let value = read(&battery.folder, battery.told)
                .ok_or_else(|| format!("{} cannot be read any more", battery.folder.display()))?;
            let before = battery.last.replace(value).unwrap_or(value);
            let status = word(&battery.folder, "status");
            self.joules += match battery.told {
                // A battery that rests still tells its last power.
                _ if status.as_deref() != Some("Discharging") => 0.0,
                Told::Power | Told::VoltageAndCurrent => f64::midpoint(before, value) * seconds,
                Told::Energy | Told::Charge => before - value,
            };
        }
        self.last = Some(now);
        Ok(self.joules)
    }

    fn least_window(&self) -> Duration {
        let by_energy = |b: &Battery| matches!(b.told, Told::Energy | Told::Charge);
        if self.all.iter().any(by_energy) {
            WINDOW_OF_ENERGY
        } else {
            WINDOW_OF_POWER
        }
    }

    fn most_watts(&self) -> f64 {
        MOST_WATTS
    }
}
