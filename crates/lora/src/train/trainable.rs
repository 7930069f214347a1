//! The numbers that are trained: A and B of every adapted map, one after another in one vector, so that the optimizer, the
//! norm of the gradients and checkpoints know nothing of maps.
//!
//! A is kept as (rank, in), B turned, as (rank, out), in the row order of the loaded model. It owns the way to and from
//! adapter files' order through `billion_llm::adapter`.

use std::ops::Range;
use std::sync::Arc;

use billion_llm::adapter::{
    Adapter, AdapterConfig, AttachedLayer, AttachedLayers, LowRank, Target, targets,
};
use billion_llm::spec::DecoderSpec;

use super::frozen::{PLACES, Place};
use super::options::TrainOptions;
use super::random::Random;
use crate::Error;

/// Where A and B of one adapted map are in the vector.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Which dropout it has: maps that share A share it.
    pub module: u64,
    /// Shape: (rank, in).
    pub a: Range<usize>,
    /// Shape: (rank, out).
    pub b: Range<usize>,
}

/// All adapted maps of a model.
#[derive(Clone, Debug)]
pub(super) struct Trainable {
    pub rank: usize,
    pub scale: f32,
    /// Numbers in all.
    pub len: usize,
    layers: Vec<[Option<Slot>; PLACES]>,
    config: AdapterConfig,
}

impl Trainable {
    /// Lays out what the options ask for.
    pub fn new(spec: &DecoderSpec, options: &TrainOptions) -> Result<Self, Error> {
        let names = if options.targets.is_empty() {
            vec!["q_proj".to_owned(), "v_proj".to_owned()]
        } else {
            options.targets.clone()
        };
        let targets = targets(&names, spec)?.targets;
        let rank = options.rank as usize;
        let mut at = 0;
        let mut take = |len: usize| {
            at += len;
            at - len..at
        };
        let mut module = 0;
        let layers = (0..spec.layers)
            .map(|_| {
                let mut places: [Option<Slot>; PLACES] = Default::default();
                for target in &targets {
                    let (out, cols) = target.shape(spec);
                    module += 1;
                    let a = take(rank * cols);
                    let mut put = |place: Place, out: usize| {
                        places[place as usize] = Some(Slot {
                            module,
                            a: a.clone(),
                            b: take(rank * out),
                        });
                    };
                    match target {
                        Target::Q => put(Place::Q, out),
                        Target::K => put(Place::K, out),
                        Target::V => put(Place::V, out),
                        Target::O => put(Place::O, out),
                        Target::Gate => put(Place::Gate, out),
                        Target::Up => put(Place::Up, out),
                        Target::Down => put(Place::Down, out),
                        Target::Qkv => {
                            put(Place::Q, spec.q_width());
                            put(Place::K, spec.kv_width());
                            put(Place::V, spec.kv_width());
                        }
                    }
                }
                places
            })
            .collect();
        let target_modules = targets
            .iter()
            .filter_map(|target| target.name(spec))
            .map(str::to_owned)
            .collect();
        Ok(Self {
            rank,
            scale: options.scale(),
            len: at,
            layers,
            config: AdapterConfig {
                r: rank,
                lora_alpha: f64::from(options.alpha),
                use_rslora: options.rslora,
                lora_dropout: f64::from(options.dropout),
                target_modules,
                base_model: None,
            },
        })
    }

    /// The adapter of a map; none if it has none.
    pub fn slot(&self, layer: usize, place: Place) -> Option<&Slot> {
        self.layers[layer][place as usize].as_ref()
    }

    /// Every A and B once.
    #[cfg(test)]
    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let mut parts: Vec<Range<usize>> = self
            .layers
            .iter()
            .flat_map(|layer| layer.iter().flatten())
            .flat_map(|slot| [slot.a.clone(), slot.b.clone()])
            .collect();
        parts.sort_by_key(|part| part.start);
        parts.dedup();
        parts.into_iter()
    }

    /// A as PEFT starts it (Kaiming uniform with a = sqrt 5, which is +-1 / sqrt in), B zero: the model is unchanged.
    pub fn start(&self, seed: u64) -> Vec<f32> {
        let mut numbers = vec![0.0; self.len];
        let mut random = Random::new(&[seed, 0xA]);
        for layer in &self.layers {
            let mut done = usize::MAX;
            for slot in layer.iter().flatten() {
                if slot.a.start == done {
                    continue;
                }
                done = slot.a.start;
                let bound = 1.0 / ((slot.a.len() / self.rank) as f32).sqrt();
                for a in &mut numbers[slot.a.clone()] {
                    *a = (2.0 * random.unit() - 1.0) * bound;
                }
            }
        }
        numbers
    }

    /// The numbers as matrices of the loaded model.
    pub fn attached(&self, numbers: &[f32]) -> AttachedLayers {
        let layers = self.layers.iter().map(|slots| {
            let mut layer = AttachedLayer::default();
            let places = [
                &mut layer.q,
                &mut layer.k,
                &mut layer.v,
                &mut layer.o,
                &mut layer.gate,
                &mut layer.up,
                &mut layer.down,
            ];
            for (place, slot) in places.into_iter().zip(slots) {
                *place = slot.as_ref().map(|slot| LowRank {
                    rank: self.rank,
                    scale: self.scale,
                    a: Arc::new(numbers[slot.a.clone()].to_vec()),
                    b: transposed(&numbers[slot.b.clone()], self.rank),
                });
            }
            layer
        });
        AttachedLayers {
            layers: layers.collect(),
        }
    }

    /// The numbers as an adapter to be written.
    pub fn adapter(&self, numbers: &[f32], spec: &DecoderSpec) -> Result<Adapter, Error> {
        let attached = self.attached(numbers);
        Ok(Adapter::detach(self.config.clone(), &attached, spec)?)
    }

    /// The numbers of an adapter with the same maps and rank.
    pub fn numbers(&self, adapter: &Adapter, spec: &DecoderSpec) -> Result<Vec<f32>, Error> {
        let mut numbers = vec![0.0; self.len];
        let attached = adapter.attach(spec)?;
        for (slots, layer) in self.layers.iter().zip(&attached.layers) {
            let places = [
                &layer.q,
                &layer.k,
                &layer.v,
                &layer.o,
                &layer.gate,
                &layer.up,
                &layer.down,
            ];
            for (slot, place) in slots.iter().zip(places) {
                match (slot, place) {
                    (None, None) => {}
                    (Some(slot), Some(place))
                        if place.rank == self.rank && place.scale == self.scale =>
                    {
                        numbers[slot.a.clone()].copy_from_slice(&place.a);
                        let turned = transposed(&place.b, place.b.len() / self.rank);
                        numbers[slot.b.clone()].copy_from_slice(&turned);
                    }
                    _ => {
                        return Err(Error::Options(
                            "the adapter's maps differ in rank or strength, or some blocks have none: Billion's trainer has one rank for all".to_owned(),
                        ));
                    }
                }
            }
        }
        Ok(numbers)
    }
}

/// (rows, cols) to (cols, rows).
pub(super) fn transposed(x: &[f32], rows: usize) -> Vec<f32> {
    let cols = x.len() / rows;
    let mut out = vec![0.0; x.len()];
    for (r, row) in x.chunks_exact(cols.max(1)).enumerate() {
        for (c, x) in row.iter().enumerate() {
            out[c * rows + r] = *x;
        }
    }
    out
}
