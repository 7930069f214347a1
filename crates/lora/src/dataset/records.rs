//! Rows of a file one after another, each as a JSON object, whatever kind of file it is. Never more than a row in memory (of
//! Parquet, a page of each column).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::FileKind;
use super::source::{Bounded, MAX_ROW_BYTES, Seen, bad, unread};
use crate::Error;

/// Most bytes that a row group of Parquet may unpack to.
const MAX_GROUP_BYTES: i64 = 1 << 30;

/// Column of plain text.
pub(super) const TEXT: &str = "text";

/// A row of a file.
#[derive(Debug)]
pub(super) struct Record {
    /// From 1.
    pub row: u32,
    /// Line that it begins at, from 1; none in Parquet.
    pub line: Option<u32>,
    /// Its columns, or why it has none.
    pub columns: Result<Map<String, Value>, String>,
    /// Bytes read so far; 0 where nobody counts.
    pub bytes_read: u64,
}

type Take<'a> = dyn FnMut(Record) -> ControlFlow<()> + 'a;

/// Gives every row of a file to `take`, until it breaks off. What ends the reading early (a syntax error in a JSON array) is
/// the last row's problem.
pub(super) fn each(path: &Path, kind: FileKind, take: &mut Take<'_>) -> Result<(), Error> {
    match kind {
        FileKind::Json => json(path, take),
        FileKind::Jsonl => json_lines(path, take),
        FileKind::Csv => separated(path, b',', take),
        FileKind::Tsv => separated(path, b'\t', take),
        FileKind::Text => paragraphs(path, take),
        // The reader is no parser of ours; should a damaged file make it panic, that is an error like any other.
        FileKind::Parquet => {
            catch_unwind(AssertUnwindSafe(|| parquet(path, take))).unwrap_or_else(|_| {
                Err(bad(
                    path,
                    "damaged: its structure contradicts itself; download it again",
                ))
            })
        }
    }
}

fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        // Lists of plain texts exist.
        Value::String(text) => Ok(Map::from_iter([(TEXT.to_owned(), Value::String(text))])),
        other => Err(format!("expected an object, found {}", name_of(&other))),
    }
}

/// What a value is, for people.
pub(super) fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn not_utf8(line: u32) -> String {
    format!("bytes in line {line} are no UTF-8; save the file as UTF-8")
}

// ---------------------------------------------------------------- JSON

/// Rows of an array, told as they are parsed.
struct Rows<'a, 'b> {
    take: &'a mut Take<'b>,
    seen: Seen,
    row: u32,
    stopped: bool,
}

impl Rows<'_, '_> {
    fn tell(&mut self, columns: Result<Map<String, Value>, String>) {
        self.row += 1;
        let line = self.seen.line();
        let columns = match self.seen.next_row() {
            Some(broken) => Err(not_utf8(broken)),
            None => columns,
        };
        let record = Record {
            row: self.row,
            line: Some(line),
            columns,
            bytes_read: self.seen.bytes(),
        };
        self.stopped = (self.take)(record).is_break();
    }
}

/// The array itself, or an object in which the first list is the rows.
struct Top<'a, 'b, 'c>(&'a mut Rows<'b, 'c>);

impl<'de> Visitor<'de> for Top<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of rows, or an object with one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        // What stands before the list is no row.
        self.0.seen.next_row();
        loop {
            let Some(value) = list.next_element::<Value>()? else {
                return Ok(true);
            };
            self.0.tell(object(value));
            if self.0.stopped {
                return Err(serde::de::Error::custom("enough"));
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while map.next_key::<IgnoredAny>()?.is_some() {
            if found {
                map.next_value::<IgnoredAny>()?;
            } else {
                found = map.next_value_seed(List(self.0))?;
            }
        }
        Ok(found)
    }
}

/// A value that is rows if it is a list.
struct List<'a, 'b, 'c>(&'a mut Rows<'b, 'c>);

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<bool, A::Error> {
        Top(self.0).visit_seq(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

fn json(path: &Path, take: &mut Take<'_>) -> Result<(), Error> {
    let (reader, seen) = Bounded::open(path, true)?;
    let mut rows = Rows {
        take,
        seen,
        row: 0,
        stopped: false,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let found = deserializer.deserialize_any(Top(&mut rows));
    if rows.stopped {
        return Ok(());
    }
    match found {
        Ok(true) => {
            // A second list behind the first would be left out in silence.
            if let Err(error) = deserializer.end() {
                rows.tell(Err(format!(
                    "{error}; what stands behind the list is not read"
                )));
            }
            Ok(())
        }
        Ok(false) => Err(bad(
            path,
            "a JSON object without a list in it; expected a list of rows, or an object with one",
        )),
        Err(error) => {
            rows.tell(Err(format!("{error}; the rest of the file cannot be read")));
            Ok(())
        }
    }
}

fn json_lines(path: &Path, take: &mut Take<'_>) -> Result<(), Error> {
    let mut row = 0;
    lines(path, &mut |line, text, bytes_read| {
        if matches!(&text, Ok(text) if text.trim().is_empty()) {
            return ControlFlow::Continue(());
        }
        row += 1;
        let columns = text.and_then(|text| {
            let value = serde_json::from_str(text).map_err(|error| {
                let problem = error.to_string();
                let cause = problem.split(" at line ").next().unwrap_or(&problem);
                format!("not valid JSON: {cause}, at character {}", error.column())
            })?;
            object(value)
        });
        take(Record {
            row,
            line: Some(line),
            columns,
            bytes_read,
        })
    })
}

/// Is given number, text and bytes so far of a line.
type TakeLine<'a> = dyn FnMut(u32, Result<&str, String>, u64) -> ControlFlow<()> + 'a;

/// Gives every line of a file.
fn lines(path: &Path, take: &mut TakeLine<'_>) -> Result<(), Error> {
    let file = File::open(path).map_err(|source| unread(path, source))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = Vec::new();
    let (mut line, mut total) = (0, 0);
    loop {
        bytes.clear();
        let limited = (&mut reader).take(MAX_ROW_BYTES + 1);
        let mut limited = limited;
        let read = limited
            .read_until(b'\n', &mut bytes)
            .map_err(|source| unread(path, source))?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        total += read as u64;
        if bytes.len() as u64 > MAX_ROW_BYTES {
            // The rest of the line is passed over without being kept.
            let rest = reader.skip_until(b'\n');
            total += rest.map_err(|source| unread(path, source))? as u64;
            let problem = format!("the line is longer than {} MB", MAX_ROW_BYTES >> 20);
            if take(line, Err(problem), total).is_break() {
                return Ok(());
            }
            continue;
        }
        let mut text = &bytes[..];
        if line == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            format!(
                "byte {} of the line is no UTF-8; save the file as UTF-8",
                error.valid_up_to() + 1
            )
        });
        let text = text.map(|text| text.trim_end_matches(['\n', '\r']));
        if take(line, text, total).is_break() {
            return Ok(());
        }
    }
}

// ---------------------------------------------------------------- text

fn paragraphs(path: &Path, take: &mut Take<'_>) -> Result<(), Error> {
    let mut paragraph = Paragraph::default();
    let mut stopped = false;
    lines(path, &mut |line, text, bytes_read| {
        paragraph.bytes_read = bytes_read;
        if matches!(&text, Ok(text) if text.trim().is_empty()) {
            let told = paragraph.end(take);
            stopped = told.is_break();
            return told;
        }
        paragraph.add(line, text);
        ControlFlow::Continue(())
    })?;
    if !stopped {
        let _ = paragraph.end(take);
    }
    Ok(())
}

/// Lines up to an empty one.
#[derive(Default)]
struct Paragraph {
    row: u32,
    first: Option<u32>,
    text: String,
    problem: Option<String>,
    bytes_read: u64,
}

impl Paragraph {
    fn add(&mut self, line: u32, text: Result<&str, String>) {
        self.first.get_or_insert(line);
        match text {
            Ok(text) if (self.text.len() + text.len()) as u64 <= MAX_ROW_BYTES => {
                if !self.text.is_empty() {
                    self.text.push('\n');
                }
                self.text.push_str(text);
            }
            Ok(_) => {
                let problem = format!("the paragraph is longer than {} MB", MAX_ROW_BYTES >> 20);
                self.problem.get_or_insert(problem);
            }
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }

    fn end(&mut self, take: &mut Take<'_>) -> ControlFlow<()> {
        let Some(first) = self.first.take() else {
            return ControlFlow::Continue(());
        };
        self.row += 1;
        let text = std::mem::take(&mut self.text);
        take(Record {
            row: self.row,
            line: Some(first),
            columns: match self.problem.take() {
                Some(problem) => Err(problem),
                None => object(Value::String(text)),
            },
            bytes_read: self.bytes_read,
        })
    }
}

// ---------------------------------------------------------------- tables

fn separated(path: &Path, delimiter: u8, take: &mut Take<'_>) -> Result<(), Error> {
    // Fields are checked one by one, so that broken bytes are told of the right row.
    let (reader, seen) = Bounded::open(path, false)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(reader);
    let headers = match reader.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => return Err(bad(path, format!("the header cannot be read: {error}"))),
    };
    let names: Vec<String> = headers.iter().map(|name| name.trim().to_owned()).collect();
    if names.iter().all(String::is_empty) {
        return Err(bad(
            path,
            "the first line names no columns; expected a header",
        ));
    }
    let mut record = csv::ByteRecord::new();
    let mut row = 0;
    loop {
        let line = reader.position().line() as u32;
        let read = reader.read_byte_record(&mut record);
        seen.next_row();
        let ends = read.is_err();
        let columns = match read {
            Ok(false) => return Ok(()),
            Ok(true) => fields(&names, &record),
            Err(error) => Err(format!("{error}; the rest of the file cannot be read")),
        };
        row += 1;
        let told = take(Record {
            row,
            line: Some(record.position().map_or(line, |place| place.line() as u32)),
            columns,
            bytes_read: seen.bytes(),
        });
        if told.is_break() || ends {
            return Ok(());
        }
    }
}

fn fields(names: &[String], record: &csv::ByteRecord) -> Result<Map<String, Value>, String> {
    if record.len() != names.len() {
        return Err(format!(
            "{} fields, but the header names {} columns ({})",
            record.len(),
            names.len(),
            names.join(", ")
        ));
    }
    names
        .iter()
        .zip(record)
        .map(|(name, field)| match std::str::from_utf8(field) {
            Ok(text) => Ok((name.clone(), Value::String(text.to_owned()))),
            Err(error) => Err(format!(
                "column {name}: byte {} is no UTF-8; save the file as UTF-8",
                error.valid_up_to() + 1
            )),
        })
        .collect()
}

fn parquet(path: &Path, take: &mut Take<'_>) -> Result<(), Error> {
    let file = File::open(path).map_err(|source| unread(path, source))?;
    let damaged = |error: parquet::errors::ParquetError| {
        let text = error.to_string();
        if text.contains("feature") || text.contains("codec") {
            return bad(
                path,
                format!(
                    "{text}; Billion reads Parquet that is not packed, or packed by snappy or gzip: write it again so"
                ),
            );
        }
        bad(path, format!("damaged: {text}; download it again"))
    };
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    for group in reader.metadata().row_groups() {
        if group.total_byte_size() > MAX_GROUP_BYTES {
            return Err(bad(
                path,
                format!(
                    "a row group unpacks to {} MB, more than the {} MB that are read at once; write it with smaller row groups",
                    group.total_byte_size() >> 20,
                    MAX_GROUP_BYTES >> 20
                ),
            ));
        }
    }
    let rows = RowIter::from_file(None, &reader).map_err(damaged)?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(damaged)?;
        let columns = row.get_column_iter();
        let columns = columns.map(|(name, field)| (name.clone(), value(field)));
        let told = take(Record {
            row: index as u32 + 1,
            line: None,
            columns: Ok(columns.collect()),
            bytes_read: 0,
        });
        if told.is_break() {
            break;
        }
    }
    Ok(())
}

fn value(field: &Field) -> Value {
    match field {
        Field::Str(text) => Value::String(text.clone()),
        Field::Bool(flag) => Value::Bool(*flag),
        Field::Null => Value::Null,
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::Group(group) => {
            let columns = group.get_column_iter();
            Value::Object(
                columns
                    .map(|(name, field)| (name.clone(), value(field)))
                    .collect(),
            )
        }
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.data()).into_owned()),
        // Numbers and dates are text in the end.
        other => Value::String(other.to_string()),
    }
}
