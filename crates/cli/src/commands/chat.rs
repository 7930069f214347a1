//! `chat`: one question, or a conversation in the terminal, with one model or several.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use billion_workbench::api::{ApiError, ErrorCode, Message, Reply, ReplySpeculation, Role};
use billion_workbench::{EngineOptions, ReplyRequest, ReplyStep, Workbench};
use serde::Serialize;

use crate::args::Chat;
use crate::output;

/// Waiting for the person to type: there is nothing to cancel.
static WAITING: AtomicBool = AtomicBool::new(false);
/// A conversation: a cancel ends the reply, not the program.
static INTERACTIVE: AtomicBool = AtomicBool::new(false);

/// Whether something is under way that a cancel can end.
pub fn busy() -> bool {
    !WAITING.load(Ordering::SeqCst)
}

/// Whether a conversation is going on.
pub fn interactive() -> bool {
    INTERACTIVE.load(Ordering::SeqCst)
}

#[derive(Serialize)]
struct Replies {
    replies: Vec<Reply>,
}

pub fn run(workbench: &Workbench, args: &Chat, json: bool) -> anyhow::Result<()> {
    let engine = args.engine.options(args.ctx);
    let mut columns: Vec<Column> = std::iter::once(&args.model)
        .chain(&args.compare)
        .zip(0..)
        .map(|(model, session)| Column {
            model: model.clone(),
            session,
            messages: Vec::new(),
        })
        .collect();
    let asker = Asker {
        workbench,
        args,
        engine,
        json,
        headings: columns.len() > 1,
    };
    if asker.headings {
        // All can be used, before the first answers.
        for column in &columns {
            workbench.model_details(&column.model)?;
        }
    }
    if let Some(prompt) = &args.prompt {
        let mut replies = Vec::with_capacity(columns.len());
        for column in &mut columns {
            let reply = asker.ask(column, prompt)?;
            if let Some(error) = reply.error {
                return Err(error.into());
            }
            if reply.finish_reason == "cancelled" {
                return Err(ApiError::cancelled().into());
            }
            replies.push(reply);
        }
        return if json {
            output::json(&Replies { replies })
        } else {
            Ok(())
        };
    }
    if json {
        anyhow::bail!("a conversation is not one JSON document; give --prompt TEXT with --json");
    }
    converse(&asker, &mut columns)
}

/// A model and what it was told and said.
struct Column {
    model: String,
    /// Whose cache it goes on with; the same model twice does not profit from its twin.
    session: u32,
    messages: Vec<Message>,
}

struct Asker<'a> {
    workbench: &'a Workbench,
    args: &'a Chat,
    engine: EngineOptions,
    json: bool,
    headings: bool,
}

impl Asker<'_> {
    /// Adds `prompt` and the reply to the column; shows the reply as it comes.
    fn ask(&self, column: &mut Column, prompt: &str) -> Result<Reply, ApiError> {
        if self.headings && !self.json {
            output::print(&format!("--- {}\n", column.model));
        }
        let mut messages = column.messages.clone();
        messages.push(Message {
            role: Role::User,
            content: prompt.to_owned(),
        });
        let request = ReplyRequest {
            model: column.model.clone(),
            session: column.session,
            messages,
            options: self.args.options(),
            // The adapter is the first model's; the others answer beside it as they are, its base too.
            engine: EngineOptions {
                adapter: self.engine.adapter.clone().filter(|_| column.session == 0),
                ..self.engine.clone()
            },
        };
        let reply = self.workbench.reply(&request, &mut |step| match step {
            ReplyStep::Waiting(why) => output::say(why),
            ReplyStep::Text(text) if !self.json => output::print(text),
            ReplyStep::Text(_) => {}
        })?;
        if !self.json {
            output::print("\n");
            output::say(&cost(&reply));
        }
        column.messages = request.messages;
        column.messages.push(Message {
            role: Role::Assistant,
            content: reply.text.clone(),
        });
        Ok(reply)
    }
}

/// Reads lines until `/quit` or the end of input.
fn converse(asker: &Asker<'_>, columns: &mut [Column]) -> anyhow::Result<()> {
    let base = asker
        .workbench
        .model_details(&asker.args.model)
        .is_ok_and(|details| !details.entry.chat);
    if std::io::stderr().is_terminal() {
        let kind = if base {
            "A base model: it goes on with each text you type."
        } else {
            "Type a message."
        };
        output::say(&format!(
            "{kind} /new starts over, /quit ends; Ctrl-C stops a reply."
        ));
    }
    INTERACTIVE.store(true, Ordering::SeqCst);
    let stdin = std::io::stdin();
    loop {
        if stdin.is_terminal() {
            eprint!("> ");
            std::io::stderr().flush()?;
        }
        let mut line = String::new();
        WAITING.store(true, Ordering::SeqCst);
        let read = stdin.lock().read_line(&mut line);
        WAITING.store(false, Ordering::SeqCst);
        if read? == 0 {
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => return Ok(()),
            "/new" => {
                for column in columns.iter_mut() {
                    column.messages.clear();
                }
            }
            text => {
                for column in columns.iter_mut() {
                    if base {
                        column.messages.clear();
                    }
                    match asker.ask(column, text) {
                        Ok(_) => {}
                        Err(error) if error.code == ErrorCode::Cancelled => {
                            output::print("\n");
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
}

/// How drafts fared, in words.
fn drafts(fared: &ReplySpeculation) -> String {
    if let Some(problem) = &fared.problem {
        return format!("without drafts: {problem}");
    }
    let mut words = match fared.drafted {
        0 => "nothing was drafted".to_owned(),
        drafted => format!(
            "{} of drafts accepted",
            output::percent(f64::from(fared.accepted) / f64::from(drafted))
        ),
    };
    if let Some(speedup) = fared.speedup {
        words = format!("{words}, {speedup:.1} times as fast");
    }
    if fared.switched_off {
        words.push_str(", switched off since it did not pay");
    }
    words
}

/// What a reply cost, in a line.
fn cost(reply: &Reply) -> String {
    let mut parts = vec![format!("{} tokens", reply.tokens)];
    if let Some(speed) = reply.tokens_per_s {
        parts.push(format!("{speed:.1} tokens/s"));
    }
    if let Some(fared) = &reply.speculation {
        parts.push(drafts(fared));
    }
    if let Some(first) = reply.ttft_s {
        parts.push(format!("first after {first:.2} s"));
    }
    match reply.finish_reason.as_str() {
        "stop" => {}
        "length" => parts.push("ended by --max-tokens".to_owned()),
        "context" => parts.push("ended by the context".to_owned()),
        other => parts.push(other.to_owned()),
    }
    format!("[{}]", parts.join(", "))
}
