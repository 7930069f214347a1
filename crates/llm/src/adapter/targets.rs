//! Which linear maps can be adapted, what PEFT calls them in each family, and their shapes.

use super::Target;
use crate::Error;
use crate::spec::{DecoderSpec, Mlp};

/// PEFT's names, and the path of each inside a block.
const LLAMA: [(Target, &str); 7] = [
    (Target::Q, "self_attn.q_proj"),
    (Target::K, "self_attn.k_proj"),
    (Target::V, "self_attn.v_proj"),
    (Target::O, "self_attn.o_proj"),
    (Target::Gate, "mlp.gate_proj"),
    (Target::Up, "mlp.up_proj"),
    (Target::Down, "mlp.down_proj"),
];
const GPT_NEOX: [(Target, &str); 4] = [
    (Target::Qkv, "attention.query_key_value"),
    (Target::O, "attention.dense"),
    (Target::Up, "mlp.dense_h_to_4h"),
    (Target::Down, "mlp.dense_4h_to_h"),
];

/// What a list of names asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Each once, in the order of [`Target`].
    pub targets: Vec<Target>,
    /// What was taken for something else, for people.
    pub note: Option<String>,
}

/// Finds linear maps by PEFT's names ("q_proj", "query_key_value", "all-linear"). For GPT-NeoX, whose queries, keys and
/// values are one map, q_proj, k_proj and v_proj are that map, and the names of Llama's other maps are taken for its own.
pub fn targets(names: &[impl AsRef<str>], spec: &DecoderSpec) -> Result<Targets, Error> {
    let known = Target::of(spec);
    let mut found = Vec::new();
    let mut taken = Vec::new();
    for name in names {
        let name = name.as_ref().trim();
        if name == "all-linear" {
            found.extend(known.iter().map(|(target, _)| *target));
            continue;
        }
        if let Some((target, _)) = known.iter().find(|(_, path)| last(path) == name) {
            found.push(*target);
            continue;
        }
        let of_llama = LLAMA.iter().find(|(_, path)| last(path) == name);
        let alias = of_llama.and_then(|(target, _)| {
            let target = match target {
                Target::Q | Target::K | Target::V => Target::Qkv,
                Target::Gate => Target::Up,
                other => *other,
            };
            known.iter().find(|(known, _)| *known == target)
        });
        let Some((target, path)) = alias else {
            let names: Vec<_> = known.iter().map(|(_, path)| last(path)).collect();
            return Err(Error::Unsupported(format!(
                "{name:?} is no linear map of a {} model that can be adapted; it has {}",
                spec.architecture,
                names.join(", ")
            )));
        };
        found.push(*target);
        taken.push(format!("{name} as {}", last(path)));
    }
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Err(Error::Unsupported(
            "no linear maps to adapt are named; q_proj,v_proj is usual".to_owned(),
        ));
    }
    Ok(Targets {
        targets: found,
        note: (!taken.is_empty()).then(|| {
            format!(
                "a {} model names its linear maps otherwise: taken {}",
                spec.architecture,
                taken.join(", ")
            )
        }),
    })
}

impl Target {
    /// The linear maps of a model's blocks that can be adapted, with their paths inside a block.
    pub(super) fn of(spec: &DecoderSpec) -> Vec<(Self, &'static str)> {
        let names: &[_] = if is_neox(spec) { &GPT_NEOX } else { &LLAMA };
        let has = |target| target != Self::Gate || spec.mlp == Mlp::SwiGlu;
        names
            .iter()
            .filter(|(target, _)| has(*target))
            .copied()
            .collect()
    }

    /// Every linear map of a model that can be adapted.
    pub fn all(spec: &DecoderSpec) -> Vec<Self> {
        Self::of(spec)
            .into_iter()
            .map(|(target, _)| target)
            .collect()
    }

    /// PEFT's name ("q_proj"); none if the model has no such map.
    pub fn name(self, spec: &DecoderSpec) -> Option<&'static str> {
        let known = Self::of(spec);
        let (_, path) = known.into_iter().find(|(target, _)| *target == self)?;
        Some(last(path))
    }

    /// (out, in) of the linear map.
    pub fn shape(self, spec: &DecoderSpec) -> (usize, usize) {
        match self {
            Self::Q => (spec.q_width(), spec.hidden),
            Self::K | Self::V => (spec.kv_width(), spec.hidden),
            Self::Qkv => (spec.q_width() + 2 * spec.kv_width(), spec.hidden),
            Self::O => (spec.hidden, spec.q_width()),
            Self::Gate | Self::Up => (spec.ffn, spec.hidden),
            Self::Down => (spec.hidden, spec.ffn),
        }
    }
}

/// The path of the blocks in a checkpoint.
pub(super) fn blocks(spec: &DecoderSpec) -> &'static str {
    if is_neox(spec) {
        "gpt_neox.layers."
    } else {
        "model.layers."
    }
}

pub(super) fn is_neox(spec: &DecoderSpec) -> bool {
    spec.architecture == "gpt_neox"
}

/// The last part of a dotted path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
