//! The hub's transfer against a hub on loopback that misbehaves in every way that is known of the real one: what is
//! installed is whole and right, what came is kept, nothing is left after a cancel, and every error says what to do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use billion_hub::{
    Control, Error, Event, Fetched, Gate, Hub, HubSettings, Limits, RemoteFile, RepoKind,
    RepoReference, RepoRevision,
};
use server::{COMMIT, HubServer, noise};

mod server;

const REPO: &str = "models/owner/name";
const MB: usize = 1 << 20;

/// A server, a cache, and a hub that is less patient than the real one.
struct Bench {
    server: HubServer,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            server: HubServer::start(),
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    fn with_model(bytes: usize) -> (Self, Vec<u8>) {
        let bench = Self::new();
        let model = noise(bytes, 7);
        bench.server.put(REPO, "model.gguf", model.clone());
        (bench, model)
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: self.server.endpoint.clone(),
            cache: self.cache(),
            token: None,
            offline: false,
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings(), impatient())
    }

    fn hub_with_token(&self, token: &str) -> Hub {
        let settings = HubSettings {
            token: Some(token.to_owned()),
            ..self.settings()
        };
        Hub::new(settings, impatient())
    }

    fn resolve(&self) -> RepoRevision {
        resolve(&self.hub(), "owner/name").expect("resolved")
    }

    fn fetch(&self) -> Result<Fetched, Error> {
        fetch(&self.hub(), &self.resolve(), &Control::new())
    }

    /// Every file below the cache, as paths in it.
    fn files(&self) -> Vec<String> {
        files_below(&self.cache())
    }

    /// Forgets what was sent, once the server has noticed that nobody reads it any more.
    fn settle(&self) {
        let mut before = self.server.sent_so_far();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.server.sent_so_far();
            if now == before {
                break;
            }
            before = now;
        }
        self.server.sent();
    }

    /// Whether this much was sent since then: a connection may be lost on a busy machine, and its piece comes again.
    fn sent_about(&self, bytes: u64) -> bool {
        let sent = self.server.sent();
        (bytes..bytes + MB as u64).contains(&sent)
    }

    fn blobs(&self) -> PathBuf {
        self.cache().join("models--owner--name/blobs")
    }
}

fn impatient() -> Limits {
    Limits {
        piece_bytes: MB as u64,
        record_bytes: 64 << 10,
        sync_bytes: MB as u64,
        answer: Duration::from_secs(5),
        silence: Duration::from_millis(1500),
        tries: 4,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        ..Limits::default()
    }
}

fn resolve(hub: &Hub, reference: &str) -> Result<RepoRevision, Error> {
    hub.resolve(
        &RepoReference::parse(reference).expect("a reference"),
        &Control::new(),
    )
}

fn fetch(hub: &Hub, revision: &RepoRevision, control: &Control) -> Result<Fetched, Error> {
    hub.fetch(revision, &revision.files, control, &mut |_| {})
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let entry = entry.expect("read");
            if entry.file_type().expect("read").is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(folder).expect("below");
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("read")
}

/// The error's line, which must be one.
fn line(error: &Error) -> String {
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.is_empty(), "{line:?}");
    line
}

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
fn a_search_lists_repositories() {
    let bench = Bench::new();
    bench
        .server
        .put("models/a/Tiny-One", "config.json", noise(1, 1));
    bench
        .server
        .put("models/b/other", "config.json", noise(1, 1));
    let found = bench
        .hub()
        .search("tiny", RepoKind::Model, &Control::new())
        .expect("found");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].repo.id.as_str(), found[0].downloads),
        ("a/Tiny-One", 7)
    );
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

/// What a second process does: fetches `owner/name`. It is no test without its variables.
#[test]
fn child() {
    let (Ok(endpoint), Some(cache)) = (
        std::env::var("HUB_TEST_ENDPOINT"),
        std::env::var_os("HUB_TEST_CACHE"),
    ) else {
        return;
    };
    let settings = HubSettings {
        endpoint,
        cache: cache.into(),
        token: None,
        offline: false,
    };
    let hub = Hub::new(settings, impatient());
    let revision = resolve(&hub, "owner/name").expect("resolved");
    fetch(&hub, &revision, &Control::new()).expect("fetched");
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
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    assert!(bench.sent_about(24 * MB as u64 - before));
}

#[test]
fn wrong_bytes_are_never_installed() {
    let (bench, model) = Bench::with_model(3 * MB);
    bench.server.put(REPO, "config.json", noise(50, 1));
    bench.server.fault(|fault| fault.wrong_byte = Some(2 * MB));
    let error = bench.fetch().expect_err("wrong");
    assert!(matches!(error, Error::WrongBytes { .. }), "{error:?}");
    let words = line(&error);
    assert!(
        words.contains("model.gguf") && words.contains("SHA-256 of 3.1 MB"),
        "{words}"
    );
    let left = bench.files();
    assert!(
        left.iter().all(|file| !file.contains("snapshots")),
        "{left:?}"
    );
    let hash = bench
        .resolve()
        .file("model.gguf")
        .expect("listed")
        .hash
        .clone();
    assert!(
        left.iter()
            .all(|file| !file.contains(&format!("blobs/{}", hash.hex()))),
        "{left:?}"
    );

    bench.server.fault(|fault| fault.wrong_byte = None);
    let fetched = bench.fetch().expect("fetched");
    assert!(read(&fetched.files[1]) == model);
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

/// Starts a download and stops it once this much has come.
fn stop_after(bench: &Bench, bytes: u64) -> RepoRevision {
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(3_000_000));
    let revision = bench.resolve();
    let control = Control::new();
    let stop = control.clone();
    let result = bench
        .hub()
        .fetch(&revision, &revision.files, &control, &mut |event| {
            if matches!(&event, Event::Progress(p) if p.done_bytes > bytes) {
                stop.stop();
            }
        });
    assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
    bench.server.fault(|fault| fault.bytes_per_s = None);
    revision
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
fn a_hub_that_gives_another_file_than_it_listed_is_refused() {
    let (bench, _) = Bench::with_model(MB);
    bench
        .server
        .fault(|fault| fault.etag = Some("e".repeat(64)));
    let error = bench.fetch().expect_err("another");
    assert!(line(&error).contains("the hash is now eeee"), "{error}");
    assert!(!bench.cache().join("models--owner--name/snapshots").exists());
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
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let (bench, model) = Bench::with_model(MB / 2);
    bench.server.fault(|fault| fault.too_many = Some((1, 2)));
    let revision = bench.resolve();
    let started = Instant::now();
    let mut reasons = Vec::new();
    let fetched = bench
        .hub()
        .fetch(&revision, &revision.files, &Control::new(), &mut |event| {
            if let Event::Waiting { reason } = event {
                reasons.push(reason);
            }
        })
        .expect("fetched");
    assert!(read(&fetched.files[0]) == model);
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("fewer requests") && reason.contains("1 s")),
        "{reasons:?}"
    );
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
fn lengths_that_lie_are_noticed() {
    for (range, lie) in [(true, 1), (true, -1), (false, 1), (false, -1)] {
        let (bench, _) = Bench::with_model(2 * MB);
        bench.server.fault(|fault| {
            fault.ignores_range = !range;
            fault.length_lie = lie;
        });
        let error = bench.fetch().expect_err("a lie");
        assert!(matches!(error, Error::Answer { .. }), "{error:?}");
        assert!(line(&error).contains("2097152"), "{error}");
        assert!(!bench.cache().join("models--owner--name/snapshots").exists());
    }
}

#[test]
fn gated_repositories_say_which_case_it_is_and_where_to_go() {
    let (bench, _) = Bench::with_model(1000);
    let page = format!("{}/owner/name", bench.server.endpoint);
    let tokens = format!("{}/settings/tokens", bench.server.endpoint);
    let revision = bench.resolve();
    // The texts are the hub's own.
    for (status, code, message, token, gate, link) in [
        (
            401,
            "GatedRepo",
            "Access to model owner/name is restricted. You must have access to it and be authenticated to access it. Please log in.",
            false,
            Gate::NoToken,
            &page,
        ),
        (
            403,
            "GatedRepo",
            "Access to model owner/name is restricted and you are not in the authorized list. Visit https://huggingface.co/owner/name to ask for access.",
            true,
            Gate::NotAccepted,
            &page,
        ),
        (
            403,
            "GatedRepo",
            "Your request to access model owner/name is awaiting a review from the repo authors.",
            true,
            Gate::Waiting,
            &page,
        ),
        (
            403,
            "GatedRepo",
            "Your request to access model owner/name has been rejected by the repo's authors.",
            true,
            Gate::Denied,
            &page,
        ),
        (
            403,
            "",
            "Please enable access to public gated repositories in your fine-grained token settings to view this repository.",
            true,
            Gate::TokenScope,
            &tokens,
        ),
    ] {
        bench
            .server
            .fault(|fault| fault.refusal = Some((status, code, message.to_owned())));
        let hub = if token {
            bench.hub_with_token("hf_x")
        } else {
            bench.hub()
        };
        bench.server.seen();
        let error = fetch(&hub, &revision, &Control::new()).expect_err("gated");
        assert!(
            matches!(error, Error::Gated { gate: found, .. } if found == gate),
            "{error:?}"
        );
        let words = line(&error);
        assert!(
            words.contains(link.as_str()) && words.contains("owner/name"),
            "{words}"
        );
        assert_eq!(bench.server.seen().len(), 1, "a refusal is asked for once");
    }
    bench.server.fault(|fault| {
        fault.refusal = Some((
            401,
            "",
            "Invalid credentials in Authorization header".to_owned(),
        ));
    });
    let error = fetch(&bench.hub_with_token("hf_x"), &revision, &Control::new());
    let error = error.expect_err("a bad token");
    assert!(
        matches!(error, Error::BadToken { .. }) && line(&error).contains(&tokens),
        "{error:?}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (bench, _) = Bench::with_model(1000);
    let hub = bench.hub();
    let error = resolve(&hub, "owner/missing").expect_err("no repository");
    assert!(matches!(error, Error::NoRepository { .. }), "{error:?}");
    let words = line(&error);
    assert!(
        words.contains("no model called owner/missing") && words.contains("HF_TOKEN"),
        "{words}"
    );
    let error = resolve(&hub, "hf:owner/name@missing").expect_err("no revision");
    assert!(matches!(error, Error::NoRevision { .. }), "{error:?}");
    assert!(line(&error).contains("owner/name/commits/main"), "{error}");
    let mut revision = bench.resolve();
    revision.files[0].path = "missing.gguf".to_owned();
    let error = fetch(&hub, &revision, &Control::new()).expect_err("no file");
    assert!(matches!(error, Error::NoFile { .. }), "{error:?}");
    assert!(line(&error).contains("missing.gguf"), "{error}");
}

#[test]
fn a_network_that_is_down_is_given_up_with_what_came_kept() {
    let closed = {
        let bench = Bench::new();
        Hub::new(
            HubSettings {
                endpoint: "http://127.0.0.1:9".to_owned(),
                ..bench.settings()
            },
            impatient(),
        )
    };
    let error = resolve(&closed, "owner/name").expect_err("nobody is there");
    let words = line(&error);
    assert!(
        words.contains("127.0.0.1:9 cannot be reached") && words.contains("4 failures"),
        "{words}"
    );

    let (bench, model) = Bench::with_model(6 * MB);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(3_000_000));
    let revision = bench.resolve();
    let server = bench.server.clone();
    let result = bench
        .hub()
        .fetch(&revision, &revision.files, &Control::new(), &mut |event| {
            if matches!(&event, Event::Progress(p) if p.done_bytes > 2 * MB as u64) {
                server.fault(|fault| {
                    fault.down = true;
                    fault.cut = Some((0, usize::MAX));
                });
            }
        });
    let Err(Error::Network { kept_bytes, .. }) = result else {
        panic!("{result:?}");
    };
    assert!(kept_bytes > 2 * MB as u64, "{kept_bytes}");
    bench
        .server
        .fault(|fault| *fault = server::Fault::default());
    assert!(read(&bench.fetch().expect("fetched").files[0]) == model);
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

#[test]
fn only_files_that_cannot_run_are_fetched() {
    let (bench, _) = Bench::with_model(1000);
    let revision = bench.resolve();
    for (path, kind, may) in [
        ("pytorch_model.bin", RepoKind::Model, false),
        ("modeling.py", RepoKind::Model, false),
        ("x.parquet", RepoKind::Model, false),
        ("x.safetensors.exe", RepoKind::Model, false),
        ("../x.json", RepoKind::Model, false),
        ("x.parquet", RepoKind::Dataset, true),
        ("deep/tokenizer.model", RepoKind::Model, true),
        ("chat_template.jinja", RepoKind::Model, true),
    ] {
        let mut revision = revision.clone();
        revision.repo.kind = kind;
        revision.files[0].path = path.to_owned();
        let error = fetch(&bench.hub(), &revision, &Control::new()).expect_err("not there");
        let refused = matches!(error, Error::Kind { .. });
        assert_eq!(!refused, may, "{path}: {error}");
        line(&error);
    }
}

#[test]
#[cfg(unix)]
fn a_disk_that_is_too_small_is_noticed_before_the_start() {
    let (bench, _) = Bench::with_model(1000);
    let mut revision = bench.resolve();
    revision.files[0] = RemoteFile {
        bytes: 1 << 60,
        ..revision.files[0].clone()
    };
    bench.server.seen();
    let error = fetch(&bench.hub(), &revision, &Control::new()).expect_err("too large");
    assert!(
        matches!(error, Error::DiskFull { need_bytes, .. } if need_bytes == 1 << 60),
        "{error:?}"
    );
    assert!(line(&error).contains("HF_HOME"));
    assert!(bench.server.seen().is_empty());
    assert!(!bench.cache().exists());
}

#[test]
fn a_model_is_fetched_with_what_belongs_to_it_and_found_again() {
    let (bench, _) = Bench::with_model(2 * MB);
    let repo = "models/EleutherAI/pythia-70m";
    for (path, bytes) in [
        ("README.md", 9),
        ("config.json", 100),
        ("model.safetensors", MB),
        ("pytorch_model.bin", MB),
        ("tokenizer.json", 2000),
    ] {
        bench.server.put(repo, path, noise(bytes, 3));
    }
    let hub = bench.hub();
    let fetch = |text: &str| hub.fetch_model(text, &Control::new(), &mut |_| {});
    let model = fetch("pythia-70m").expect("fetched");
    assert_eq!(model.id, "pythia-70m");
    assert_eq!(model.bytes, MB as u64 + 2100);
    assert_eq!(files_below(&model.path).len(), 3);
    let gguf = fetch("owner/name").expect("fetched");
    assert_eq!(gguf.id, "hf:owner/name/model.gguf");
    assert!(gguf.path.is_file());
    assert_eq!(hub.models_on_this_machine(), [gguf, model]);
}
