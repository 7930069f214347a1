//! Who asks the hub: the token of the environment, of the system's keychain or of the file that Python tools use; saving
//! one, forgetting it, and asking the hub whose it is.
//!
//! It never gives a token out, only its end. Where it may be sent is `http`'s business. The keychain itself is `keychain`.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::Error;
use crate::client::Hub;
use crate::http::Subject;
use crate::keychain::{Keychain, SystemKeychain};
use crate::repo::{RepoId, RepoKind};
use crate::settings::{HubSettings, is_token};
use crate::transfer::Control;

/// The keychain's answer is good for this long: another program may save a token, and one that hangs is not asked at
/// every request.
const ANSWER_FOR: Duration = Duration::from_mins(1);

/// Where a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// There is none.
    Nowhere,
    /// `HF_TOKEN`, or given by the program.
    Environment,
    /// The system's keychain.
    Keychain,
    /// The token file that Python tools use as well.
    File,
}

/// The person's account on the hub, as far as this machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Address of the hub.
    pub endpoint: String,
    /// Where the token comes from.
    pub place: TokenPlace,
    /// Its last characters, to tell one from another: "…x3Qf".
    pub token_end: Option<String>,
    /// Whose it is; none until the hub was asked (`Hub::check_account`, `Hub::save_token`).
    pub user: Option<String>,
    /// What a person should know: where it lies and who may read it, which one wins, what is wrong with the keychain.
    pub note: Option<String>,
    /// Page where tokens are made.
    pub tokens_page: String,
}

/// What the keychain said, and when.
type Answer = (Instant, Result<Option<String>, String>);

/// The keychain and its last answer; shared by the clones of a hub.
pub(crate) struct Tokens {
    keychain: Option<Arc<dyn Keychain>>,
    answer: Mutex<Option<Answer>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("keychain", &self.keychain)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(settings: &HubSettings) -> Self {
        let system = || Arc::new(SystemKeychain::new(&settings.endpoint)) as Arc<dyn Keychain>;
        Self::of(settings.keychain.then(system))
    }

    pub(crate) fn of(keychain: Option<Arc<dyn Keychain>>) -> Self {
        Self {
            keychain,
            answer: Mutex::new(None),
        }
    }

    /// The keychain's token; none where there is no keychain.
    fn of_keychain(&self) -> Result<Option<String>, String> {
        let Some(keychain) = &self.keychain else {
            return Ok(None);
        };
        // Held while it is asked, so that a slow one is asked once.
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, said)) = &*answer
            && at.elapsed() < ANSWER_FOR
        {
            return said.clone();
        }
        let said = keychain
            .read()
            .map(|token| token.filter(|token| is_token(token)));
        *answer = Some((Instant::now(), said.clone()));
        said
    }

    fn forget_answer(&self) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The token in force.
struct InForce {
    token: Option<String>,
    place: TokenPlace,
    /// Why the keychain cannot be used.
    trouble: Option<String>,
}

/// `/api/whoami-v2`, the field that is used.
#[derive(Deserialize)]
struct ApiWho {
    name: String,
}

impl Hub {
    /// A hub with a keychain of its own kind.
    #[must_use]
    pub fn with_keychain(mut self, keychain: Arc<dyn Keychain>) -> Self {
        self.tokens = Arc::new(Tokens::of(Some(keychain)));
        self
    }

    /// The account as this machine knows it; the hub is not asked.
    pub fn account(&self) -> Account {
        self.describe(&self.in_force(), None)
    }

    /// The account, with the name that the hub knows it by. `Error::BadToken` if the hub does not know the token;
    /// without one, what `account` says.
    pub fn check_account(&self, control: &Control) -> Result<Account, Error> {
        let in_force = self.in_force();
        let Some(token) = &in_force.token else {
            return Ok(self.describe(&in_force, None));
        };
        let user = self.whose(token, control)?;
        Ok(self.describe(&in_force, Some(user)))
    }

    /// Asks the hub whose the token is, and saves it: in the system's keychain, or where there is none that answers, in
    /// the token file, readable by this account alone; `Account::note` says which. A token that the hub does not know is
    /// not saved; one that it could not be asked about is.
    pub fn save_token(&self, token: &str, control: &Control) -> Result<Account, Error> {
        let token = token.trim();
        if !is_token(token) {
            return Err(Error::NoToken {
                tokens: self.tokens_page(),
            });
        }
        let user = match self.whose(token, control) {
            Ok(user) => Some(user),
            Err(error @ (Error::BadToken { .. } | Error::Cancelled | Error::Stopped { .. })) => {
                return Err(error);
            }
            Err(_) => None,
        };
        let kept = self
            .tokens
            .keychain
            .as_ref()
            .map(|keychain| keychain.write(token));
        if !matches!(kept, Some(Ok(()))) {
            let trouble = kept.and_then(Result::err);
            let Some(file) = &self.settings.token_file else {
                return Err(Error::NoPlaceForToken {
                    trouble: trouble.unwrap_or_else(|| "it is switched off".to_owned()),
                });
            };
            write_private(file, token)?;
        }
        self.tokens.forget_answer();
        let in_force = self.in_force();
        let unchecked = user.is_none();
        let mut account = self.describe(&in_force, user);
        if in_force.token.as_deref() != Some(token) {
            account.user = None;
        } else if unchecked {
            let more = "the hub could not be asked whose it is";
            account.note = Some(match account.note {
                Some(note) => format!("{note}; {more}"),
                None => more.to_owned(),
            });
        }
        Ok(account)
    }

    /// Removes the token that is in force from the keychain and from the token file, and gives what is known then. A
    /// token of the environment stays in force, and another one that lies in the file comes into force.
    pub fn forget_token(&self) -> Result<Account, Error> {
        let saved = self.saved();
        if let Some(keychain) = &self.tokens.keychain
            && saved.place == TokenPlace::Keychain
        {
            keychain
                .remove()
                .map_err(|trouble| Error::Keychain { trouble })?;
        }
        if let Some(file) = &self.settings.token_file
            && saved.token.is_some()
            && saved.token == read_token(file)
        {
            std::fs::remove_file(file).map_err(Error::io("remove", file))?;
        }
        self.tokens.forget_answer();
        Ok(self.account())
    }

    /// The settings with the token in force, to ask with.
    pub(crate) fn asking(&self) -> HubSettings {
        HubSettings {
            token: self.in_force().token,
            ..self.settings.clone()
        }
    }

    fn in_force(&self) -> InForce {
        if let Some(token) = &self.settings.token {
            return InForce {
                token: Some(token.clone()),
                place: TokenPlace::Environment,
                trouble: None,
            };
        }
        self.saved()
    }

    /// The token that was saved, whatever the environment says.
    fn saved(&self) -> InForce {
        let (of_keychain, trouble) = match self.tokens.of_keychain() {
            Ok(token) => (token, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let (token, place) = match of_keychain {
            Some(token) => (Some(token), TokenPlace::Keychain),
            None => match self.settings.token_file.as_deref().and_then(read_token) {
                Some(token) => (Some(token), TokenPlace::File),
                None => (None, TokenPlace::Nowhere),
            },
        };
        InForce {
            token,
            place,
            trouble,
        }
    }

    fn tokens_page(&self) -> String {
        format!("{}/settings/tokens", self.settings.endpoint)
    }

    fn describe(&self, in_force: &InForce, user: Option<String>) -> Account {
        Account {
            endpoint: self.settings.endpoint.clone(),
            place: in_force.place,
            token_end: in_force.token.as_deref().map(end),
            user,
            note: self.note(in_force),
            tokens_page: self.tokens_page(),
        }
    }

    fn note(&self, in_force: &InForce) -> Option<String> {
        let file = self.settings.token_file.as_deref();
        let trouble = in_force
            .trouble
            .as_ref()
            .map(|trouble| format!("the system's keychain cannot be used ({trouble})"));
        match (in_force.place, file) {
            (TokenPlace::Environment, _) => {
                Some("HF_TOKEN is set, and wins over a token that is saved".to_owned())
            }
            (TokenPlace::Keychain, _) => None,
            (TokenPlace::File, Some(file)) => {
                let readers = if others_may_read(file) {
                    format!(
                        "other accounts of this machine may read it: chmod 600 {} mends that",
                        file.display()
                    )
                } else {
                    "which this account alone may read".to_owned()
                };
                let place = format!(
                    "the token lies unencrypted in {}, {readers}",
                    file.display()
                );
                Some(match trouble {
                    Some(trouble) => format!("{trouble}, so {place}"),
                    None => format!("{place}; Python tools use it as well"),
                })
            }
            (TokenPlace::File | TokenPlace::Nowhere, None) => trouble,
            (TokenPlace::Nowhere, Some(file)) => trouble.map(|trouble| {
                format!(
                    "{trouble}; a token would be saved unencrypted in {}",
                    file.display()
                )
            }),
        }
    }

    /// Name of the account that a token is of.
    fn whose(&self, token: &str, control: &Control) -> Result<String, Error> {
        let settings = HubSettings {
            token: Some(token.to_owned()),
            ..self.settings.clone()
        };
        let nothing = RepoId {
            kind: RepoKind::Model,
            id: "the account".to_owned(),
        };
        let subject = Subject {
            repo: &nothing,
            revision: "",
            file: None,
        };
        let address = format!("{}/api/whoami-v2", settings.endpoint);
        match self.ask_as::<ApiWho>(&settings, &address, subject, control) {
            Ok((who, _)) => Ok(who.name.chars().take(100).collect()),
            // Whatever words it has for it, here a refusal is one of the token.
            Err(Error::NoRepository { .. } | Error::Gated { .. }) => Err(Error::BadToken {
                tokens: self.tokens_page(),
            }),
            Err(error) => Err(error),
        }
    }
}

/// "…x3Qf", and of a short one nothing.
fn end(token: &str) -> String {
    let end = if token.len() >= 12 {
        &token[token.len() - 4..]
    } else {
        ""
    };
    format!("…{end}")
}

fn read_token(file: &Path) -> Option<String> {
    let token = std::fs::read_to_string(file).ok()?.trim().to_owned();
    is_token(&token).then_some(token)
}

/// Writes a file that this account alone may read, in the place of another.
fn write_private(file: &Path, text: &str) -> Result<(), Error> {
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let folder = file.parent().unwrap_or(file);
    std::fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    let _ = std::fs::remove_file(&fresh);
    let written = options
        .open(&fresh)
        .and_then(|mut open| {
            open.write_all(text.as_bytes())?;
            open.sync_all()
        })
        .and_then(|()| std::fs::rename(&fresh, file));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&fresh);
        Error::io("write", file)(error)
    })
}

#[cfg(unix)]
fn others_may_read(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

/// Elsewhere a person's folder is theirs alone.
#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_tokens_tell_no_more_than_needed() {
        assert_eq!(end("hf_abcdefghijklmnop"), "…mnop");
        assert_eq!(end("hf_short"), "…");
    }
}
