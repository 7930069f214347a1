//! Exports of scorecards and runs: CSV and JSON with every answer, PNG and SVG of the charts, and one self-contained
//! HTML report. All of it is drawn from the store.

mod bundle;
mod csv;
mod draw;
mod file;
mod html;
mod json;
mod texts;

use std::path::Path;

use crate::api::{ApiError, ExportFormat, ExportRequest, Exported};
use crate::facade::Workbench;
use crate::words::{moment, plain};

use bundle::Bundle;
use draw::{Identities, picture};

impl Workbench {
    /// Writes a scorecard, or single runs, to a file; an existing one is replaced when the new one is whole.
    pub fn export_results(&self, request: &ExportRequest) -> Result<Exported, ApiError> {
        let out = Path::new(&request.out);
        file::check(out)?;
        let bundle = self.bundle(request)?;
        let bytes = match request.format {
            ExportFormat::Csv => csv::csv(&self.contents(&bundle.runs)?)?,
            ExportFormat::Json => json::json(&bundle, &self.contents(&bundle.runs)?)?,
            ExportFormat::Svg => draw::svg(&drawn(&bundle)?, &bundle.heading)?.into_bytes(),
            ExportFormat::Png => draw::png(&drawn(&bundle)?)?,
            ExportFormat::Html => html::html(&bundle)?.into_bytes(),
        };
        file::write(out, &bytes)
    }

    /// Finds out before hours of work that an export could not be written.
    pub fn check_export(&self, out: &Path) -> Result<(), ApiError> {
        file::check(out)
    }
}

/// All charts as one picture.
fn drawn(bundle: &Bundle) -> Result<draw::Picture, ApiError> {
    if bundle.charts.is_empty() {
        return Err(ApiError::failed(format!(
            "there is no chart of {}; export CSV, JSON or HTML instead",
            bundle.heading
        )));
    }
    let models: Vec<String> = bundle
        .rows
        .iter()
        .map(|row| format!("{} ({})", plain(&row.name), plain(&row.quant)))
        .collect();
    let footing = [
        format!("Models: {}", models.join(", ")),
        format!("Measured on {}", plain(&bundle.hardware)),
        format!(
            "Billion {}, {}. Again: {}",
            env!("CARGO_PKG_VERSION"),
            moment(
                bundle
                    .runs
                    .iter()
                    .map(|run| run.created_at)
                    .fold(0.0, f64::max)
            ),
            plain(&bundle.commands.join("; "))
        ),
    ];
    Ok(picture(
        &bundle.charts,
        &Identities(&bundle.identities),
        &bundle.heading,
        &footing,
    ))
}

#[cfg(test)]
mod tests;
