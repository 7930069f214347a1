//! Asking the hub's API, and revisions resolved to commits with their files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::Error;
use crate::account::Tokens;
use crate::http::{self, Failure, Subject};
use crate::repo::{
    ApiAbout, ApiRevision, ApiTreeEntry, RepoReference, RepoRevision, Slashes, percent_encode,
};
use crate::settings::{HubSettings, Limits, chance};
use crate::transfer::{Control, Wish};

/// Longest answer of the API that is read.
const ANSWER_BYTES: u64 = 32 << 20;

/// Pages of a tree to read (of 1,000 entries each).
const PAGES: usize = 50;

/// Failures in a row before a question is given up: a person is waiting.
const QUESTION_TRIES: u32 = 4;

/// A person is not kept waiting longer for an answer than this, whatever the server wishes.
const QUESTION_WISH: Duration = Duration::from_secs(20);

/// The hub, asked and fetched from with these settings.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) settings: HubSettings,
    pub(crate) limits: Limits,
    pub(crate) tokens: Arc<Tokens>,
    /// What the hub told of downloads, by repository.
    pub(crate) sizes: Arc<Mutex<BTreeMap<String, u64>>>,
    agent: Agent,
}

impl Hub {
    /// The hub with the settings of this process.
    pub fn of_process() -> Self {
        Self::new(HubSettings::of_process(), Limits::default())
    }

    /// The hub with these settings.
    pub fn new(settings: HubSettings, limits: Limits) -> Self {
        Self {
            agent: http::agent(&settings, &limits),
            tokens: Arc::new(Tokens::new(&settings)),
            sizes: Arc::default(),
            settings,
            limits,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Finds the commit that a reference stands for, and its files with sizes and hashes. `control` may end the wait.
    pub fn resolve(
        &self,
        reference: &RepoReference,
        control: &Control,
    ) -> Result<RepoRevision, Error> {
        Ok(self.resolve_about(reference, control)?.0)
    }

    /// The same, with what the hub says of the model.
    pub(crate) fn resolve_about(
        &self,
        reference: &RepoReference,
        control: &Control,
    ) -> Result<(RepoRevision, ApiAbout), Error> {
        let subject = Subject {
            repo: &reference.repo,
            revision: &reference.revision,
            file: None,
        };
        let api = format!("{}/{}", self.settings.endpoint, reference.repo.api());
        let revision = percent_encode(&reference.revision, Slashes::Inside);
        let (mut answer, _) = self.ask::<ApiRevision>(
            &format!("{api}/revision/{revision}?blobs=true"),
            subject,
            control,
        )?;
        let about = answer.take_about();
        let tree = if answer.lacks_sizes() {
            Some(self.tree(&api, answer.commit(), subject, control)?)
        } else {
            None
        };
        let revision = answer
            .revision(reference, tree)
            .map_err(|problem| self.unusable(problem))?;
        Ok((revision, about))
    }

    /// Every entry of a commit's tree, page by page.
    fn tree(
        &self,
        api: &str,
        commit: &str,
        subject: Subject,
        control: &Control,
    ) -> Result<Vec<ApiTreeEntry>, Error> {
        let commit = percent_encode(commit, Slashes::Inside);
        let mut entries = Vec::new();
        let mut page = Some(format!("{api}/tree/{commit}?recursive=true&expand=false"));
        for _ in 0..PAGES {
            let Some(address) = page.take() else {
                return Ok(entries);
            };
            let (part, next) = self.ask::<Vec<ApiTreeEntry>>(&address, subject, control)?;
            entries.extend(part);
            page = next;
        }
        Err(self.unusable(format!("{} has too many files", subject.repo)))
    }

    /// Asks with the token in force until there is an answer, a few times; gives the next page's address too.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        address: &str,
        subject: Subject,
        control: &Control,
    ) -> Result<(T, Option<String>), Error> {
        self.offline(&subject.repo.id)?;
        self.ask_as(&self.asking(), address, subject, control)
    }

    /// An error where only the cache may be asked.
    fn offline(&self, what: &str) -> Result<(), Error> {
        if self.settings.offline {
            return Err(Error::Offline {
                what: what.to_owned(),
            });
        }
        Ok(())
    }

    /// The same with these settings.
    pub(crate) fn ask_as<T: DeserializeOwned>(
        &self,
        settings: &HubSettings,
        address: &str,
        subject: Subject,
        control: &Control,
    ) -> Result<(T, Option<String>), Error> {
        self.offline(&subject.repo.id)?;
        let mut failures = 0;
        loop {
            let (problem, wish) = match self.ask_once(settings, address, subject) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing { problem, wait }) => (problem, wait),
            };
            failures += 1;
            let tries = QUESTION_TRIES.min(self.limits.tries);
            if let Some(wait) = wish
                && (wait > QUESTION_WISH || failures >= tries)
            {
                return Err(Error::Busy {
                    host: http::host(address),
                    problem,
                    wait,
                    tokens: settings
                        .token
                        .is_none()
                        .then(|| format!("{}/settings/tokens", settings.endpoint)),
                });
            }
            if failures >= tries {
                return Err(Error::Network {
                    host: http::host(address),
                    problem,
                    tries: failures,
                    kept_bytes: 0,
                });
            }
            let wait = wish.unwrap_or_else(|| self.limits.wait(failures, chance()));
            match control.wait_while(Wish::Run, wait) {
                Wish::Cancel => return Err(Error::Cancelled),
                Wish::Stop => return Err(Error::Stopped { kept_bytes: 0 }),
                Wish::Run | Wish::Pause => {}
            }
        }
    }

    fn ask_once<T: DeserializeOwned>(
        &self,
        settings: &HubSettings,
        address: &str,
        subject: Subject,
    ) -> Result<(T, Option<String>), Failure> {
        let mut answer = http::get(&self.agent, settings, address, None)?;
        if !answer.response.status().is_success() {
            return Err(http::refusal(settings, subject, answer));
        }
        let next = http::text(answer.response.headers(), "link")
            .as_deref()
            .and_then(next_page)
            // The token goes along: only to where we asked.
            .filter(|next| next.starts_with(&format!("{}/", settings.endpoint)));
        let text = answer
            .response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES)
            .read_to_vec()
            .map_err(|error| http::failure(address, error))?;
        let value = serde_json::from_slice(&text)
            .map_err(|error| Failure::Lasting(self.unusable(error.to_string())))?;
        Ok((value, next))
    }

    fn unusable(&self, problem: String) -> Error {
        Error::Answer {
            host: http::host(&self.settings.endpoint),
            problem,
        }
    }
}

/// The address in `<ADDRESS>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (address, about) = part.trim().strip_prefix('<')?.split_once('>')?;
        about.contains("rel=\"next\"").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_next_page_is_the_one_called_next() {
        let link = "<https://h/a?cursor=x>; rel=\"next\"";
        assert_eq!(
            super::next_page(link).as_deref(),
            Some("https://h/a?cursor=x")
        );
        let two = format!("<https://h/first>; rel=\"first\", {link}");
        assert_eq!(
            super::next_page(&two).as_deref(),
            Some("https://h/a?cursor=x")
        );
        assert_eq!(super::next_page("<https://h/p>; rel=\"prev\""), None);
    }
}
