//! The instruction set that kernels run on: chosen at run time, once.
//!
//! An [`Isa`] exists only after this CPU has been asked for it, so a kernel that takes one may use its instructions.

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

/// Ordered from the plainest to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust on any machine.
    Scalar,
    /// AVX2 with FMA and F16C (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ, VL with VNNI.
    Avx512,
}

impl Isa {
    /// The best one here; the environment variable `BILLION_ISA` (`scalar`, `avx2`, `avx512`) lowers it, never raises it.
    pub fn detect() -> Self {
        let best = Self(best_level());
        let asked = match std::env::var("BILLION_ISA").as_deref() {
            Ok("scalar") => Self(Level::Scalar),
            Ok("avx2") => Self(Level::Avx2),
            _ => best,
        };
        best.min(asked)
    }

    /// Every one this CPU has, plainest first.
    pub fn available() -> Vec<Self> {
        [Level::Scalar, Level::Avx2, Level::Avx512]
            .into_iter()
            .filter(|level| *level <= best_level())
            .map(Self)
            .collect()
    }

    /// The plain one, which every machine has.
    pub const fn scalar() -> Self {
        Self(Level::Scalar)
    }

    /// Its name on screen and in results.
    pub const fn name(self) -> &'static str {
        match self.level() {
            Level::Scalar => "scalar",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX512-VNNI",
        }
    }

    pub(crate) const fn level(self) -> Level {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
fn best_level() -> Level {
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
        (_, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, false) => Level::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_level() -> Level {
    Level::Scalar
}
