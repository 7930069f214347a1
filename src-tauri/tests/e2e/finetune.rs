//! Fine-tuning in the real window: a dataset dropped, its columns named by hand, trained, watched, paused and gone on with,
//! its report card read, model and adapter asked side by side, the adapter exported.

use std::fmt::Write as _;
use std::path::Path;

use crate::harness::{AFTER_WORK, SOON, Window};
use crate::{pictures, wait_for_finish};

/// Rows whose columns no layout knows.
fn dataset(folder: &Path) -> std::path::PathBuf {
    let mut text = "frage,antwort\n".to_owned();
    for row in 1..=48 {
        let _ = writeln!(
            text,
            "What is the number of house {row}?,House {row} has number {}.",
            row * 37 % 101
        );
    }
    let path = folder.join("houses.csv");
    std::fs::write(&path, text).expect("a file in the folder of the test");
    path
}

/// Sets a field or a list as a person does.
async fn set(window: &Window, id: &str, value: &str) {
    window.wait_for(id, SOON).await;
    window
        .run(&format!(
            "const field = document.querySelector('[data-testid=\"{id}\"]');\
             field.value = '{value}';\
             field.dispatchEvent(new Event(field.tagName === 'SELECT' ? 'change' : 'input', {{ bubbles: true }}))"
        ))
        .await;
}

async fn state_is(window: &Window, state: &str) {
    let is = format!(
        "return document.querySelector('[data-testid=\"tune-run\"]')?.dataset.state === '{state}'"
    );
    window
        .wait(&format!("the training is {state}"), AFTER_WORK, &is)
        .await;
}

#[tokio::test]
async fn a_dropped_dataset_becomes_an_adapter_to_chat_with() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-finetune").await;
    window.wait_for("tune-sample", SOON).await;
    pictures(&window, "tune-1-empty", None).await;

    // Dropped anywhere, it leads here; no layout is known for its columns.
    window.click("nav-models").await;
    window.drop_file(&dataset(data.path())).await;
    window.wait_for("view-finetune", SOON).await;
    window.wait_for("tune-data-error", SOON).await;
    pictures(&window, "tune-2-columns", None).await;
    set(&window, "tune-layout", "question_answer").await;
    set(&window, "tune-map-prompt", "frage").await;
    set(&window, "tune-map-answer", "antwort").await;
    window.wait_for("tune-rows", SOON).await;
    let learnt = window
        .run("return document.querySelector('[data-testid=\"tune-row\"] [data-scored=\"true\"]').innerText")
        .await;
    let learnt = learnt.as_str().unwrap_or_default();
    assert!(
        learnt.contains("House 1 has number 37."),
        "the answer is what is learnt, but it says {learnt:?}"
    );
    let counts = window.text("tune-counts").await;
    assert!(counts.contains("48"), "{counts}");

    set(&window, "tune-epochs", "6").await;
    set(&window, "tune-lr", "0.001").await;
    window.wait_for("forecast-time", AFTER_WORK).await;
    let memory = window.text("forecast-memory").await;
    assert!(memory.contains("GB"), "{memory}");
    pictures(&window, "tune-3-ready", None).await;
    pictures(&window, "tune-4-forecast", Some("tune-forecast")).await;

    // Watched, paused, gone on with.
    window.click("tune-start").await;
    window.wait_for("tune-live", SOON).await;
    let gets_on = "return /^[3-9]|^[1-9][0-9]/.test(\
                   [...document.querySelectorAll('[data-testid=\"tune-figures\"] dd')][0]?.innerText)";
    window
        .wait("some steps are done", AFTER_WORK, gets_on)
        .await;
    window.wait_for("chart", AFTER_WORK).await;
    pictures(&window, "tune-5-live", None).await;
    window.click("tune-pause").await;
    state_is(&window, "paused").await;
    let kept = "return document.querySelector('[data-testid=\"tune-kept\"]')?.innerText.includes('goes on after step')";
    window.wait("it says where it goes on", SOON, kept).await;
    pictures(&window, "tune-6-paused", None).await;
    window.click("tune-resume").await;
    state_is(&window, "done").await;

    // The report card.
    window.wait_for("tune-report", SOON).await;
    let verdicts = window.text("tune-verdicts").await;
    assert!(
        verdicts.contains("It helped") && verdicts.contains("word for word"),
        "{verdicts}"
    );
    let answers = window
        .run("return document.querySelectorAll('[data-testid=\"tune-answers\"] tbody tr').length")
        .await;
    assert!(answers.as_u64().is_some_and(|rows| rows >= 4), "{answers}");
    for theme in ["dark", "light"] {
        window.click("nav-settings").await;
        window.click(&format!("theme-{theme}")).await;
        window.click("nav-finetune").await;
        window.wait_for("tune-report", SOON).await;
        pictures(&window, &format!("tune-7-report-{theme}"), None).await;
        pictures(
            &window,
            &format!("tune-8-answers-{theme}"),
            Some("tune-report"),
        )
        .await;
    }

    // Out into the world.
    let folder = data.path().join("exported");
    window.answer_open_dialog(&folder).await;
    window.click("tune-export").await;
    window.wait_for("tune-exported", SOON).await;
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    window.click("tune-result").await;
    window.wait_for("run-details", SOON).await;
    let headline = window.text("run-details").await;
    assert!(headline.contains("held-out loss"), "{headline}");
    window.picture("tune-9-result").await;

    // Before and after, side by side.
    window.click("nav-finetune").await;
    window.click("tune-chat").await;
    window
        .type_into("chat-input", "What is the number of house 1?")
        .await;
    window.click("chat-send").await;
    window.wait_for("reply-1", AFTER_WORK).await;
    wait_for_finish(&window, "finished").await;
    let tuned = window.text("reply-1").await;
    assert!(
        tuned.contains("House 1 has number"),
        "the tuned model says {tuned:?}"
    );
    window.picture("tune-10-chat").await;
    window.close().await;
}
