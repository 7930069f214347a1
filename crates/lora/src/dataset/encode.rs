//! Rows to tokens, with the parts that are learnt: by the model's own chat template, or in Alpaca's text where it has none.
//!
//! What the loss counts begins where a prompt would end and goes to the token that ends the turn, so that training sees what
//! chat will see. It reads no files.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use billion_llm::chat_template::{ChatTemplate, Message};
use billion_llm::decoder::TextCodec;
use billion_llm::load::ModelFiles;
use billion_llm::tokenizer::Tokenizer;

use super::rows::Row;
use super::{LossOn, ShownToken, Speaker, Turn};
use crate::Error;

/// 26 July 2024, the date that Llama 3.2's template has where none is given. A fixed one: a training that is resumed
/// tomorrow must see the same tokens.
const DATE: Duration = Duration::from_hours(478_320);

/// Stanford Alpaca's prompts (R. Taori et al. 2023, `PROMPT_DICT` of train.py), cut where the parts go.
const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. \
                          Write a response that appropriately completes the request.";
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the \
                             request.";
const INSTRUCTION: &str = "\n\n### Instruction:\n";
const INPUT: &str = "\n\n### Input:\n";
const RESPONSE: &str = "\n\n### Response:";

/// A text and, in bytes of it, what is learnt.
struct Marked {
    text: String,
    /// Start and end, ascending.
    learnt: Vec<(usize, usize)>,
}

/// A row as tokens, before anything is cut off.
pub(super) struct Encoded {
    pub tokens: Vec<u32>,
    /// As many as tokens.
    pub scored: Vec<bool>,
}

/// Makes tokens of rows for one model.
#[derive(Clone, Debug)]
pub struct Encoder {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
}

impl Encoder {
    /// Of an opened model. Fails if it has a chat template that cannot be used.
    pub fn new(files: &ModelFiles) -> Result<Self, Error> {
        if let Some(problem) = files.chat_template_problem() {
            return Err(Error::Options(format!(
                "the model cannot be trained on conversations: {problem}"
            )));
        }
        Ok(Self::from_parts(
            Arc::clone(files.tokenizer()),
            files.chat_template().cloned(),
        ))
    }

    /// Of a tokenizer and a chat template, none for a base model.
    pub fn from_parts(tokenizer: Arc<Tokenizer>, template: Option<ChatTemplate>) -> Self {
        Self {
            tokenizer,
            template,
        }
    }

    /// How rows become prompts, in words.
    pub(super) fn words(&self, plain_text: bool) -> &'static str {
        match &self.template {
            _ if plain_text => "plain text, without any template",
            Some(_) => "the model's own chat template",
            None => {
                "Alpaca's layout (### Instruction, ### Response), since a base model has no chat template; a prompt with a \
                     completion stays as it is"
            }
        }
    }

    /// The tokens of a row and which of them the loss counts.
    pub(super) fn row(&self, row: &Row, loss_on: LossOn) -> Result<Encoded, String> {
        let mut encoded = match (row, &self.template) {
            (Row::Text(text), _) => self.plain(text)?,
            (_, Some(template)) => {
                let turns = row.turns().unwrap_or_default();
                self.chat(template, &turns)?
            }
            (_, None) => self.marked(&alpaca(row))?,
        };
        if loss_on == LossOn::Everything {
            encoded.scored.fill(true);
        }
        if let Some(first) = encoded.scored.first_mut() {
            // Nothing comes before it.
            *first = false;
        }
        if !encoded.scored.contains(&true) {
            return Err("nothing in it is learnt: no token follows another".to_owned());
        }
        Ok(encoded)
    }

    /// The tokens after which the row's last answer comes; none for plain text.
    pub(super) fn prompt(&self, row: &Row) -> Result<Option<Vec<u32>>, String> {
        let Some(turns) = row.turns() else {
            return Ok(None);
        };
        let Some(template) = &self.template else {
            let marked = alpaca(row);
            let end = marked.learnt.last().map_or(0, |(start, _)| *start);
            return self
                .tokenizer
                .encode(&marked.text[..end], true, false)
                .map(Some);
        };
        let before = messages(&turns[..turns.len().saturating_sub(1)]);
        let text = render(template, &before, true)?;
        self.encoded_prompt(&text).map(Some)
    }

    /// Everything is learnt, the end included.
    fn plain(&self, text: &str) -> Result<Encoded, String> {
        let mut tokens = self.tokenizer.encode(text, true, false)?;
        tokens.extend(self.end());
        Ok(Encoded {
            scored: vec![true; tokens.len()],
            tokens,
        })
    }

    /// The token that ends a text.
    fn end(&self) -> Option<u32> {
        self.tokenizer.eos_tokens().first().copied()
    }

    /// Texts that are learnt are tokens of their own, so that they follow the very tokens that a prompt has; each ends with
    /// the end of a text.
    fn marked(&self, marked: &Marked) -> Result<Encoded, String> {
        let mut encoded = Encoded {
            tokens: Vec::new(),
            scored: Vec::new(),
        };
        let mut at = 0;
        for &(start, end) in &marked.learnt {
            let first = encoded.tokens.is_empty();
            let before = self
                .tokenizer
                .encode(&marked.text[at..start], first, false)?;
            encoded.scored.extend(before.iter().map(|_| false));
            encoded.tokens.extend(before);
            let mut answer = self
                .tokenizer
                .encode(&marked.text[start..end], false, false)?;
            answer.extend(self.end());
            encoded.scored.extend(answer.iter().map(|_| true));
            encoded.tokens.extend(answer);
            at = end;
        }
        Ok(encoded)
    }

    /// Renders the conversation up to each answer and after it; what comes between is learnt, up to the token that ends the
    /// turn. White space that the template puts after that token is not.
    fn chat(&self, template: &ChatTemplate, turns: &[Turn]) -> Result<Encoded, String> {
        let messages = messages(turns);
        let whole = render(template, &messages, false)?;
        let mut learnt = Vec::new();
        for (index, turn) in turns.iter().enumerate() {
            if turn.role != Speaker::Assistant {
                continue;
            }
            let before = render(template, &messages[..index], true)?;
            let after = render(template, &messages[..=index], false)?;
            if !whole.starts_with(&before)
                || !whole.starts_with(&after)
                || after.len() <= before.len()
            {
                return Err(format!(
                    "the model's chat template writes message {} otherwise when others follow it, so its answer cannot be \
                     placed; use rows of one question and one answer",
                    index + 1
                ));
            }
            learnt.push((before.len(), after.len()));
        }
        let tokens = self.encoded_prompt(&whole)?;
        let mut ranges = Vec::new();
        for &(start, end) in &learnt {
            let before = self.encoded_prompt(&whole[..start])?;
            let after = self.encoded_prompt(&whole[..end])?;
            if !tokens.starts_with(&before) || !tokens.starts_with(&after) {
                // A token would reach over the place where the prompt ends. Chat has no such token: the text is cut there.
                if let Some(cut) = self.cut(&whole, &learnt)? {
                    return Ok(cut);
                }
            }
            ranges.push(common(&tokens, &before)..common(&tokens, &after));
        }
        let mut encoded = Encoded {
            scored: vec![false; tokens.len()],
            tokens,
        };
        for range in ranges {
            self.score(&mut encoded, range);
        }
        if !encoded.scored.contains(&true) {
            return Err("the model's chat template leaves the answers out".to_owned());
        }
        Ok(encoded)
    }

    fn encoded_prompt(&self, text: &str) -> Result<Vec<u32>, String> {
        let tokens = self.tokenizer.encode_prompt(text);
        tokens.map_err(|error| error.to_string())
    }

    /// The text encoded in parts, cut where answers begin and end; none if the tokenizer puts something between parts.
    fn cut(&self, whole: &str, learnt: &[(usize, usize)]) -> Result<Option<Encoded>, String> {
        let mut encoded = Encoded {
            tokens: Vec::new(),
            scored: Vec::new(),
        };
        let mut at = 0;
        let ends = learnt
            .iter()
            .flat_map(|&(start, end)| [(start, false), (end, true)]);
        for (end, is_answer) in ends.chain([(whole.len(), false)]) {
            let text = &whole[at..end];
            let tokens = if at == 0 {
                self.encoded_prompt(text)?
            } else {
                self.tokenizer.encode(text, false, true)?
            };
            if at > 0
                && tokens
                    .iter()
                    .map(|&token| self.text(token))
                    .collect::<String>()
                    != text
            {
                return Ok(None);
            }
            let first = encoded.tokens.len();
            encoded.tokens.extend(tokens);
            encoded.scored.resize(encoded.tokens.len(), false);
            if is_answer {
                let range = first..encoded.tokens.len();
                self.score(&mut encoded, range);
            }
            at = end;
        }
        Ok(Some(encoded))
    }

    /// Counts an answer, up to the last token in it that ends a turn; what stands after that is the template's.
    fn score(&self, encoded: &mut Encoded, range: Range<usize>) {
        let ends = self.tokenizer.eos_tokens();
        let start = range.start.min(range.end);
        let answer = &encoded.tokens[start..range.end];
        let last = answer.iter().rposition(|token| ends.contains(token));
        let end = last.map_or(range.end, |last| start + last + 1);
        encoded.scored[start..end].fill(true);
    }

    /// A token's text; a special one's spelling.
    fn text(&self, token: u32) -> String {
        let bytes = self.tokenizer.token_bytes(token);
        if bytes.is_empty() {
            self.tokenizer.token_text(token).unwrap_or_default()
        } else {
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    /// Tokens as people see them.
    pub(super) fn shown(&self, encoded: &Encoded, most: usize) -> Vec<ShownToken> {
        let tokens = encoded.tokens.iter().zip(&encoded.scored).take(most);
        let shown = tokens.map(|(&id, &scored)| {
            let text = self.text(id);
            ShownToken { id, text, scored }
        });
        shown.collect()
    }
}

fn messages(turns: &[Turn]) -> Vec<Message> {
    let message = |turn: &Turn| {
        let role = match turn.role {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        Message::new(role, turn.text.as_str())
    };
    turns.iter().map(message).collect()
}

fn render(template: &ChatTemplate, messages: &[Message], answer: bool) -> Result<String, String> {
    let now = SystemTime::UNIX_EPOCH + DATE;
    let text = template.render_at(messages, answer, now);
    text.map_err(|error| error.to_string())
}

/// Length of what two lists begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The row for a base model. An answer directly follows "### Response:", as in Stanford's training.
fn alpaca(row: &Row) -> Marked {
    let mut marked = Marked {
        text: String::new(),
        learnt: Vec::new(),
    };
    let mut add = |text: &str, learnt: bool| {
        let start = marked.text.len();
        marked.text.push_str(text);
        if learnt {
            marked.learnt.push((start, marked.text.len()));
        }
    };
    match row {
        Row::Text(text) => add(text, true),
        Row::Continued {
            system,
            prompt,
            answer,
        } => {
            if let Some(system) = system {
                add(system, false);
                add("\n\n", false);
            }
            add(prompt, false);
            add(answer, true);
        }
        Row::Instruction {
            system,
            instruction,
            input,
            answer,
        } => {
            let usual = if input.is_empty() {
                WITHOUT_INPUT
            } else {
                WITH_INPUT
            };
            add(system.as_deref().unwrap_or(usual), false);
            add(INSTRUCTION, false);
            add(instruction, false);
            if !input.is_empty() {
                add(INPUT, false);
                add(input, false);
            }
            add(RESPONSE, false);
            add(answer, true);
        }
        Row::Turns(turns) => {
            let (system, rest) = match turns.split_first() {
                Some((first, rest)) if first.role == Speaker::System => (first.text.as_str(), rest),
                _ => (WITHOUT_INPUT, &turns[..]),
            };
            add(system, false);
            for turn in rest {
                match turn.role {
                    Speaker::Assistant => {
                        add(RESPONSE, false);
                        add(&turn.text, true);
                    }
                    Speaker::User | Speaker::System => {
                        add(INSTRUCTION, false);
                        add(&turn.text, false);
                    }
                }
            }
        }
    }
    marked
}
