//! One secret in the system's keychain: Keychain Services on macOS, Credential Manager on Windows, the Secret Service
//! (GNOME Keyring, KWallet, KeePassXC) elsewhere.
//!
//! A keychain may be missing, locked, or wait for a person, so it is asked on a thread of its own and given up after a
//! while. What is kept in it is `account`'s business.

use std::sync::mpsc;
use std::time::Duration;

/// For reading: a request waits for it.
const READ: Duration = Duration::from_secs(3);

/// For saving and removing: a person may be asked for the keychain's password.
const WRITE: Duration = Duration::from_mins(1);

/// Under which name the secret is kept, with the hub's address.
const SERVICE: &str = "Billion";

/// Keeps one secret. Errors say in a few words why it cannot.
pub trait Keychain: std::fmt::Debug + Send + Sync {
    /// The secret; none if there is none.
    fn read(&self) -> Result<Option<String>, String>;
    /// Puts it in the place of the last one.
    fn write(&self, secret: &str) -> Result<(), String>;
    /// Removes it, if it is there.
    fn remove(&self) -> Result<(), String>;
}

/// The keychain of this system and account.
#[derive(Debug)]
pub(crate) struct SystemKeychain {
    endpoint: String,
}

impl SystemKeychain {
    /// Each hub has its own secret: a mirror is never given that of another.
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
        }
    }

    fn on_entry<T: Send + 'static>(
        &self,
        longest: Duration,
        act: impl FnOnce(&keyring::Entry) -> keyring::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let endpoint = self.endpoint.clone();
        within(longest, move || {
            keyring::Entry::new(SERVICE, &endpoint).and_then(|entry| act(&entry))
        })?
        .map_err(|error| words(&error))
    }
}

impl Keychain for SystemKeychain {
    fn read(&self) -> Result<Option<String>, String> {
        self.on_entry(READ, |entry| match entry.get_password() {
            Ok(secret) => Ok(Some(secret)),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn write(&self, secret: &str) -> Result<(), String> {
        let secret = secret.to_owned();
        self.on_entry(WRITE, move |entry| entry.set_password(&secret))
    }

    fn remove(&self) -> Result<(), String> {
        self.on_entry(WRITE, |entry| match entry.delete_credential() {
            Err(keyring::Error::NoEntry) => Ok(()),
            result => result,
        })
    }
}

/// What `act` gives, if it does so in time. Else its thread is left behind: nothing can end a call to the system.
fn within<T: Send + 'static>(
    longest: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new()
        .name("keychain".to_owned())
        .spawn(move || {
            // Nobody listens any more if it was too late.
            let _ = tell.send(act());
        })
        .map_err(|error| error.to_string())?;
    told.recv_timeout(longest).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => {
            format!("it did not answer in {} s", longest.as_secs())
        }
        mpsc::RecvTimeoutError::Disconnected => "it failed".to_owned(),
    })
}

fn words(error: &keyring::Error) -> String {
    match error {
        keyring::Error::NoDefaultStore => match keyring::Entry::store_status() {
            Err(cause) => format!("none is running: {}", one_line(&cause.to_string())),
            Ok(()) => "none is running".to_owned(),
        },
        keyring::Error::NoStorageAccess(_) => "it is locked".to_owned(),
        other => one_line(&other.to_string()),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_given_up_and_what_fails_too() {
        let quick = Duration::from_millis(20);
        assert_eq!(within(WRITE, || 7), Ok(7));
        let hangs = within(quick, || std::thread::sleep(Duration::from_secs(2)));
        assert!(hangs.expect_err("too slow").contains("did not answer"));
        let fails = within(WRITE, || panic!("as a library might"));
        assert_eq!(fails, Err::<(), _>("it failed".to_owned()));
    }
}
