//! How fast the hub's transfer is when the network is not the limit: fetches one large file from a server on this machine,
//! hashing included, and says what the same disk and the same hash do alone.
//!
//! `cargo run --release -p billion-hub --example loopback [-- MEGABYTES [CONNECTIONS]]`

use std::io::Write;
use std::time::Instant;

use billion_hub::{Control, Hub, HubSettings, Limits, RepoReference};
use sha2::{Digest, Sha256};

#[path = "../tests/loopback/mod.rs"]
mod loopback;

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|n| n.parse().expect("a number"));
    let megabytes: usize = numbers.next().unwrap_or(1000);
    let connections: usize = numbers.next().unwrap_or(Limits::default().connections);
    let bytes = loopback::noise(megabytes * 1_000_000, 1);
    let dir = tempfile::tempdir_in(std::env::var_os("BILLION_BENCH_DIR").unwrap_or(".".into()))
        .expect("a folder");
    let rate = |start: Instant| bytes.len() as f64 / 1e6 / start.elapsed().as_secs_f64();

    let start = Instant::now();
    std::hint::black_box(Sha256::digest(&bytes));
    println!("SHA-256 alone:        {:6.0} MB/s", rate(start));
    for (what, synced) in [("written", false), ("written and synced", true)] {
        let start = Instant::now();
        let mut file = std::fs::File::create(dir.path().join("plain")).expect("made");
        file.write_all(&bytes).expect("written");
        if synced {
            file.sync_all().expect("synced");
        }
        println!("disk alone, {what}: {:6.0} MB/s", rate(start));
    }
    std::fs::remove_file(dir.path().join("plain")).expect("removed");

    let server = loopback::HubServer::start();
    server.put("models/a/b", "model.gguf", bytes.clone());
    let settings = HubSettings::new(&server.endpoint, dir.path().join("hub"));
    let limits = Limits {
        connections,
        ..Limits::default()
    };
    println!("load average: {}", load().unwrap_or_default());
    for round in 1..=3 {
        let hub = Hub::new(settings.clone(), limits.clone());
        let control = Control::new();
        let (start, processor) = (Instant::now(), processor_s());
        let revision = hub
            .resolve(&RepoReference::parse("a/b").expect("a reference"), &control)
            .expect("resolved");
        let fetched = hub
            .fetch(&revision, &revision.files, &control, &mut |_| {})
            .expect("fetched");
        println!(
            "fetch {round}: {megabytes} MB over {connections} connections, hashed, synced, installed: {:6.0} MB/s{}",
            rate(start),
            match processor.zip(processor_s()) {
                Some((before, after)) => format!(
                    " ({:.2} s of processor a GB, with the server)",
                    (after - before) / megabytes as f64 * 1e3
                ),
                None => String::new(),
            }
        );
        assert_eq!(
            std::fs::metadata(&fetched.files[0]).expect("there").len(),
            bytes.len() as u64
        );
        std::fs::remove_dir_all(&settings.cache).expect("removed");
    }
}

/// Of the last minute, five and fifteen; a busy machine makes every rate here lower.
fn load() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// Processor time of this process so far, where Linux tells it (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn processor_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = text.rsplit_once(')')?.1;
    let ticks: Vec<u64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    (ticks.len() == 2).then(|| (ticks[0] + ticks[1]) as f64 / 100.0)
}
