//! Progress bars on standard error, only where a person watches it.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::Duration;

use billion_workbench::JobProgress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// A bar for one command.
pub struct Bar {
    line: ProgressBar,
    /// The last reason to wait that was said.
    waiting: RefCell<String>,
    /// Put before every step.
    name: String,
}

impl Bar {
    /// A bar; hidden unless standard error is a terminal.
    pub fn new() -> Self {
        Self::with("{msg} {wide_bar} {pos}/{len} {prefix}", "")
    }

    /// A bar for the download of a model, whose steps say the bytes.
    pub fn of_download(model: &str) -> Self {
        Self::with("{msg} {wide_bar} {prefix}", model)
    }

    fn with(template: &str, name: &str) -> Self {
        let line = if std::io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        line.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        line.enable_steady_tick(Duration::from_millis(200));
        Self {
            line,
            waiting: RefCell::default(),
            name: name.to_owned(),
        }
    }

    /// Shows how far the work is. Where nobody watches, only why it waits is said.
    pub fn show(&self, progress: &JobProgress) {
        if self.line.is_hidden() {
            let waits = progress.step.contains("waits");
            if waits && *self.waiting.borrow() != progress.step {
                output::say(&progress.step);
            }
            self.waiting.replace(if waits {
                progress.step.clone()
            } else {
                String::new()
            });
            return;
        }
        self.line.set_length(u64::from(progress.total));
        self.line.set_position(u64::from(progress.done));
        self.line.set_message(match self.name.as_str() {
            "" => progress.step.clone(),
            name => format!("{name}: {}", progress.step),
        });
        let left = match progress.eta_s {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => left(seconds),
            _ => String::new(),
        };
        self.line.set_prefix(match &progress.rate {
            Some(rate) if rate.unit == "bytes" => {
                format!("{:.1} MB/s {left}", rate.per_s / 1e6)
            }
            Some(rate) if rate.unit == "tokens" => {
                format!("{:.0} tokens/s {left}", rate.per_s)
            }
            _ => left,
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

fn left(seconds: f64) -> String {
    let seconds = seconds.round().min(1e9) as u64;
    match seconds {
        0..60 => format!("{seconds} s left"),
        60..3600 => format!("{} min left", seconds.div_ceil(60)),
        _ => format!("{} h {} min left", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_left_is_rounded_for_people() {
        assert_eq!(super::left(3.4), "3 s left");
        assert_eq!(super::left(61.0), "2 min left");
        assert_eq!(super::left(7300.0), "2 h 1 min left");
    }
}
