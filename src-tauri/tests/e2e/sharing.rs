//! The machine is shared between programs: while another program of Billion measures speed, a chat in the window waits
//! and says for what, and answers after it.

use std::path::Path;
use std::process::Stdio;

use crate::harness::{AFTER_WORK, SOON, Window, command_line_tool, end};
use crate::{LAST_REPLY, wait_for_finish};

/// The command line measures speed over the same data; the window's chat waits for it.
#[tokio::test]
async fn a_chat_waits_for_a_measurement_of_another_program_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.click("nav-chat").await;
    window
        .type_into("chat-input", "What is the capital of France?")
        .await;

    // Enough repeats that it is still at work when the chat is sent, however fast the machine; it is ended afterwards.
    let mut measurement = command_line_tool(data.path())
        .args(["bench", "speed", "--model", "starter", "--json"])
        .args(["--prompt", "64", "--gen", "32", "--repeat", "100000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    window
        .wait(
            "the tray shows the other program's measurement at work",
            AFTER_WORK,
            "return document.querySelector('[data-testid=\"job-tray\"] [data-state=\"running\"]') !== null",
        )
        .await;
    // It holds the machine as soon as its model is loaded.
    let holds = std::time::Instant::now();
    while lease_words(data.path()).is_empty() {
        assert!(
            holds.elapsed() < AFTER_WORK,
            "the measurement takes no lease"
        );
        tokio::time::sleep(SOON / 100).await;
    }

    window.click("chat-send").await;
    let waits = format!(
        "return /waits: .* has the machine to itself/i.test(({LAST_REPLY})?.innerText ?? '')"
    );
    window
        .wait("the chat says that it waits, and for what", SOON, &waits)
        .await;
    window.picture("30-chat-waits").await;
    tokio::time::sleep(SOON / 10).await;
    assert!(
        measurement.try_wait().unwrap().is_none(),
        "the measurement ended by itself"
    );
    let still = window.run(&waits).await;
    assert_eq!(
        still, true,
        "the chat did not wait until the measurement was over"
    );

    end(&mut measurement);
    wait_for_finish(&window, "finished").await;
    let reply = window
        .run(&format!("return ({LAST_REPLY}).innerText"))
        .await;
    assert!(
        reply.as_str().unwrap_or_default().contains("Paris"),
        "the reply after the wait is {reply:?}"
    );
    window.picture("31-chat-answers").await;
    window.close().await;
}

/// What holds the machine, as the lease tells those who wait; empty while nothing does.
fn lease_words(data: &Path) -> String {
    std::fs::read_to_string(data.join("billion/billion.lease")).unwrap_or_default()
}
