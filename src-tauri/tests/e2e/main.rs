//! What a person does with the window, from the first start on, with the real engine and the starter model.

mod finetune;
mod harness;
mod hub;
#[path = "../../../crates/hub/tests/loopback/mod.rs"]
mod loopback;
mod measuring;
mod sharing;
mod speculate;

use std::path::PathBuf;
use std::time::Duration;

use harness::{AFTER_WORK, Display, SOON, Window, end, start_app};
use measuring::COMPLETE;

/// The last reply in the first column, as `document.querySelectorAll` finds it.
pub(crate) const LAST_REPLY: &str =
    "[...document.querySelectorAll('[data-testid=\"reply-0\"]')].at(-1)";

/// One press on the first start gives a scorecard of the starter model; it is in the store and in Results.
#[tokio::test]
async fn one_press_gives_the_first_scorecard_and_it_lasts() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.wait_for("scorecard-empty", SOON).await;
    window
        .wait(
            "the time of each size is told before it starts",
            SOON,
            "return [...document.querySelectorAll('[data-testid^=\"forecast-\"]')].length === 3",
        )
        .await;
    window.picture("1-first-start").await;

    window.click("run-scorecard").await;
    window.wait_for("scorecard-progress", SOON).await;
    window.wait_for("job-tray", SOON).await;
    // The job goes on while the person looks elsewhere.
    window.click("nav-models").await;
    window.wait_for("model-card-starter", SOON).await;
    window.picture("2-models-while-measuring").await;
    window.click("nav-scorecard").await;
    window
        .wait("the scorecard is complete", AFTER_WORK, COMPLETE)
        .await;
    window
        .wait_until_gone("scorecard-progress", AFTER_WORK)
        .await;
    window.picture("3-scorecard").await;
    window
        .run("document.querySelector('[data-testid=\"scorecard-result\"]').scrollIntoView()")
        .await;
    window.picture("3-scorecard-charts").await;

    let table = window.text("scorecard-row-starter").await;
    for (cell, unit) in [
        ("cell-mmlu", "%"),
        ("cell-humaneval", "%"),
        ("cell-prefill", "tok"),
        ("cell-decode", "tok"),
        ("cell-peak_memory", "B"),
    ] {
        let figure = window.text(cell).await;
        assert!(
            figure.contains(unit) && figure.contains(|c: char| c.is_ascii_digit()),
            "{cell} says {figure:?}; the row says {table:?}"
        );
    }
    assert!(
        window.count("chart").await > 0,
        "a scorecard without a chart"
    );
    let mmlu = window.text("cell-mmlu").await;
    window.close().await;

    // A second start shows what the store holds.
    let window = Window::open(data.path()).await;
    window.wait_for("scorecard-row-starter", SOON).await;
    assert_eq!(window.text("cell-mmlu").await, mmlu);
    window.click("nav-results").await;
    window
        .wait(
            "the runs are listed",
            SOON,
            "return document.querySelectorAll('[data-testid=\"results-list\"] li').length >= 3",
        )
        .await;
    look_at_every_view(&window).await;
    window.close().await;
}

/// A reply is streamed, can be stopped, keeps its text, and the next one comes to its end.
#[tokio::test]
async fn a_reply_streams_and_stops_when_told() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-chat").await;
    window
        .type_into(
            "chat-input",
            "Write a long story about a lighthouse keeper and the sea.",
        )
        .await;
    window.click("chat-send").await;
    let first = words_while_writing(&window).await;
    window.picture("5-streaming").await;
    let more = format!("return ({LAST_REPLY})?.innerText.length > {first} + 20");
    window
        .wait("more text comes while it is written", AFTER_WORK, &more)
        .await;

    window.click("chat-stop").await;
    wait_for_finish(&window, "finished").await;
    let stopped = window.text("reply-text").await;
    assert!(
        stopped.len() > 20,
        "the text so far is kept, but it is {stopped:?}"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        window.text("reply-text").await,
        stopped,
        "it went on after the stop"
    );

    window
        .type_into(
            "chat-input",
            "What is the capital of France? Answer in one short sentence.",
        )
        .await;
    window.click("chat-send").await;
    window
        .wait(
            "a second reply is there",
            AFTER_WORK,
            "return document.querySelectorAll('[data-testid=\"reply-0\"]').length === 2",
        )
        .await;
    wait_for_finish(&window, "finished").await;
    let reply = window
        .run(&format!("return ({LAST_REPLY}).innerText"))
        .await;
    let reply = reply.as_str().unwrap_or_default();
    assert!(
        reply.contains("Paris"),
        "the model does not know the first question: {reply:?}"
    );
    assert!(
        reply.contains("tok"),
        "the reply does not state its speed: {reply:?}"
    );

    window.click("chat-new").await;
    window
        .type_into(
            "chat-input",
            "Write a Python function that adds two numbers.",
        )
        .await;
    window.click("chat-send").await;
    words_while_writing(&window).await;
    wait_for_finish(&window, "finished").await;
    assert!(
        window.count("copy-code").await > 0,
        "code is not shown as code: {:?}",
        window.text("reply-text").await
    );
    window.picture("6-code").await;
    window.close().await;

    let window = Window::open(data.path()).await;
    window.click("nav-chat").await;
    window
        .wait(
            "both chats are in the history",
            SOON,
            "return document.querySelectorAll('[data-testid^=\"chat-open-\"]').length === 2",
        )
        .await;
    window.close().await;
}

/// A model folder dropped on the window is imported, and answers beside the starter model.
#[tokio::test]
async fn a_dropped_model_is_imported_and_compared() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-models").await;
    window.wait_for("model-card-starter", SOON).await;

    window.drop_file(&fixture("make.py")).await;
    window.wait_for("import-error", SOON).await;
    window.drop_file(&fixture("gqa")).await;
    window
        .wait(
            "the dropped model has a card",
            AFTER_WORK,
            "return document.querySelectorAll('[data-testid^=\"model-chat-\"]').length === 2",
        )
        .await;
    window.picture("7-imported").await;
    let imported = window
        .run(
            "return [...document.querySelectorAll('[data-testid^=\"model-chat-\"]')]\
             .map((chat) => chat.dataset.testid.replace('model-chat-', '')).find((id) => id !== 'starter')",
        )
        .await;
    let imported = imported.as_str().unwrap().to_owned();

    window.click("nav-chat").await;
    window.click("chat-models").await;
    window.click(&format!("chat-model-{imported}")).await;
    window.type_into("chat-input", "Say hello.").await;
    window.click("chat-send").await;
    for column in ["reply-0", "reply-1"] {
        let finished = format!(
            "return document.querySelector('[data-testid=\"{column}\"]')?.dataset.state === 'finished'"
        );
        window
            .wait(&format!("{column} is finished"), AFTER_WORK, &finished)
            .await;
    }
    window.picture("8-compare").await;
    window.close().await;
}

/// The engine is killed in the middle of a reply: the window says so, keeps the text, and answers again.
#[tokio::test]
async fn the_window_outlives_its_engine() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-chat").await;
    window
        .type_into(
            "chat-input",
            "Tell me everything about the history of bread.",
        )
        .await;
    window.click("chat-send").await;
    words_while_writing(&window).await;
    assert!(window.kill_engine() > 0, "no engine was running");
    window.wait_for("reply-error", SOON).await;
    window.picture("9-engine-killed").await;
    let message = window.text("reply-error").await;
    assert!(
        message.contains("engine process ended"),
        "the window says only {message:?}"
    );

    window.click("reply-try-again").await;
    words_while_writing(&window).await;
    window.click("chat-stop").await;
    wait_for_finish(&window, "finished").await;
    assert_eq!(
        window.count("reply-error").await,
        0,
        "the old error is still shown"
    );
    window.close().await;
}

/// A store that cannot be opened: the app says why in a dialog instead of dying silently.
#[test]
fn a_start_that_fails_says_why() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(
        data.path().join("billion"),
        "a file where the folder should be",
    )
    .unwrap();
    let display = Display::start();
    let says = data.path().join("says");
    let mut app = start_app(data.path(), &display, std::fs::File::create(&says).unwrap());
    std::thread::sleep(SOON / 4);
    let still_open = app.try_wait().unwrap().is_none();
    display.picture("cannot-start", None);
    end(&mut app);
    let said = std::fs::read_to_string(&says).unwrap();
    assert!(said.contains("Billion cannot start"), "said only: {said}");
    assert!(still_open, "the app ended before anyone could read why");
}

const VIEWS: [&str; 8] = [
    "scorecard",
    "models",
    "chat",
    "benchmarks",
    "finetune",
    "speculate",
    "results",
    "settings",
];

/// What lies further down in a view, and the name of its picture.
const PARTS: [(&str, &str); 4] = [
    ("scorecard-table", "table"),
    ("stored-charts", "stored"),
    ("questions", "questions"),
    ("run-facts", "facts"),
];

/// A picture in a small window and in a large one, scrolled to a part where one is named, with nothing cut off.
pub(crate) async fn pictures(window: &Window, name: &str, part: Option<&str>) {
    for (width, height) in [(1000, 700), (1600, 1000)] {
        window.resize(width, height).await;
        if let Some(part) = part {
            window
                .run(&format!(
                    "document.querySelector('[data-testid=\"{part}\"]').scrollIntoView()"
                ))
                .await;
        }
        window.picture(&format!("{name}-{width}")).await;
        nothing_is_cut_off(window, &format!("{name} at {width} x {height}")).await;
    }
}

/// No view cuts anything off, in a small window and in a large one; and a picture of each for the eye.
pub(crate) async fn look_at_every_view(window: &Window) {
    for theme in ["light", "dark"] {
        window.click("nav-settings").await;
        window.click(&format!("theme-{theme}")).await;
        for (width, height) in [(1000, 700), (1600, 1000)] {
            window.resize(width, height).await;
            for view in VIEWS {
                window.click(&format!("nav-{view}")).await;
                window.wait_for(&format!("view-{view}"), SOON).await;
                if view == "results" {
                    window
                        .run(
                            "[...document.querySelectorAll('[data-testid=\"results-list\"] button')]\
                             .find((run) => run.innerText.startsWith('MMLU')).click()",
                        )
                        .await;
                    window.wait_for("questions", SOON).await;
                }
                window.picture(&format!("{view}-{theme}-{width}")).await;
                nothing_is_cut_off(window, &format!("{view} at {width} x {height}")).await;
                for (part, picture) in PARTS {
                    if window.count(part).await == 0 {
                        continue;
                    }
                    window
                        .run(&format!(
                            "document.querySelector('[data-testid=\"{part}\"]').scrollIntoView()"
                        ))
                        .await;
                    window.picture(&format!("{picture}-{theme}-{width}")).await;
                }
            }
            window.click("nav-models").await;
            for page in ["guide", "runs", "lapses"] {
                window.click(&format!("models-page-{page}")).await;
                window
                    .picture(&format!("models-{page}-{theme}-{width}"))
                    .await;
                nothing_is_cut_off(window, &format!("models, {page}, at {width} x {height}")).await;
            }
            window.click("models-page-models").await;
            window.click("model-info-starter").await;
            window.wait_for("model-sha256", SOON).await;
            window.picture(&format!("model-info-{theme}-{width}")).await;
            window.click("dialog-close").await;
        }
    }
}

/// Nothing is wider than the box that holds it, but for what ends in dots or is there to be scrolled.
pub(crate) async fn nothing_is_cut_off(window: &Window, place: &str) {
    let cut = window
        .run(
            "return [...document.querySelectorAll('main, main *, nav, nav *')]\
             .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)\
             .filter((e) => !e.matches('input, textarea, select, pre, .sr-only') && !e.closest('svg'))\
             .filter((e) => getComputedStyle(e).overflowX !== 'visible')\
             .filter((e) => getComputedStyle(e).textOverflow !== 'ellipsis')\
             .map((e) => `${e.tagName}.${e.className}: ${e.scrollWidth} in ${e.clientWidth}: ${e.innerText}`)",
        )
        .await;
    assert_eq!(cut, serde_json::json!([]), "cut off in {place}");
    let page = "return document.scrollingElement.scrollHeight <= innerHeight && document.body.scrollHeight <= innerHeight";
    assert_eq!(
        window.run(page).await,
        true,
        "the page itself can be scrolled in {place}"
    );
}

/// Waits until the last reply is being written and has text; returns how long all of it is.
async fn words_while_writing(window: &Window) -> u64 {
    let writing = format!(
        "const r = {LAST_REPLY}; return r?.dataset.state === 'writing' \
         && r.querySelector('[data-testid=\"reply-text\"]').innerText.length > 10"
    );
    window
        .wait("the reply is being written", AFTER_WORK, &writing)
        .await;
    let length = window
        .run(&format!("return ({LAST_REPLY}).innerText.length"))
        .await;
    length.as_u64().unwrap_or_default()
}

pub(crate) async fn wait_for_finish(window: &Window, state: &str) {
    let finished = format!(
        "return ({LAST_REPLY})?.dataset.state === '{state}' \
         && document.querySelector('[data-testid=\"turn-live\"]') === null"
    );
    window
        .wait(&format!("the reply is {state}"), AFTER_WORK, &finished)
        .await;
}

/// A tiny random model of the engine's own tests.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("crates/llm/tests/fixtures")
        .join(name)
}
