//! RAPL through Linux' powercap class (Documentation/power/powercap/powercap.rst): the packages of the processor, summed.
//! AMD's processors have the same files. Memory, drives and the rest of the machine are not counted.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Meter, Source};

/// No package takes more; the largest server processors are built for 500 W.
const MOST_WATTS_OF_A_PACKAGE: f64 = 1000.0;

/// Counters move about every millisecond.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

struct Package {
    /// "package-0".
    name: String,
    energy: PathBuf,
    /// The counter starts again at 0 after this many microjoules.
    range_uj: u64,
    last_uj: Option<u64>,
}

struct Packages {
    packages: Vec<Package>,
    joules: f64,
}

/// The packages below `root`/sys/class/powercap.
pub(super) fn open(root: &Path) -> Result<Box<dyn Meter>, String> {
    let class = root.join("sys/class/powercap");
    let mut packages = Vec::new();
    // Some laptops list each package a second time, through memory-mapped registers.
    for control in ["intel-rapl:", "intel-rapl-mmio:"] {
        packages = zones(&class, control)?;
        if !packages.is_empty() {
            break;
        }
    }
    if packages.is_empty() {
        return Err(why_none(root));
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    for package in &packages {
        package.read()?;
    }
    Ok(Box::new(Packages {
        packages,
        joules: 0.0,
    }))
}

/// Top zones of a control type that are packages: no parts of packages (core, uncore, dram), which would count twice or
/// not everywhere, and not the platform ("psys"), which holds the packages.
fn zones(class: &Path, control: &str) -> Result<Vec<Package>, String> {
    let Ok(entries) = std::fs::read_dir(class) else {
        return Ok(Vec::new());
    };
    let mut packages = Vec::new();
    for entry in entries.flatten() {
        let file = entry.file_name();
        let top = file
            .to_str()
            .and_then(|name| name.strip_prefix(control))
            .is_some_and(|number| !number.contains(':'));
        let folder = entry.path();
        if !top {
            continue;
        }
        let Ok(name) = std::fs::read_to_string(folder.join("name")) else {
            continue;
        };
        if !name.starts_with("package") {
            continue;
        }
        let range = folder.join("max_energy_range_uj");
        packages.push(Package {
            name: name.trim().to_owned(),
            energy: folder.join("energy_uj"),
            range_uj: number(&range).map_err(|why| format!("{}: {why}", range.display()))?,
            last_uj: None,
        });
    }
    Ok(packages)
}

fn number(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim()
        .parse()
        .map_err(|_| format!("{:?} is no number", text.trim()))
}

impl Package {
    fn read(&self) -> Result<u64, String> {
        match std::fs::read_to_string(&self.energy) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(denied(&self.energy)),
            Err(error) => Err(format!("{}: {error}", self.energy.display())),
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| format!("{}: {:?} is no number", self.energy.display(), text.trim())),
        }
    }
}

/// What to do about a counter that only root may read: Linux closed it after PLATYPUS (CVE-2020-8694).
pub(super) fn denied(energy: &Path) -> String {
    let pattern = energy
        .parent()
        .and_then(Path::parent)
        .map_or_else(String::new, |class| {
            format!("{}/intel-rapl*/energy_uj", class.display())
        });
    format!(
        "only root may read {}; `sudo chmod a+r {pattern}` opens it until the next start, for every program on this machine, which could then guess at secrets such as keys from the power they cost (CVE-2020-8694): do it only where you trust all programs and users, and close it again with `sudo chmod go-r` and the same path",
        energy.display()
    )
}

fn why_none(root: &Path) -> String {
    if !cfg!(target_os = "linux") {
        return "only Linux shows these counters".to_owned();
    }
    let cpuinfo = std::fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let flag = |wanted: &str| {
        cpuinfo.lines().any(|line| {
            line.starts_with("flags") && line.split_whitespace().any(|flag| flag == wanted)
        })
    };
    let folder = root.join("sys/class/powercap");
    let missing = format!("{} shows no processor package", folder.display());
    if flag("hypervisor") {
        format!(
            "{missing}: this is a virtual machine, and its host passes no energy counters on; measure on a machine of your own"
        )
    } else if cpuinfo.contains("GenuineIntel") || cpuinfo.contains("AuthenticAMD") {
        format!(
            "{missing}; `sudo modprobe intel_rapl_msr` loads the kernel's reader (for AMD too), unless this is a container that hides it"
        )
    } else {
        format!("{missing}: only Intel's and AMD's processors have these counters")
    }
}

impl Meter for Packages {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn covers(&self) -> String {
        let names: Vec<&str> = self.packages.iter().map(|p| p.name.as_str()).collect();
        format!(
            "the processor ({}), without memory and the rest of the machine",
            names.join(" + ")
        )
    }

    fn poll(&mut self, _: Duration) -> Result<f64, String> {
        let mut moved_uj = 0;
        for package in &mut self.packages {
            let now = package.read()?;
            let last = package.last_uj.replace(now).unwrap_or(now);
            moved_uj += if now >= last {
                now - last
            } else if last <= package.range_uj {
                package.range_uj - last + now
            } else {
                return Err(format!(
                    "the counter of {} fell from {last} to {now} µJ, although it may reach only {} µJ",
                    package.name, package.range_uj
                ));
            };
        }
        self.joules += moved_uj as f64 / 1e6;
        Ok(self.joules)
    }

    fn least_window(&self) -> Duration {
        LEAST_WINDOW
    }

    fn most_watts(&self) -> f64 {
        MOST_WATTS_OF_A_PACKAGE * self.packages.len() as f64
    }
}
