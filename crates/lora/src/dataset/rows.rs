//! What a row says: detection of the layout, mapping of columns to parts, and the turns of each row.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use super::records::{self, TEXT, name_of};
use super::source;
use super::{ColumnMapping, DatasetColumn, DetectedDataset, RowLayout, Speaker, Turn};
use crate::Error;

/// Rows that the layout is told from.
const LOOKED_AT: u32 = 200;

/// Characters of a column's example.
const EXAMPLE: usize = 80;

/// Names that columns go by, most usual first. Upper and lower case are the same.
const TURNS: [&str; 7] = [
    "messages",
    "conversations",
    "conversation",
    "dialog",
    "dialogue",
    "chat",
    "turns",
];
const INSTRUCTION: [&str; 1] = ["instruction"];
const INPUT: [&str; 2] = ["input", "context"];
const OUTPUT: [&str; 5] = ["output", "response", "answer", "completion", "target"];
const PROMPT: [&str; 2] = ["prompt", "query"];
const COMPLETION: [&str; 4] = ["completion", "response", "chosen", "output"];
const QUESTION: [&str; 2] = ["question", "q"];
const ANSWER: [&str; 5] = ["answer", "answers", "a", "response", "best_answer"];
const SYSTEM: [&str; 2] = ["system", "system_prompt"];
const PLAIN: [&str; 3] = ["text", "content", "document"];

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// A conversation that ends with the assistant.
    Turns(Vec<Turn>),
    /// An instruction and what it is about, in Alpaca's two parts, and the answer.
    Instruction {
        system: Option<String>,
        instruction: String,
        input: String,
        answer: String,
    },
    /// A text and how it goes on.
    Continued {
        system: Option<String>,
        prompt: String,
        answer: String,
    },
    /// Plain text.
    Text(String),
}

impl Row {
    /// The row as a conversation; none for plain text.
    pub fn turns(&self) -> Option<Vec<Turn>> {
        let turn = |speaker, text: &str| Turn {
            role: speaker,
            text: text.to_owned(),
        };
        let with = |system: &Option<String>, user: &str, answer: &str| {
            let system = system.iter().map(|text| turn(Speaker::System, text));
            let rest = [turn(Speaker::User, user), turn(Speaker::Assistant, answer)];
            system.chain(rest).collect()
        };
        match self {
            Self::Turns(turns) => Some(turns.clone()),
            Self::Instruction {
                system,
                instruction,
                input,
                answer,
            } if input.is_empty() => Some(with(system, instruction, answer)),
            Self::Instruction {
                system,
                instruction,
                input,
                answer,
            } => Some(with(system, &format!("{instruction}\n\n{input}"), answer)),
            Self::Continued {
                system,
                prompt,
                answer,
            } => Some(with(system, prompt, answer)),
            Self::Text(_) => None,
        }
    }
}

/// Looks at the first rows of a file.
pub fn detect(path: &Path) -> Result<DetectedDataset, Error> {
    let (bytes, kind) = source::look(path)?;
    let mut columns: Vec<DatasetColumn> = Vec::new();
    // Of each column, rows in which it is a list of messages.
    let mut lists: BTreeMap<String, u32> = BTreeMap::new();
    let (mut rows, mut fine) = (0, 0);
    let mut problem = None;
    records::each(path, kind, &mut |record| {
        rows += 1;
        match record.columns {
            Ok(map) => {
                fine += 1;
                for (name, value) in &map {
                    if is_empty(value) {
                        continue;
                    }
                    if messages(value).is_some_and(|list| list.iter().any(looks_said)) {
                        *lists.entry(name.clone()).or_default() += 1;
                    }
                    if let Some(column) = columns.iter_mut().find(|column| column.name == *name) {
                        column.filled += 1;
                    } else {
                        columns.push(DatasetColumn {
                            name: name.clone(),
                            filled: 1,
                            example: example(value),
                        });
                    }
                }
            }
            Err(found) => {
                problem.get_or_insert(format!(
                    "row {}{}: {found}",
                    record.row,
                    at_line(record.line)
                ));
            }
        }
        if rows == LOOKED_AT {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if rows == 0 {
        return Err(source::bad(
            path,
            format!("no rows in its {bytes} bytes; choose another file"),
        ));
    }
    if fine == 0 {
        let problem = problem.unwrap_or_default();
        return Err(source::bad(
            path,
            format!("none of the first {rows} rows can be read; {problem}"),
        ));
    }
    let (layout, mapping, why) = recognise(&columns, &lists, fine);
    Ok(DetectedDataset {
        kind,
        layout,
        mapping,
        columns,
        why,
        rows_looked_at: rows,
        bytes: bytes as f64,
    })
}

/// " (line 3)"
pub(super) fn at_line(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn example(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut short: String = text.chars().take(EXAMPLE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A list of messages; where tables hold one, it is JSON text.
fn messages(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list.clone()),
        Value::String(text) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).ok()
        }
        _ => None,
    }
}

fn looks_said(message: &Value) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| message.get(name).is_some());
    has(&["role", "from"]) && has(&["content", "value", "text"])
}

/// The layout that most rows have, its columns, and why.
fn recognise(
    columns: &[DatasetColumn],
    lists: &BTreeMap<String, u32>,
    rows: u32,
) -> (Option<RowLayout>, ColumnMapping, String) {
    // A column that only some rows have (Alpaca's input) still counts for optional parts.
    let find = |names: &[&str], least: u32| {
        names.iter().find_map(|name| {
            let same = |column: &&DatasetColumn| column.name.eq_ignore_ascii_case(name);
            let column = columns
                .iter()
                .filter(same)
                .max_by_key(|column| column.filled)?;
            (column.filled >= least).then(|| column.name.clone())
        })
    };
    let most = rows.div_ceil(2);
    let mut mapping = ColumnMapping {
        system: find(&SYSTEM, 1),
        ..ColumnMapping::default()
    };
    let list = TURNS
        .iter()
        .find_map(|name| lists.get_key_value(*name))
        .or_else(|| lists.iter().max_by_key(|(_, count)| **count));
    if let Some((name, count)) = list
        && *count >= most
    {
        mapping.turns = Some(name.clone());
        let example = columns.iter().find(|column| column.name == *name);
        let by_from = example.is_some_and(|column| column.example.contains("\"from\""));
        let layout = if by_from {
            RowLayout::ShareGpt
        } else {
            RowLayout::Messages
        };
        let why = format!("column {name} is a list of messages in {count} of {rows} rows");
        return (Some(layout), mapping, why);
    }
    let pairs = [
        (RowLayout::Alpaca, &INSTRUCTION[..], &OUTPUT[..]),
        (RowLayout::QuestionAnswer, &QUESTION[..], &ANSWER[..]),
        (RowLayout::PromptCompletion, &PROMPT[..], &COMPLETION[..]),
    ];
    for (layout, prompts, answers) in pairs {
        let (Some(prompt), Some(answer)) = (find(prompts, most), find(answers, most)) else {
            continue;
        };
        let why = format!("most rows have the columns {prompt} and {answer}");
        mapping.input = (layout == RowLayout::Alpaca)
            .then(|| find(&INPUT, 1))
            .flatten();
        (mapping.prompt, mapping.answer) = (Some(prompt), Some(answer));
        return (Some(layout), mapping, why);
    }
    if let Some(text) = find(&PLAIN, most) {
        let why = format!(
            "most rows have the column {text}, and none that are known for questions and answers"
        );
        mapping.text = Some(text);
        return (Some(RowLayout::Text), mapping, why);
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let known = [
        &INSTRUCTION[..],
        &OUTPUT,
        &QUESTION,
        &ANSWER,
        &PROMPT,
        &COMPLETION,
        &TURNS,
        &PLAIN,
    ];
    let what = if known.into_iter().any(|names| find(names, 1).is_some()) {
        "no layout that most rows share"
    } else {
        "no columns that are known"
    };
    let why = format!(
        "{what}: found {}; choose which is the question and which the answer",
        names.join(", ")
    );
    (None, ColumnMapping::default(), why)
}

/// Checks a mapping against a layout and the columns of a file.
pub(super) fn check(
    layout: RowLayout,
    mapping: &ColumnMapping,
    detected: &DetectedDataset,
) -> Result<(), String> {
    let needed = match layout {
        RowLayout::Alpaca | RowLayout::PromptCompletion | RowLayout::QuestionAnswer => {
            vec![
                ("the question", &mapping.prompt),
                ("the answer", &mapping.answer),
            ]
        }
        RowLayout::ShareGpt | RowLayout::Messages => vec![("the messages", &mapping.turns)],
        RowLayout::Text => vec![("the text", &mapping.text)],
    };
    let names: Vec<&str> = detected
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    for (part, column) in needed {
        let Some(column) = column else {
            return Err(format!(
                "no column is chosen for {part}; the file has {}",
                names.join(", ")
            ));
        };
        if !names.contains(&column.as_str()) {
            return Err(format!(
                "there is no column {column} for {part} in the first {} rows; the file has {}",
                detected.rows_looked_at,
                names.join(", ")
            ));
        }
    }
    Ok(())
}

/// What a row says, or why it says nothing that can be learnt.
pub(super) fn row(
    columns: &Map<String, Value>,
    layout: RowLayout,
    mapping: &ColumnMapping,
) -> Result<Row, String> {
    let part = |column: &Option<String>| -> Result<String, String> {
        let Some(name) = column else {
            return Err("a part has no column".to_owned());
        };
        match columns.get(name) {
            None => {
                let names: Vec<&str> = columns.keys().map(String::as_str).collect();
                Err(format!(
                    "no column {name}; the row has {}",
                    names.join(", ")
                ))
            }
            Some(value) => {
                let text = text(value)
                    .map_err(|found| format!("column {name} is {found}, expected text"))?;
                if text.trim().is_empty() {
                    return Err(format!("column {name} is empty"));
                }
                Ok(text)
            }
        }
    };
    let optional = |column: &Option<String>| -> Option<String> {
        let value = columns.get(column.as_ref()?)?;
        text(value).ok().filter(|text| !text.trim().is_empty())
    };
    let system = optional(&mapping.system);
    Ok(match layout {
        RowLayout::Text => Row::Text(part(&mapping.text)?),
        RowLayout::Alpaca | RowLayout::QuestionAnswer => Row::Instruction {
            system,
            instruction: part(&mapping.prompt)?,
            input: optional(&mapping.input).unwrap_or_default(),
            answer: part(&mapping.answer)?,
        },
        RowLayout::PromptCompletion => Row::Continued {
            system,
            prompt: part(&mapping.prompt)?,
            answer: part(&mapping.answer)?,
        },
        RowLayout::ShareGpt | RowLayout::Messages => {
            let name = mapping.turns.as_deref().unwrap_or_default();
            let Some(value) = columns.get(name) else {
                let names: Vec<&str> = columns.keys().map(String::as_str).collect();
                return Err(format!(
                    "no column {name}; the row has {}",
                    names.join(", ")
                ));
            };
            let Some(list) = messages(value) else {
                return Err(format!(
                    "column {name} is {}, expected a list of messages",
                    name_of(value)
                ));
            };
            Row::Turns(turns(&list, system)?)
        }
    })
}

/// A part's text; a list of answers gives its first.
fn text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(list) => match &list[..] {
            [Value::String(first), ..] => Ok(first.clone()),
            // Messages of one side, as preference data has them.
            [first @ Value::Object(_), ..] => said(first).map_err(|_| name_of(value)),
            _ => Err(name_of(value)),
        },
        Value::Object(_) => Err(name_of(value)),
    }
}

/// The text of a message, in whichever way it is spelt.
fn said(message: &Value) -> Result<String, String> {
    let keys = ["content", "value", TEXT];
    let Some(value) = keys.iter().find_map(|key| message.get(key)) else {
        return Err(format!(
            "has no content; expected one of {}",
            keys.join(", ")
        ));
    };
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts
                .iter()
                .map(|part| part.get(TEXT).and_then(Value::as_str))
                .collect();
            let texts = texts.ok_or("has parts that are no text (pictures or sounds)")?;
            Ok(texts.concat())
        }
        other => Err(format!("has {} as content, expected text", name_of(other))),
    }
}

fn turns(list: &[Value], system: Option<String>) -> Result<Vec<Turn>, String> {
    let mut turns = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let problem = |text: &str| format!("message {} {text}", index + 1);
        let role = ["role", "from"].iter().find_map(|key| message.get(key));
        let Some(role) = role.and_then(Value::as_str) else {
            return Err(problem("has neither role nor from"));
        };
        let role = match role.to_ascii_lowercase().as_str() {
            "system" => Speaker::System,
            "user" | "human" | "prompter" => Speaker::User,
            "assistant" | "gpt" | "chatgpt" | "bot" | "model" => Speaker::Assistant,
            other => {
                return Err(problem(&format!(
                    "is by {other:?}; expected system, user (human) or assistant (gpt)"
                )));
            }
        };
        turns.push(Turn {
            role,
            text: said(message).map_err(|text| problem(&text))?,
        });
    }
    if let Some(text) = system
        && turns
            .first()
            .is_none_or(|turn| turn.role != Speaker::System)
    {
        turns.insert(
            0,
            Turn {
                role: Speaker::System,
                text,
            },
        );
    }
    // What follows the last answer teaches nothing.
    let last = turns
        .iter()
        .rposition(|turn| turn.role == Speaker::Assistant);
    turns.truncate(last.map_or(0, |last| last + 1));
    let Some(first) = turns.iter().find(|turn| turn.role != Speaker::System) else {
        return Err("no message by the assistant, so there is nothing to learn".to_owned());
    };
    if first.role != Speaker::User {
        return Err("the first message is the assistant's; expected the user's".to_owned());
    }
    if let Some(empty) = turns
        .iter()
        .position(|turn| turn.role == Speaker::Assistant && turn.text.trim().is_empty())
    {
        return Err(format!("message {} is an empty answer", empty + 1));
    }
    Ok(turns)
}
