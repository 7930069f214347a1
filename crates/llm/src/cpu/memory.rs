//! Whether an allocation fits the memory that is free: an estimate before large allocations, so that they fail with a
//! message and not by the system's killer.

use crate::decoder::DecodeError;
use std::fs;

/// Allocations below this are not worth asking the system.
const SMALL: usize = 64 << 20;

/// `Err` with figures if `bytes` more for `what` are more than the machine has free. Unknown counts as free.
pub(super) fn check(what: &str, bytes: usize, advice: &str) -> Result<(), String> {
    if bytes < SMALL {
        return Ok(());
    }
    match available() {
        Some(free) if (bytes as u64) > free => Err(format!(
            "{what} need {} MB of memory, {} MB are free; {advice}",
            bytes.div_ceil(1_000_000),
            free / 1_000_000
        )),
        _ => Ok(()),
    }
}

/// Room for logits of shape (rows, width), in `spare` if it is large enough; it holds leftovers until written. Or an error that
/// says how many there would have been.
pub(super) fn logits(spare: Vec<f32>, rows: usize, width: usize) -> Result<Vec<f32>, DecodeError> {
    let numbers = rows.saturating_mul(width);
    if spare.capacity() >= numbers {
        let mut data = spare;
        data.resize(numbers, 0.0);
        return Ok(data);
    }
    drop(spare);
    let mut data = Vec::new();
    let bytes = numbers.saturating_mul(size_of::<f32>());
    check("the logits", bytes, "ask for fewer positions in one pass")
        .map_err(DecodeError::Backend)?;
    data.try_reserve_exact(numbers).map_err(|_| {
        DecodeError::Backend(format!(
            "no memory for the logits of {rows} positions ({} MB); ask for fewer in one pass",
            bytes / 1_000_000
        ))
    })?;
    data.resize(numbers, 0.0);
    Ok(data)
}

/// Bytes that can be allocated without pushing anything out that cannot be read again (Linux: `MemAvailable` and free
/// swap, proc(5)); none where the system does not say.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()
    };
    Some((field("MemAvailable")? + field("SwapFree").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_figures() {
        assert!(check("tests", 1000, "").is_ok());
        if available().is_some() {
            let refused = check("tests", usize::MAX / 2, "use less").unwrap_err();
            assert!(
                refused.contains("tests need 9223372036855 MB") && refused.ends_with("use less"),
                "{refused}"
            );
        }
        assert!(matches!(
            logits(Vec::new(), usize::MAX / 8, 1 << 20),
            Err(DecodeError::Backend(_))
        ));
        assert_eq!(logits(Vec::new(), 2, 3).unwrap(), [0.0; 6]);
    }

    #[test]
    fn room_is_used_again_where_it_suffices() {
        let spare = vec![1.0; 6];
        let start = spare.as_ptr();
        let fewer = logits(spare, 1, 3).unwrap();
        assert_eq!((fewer.as_ptr(), fewer.len()), (start, 3));
        let again = logits(fewer, 2, 3).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (start, 6));
        assert_eq!(logits(again, 3, 3).unwrap(), [0.0; 9]);
    }
}
