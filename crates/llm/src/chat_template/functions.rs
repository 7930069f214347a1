//! What templates may call beyond Jinja: `raise_exception`, `strftime_now`, and Python's methods of text and lists.
//!
//! Methods and filters are minijinja's and minijinja-contrib's; those that could grow text or lists beyond what fuel has
//! paid for pay first here.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Widest field of `str.format`, in characters.
const MAX_FORMAT_WIDTH: usize = 1000;

/// Lists and maps inside one another, where their text is asked for.
const MAX_DEPTH: usize = 100;

/// Bytes that a slot of a list takes, for its price.
const SLOT_BYTES: usize = 24;

/// Bytes that one unit of fuel pays for, as in minijinja.
const BYTES_PER_FUEL: usize = 64;

/// The template refused the messages.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Ends the rendering with the template's own message.
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The template's own message, if it raised one.
pub(super) fn raised(error: &Error) -> Option<String> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        source = error.source();
    }
    None
}

fn pay(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}

/// A method that minijinja itself does not have.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    match method {
        "join" => join(state, text, args),
        "split" | "splitlines" => {
            let pieces = match args.first().and_then(Value::as_str) {
                Some("") | None => text.len(),
                Some(separator) => text.matches(separator).count(),
            };
            // Whitespace and line ends are mostly far apart; the price is for the worst case of what is left.
            let cheap = method == "splitlines" || args.first().is_none_or(Value::is_none);
            let pieces = if cheap {
                text.chars().filter(|c| c.is_whitespace()).count()
            } else {
                pieces
            };
            pay(state, (pieces + 1).saturating_mul(SLOT_BYTES))?;
            unknown_method_callback(state, value, method, args)
        }
        "format" => {
            if widest_number(text) > MAX_FORMAT_WIDTH {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a field of more than {MAX_FORMAT_WIDTH} characters"),
                ));
            }
            let fields = text.matches('{').count();
            for value in args {
                for _ in 0..fields {
                    pay_for_text(state, value, 0)?;
                }
            }
            unknown_method_callback(state, value, method, args)
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// Pays for the text of a value before it is made; shared parts are paid for as often as they would be written.
fn pay_for_text(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("more than {MAX_DEPTH} lists inside one another"),
        ));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::String => pay(state, value.as_str().map_or(0, str::len)),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()?.checked() {
                pay_for_text(state, &item?, depth + 1)?;
            }
            Ok(())
        }
        ValueKind::Map => {
            for key in value.try_iter()?.checked() {
                let key = key?;
                pay_for_text(state, &key, depth + 1)?;
                pay_for_text(state, &value.get_item(&key)?, depth + 1)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes a value to the output; lists pay for their text first (of text, minijinja takes the pay itself).
pub(super) fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_object().is_some() {
        pay_for_text(state, value, 0)?;
    }
    escape_formatter(out, state, value)
}

/// The filter `string`.
pub(super) fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    pay_for_text(state, value, 0)?;
    Ok(Value::from(value.to_string()))
}

/// The filter `join`: the items' texts with a separator between them, or an attribute of theirs.
#[expect(
    clippy::needless_pass_by_value,
    reason = "filters get their keyword arguments by value"
)]
pub(super) fn join_filter(
    state: &State,
    values: &Value,
    separator: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let named: Option<&str> = options.get("d")?;
    let attribute: Option<&str> = options.get("attribute")?;
    options.assert_all_used()?;
    join_values(state, separator.or(named).unwrap_or(""), values, attribute)
}

/// `separator.join(texts)`.
fn join(state: &State, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let [values] = args else {
        return Err(Error::new(
            ErrorKind::MissingArgument,
            "join takes one list of texts",
        ));
    };
    join_values(state, separator, values, None)
}

/// Joins texts, each paid for before it is copied.
fn join_values(
    state: &State,
    separator: &str,
    values: &Value,
    attribute: Option<&str>,
) -> Result<Value, Error> {
    let mut out = String::new();
    for (index, value) in values.try_iter()?.checked().enumerate() {
        let mut value = value?;
        if let Some(attribute) = attribute {
            value = value.get_attr(attribute)?;
        }
        pay_for_text(state, &value, 0)?;
        pay(state, separator.len())?;
        if index > 0 {
            out.push_str(separator);
        }
        match value.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&value.to_string()),
        }
    }
    Ok(Value::from(out))
}

/// The largest number that is spelled out in `text`.
fn widest_number(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap_or(usize::MAX))
        .max()
        .unwrap_or(0)
}

/// The time in Python's `strftime` notation, UTC, English names.
pub(super) fn strftime(format: &str, now: SystemTime) -> Result<String, Error> {
    let date = Date::at(now);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let unpadded = code == Some('-');
        if unpadded {
            code = chars.next();
        }
        let number = |value: u64, width: usize| {
            let width = if unpadded { 1 } else { width };
            format!("{value:0width$}")
        };
        let hour12 = match date.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let month = MONTHS[(date.month - 1) as usize % 12];
        let weekday = WEEKDAYS[date.weekday as usize % 7];
        let text = match code {
            Some('Y') => number(date.year, 4),
            Some('y') => number(date.year % 100, 2),
            Some('m') => number(date.month, 2),
            Some('d') => number(date.day, 2),
            Some('j') => number(date.day_of_year, 3),
            Some('H') => number(date.hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(date.minute, 2),
            Some('S') => number(date.second, 2),
            Some('B') => month.to_owned(),
            Some('b' | 'h') => month[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('p') => (if date.hour < 12 { "AM" } else { "PM" }).to_owned(),
            Some('F') => format!("{:04}-{:02}-{:02}", date.year, date.month, date.day),
            Some('T') => format!("{:02}:{:02}:{:02}", date.hour, date.minute, date.second),
            Some('z') => "+0000".to_owned(),
            Some('Z') => "UTC".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now does not know %{}", other.unwrap_or(' ')),
                ));
            }
        };
        out.push_str(&text);
    }
    Ok(out)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// A moment in UTC.
struct Date {
    year: u64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
    /// 1 to 366.
    day_of_year: u64,
    /// 0 is Monday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// Times before 1970 count as its first second.
    fn at(now: SystemTime) -> Self {
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |past| past.as_secs());
        let days = seconds / 86_400;
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        // Whole 400-year cycles first, so that no time takes long.
        let mut year = 1970 + days / 146_097 * 400;
        let mut left = days % 146_097;
        while left >= 365 + u64::from(leap(year)) {
            left -= 365 + u64::from(leap(year));
            year += 1;
        }
        let day_of_year = left + 1;
        let february = 28 + u64::from(leap(year));
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 1;
        for length in lengths {
            if left < length {
                break;
            }
            left -= length;
            month += 1;
        }
        Self {
            year,
            month,
            day: left + 1,
            day_of_year,
            // 1 January 1970 was a Thursday.
            weekday: (days + 3) % 7,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}
