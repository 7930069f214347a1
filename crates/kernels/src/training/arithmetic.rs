//! In which numbers products with frozen weights are computed: chosen once, like the instruction set.

use crate::Isa;

/// How frozen weights meet activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    isa: Isa,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// f32 throughout.
    F32,
    /// Both operands rounded to bf16, sums f32, in plain Rust: the twin of [`Kind::Bf16`].
    Bf16Plain,
    /// The same by `vdpbf16ps`. Exists only where the processor has it.
    Bf16,
}

impl Arithmetic {
    /// The fastest for weights that are F32 or not: F32 models are computed exactly.
    pub fn choose(isa: Isa, weights_are_f32: bool) -> Self {
        let kind = if !weights_are_f32 && isa.has_bf16() {
            Kind::Bf16
        } else {
            Kind::F32
        };
        Self { isa, kind }
    }

    /// Every one that this instruction set has, the twin of bf16 included.
    pub fn available(isa: Isa) -> Vec<Self> {
        let mut all = vec![Kind::F32, Kind::Bf16Plain];
        if isa.has_bf16() {
            all.push(Kind::Bf16);
        }
        all.into_iter().map(|kind| Self { isa, kind }).collect()
    }

    /// The instruction set of everything around.
    pub const fn isa(self) -> Isa {
        self.isa
    }

    /// Activations and weights are rounded to bf16 before they are multiplied.
    pub fn is_bf16(self) -> bool {
        self.kind != Kind::F32
    }

    /// Its name on screen and in results.
    pub fn name(self) -> &'static str {
        match self.kind {
            Kind::F32 => self.isa.name(),
            Kind::Bf16Plain => "bf16 in plain Rust",
            Kind::Bf16 => "AVX512-BF16",
        }
    }

    pub(super) const fn kind(self) -> Kind {
        self.kind
    }
}
