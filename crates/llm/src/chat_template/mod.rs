//! Chat templates: messages to a prompt, rendered in a sandbox.
//!
//! A template comes with the weights and is not to be trusted: it runs on minijinja without a loader, with fuel that pays
//! for every instruction, byte and item, a recursion limit, and a stack of its own. It sees what transformers gives it
//! (`messages`, `add_generation_prompt`, `bos_token`, `eos_token`, `raise_exception`, `strftime_now`, `tojson`).
//! A model without a template has none here either: nothing is guessed.

mod continuation;
mod functions;
mod json;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::decoder::TextCodec;
use crate::tokenizer::{JsonConfigs, Tokenizer};
use crate::weights::Weights;

/// Fuel of a rendering before the messages' own share: about 20,000 instructions, or 1.2 MB written.
const BASE_FUEL: u64 = 20_000;

/// Fuel that each message adds.
const FUEL_PER_MESSAGE: u64 = 1000;

/// Bytes of messages that buy one more unit of fuel. A unit pays for 64 bytes written.
const MESSAGE_BYTES_PER_FUEL: usize = 4;

/// Calls, includes and blocks inside one another.
const RECURSION_LIMIT: usize = 100;

/// Longest source of a template, in bytes; those of real models take up to 30 kB.
const MAX_SOURCE_BYTES: usize = 1 << 20;

/// Stack of the thread that renders, in bytes: enough to drop the deepest value that the fuel can nest. Only what is
/// touched takes memory.
const STACK_BYTES: usize = 256 << 20;

/// Longest rendering; fuel ends nearly all that would take longer.
const TIME_LIMIT: Duration = Duration::from_millis(800);

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// "system", "user", "assistant", as templates spell it.
    pub role: String,
    /// Text.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A compiled template and the special tokens it may write.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    bos_text: String,
    eos_text: String,
}

impl ChatTemplate {
    /// Compiles a template. `bos_text` and `eos_text` are the spellings of the model's tokens, empty where it has none.
    pub fn new(source: &str, bos_text: &str, eos_text: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(problem(format!(
                "it is {} bytes long; at most {MAX_SOURCE_BYTES} are accepted",
                source.len()
            )));
        }
        let compiled = source.to_owned();
        let environment = on_large_stack(move || {
            let mut environment = Environment::new();
            let syntax = SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|error| describe(&error))?;
            environment.set_syntax(syntax);
            environment.set_recursion_limit(RECURSION_LIMIT);
            environment.set_unknown_method_callback(functions::method);
            environment.set_formatter(functions::write_value);
            environment.add_function("raise_exception", functions::raise_exception);
            environment.add_filter("tojson", json::tojson);
            environment.add_filter("string", functions::string);
            environment.add_filter("join", functions::join_filter);
            environment
                .add_template_owned("chat", without_generation_tags(&compiled))
                .map_err(|error| describe(&error))?;
            Ok(environment)
        })?;
        Ok(Self {
            environment: Arc::new(environment),
            source: source.into(),
            bos_text: bos_text.to_owned(),
            eos_text: eos_text.to_owned(),
        })
    }

    /// The template inside a GGUF file; none if it has none (a base model).
    pub fn from_gguf(weights: &Weights, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let Some(value) = weights.metadata("tokenizer.chat_template") else {
            return Ok(None);
        };
        let source = value
            .as_str()
            .ok_or_else(|| problem(format!("it is {}, expected text", value.kind())))?;
        Self::new(source, &tokenizer.bos_text(), &tokenizer.eos_text()).map(Some)
    }

    /// The template of a model folder (`chat_template.jinja`, or in `tokenizer_config.json`); none if it has none.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let path = folder.join("chat_template.jinja");
        let source = if path.is_file() {
            let text = std::fs::read_to_string(&path);
            Some(text.map_err(|source| Error::Read { path, source })?)
        } else {
            let configs = JsonConfigs::read(folder)?;
            configured(&configs.tokenizer["chat_template"])?
        };
        source
            .map(|source| Self::new(&source, &tokenizer.bos_text(), &tokenizer.eos_text()))
            .transpose()
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation; `add_generation_prompt` lets an answer of the assistant begin.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        self.render_at(messages, add_generation_prompt, SystemTime::now())
    }

    /// The same at a given time, for templates that write the date (in UTC).
    pub fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, Error> {
        let bytes: usize = messages
            .iter()
            .map(|message| message.role.len() + message.content.len())
            .sum();
        let mut environment = (*self.environment).clone();
        let fuel = BASE_FUEL
            + FUEL_PER_MESSAGE * messages.len() as u64
            + (bytes / MESSAGE_BYTES_PER_FUEL) as u64;
        environment.set_fuel(Some(fuel));
        environment.add_function("strftime_now", move |format: &str| {
            functions::strftime(format, now)
        });
        // Tokens that the model lacks are undefined, as in transformers.
        let defined = |text: &str| match text {
            "" => Value::UNDEFINED,
            text => Value::from(text),
        };
        let bos_token = defined(&self.bos_text);
        let eos_token = defined(&self.eos_text);
        let messages: Vec<Value> = messages
            .iter()
            .map(|Message { role, content }| context! { role, content })
            .collect();
        on_large_stack(move || {
            let template = environment
                .get_template("chat")
                .map_err(|error| describe(&error))?;
            let values = context! {
                messages, add_generation_prompt, bos_token, eos_token, tools => (), documents => (),
            };
            template.render(values).map_err(|error| describe(&error))
        })
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The ids of a rendered prompt: special tokens in it are recognised, and BOS is put before it where the model wants
    /// one and the template has not written it.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode(prompt, false, true).map_err(Error::Tokenizer)?;
        if let Some(bos) = self.bos().filter(|_| self.adds_bos())
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }
}

/// The source in a `tokenizer_config.json`: text, or a list of named ones of which `default` counts.
fn configured(value: &serde_json::Value) -> Result<Option<String>, Error> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(source) => Ok(Some(source.clone())),
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            Ok(default.and_then(|entry| entry["template"].as_str().map(str::to_owned)))
        }
        _ => Err(problem(
            "chat_template in tokenizer_config.json is neither text nor a list".to_owned(),
        )),
    }
}

fn problem(text: String) -> Error {
    Error::ChatTemplate(text)
}

/// Runs work on hostile data on a stack that it cannot exhaust, turns a panic into an error, and waits for it no longer
/// than the time limit. What fuel does not end (minijinja doubles lists for free) goes on in its thread after
/// `Error::ChatTemplateRunsOn`.
fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("chat-template".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // The receiver is gone only if the time was up.
            let _ = sender.send(work());
        })
        .map_err(|error| problem(format!("cannot start a thread to render it: {error}")))?;
    match receiver.recv_timeout(TIME_LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Error::ChatTemplateRunsOn { limit: TIME_LIMIT }),
        Err(RecvTimeoutError::Disconnected) => Err(problem(
            "rendering it failed inside the template engine; choose another model file".to_owned(),
        )),
    }
}

fn describe(error: &minijinja::Error) -> Error {
    if let Some(message) = functions::raised(error) {
        return problem(message);
    }
    let line = match error.line() {
        Some(line) => format!("line {line}: "),
        None => String::new(),
    };
    problem(match error.kind() {
        ErrorKind::OutOfFuel => format!(
            "{line}it does not end within the {BASE_FUEL} steps, and more for long chats, that it gets; it is broken or \
             hostile, choose another model file"
        ),
        kind => match error.detail() {
            Some(detail) => format!("{line}{kind}: {detail}"),
            None => format!("{line}{kind}"),
        },
    })
}

/// Turns `{% generation %}` blocks, which only mark what training learns from, into plain blocks.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = &tag[2..tag.len() - 2];
        let is_sign = |c: char| c == '-' || c == '+';
        let name = inner.trim_matches(is_sign).trim();
        let replacement = match name {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match replacement {
            Some(word) => out.push_str(&tag.replace(name, &format!(" {word} "))),
            None => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
