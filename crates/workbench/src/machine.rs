//! This machine: memory, processor, system, the identity of processes, and keeping it from going to sleep.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind,
    System,
};

/// Memory that a program can still take, in bytes: what the system calls available, or what is left of this
/// process's own limit (cgroup) where that is less.
pub(crate) fn free_memory_bytes() -> u64 {
    memory().1
}

/// (total, available) in bytes, cgroup limits applied.
pub(crate) fn memory() -> (u64, u64) {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let (mut total, mut free) = (system.total_memory(), system.available_memory());
    if let Some(limits) = system.cgroup_limits()
        && limits.total_memory > 0
        && limits.total_memory < total
    {
        total = limits.total_memory;
        free = free.min(limits.free_memory);
    }
    (total, free)
}

/// The processor in its own words.
pub(crate) fn cpu_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
    })
}

/// Cores that this process may use.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// The operating system in words.
pub(crate) fn os_words() -> String {
    System::long_os_version()
        .or_else(System::name)
        .unwrap_or_else(|| std::env::consts::OS.to_owned())
}

/// The machine as results record it.
pub(crate) fn hardware_words() -> String {
    format!(
        "{}, {} {}, {} memory, {}",
        cpu_name(),
        cores(),
        if cores() == 1 { "core" } else { "cores" },
        bytes_words(memory().0),
        os_words()
    )
}

/// Bytes as people read them: decimal units, three digits.
pub(crate) fn bytes_words(bytes: u64) -> String {
    let value = bytes as f64;
    match value {
        v if v >= 1e9 => format!("{:.1} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.0} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.0} kB", v / 1e3),
        _ => format!("{bytes} B"),
    }
}

/// A process that a job belongs to. The start time tells it from a later process with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Process id.
    pub(crate) pid: u32,
    /// Seconds since the epoch.
    pub(crate) started_at: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn me() -> Self {
        static ME: OnceLock<Owner> = OnceLock::new();
        *ME.get_or_init(|| {
            let pid = std::process::id();
            Self {
                pid,
                started_at: start_of(pid).unwrap_or(0),
            }
        })
    }

    /// The process still runs.
    pub(crate) fn is_alive(self) -> bool {
        // The start time is computed from the boot time, which the system may round differently by a second.
        start_of(self.pid).is_some_and(|started| started.abs_diff(self.started_at) <= 2)
    }
}

/// When a process began, none if there is no such process (or only its remains).
fn start_of(pid: u32) -> Option<u64> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing(),
    );
    system
        .process(pid)
        .filter(|process| process.status() != sysinfo::ProcessStatus::Zombie)
        .map(sysinfo::Process::start_time)
}

/// Seconds since the epoch.
pub(crate) fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Keeps the machine from going to sleep while it lives, where the system has a tool for it; silently without.
#[derive(Debug)]
pub(crate) struct Awake(Option<Child>);

impl Awake {
    /// `why` is what the system shows.
    pub(crate) fn while_working(why: &str) -> Self {
        // `cat` ends when our end of the pipe closes, so nothing stays behind if this process is killed.
        let mut command = if cfg!(target_os = "macos") {
            let mut command = Command::new("caffeinate");
            command.args(["-i", "-w", &std::process::id().to_string()]);
            command
        } else {
            let mut command = Command::new("systemd-inhibit");
            command.args(["--what=sleep:idle", "--who=Billion", "--mode=block"]);
            command.arg(format!("--why={why}")).arg("cat");
            command
        };
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.ok())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.stdin.take());
            // Fails only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_reused_number_is_not_it() {
        let me = Owner::me();
        assert!(me.started_at > 0);
        assert!(me.is_alive());
        assert!(
            !Owner {
                started_at: me.started_at - 1000,
                ..me
            }
            .is_alive()
        );
        let mut child = Command::new("true").spawn().unwrap();
        let gone = Owner {
            pid: child.id(),
            started_at: now() as u64,
        };
        child.wait().unwrap();
        assert!(!gone.is_alive());
    }

    #[test]
    fn memory_is_known() {
        let (total, free) = memory();
        assert!(total > 0 && free > 0 && free <= total);
        assert!(hardware_words().contains("memory"));
    }

    #[test]
    fn bytes_read_as_people_say_them() {
        assert_eq!(bytes_words(98_362_432), "98 MB");
        assert_eq!(bytes_words(2_250_000_000), "2.2 GB");
        assert_eq!(bytes_words(12), "12 B");
    }
}
