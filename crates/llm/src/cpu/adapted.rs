//! Adapters as the CPU executor applies them: two thin products in f32 beside each adapted linear map.
//!
//! Every row is worked on by itself, so neighbours with another adapter or none change nothing. It owns no arithmetic
//! (`billion_kernels::ops::add_low_rank`) and no files (`crate::adapter`).

use std::sync::Arc;

use billion_kernels::{Isa, Pool, ops};

use crate::adapter::{AttachedLayer, AttachedLayers, LowRank, Target};
use crate::decoder::DecodeError;
use crate::spec::DecoderSpec;

/// One adapted linear map.
pub(super) struct Thin {
    /// Shape: (rank, in).
    a: Arc<Vec<f32>>,
    /// Shape: (rank, out).
    b: Vec<f32>,
    scale: f32,
}

/// The adapted linear maps of a block.
#[derive(Default)]
pub(super) struct ThinLayer {
    pub q: Option<Thin>,
    pub k: Option<Thin>,
    pub v: Option<Thin>,
    pub o: Option<Thin>,
    pub gate: Option<Thin>,
    pub up: Option<Thin>,
    pub down: Option<Thin>,
}

/// An adapter ready for use.
pub(super) struct Adapted {
    pub layers: Vec<ThinLayer>,
    pub bytes: usize,
}

impl Adapted {
    /// Transposes every B. Fails if a matrix does not fit the model.
    pub(super) fn new(attached: &AttachedLayers, spec: &DecoderSpec) -> Result<Self, DecodeError> {
        attached.check(spec).map_err(DecodeError::Invalid)?;
        Ok(Self {
            layers: attached.layers.iter().map(ThinLayer::new).collect(),
            bytes: attached.bytes(),
        })
    }
}

impl ThinLayer {
    fn new(layer: &AttachedLayer) -> Self {
        let mut thin = Self::default();
        for (target, low_rank) in layer.all() {
            let place = match target {
                Target::Q => &mut thin.q,
                Target::K => &mut thin.k,
                Target::V => &mut thin.v,
                Target::O => &mut thin.o,
                Target::Gate => &mut thin.gate,
                Target::Up => &mut thin.up,
                Target::Down | Target::Qkv => &mut thin.down,
            };
            *place = Some(Thin::new(low_rank));
        }
        thin
    }
}

impl Thin {
    fn new(low_rank: &LowRank) -> Self {
        let rank = low_rank.rank;
        let column = |at: usize| low_rank.b.iter().skip(at).step_by(rank);
        Self {
            a: Arc::clone(&low_rank.a),
            b: (0..rank).flat_map(column).copied().collect(),
            scale: low_rank.scale,
        }
    }
}

/// The adapters of a pass's rows.
#[derive(Clone, Copy)]
pub(super) struct RowAdapters<'a> {
    /// One a row of the block.
    pub rows: &'a [Option<Arc<Adapted>>],
    /// Rows that are left of the block; all if none.
    pub kept: Option<&'a [usize]>,
    /// Number of the layer at hand.
    pub layer: usize,
}

/// Which linear map of a layer.
pub(super) type Pick = fn(&ThinLayer) -> Option<&Thin>;

impl RowAdapters<'_> {
    fn of(&self, row: usize) -> Option<&ThinLayer> {
        let row = self.kept.map_or(row, |kept| kept[row]);
        let adapted = self.rows.get(row)?.as_ref()?;
        adapted.layers.get(self.layer)
    }

    /// Adds to y, shape (rows, out), what the rows' adapters make of x, shape (rows, in).
    pub(super) fn add(
        self,
        (isa, pool): (Isa, &Pool),
        (x, cols): (&[f32], usize),
        (y, out): (&mut [f32], usize),
        pick: Pick,
    ) {
        // Empty where no row has an adapter.
        if self.rows.is_empty() {
            return;
        }
        ops::for_each_row(pool, y, out, &|row, y| {
            if let Some(thin) = self.of(row).and_then(pick) {
                let x = &x[row * cols..(row + 1) * cols];
                ops::add_low_rank(isa, x, (&thin.a, &thin.b), thin.scale, y);
            }
        });
    }
}
