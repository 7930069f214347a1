//! Pages of the hub in the person's browser: where a token is made, where a licence is accepted.
//!
//! The page of the window has no right to open anything. This command opens an address only if it lies on the hub over
//! https, which a plugin's fixed list could not say for a hub that `HF_ENDPOINT` names; so there is no opener plugin.

use std::process::{Command, Stdio};

use billion_workbench::api::ApiError;

/// The hub's own address, whose pages are always pages of the hub.
const HUB: &str = "https://huggingface.co";

/// Opens a page of the hub in the browser.
#[tauri::command]
#[specta::specta]
pub async fn open_page(url: String) -> Result<(), ApiError> {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_default();
    if !is_hub_page(&url, &endpoint) {
        return Err(ApiError::failed(format!(
            "{url} is no page of the hub, so Billion does not open it; copy the address instead"
        )));
    }
    open(&url)
}

/// Whether an address is a page of the hub: over https, below its host, and nothing but an address.
fn is_hub_page(url: &str, endpoint: &str) -> bool {
    let below = |host: &str| {
        let host = host.trim_end_matches('/');
        host.starts_with("https://")
            && url
                .strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let plain = url
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b":/?#&=%+,;@~._-".contains(&byte));
    plain && (below(HUB) || below(endpoint))
}

/// Hands an address to the program that the system opens pages with.
pub(super) fn open(url: &str) -> Result<(), ApiError> {
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut handler = Command::new("rundll32");
        handler.arg("url.dll,FileProtocolHandler");
        handler
    } else {
        Command::new("xdg-open")
    };
    let mut opener = command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            ApiError::failed(format!(
                "no browser could be opened ({error}); copy the address instead: {url}"
            ))
        })?;
    // It may last as long as the browser; somebody must take note of its end.
    std::thread::spawn(move || drop(opener.wait()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_hub_are_opened() {
        for page in [
            "https://huggingface.co/settings/tokens",
            "https://huggingface.co/meta-llama/Llama-3.2-1B?a=b&c=d#licence",
            "https://huggingface.co",
        ] {
            assert!(is_hub_page(page, ""), "{page}");
        }
        for other in [
            "http://huggingface.co/settings/tokens",
            "https://huggingface.co.example.org/",
            "https://huggingface.co@example.org/",
            "https://example.org/huggingface.co",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://huggingface.co/a b",
            "https://huggingface.co/\"; calc",
            "--help",
            "",
        ] {
            assert!(!is_hub_page(other, ""), "{other}");
        }
        let mirror = "https://hub.example.org/";
        assert!(is_hub_page(
            "https://hub.example.org/settings/tokens",
            mirror
        ));
        assert!(!is_hub_page("https://hub.example.org.evil/", mirror));
        // A hub without encryption is not opened.
        assert!(!is_hub_page("http://127.0.0.1:9/x", "http://127.0.0.1:9"));
    }
}
