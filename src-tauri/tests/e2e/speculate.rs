//! The pair lab in the real window: an incompatible pair says why, prompt lookup is measured with the starter model, proven,
//! looked at token by token, and used in Chat.

use std::path::Path;

use crate::harness::{AFTER_WORK, SOON, Window};
use crate::{LAST_REPLY, pictures};

/// Chooses in a list as a person does.
async fn choose(window: &Window, id: &str, value: &str) {
    window.wait_for(id, SOON).await;
    window
        .run(&format!(
            "const list = document.querySelector('[data-testid=\"{id}\"]');\
             list.value = {value};\
             list.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        ))
        .await;
}

#[tokio::test]
async fn a_pair_is_checked_measured_proven_and_used_in_chat() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-speculate").await;
    window.wait_for("lab-starter", SOON).await;
    pictures(&window, "lab-1-empty", None).await;

    // Another tokenizer: it says why, before anything starts.
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/llm/tests/fixtures/gqa.gguf");
    window.drop_file(&tiny).await;
    window.wait_for("view-models", SOON).await;
    window
        .wait(
            "the tiny model is in the library",
            AFTER_WORK,
            "return document.body.innerText.includes('gqa')",
        )
        .await;
    window.click("nav-speculate").await;
    choose(
        &window,
        "lab-target",
        "[...list.options].find((o) => o.value === 'starter').value",
    )
    .await;
    choose(
        &window,
        "lab-draft",
        "[...list.options].find((o) => /gqa/i.test(o.value + o.text)).value",
    )
    .await;
    window
        .wait(
            "the pair is refused",
            AFTER_WORK,
            "return document.querySelector('[data-testid=\"lab-check\"]')?.dataset.works === 'false'",
        )
        .await;
    let why = window.text("lab-check").await;
    assert!(why.contains("tokens differ"), "{why}");
    pictures(&window, "lab-2-refused", None).await;

    // Prompt lookup with the starter model.
    choose(&window, "lab-draft", "'lookup:'").await;
    window
        .wait(
            "lookup works",
            AFTER_WORK,
            "return document.querySelector('[data-testid=\"lab-check\"]')?.dataset.works === 'true'",
        )
        .await;
    window.click("lab-start").await;
    window
        .wait(
            "it is measured",
            AFTER_WORK,
            "return document.querySelectorAll('[data-testid^=\"lab-job-\"]').length > 0",
        )
        .await;
    pictures(&window, "lab-3-measuring", None).await;
    window.wait_for("lab-result", 3 * AFTER_WORK).await;
    let proof = window
        .run("return document.querySelector('[data-testid=\"lab-proof\"]').dataset.sign")
        .await;
    assert_eq!(proof.as_str(), Some("same"));
    let speedup = window.text("lab-speedup").await;
    assert!(speedup.contains('.'), "{speedup}");
    let rows = window
        .run("return document.querySelectorAll('[data-testid^=\"lab-row-\"]').length")
        .await;
    assert_eq!(rows.as_u64(), Some(5));
    for theme in ["dark", "light"] {
        window.click("nav-settings").await;
        window.click(&format!("theme-{theme}")).await;
        window.click("nav-speculate").await;
        window.wait_for("lab-result", SOON).await;
        pictures(
            &window,
            &format!("lab-4-result-{theme}"),
            Some("lab-result"),
        )
        .await;
        pictures(&window, &format!("lab-5-proof-{theme}"), Some("lab-proof")).await;
        pictures(&window, &format!("lab-6-trace-{theme}"), Some("lab-trace")).await;
    }
    // The summary repeats its text, so some of it was drafted, and some drafts were wrong.
    window.click("lab-tab-2").await;
    let marks = window
        .run(
            "const trace = document.querySelector('[data-testid=\"lab-trace\"]');\
             return trace.querySelectorAll('ins').length * trace.querySelectorAll('del').length",
        )
        .await;
    assert!(marks.as_u64().is_some_and(|marks| marks > 0), "{marks}");
    pictures(&window, "lab-7-summary", Some("lab-trace")).await;

    // Used in Chat, where the reply says how drafts fared.
    window.click("lab-chat").await;
    window.wait_for("view-chat", SOON).await;
    window
        .type_into(
            "chat-input",
            "Repeat three times: the quick brown fox jumps over the lazy dog.",
        )
        .await;
    window.click("chat-send").await;
    window
        .wait(
            "the reply says how drafts fared",
            AFTER_WORK,
            &format!("return {LAST_REPLY}?.querySelector('[data-testid=\"reply-speculation\"]')?.innerText.length > 5"),
        )
        .await;
    pictures(&window, "lab-8-chat", None).await;

    // The run stands in Results.
    window.click("nav-results").await;
    window.wait_for("results-list", SOON).await;
    let list = window.text("results-list").await;
    assert!(list.contains("Speculation"), "{list}");
    window.close().await;
}
