//! Maps a model's configuration and tensor names to a decoder description.
//!
//! One file per architecture holds its tables: configuration keys, tensor names, what the decoder is made of. Reading
//! (`config`), rotary frequencies (`rope`) and fetching with every shape checked (`layout`) are shared. It computes
//! nothing on weights.

mod config;
mod gpt_neox;
mod layout;
mod llama;
mod mistral;
mod qwen2;
mod rope;
mod stablelm;

use crate::Error;
use crate::spec::{DecoderSpec, DecoderTensors, TensorView};
use crate::weights::{Container, Weights};
use config::Config;
use layout::{Biases, Names};

/// A decoder, and where its tensors are in the file.
#[derive(Clone, Debug)]
pub struct Description {
    /// What the decoder computes.
    pub spec: DecoderSpec,
    names: Names,
    biases: Biases,
}

/// Reads a configuration of one architecture.
type Describe = fn(&Config<'_>, &Weights) -> Result<Description, Error>;

/// An architecture that Billion runs.
struct Family {
    /// `general.architecture` in GGUF; none where llama.cpp's converter writes another family's.
    gguf: Option<(&'static str, Describe)>,
    /// `model_type` in config.json.
    hugging_face: (&'static str, Describe),
}

const FAMILIES: &[Family] = &[
    llama::FAMILY,
    stablelm::FAMILY,
    gpt_neox::FAMILY,
    qwen2::FAMILY,
    mistral::FAMILY,
];

/// Names of the architectures that run here, as files of this kind spell them: for telling it before a download.
pub fn architectures(container: Container) -> Vec<&'static str> {
    FAMILIES
        .iter()
        .filter_map(|family| match container {
            Container::Gguf => Some(family.gguf?.0),
            Container::Safetensors => Some(family.hugging_face.0),
        })
        .collect()
}

/// Reads what the weights are: from GGUF metadata, or from `config.json` beside safetensors.
pub fn describe(weights: &Weights) -> Result<Description, Error> {
    let (config, families): (_, Vec<_>) = match weights.container() {
        Container::Gguf => (
            Config::of_gguf(weights)?,
            FAMILIES.iter().filter_map(|family| family.gguf).collect(),
        ),
        Container::Safetensors => (
            Config::of_folder(weights.folder())?,
            FAMILIES.iter().map(|family| family.hugging_face).collect(),
        ),
    };
    let name = config.architecture();
    let Some((_, describe)) = families.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = families.iter().map(|(known, _)| *known).collect();
        return Err(Error::Unsupported(format!(
            "{}: the architecture {name:?} is not one that Billion runs; it runs {}",
            weights.path().display(),
            known.join(", ")
        )));
    };
    describe(&config, weights)
}

/// The tensors of a described decoder, borrowed from the map. Every one is there and has the shape that the
/// description asks for, or the error names it with both shapes.
pub fn tensors<'a>(
    weights: &'a Weights,
    description: &Description,
) -> Result<DecoderTensors<TensorView<'a>>, Error> {
    layout::tensors(
        weights,
        &description.spec,
        &description.names,
        description.biases,
    )
}
