//! The hub's transfer against a hub on loopback: what is installed is whole and right however the connection breaks, what
//! came is kept, and nothing is left after a cancel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, MB, REPO, fetch, files_below, impatient, line, read, resolve, stop_after};
use billion_hub::{Control, Error, Event, Hub, HubSettings, Limits};
use loopback::{COMMIT, noise};

mod bench;
mod loopback;

#[test]
fn a_revision_is_fetched_once_into_the_layout_that_python_shares() {
    let bench = Bench::new();
    let (config, model, table) = (noise(700, 1), noise(3 * MB + 11, 2), noise(0, 3));
    bench.server.put(REPO, "config.json", config.clone());
    bench
        .server
        .put(REPO, "deep/er/my model.gguf", model.clone());
    bench.server.put(REPO, "empty.json", table.clone());
    let hub = bench.hub_with_token("hf_secret");
    let revision = resolve(&hub, "hf:owner/name").expect("resolved");
    assert_eq!(revision.commit, COMMIT);
    assert_eq!(revision.license.as_deref(), Some("mit"));
    let mut events = Vec::new();
    let fetched = hub
        .fetch(&revision, &revision.files, &Control::new(), &mut |event| {
            events.push(event);
        })
        .expect("fetched");
    assert_eq!(fetched.commit, COMMIT);
    let contents: Vec<Vec<u8>> = fetched.files.iter().map(|file| read(file)).collect();
    assert_eq!(contents, [config, model, table]);

    // The token goes to the hub and not to the storage it redirects to.
    let seen = bench.server.seen();
    assert!(seen.iter().any(|request| request.storage));
    for request in &seen {
        let token = (!request.storage).then(|| "hf_secret".to_owned());
        assert_eq!(request.token, token, "{request:?}");
    }

    let names: Vec<&str> = revision.files.iter().map(|f| f.hash.hex()).collect();
    let folder = "models--owner--name";
    let mut want: Vec<String> = names
        .iter()
        .map(|name| format!("{folder}/blobs/{name}"))
        .chain(
            names
                .iter()
                .map(|name| format!(".locks/{folder}/{name}.lock")),
        )
        .chain(
            ["config.json", "deep/er/my model.gguf", "empty.json"]
                .map(|path| format!("{folder}/snapshots/{COMMIT}/{path}")),
        )
        .chain([format!("{folder}/refs/main")])
        .collect();
    want.sort();
    assert_eq!(bench.files(), want);
    let oracle = hf_hub::Cache::new(bench.cache()).model("owner/name".to_owned());
    assert_eq!(oracle.get("config.json"), Some(fetched.files[0].clone()));
    #[cfg(unix)]
    assert!(fetched.files.iter().all(|file| file.is_symlink()));

    let last = events.iter().rev().find_map(|event| match event {
        Event::Progress(progress) => Some(progress.clone()),
        _ => None,
    });
    let last = last.expect("progress");
    assert_eq!((last.file_number, last.files), (3, 3));
    assert_eq!(
        (last.done_bytes, last.total_bytes),
        (3 * MB as u64 + 711, 3 * MB as u64 + 711)
    );
    let verified = events
        .iter()
        .filter(|e| matches!(e, Event::Verified { .. }));
    assert_eq!(verified.count(), 3);

    // Again: nothing is asked for but the list; and without a network nothing at all.
    assert_eq!(bench.fetch().expect("fetched"), fetched);
    assert_eq!(bench.server.seen().len(), 1);
    let offline = Hub::new(
        HubSettings {
            offline: true,
            ..bench.settings()
        },
        impatient(),
    );
    assert_eq!(
        fetch(&offline, &revision, &Control::new()).expect("there"),
        fetched
    );
    let error = resolve(&offline, "owner/name").expect_err("offline");
    assert!(line(&error).contains("HF_HUB_OFFLINE"));
    assert!(bench.server.seen().is_empty());
}

#[test]
fn mirrors_that_list_names_only_are_asked_for_the_tree() {
    let bench = Bench::new();
    for (path, bytes) in [("config.json", 10), ("a.gguf", 20), ("b.gguf", 30)] {
        bench.server.put(REPO, path, noise(bytes, 1));
    }
    let whole = bench.resolve();
    bench.server.fault(|fault| fault.names_only = true);
    assert_eq!(bench.resolve(), whole);
    let pr = resolve(
        &bench.hub(),
        "https://huggingface.co/owner/name/tree/refs%2Fpr%2F1",
    );
    assert_eq!(pr.expect("resolved").files, whole.files);
}

#[test]
fn a_download_that_is_cut_twenty_times_ends_byte_identical() {
    let full = std::env::var_os("BILLION_FULL").is_some();
    let size = if full { 200_000_000 } else { 20_000_000 };
    let (bench, model) = Bench::with_model(size);
    let every = (size / 40) as u64;
    bench.server.fault(|fault| fault.cut = Some((every, 20)));
    let limits = Limits {
        // So that every cut happens: larger pieces than cuts.
        piece_bytes: every * 3 / 2,
        ..impatient()
    };
    let hub = Hub::new(bench.settings(), limits);
    let fetched = fetch(&hub, &bench.resolve(), &Control::new()).expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    assert_eq!(bench.server.fault_now().cut, Some((every, 0)));
    // What came before a cut is kept: only what was under way is asked for twice.
    let sent = bench.server.sent();
    assert!(
        sent < size as u64 + 20 * (2 << 20),
        "{sent} bytes for {size}"
    );
}

#[test]
fn what_came_is_kept_after_a_stop() {
    let (bench, model) = Bench::with_model(8 * MB);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(2_000_000));
    let revision = bench.resolve();
    let control = Control::new();
    let stop = control.clone();
    let mut events = Vec::new();
    let hub = bench.hub();
    let result = hub.fetch(&revision, &revision.files, &control, &mut |event| {
        if let Event::Progress(progress) = &event
            && progress.done_bytes > 3 * MB as u64
        {
            stop.stop();
        }
        events.push(event);
    });
    let Err(Error::Stopped { kept_bytes }) = result else {
        panic!("{result:?}");
    };
    assert!(kept_bytes >= 3 * MB as u64, "{kept_bytes}");
    assert_eq!(hub.kept_bytes(&revision, &revision.files), kept_bytes);
    assert!(!bench.cache().join("models--owner--name/snapshots").exists());
    let mut done = 0;
    let mut rates = Vec::new();
    for event in &events {
        if let Event::Progress(progress) = event {
            assert!(progress.done_bytes >= done, "it never goes back");
            done = progress.done_bytes;
            rates.push(progress.bytes_per_s);
        }
    }
    // Four connections of 2 MB/s each.
    let rate = rates.last().expect("a rate");
    assert!((1e6..12e6).contains(rate), "{rate}");

    bench.server.fault(|fault| fault.bytes_per_s = None);
    bench.settle();
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    assert!(bench.sent_about(8 * MB as u64 - kept_bytes));
}

#[test]
fn bytes_that_went_bad_on_the_disk_are_fetched_again() {
    let (bench, model) = Bench::with_model(6 * MB);
    let revision = stop_after(&bench, 2 * MB as u64);
    let part = files_below(&bench.blobs())
        .into_iter()
        .find(|name| name.ends_with(".billion-part"))
        .expect("a part");
    let place = bench.blobs().join(part);
    let mut bytes = read(&place);
    bytes[100] ^= 1;
    std::fs::write(&place, bytes).expect("written");
    let fetched = fetch(&bench.hub(), &revision, &Control::new()).expect("fetched");
    assert!(read(&fetched.files[0]) == model);
}

#[test]
fn a_changed_file_begins_anew_and_leaves_nothing_of_the_old_one() {
    let (bench, _) = Bench::with_model(6 * MB);
    let old = stop_after(&bench, 2 * MB as u64);
    let other = noise(6 * MB, 8);
    bench.server.put(REPO, "model.gguf", other.clone());
    bench.settle();
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == other);
    assert!(bench.sent_about(6 * MB as u64));
    assert_eq!(
        bench.hub().kept_bytes(&old, &old.files),
        6 * MB as u64,
        "the name is taken by the new one"
    );
    let left = files_below(&bench.blobs());
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn servers_without_ranges_are_served_by_one_connection() {
    let (bench, model) = Bench::with_model(5 * MB);
    bench.server.fault(|fault| fault.ignores_range = true);
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == model);

    // Cut now and then, it gets no further than its best try, and in the end that is the whole.
    let (bench, model) = Bench::with_model(5 * MB);
    bench.server.fault(|fault| {
        fault.ignores_range = true;
        fault.cut = Some((2 * MB as u64, 3));
    });
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == model);

    // Cut always, it is given up, with what came kept.
    let (bench, _) = Bench::with_model(5 * MB);
    bench.server.fault(|fault| {
        fault.ignores_range = true;
        fault.cut = Some((2 * MB as u64, usize::MAX));
    });
    let error = bench.fetch().expect_err("never whole");
    assert!(
        matches!(error, Error::Network { kept_bytes, .. } if kept_bytes >= 2 * MB as u64),
        "{error:?}"
    );
    assert!(line(&error).contains("are kept"), "{error}");
}

#[test]
fn passing_faults_pass() {
    let (bench, model) = Bench::with_model(3 * MB);
    bench.server.fault(|fault| {
        fault.broken = 1;
        fault.expired = 2;
        fault.stall = Some((300_000, 2));
    });
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    let fault = bench.server.fault_now();
    assert_eq!((fault.broken, fault.expired), (0, 0));
    assert_eq!(fault.stall, Some((300_000, 0)));
}

#[test]
fn a_pause_closes_the_connections_and_a_resume_goes_on() {
    let (bench, model) = Bench::with_model(4 * MB);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(2_000_000));
    let revision = bench.resolve();
    let control = Control::new();
    let (hub, steer) = (bench.hub(), control.clone());
    let mut paused_once = false;
    let quiet = Arc::new(AtomicBool::new(false));
    let mut events = Vec::new();
    let fetched = hub
        .fetch(&revision, &revision.files, &control, &mut |event| {
            match &event {
                Event::Progress(progress) if !paused_once && progress.done_bytes > MB as u64 => {
                    paused_once = true;
                    steer.pause();
                }
                Event::Paused => {
                    let (server, steer, quiet) =
                        (bench.server.clone(), steer.clone(), Arc::clone(&quiet));
                    std::thread::spawn(move || {
                        // Soon nothing is sent any more.
                        for _ in 0..30 {
                            let before = server.sent_so_far();
                            std::thread::sleep(Duration::from_millis(300));
                            if server.sent_so_far() == before {
                                quiet.store(true, Ordering::Relaxed);
                                break;
                            }
                        }
                        steer.resume();
                    });
                }
                _ => {}
            }
            events.push(event);
        })
        .expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    assert!(quiet.load(Ordering::Relaxed));
    let at = |want: &Event| events.iter().position(|event| event == want);
    assert!(at(&Event::Paused).expect("paused") < at(&Event::Resumed).expect("resumed"));
    // The few bytes that were in the sockets come twice.
    assert!(bench.server.sent() < 7 * MB as u64);
}

#[test]
fn a_cancel_leaves_nothing_behind() {
    let (bench, _) = Bench::with_model(6 * MB);
    bench.server.put(REPO, "config.json", noise(50, 1));
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(2_000_000));
    let revision = bench.resolve();
    let control = Control::new();
    let cancel = control.clone();
    let cancelled_at = std::cell::Cell::new(None);
    let result = bench
        .hub()
        .fetch(&revision, &revision.files, &control, &mut |event| {
            if matches!(&event, Event::Progress(p) if p.done_bytes > 2 * MB as u64) {
                cancel.cancel();
                cancelled_at.set(Some(Instant::now()));
            }
        });
    let took = cancelled_at.get().expect("cancelled").elapsed();
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(std::fs::read_dir(bench.cache()).expect("read").count(), 0);

    // Also what an earlier run left goes, and what another revision uses stays.
    let config = vec![revision.file("config.json").expect("listed").clone()];
    bench.server.fault(|fault| fault.bytes_per_s = None);
    bench
        .hub()
        .fetch(&revision, &config, &Control::new(), &mut |_| {})
        .expect("fetched");
    let revision = stop_after(&bench, 2 * MB as u64);
    let cancelled = Control::new();
    cancelled.cancel();
    let result = fetch(&bench.hub(), &revision, &cancelled);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    let left = bench.files();
    assert_eq!(
        left.iter().filter(|file| file.contains("/blobs/")).count(),
        1,
        "{left:?}"
    );
    assert!(
        left.iter().any(|file| file.ends_with("config.json")),
        "{left:?}"
    );
    assert!(
        left.iter().all(|file| !file.contains("billion-")),
        "{left:?}"
    );
}
