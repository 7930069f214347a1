//! One self-contained report: no script, nothing that is loaded, drawings inside; it reads well in light, dark and on
//! paper. Texts from model files and stores are escaped; single questions are counted, not listed.

use std::fmt::Write as _;

use super::bundle::Bundle;
use super::draw::{
    CHART_WIDTH, Identities, Picture, chart, marker, names_are_categories, svg, value_text, xml,
};
use super::texts::texts;
use crate::api::{
    ApiError, Badge, ChartData, ChartForm, ChartPoint, Fact, Figure, ReferenceKind, ScorecardRow,
};
use crate::figures::{facts, figures};
use crate::machine::{bytes_words, now};
use crate::store::RunRow;
use crate::words::{counted, duration, grouped, moment, percent, significant, task_words};

/// The report may load nothing, whatever is in it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The file.
pub(super) fn html(bundle: &Bundle) -> Result<String, ApiError> {
    let identities = Identities(&bundle.identities);
    let mut page = String::new();
    let ended = bundle
        .runs
        .iter()
        .map(|run| run.created_at)
        .fold(0.0, f64::max);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{heading} · Billion</title>\n<style>\n{css}</style>\n</head>\n<body>\n\
         <h1>{heading}</h1>\n<p class=\"soft\">{measured}Billion {version}, written {written}.</p>\n\
         <p class=\"soft\">Machine: {hardware}</p>\n",
        heading = xml(&bundle.heading),
        css = include_str!("report.css"),
        measured = if ended > 0.0 {
            format!("Measured until {}. ", moment(ended))
        } else {
            String::new()
        },
        version = env!("CARGO_PKG_VERSION"),
        written = moment(now()),
        hardware = xml(&bundle.hardware),
    );
    if let Some(card) = bundle.scorecard.as_ref().filter(|card| !card.complete) {
        let _ = writeln!(
            page,
            "<p class=\"bad\">Scorecard {} is not complete: figures that are missing say why below.</p>",
            card.id
        );
    }
    section(&mut page, "Verdicts", &list(&bundle.verdicts));
    section(&mut page, "Figures", &scores(&bundle.rows, &identities)?);
    section(&mut page, "Against what others say", &said(&bundle.rows));
    if !bundle.charts.is_empty() {
        page.push_str("<h2>Charts</h2>\n");
        for data in &bundle.charts {
            figure(&mut page, data, &identities)?;
        }
    }
    for run in &bundle.runs {
        page.push_str(&texts(run)?);
    }
    page.push_str("<h2>How it was measured</h2>\n");
    if bundle.answers > 0 {
        let _ = writeln!(
            page,
            "<p>{} and completions stand behind these figures. They are in the CSV and JSON exports, not in this report.</p>",
            counted(bundle.answers, "answer")
        );
    }
    page.push_str(&how(&bundle.rows));
    for run in &bundle.runs {
        about(&mut page, run)?;
    }
    page.push_str("<h2>Again</h2>\n<div class=\"panel\"><pre>");
    page.push_str(
        &bundle
            .commands
            .iter()
            .map(|command| xml(command))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    page.push_str("</pre></div>\n</body>\n</html>\n");
    Ok(page)
}

/// A section; without contents there is none.
fn section(page: &mut String, title: &str, contents: &str) {
    if !contents.is_empty() {
        let _ = write!(
            page,
            "<h2>{}</h2>\n<div class=\"panel\">\n{contents}</div>\n",
            xml(title)
        );
    }
}

fn list(texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    for text in texts {
        let _ = writeln!(items, "<li>{}</li>", xml(text));
    }
    format!("<ul>\n{items}</ul>\n")
}

/// A column of the table of figures.
type Column = (&'static str, fn(&ScorecardRow) -> Option<&Figure>);

const COLUMNS: [Column; 10] = [
    ("MMLU", |row| row.mmlu.as_ref()),
    ("HumanEval pass@1", |row| row.humaneval.as_ref()),
    ("Reading", |row| row.prefill.as_ref()),
    ("Generating", |row| row.decode.as_ref()),
    ("First token", |row| row.ttft.as_ref()),
    ("Loading", |row| row.load.as_ref()),
    ("Peak memory", |row| row.peak_memory.as_ref()),
    ("Weights", |row| row.weights_memory.as_ref()),
    ("Energy", |row| row.energy.as_ref()),
    ("Right answers a Wh", |row| row.correct_per_wh.as_ref()),
];

fn used(rows: &[ScorecardRow]) -> Vec<Column> {
    COLUMNS
        .into_iter()
        .filter(|(_, figure)| rows.iter().any(|row| figure(row).is_some()))
        .collect()
}

fn scores(rows: &[ScorecardRow], identities: &Identities<'_>) -> Result<String, ApiError> {
    if rows.is_empty() {
        return Ok(String::new());
    }
    let columns = used(rows);
    let mut text = "<table class=\"scores\">\n<thead><tr><th scope=\"col\">Model</th>".to_owned();
    for (name, _) in &columns {
        let _ = write!(text, "<th scope=\"col\" class=\"n\">{name}</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(
            text,
            "<tr><th scope=\"row\">{}{}<br><span class=\"soft\">{}, {} parameters</span></th>",
            key(&row.model, identities)?,
            xml(&row.name),
            xml(&row.quant),
            grouped(row.params)
        );
        for (_, figure) in &columns {
            let cell = figure(row).map_or_else(
                || "-".to_owned(),
                |figure| {
                    let range = range(figure);
                    format!("{}<span>{range}</span>", xml(&value(figure, figure.value)))
                },
            );
            let _ = write!(text, "<td class=\"n\">{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n");
    let notes: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            row.remarks()
                .into_iter()
                .map(|note| format!("{}: {note}", row.name))
        })
        .collect();
    text.push_str(&list(&notes));
    Ok(text)
}

/// The model's marker, small enough for a line of text.
fn key(model: &str, identities: &Identities<'_>) -> Result<String, ApiError> {
    inline(&marker(identities, model), model)
        .map(|text| text.replacen("<svg", "<svg class=\"key\"", 1))
}

fn value(figure: &Figure, value: f64) -> String {
    match figure.unit.as_str() {
        "accuracy" => percent(value),
        "bytes" => bytes_words(value as u64),
        "s" => duration(value),
        unit => value_text(value, unit),
    }
}

fn range(figure: &Figure) -> String {
    let (Some(lo), Some(hi)) = (figure.lo, figure.hi) else {
        return String::new();
    };
    match figure.unit.as_str() {
        "accuracy" => format!("{:.1} to {:.1} %", lo * 100.0, hi * 100.0),
        _ => format!("{} to {}", significant(lo), significant(hi)),
    }
}

/// Badges, and every score that others give.
fn said(rows: &[ScorecardRow]) -> String {
    let mut items = String::new();
    for row in rows {
        for Badge {
            task,
            matches,
            words,
        } in &row.badges
        {
            let (class, sign) = match matches {
                Some(true) => ("good", "✓ "),
                Some(false) => ("bad", "✗ "),
                None => ("soft", ""),
            };
            let _ = writeln!(
                items,
                "<li class=\"{class}\">{}, {}: {sign}{}</li>",
                xml(&row.name),
                task_words(task),
                xml(words)
            );
        }
        for said in row
            .references
            .iter()
            .filter(|said| said.kind == ReferenceKind::Claimed)
        {
            let _ = writeln!(
                items,
                "<li class=\"soft\">{}, {}: claimed {} by {}; a claim is shown, not compared</li>",
                xml(&row.name),
                task_words(&said.task),
                percent(said.value),
                xml(&said.source)
            );
        }
    }
    if items.is_empty() {
        return items;
    }
    format!("<ul>\n{items}</ul>\n")
}

fn inline(picture: &Picture, title: &str) -> Result<String, ApiError> {
    // Inside a page an SVG needs no name of its language, which looks like an address.
    Ok(svg(picture, title)?
        .replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
        .replace(" opacity=\"1\"", ""))
}

fn figure(
    page: &mut String,
    data: &ChartData,
    identities: &Identities<'_>,
) -> Result<(), ApiError> {
    let tall = data.form == ChartForm::HeatMap || data.x.categories.len() > 20;
    let _ = write!(
        page,
        "<figure{}>\n{}",
        if tall { " class=\"tall\"" } else { "" },
        inline(&chart(data, identities, CHART_WIDTH), &data.title)?
    );
    let table = match data.form {
        ChartForm::HeatMap => grid(data),
        _ => points(data, identities)?,
    };
    let _ = writeln!(page, "{table}</figure>");
    Ok(())
}

/// A row a point, in the units of the axes.
fn points(data: &ChartData, identities: &Identities<'_>) -> Result<String, ApiError> {
    let merged = names_are_categories(data);
    let all = || data.series.iter().flat_map(|series| &series.points);
    let intervals = all().any(|point| point.lo.is_some());
    let marks = data.series.iter().any(|series| !series.marks.is_empty());
    let mut text = format!(
        "<table>\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">Model</th>",
        xml(&data.title)
    );
    if !merged {
        let class = if data.x.categories.is_empty() {
            " class=\"n\""
        } else {
            ""
        };
        let _ = write!(text, "<th scope=\"col\"{class}>{}</th>", xml(&data.x.label));
    }
    let _ = write!(
        text,
        "<th scope=\"col\" class=\"n\">{}</th>",
        xml(&data.y.label)
    );
    if intervals {
        text.push_str("<th scope=\"col\" class=\"n\">Interval</th>");
    }
    if marks {
        text.push_str("<th scope=\"col\">Others</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for series in &data.series {
        for point in &series.points {
            let _ = write!(
                text,
                "<tr><th scope=\"row\">{}{}</th>",
                key(&series.model, identities)?,
                xml(&series.name)
            );
            if !merged {
                let _ = match data.x.categories.get(point.x as usize) {
                    Some(name) => write!(text, "<td>{}</td>", xml(name)),
                    None => write!(
                        text,
                        "<td class=\"n\">{}</td>",
                        xml(&value_text(point.x, &data.x.unit))
                    ),
                };
            }
            let _ = write!(
                text,
                "<td class=\"n\">{}</td>",
                xml(&value_text(point.y, &data.y.unit))
            );
            if intervals {
                let _ = write!(
                    text,
                    "<td class=\"n\">{}</td>",
                    interval(point, &data.y.unit)
                );
            }
            if marks {
                let others: Vec<String> = series
                    .marks
                    .iter()
                    .filter(|mark| mark.x == point.x)
                    .map(|mark| format!("{} {}", value_text(mark.y, &data.y.unit), mark.label))
                    .collect();
                let _ = write!(text, "<td>{}</td>", xml(&others.join("; ")));
            }
            text.push_str("</tr>\n");
        }
    }
    text.push_str("</tbody>\n</table>\n");
    Ok(text)
}

fn interval(point: &ChartPoint, unit: &str) -> String {
    let (Some(lo), Some(hi)) = (point.lo, point.hi) else {
        return String::new();
    };
    if unit == "%" {
        format!("{lo:.1} to {hi:.1}")
    } else {
        format!("{} to {}", significant(lo), significant(hi))
    }
}

/// Rows by columns, as a heat map has them.
fn grid(data: &ChartData) -> String {
    let mut text = format!(
        "<table>\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">{}</th>",
        xml(&data.title),
        xml(&data.y.label)
    );
    for name in &data.x.categories {
        let _ = write!(text, "<th scope=\"col\" class=\"n\">{}</th>", xml(name));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    let unit = data.value.as_ref().map_or("", |axis| axis.unit.as_str());
    for (row, name) in data.y.categories.iter().enumerate() {
        let _ = write!(text, "<tr><th scope=\"row\">{}</th>", xml(name));
        for column in 0..data.x.categories.len() {
            let cell = data
                .series
                .iter()
                .flat_map(|series| &series.points)
                .find(|point| point.x == column as f64 && point.y == row as f64)
                .and_then(|point| point.value);
            let shown = cell.map_or_else(|| "-".to_owned(), |value| value_text(value, unit));
            let _ = write!(text, "<td class=\"n\">{shown}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n");
    text
}

/// How each figure of the table came about.
fn how(rows: &[ScorecardRow]) -> String {
    let mut items = String::new();
    for row in rows {
        for (name, figure) in used(rows) {
            if let Some(figure) = figure(row) {
                let _ = writeln!(
                    items,
                    "<tr><th scope=\"row\">{}</th><td>{name}</td><td>{}{}</td></tr>",
                    xml(&row.name),
                    xml(&figure.how),
                    figure
                        .run
                        .map_or_else(String::new, |run| format!(" (run {run})"))
                );
            }
        }
    }
    if items.is_empty() {
        return items;
    }
    format!(
        "<div class=\"panel\">\n<table>\n<thead><tr><th scope=\"col\">Model</th><th scope=\"col\">Figure</th>\
         <th scope=\"col\">How</th></tr></thead>\n<tbody>\n{items}</tbody>\n</table>\n</div>\n"
    )
}

/// All that is known of a run.
fn about(page: &mut String, run: &RunRow) -> Result<(), ApiError> {
    let _ = write!(
        page,
        "<h3>Run {}: {} of {}</h3>\n<div class=\"panel\">\n<table class=\"facts\">\n<tbody>\n",
        run.id,
        xml(task_words(&run.run.task)),
        xml(&run.run.name)
    );
    let mut fact = |label: &str, value: &str| {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            xml(label),
            xml(value)
        );
    };
    // Groups and subjects have their charts and tables above.
    let figures = figures(run)?.into_iter().filter(|figure| {
        !figure.label.starts_with("Group: ") && !figure.label.starts_with("Subject")
    });
    for figure in figures {
        fact(&figure.label, &figure.text);
    }
    for Fact { label, value } in facts(run) {
        // A report is made to be passed on: folders of this machine are nobody's business.
        let value = match label.as_str() {
            "File" | "Questions from" | "Problems from" | "Text" => file_name(&value),
            _ => value,
        };
        fact(&label, &value);
    }
    fact("Ended", &moment(run.created_at));
    fact("Again", &run.run.command);
    page.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).find(|part| !part.is_empty());
    name.unwrap_or(path).to_owned()
}
