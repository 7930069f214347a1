//! CSV: a row a question, completion, repeat or single figure, each with all that says of which run it is (RFC 4180).

use super::bundle::RunContents;
use crate::api::{ApiError, LossPoint};
use crate::figures::figures;
use crate::finetune::FinetuneReport;
use crate::reports::{EnergyReport, SpeedReport, Spread};
use crate::scorecards::report_of;
use crate::words::moment;

const COLUMNS: [&str; 32] = [
    "run",
    "task",
    "model",
    "name",
    "quant",
    "sha256",
    "params",
    "task_version",
    "shots",
    "seed",
    "hardware",
    "isa",
    "threads",
    "app_version",
    "ended",
    "scorecard",
    "item",
    "subject",
    "index",
    "ll_a",
    "ll_b",
    "ll_c",
    "ll_d",
    "pred",
    "gold",
    "passed",
    "verdict",
    "detail",
    "seconds",
    "tokens",
    "value",
    "completion",
];

/// Columns that every row of a run repeats.
const OF_RUN: usize = 16;

/// A cell. Numbers are written as they are; texts are kept from being taken for formulas.
enum Cell {
    Text(String),
    Number(String),
    Empty,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers, without a reference at each"
    )]
    fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    /// A spreadsheet takes a cell that begins like this for a formula, quoted or not; an apostrophe makes it a text
    /// (OWASP, "CSV injection").
    fn written(self) -> String {
        match self {
            Self::Text(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) => {
                format!("'{text}")
            }
            Self::Text(text) | Self::Number(text) => text,
            Self::Empty => String::new(),
        }
    }
}

/// The file.
pub(super) fn csv(runs: &[RunContents]) -> Result<Vec<u8>, ApiError> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let fail = |error: csv::Error| ApiError::failed(format!("the CSV cannot be made: {error}"));
    writer.write_record(COLUMNS).map_err(fail)?;
    for contents in runs {
        for row in rows(contents)? {
            let cells = of_run(contents).into_iter().chain(row).map(Cell::written);
            writer.write_record(cells).map_err(fail)?;
        }
    }
    writer
        .into_inner()
        .map_err(|error| ApiError::failed(format!("the CSV cannot be made: {error}")))
}

fn of_run(contents: &RunContents) -> Vec<Cell> {
    let row = &contents.row;
    let run = &row.run;
    vec![
        Cell::number(row.id),
        Cell::text(&run.task),
        Cell::text(&run.model),
        Cell::text(&run.name),
        Cell::text(&run.quant),
        Cell::text(&run.sha256),
        Cell::number(run.params),
        Cell::text(&run.task_version),
        Cell::number(run.shots),
        Cell::number(run.seed),
        Cell::text(&run.hardware),
        Cell::text(&run.isa),
        Cell::number(run.threads),
        Cell::text(&row.app_version),
        Cell::text(moment(row.created_at)),
        run.scorecard.map_or(Cell::Empty, Cell::number),
    ]
}

/// A row's own cells, by column.
#[derive(Default)]
struct Item {
    cells: Vec<(&'static str, Cell)>,
}

impl Item {
    fn new(item: String) -> Self {
        Self {
            cells: vec![("item", Cell::Text(item))],
        }
    }

    fn with(mut self, column: &'static str, cell: Cell) -> Self {
        self.cells.push((column, cell));
        self
    }

    fn row(self) -> Vec<Cell> {
        let mut row: Vec<Cell> = COLUMNS[OF_RUN..].iter().map(|_| Cell::Empty).collect();
        for (column, cell) in self.cells {
            let place = COLUMNS[OF_RUN..].iter().position(|name| *name == column);
            row[place.expect("cells are of the columns")] = cell;
        }
        row
    }
}

fn rows(contents: &RunContents) -> Result<Vec<Vec<Cell>>, ApiError> {
    let mut items: Vec<Item> = Vec::new();
    for q in &contents.questions {
        let mut item = Item::new(format!("{}/{}", q.subject, q.index))
            .with("subject", Cell::text(&q.subject))
            .with("index", Cell::number(q.index));
        for (column, ll) in ["ll_a", "ll_b", "ll_c", "ll_d"].into_iter().zip(&q.ll) {
            item = item.with(column, Cell::number(ll));
        }
        items.push(
            item.with("pred", Cell::text(&q.pred))
                .with("gold", Cell::text(&q.gold))
                .with("passed", Cell::number(u8::from(q.pred == q.gold))),
        );
    }
    for c in &contents.completions {
        items.push(
            Item::new(c.task_id.clone())
                .with("index", Cell::number(c.sample))
                .with("passed", Cell::number(u8::from(c.passed)))
                .with("verdict", Cell::text(&c.verdict))
                .with("detail", Cell::text(&c.detail))
                .with("seconds", Cell::number(c.seconds))
                .with("tokens", Cell::number(c.tokens))
                .with("completion", Cell::text(&c.completion)),
        );
    }
    if items.is_empty() {
        items = match contents.row.run.task.as_str() {
            "speed" => {
                let report: SpeedReport = report_of(&contents.row)?;
                repeats("generating, tokens/s", &report.decode_tokens_per_s)
                    .chain(repeats("reading, tokens/s", &report.prefill_tokens_per_s))
                    .collect()
            }
            "energy" => {
                let report: EnergyReport = report_of(&contents.row)?;
                let spread = report.spread.iter();
                spread
                    .flat_map(|spread| repeats("generating, J/token, idle subtracted", spread))
                    .collect()
            }
            "finetune" => {
                let report: FinetuneReport = report_of(&contents.row)?;
                losses("loss of a step, nats a token", &report.loss)
                    .chain(losses("held-out loss, nats a token", &report.held_out_loss))
                    .collect()
            }
            _ => figures(&contents.row)?
                .into_iter()
                .filter_map(|figure| {
                    let (value, _) = figure.number?;
                    Some(Item::new(figure.label).with("value", Cell::number(value)))
                })
                .collect(),
        };
    }
    Ok(items.into_iter().map(Item::row).collect())
}

fn losses(what: &str, points: &[LossPoint]) -> impl Iterator<Item = Item> {
    points.iter().map(move |point| {
        Item::new(what.to_owned())
            .with("index", Cell::number(point.step))
            .with("value", Cell::number(point.loss))
    })
}

fn repeats(what: &str, spread: &Spread) -> impl Iterator<Item = Item> {
    spread.runs.iter().enumerate().map(move |(place, value)| {
        Item::new(what.to_owned())
            .with("index", Cell::number(place))
            .with("value", Cell::number(value))
    })
}
