//! How much memory is free on this machine, the limits of a container included.

use sysinfo::System;

/// Bytes that a new process could use now without pushing others out.
pub fn free_bytes() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let machine = system.available_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => machine.min(limits.free_memory),
        _ => machine,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn some_memory_is_free_and_not_more_than_there_is() {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let free = super::free_bytes();
        assert!(free > 0 && free <= system.total_memory(), "{free}");
    }
}
