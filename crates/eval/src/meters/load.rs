//! How busy other programs kept the processor during a measurement, from the kernel's tick counters (Linux: proc(5)).

/// Ticks since the machine started and since this process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    /// Ticks in which a core was at work, all cores together.
    pub busy: u64,
    /// Ticks of all cores, idle ones included.
    pub total: u64,
    /// Ticks of this process, user and system.
    pub own: u64,
    /// Cores counted.
    pub cores: u64,
}

/// Other programs keep this many cores busy or more: the measurement was disturbed.
pub const DISTURBED_CORES: f64 = 0.25;

impl CpuTimes {
    /// Reads the counters; `None` where the system has no `/proc`.
    pub fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&stat, &own)
    }

    /// From the texts of `/proc/stat` and `/proc/self/stat`.
    pub fn parse(stat: &str, own: &str) -> Option<Self> {
        let first = stat.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; guest ticks are part of user ticks.
        let ticks: Vec<u64> = first
            .split_whitespace()
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let total: u64 = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
        let cores = stat
            .lines()
            .filter(|line| {
                line.strip_prefix("cpu")
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
            .count() as u64;
        // The name of the program may hold spaces and brackets; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let own = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self {
            busy: total - idle,
            total,
            own,
            cores: cores.max(1),
        })
    }

    /// Cores that other programs kept busy on average since `earlier`; `None` if no tick has passed.
    pub fn others_since(&self, earlier: &Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|&t| t > 0)?;
        let busy = self.busy.saturating_sub(earlier.busy);
        let own = self.own.saturating_sub(earlier.own);
        Some(busy.saturating_sub(own) as f64 / total as f64 * self.cores as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 50 0 25 400 25 0 0 0 7 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nintr 5\n";
    const OWN: &str = "77 (a (strange) name) R 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 2 0 99";

    #[test]
    fn parses_and_subtracts_its_own_work() {
        let before = CpuTimes::parse(STAT, OWN).expect("parsed");
        assert_eq!(
            before,
            CpuTimes {
                busy: 150,
                total: 1000,
                own: 42,
                cores: 2
            }
        );
        let after = CpuTimes {
            busy: 300,
            total: 1200,
            own: 142,
            cores: 2,
        };
        // 150 busy ticks, 100 of them ours, of 200 over two cores: half a core.
        assert_eq!(after.others_since(&before), Some(0.5));
        assert_eq!(before.others_since(&before), None);
        for (stat, own) in [
            ("", OWN),
            ("cpu  1 2\n", OWN),
            (STAT, "77 name"),
            (STAT, "77 (x) R 1"),
        ] {
            assert_eq!(CpuTimes::parse(stat, own), None);
        }
    }

    #[test]
    fn this_machine_is_readable_on_linux() {
        if cfg!(target_os = "linux") {
            let now = CpuTimes::read().expect("/proc is there");
            assert!(now.total >= now.busy && now.cores >= 1);
        }
    }
}
