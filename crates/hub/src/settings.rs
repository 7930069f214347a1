//! Where the hub is, where its files lie on this machine, who asks, and how patient to be: as Python's huggingface_hub
//! finds them, so that both share one cache and one token.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The public hub.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Where and as whom to ask.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Address without a slash at its end.
    pub endpoint: String,
    /// The cache folder (`hub` in `HF_HOME`).
    pub cache: PathBuf,
    /// The environment's (`HF_TOKEN`), which wins over a saved one. A token is sent to the endpoint alone, never to where
    /// it redirects.
    pub token: Option<String>,
    /// Where Python tools keep a token; read where neither the environment nor the keychain has one.
    pub token_file: Option<PathBuf>,
    /// A token may lie in the system's keychain (`BILLION_KEYCHAIN=off` says no).
    pub keychain: bool,
    /// Answer from the cache alone (`HF_HUB_OFFLINE`).
    pub offline: bool,
}

impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("token_file", &self.token_file)
            .field("keychain", &self.keychain)
            .field("offline", &self.offline)
            .finish()
    }
}

/// Whether a text can be a token: anything else would end the header it is sent in.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=1000).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

impl HubSettings {
    /// A hub that is asked without a token.
    pub fn new(endpoint: &str, cache: PathBuf) -> Self {
        Self {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            cache,
            token: None,
            token_file: None,
            keychain: false,
            offline: false,
        }
    }

    /// The settings of this process.
    pub fn of_process() -> Self {
        Self::from_variables(
            |name| std::env::var(name).ok(),
            &dirs::home_dir().unwrap_or_default(),
        )
    }

    /// `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, and the older names that
    /// huggingface_hub 2.4 still reads (its `constants.py` and `utils/_auth.py`); and `BILLION_KEYCHAIN`.
    fn from_variables(variable: impl Fn(&str) -> Option<String>, user: &Path) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let place = |value: String| match value.strip_prefix("~/") {
            Some(rest) => user.join(rest),
            None => PathBuf::from(value),
        };
        let hf_folder = set("HF_HOME").map_or_else(
            || {
                set("XDG_CACHE_HOME")
                    .map_or_else(|| user.join(".cache"), place)
                    .join("huggingface")
            },
            place,
        );
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .map(|token| token.trim().to_owned())
            .filter(|token| is_token(token));
        let cache = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| hf_folder.join("hub"), place);
        let token_file = set("HF_TOKEN_PATH").map_or_else(
            || hf_hub::Cache::new(hf_folder.join("hub")).token_path(),
            place,
        );
        Self {
            token,
            token_file: Some(token_file),
            keychain: !set("BILLION_KEYCHAIN").is_some_and(|value| {
                matches!(value.to_ascii_uppercase().as_str(), "0" | "OFF" | "NO")
            }),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .iter()
                .filter_map(|name| set(name))
                .any(|value| {
                    matches!(
                        value.to_ascii_uppercase().as_str(),
                        "1" | "ON" | "YES" | "TRUE"
                    )
                }),
            ..Self::new(
                &set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
                cache,
            )
        }
    }
}

/// How patient and how parallel to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at once for a large file.
    pub connections: usize,
    /// What one request asks for; a smaller file takes one connection.
    pub piece_bytes: u64,
    /// Received bytes are recorded as kept this often.
    pub record_bytes: u64,
    /// And are made to survive a power cut this often, or every second.
    pub sync_bytes: u64,
    /// For a connection to come about, and for an answer to begin.
    pub answer: Duration,
    /// For more bytes to come.
    pub silence: Duration,
    /// Failures in a row without a byte received before giving up.
    pub tries: u32,
    /// Wait after the first failure; it doubles with each.
    pub first_wait: Duration,
    /// The longest wait that is not the server's own wish.
    pub longest_wait: Duration,
    /// The longest wait a server may wish for.
    pub longest_wish: Duration,
    /// Least time between two reports of progress.
    pub report: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4,
            piece_bytes: 16 << 20,
            record_bytes: 1 << 20,
            sync_bytes: 128 << 20,
            answer: Duration::from_secs(20),
            silence: Duration::from_secs(30),
            tries: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            longest_wish: Duration::from_mins(10),
            report: Duration::from_millis(100),
        }
    }
}

impl Limits {
    /// The wait after the `failures`-th failure in a row (from 1): doubling, with between half and all of it drawn by
    /// `chance` (0 to 1), so that many programs do not come back at once.
    pub(crate) fn wait(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self
            .first_wait
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled
            .min(self.longest_wait)
            .mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// A number from 0 to 1 that no other process draws.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};

    let drawn = std::hash::RandomState::new().build_hasher().finish();
    drawn as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], user: &Path) -> HubSettings {
        HubSettings::from_variables(
            |name| {
                variables
                    .iter()
                    .find(|(set, _)| *set == name)
                    .map(|(_, value)| (*value).to_owned())
            },
            user,
        )
    }

    #[test]
    fn the_cache_and_the_token_are_where_python_finds_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let user = dir.path();
        let plain = settings(&[], user);
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, user.join(".cache/huggingface/hub"));
        assert_eq!((plain.token, plain.offline), (None, false));
        let file = user.join(".cache/huggingface/token");
        assert_eq!((plain.token_file, plain.keychain), (Some(file), true));

        let moved = settings(
            &[
                ("HF_ENDPOINT", "http://localhost:8000/"),
                ("HF_HOME", "~/elsewhere"),
                ("HF_TOKEN", " hf_variable "),
                ("HF_HUB_OFFLINE", "yes"),
                ("BILLION_KEYCHAIN", "off"),
            ],
            user,
        );
        assert_eq!(moved.endpoint, "http://localhost:8000");
        assert_eq!(moved.cache, user.join("elsewhere/hub"));
        assert_eq!(moved.token.as_deref(), Some("hf_variable"));
        assert!(moved.offline && !moved.keychain);
        assert_eq!(moved.token_file, Some(user.join("elsewhere/token")));
        assert!(!format!("{moved:?}").contains("hf_variable"));

        let apart = settings(
            &[
                ("HF_HOME", "/nowhere"),
                ("HF_HUB_CACHE", "/cache"),
                ("HF_TOKEN_PATH", "~/secret"),
            ],
            user,
        );
        assert_eq!(apart.cache, Path::new("/cache"));
        assert_eq!(apart.token_file, Some(user.join("secret")));
        assert_eq!(settings(&[("HF_TOKEN", "two\nlines")], user).token, None);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let limits = Limits {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(10),
            ..Limits::default()
        };
        let waits: Vec<f64> = (1..=6).map(|n| limits.wait(n, 1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(limits.wait(2, 0.0), Duration::from_secs(1));
        assert_eq!(limits.wait(u32::MAX, 0.0), Duration::from_secs(5));
        let drawn: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(drawn.iter().all(|x| (0.0..=1.0).contains(x)));
        assert!(drawn.iter().any(|x| (x - drawn[0]).abs() > 1e-6));
    }
}
