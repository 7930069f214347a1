//! Adapters as candle tensors, in operations that candle can differentiate.
//!
//! It owns no files and no row orders (`crate::adapter`).

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use crate::adapter::{AttachedLayer, AttachedLayers, LowRank, Target};

/// What is added to one linear map: scale * B * A. Training replaces the tensors by variables.
#[derive(Clone, Debug)]
pub struct CandleLowRank {
    /// Shape: (rank, in), F32.
    pub a: Tensor,
    /// Shape: (out, rank), F32.
    pub b: Tensor,
    /// What the product is multiplied by.
    pub scale: f64,
}

impl CandleLowRank {
    /// y (rows, out) plus what is made of x (rows, in).
    pub fn add_to(&self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let inner = x.matmul(&self.a.t()?)?;
        y + (inner.matmul(&self.b.t()?)? * self.scale)?
    }
}

/// What is added to the linear maps of one block.
#[derive(Clone, Debug, Default)]
pub struct CandleAdapterLayer {
    /// To queries.
    pub q: Option<CandleLowRank>,
    /// To keys.
    pub k: Option<CandleLowRank>,
    /// To values.
    pub v: Option<CandleLowRank>,
    /// To attention's output.
    pub o: Option<CandleLowRank>,
    /// To the MLP's gate.
    pub gate: Option<CandleLowRank>,
    /// Into the MLP.
    pub up: Option<CandleLowRank>,
    /// Out of the MLP.
    pub down: Option<CandleLowRank>,
}

impl CandleAdapterLayer {
    /// The place of a linear map; none for the fused one.
    pub fn place(&mut self, target: Target) -> Option<&mut Option<CandleLowRank>> {
        Some(match target {
            Target::Q => &mut self.q,
            Target::K => &mut self.k,
            Target::V => &mut self.v,
            Target::O => &mut self.o,
            Target::Gate => &mut self.gate,
            Target::Up => &mut self.up,
            Target::Down => &mut self.down,
            Target::Qkv => return None,
        })
    }
}

/// An adapter on a device.
#[derive(Clone, Debug, Default)]
pub struct CandleAdapter {
    /// One a block.
    pub layers: Vec<CandleAdapterLayer>,
}

impl CandleAdapter {
    /// Brings an adapter to a device.
    pub fn new(attached: &AttachedLayers, device: &Device) -> Result<Self> {
        let layers = attached.layers.iter();
        Ok(Self {
            layers: layers
                .map(|layer| bring(layer, device))
                .collect::<Result<_>>()?,
        })
    }

    /// Of one block.
    pub(super) fn layer(&self, index: usize) -> Option<&CandleAdapterLayer> {
        self.layers.get(index)
    }
}

fn bring(layer: &AttachedLayer, device: &Device) -> Result<CandleAdapterLayer> {
    // Queries, keys and values of a fused map share A.
    let mut shared: Vec<(&Arc<Vec<f32>>, Tensor)> = Vec::new();
    let mut brought = CandleAdapterLayer::default();
    for (target, low_rank) in layer.all() {
        let LowRank { rank, scale, a, b } = low_rank;
        let known = shared.iter().find(|(known, _)| Arc::ptr_eq(known, a));
        let tensor = if let Some((_, tensor)) = known {
            tensor.clone()
        } else {
            let tensor = Tensor::from_slice(a, (*rank, a.len() / rank), device)?;
            shared.push((a, tensor.clone()));
            tensor
        };
        if let Some(place) = brought.place(target) {
            *place = Some(CandleLowRank {
                a: tensor,
                b: Tensor::from_slice(b, (b.len() / rank, *rank), device)?,
                scale: f64::from(*scale),
            });
        }
    }
    Ok(brought)
}
