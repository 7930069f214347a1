//! From PEFT's row order to that of a loaded model, and back.
//!
//! llama.cpp's converter permutes the rows of Llama's q and k (`permute` in its convert_hf_to_gguf.py): row `2 i + s` of a
//! head is row `s * dim / 2 + i` of the checkpoint. GPT-NeoX's fused map has, head by head, the rows of the head's query, key
//! and value. Rows of A are ranks, so A is never touched.

use std::sync::Arc;

use super::targets::is_neox;
use super::{
    Adapter, AdapterConfig, AttachedLayer, AttachedLayers, LowRank, MAX_RANK, Module, Target,
};
use crate::Error;
use crate::spec::{DecoderSpec, Pairing};

/// What one row is, of which order.
#[derive(Clone, Copy)]
enum Way {
    Attach,
    Detach,
}

impl Adapter {
    /// In the row order of a model of this description. Fails if a module does not fit it.
    pub fn attach(&self, spec: &DecoderSpec) -> Result<AttachedLayers, Error> {
        let mut layers = vec![AttachedLayer::default(); spec.layers];
        let blocks = layers.len();
        for module in &self.modules {
            let Some(layer) = layers.get_mut(module.layer) else {
                return Err(misfit(module, &format!("the model has {blocks} blocks")));
            };
            let (out, cols) = module.target.shape(spec);
            let rank = module.rank;
            let there = module.target.name(spec).is_some();
            if !there
                || rank == 0
                || rank > MAX_RANK
                || module.a.len() != rank * cols
                || module.b.len() != out * rank
            {
                return Err(misfit(
                    module,
                    &format!(
                        "A has {} and B {} numbers; the model's map is {out} x {cols}",
                        module.a.len(),
                        module.b.len()
                    ),
                ));
            }
            let a = Arc::new(module.a.clone());
            let low_rank = |b| LowRank {
                rank,
                scale: module.scale,
                a: Arc::clone(&a),
                b,
            };
            match module.target {
                Target::Qkv => {
                    let dim = spec.head_dim;
                    let part = |part: usize| {
                        let heads = module.b.chunks_exact(3 * dim * rank);
                        let rows = heads
                            .flat_map(|head| &head[part * dim * rank..(part + 1) * dim * rank]);
                        low_rank(rows.copied().collect())
                    };
                    layer.q = Some(part(0));
                    layer.k = Some(part(1));
                    layer.v = Some(part(2));
                }
                target => {
                    let b = ordered(&module.b, rank, target, spec, Way::Attach)?;
                    if let Some(place) = layer.place(target) {
                        *place = Some(low_rank(b));
                    }
                }
            }
        }
        Ok(AttachedLayers { layers })
    }

    /// The adapter of attached matrices, as it is written: the inverse of [`Self::attach`].
    pub fn detach(
        config: AdapterConfig,
        attached: &AttachedLayers,
        spec: &DecoderSpec,
    ) -> Result<Self, Error> {
        let mut modules = Vec::new();
        for (index, layer) in attached.layers.iter().enumerate() {
            let module = |target, low_rank: &LowRank, b| Module {
                layer: index,
                target,
                rank: low_rank.rank,
                scale: low_rank.scale,
                a: low_rank.a.to_vec(),
                b,
            };
            let mut rest = layer.clone();
            if is_neox(spec) {
                match (rest.q.take(), rest.k.take(), rest.v.take()) {
                    (None, None, None) => {}
                    (Some(q), Some(k), Some(v)) if q.a == k.a && q.a == v.a => {
                        let head = spec.head_dim * q.rank;
                        let parts = [&q.b, &k.b, &v.b].map(|b| b.chunks_exact(head));
                        let [q_heads, k_heads, v_heads] = parts;
                        let heads = q_heads.zip(k_heads).zip(v_heads);
                        let b = heads.flat_map(|((q, k), v)| [q, k, v].concat()).collect();
                        modules.push(module(Target::Qkv, &q, b));
                    }
                    _ => {
                        return Err(Error::Unsupported(format!(
                            "block {index}: queries, keys and values of a fused map must be adapted together and share A"
                        )));
                    }
                }
            }
            for (target, low_rank) in rest.all() {
                let b = ordered(&low_rank.b, low_rank.rank, target, spec, Way::Detach)?;
                modules.push(module(target, low_rank, b));
            }
        }
        modules.sort_by_key(|module| (module.layer, module.target));
        let adapter = Self { config, modules };
        adapter.check_shapes(spec)?;
        Ok(adapter)
    }

    fn check_shapes(&self, spec: &DecoderSpec) -> Result<(), Error> {
        self.attach(spec).map(drop)
    }
}

fn misfit(module: &Module, problem: &str) -> Error {
    Error::Unsupported(format!(
        "the adapter does not fit the model: block {} {:?} of rank {}: {problem}",
        module.layer, module.target, module.rank
    ))
}

/// B, shape (out, rank), with the rows of q and k permuted where the model's are.
fn ordered(
    b: &[f32],
    rank: usize,
    target: Target,
    spec: &DecoderSpec,
    way: Way,
) -> Result<Vec<f32>, Error> {
    let turns = matches!(target, Target::Q | Target::K);
    if !turns || spec.rotary.pairing != Pairing::Interleaved {
        return Ok(b.to_vec());
    }
    let dim = spec.head_dim;
    if spec.rotary.dims != dim || !dim.is_multiple_of(2) {
        return Err(Error::Unsupported(format!(
            "an adapter for interleaved pairs of {} of {dim} dimensions of a head: no known file has its rows so",
            spec.rotary.dims
        )));
    }
    let mut out = Vec::with_capacity(b.len());
    for head in b.chunks_exact(dim * rank) {
        for row in 0..dim {
            let from = match way {
                Way::Attach => row % 2 * (dim / 2) + row / 2,
                Way::Detach => row % (dim / 2) * 2 + row / (dim / 2),
            };
            out.extend_from_slice(&head[from * rank..(from + 1) * rank]);
        }
    }
    Ok(out)
}
