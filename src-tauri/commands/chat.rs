//! Chats: the history, sending, stopping.

use billion_workbench::api::{ApiError, Chat, ChatEvent, ChatSend, ChatSummary};
use tauri::ipc::Channel;

use super::{Bench, blocking};

/// Stored chats whose title or text holds `search`, the latest first; empty finds all.
#[tauri::command]
#[specta::specta]
pub async fn list_chats(
    workbench: Bench<'_>,
    search: String,
) -> Result<Vec<ChatSummary>, ApiError> {
    blocking(&workbench, move |bench| bench.chats(&search)).await
}

/// A stored chat.
#[tauri::command]
#[specta::specta]
pub async fn load_chat(workbench: Bench<'_>, id: u32) -> Result<Chat, ApiError> {
    blocking(&workbench, move |bench| bench.chat(id)).await
}

/// Deletes a stored chat.
#[tauri::command]
#[specta::specta]
pub async fn delete_chat(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.delete_chat(id)).await
}

/// Lets every model of the chat answer, and returns when all have; the answers come through `events`.
#[tauri::command]
#[specta::specta]
pub async fn send_chat(
    workbench: Bench<'_>,
    send: ChatSend,
    events: Channel<ChatEvent>,
) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| {
        // A window that is gone hears nothing; its answers are in the store.
        bench.send_chat(&send, &mut |event| drop(events.send(event)))
    })
    .await
}

/// Ends the answers of a chat; what was said so far is kept.
#[tauri::command]
#[specta::specta]
pub async fn stop_chat(workbench: Bench<'_>, chat: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.stop_chat(chat)).await
}
