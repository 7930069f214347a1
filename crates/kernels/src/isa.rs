//! The instruction set that kernels run on: chosen at run time, once.
//!
//! An [`Isa`] exists only after this CPU has been asked for it, so a kernel that takes one may use its instructions.

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa {
    level: Level,
    /// Besides, bf16 numbers are multiplied by instructions of their own (AVX512-BF16).
    bf16: bool,
}

/// Those of this kind of machine, ordered from the plainest to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust on any machine.
    Scalar,
    /// AVX2 with FMA and F16C (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON with byte dot products (`sdot`: Armv8.4, optional from 8.1 on).
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Every level of this kind of machine and the word that asks for it, plainest first.
const LEVELS: &[(&str, Level)] = &[
    ("scalar", Level::Scalar),
    #[cfg(target_arch = "x86_64")]
    ("avx2", Level::Avx2),
    #[cfg(target_arch = "x86_64")]
    ("avx512", Level::Avx512),
    #[cfg(target_arch = "aarch64")]
    ("neon", Level::Neon),
];

impl Isa {
    /// The best one here; the environment variable `BILLION_ISA` (`scalar`, `avx2`, `avx512`: without BF16; `scalar`, `neon` on
    /// 64-bit Arm) lowers it, never raises it.
    pub fn detect() -> Self {
        let asked = std::env::var("BILLION_ISA").ok();
        let asked = LEVELS
            .iter()
            .find(|(word, _)| asked.as_deref() == Some(word));
        asked.map_or(best(), |(_, level)| best().min(Self::plain(*level)))
    }

    /// Every one this CPU has, plainest first.
    pub fn available() -> Vec<Self> {
        let levels = LEVELS.iter().map(|(_, level)| Self::plain(*level));
        let mut all: Vec<_> = levels.filter(|isa| *isa <= best()).collect();
        if best().bf16 {
            all.push(best());
        }
        all
    }

    /// The plain one, which every machine has.
    pub const fn scalar() -> Self {
        Self::plain(Level::Scalar)
    }

    const fn plain(level: Level) -> Self {
        Self { level, bf16: false }
    }

    /// Its name on screen and in results.
    pub const fn name(self) -> &'static str {
        match self.level() {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if self.bf16 => "AVX512-VNNI-BF16",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX512-VNNI",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "NEON",
        }
    }

    pub(crate) const fn level(self) -> Level {
        self.level
    }

    /// Whether bf16 numbers are multiplied by instructions of their own.
    pub(crate) const fn has_bf16(self) -> bool {
        self.bf16
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    match (avx2, avx512) {
        (_, true) => Isa {
            level: Level::Avx512,
            bf16: is_x86_feature_detected!("avx512bf16"),
        },
        (true, false) => Isa::plain(Level::Avx2),
        (false, false) => Isa::scalar(),
    }
}

#[cfg(target_arch = "aarch64")]
fn best() -> Isa {
    // Asked for itself, although `dotprod` brings it.
    let neon = std::arch::is_aarch64_feature_detected!("neon");
    if neon && std::arch::is_aarch64_feature_detected!("dotprod") {
        Isa::plain(Level::Neon)
    } else {
        Isa::scalar()
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn best() -> Isa {
    Isa::scalar()
}
