//! Models of the hub in the real window, against the loopback hub of `billion-hub`'s own tests: downloaded with a pause and
//! a quit in between, refused at the gate until token and licence are there, and used in Chat.

use crate::harness::{AFTER_WORK, SOON, Window};
use crate::loopback::{Access, HubServer, bytes_below, padded};
use crate::{LAST_REPLY, fixture, wait_for_finish};

const OPEN: &str = "tinyllama-1.1b-chat";
const OPEN_REPO: &str = "models/TinyLlama/TinyLlama-1.1B-Chat-v1.0";
const GATED: &str = "llama-3.2-1b-instruct";
const GATED_REPO: &str = "models/meta-llama/Llama-3.2-1B-Instruct";
const PAGE: &str = "meta-llama/Llama-3.2-1B-Instruct";

/// What is added to the tiny model, so that there is time to press buttons while it comes.
const PADDING: usize = 24 << 20;
/// Slow enough for a pause and a quit, on each of the connections.
const SLOW_BYTES_PER_S: u64 = 400_000;

/// A download is paused, gone on with, left by closing the window, finished by the next start, and answers in Chat.
#[tokio::test]
async fn a_model_is_downloaded_over_a_pause_and_a_quit_and_answers() {
    let data = tempfile::tempdir().unwrap();
    let hub = HubServer::start();
    put_model(&hub, OPEN_REPO, PADDING);
    hub.fault(|fault| fault.bytes_per_s = Some(SLOW_BYTES_PER_S));
    let environment = [("HF_ENDPOINT", hub.endpoint.as_str())];

    let window = Window::open_with(data.path(), &environment).await;
    window.click("nav-models").await;
    window.wait_for(&card(OPEN), SOON).await;
    window.picture("20-catalogue").await;
    window.click(&format!("download-start-{OPEN}")).await;
    comes(&window).await;
    window.picture("21-downloading").await;
    // The rate is known once it was looked at twice.
    let tells = format!(
        "const figures = document.querySelector('[data-testid=\"download-figures-{OPEN}\"]')?.innerText ?? ''; \
         return figures.includes('B of') && figures.includes('/s')"
    );
    window
        .wait("the card tells bytes and rate", SOON, &tells)
        .await;

    window.click(&format!("download-pause-{OPEN}")).await;
    download_is(&window, "paused").await;
    let paused = window.text(&format!("download-figures-{OPEN}")).await;
    assert!(paused.contains("Paused"), "the card tells only {paused:?}");
    hub.sent();
    tokio::time::sleep(SOON / 20).await;
    assert_eq!(hub.sent_so_far(), 0, "a paused download goes on");
    window.picture("22-paused").await;

    window.click(&format!("download-resume-{OPEN}")).await;
    download_is(&window, "running").await;
    comes(&window).await;
    window.close().await;

    // What the closed window had asked for is sent no more, or it would be sent at full speed into the void below.
    let mut whole = hub.sent_so_far();
    loop {
        tokio::time::sleep(SOON / 20).await;
        let now = hub.sent_so_far();
        if now == whole {
            break;
        }
        whole = now;
    }

    // The next start goes on, with what came before.
    hub.fault(|fault| fault.bytes_per_s = None);
    let window = Window::open_with(data.path(), &environment).await;
    window.click("nav-models").await;
    window.wait_for(&card(OPEN), SOON).await;
    window
        .wait(
            "the download goes on by itself or by a press, and ends",
            AFTER_WORK,
            &format!(
                "document.querySelector('[data-testid=\"download-resume-{OPEN}\"]')?.click(); \
                 return document.querySelector('[data-testid=\"model-chat-{OPEN}\"]') !== null"
            ),
        )
        .await;
    window.picture("23-downloaded").await;
    assert!(
        whole > 0 && hub.sent_so_far() < whole + PADDING as u64 + (2 << 20),
        "it was fetched anew: {} bytes after {whole}",
        hub.sent_so_far()
    );
    window.click(&format!("model-chat-{OPEN}")).await;
    answers(&window).await;
    window.picture("24-answers").await;
    window.close().await;
}

/// The gate says what is missing, with the page that mends it: first a token, then the licence. Then the model comes.
#[tokio::test]
async fn a_gated_model_comes_once_token_and_licence_are_there() {
    let data = tempfile::tempdir().unwrap();
    let hub = HubServer::start();
    put_model(&hub, GATED_REPO, 0);
    hub.gate(GATED_REPO);
    hub.account("hf_ofAda", "ada");
    let window = Window::open_with(data.path(), &[("HF_ENDPOINT", hub.endpoint.as_str())]).await;
    window.click("nav-models").await;
    window.click(&format!("download-start-{GATED}")).await;
    stands_at_gate(&window, "needs_token", "/settings/tokens").await;
    window.picture("25-needs-token").await;

    window.type_into("gate-token", "hf_ofNobody").await;
    window.click("gate-token-save").await;
    window.wait_for("gate-token-error", SOON).await;
    window
        .run("document.querySelector('[data-testid=\"gate-token\"]').select()")
        .await;
    window.type_into("gate-token", "hf_ofAda").await;
    window.click("gate-token-save").await;
    stands_at_gate(&window, "licence_not_accepted", PAGE).await;
    window.picture("26-licence").await;

    hub.answer(GATED_REPO, "hf_ofAda", Access::Denied);
    window.click(&format!("download-again-{GATED}")).await;
    stands_at_gate(&window, "access_denied", PAGE).await;

    hub.answer(GATED_REPO, "hf_ofAda", Access::Granted);
    window.click(&format!("download-again-{GATED}")).await;
    window
        .wait_for(&format!("model-chat-{GATED}"), AFTER_WORK)
        .await;

    // The token is the account's, and lies where Settings say.
    window.click("nav-settings").await;
    window.click("hub-token-check").await;
    let state = "return document.querySelector('[data-testid=\"hub-token-state\"]')?.innerText.includes(\"ada's\") === true";
    window
        .wait("Settings say whose the token is", SOON, state)
        .await;
    window.picture("27-token").await;
    let page = window.run("return document.body.innerText").await;
    assert!(
        !page.as_str().unwrap_or_default().contains("hf_ofAda"),
        "the token is shown"
    );
    window.click("nav-models").await;
    window.click(&format!("model-chat-{GATED}")).await;
    answers(&window).await;
    window.close().await;
}

/// A repository is found by its address, and its file becomes a model; cancelling another leaves nothing behind.
#[tokio::test]
async fn a_repository_is_found_and_a_cancelled_download_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let hub = HubServer::start();
    let gguf = std::fs::read(fixture("gqa.gguf")).unwrap();
    hub.put("models/someone/tiny-gguf", "tiny.Q8_0.gguf", gguf);
    put_model(&hub, OPEN_REPO, PADDING);
    let window = Window::open_with(data.path(), &[("HF_ENDPOINT", hub.endpoint.as_str())]).await;
    window.click("nav-models").await;
    window.type_into("hub-search", "someone/tiny-gguf").await;
    window.click("hub-search-go").await;
    window.wait_for("hub-found", SOON).await;
    window.picture("28-found").await;
    let start = "[...document.querySelectorAll('[data-testid=\"hub-found\"] [data-testid^=\"download-start-\"]')]";
    window
        .wait(
            "the file can be fetched",
            SOON,
            &format!("const [start] = {start}; start?.click(); return start !== undefined"),
        )
        .await;
    window
        .wait(
            "the file is a model",
            AFTER_WORK,
            "return document.querySelector('[data-testid=\"hub-found\"]').innerText.includes('on this machine')",
        )
        .await;

    hub.fault(|fault| fault.bytes_per_s = Some(SLOW_BYTES_PER_S));
    window.click(&format!("download-start-{OPEN}")).await;
    comes(&window).await;
    window.click(&format!("download-cancel-{OPEN}")).await;
    window
        .wait_for(&format!("download-start-{OPEN}"), SOON)
        .await;
    let left = bytes_below(&data.path().join("hub"));
    assert!(
        left < 4 << 20,
        "{left} bytes are left of a cancelled download"
    );
    window.close().await;
}

fn card(model: &str) -> String {
    format!("model-card-{model}")
}

/// Waits until some of the download has come.
async fn comes(window: &Window) {
    let some = format!(
        "const bar = document.querySelector('[data-testid=\"download-{OPEN}\"] progress'); \
         return bar !== null && bar.max > 1 && bar.value > bar.max / 50"
    );
    window
        .wait("some of the model has come", AFTER_WORK, &some)
        .await;
}

async fn download_is(window: &Window, state: &str) {
    let is = format!(
        "return document.querySelector('[data-testid=\"download-{OPEN}\"]')?.dataset.state === '{state}'"
    );
    window
        .wait(&format!("the download is {state}"), SOON, &is)
        .await;
}

/// Waits until the card shows this gate, and its link.
async fn stands_at_gate(window: &Window, code: &str, page: &str) {
    let there = format!(
        "const note = document.querySelector('[data-testid=\"download-error\"]'); \
         return note?.dataset.code === '{code}' \
         && (note.querySelector('[data-testid=\"error-link\"]')?.dataset.url ?? '').includes('{page}')"
    );
    window
        .wait(
            &format!("the card says {code} and links to {page}"),
            SOON,
            &there,
        )
        .await;
}

/// Says something to the model that was just chosen, and waits for its answer.
async fn answers(window: &Window) {
    window.type_into("chat-input", "Hello.").await;
    window.click("chat-send").await;
    window
        .wait(
            "the reply has begun",
            AFTER_WORK,
            &format!("return ({LAST_REPLY}) !== undefined"),
        )
        .await;
    wait_for_finish(window, "finished").await;
    let stats = window.text("reply-stats").await;
    assert!(stats.contains("tok"), "the reply tells only {stats:?}");
}

/// Serves the tiny Llama of the engine's tests under a known name, made larger by a tensor that no layer asks for.
fn put_model(hub: &HubServer, repo: &str, padding: usize) {
    let folder = fixture("gqa");
    hub.put_folder(repo, &folder);
    let weights =
        std::fs::read(folder.join("model.safetensors")).expect("a fixture of this repository");
    hub.put(repo, "model.safetensors", padded(&weights, padding));
}
