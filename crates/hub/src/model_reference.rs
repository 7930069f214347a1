//! How commands name a model of the catalogue or of the hub: `tinyllama`, `pythia-1b@step1000`, `tinyllama:q4_0`,
//! `hf:OWNER/NAME[@REVISION][/FILE]`.
//!
//! It reads and writes names; whether such a model is on this machine is `library`.

use billion_llm::quantize::Quant;

use crate::Error;
use crate::catalogue::Known;
use crate::client::Hub;
use crate::hub_models;
use crate::repo::{DEFAULT_REVISION, RepoReference};

/// A model of the catalogue or of the hub, and perhaps a quantization of it that is made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// Its repository, revision and file.
    pub repo: RepoReference,
    /// What it is quantized to.
    pub quant: Option<Quant>,
}

impl ModelReference {
    /// Reads a reference: an id or short name of the catalogue with `@REVISION`, `hf:OWNER/NAME[@REVISION][/FILE]`,
    /// `OWNER/NAME`, or the address of a page; `:QUANT` after each.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (base, quant) = Self::split_quant(text);
        if quant.is_none()
            && let Some((name, quant)) = base.rsplit_once(':')
            && Known::find(name.split('@').next().unwrap_or(name)).is_some()
        {
            Quant::parse(quant)?;
        }
        let repo = Hub::reference(base)?;
        if quant.is_some() && repo.file.is_some() {
            return Err(Error::Reference {
                reference: text.to_owned(),
                problem: "a GGUF file is quantized already; leave the file or the quantization out"
                    .to_owned(),
            });
        }
        Ok(Self { repo, quant })
    }

    /// A reference without its `:QUANT`, and that.
    pub fn split_quant(text: &str) -> (&str, Option<Quant>) {
        let parts = text
            .rsplit_once(':')
            .and_then(|(base, last)| Some((base, Quant::parse(last).ok()?)));
        match parts {
            Some((base, quant)) => (base, Some(quant)),
            None => (text, None),
        }
    }

    /// The same model as its publisher gives it.
    #[must_use]
    pub fn published(&self) -> Self {
        Self {
            quant: None,
            ..self.clone()
        }
    }

    /// What commands take as MODEL, the same for every way of writing it.
    pub fn id(&self) -> String {
        let id = hub_models::id(
            &self.repo.repo,
            &self.repo.revision,
            self.repo.file.as_deref(),
        );
        match self.quant {
            Some(quant) => format!("{id}:{}", quant.id()),
            None => id,
        }
    }

    /// For people: "Pythia 1B at step1000", "TinyLlama 1.1B Chat v1.0 as Q4_0", "owner/name: model.Q4_0.gguf".
    pub fn name(&self) -> String {
        let repo = &self.repo;
        let mut name = Known::of_repository(&repo.repo.id)
            .map_or(repo.repo.id.as_str(), |known| known.name)
            .to_owned();
        if repo.revision != DEFAULT_REVISION {
            let short: String = repo.revision.chars().take(40).collect();
            name = format!("{name} at {short}");
        }
        if let Some(file) = &repo.file {
            name = format!("{name}: {file}");
        }
        match self.quant {
            Some(quant) => format!("{name} as {}", quant.name()),
            None => name,
        }
    }

    /// The catalogue's entry for it, if it is one of the catalogue's models as published or quantized here.
    pub fn known(&self) -> Option<&'static Known> {
        Known::of_repository(&self.repo.repo.id).filter(|_| self.repo.file.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_model_has_one_id() {
        for (text, id, name) in [
            ("pythia", "pythia-1b", "Pythia 1B"),
            (
                "pythia@step1000",
                "pythia-1b@step1000",
                "Pythia 1B at step1000",
            ),
            (
                "tinyllama:Q4_0",
                "tinyllama-1.1b-chat:q4_0",
                "TinyLlama 1.1B Chat v1.0 as Q4_0",
            ),
            (
                "hf:EleutherAI/pythia-1b@step8:q4_k_m",
                "pythia-1b@step8:q4_k_m",
                "Pythia 1B at step8 as Q4_K_M",
            ),
            ("https://huggingface.co/a/b", "hf:a/b", "a/b"),
            (
                "hf:a/b@v1/deep/x.gguf",
                "hf:a/b@v1/deep/x.gguf",
                "a/b at v1: deep/x.gguf",
            ),
        ] {
            let reference = ModelReference::parse(text).expect(text);
            assert_eq!(
                (reference.id().as_str(), reference.name()),
                (id, name.to_owned())
            );
            assert_eq!(ModelReference::parse(id).expect(id), reference);
        }
        let quantized = ModelReference::parse("pythia:q8_0").expect("a reference");
        assert_eq!(quantized.published().id(), "pythia-1b");
        assert_eq!(quantized.known().map(|known| known.id), Some("pythia-1b"));
    }

    #[test]
    fn what_is_no_reference_says_why() {
        for (text, says) in [
            ("tinyllama:q3_k", "it writes q4_0"),
            ("pythia@step1:int4", "it writes q4_0"),
            ("hf:a/b/x.gguf:q4_0", "quantized already"),
            ("word", "OWNER/NAME"),
        ] {
            let error = ModelReference::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
