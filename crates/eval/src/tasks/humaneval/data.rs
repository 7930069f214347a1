//! Reads HumanEval problems: the official `HumanEval.jsonl`, gzipped or not. It changes nothing in them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Problems in the official file.
pub const PROBLEMS: usize = 164;

/// No file of problems unpacks to more: the official one takes 214 kB.
const MOST_BYTES: u64 = 64 << 20;

/// A function to complete, and the tests that judge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `HumanEval/0` to `HumanEval/163`.
    pub task_id: String,
    /// Imports, helpers, and the function's signature and docstring; a completion goes on right after it.
    pub prompt: String,
    /// A completion that is right.
    pub canonical_solution: String,
    /// Defines `check(candidate)`.
    pub test: String,
    /// Name of the function.
    pub entry_point: String,
}

/// Reads every problem of `path`, in file order.
pub fn read_problems(path: &Path) -> Result<Vec<Problem>, Error> {
    let bad = |row: usize, problem: String| Error::Data {
        path: path.to_owned(),
        row,
        problem,
    };
    let text = unpacked(path)?;
    let mut problems: Vec<Problem> = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let row = index + 1;
        let problem: Problem = serde_json::from_str(line)
            .map_err(|e| bad(row, format!("not a HumanEval problem: {e}")))?;
        if !is_identifier(&problem.entry_point) {
            let name = &problem.entry_point;
            return Err(bad(row, format!("{name:?} is no name of a function")));
        }
        if !seen.insert(problem.task_id.clone()) {
            return Err(bad(row, format!("a second {}", problem.task_id)));
        }
        problems.push(problem);
    }
    if problems.is_empty() {
        return Err(bad(1, "the file holds no problem".to_owned()));
    }
    Ok(problems)
}

fn unpacked(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let packed = std::fs::read(path).map_err(failed)?;
    let mut text = String::new();
    let mut read: Box<dyn std::io::Read + '_> = if packed.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(packed.as_slice()))
    } else {
        Box::new(packed.as_slice())
    };
    let mut limited = read.by_ref().take(MOST_BYTES + 1);
    limited.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Error::Data {
            path: path.to_owned(),
            row: 1,
            problem: format!("unpacks to more than {} MiB", MOST_BYTES >> 20),
        });
    }
    Ok(text)
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(id: &str, entry: &str) -> String {
        format!(
            r#"{{"task_id":"{id}","prompt":"def f():\n","entry_point":"{entry}","canonical_solution":"    return 1\n","test":"def check(c):\n    assert c() == 1\n"}}"#
        )
    }

    #[test]
    fn plain_and_gzipped_files_read_alike_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("problems");
        let text = format!(
            "{}\n{}\n",
            line("HumanEval/0", "f"),
            line("HumanEval/1", "g_2")
        );
        std::fs::write(&path, &text).expect("written");
        let plain = read_problems(&path).expect("read");
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[0].canonical_solution, "    return 1\n");

        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(text.as_bytes()).expect("packed");
        let packed = gz.finish().expect("packed");
        std::fs::write(&path, &packed).expect("written");
        assert_eq!(read_problems(&path).expect("read"), plain);

        std::fs::write(&path, &packed[..packed.len() / 2]).expect("written");
        assert!(matches!(read_problems(&path), Err(Error::Read { .. })));
        for (text, says) in [
            ("{}".to_owned(), "row 1: not a HumanEval problem"),
            (line("a", "f()"), "no name of a function"),
            (
                format!("{}\n{}", line("a", "f"), line("a", "f")),
                "row 2: a second a",
            ),
            ("\n".to_owned(), "holds no problem"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = read_problems(&path).expect_err("damaged").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
