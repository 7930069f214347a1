//! Chats: stored turns, several models that answer one after the other, edit and regenerate; and replies that are not
//! stored, for the command line.

use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::api::{
    ApiError, Chat, ChatEvent, ChatSend, ChatSummary, ChatTurn, Drafter, ErrorCode, Message, Reply,
    ReplyOptions, ReplySpeculation, Role,
};
use crate::cancel::Cancel;
use crate::facade::Workbench;
use crate::measure::draft_engine;
use crate::models::Model;
use crate::requests::{EngineOptions, ReplyRequest, ReplyStep};
use crate::worker::{Ask, Event, Generated, Outcome, Seat};

/// Characters of a title.
const TITLE: usize = 60;

/// What a reply hears before its end.
enum Step<'a> {
    Waiting(&'a str),
    Loading,
    Reading {
        done: u32,
        total: u32,
    },
    Text {
        text: &'a str,
        tokens: u32,
        speculation: Option<ReplySpeculation>,
    },
}

/// What to answer.
struct Question<'a> {
    model: &'a str,
    /// Whose KV cache to go on with.
    session: u64,
    messages: Vec<Message>,
    options: &'a ReplyOptions,
    engine: EngineOptions,
}

impl Workbench {
    /// Stored chats whose title or text holds `search`, the latest first; empty finds all.
    pub fn chats(&self, search: &str) -> Result<Vec<ChatSummary>, ApiError> {
        self.store.chats(search)
    }

    /// A stored chat.
    pub fn chat(&self, id: u32) -> Result<Chat, ApiError> {
        self.store.chat(id)
    }

    /// Deletes a stored chat; its answers in progress are stopped.
    pub fn delete_chat(&self, id: u32) -> Result<(), ApiError> {
        self.stop_chat(id)?;
        self.store.delete_chat(id)
    }

    /// Stores what is sent and lets every model answer, one after the other; returns when all have. A model that fails
    /// is an answer with an error, not an error of the chat.
    pub fn send_chat(
        &self,
        send: &ChatSend,
        on_event: &mut dyn FnMut(ChatEvent),
    ) -> Result<(), ApiError> {
        if send.models.is_empty() {
            return Err(ApiError::failed("choose at least one model to answer"));
        }
        if send
            .text
            .as_ref()
            .is_some_and(|text| text.trim().is_empty())
        {
            return Err(ApiError::failed(
                "there is nothing to send: write a message first",
            ));
        }
        let cancel = Cancel::default();
        // An earlier answer of this chat must have ended before its turns are changed.
        let early = send
            .chat
            .map(|id| self.begin_answer(id, &cancel))
            .transpose()?;
        let mut turns = match send.chat {
            Some(id) => self.store.chat(id)?.turns,
            None => Vec::new(),
        };
        if let Some(keep) = send.keep_turns {
            turns.truncate(keep as usize);
        }
        if send.text.is_none() && matches!(turns.last(), Some(ChatTurn::Replies { .. })) {
            turns.pop();
        }
        let keep = turns.len() as u32;
        if let Some(text) = &send.text {
            turns.push(ChatTurn::User { text: text.clone() });
        }
        let Some(ChatTurn::User { .. }) = turns.last() else {
            return Err(ApiError::failed(
                "there is no message to answer: write one first",
            ));
        };
        let title = title(&turns);
        let chat = match send.chat {
            Some(id) => {
                self.store
                    .change_chat(id, &title, &send.models, &send.options, keep)?;
                id
            }
            None => self.store.new_chat(&title, &send.models, &send.options)?,
        };
        let _answering = match early {
            Some(guard) => guard,
            None => self.begin_answer(chat, &cancel)?,
        };
        if let (Some(_), Some(turn)) = (&send.text, turns.last()) {
            self.store.put_turn(chat, keep, turn)?;
        }
        on_event(ChatEvent::Saved { chat, title });

        let engine = self.engine_options()?;
        let mut replies: Vec<Reply> = Vec::with_capacity(send.models.len());
        for (column, model) in send.models.iter().enumerate() {
            let question = Question {
                model,
                session: session_of(chat, column),
                messages: messages(&turns, model, column, send.options.system.as_deref()),
                options: &send.options,
                engine: engine.clone(),
            };
            let column = column as u32;
            let reply = self.answer(&question, &cancel, &mut |step| {
                on_event(match step {
                    Step::Waiting(reason) => ChatEvent::Waiting {
                        column,
                        reason: reason.to_owned(),
                    },
                    Step::Loading => ChatEvent::Loading { column },
                    Step::Reading { done, total } => ChatEvent::Reading {
                        column,
                        done,
                        total,
                    },
                    Step::Text {
                        text,
                        tokens,
                        speculation,
                    } => ChatEvent::Text {
                        column,
                        text: text.to_owned(),
                        tokens,
                        speculation,
                    },
                });
            });
            replies.push(reply.clone());
            let turn = ChatTurn::Replies {
                replies: replies.clone(),
            };
            self.store.put_turn(chat, turns.len() as u32, &turn)?;
            on_event(ChatEvent::Finished { column, reply });
        }
        on_event(ChatEvent::Done);
        Ok(())
    }

    /// Ends the answers of a chat; what was said so far is kept.
    pub fn stop_chat(&self, chat: u32) -> Result<(), ApiError> {
        if let Some(cancel) = self
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&chat)
        {
            cancel.set();
        }
        Ok(())
    }

    /// A reply that is not stored. A further turn of the same conversation reuses its KV cache.
    pub fn reply(
        &self,
        request: &ReplyRequest,
        on_step: &mut dyn FnMut(ReplyStep<'_>),
    ) -> Result<Reply, ApiError> {
        let (_guard, cancel) = self.foreground();
        let mut messages = request.messages.clone();
        if let Some(system) = &request.options.system
            && messages
                .first()
                .is_none_or(|message| message.role != Role::System)
        {
            messages.insert(
                0,
                Message {
                    role: Role::System,
                    content: system.clone(),
                },
            );
        }
        let question = Question {
            model: &request.model,
            session: u64::from(request.session),
            messages,
            options: &request.options,
            engine: self.with_settings(&request.engine)?,
        };
        let mut reply = self.answer(&question, &cancel, &mut |step| match step {
            Step::Waiting(why) => on_step(ReplyStep::Waiting(why)),
            Step::Text { text, .. } => on_step(ReplyStep::Text(text)),
            Step::Loading | Step::Reading { .. } => {}
        });
        match reply.error.take() {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }

    /// Lets a model answer. What went wrong is in the reply, beside the text so far.
    fn answer(
        &self,
        question: &Question<'_>,
        cancel: &Cancel,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Reply {
        let mut reply = Reply {
            model: question.model.to_owned(),
            text: String::new(),
            prompt_tokens: 0,
            tokens: 0,
            ttft_s: None,
            tokens_per_s: None,
            finish_reason: "cancelled".to_owned(),
            speculation: None,
            error: None,
        };
        let mut said = (String::new(), 0);
        let done = self.generate(question, cancel, &mut |step| {
            if let Step::Text { text, tokens, .. } = &step {
                said.0.push_str(text);
                said.1 = *tokens;
            }
            on_step(step);
        });
        match done {
            Ok(generated) => {
                reply.text = generated.text;
                reply.prompt_tokens = generated.prompt_tokens;
                reply.tokens = generated.tokens;
                reply.ttft_s = generated.ttft_s;
                reply.tokens_per_s = (generated.tokens > 1 && generated.decode_s > 0.0)
                    .then(|| f64::from(generated.tokens - 1) / generated.decode_s);
                reply.finish_reason = generated.finish_reason;
                reply.speculation = generated.speculation;
            }
            Err(error) => {
                (reply.text, reply.tokens) = said;
                if error.code != ErrorCode::Cancelled {
                    "failed".clone_into(&mut reply.finish_reason);
                    reply.error = Some(error);
                }
            }
        }
        reply
    }

    fn generate(
        &self,
        question: &Question<'_>,
        cancel: &Cancel,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<Generated, ApiError> {
        cancel.check()?;
        let model: Model = self.resolve(question.model)?;
        let engine = model.engine(&question.engine);
        let _turn = self.chat_turn(cancel, on_step)?;
        let _lease = self
            .lease
            .shared(cancel, &mut |why| on_step(Step::Waiting(why)))?;
        let mut seat = self.pool.take(
            &self.executable(&engine)?,
            &model.path,
            &engine,
            model.needs_bytes(),
            cancel,
            &mut || on_step(Step::Loading),
        )?;
        let mut options = question.options.clone();
        let drafts = self.seat_draft(&mut seat, question, &model, cancel, on_step);
        let (name, problem) = match drafts {
            Ok(name) => (name, None),
            Err(error) if error.code == ErrorCode::Failed => (String::new(), Some(error.message)),
            Err(error) => {
                self.pool.put_back(seat);
                return Err(error);
            }
        };
        if problem.is_some() {
            options.draft = None;
        }
        // The worker knows figures, not names.
        let named = |fared: Option<ReplySpeculation>| match &problem {
            Some(problem) => Some(ReplySpeculation {
                problem: Some(problem.clone()),
                ..ReplySpeculation::default()
            }),
            None => fared.map(|fared| ReplySpeculation {
                draft: name.clone(),
                ..fared
            }),
        };
        let ask = Ask::Generate {
            session: question.session,
            messages: question.messages.clone(),
            options,
        };
        let outcome = seat.worker.request(ask, cancel, &mut |event| match event {
            Event::Progress { done, total, .. } => on_step(Step::Reading { done, total }),
            Event::Text {
                text,
                tokens,
                speculation,
            } => on_step(Step::Text {
                text: &text,
                tokens,
                speculation: named(speculation),
            }),
            _ => {}
        });
        self.pool.put_back(seat);
        match outcome? {
            Outcome::Generated(mut generated) => {
                generated.speculation = named(generated.speculation);
                Ok(generated)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Loads the draft that a reply asks for beside its model, and gives its name. A draft that cannot be used is no reason
    /// not to answer.
    fn seat_draft(
        &self,
        seat: &mut Seat,
        question: &Question<'_>,
        model: &Model,
        cancel: &Cancel,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<String, ApiError> {
        let reference = match &question.options.draft {
            None => return Ok(String::new()),
            Some(Drafter::Lookup) => return Ok("prompt lookup".to_owned()),
            Some(Drafter::Model { model }) => model,
        };
        let draft = self.resolve(reference)?;
        if draft.path == model.path && draft.adapter == model.adapter {
            return Err(ApiError::failed(format!(
                "{} cannot draft for itself: every draft would cost as much as it saves",
                draft.name
            )));
        }
        let engine = draft_engine(&draft, &question.engine, None);
        seat.add_draft(
            &draft.path,
            &engine,
            model.needs_bytes() + draft.needs_bytes(),
            cancel,
            &mut || on_step(Step::Loading),
        )?;
        Ok(draft.name)
    }

    /// Models answer one after the other, so that their speeds are honest.
    fn chat_turn(
        &self,
        cancel: &Cancel,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<MutexGuard<'_, ()>, ApiError> {
        let mut told = false;
        loop {
            match self.turn.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        on_step(Step::Waiting(
                            "waits until another chat is answered, so that both speeds are true",
                        ));
                        told = true;
                    }
                    cancel.check()?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// Marks a chat as being answered, so that it can be stopped and is not answered twice at once.
    fn begin_answer(&self, chat: u32, cancel: &Cancel) -> Result<Answering<'_>, ApiError> {
        let mut answering = self
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if answering.contains_key(&chat) {
            return Err(ApiError {
                code: ErrorCode::Busy,
                message: "this chat is still being answered; wait, or stop the answer first"
                    .to_owned(),
                link: None,
            });
        }
        answering.insert(chat, cancel.clone());
        Ok(Answering {
            workbench: self,
            chat,
        })
    }
}

/// Removes the mark when the answer ends, however it ends.
struct Answering<'a> {
    workbench: &'a Workbench,
    chat: u32,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.workbench
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.chat);
    }
}

/// Session of a column; 0 is the command line's.
fn session_of(chat: u32, column: usize) -> u64 {
    (u64::from(chat) << 16) | (column as u64 & 0xFFFF)
}

/// The conversation as one model sees it: its own replies, or those of its column where it has none.
fn messages(turns: &[ChatTurn], model: &str, column: usize, system: Option<&str>) -> Vec<Message> {
    let mut messages = Vec::with_capacity(turns.len() + 1);
    if let Some(system) = system.filter(|text| !text.trim().is_empty()) {
        messages.push(Message {
            role: Role::System,
            content: system.to_owned(),
        });
    }
    for turn in turns {
        match turn {
            ChatTurn::User { text } => messages.push(Message {
                role: Role::User,
                content: text.clone(),
            }),
            ChatTurn::Replies { replies } => {
                let own = replies
                    .get(column)
                    .filter(|reply| reply.model == model)
                    .or_else(|| replies.iter().find(|reply| reply.model == model))
                    .or_else(|| replies.get(column))
                    .or_else(|| replies.first());
                if let Some(reply) = own {
                    messages.push(Message {
                        role: Role::Assistant,
                        content: reply.text.clone(),
                    });
                }
            }
        }
    }
    messages
}

/// First words of the first message.
fn title(turns: &[ChatTurn]) -> String {
    let first = turns.iter().find_map(|turn| match turn {
        ChatTurn::User { text } => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        ChatTurn::Replies { .. } => None,
    });
    let text = first
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "New chat".to_owned());
    if text.chars().count() <= TITLE {
        return text;
    }
    let cut: String = text.chars().take(TITLE).collect();
    // At a word, unless the first word is longer than the title.
    let end = cut
        .rfind(' ')
        .filter(|&at| at > TITLE / 2)
        .unwrap_or(cut.len());
    format!("{}…", &cut[..end])
}

/// The worker and this program are of one version, so this is a mistake of ours.
pub(crate) fn unexpected(outcome: &Outcome) -> ApiError {
    ApiError::failed(format!(
        "the engine gave another outcome than was asked for ({outcome:?}); please report this"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(model: &str, text: &str) -> Reply {
        Reply {
            model: model.to_owned(),
            text: text.to_owned(),
            prompt_tokens: 1,
            tokens: 1,
            ttft_s: None,
            tokens_per_s: None,
            finish_reason: "stop".to_owned(),
            speculation: None,
            error: None,
        }
    }

    #[test]
    fn each_model_sees_its_own_replies() {
        let turns = [
            ChatTurn::User {
                text: "hi".to_owned(),
            },
            ChatTurn::Replies {
                replies: vec![reply("a", "from a"), reply("b", "from b")],
            },
            ChatTurn::User {
                text: "more".to_owned(),
            },
        ];
        let texts = |model, column| -> Vec<String> {
            messages(&turns, model, column, Some("be brief"))
                .into_iter()
                .map(|m| m.content)
                .collect()
        };
        assert_eq!(texts("a", 0), ["be brief", "hi", "from a", "more"]);
        assert_eq!(texts("b", 0), ["be brief", "hi", "from b", "more"]);
        assert_eq!(texts("c", 1), ["be brief", "hi", "from b", "more"]);
        assert_eq!(messages(&turns, "a", 0, Some(" ")).len(), 3);
    }

    #[test]
    fn titles_are_first_words() {
        let of = |text: &str| {
            title(&[ChatTurn::User {
                text: text.to_owned(),
            }])
        };
        assert_eq!(of("  Why is\nthe sky blue? "), "Why is the sky blue?");
        let long = of(&"word ".repeat(40));
        assert!(
            long.ends_with("word…") && long.chars().count() <= TITLE + 1,
            "{long}"
        );
        assert_eq!(of(&"ü".repeat(100)).chars().count(), TITLE + 1);
    }
}
