//! Readers against recorded sysfs trees, and runs against machines whose energy is known.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::run::{EnergyOptions, Instruments, Outcome, run};
use super::*;
use crate::clock::Clock;
use crate::fakes::{FakeClock, FakeDecoder};
use crate::meters::load::CpuTimes;
use crate::{Error, Event};
use std::ops::ControlFlow;

const VIRTUAL: &str =
    "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse avx2 hypervisor lahf_lm\n";
const METAL: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu sse avx2 lahf_lm\n";

/// A recorded tree: files and their texts below a root of its own.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        tree.set(files);
        tree
    }

    fn set(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = self.path(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, format!("{text}\n")).expect("written");
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix("BAT") {
            Some(_) => self.0.path().join("sys/class/power_supply").join(path),
            None if path.starts_with("intel-rapl") => {
                self.0.path().join("sys/class/powercap").join(path)
            }
            None => self.0.path().join(path),
        }
    }

    fn open(&self, device: &str) -> Result<Box<dyn Meter>, String> {
        open(&Wanted {
            root: self.0.path().to_owned(),
            device: device.to_owned(),
        })
    }

    fn why(&self) -> String {
        match self.open("cpu") {
            Ok(meter) => panic!("{} is there", meter.covers()),
            Err(why) => why,
        }
    }
}

/// Two packages, each with its parts, the platform, and the second list of the first package.
fn two_packages() -> Tree {
    Tree::new(&[
        ("intel-rapl/enabled", "1"),
        ("intel-rapl:0/name", "package-0"),
        ("intel-rapl:0/energy_uj", "1000000"),
        ("intel-rapl:0/max_energy_range_uj", "262143328850"),
        ("intel-rapl:0:0/name", "core"),
        ("intel-rapl:0:0/energy_uj", "777"),
        ("intel-rapl:0:0/max_energy_range_uj", "262143328850"),
        ("intel-rapl:0:1/name", "uncore"),
        ("intel-rapl:0:1/energy_uj", "888"),
        ("intel-rapl:0:2/name", "dram"),
        ("intel-rapl:0:2/energy_uj", "999"),
        ("intel-rapl:1/name", "package-1"),
        ("intel-rapl:1/energy_uj", "262143000000"),
        ("intel-rapl:1/max_energy_range_uj", "262143328850"),
        ("intel-rapl:2/name", "psys"),
        ("intel-rapl:2/energy_uj", "5"),
        ("intel-rapl:2/max_energy_range_uj", "262143328850"),
        ("intel-rapl-mmio:0/name", "package-0"),
        ("intel-rapl-mmio:0/energy_uj", "1000000"),
        ("intel-rapl-mmio:0/max_energy_range_uj", "262143328850"),
    ])
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn near(got: f64, want: f64) {
    assert!(
        (got - want).abs() <= 1e-9 * want.abs().max(1.0),
        "{got} is not {want}"
    );
}

#[test]
fn packages_are_summed_parts_are_not_and_a_counter_wraps_around() {
    let tree = two_packages();
    let mut meter = tree.open("cpu").expect("opened");
    assert_eq!(meter.source(), Source::Rapl);
    assert_eq!(
        meter.covers(),
        "the processor (package-0 + package-1), without memory and the rest of the machine"
    );
    assert_eq!(meter.poll(at(0)), Ok(0.0));
    tree.set(&[
        ("intel-rapl:0/energy_uj", "3500000"),
        ("intel-rapl:0:0/energy_uj", "2000777"),
        ("intel-rapl:1/energy_uj", "262143100000"),
        ("intel-rapl:2/energy_uj", "9000005"),
    ]);
    near(meter.poll(at(1)).expect("read"), 2.6);
    // The second package reaches its range and begins again: 228,850 + 771,150 µJ.
    tree.set(&[("intel-rapl:1/energy_uj", "771150")]);
    near(meter.poll(at(2)).expect("read"), 3.6);
    tree.set(&[("intel-rapl:1/energy_uj", "damaged")]);
    let why = meter.poll(at(3)).expect_err("damaged");
    assert!(why.contains("intel-rapl:1/energy_uj"), "{why}");
}

#[test]
fn amd_has_one_package_and_needs_no_platform() {
    let tree = Tree::new(&[
        ("intel-rapl:0/name", "package-0"),
        ("intel-rapl:0/energy_uj", "65532610987"),
        ("intel-rapl:0/max_energy_range_uj", "65532610987"),
        ("intel-rapl:0:0/name", "core"),
        ("intel-rapl:0:0/energy_uj", "1"),
        ("proc/cpuinfo", METAL),
    ]);
    let mut meter = tree.open("cpu").expect("opened");
    meter.poll(at(0)).expect("read");
    tree.set(&[("intel-rapl:0/energy_uj", "42000000")]);
    near(meter.poll(at(1)).expect("read"), 42.0);
    near(meter.most_watts(), 1000.0);
}

#[test]
fn missing_counters_say_why_and_what_would_help() {
    let no_battery = "battery: this machine has none";
    let guest = Tree::new(&[("proc/cpuinfo", VIRTUAL)]).why();
    assert!(
        guest.contains("virtual machine") && guest.contains(no_battery),
        "{guest}"
    );
    let host = Tree::new(&[("proc/cpuinfo", METAL)]).why();
    assert!(host.contains("sudo modprobe intel_rapl_msr"), "{host}");
    let arm = Tree::new(&[("proc/cpuinfo", "CPU implementer : 0x41")]).why();
    assert!(arm.contains("only Intel's and AMD's"), "{arm}");
    // Parts without a package are no package.
    let parts = Tree::new(&[("intel-rapl:0:0/name", "core"), ("proc/cpuinfo", METAL)]).why();
    assert!(parts.contains("no processor package"), "{parts}");
    assert!(!guest.contains('\n') && !guest.contains("IOReport"));
}

#[test]
fn a_counter_for_root_alone_says_the_command_and_its_price() {
    let says = powercap::denied(Path::new("/sys/class/powercap/intel-rapl:0/energy_uj"));
    for part in [
        "only root may read /sys/class/powercap/intel-rapl:0/energy_uj",
        "`sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj`",
        "until the next start",
        "CVE-2020-8694",
        "sudo chmod go-r",
    ] {
        assert!(says.contains(part), "{part}: {says}");
    }
    // Root may read everything, so the file's mode only bites for others.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let tree = two_packages();
        let file = tree.path("intel-rapl:0/energy_uj");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("closed");
        if fs::read(&file).is_err() {
            assert!(tree.why().contains("only root may read"), "{}", tree.why());
        }
    }
    // A folder in its place is an error for root too, and says which file.
    let tree = two_packages();
    let file = tree.path("intel-rapl:0/energy_uj");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("made");
    assert!(
        tree.why().contains("intel-rapl:0/energy_uj"),
        "{}",
        tree.why()
    );
}

fn battery(files: &[(&str, &str)]) -> Tree {
    let tree = Tree::new(&[
        ("proc/cpuinfo", VIRTUAL),
        ("sys/class/power_supply/AC/type", "Mains"),
        ("sys/class/power_supply/AC/online", "0"),
        // A mouse.
        ("sys/class/power_supply/hidpp_battery_0/type", "Battery"),
        ("sys/class/power_supply/hidpp_battery_0/scope", "Device"),
        (
            "sys/class/power_supply/hidpp_battery_0/status",
            "Discharging",
        ),
        ("sys/class/power_supply/hidpp_battery_0/power_now", "1"),
    ]);
    tree.set(files);
    tree
}

#[test]
fn a_discharging_battery_tells_its_power() {
    let tree = battery(&[
        ("BAT0/type", "Battery"),
        ("BAT0/present", "1"),
        ("BAT0/status", "Discharging"),
        ("BAT0/power_now", "10000000"),
        ("BAT0/energy_now", "40000000"),
    ]);
    let mut meter = tree.open("cpu").expect("opened");
    assert_eq!(
        (meter.source(), meter.least_window()),
        (Source::Battery, at(30))
    );
    assert!(
        meter.covers().contains("BAT0 by its own power reading"),
        "{}",
        meter.covers()
    );
    assert_eq!(meter.poll(at(0)), Ok(0.0));
    near(meter.poll(at(2)).expect("read"), 20.0);
    tree.set(&[("BAT0/power_now", "20000000")]);
    near(meter.poll(at(4)).expect("read"), 50.0);
    tree.set(&[("BAT0/status", "Charging")]);
    let why = meter.poll(at(6)).expect_err("charging");
    assert!(why.contains("unplug"), "{why}");
}

#[test]
fn a_battery_with_voltage_and_current_and_a_second_one_at_rest() {
    let tree = battery(&[
        ("BAT0/type", "Battery"),
        ("BAT0/status", "Unknown"),
        ("BAT0/power_now", "90000000"),
        ("BAT1/type", "Battery"),
        ("BAT1/status", "Discharging"),
        ("BAT1/voltage_now", "12000000"),
        ("BAT1/current_now", "-1500000"),
    ]);
    let mut meter = tree.open("cpu").expect("opened");
    meter.poll(at(0)).expect("read");
    near(meter.poll(at(2)).expect("read"), 36.0);
}

#[test]
fn a_battery_that_tells_only_what_is_left_takes_longer() {
    let energy = battery(&[
        ("BAT0/type", "Battery"),
        ("BAT0/status", "Discharging"),
        ("BAT0/energy_now", "40000000"),
    ]);
    let mut meter = energy.open("cpu").expect("opened");
    assert_eq!(meter.least_window(), at(120));
    meter.poll(at(0)).expect("read");
    energy.set(&[("BAT0/energy_now", "39990000")]);
    near(meter.poll(at(2)).expect("read"), 36.0);
    let charge = battery(&[
        ("BAT0/type", "Battery"),
        ("BAT0/status", "Discharging"),
        ("BAT0/charge_now", "4000000"),
        ("BAT0/voltage_now", "12000000"),
    ]);
    let mut meter = charge.open("cpu").expect("opened");
    meter.poll(at(0)).expect("read");
    charge.set(&[("BAT0/charge_now", "3999000")]);
    near(meter.poll(at(2)).expect("read"), 43.2);
}

#[test]
fn batteries_that_cannot_tell_say_why() {
    let with = |files: &[(&str, &str)]| {
        let tree = battery(&[("BAT0/type", "Battery")]);
        tree.set(files);
        tree.why()
    };
    let charging = with(&[("BAT0/status", "Charging"), ("BAT0/power_now", "1")]);
    assert!(charging.contains("being charged; unplug"), "{charging}");
    let full = with(&[("BAT0/status", "Full"), ("BAT0/power_now", "1")]);
    assert!(
        full.contains("\"Full\"") && full.contains("unplug"),
        "{full}"
    );
    let mute = with(&[("BAT0/status", "Discharging"), ("BAT0/voltage_now", "1")]);
    assert!(mute.contains("tells neither"), "{mute}");
    let none = with(&[("BAT0/present", "0")]);
    assert!(none.contains("battery: this machine has none"), "{none}");
}

#[test]
fn a_graphics_card_is_never_measured_at_the_processor() {
    let tree = two_packages();
    match tree.open("cuda") {
        // A machine with an NVIDIA board.
        Ok(meter) => assert_eq!(meter.source(), Source::Nvml),
        Err(why) => assert!(
            why.starts_with("NVML: ") && why.contains("battery"),
            "{why}"
        ),
    }
    match tree.open("metal") {
        Ok(meter) => assert_eq!(meter.source(), Source::IoReport),
        Err(why) => assert!(!why.contains("RAPL"), "{why}"),
    }
}

#[test]
fn answers_per_watt_hour() {
    assert_eq!(correct_per_wh(50, 7200.0), Some(25.0));
    for energy in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(correct_per_wh(50, energy), None);
    }
}

// ---------------------------------------------------------------- runs

/// A machine with a RAPL tree: `idle` watts always, `work` more while the decoder works.
struct Machine {
    clock: FakeClock,
    slept: Rc<Cell<Duration>>,
    tree: Rc<Tree>,
    idle: Box<dyn Fn(Duration) -> f64>,
    work: f64,
}

/// Writes the counter of its machine before the real reader reads it.
struct Counted {
    machine: Rc<Machine>,
    reader: Box<dyn Meter>,
    before: (Duration, Duration),
    joules: f64,
}

impl Meter for Counted {
    fn source(&self) -> Source {
        self.reader.source()
    }
    fn covers(&self) -> String {
        self.reader.covers()
    }
    fn poll(&mut self, now: Duration) -> Result<f64, String> {
        let (then, slept) = self.before;
        let all = now.saturating_sub(then).as_secs_f64();
        let asleep = self.machine.slept.get().saturating_sub(slept).as_secs_f64();
        self.before = (now, self.machine.slept.get());
        self.joules += (self.machine.idle)(now) * all + self.machine.work * (all - asleep);
        // It begins near its end, and wraps around during the run.
        let uj = (65_532_000_000 + (self.joules * 1e6) as u64) % 65_532_610_987;
        self.machine
            .tree
            .set(&[("intel-rapl:0/energy_uj", &uj.to_string())]);
        self.reader.poll(now)
    }
    fn least_window(&self) -> Duration {
        self.reader.least_window()
    }
    fn most_watts(&self) -> f64 {
        self.reader.most_watts()
    }
}

fn machine(clock: &FakeClock, idle: impl Fn(Duration) -> f64 + 'static, work: f64) -> Rc<Machine> {
    Rc::new(Machine {
        clock: clock.clone(),
        slept: Rc::default(),
        tree: Rc::new(Tree::new(&[
            ("intel-rapl:0/name", "package-0"),
            ("intel-rapl:0/energy_uj", "65532000000"),
            ("intel-rapl:0/max_energy_range_uj", "65532610987"),
        ])),
        idle: Box::new(idle),
        work,
    })
}

/// 10 ms a token.
fn decoder() -> FakeDecoder {
    FakeDecoder {
        micros_per_pass: 9_000,
        micros_per_token: 1_000,
        ..FakeDecoder::new(50, 2000)
    }
}

fn measure(
    machine: &Rc<Machine>,
    fake: &mut FakeDecoder,
    options: &EnergyOptions,
    on_event: &mut dyn FnMut(Event<super::run::Repeat>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let open = || -> Result<Box<dyn Meter>, String> {
        Ok(Box::new(Counted {
            machine: Rc::clone(machine),
            reader: machine.tree.open("cpu")?,
            before: (machine.clock.now(), machine.slept.get()),
            joules: 0.0,
        }))
    };
    let sleep = |time: Duration| {
        machine.clock.advance_micros(time.as_micros() as u64);
        machine.slept.set(machine.slept.get() + time);
    };
    let reads = Cell::new(0);
    let cpu_times = || {
        reads.set(reads.get() + 1);
        Some(CpuTimes {
            busy: 150 * reads.get(),
            total: 200 * reads.get(),
            own: 50 * reads.get(),
            cores: 2,
        })
    };
    let instruments = Instruments {
        clock: &machine.clock,
        sleep: &sleep,
        open: &open,
        cpu_times: &cpu_times,
        suspended: &|| Some(Duration::ZERO),
    };
    run(fake, options, &instruments, on_event)
}

fn go(_: Event<super::run::Repeat>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn idle_is_subtracted_and_the_counter_wraps_meanwhile() {
    let mut fake = decoder();
    let machine = machine(&fake.clock, |_| 20.0, 30.0);
    let events = RefCell::new(Vec::new());
    let got = measure(
        &machine,
        &mut fake,
        &EnergyOptions::default(),
        &mut |event| {
            if let Event::Answered { sample, .. } = event {
                events.borrow_mut().push(sample);
            }
            ControlFlow::Continue(())
        },
    )
    .expect("measured");
    assert_eq!(
        (got.source, got.reason.as_deref()),
        (Some(Source::Rapl), None)
    );
    // 30 W more for 10 ms a token; the counter gives microjoules.
    let close = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-4, "{got} {want}");
    let net = got.joules_per_token.expect("measured");
    close(net.median, 0.3);
    close(got.gross_joules_per_token.expect("measured").median, 0.5);
    close(got.idle_watts.expect("measured"), 20.0);
    close(got.load_watts.expect("measured"), 50.0);
    // Each repeat lasts the 4 s asked for: 400 tokens, in texts of 128.
    assert_eq!((net.runs.len(), got.tokens), (5, 2000));
    close(got.seconds, 20.0);
    assert_eq!(events.borrow().len(), 5);
    assert!(fake.seqs.is_empty());
    assert!(
        got.notes.len() == 1 && got.notes[0].contains("1.0 cores busy"),
        "{:?}",
        got.notes
    );
}

#[test]
fn an_idle_machine_that_changes_is_told() {
    let mut fake = decoder();
    let machine = machine(
        &fake.clock,
        |now| if now < at(20) { 20.0 } else { 35.0 },
        30.0,
    );
    let got = measure(&machine, &mut fake, &EnergyOptions::default(), &mut go).expect("measured");
    assert!(
        got.notes
            .iter()
            .any(|n| n.contains("20.0 W before and 35.0 W after")),
        "{:?}",
        got.notes
    );
}

#[test]
fn what_cannot_be_gives_a_reason_and_no_figure() {
    let why = |idle: f64, work: f64| {
        let mut fake = decoder();
        let machine = machine(&fake.clock, move |_| idle, work);
        let got =
            measure(&machine, &mut fake, &EnergyOptions::default(), &mut go).expect("an outcome");
        assert!(fake.seqs.is_empty());
        assert_eq!((&got.joules_per_token, got.idle_watts), (&None, None));
        assert_eq!(got.source, Some(Source::Rapl));
        got.reason.expect("a reason")
    };
    let still = why(0.0, 0.0);
    assert!(still.contains("did not move"), "{still}");
    let wild = why(3000.0, 1.0);
    assert!(wild.contains("at most 1000 W"), "{wild}");
    let nothing = why(20.0, 0.0);
    assert!(nothing.contains("close other programs"), "{nothing}");
}

#[test]
fn without_a_source_the_outcome_says_so_at_once() {
    let mut fake = decoder();
    let clock = fake.clock.clone();
    let instruments = Instruments {
        clock: &clock,
        sleep: &|_| panic!("nothing to wait for"),
        open: &|| Err("RAPL: none".to_owned()),
        cpu_times: &|| None,
        suspended: &|| None,
    };
    let got = run(&mut fake, &EnergyOptions::default(), &instruments, &mut go).expect("an outcome");
    assert_eq!(
        (got.source, got.reason.as_deref()),
        (None, Some("RAPL: none"))
    );
    assert_eq!(fake.tokens_run(), 0);
    for options in [
        EnergyOptions {
            repeat: 0,
            ..EnergyOptions::default()
        },
        EnergyOptions {
            generate: 2001,
            ..EnergyOptions::default()
        },
    ] {
        let error = run(&mut fake, &options, &instruments, &mut go);
        assert!(matches!(error, Err(Error::Options(_))));
    }
}

#[test]
fn a_suspended_machine_gives_no_figure_and_a_break_cancels() {
    let mut fake = decoder();
    let clock = fake.clock.clone();
    let slept = Cell::new(0);
    let instruments = Instruments {
        clock: &clock,
        sleep: &|time| clock.advance_micros(time.as_micros() as u64),
        open: &|| {
            Ok(Box::new(Steady {
                watts: 10.0,
                falls: false,
            }))
        },
        cpu_times: &|| None,
        suspended: &|| {
            slept.set(slept.get() + 40);
            Some(at(slept.get()))
        },
    };
    let options = EnergyOptions {
        repeat: 1,
        ..EnergyOptions::default()
    };
    let got = run(&mut fake, &options, &instruments, &mut go).expect("an outcome");
    assert!(
        got.reason
            .as_deref()
            .is_some_and(|why| why.contains("suspended for 40 s")),
        "{got:?}"
    );
    let cancelled = run(&mut fake, &options, &instruments, &mut |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(cancelled, Err(Error::Cancelled)) && fake.seqs.is_empty());
}

/// So many watts always; or one that goes backwards.
struct Steady {
    watts: f64,
    falls: bool,
}

impl Meter for Steady {
    fn source(&self) -> Source {
        Source::Rapl
    }
    fn covers(&self) -> String {
        "a fake".to_owned()
    }
    fn poll(&mut self, now: Duration) -> Result<f64, String> {
        let joules = self.watts * now.as_secs_f64();
        Ok(if self.falls { -joules } else { joules })
    }
    fn least_window(&self) -> Duration {
        Duration::from_millis(20)
    }
    fn most_watts(&self) -> f64 {
        100.0
    }
}

fn record(open: impl FnOnce() -> Result<Box<dyn Meter>, String> + Send + 'static) -> Recording {
    let recorder = Recorder::start(open);
    std::thread::sleep(Duration::from_millis(60));
    recorder.stop()
}

#[test]
fn a_recorder_counts_from_start_to_stop() {
    let steady = |watts, falls| {
        move || -> Result<Box<dyn Meter>, String> { Ok(Box::new(Steady { watts, falls })) }
    };
    let got = record(steady(50.0, false));
    assert_eq!((got.source, &got.reason), (Some(Source::Rapl), &None));
    assert!(got.seconds >= 0.06, "{got:?}");
    near(got.gross_joules.expect("counted"), 50.0 * got.seconds);
    near(got.net_joules(20.0).expect("counted"), 30.0 * got.seconds);
    assert_eq!((got.net_joules(50.1), got.net_joules(-1.0)), (None, None));
    for (open, says) in [
        (steady(0.0, false), "did not move"),
        (steady(60_000.0, false), "at most 100 W"),
        (steady(50.0, true), "implausible"),
    ] {
        let got = record(open);
        assert_eq!((got.gross_joules, got.net_joules(0.0)), (None, None));
        assert!(
            got.reason.as_deref().is_some_and(|r| r.contains(says)),
            "{got:?}"
        );
    }
    let none = record(|| Err("RAPL: none".to_owned()));
    assert_eq!(
        (none.source, none.reason.as_deref()),
        (None, Some("RAPL: none"))
    );
    let short = Recorder::start(steady(50.0, false)).stop();
    assert!(
        short
            .reason
            .is_some_and(|why| why.contains("nothing of less"))
    );
    drop(Recorder::start(steady(50.0, false)));
}

#[test]
fn this_machine_tells_or_says_why_not() {
    match open(&Wanted::of_device("cpu")) {
        Ok(mut meter) => assert_eq!(meter.poll(Duration::ZERO), Ok(0.0)),
        Err(why) => assert!(why.contains(": ") && !why.contains('\n'), "{why}"),
    }
}
