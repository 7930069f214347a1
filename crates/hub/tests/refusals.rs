//! What the hub refuses or gets wrong: nothing wrong is installed, and every error is one line that says what to do.

use std::time::{Duration, Instant};

use bench::{Bench, MB, REPO, fetch, impatient, line, read, resolve};
use billion_hub::{Control, Error, Event, Gate, Hub, HubSettings, RemoteFile, RepoKind};
use loopback::noise;

mod bench;
mod loopback;

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
        .fault(|fault| *fault = loopback::Fault::default());
    assert!(read(&bench.fetch().expect("fetched").files[0]) == model);
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
fn questions_wait_as_long_as_they_are_told_but_not_for_minutes() {
    let (bench, _) = Bench::with_model(1000);
    let started = Instant::now();
    bench
        .server
        .fault(|fault| fault.too_many_questions = Some((1, 1)));
    bench.resolve();
    assert!(started.elapsed() >= Duration::from_secs(1));
    bench
        .server
        .fault(|fault| fault.too_many_questions = Some((300, 1)));
    let error = resolve(&bench.hub(), "owner/name").expect_err("busy");
    assert!(
        matches!(&error, Error::Busy { wait, .. } if *wait == Duration::from_mins(5)),
        "{error:?}"
    );
    let words = line(&error);
    assert!(
        words.contains("try again in 5 minutes") && words.contains("/settings/tokens"),
        "{words}"
    );
    assert!(error.link().is_some());
}
