//! Downloads of several processes and threads over one cache, and of one that is killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, MB, fetch, impatient, read, resolve};
use billion_hub::{Control, Event, Hub, HubSettings};
use loopback::noise;

mod bench;
mod loopback;

/// What a second process does: fetches `owner/name`. It is no test without its variables.
#[test]
fn child() {
    let (Ok(endpoint), Some(cache)) = (
        std::env::var("HUB_TEST_ENDPOINT"),
        std::env::var_os("HUB_TEST_CACHE"),
    ) else {
        return;
    };
    let hub = Hub::new(HubSettings::new(&endpoint, cache.into()), impatient());
    hub.fetch_model("owner/name", &Control::new(), &mut |_| {})
        .expect("fetched");
}

fn start_child(bench: &Bench) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env("HUB_TEST_ENDPOINT", &bench.server.endpoint)
        .env("HUB_TEST_CACHE", bench.cache())
        .stdout(Stdio::null())
        .spawn()
        .expect("started")
}

#[test]
fn a_killed_process_loses_at_most_a_few_megabytes() {
    let (bench, model) = Bench::with_model(24 * MB);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(4_000_000));
    let revision = bench.resolve();
    let mut lost = Vec::new();
    for round in 1..=3 {
        bench.settle();
        let mut child = start_child(&bench);
        let before = bench.hub().kept_bytes(&revision, &revision.files);
        let started = Instant::now();
        while bench.server.sent_so_far() < 5 * MB as u64 {
            assert!(started.elapsed() < Duration::from_secs(30), "round {round}");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        let kept = bench.hub().kept_bytes(&revision, &revision.files) - before;
        let sent = bench.server.sent();
        lost.push(sent.saturating_sub(kept));
    }
    // Of each of four connections what was not recorded, and what lay in the sockets.
    assert!(lost.iter().all(|lost| *lost < 4 * MB as u64), "{lost:?}");
    bench.server.fault(|fault| fault.bytes_per_s = None);
    let before = bench.hub().kept_bytes(&revision, &revision.files);
    assert!(before > 4 * MB as u64, "{before}");
    bench.settle();
    // It is known as a download to go on with, or to discard.
    let unfinished = bench.hub().unfinished();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].kept_bytes, before);
    let fetched = bench
        .hub()
        .fetch_model("owner/name", &Control::new(), &mut |_| {})
        .expect("fetched");
    assert!(read(&fetched.path) == model);
    assert!(bench.sent_about(24 * MB as u64 - before));
    assert!(bench.hub().unfinished().is_empty());
}

#[test]
fn two_at_once_fetch_one_file_once() {
    let (bench, model) = Bench::with_model(6 * MB);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(4_000_000));
    // Another process, and two threads of this one.
    let mut child = start_child(&bench);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.fetch())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(child.wait().expect("ended").success());
    for result in results {
        assert!(read(&result.expect("fetched").files[0]) == model);
    }
    assert!(bench.sent_about(6 * MB as u64));
}

#[test]
fn two_files_of_different_repositories_come_at_once() {
    let (bench, model) = Bench::with_model(2 * MB);
    let other = noise(2 * MB, 99);
    bench
        .server
        .put("models/owner/other", "model.gguf", other.clone());
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(2_000_000));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| bench.fetch().expect("fetched"));
        let hub = bench.hub();
        let revision = resolve(&hub, "owner/other").expect("resolved");
        let second = fetch(&hub, &revision, &Control::new()).expect("fetched");
        assert!(read(&second.files[0]) == other);
        assert!(read(&first.join().expect("no panic").files[0]) == model);
    });
}

#[test]
fn a_cancel_of_one_process_does_not_spoil_the_same_download_of_another() {
    let (bench, _) = Bench::with_model(10);
    let repo = "models/owner/folder";
    for (path, bytes) in [
        ("config.json", 50),
        ("model.safetensors", 4 * MB),
        ("tokenizer.json", 60),
    ] {
        bench.server.put(repo, path, noise(bytes, 5));
    }
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(1_000_000));
    let reference = Hub::reference("owner/folder").expect("a reference");
    let (hub, other) = (bench.hub(), bench.hub());
    let mut discarded = false;
    let model = hub
        .fetch_model("owner/folder", &Control::new(), &mut |event| {
            // The small files are here by then, whole and linked to by nothing.
            if matches!(&event, Event::Progress(p) if p.done_bytes > MB as u64) && !discarded {
                discarded = true;
                other.discard(&reference).expect("discarded");
            }
        })
        .expect("fetched all the same");
    assert!(discarded);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(model.path.join(file).is_file(), "{file}");
    }
    assert_eq!(hub.models_on_this_machine(), [model]);
}
