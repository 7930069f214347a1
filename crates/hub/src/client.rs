//! What the hub knows: revisions resolved to commits with their files, and searches.

use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::Error;
use crate::http::{self, Failure, Subject};
use crate::repo::{
    ApiFound, ApiRevision, ApiTreeEntry, Found, RepoId, RepoKind, RepoReference, RepoRevision,
    Slashes, percent_encode,
};
use crate::settings::{HubSettings, Limits, chance};
use crate::transfer::{Control, Wish};

/// Longest answer of the API that is read.
const ANSWER_BYTES: u64 = 32 << 20;

/// Pages of a tree to read (of 1,000 entries each).
const PAGES: usize = 50;

/// Failures in a row before a question is given up: a person is waiting.
const QUESTION_TRIES: u32 = 4;

/// How many repositories a search lists.
const FOUND: usize = 20;

/// The hub, asked and fetched from with these settings.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) settings: HubSettings,
    pub(crate) limits: Limits,
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
        let subject = Subject {
            repo: &reference.repo,
            revision: &reference.revision,
            file: None,
        };
        let api = format!("{}/{}", self.settings.endpoint, reference.repo.api());
        let revision = percent_encode(&reference.revision, Slashes::Inside);
        let (answer, _) = self.ask::<ApiRevision>(
            &format!("{api}/revision/{revision}?blobs=true"),
            subject,
            control,
        )?;
        let tree = if answer.lacks_sizes() {
            Some(self.tree(&api, answer.commit(), subject, control)?)
        } else {
            None
        };
        answer
            .revision(reference, tree)
            .map_err(|problem| self.unusable(problem))
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

    /// Repositories that a word finds, the most downloaded first.
    pub fn search(
        &self,
        word: &str,
        kind: RepoKind,
        control: &Control,
    ) -> Result<Vec<Found>, Error> {
        let address = format!(
            "{}/api/{}?search={}&sort=downloads&direction=-1&limit={FOUND}",
            self.settings.endpoint,
            kind.plural(),
            percent_encode(word.trim(), Slashes::Inside)
        );
        // An error of a search is about no repository; the hub has none for it but "too many requests".
        let nothing = RepoId {
            kind,
            id: word.trim().to_owned(),
        };
        let subject = Subject {
            repo: &nothing,
            revision: "",
            file: None,
        };
        let (found, _) = self.ask::<Vec<ApiFound>>(&address, subject, control)?;
        Ok(found
            .into_iter()
            .filter_map(|found| found.found(kind))
            .collect())
    }

    /// Asks until there is an answer, a few times; gives the next page's address too.
    fn ask<T: DeserializeOwned>(
        &self,
        address: &str,
        subject: Subject,
        control: &Control,
    ) -> Result<(T, Option<String>), Error> {
        if self.settings.offline {
            return Err(Error::Offline {
                what: subject.repo.id.clone(),
            });
        }
        let mut failures = 0;
        loop {
            let (problem, wish) = match self.ask_once(address, subject) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing { problem, wait }) => (problem, wait),
            };
            failures += 1;
            if failures >= QUESTION_TRIES.min(self.limits.tries) {
                return Err(Error::Network {
                    host: http::host(address),
                    problem,
                    tries: failures,
                    kept_bytes: 0,
                });
            }
            let wait = wish.map_or_else(
                || self.limits.wait(failures, chance()),
                |wish| wish.min(self.limits.longest_wish),
            );
            match control.wait_while(Wish::Run, wait) {
                Wish::Cancel => return Err(Error::Cancelled),
                Wish::Stop => return Err(Error::Stopped { kept_bytes: 0 }),
                Wish::Run | Wish::Pause => {}
            }
        }
    }

    fn ask_once<T: DeserializeOwned>(
        &self,
        address: &str,
        subject: Subject,
    ) -> Result<(T, Option<String>), Failure> {
        let mut answer = http::get(&self.agent, &self.settings, address, None)?;
        if !answer.response.status().is_success() {
            return Err(http::refusal(&self.settings, subject, answer));
        }
        let next = http::text(answer.response.headers(), "link")
            .as_deref()
            .and_then(next_page)
            // The token goes along: only to where we asked.
            .filter(|next| next.starts_with(&format!("{}/", self.settings.endpoint)));
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
