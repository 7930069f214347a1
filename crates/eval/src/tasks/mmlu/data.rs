//! MMLU's questions, read from the starter pack's `mmlu/mmlu.jsonl` (test split only) or from the official folder
//! `DIR/{dev,test}/SUBJECT_{dev,test}.csv`. In both, rows of a subject keep their file order. Archives and parquet files are
//! read in files of their own; `Location` finds what a place holds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::sources::{Split, csv_path};
use super::{LETTERS, Location, group_of};
use crate::Error;

/// One question with four choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question as its file has it, unstripped.
    pub text: String,
    /// The choices, unstripped.
    pub choices: [String; 4],
    /// Index of the right choice, 0 to 3.
    pub answer: usize,
}

/// The questions of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectData {
    /// Solved examples for few-shot prompts; empty where there is no dev split.
    pub dev: Vec<Question>,
    /// The questions to answer.
    pub test: Vec<Question>,
}

/// MMLU as read from one source, by subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MmluData {
    /// Subjects by name.
    pub subjects: BTreeMap<String, SubjectData>,
}

/// A line of the starter pack's file.
#[derive(Deserialize)]
struct StarterRow {
    question: String,
    answer_a: String,
    answer_b: String,
    answer_c: String,
    answer_d: String,
    correct_answer: String,
    topic: String,
}

impl MmluData {
    /// Reads what lies at `path`, in any of the forms that `Location` finds.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Location::find(path)?.read()
    }

    /// Questions of the test split.
    pub fn questions(&self) -> usize {
        self.subjects.values().map(|s| s.test.len()).sum()
    }

    /// Solved examples of the dev split.
    pub fn examples(&self) -> usize {
        self.subjects.values().map(|s| s.dev.len()).sum()
    }

    /// Reads the starter pack's file and drops the header rows that two of its subjects begin with.
    pub fn from_starter(path: &Path) -> Result<Self, Error> {
        let mut data = Self::default();
        for (index, line) in read_text(path)?.lines().enumerate() {
            let fail = |problem: String| bad(path, index + 1, problem);
            let row: StarterRow =
                serde_json::from_str(line).map_err(|e| fail(format!("not a question: {e}")))?;
            if row.question == "question" && row.correct_answer == "answer" {
                continue;
            }
            let subject = row.topic.replace(' ', "_");
            if group_of(&subject).is_none() {
                return Err(fail(format!("{subject} is not one of the 57 subjects")));
            }
            let question = Question {
                text: row.question,
                choices: [row.answer_a, row.answer_b, row.answer_c, row.answer_d],
                answer: letter(&row.correct_answer).map_err(fail)?,
            };
            data.subjects
                .entry(subject)
                .or_default()
                .test
                .push(question);
        }
        Ok(data)
    }

    /// Reads the official folder. Subjects without a test file are left out; the dev split may be missing.
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let mut data = Self::default();
        for (subject, _) in super::SUBJECTS {
            let test = csv_path(folder, Split::Test, subject);
            if !test.is_file() {
                continue;
            }
            let dev = csv_path(folder, Split::Dev, subject);
            let loaded = SubjectData {
                dev: if dev.is_file() {
                    csv_rows(&dev, read_bytes(&dev)?)?
                } else {
                    Vec::new()
                },
                test: csv_rows(&test, read_bytes(&test)?)?,
            };
            data.subjects.insert(subject.to_owned(), loaded);
        }
        if data.subjects.is_empty() {
            let problem = "no file test/SUBJECT_test.csv of the 57 subjects is in this folder";
            return Err(bad(folder, 1, problem.to_owned()));
        }
        Ok(data)
    }
}

/// The rows of an official file: six fields, no header, quoted where they need it. `path` is for errors.
pub(super) fn csv_rows(path: &Path, bytes: Vec<u8>) -> Result<Vec<Question>, Error> {
    let text = utf8(path, bytes)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|e| bad(path, index + 1, e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let fail = |problem: String| bad(path, index + 1, format!("{problem} (line {line})"));
        let fields: Vec<&str> = record.iter().collect();
        let [text, a, b, c, d, answer] = fields[..] else {
            return Err(fail(format!("expected 6 fields, found {}", fields.len())));
        };
        rows.push(Question {
            text: text.to_owned(),
            choices: [a, b, c, d].map(str::to_owned),
            answer: letter(answer).map_err(fail)?,
        });
    }
    Ok(rows)
}

fn letter(text: &str) -> Result<usize, String> {
    LETTERS
        .iter()
        .position(|l| text.len() == 1 && text.starts_with(*l))
        .ok_or_else(|| format!("the answer must be A, B, C or D, not {text:?}"))
}

fn read_text(path: &Path) -> Result<String, Error> {
    utf8(path, read_bytes(path)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .split(|byte| *byte == b'\n')
            .count();
        bad(
            path,
            line,
            format!("byte {valid} of the file is not UTF-8 text"),
        )
    })
}

pub(super) fn bad(path: &Path, row: usize, problem: String) -> Error {
    Error::Data {
        path: path.to_owned(),
        row,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"question":"Q?","answer_a":"1","answer_b":"2","answer_c":"3","answer_d":"4","correct_answer":"B","topic":"college mathematics"}"#;
    const HEADER: &str = r#"{"question":"question","answer_a":"answer_a","answer_b":"answer_b","answer_c":"answer_c","answer_d":"answer_d","correct_answer":"answer","topic":"college mathematics"}"#;

    #[test]
    fn starter_rows_lose_their_headers_and_equal_the_folder() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let starter = dir.path().join("mmlu.jsonl");
        std::fs::write(&starter, format!("{HEADER}\n{ROW}\n")).expect("written");
        std::fs::create_dir(dir.path().join("test")).expect("made");
        let csv = dir.path().join("test/college_mathematics_test.csv");
        std::fs::write(&csv, "Q?,1,2,3,4,B\r\n").expect("written");
        let data = MmluData::from_starter(&starter).expect("read");
        assert_eq!(data.subjects["college_mathematics"].test.len(), 1);
        assert_eq!(data, MmluData::from_folder(dir.path()).expect("read"));
    }

    #[test]
    fn quoted_fields_keep_line_breaks_and_bad_rows_are_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("test")).expect("made");
        let csv = dir.path().join("test/anatomy_test.csv");
        std::fs::write(&csv, "\"I say \"\"a\"\",\nb\",1,2,3,\" 4\",D\n").expect("written");
        let data = MmluData::from_folder(dir.path()).expect("read");
        let question = &data.subjects["anatomy"].test[0];
        assert_eq!(question.text, "I say \"a\",\nb");
        assert_eq!((question.choices[3].as_str(), question.answer), (" 4", 3));

        std::fs::write(&csv, "Q,1,2,3,4,A\nQ,1,2,3,4,E\n").expect("written");
        let error = MmluData::from_folder(dir.path()).expect_err("E is no letter");
        assert!(
            error
                .to_string()
                .contains("row 2: the answer must be A, B, C or D"),
            "{error}"
        );
        std::fs::write(&csv, "Q,1,2,3,A\n").expect("written");
        let error = MmluData::from_folder(dir.path()).expect_err("five fields");
        assert!(
            error.to_string().contains("expected 6 fields, found 5"),
            "{error}"
        );
        let error = MmluData::from_folder(&dir.path().join("none")).expect_err("no folder");
        assert!(error.to_string().contains("no file test/"), "{error}");
    }
}
