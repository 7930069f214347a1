//! The filter `tojson` as transformers defines it: Python's `json.dumps` without HTML escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Lists and maps inside one another.
const MAX_DEPTH: usize = 100;

/// How `json.dumps` is asked to write.
struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    /// What one level is indented by; everything on one line if none.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "filters get their keyword arguments by value"
)]
pub(super) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) {
        None => None,
        Some(indent) => match (indent.as_str(), indent.as_i64()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) => Some(" ".repeat(usize::try_from(width.min(64)).unwrap_or(0))),
            (None, None) => return Err(invalid("indent is neither a number nor text")),
        },
    };
    let item_separator = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        None => (item_separator, ": "),
        Some(_) => return Err(invalid("separators are two texts")),
    };
    let style = Style {
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
        item_separator: item_separator.to_owned(),
        key_separator: key_separator.to_owned(),
        indent,
    };
    let mut out = String::new();
    write_value(state, &style, value, 0, &mut out)?;
    Ok(Value::from(out))
}

fn invalid(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
}

fn write_value(
    state: &State,
    style: &Style,
    value: &Value,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(&format!("more than {MAX_DEPTH} levels")));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let _ = write!(out, "{value}");
        }
        ValueKind::String => write_text(state, style, value.as_str().unwrap_or_default(), out)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.checked();
            write_items(state, style, ('[', ']'), items, depth, out, |item, out| {
                write_value(state, style, &item, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                state.consume_fuel(1)?;
                let entry = value.get_item(&key)?;
                pairs.push((key, entry));
            }
            if style.sort_keys {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            let pairs = pairs.into_iter().map(Ok);
            write_items(
                state,
                style,
                ('{', '}'),
                pairs,
                depth,
                out,
                |(key, entry), out| {
                    write_text(state, style, &key.to_string(), out)?;
                    out.push_str(&style.key_separator);
                    write_value(state, style, &entry, depth + 1, out)
                },
            )?;
        }
        kind => return Err(invalid(&format!("{kind} has no JSON form"))),
    }
    Ok(())
}

/// The items between brackets, each on a line of its own if the style indents.
fn write_items<T>(
    state: &State,
    style: &Style,
    brackets: (char, char),
    items: impl Iterator<Item = Result<T, Error>>,
    depth: usize,
    out: &mut String,
    mut write_item: impl FnMut(T, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| -> Result<(), Error> {
        if let Some(indent) = &style.indent {
            state.consume_fuel((indent.len() * depth / 64) as u64)?;
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
        Ok(())
    };
    out.push(brackets.0);
    let mut empty = true;
    for item in items {
        if !empty {
            out.push_str(&style.item_separator);
        }
        empty = false;
        new_line(depth + 1, out)?;
        write_item(item?, out)?;
    }
    if !empty {
        new_line(depth, out)?;
    }
    out.push(brackets.1);
    Ok(())
}

fn write_text(state: &State, style: &Style, text: &str, out: &mut String) -> Result<(), Error> {
    state.consume_fuel((text.len() / 16) as u64)?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || (style.ensure_ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}
