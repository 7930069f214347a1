//! The Hugging Face Hub as the shells see it: searched by keyword, looked up by name or address, and the person's account.
//!
//! Asking is `billion-hub`'s; fetching is `downloads`.

use billion_hub::{self as hub, Choice, Control, Query, RepoKind, Repository};

use crate::api::{ApiError, FileChoice, FoundModel, HubAccount, TokenPlace};
use crate::facade::Workbench;
use crate::fit::fit_of_files;
use crate::machine;
use crate::models::failed;

impl Workbench {
    /// Repositories that a keyword finds, the most downloaded first. A name or an address finds its repository.
    pub fn search_models(&self, keyword: &str) -> Result<Vec<FoundModel>, ApiError> {
        if keyword.trim().is_empty() {
            return Ok(Vec::new());
        }
        let word = match Query::read(keyword).map_err(failed)? {
            Query::Repository(_) => return Ok(vec![self.look_up_model(keyword)?]),
            Query::Word(word) => word,
        };
        let hub = self.hub();
        let found = hub
            .search(&word, RepoKind::Model, &Control::new())
            .map_err(failed)?;
        Ok(found
            .into_iter()
            .map(|found| FoundModel {
                page: hub.page(&found.repo),
                repository: found.repo.id,
                revision: None,
                architecture: found.architecture,
                problem: found.problem,
                license: found.license,
                gated: found.gated,
                downloads: Some(found.downloads),
                choices: Vec::new(),
            })
            .collect())
    }

    /// A repository with everything that can be fetched of it, from an id of the catalogue, `hf:OWNER/NAME`, `OWNER/NAME`
    /// or a pasted address.
    pub fn look_up_model(&self, text: &str) -> Result<FoundModel, ApiError> {
        let asked = hub::Hub::reference(text).map_err(failed)?;
        let found = self.hub().look(&asked, &Control::new()).map_err(failed)?;
        Ok(self.found(found))
    }

    fn found(&self, found: Repository) -> FoundModel {
        let named = found.revision != hub::DEFAULT_REVISION;
        FoundModel {
            repository: found.repo.id,
            page: found.page,
            revision: named.then_some(found.revision),
            architecture: found.architecture,
            problem: found.problem,
            license: found.license,
            gated: found.gated,
            downloads: found.downloads,
            choices: found
                .choices
                .into_iter()
                .map(|choice| self.choice(choice))
                .collect(),
        }
    }

    fn choice(&self, choice: Choice) -> FileChoice {
        FileChoice {
            installed: self.library.resolve(&choice.id).is_ok(),
            fit: fit_of_files(choice.bytes, machine::free_memory_bytes()),
            id: choice.id,
            name: choice.name,
            bytes: choice.bytes,
        }
    }

    /// What this machine knows of the person's account; the hub is not asked.
    pub fn hub_account(&self) -> Result<HubAccount, ApiError> {
        Ok(self.account(self.hub().account()))
    }

    /// The same, after the hub was asked whose the token is.
    pub fn check_hub_account(&self) -> Result<HubAccount, ApiError> {
        let account = self.hub().check_account(&Control::new());
        Ok(self.account(account.map_err(failed)?))
    }

    /// Asks the hub whose the token is, and keeps it: in the system's keychain, or where there is none in a file.
    pub fn save_hub_token(&self, token: &str) -> Result<HubAccount, ApiError> {
        let account = self.hub().save_token(token, &Control::new());
        Ok(self.account(account.map_err(failed)?))
    }

    /// Removes the token that was saved here.
    pub fn forget_hub_token(&self) -> Result<HubAccount, ApiError> {
        Ok(self.account(self.hub().forget_token().map_err(failed)?))
    }

    fn account(&self, account: hub::Account) -> HubAccount {
        HubAccount {
            endpoint: account.endpoint,
            cache: self.hub().settings().cache.display().to_string(),
            token: match account.place {
                hub::TokenPlace::Nowhere => TokenPlace::Nowhere,
                hub::TokenPlace::Environment => TokenPlace::Environment,
                hub::TokenPlace::Keychain => TokenPlace::Keychain,
                hub::TokenPlace::File => TokenPlace::File,
            },
            token_end: account.token_end,
            user: account.user,
            note: account.note,
            tokens_page: account.tokens_page,
        }
    }
}
