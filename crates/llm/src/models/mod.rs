//! Maps a model's configuration and tensor names to a decoder description.
//!
//! One file per architecture holds its tables: configuration keys, tensor names, what the decoder is made of. Reading
//! (`config`), rotary frequencies (`rope`) and fetching with every shape checked (`layout`) are shared. It computes
//! nothing on weights.

mod config;
mod layout;
mod llama;
mod rope;

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
    names: &'static Names,
    biases: Biases,
}

/// An architecture that Billion runs.
struct Family {
    /// `general.architecture` in GGUF.
    gguf: &'static str,
    /// `model_type` in config.json.
    model_type: &'static str,
    from_gguf: fn(&Config<'_>, &Weights) -> Result<Description, Error>,
    from_config: fn(&Config<'_>, &Weights) -> Result<Description, Error>,
}

const FAMILIES: &[Family] = &[llama::FAMILY];

/// Reads what the weights are: from GGUF metadata, or from `config.json` beside safetensors.
pub fn describe(weights: &Weights) -> Result<Description, Error> {
    let (config, name) = match weights.container() {
        Container::Gguf => {
            let config = Config::of_gguf(weights)?;
            let name = config.architecture().to_owned();
            (config, name)
        }
        Container::Safetensors => {
            let config = Config::of_folder(weights.folder())?;
            let name = config.architecture().to_owned();
            (config, name)
        }
    };
    let family = FAMILIES.iter().find(|family| match weights.container() {
        Container::Gguf => family.gguf == name,
        Container::Safetensors => family.model_type == name,
    });
    let Some(family) = family else {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.model_type).collect();
        return Err(Error::Unsupported(format!(
            "{}: the architecture {name:?} is not one that Billion runs; it runs {}",
            weights.path().display(),
            known.join(", ")
        )));
    };
    match weights.container() {
        Container::Gguf => (family.from_gguf)(&config, weights),
        Container::Safetensors => (family.from_config)(&config, weights),
    }
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
        description.names,
        description.biases,
    )
}
