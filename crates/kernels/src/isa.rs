//! The instruction set that kernels run on: chosen at run time, once.
//!
//! An [`Isa`] exists only after this CPU has been asked for it, so a kernel that takes one may use its instructions.

use std::sync::Once;

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Kind);

/// Those of this kind of machine, ordered from the plainest to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Plain Rust on any machine.
    Scalar,
    /// AVX2 with FMA and F16C (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Besides, byte dot products in AVX2's registers (AVX-VNNI: Intel since Alder Lake, AMD since Zen 5).
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Besides, dot products of bf16 (AVX512-BF16).
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// NEON with byte dot products (`sdot`: Armv8.4, optional from 8.1 on).
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Every kind of this kind of machine, the word that asks for it and its name on screen, plainest first.
const KINDS: &[(Kind, &str, &str)] = &[
    (Kind::Scalar, "scalar", "scalar"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx2, "avx2", "AVX2"),
    #[cfg(target_arch = "x86_64")]
    (Kind::AvxVnni, "avx-vnni", "AVX-VNNI"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx512, "avx512", "AVX512-VNNI"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx512Bf16, "avx512-bf16", "AVX512-VNNI-BF16"),
    #[cfg(target_arch = "aarch64")]
    (Kind::Neon, "neon", "NEON"),
];

/// Which registers and basic instructions an [`Isa`] has; what it has besides is asked by methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// None.
    Scalar,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI, and all of AVX2's.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON and `sdot`.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// The best one here, or that which the environment variable `BILLION_ISA` asks for: `scalar`, `avx2`, `avx-vnni`, `avx512`,
    /// `avx512-bf16`; `scalar`, `neon` on 64-bit Arm. If this CPU has not what is asked for, a line on standard error says so, once.
    pub fn detect() -> Self {
        static TOLD: Once = Once::new();
        let best = Self::available().into_iter().last();
        let best = best.unwrap_or(Self::scalar());
        let Ok(asked) = std::env::var("BILLION_ISA") else {
            return best;
        };
        let mut here = KINDS.iter().filter(|(kind, _, _)| has(*kind));
        if let Some((kind, _, _)) = here.clone().find(|(_, word, _)| *word == asked) {
            return Self(*kind);
        }
        TOLD.call_once(|| {
            let words: Vec<_> = here.by_ref().map(|(_, word, _)| *word).collect();
            eprintln!(
                "BILLION_ISA={asked}: this processor has {}; using {}",
                words.join(", "),
                best.name()
            );
        });
        best
    }

    /// Every one this CPU has, plainest first.
    pub fn available() -> Vec<Self> {
        KINDS
            .iter()
            .filter(|(kind, _, _)| has(*kind))
            .map(|(kind, _, _)| Self(*kind))
            .collect()
    }

    /// The plain one, which every machine has.
    pub const fn scalar() -> Self {
        Self(Kind::Scalar)
    }

    /// Its name on screen and in results.
    pub fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, _, _)| *kind == self.0)
            .map_or("", |(_, _, name)| name)
    }

    pub(crate) const fn level(self) -> Level {
        match self.0 {
            Kind::Scalar => Level::Scalar,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx512Bf16 => Level::Avx512,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => Level::Neon,
        }
    }

    /// Whether it has AVX-VNNI beside AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn has_avx_vnni(self) -> bool {
        matches!(self.0, Kind::AvxVnni)
    }

    /// Whether bf16 numbers are multiplied by instructions of their own.
    pub(crate) const fn has_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => true,
            _ => false,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has(kind: Kind) -> bool {
    let avx2 = || {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    };
    let avx512 = || {
        avx2()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    };
    match kind {
        Kind::Scalar => true,
        Kind::Avx2 => avx2(),
        Kind::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
        Kind::Avx512 => avx512(),
        Kind::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
    }
}

#[cfg(target_arch = "aarch64")]
fn has(kind: Kind) -> bool {
    match kind {
        Kind::Scalar => true,
        // NEON is asked for itself, although `dotprod` brings it.
        Kind::Neon => {
            std::arch::is_aarch64_feature_detected!("neon")
                && std::arch::is_aarch64_feature_detected!("dotprod")
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has(kind: Kind) -> bool {
    kind == Kind::Scalar
}
