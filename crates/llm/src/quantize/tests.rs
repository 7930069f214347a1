//! Recipes beside llama-quantize's, and small things that need no file.

use serde::Deserialize;

use super::Quant;
use super::recipe::{Model, Recipe};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    tensors: Vec<Vec<serde_json::Value>>,
    types: BTreeMap<String, String>,
}

#[test]
fn every_tensor_gets_the_type_that_llama_quantize_gives_it() {
    let recorded: BTreeMap<String, Recorded> =
        serde_json::from_str(include_str!("../../tests/quantize/recipes.json")).unwrap();
    assert_eq!(recorded.len(), 8);
    for (title, model) in recorded {
        let tensors: Vec<(&str, Vec<usize>)> = model
            .tensors
            .iter()
            .map(|line| {
                let shape = line[1..].iter().map(|dim| dim.as_u64().unwrap() as usize);
                (line[0].as_str().unwrap(), shape.collect())
            })
            .collect();
        for quant in Quant::ALL {
            let about = Model {
                layers: model.layers,
                grouped: model.heads != model.kv_heads,
            };
            let recipe = Recipe::new(quant, about, tensors.iter().map(|(name, _)| *name));
            let types = model.types[quant.id()].split(' ');
            assert_eq!(types.clone().count(), tensors.len());
            for ((name, shape), expected) in tensors.iter().zip(types) {
                // What is not quantized was F32 in the recorded files.
                let found = recipe.format(name, shape);
                let found = found.map_or("F32", billion_kernels::Format::name);
                assert_eq!(found, expected, "{title} as {}: {name}", quant.name());
            }
        }
    }
}

#[test]
fn formats_are_found_by_their_ids() {
    for quant in Quant::ALL {
        assert_eq!(Quant::parse(quant.id()).unwrap(), quant);
        assert_eq!(Quant::parse(quant.name()).unwrap(), quant);
    }
    let error = Quant::parse("q3_k_s").unwrap_err().to_string();
    assert!(
        error.contains("q3_k_s") && error.contains("q4_k_m"),
        "{error}"
    );
}
