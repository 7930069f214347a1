//! x86-64: one file per instruction set.

/// A table of one kernel for each number of rows of a panel.
macro_rules! by_rows {
    ($kernel:ident, $($arg:expr),*) => {
        [
            $kernel::<1, $({ $arg }),*>,
            $kernel::<2, $({ $arg }),*>,
            $kernel::<3, $({ $arg }),*>,
            $kernel::<4, $({ $arg }),*>,
            $kernel::<5, $({ $arg }),*>,
            $kernel::<6, $({ $arg }),*>,
            $kernel::<7, $({ $arg }),*>,
            $kernel::<8, $({ $arg }),*>,
        ]
    };
}
use by_rows;

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avx512_bf16;
