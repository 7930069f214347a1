//! Stored chats: a head, and a row a turn.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, from_json, json};
use crate::api::{ApiError, Chat, ChatSummary, ChatTurn, ReplyOptions};
use crate::machine::now;

impl Store {
    /// Starts a chat.
    pub(crate) fn new_chat(
        &self,
        title: &str,
        models: &[String],
        options: &ReplyOptions,
    ) -> Result<u32, ApiError> {
        self.write(|c| {
            c.execute(
                "INSERT INTO chats (title, models, options, updated_at) VALUES (?1, ?2, ?3, ?4)",
                params![title, json(&models), json(options), now()],
            )?;
            Ok(c.last_insert_rowid() as u32)
        })
    }

    /// Sets what the next reply uses, and keeps only the first `keep` turns.
    pub(crate) fn change_chat(
        &self,
        id: u32,
        title: &str,
        models: &[String],
        options: &ReplyOptions,
        keep: u32,
    ) -> Result<(), ApiError> {
        self.write(|c| {
            c.execute(
                "UPDATE chats SET title = ?2, models = ?3, options = ?4, updated_at = ?5 WHERE id = ?1",
                params![id, title, json(&models), json(options), now()],
            )?;
            c.execute("DELETE FROM turns WHERE chat = ?1 AND position >= ?2", params![id, keep])
        })
        .map(|_| ())
    }

    /// Writes a turn at a position. False if the chat was deleted meanwhile.
    pub(crate) fn put_turn(
        &self,
        chat: u32,
        position: u32,
        turn: &ChatTurn,
    ) -> Result<bool, ApiError> {
        let text = match turn {
            ChatTurn::User { text } => text.clone(),
            ChatTurn::Replies { replies } => replies
                .iter()
                .map(|reply| reply.text.as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        };
        self.write(|c| {
            let there = c.execute("UPDATE chats SET updated_at = ?2 WHERE id = ?1", params![chat, now()])? > 0;
            if there {
                c.execute(
                    "INSERT OR REPLACE INTO turns (chat, position, turn, text) VALUES (?1, ?2, ?3, ?4)",
                    params![chat, position, json(turn), text],
                )?;
            }
            Ok(there)
        })
    }

    /// A chat with its turns.
    pub(crate) fn chat(&self, id: u32) -> Result<Chat, ApiError> {
        self.read(|c| {
            c.query_row("SELECT * FROM chats WHERE id = ?1", [id], |row| {
                Ok(Chat {
                    id: row.get("id")?,
                    title: row.get("title")?,
                    models: from_json(row, "models")?,
                    options: from_json(row, "options")?,
                    turns: turns(c, id)?,
                    updated_at: row.get("updated_at")?,
                })
            })
            .optional()
        })?
        .ok_or_else(|| ApiError::failed(format!("there is no chat {id}; it may have been deleted")))
    }

    /// Chats whose title or text holds `search`, whatever its case; the latest first.
    pub(crate) fn chats(&self, search: &str) -> Result<Vec<ChatSummary>, ApiError> {
        let wanted = search.trim().to_lowercase();
        self.read(|c| {
            let mut statement =
                c.prepare("SELECT * FROM chats ORDER BY updated_at DESC, id DESC")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            // SQLite's LIKE folds only ASCII letters, so case is folded here.
            let mut texts = c.prepare("SELECT text FROM turns WHERE chat = ?1")?;
            while let Some(row) = rows.next()? {
                let summary = ChatSummary {
                    id: row.get("id")?,
                    title: row.get("title")?,
                    models: from_json(row, "models")?,
                    updated_at: row.get("updated_at")?,
                };
                let mut hit = wanted.is_empty() || summary.title.to_lowercase().contains(&wanted);
                if !hit {
                    let mut rows = texts.query([summary.id])?;
                    while let Some(row) = rows.next()? {
                        if row.get::<_, String>(0)?.to_lowercase().contains(&wanted) {
                            hit = true;
                            break;
                        }
                    }
                }
                if hit {
                    found.push(summary);
                }
            }
            Ok(found)
        })
    }

    /// Deletes a chat and its turns.
    pub(crate) fn delete_chat(&self, id: u32) -> Result<(), ApiError> {
        self.write(|c| c.execute("DELETE FROM chats WHERE id = ?1", [id]))
            .map(|_| ())
    }
}

fn turns(c: &Connection, chat: u32) -> rusqlite::Result<Vec<ChatTurn>> {
    let mut statement = c.prepare("SELECT turn FROM turns WHERE chat = ?1 ORDER BY position")?;
    let rows = statement.query_map([chat], |row| from_json(row, "turn"))?;
    rows.collect()
}
