//! What people and programs read: one JSON document, or tables, on standard output.

use std::io::{ErrorKind, Write};

use serde::Serialize;

/// Writes text to standard output. A reader that has gone away ends the program quietly; a text that is lost otherwise
/// (a full disk) is an error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        say(&format!(
            "error: the result cannot be written to standard output: {error}; runs are stored, see billion results list"
        ));
        std::process::exit(1);
    }
}

/// Writes a line to standard error, where it is read; a reader that has gone away misses it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text);
    Ok(())
}

/// A table with a header row; columns of figures are given in `right` by their index.
pub fn table(header: &[&str], right: &[usize], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let (left, right) = if right.contains(&i) {
                (pad.as_str(), cell.as_str())
            } else {
                (cell.as_str(), pad.as_str())
            };
            line.extend([left, right, "  "]);
        }
        text += line.trim_end();
        text.push('\n');
    }
    print(&text);
}

/// Label and value pairs, one a line.
pub fn pairs<L: AsRef<str>, V: AsRef<str>>(rows: &[(L, V)]) {
    let width = rows
        .iter()
        .map(|(label, _)| label.as_ref().chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (label, value) in rows {
        let label = label.as_ref();
        let pad = " ".repeat(width - label.chars().count());
        text.extend([label, &pad, "  ", value.as_ref(), "\n"]);
    }
    print(&text);
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.2} GB", bytes as f64 / 1e9)
    }
}

/// A count of parameters for people.
pub fn params(count: u64) -> String {
    if count < 1_000_000_000 {
        format!("{:.0}M", count as f64 / 1e6)
    } else {
        format!("{:.2}B", count as f64 / 1e9)
    }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A moment in UTC: "2026-11-24 21:31".
pub fn date(seconds: f64) -> String {
    billion_workbench::moment(seconds)
        .trim_end_matches(" UTC")
        .to_owned()
}

/// The text without line breaks.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_figures_read_well() {
        assert_eq!(date(0.0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399.0), "2000-02-28 23:59");
        assert_eq!(date(951_782_400.0), "2000-02-29 00:00");
        assert_eq!(date(1_795_469_460.0), "2026-11-23 21:31");
        assert_eq!(size(98_765_432), "98.8 MB");
        assert_eq!(params(1_100_048_384), "1.10B");
        assert_eq!(one_line("a\n  b\tc"), "a b c");
    }
}
