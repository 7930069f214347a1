//! Reads the parquet files of `cais/mmlu`: columns question and subject (texts), choices (list of four texts) and answer
//! (0 to 3). Rows of a subject keep their order; other columns are ignored.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

use super::data::bad;
use super::sources::Split;
use super::{MmluData, Question, group_of};
use crate::Error;

/// Most bytes of a file, packed and unpacked; the test split of `cais/mmlu` has 3.5 MB and 7 MB.
const MAX_BYTES: u64 = 64 << 20;
const MAX_UNPACKED_BYTES: i64 = 256 << 20;
const COLUMNS: [&str; 4] = ["question", "subject", "choices", "answer"];

/// Reads the files of both splits; a subject without test rows is left out.
pub(super) fn read(test: &[PathBuf], dev: &[PathBuf]) -> Result<MmluData, Error> {
    let mut data = MmluData::default();
    let splits = [(Split::Test, test), (Split::Dev, dev)];
    for (split, path) in splits
        .into_iter()
        .flat_map(|(split, files)| files.iter().map(move |file| (split, file)))
    {
        // The reader is no parser of ours; should a damaged file make it panic, that is an error like any other.
        catch_unwind(AssertUnwindSafe(|| add_rows(path, split, &mut data)))
            .unwrap_or_else(|_| Err(damaged(path, "its structure contradicts itself")))?;
    }
    data.subjects.retain(|_, subject| !subject.test.is_empty());
    if data.subjects.is_empty() {
        return Err(Error::Options(format!(
            "{} has no rows: fetch the test split of cais/mmlu again",
            test[0].display()
        )));
    }
    Ok(data)
}

fn add_rows(path: &Path, split: Split, data: &mut MmluData) -> Result<(), Error> {
    let unread = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unread)?;
    let bytes = file.metadata().map_err(unread)?.len();
    if bytes > MAX_BYTES {
        return Err(damaged(
            path,
            format!("it has {bytes} bytes, more than the {MAX_BYTES} that MMLU can need"),
        ));
    }
    let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, error))?;
    let unpacked: i64 = reader
        .metadata()
        .row_groups()
        .iter()
        .map(parquet::file::metadata::RowGroupMetaData::total_byte_size)
        .sum();
    if unpacked > MAX_UNPACKED_BYTES {
        return Err(damaged(
            path,
            format!(
                "it unpacks to {unpacked} bytes, more than the {MAX_UNPACKED_BYTES} that MMLU can need"
            ),
        ));
    }
    let schema = reader.metadata().file_metadata().schema();
    let have: Vec<&str> = schema
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    if let Some(missing) = COLUMNS.iter().find(|column| !have.contains(*column)) {
        return Err(Error::Options(format!(
            "{} has no column {missing}: expected {}, found {}",
            path.display(),
            COLUMNS.join(", "),
            have.join(", ")
        )));
    }
    let rows = RowIter::from_file(None, &reader).map_err(|error| damaged(path, error))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|error| damaged(path, format!("row {}: {error}", index + 1)))?;
        let (subject, question) =
            read_row(&row).map_err(|problem| bad(path, index + 1, problem))?;
        let subject = data.subjects.entry(subject).or_default();
        match split {
            Split::Dev => subject.dev.push(question),
            Split::Test => subject.test.push(question),
        }
    }
    Ok(())
}

fn read_row(row: &Row) -> Result<(String, Question), String> {
    let field = |name: &str| {
        row.get_column_iter()
            .find(|(column, _)| *column == name)
            .map_or(&Field::Null, |(_, field)| field)
    };
    let text = |name: &str, field: &Field| match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(format!("{name} must be a text, not {other}")),
    };
    let subject = text("subject", field("subject"))?;
    if group_of(&subject).is_none() {
        return Err(format!("{subject:?} is not one of the 57 subjects"));
    }
    let Field::ListInternal(choices) = field("choices") else {
        return Err(format!("choices must be a list, not {}", field("choices")));
    };
    let choices = choices
        .elements()
        .iter()
        .map(|choice| text("a choice", choice))
        .collect::<Result<Vec<_>, _>>()?;
    let choices: [String; 4] = choices
        .try_into()
        .map_err(|have: Vec<_>| format!("expected 4 choices, found {}", have.len()))?;
    let answer = match *field("answer") {
        Field::Byte(n) => i64::from(n),
        Field::Short(n) => i64::from(n),
        Field::Int(n) => i64::from(n),
        Field::Long(n) => n,
        Field::UByte(n) => i64::from(n),
        Field::UShort(n) => i64::from(n),
        Field::UInt(n) => i64::from(n),
        ref other => return Err(format!("answer must be a number from 0 to 3, not {other}")),
    };
    let answer = usize::try_from(answer)
        .ok()
        .filter(|answer| *answer < 4)
        .ok_or_else(|| format!("answer must be a number from 0 to 3, not {answer}"))?;
    let question = Question {
        text: text("question", field("question"))?,
        choices,
        answer,
    };
    Ok((subject, question))
}

fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Options(format!(
        "the parquet file {} cannot be read: {problem}; fetch it again from cais/mmlu",
        path.display()
    ))
}
