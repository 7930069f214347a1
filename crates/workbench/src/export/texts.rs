//! What models wrote, in the report: texts of a measured pair with what was drafted, and answers of a fine-tuning side by
//! side. Everything is escaped; origins are told by marks and words, not by colour alone.

use std::fmt::Write as _;

use super::draw::xml;
use crate::api::{ApiError, ComparedAnswer, SpeculationReport, TextOrigin, TracedText};
use crate::finetune::FinetuneReport;
use crate::scorecards::report_of;
use crate::speculate::kind_name;
use crate::store::RunRow;

/// The texts that a run keeps in its report; empty for tasks that keep none.
pub(super) fn texts(run: &RunRow) -> Result<String, ApiError> {
    if run.report.is_none() {
        return Ok(String::new());
    }
    match run.run.task.as_str() {
        "speculate" => Ok(speculation(&report_of(run)?)),
        "finetune" => {
            let report: FinetuneReport = report_of(run)?;
            Ok(answers(&report.answers))
        }
        _ => Ok(String::new()),
    }
}

fn speculation(report: &SpeculationReport) -> String {
    let mut text = "<h2>Texts</h2>\n<p class=\"soft\"><ins>drafted and accepted</ins>, <del>drafted and rejected</del>, \
                    <b>the target's own in its place</b>, the target's own.</p>\n"
        .to_owned();
    for prompt in &report.by_prompt {
        let _ = write!(
            text,
            "<div class=\"panel\"><h3>{}</h3>\n<details><summary>The prompt</summary><pre>{}</pre></details>\n<p class=\"text\">",
            xml(kind_name(prompt.kind)),
            xml(&prompt.prompt)
        );
        for piece in &prompt.pieces {
            text.push_str(&marked(piece));
        }
        text.push_str("</p></div>\n");
    }
    text
}

fn marked(piece: &TracedText) -> String {
    let rejected = if piece.rejected.is_empty() {
        String::new()
    } else {
        format!("<del>{}</del>", xml(&piece.rejected))
    };
    let own = xml(&piece.text);
    match piece.origin {
        _ if own.is_empty() => rejected,
        TextOrigin::Accepted => format!("{rejected}<ins>{own}</ins>"),
        TextOrigin::Corrected => format!("{rejected}<b>{own}</b>"),
        TextOrigin::Bonus | TextOrigin::Plain => format!("{rejected}{own}"),
    }
}

fn answers(answers: &[ComparedAnswer]) -> String {
    if answers.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Answers before and after</h2>\n<div class=\"panel\"><table class=\"texts\">\n<thead><tr>\
                    <th scope=\"col\">Asked</th><th scope=\"col\">In the dataset</th><th scope=\"col\">Before</th>\
                    <th scope=\"col\">After</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for answer in answers {
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            xml(&answer.prompt),
            if answer.trained {
                "<br><span class=\"soft\">a row of the training</span>"
            } else {
                ""
            },
            xml(&answer.wanted),
            xml(&answer.base),
            xml(&answer.tuned)
        );
    }
    text.push_str("</tbody>\n</table></div>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PromptKind, PromptSpeculation};

    #[test]
    fn drafts_are_marked_and_everything_is_escaped() {
        let piece = |text: &str, origin, rejected: &str| TracedText {
            text: text.to_owned(),
            origin,
            rejected: rejected.to_owned(),
            tokens: 1,
        };
        let report = SpeculationReport {
            by_prompt: vec![PromptSpeculation {
                kind: PromptKind::Code,
                prompt: "<script>".to_owned(),
                pieces: vec![
                    piece("a < b", TextOrigin::Accepted, ""),
                    piece("no", TextOrigin::Corrected, "<b>"),
                    piece("", TextOrigin::Plain, ""),
                ],
                ..PromptSpeculation::default()
            }],
            ..SpeculationReport::default()
        };
        let html = speculation(&report);
        assert!(
            html.contains("<ins>a &lt; b</ins><del>&lt;b&gt;</del><b>no</b></p>"),
            "{html}"
        );
        assert!(!html.contains("<script>"), "{html}");
    }

    #[test]
    fn answers_stand_side_by_side() {
        let answer = ComparedAnswer {
            row: 3,
            trained: true,
            prompt: "Who?".to_owned(),
            wanted: "<Ada>".to_owned(),
            base: "I".to_owned(),
            tuned: "Ada".to_owned(),
        };
        let html = answers(&[answer]);
        assert!(
            html.contains("<td>&lt;Ada&gt;</td><td>I</td><td>Ada</td>"),
            "{html}"
        );
        assert!(html.contains("a row of the training"), "{html}");
        assert_eq!(answers(&[]), "");
    }
}
