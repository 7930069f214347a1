//! The second trainer: candle's autograd over `billion_llm::candle::CandleModel` with weights in F32.
//!
//! It is the oracle of the processor's trainer and what trains on CUDA and Metal. One example at a time: its graph is all that
//! is in memory beside the weights.

use billion_llm::adapter::Target;
use billion_llm::candle::{CandleAdapter, CandleAdapterLayer, CandleLowRank, CandleModel, HeldAs};
use billion_llm::device::Device;
use billion_llm::spec::{DecoderSpec, DecoderTensors, TensorView};
use candle_core::{D, Tensor, Var};

use super::engine::{Engine, Work};
use super::frozen::Place;
use super::trainable::{Slot, Trainable, transposed};
use crate::Error;
use crate::dataset::Example;

/// Computes losses and gradients by autograd.
pub(super) struct CandleEngine<'a> {
    model: CandleModel,
    trainable: &'a Trainable,
}

/// The maps of a block and their names in an adapter's block.
const MAPS: [(Place, Target); 7] = [
    (Place::Q, Target::Q),
    (Place::K, Target::K),
    (Place::V, Target::V),
    (Place::O, Target::O),
    (Place::Gate, Target::Gate),
    (Place::Up, Target::Up),
    (Place::Down, Target::Down),
];

/// A variable and where its numbers are; `turned`: B, whose numbers are kept turned.
struct Leaf {
    var: Var,
    slot: Slot,
    turned: bool,
}

impl<'a> CandleEngine<'a> {
    /// Brings the weights to the device, in F32.
    pub fn new(
        spec: &DecoderSpec,
        tensors: &DecoderTensors<TensorView<'_>>,
        trainable: &'a Trainable,
        device: Device,
    ) -> Result<Self, Error> {
        let device = device.open()?;
        Ok(Self {
            model: CandleModel::load(spec, tensors, &device, HeldAs::F32)?,
            trainable,
        })
    }

    /// The numbers as variables, and as an adapter of them.
    fn leaves(&self, numbers: &[f32]) -> candle_core::Result<(CandleAdapter, Vec<Leaf>)> {
        let (rank, device) = (self.trainable.rank, self.model.device());
        let mut leaves: Vec<Leaf> = Vec::new();
        let mut layers = Vec::new();
        for index in 0..self.model.spec().layers {
            let mut layer = CandleAdapterLayer::default();
            for (place, target) in MAPS {
                let Some(slot) = self.trainable.slot(index, place) else {
                    continue;
                };
                let shared = leaves
                    .iter()
                    .find(|leaf| !leaf.turned && leaf.slot.a == slot.a);
                let a = if let Some(leaf) = shared {
                    leaf.var.as_tensor().clone()
                } else {
                    let cols = slot.a.len() / rank;
                    let a = &numbers[slot.a.clone()];
                    let var = Var::from_slice(a, (rank, cols), device)?;
                    let tensor = var.as_tensor().clone();
                    leaves.push(Leaf {
                        var,
                        slot: slot.clone(),
                        turned: false,
                    });
                    tensor
                };
                let b = transposed(&numbers[slot.b.clone()], rank);
                let var = Var::from_slice(&b, (b.len() / rank, rank), device)?;
                let b = var.as_tensor().clone();
                leaves.push(Leaf {
                    var,
                    slot: slot.clone(),
                    turned: true,
                });
                if let Some(place) = layer.place(target) {
                    *place = Some(CandleLowRank {
                        a,
                        b,
                        scale: f64::from(self.trainable.scale),
                    });
                }
            }
            layers.push(layer);
        }
        Ok((CandleAdapter { layers }, leaves))
    }

    /// Sum of the losses of an example's scored tokens.
    fn example(
        &self,
        example: &Example,
        adapter: &CandleAdapter,
    ) -> candle_core::Result<Option<Tensor>> {
        let wanted = (1..example.tokens.len()).filter(|i| example.scored[*i]);
        let (rows, targets): (Vec<u32>, Vec<u32>) =
            wanted.map(|i| (i as u32 - 1, example.tokens[i])).unzip();
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let tokens = &example.tokens[..=*last as usize];
        let mut attend = |_: usize, k, v| Ok((k, v));
        let hidden = self
            .model
            .hidden_with(Some(adapter), tokens, 0, &mut attend)?;
        let logits = self.model.logits(&hidden, &rows)?;
        let count = targets.len();
        let targets = Tensor::from_vec(targets, (count, 1), self.model.device())?;
        let top = logits.max_keepdim(D::Minus1)?.detach();
        let sums = logits.broadcast_sub(&top)?.exp()?.sum_keepdim(D::Minus1)?;
        let losses = ((sums.log()? + top)? - logits.gather(&targets, D::Minus1)?)?;
        losses.sum_all().map(Some)
    }

    fn run(&self, work: &Work<'_>, gradients: Option<&mut [f32]>) -> candle_core::Result<f64> {
        let (adapter, leaves) = self.leaves(work.numbers)?;
        let mut gradients = gradients;
        let mut total = 0.0;
        for (example, _) in work.examples {
            let Some(loss) = self.example(example, &adapter)? else {
                continue;
            };
            total += f64::from(loss.to_scalar::<f32>()?);
            let Some(gradients) = gradients.as_deref_mut() else {
                continue;
            };
            let found = (loss * f64::from(work.scale))?.backward()?;
            for leaf in &leaves {
                let Some(gradient) = found.get(leaf.var.as_tensor()) else {
                    continue;
                };
                let numbers = gradient.flatten_all()?.to_vec1::<f32>()?;
                let (range, numbers) = if leaf.turned {
                    let rows = numbers.len() / self.trainable.rank;
                    (&leaf.slot.b, transposed(&numbers, rows))
                } else {
                    (&leaf.slot.a, numbers)
                };
                for (sum, number) in gradients[range.clone()].iter_mut().zip(numbers) {
                    *sum += number;
                }
            }
        }
        Ok(total)
    }
}

fn failed(error: &candle_core::Error) -> Error {
    Error::Model(billion_llm::Error::Backend(error.to_string()))
}

impl Engine for CandleEngine<'_> {
    fn gradients(&mut self, work: &Work<'_>, gradients: &mut [f32]) -> Result<f64, Error> {
        if work.dropout > 0.0 {
            return Err(Error::Options(
                "dropout is there on the processor only (--device cpu); set it to 0".to_owned(),
            ));
        }
        self.run(work, Some(gradients))
            .map_err(|error| failed(&error))
    }

    fn loss(&mut self, work: &Work<'_>) -> Result<f64, Error> {
        self.run(work, None).map_err(|error| failed(&error))
    }

    fn peak_bytes(&self) -> u64 {
        self.model.weights_bytes() as u64
    }

    fn recomputes(&self) -> bool {
        false
    }
}
