//! How numbers, moments and foreign text read: the same in lists, reports and exports. Sizes are in `machine`.

/// A count with its thousands apart: 14042 becomes "14,042".
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 question", "100 questions".
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!(
        "{} {one}{}",
        grouped(count),
        if count == 1 { "" } else { "s" }
    )
}

/// A share as a percentage with one decimal.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// About three digits: 152.3 becomes "152", 15.23 "15.2", 1.523 "1.52"; thousands are apart.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 999.5 => format!(
            "{}{}",
            if value < 0.0 { "-" } else { "" },
            grouped(size.round() as u64)
        ),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        size if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

/// A span of time: "31 ms", "4.20 s", "2 min 5 s", "1 h 57 min".
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 59.5 => format!("{} s", significant(s)),
        s if s < 3600.0 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A moment in UTC: "2026-11-24 21:31 UTC".
pub fn moment(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor() as i64;
    let (year, month, day) = civil(minutes.div_euclid(24 * 60));
    let minute = minutes.rem_euclid(24 * 60);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        minute / 60,
        minute % 60
    )
}

/// Year, month and day of a count of days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// Text from a file that is not ours, fit for one line of a report: control characters and marks that turn the direction
/// of writing are gone.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|&c| {
            !(c.is_control()
                || ('\u{200b}'..='\u{200f}').contains(&c)
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
                || c == '\u{feff}'
                || c == '\u{fffe}'
                || c == '\u{ffff}')
        })
        .collect()
}

/// An MMLU subject or group for people: "high school physics", "STEM".
pub(crate) fn subject_words(name: &str) -> String {
    match name {
        "stem" => "STEM".to_owned(),
        "other" => "other subjects".to_owned(),
        _ => name
            .replace('_', " ")
            .split(' ')
            .map(|word| match word {
                "us" => "US",
                word => word,
            })
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// Name of a task for people.
pub(crate) fn task_words(task: &str) -> &str {
    match task {
        "mmlu" => "MMLU",
        "humaneval" => "HumanEval",
        "finetune" => "fine-tuning",
        "speculate" => "speculative decoding",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let got = [0, 999, 1000, 14_042, 134_515_008].map(grouped);
        assert_eq!(got, ["0", "999", "1,000", "14,042", "134,515,008"]);
        assert_eq!(counted(1, "question"), "1 question");
        assert_eq!(
            [152.3, 15.23, 1.523, 0.0, 0.012, -1234.6].map(significant),
            ["152", "15.2", "1.52", "0.00", "0.012", "-1,235"]
        );
        assert_eq!(
            [0.031, 4.2, 125.0, 7020.0].map(duration),
            ["31 ms", "4.20 s", "2 min 5 s", "1 h 57 min"]
        );
        assert_eq!(moment(1_795_469_460.0), "2026-11-23 21:31 UTC");
        assert_eq!(moment(951_782_400.0), "2000-02-29 00:00 UTC");
    }

    #[test]
    fn foreign_text_is_one_plain_line() {
        assert_eq!(plain("a\nb\u{202e}c\u{0}d\u{1b}[31m é"), "a bcd[31m é");
        assert_eq!(
            subject_words("high_school_us_history"),
            "high school US history"
        );
        assert_eq!(subject_words("stem"), "STEM");
    }
}
