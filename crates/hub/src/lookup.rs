//! Looking for models on the hub: what a person's text means, what a word finds, and what one repository holds for
//! Billion: its architecture, whether that runs here and why not, and the files to choose among.
//!
//! Nothing is fetched but answers of the API (and a `config.json` where the API does not tell of it).

use billion_llm::models::architectures;
use billion_llm::weights::Container;

use crate::Error;
use crate::catalogue::Known;
use crate::client::Hub;
use crate::http::Subject;
use crate::hub_models::id;
use crate::repo::{
    ApiAbout, ApiConfig, ApiFound, Found, RepoId, RepoKind, RepoReference, RepoRevision, Slashes,
    percent_encode,
};
use crate::selection::{is_gguf, needs_conversion};
use crate::transfer::Control;

/// How many repositories a search lists.
const FOUND: usize = 20;

/// What a person's text means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One repository: a catalogue id, `OWNER/NAME`, `hf:...` or a pasted address. Look at it with `Hub::look`.
    Repository(RepoReference),
    /// A word to search for with `Hub::search`.
    Word(String),
}

/// A repository of models, looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// The repository.
    pub repo: RepoId,
    /// Its page.
    pub page: String,
    /// What was asked for.
    pub revision: String,
    /// The commit that it is now.
    pub commit: String,
    /// "llama", "gpt_neox": `model_type` of its configuration, or the architecture of its GGUF files.
    pub architecture: Option<String>,
    /// Why nothing of it can be run here; none if something can.
    pub problem: Option<String>,
    /// What can be fetched: its safetensors as one choice, then each GGUF file, small ones first.
    pub choices: Vec<Choice>,
    /// Of all its files.
    pub total_bytes: u64,
    /// Number of parameters, by the headers of its files.
    pub params: Option<u64>,
    /// Licence by its card.
    pub license: Option<String>,
    /// Its owner gives it to accounts only that accepted the licence.
    pub gated: bool,
    /// Downloads of the last month.
    pub downloads: Option<u64>,
}

/// Something to fetch of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The MODEL reference that fetches it.
    pub id: String,
    /// "safetensors" or the file's path.
    pub name: String,
    /// The file that must be named to get it; none for safetensors.
    pub file: Option<String>,
    /// Of its files.
    pub bytes: u64,
    /// It is a pickle that is converted after the download.
    pub needs_conversion: bool,
    /// It is on this machine.
    pub installed: bool,
}

impl Query {
    /// Tells words from names and addresses.
    pub fn read(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let named = text.contains('/') || text.starts_with("hf:");
        if Known::find(text.split('@').next().unwrap_or(text)).is_none()
            && (!named || text.contains(char::is_whitespace))
        {
            return Ok(Self::Word(text.to_owned()));
        }
        Ok(Self::Repository(Hub::reference(text)?))
    }
}

impl Hub {
    /// The page of a repository.
    pub fn page(&self, repo: &RepoId) -> String {
        format!("{}/{}", self.settings().endpoint, repo.page())
    }

    /// Repositories that a word finds, the most downloaded first.
    pub fn search(
        &self,
        word: &str,
        kind: RepoKind,
        control: &Control,
    ) -> Result<Vec<Found>, Error> {
        let plain = format!(
            "{}/api/{}?search={}&sort=downloads&direction=-1&limit={FOUND}",
            self.settings().endpoint,
            kind.plural(),
            percent_encode(word.trim(), Slashes::Inside)
        );
        // An error of a search is about no repository.
        let nothing = RepoId {
            kind,
            id: word.trim().to_owned(),
        };
        let subject = Subject {
            repo: &nothing,
            revision: "",
            file: None,
        };
        let detailed = [
            "config",
            "downloads",
            "gated",
            "gguf",
            "safetensors",
            "tags",
        ]
        .iter()
        .fold(plain.clone(), |address, field| {
            format!("{address}&expand={field}")
        });
        let answer = match kind {
            RepoKind::Model => self.ask::<Vec<ApiFound>>(&detailed, subject, control),
            RepoKind::Dataset => self.ask(&plain, subject, control),
        };
        let answer = match answer {
            // Not every mirror knows how to tell more.
            Err(Error::Answer { .. }) => self.ask(&plain, subject, control),
            answer => answer,
        };
        let found = |entry| found(entry, kind);
        Ok(answer?.0.into_iter().filter_map(found).collect())
    }

    /// What a repository holds for Billion. It is an answer, not an error, if nothing of it runs here.
    pub fn look(&self, reference: &RepoReference, control: &Control) -> Result<Repository, Error> {
        let (revision, mut about) = self.resolve_about(reference, control)?;
        if about.config.is_none()
            && let Ok(config) = revision.file("config.json")
            && config.bytes < 1 << 20
        {
            about.config = self.config(&revision, control)?;
        }
        let (choices, problem) = self.choices(&revision, &about);
        if let Some(whole) = choices.iter().find(|choice| choice.file.is_none()) {
            self.remember_size(&revision, whole.bytes);
        }
        Ok(Repository {
            page: self.page(&revision.repo),
            architecture: about.architecture(),
            problem,
            choices,
            total_bytes: revision.files.iter().map(|file| file.bytes).sum(),
            params: about.params(),
            license: revision.license,
            gated: revision.gated,
            downloads: about.downloads,
            repo: revision.repo,
            revision: revision.revision,
            commit: revision.commit,
        })
    }

    /// The configuration itself. A gated repository keeps it to itself, and that is no error here.
    fn config(
        &self,
        revision: &RepoRevision,
        control: &Control,
    ) -> Result<Option<ApiConfig>, Error> {
        let subject = Subject {
            repo: &revision.repo,
            revision: &revision.commit,
            file: Some("config.json"),
        };
        let address = format!(
            "{}/resolve/{}/config.json",
            self.page(&revision.repo),
            revision.commit
        );
        match self.ask(&address, subject, control) {
            Ok((config, _)) => Ok(Some(config)),
            Err(error @ (Error::Cancelled | Error::Stopped { .. })) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What of a revision can be fetched and run, and if nothing, why.
    fn choices(&self, revision: &RepoRevision, about: &ApiAbout) -> (Vec<Choice>, Option<String>) {
        let installed = |file: Option<&str>| {
            let reference = RepoReference {
                repo: revision.repo.clone(),
                revision: revision.commit.clone(),
                file: file.map(str::to_owned),
            };
            // Without safetensors a repository stands for its only GGUF file.
            self.model_on_this_machine(&reference)
                .is_some_and(|model| file.is_some() || model.path.is_dir())
        };
        let mut choices = Vec::new();
        let mut problems = Vec::new();
        match revision.safetensors() {
            Ok(Some(files)) => match about.safetensors_problem() {
                None => choices.push(Choice {
                    id: id(&revision.repo, &revision.revision, None),
                    name: if needs_conversion(&files) {
                        "PyTorch checkpoint".to_owned()
                    } else {
                        "safetensors".to_owned()
                    },
                    file: None,
                    bytes: files.iter().map(|file| file.bytes).sum(),
                    needs_conversion: needs_conversion(&files),
                    installed: installed(None),
                }),
                Some(problem) => problems.push(problem),
            },
            Ok(None) => {}
            Err(Error::Unsuitable { problem, .. }) => problems.push(problem),
            Err(other) => problems.push(other.to_string()),
        }
        let mut ggufs: Vec<_> = revision
            .files
            .iter()
            .filter(|file| is_gguf(&file.path) && is_model_gguf(&file.path))
            .collect();
        ggufs.sort_by_key(|file| file.bytes);
        if let Some(first) = ggufs.first() {
            match about.gguf_problem() {
                Some(problem) => problems.push(problem),
                None if ggufs.iter().all(|file| is_part(&file.path)) => problems.push(format!(
                    "its GGUF files come in parts ({}), which Billion does not read",
                    first.path
                )),
                None => choices.extend(ggufs.iter().filter(|file| !is_part(&file.path)).map(
                    |file| Choice {
                        id: id(&revision.repo, &revision.revision, Some(&file.path)),
                        name: file.path.clone(),
                        file: Some(file.path.clone()),
                        bytes: file.bytes,
                        needs_conversion: false,
                        installed: installed(Some(&file.path)),
                    },
                )),
            }
        }
        if choices.is_empty() && problems.is_empty() {
            problems.push(format!(
                "its {} files hold neither safetensors nor GGUF, the only weights that Billion reads",
                revision.files.len()
            ));
        }
        let problem = choices.is_empty().then(|| problems.join("; "));
        (choices, problem)
    }
}

impl ApiAbout {
    fn architecture(&self) -> Option<String> {
        let of_config = self.config.as_ref().and_then(|c| c.model_type.clone());
        let name = of_config.or_else(|| self.gguf.as_ref()?.architecture.clone())?;
        Some(name.chars().take(40).collect())
    }

    fn params(&self) -> Option<u64> {
        let of_safetensors = self.safetensors.as_ref().and_then(|total| total.total);
        of_safetensors.or_else(|| self.gguf.as_ref()?.total)
    }

    /// Why its safetensors cannot be run, as far as this tells.
    fn safetensors_problem(&self) -> Option<String> {
        let config = self.config.as_ref()?;
        if let Some(method) = config
            .quantization_config
            .as_ref()
            .and_then(|quantization| quantization.quant_method.as_deref())
        {
            return Some(format!(
                "its safetensors are quantized with {method}, which Billion does not read; look for its GGUF files, or the original"
            ));
        }
        not_run(config.model_type.as_deref()?, Container::Safetensors)
    }

    fn gguf_problem(&self) -> Option<String> {
        let architecture = self.gguf.as_ref()?.architecture.as_deref()?;
        not_run(architecture, Container::Gguf)
    }
}

/// Says so if models of this architecture do not run here.
fn not_run(architecture: &str, container: Container) -> Option<String> {
    let known = architectures(container);
    (!known.contains(&architecture)).then(|| {
        format!(
            "the architecture {:?} is not one that Billion runs; it runs {}",
            architecture.chars().take(40).collect::<String>(),
            known.join(", ")
        )
    })
}

/// What a search's entry tells; none if the hub's name for it is no name of a repository.
fn found(entry: ApiFound, kind: RepoKind) -> Option<Found> {
    let license = entry
        .tags
        .iter()
        .find_map(|tag| tag.strip_prefix("license:"))
        .map(|license| license.chars().take(100).collect());
    let about = entry.about;
    // A problem of one form is none of the repository while the other may do.
    let problem = match (&about.config, &about.gguf) {
        (Some(_), Some(_)) => about
            .safetensors_problem()
            .and_then(|_| about.gguf_problem()),
        (Some(_), None) => about.safetensors_problem(),
        _ => about.gguf_problem(),
    };
    Some(Found {
        repo: RepoId::new(kind, &entry.id).ok()?,
        downloads: about.downloads.unwrap_or_default(),
        gated: entry.gated.is_gated(),
        architecture: about.architecture(),
        params: about.params(),
        license,
        problem,
    })
}

/// Files of that format that hold no model: projectors of images, statistics for quantizing.
fn is_model_gguf(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    !name.contains("mmproj") && !name.contains("imatrix")
}

/// `NAME-00001-of-00003.gguf`
fn is_part(path: &str) -> bool {
    path.get(..path.len() - ".gguf".len())
        .and_then(|stem| stem.rsplit_once("-of-"))
        .is_some_and(|(before, count)| {
            let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            digits(count) && before.rsplit('-').next().is_some_and(digits)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_names_and_addresses() {
        let word = |text: &str| Query::Word(text.to_owned());
        for (text, query) in [
            ("tiny llama", word("tiny llama")),
            ("  smol ", word("smol")),
            ("and/or what", word("and/or what")),
        ] {
            assert_eq!(Query::read(text).expect("read"), query);
        }
        for text in [
            "pythia@step8",
            "a/b",
            "hf:a/b@c/d.gguf",
            "https://huggingface.co/a/b/blob/main/x.gguf",
        ] {
            let query = Query::read(text).expect("read");
            assert!(matches!(query, Query::Repository(_)), "{text}");
        }
        assert!(Query::read("https://example.org/a/b").is_err());
        assert!(Query::read("hf:a").is_err());
    }

    #[test]
    fn parts_and_other_ggufs_are_no_models() {
        assert!(is_part("q8/m-00001-of-00003.gguf"));
        assert!(!is_part("m-of-00003.gguf") && !is_part("of.gguf") && !is_part(".gguf"));
        assert!(!is_model_gguf("x/mmproj-F16.gguf") && is_model_gguf("m.Q4_0.gguf"));
    }
}
