//! Models from a hub on loopback: planned, downloaded, gone on with, discarded, deleted, converted.

use bench::{Bench, MB, files_below, line};
use billion_hub::{
    Control, DownloadPlan, DownloadSize, Error, Event, Hub, HubModel, Known, RepoReference,
};
use loopback::{Access, noise};

mod bench;
mod loopback;

const PYTHIA: &str = "models/EleutherAI/pythia-70m";

/// A model of four files that count, 1 MiB and 2,100 bytes, and others.
fn put_pythia(bench: &Bench, revision: &str, weights: &str, seed: u64) {
    for (path, bytes) in [
        ("README.md", 9),
        ("config.json", 100),
        (weights, MB),
        ("tokenizer.json", 2000),
    ] {
        let bytes = noise(bytes, seed + path.len() as u64);
        bench.server.put_at(PYTHIA, revision, path, bytes);
    }
}

fn reference(text: &str) -> RepoReference {
    Hub::reference(text).expect("a reference")
}

fn plan(hub: &Hub, text: &str) -> DownloadPlan {
    hub.plan(&reference(text), &Control::new())
        .expect("planned")
}

fn download(hub: &Hub, text: &str) -> Result<HubModel, Error> {
    hub.download(&plan(hub, text), &Control::new(), &mut |_| {})
}

/// Downloads until so much has come, then does something to it.
fn break_off(hub: &Hub, text: &str, bytes: u64, act: fn(&Control)) -> Error {
    let control = Control::new();
    let steer = control.clone();
    hub.download(&plan(hub, text), &control, &mut |event| {
        if matches!(&event, Event::Progress(p) if p.done_bytes > bytes) {
            act(&steer);
        }
    })
    .expect_err("broken off")
}

#[test]
fn a_model_is_fetched_with_what_belongs_to_it_and_found_again() {
    let (bench, _) = Bench::with_model(2 * MB);
    put_pythia(&bench, "main", "model.safetensors", 3);
    bench.server.put(PYTHIA, "pytorch_model.bin", noise(MB, 3));
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

#[test]
fn a_plan_tells_what_will_come_and_what_is_here_already() {
    let bench = Bench::new();
    put_pythia(&bench, "main", "model.safetensors", 3);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(500_000));
    let hub = bench.hub();
    let known = Known::find("pythia-70m").expect("known");
    assert_eq!(
        hub.download_size(known),
        DownloadSize {
            bytes: known.about_bytes(),
            estimated: true
        }
    );
    let first = plan(&hub, "pythia-70m");
    let exact = DownloadSize {
        bytes: MB as u64 + 2100,
        estimated: false,
    };
    assert_eq!(hub.download_size(known), exact);
    assert_eq!(
        (first.id.as_str(), first.name.as_str()),
        ("pythia-70m", "Pythia 70M")
    );
    assert_eq!(first.total_bytes, MB as u64 + 2100);
    assert_eq!(first.bytes_to_fetch, first.total_bytes);
    assert!(!first.is_installed() && !first.gated && !first.needs_conversion);
    assert_eq!(first.license.as_deref(), Some("mit"));
    #[cfg(unix)]
    assert!(first.free_bytes.expect("told") > 0);
    assert!(!bench.cache().exists(), "a plan writes nothing");

    // Stopped halfway, it is listed as unfinished, and the next plan counts what came.
    let error = break_off(&hub, "pythia-70m", 300_000, Control::stop);
    let Error::Stopped { kept_bytes } = error else {
        panic!("{error:?}");
    };
    let unfinished = hub.unfinished();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].reference, reference("pythia-70m"));
    assert_eq!(
        (unfinished[0].kept_bytes, unfinished[0].total_bytes),
        (kept_bytes, first.total_bytes)
    );
    assert!(hub.models_on_this_machine().is_empty());
    let second = plan(&hub, "pythia-70m");
    assert_eq!(second.bytes_to_fetch, first.total_bytes - kept_bytes);

    bench.server.fault(|fault| fault.bytes_per_s = None);
    let mut of_files = Vec::new();
    let model = hub
        .download(&second, &Control::new(), &mut |event| {
            if let Event::Progress(progress) = event
                && progress.file_done_bytes == progress.file_bytes
            {
                of_files.push((progress.file, progress.file_bytes));
            }
        })
        .expect("downloaded");
    assert_eq!(
        of_files.last().expect("progress"),
        &("model.safetensors".to_owned(), MB as u64)
    );
    assert!(hub.unfinished().is_empty());
    assert!(!bench.files().iter().any(|file| file.contains("billion")));
    // Without asking again, by its files.
    assert_eq!(bench.hub().download_size(known), exact);
    let third = plan(&hub, "pythia-70m");
    assert!(third.is_installed() && third.bytes_to_fetch == 0);
    assert_eq!(
        hub.download(&third, &Control::new(), &mut |_| {})
            .expect("there"),
        model
    );
}

#[test]
fn a_cancel_and_a_discard_leave_nothing_behind() {
    let bench = Bench::new();
    put_pythia(&bench, "main", "model.safetensors", 3);
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(500_000));
    let hub = bench.hub();
    let error = break_off(&hub, "pythia-70m", 300_000, Control::cancel);
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    assert_eq!(std::fs::read_dir(bench.cache()).expect("read").count(), 0);

    // Stopped, and then, perhaps after a quit and without a network, discarded.
    break_off(&hub, "pythia-70m", 300_000, Control::stop);
    assert!(!bench.files().is_empty());
    bench.server.fault(|fault| fault.down = true);
    bench.hub().discard(&reference("pythia-70m")).expect("gone");
    assert_eq!(std::fs::read_dir(bench.cache()).expect("read").count(), 0);
    bench
        .hub()
        .discard(&reference("pythia-70m"))
        .expect("still");
    assert_eq!(std::fs::read_dir(bench.cache()).expect("read").count(), 0);
}

#[test]
fn a_discard_takes_nothing_from_another_download_or_an_installed_model() {
    let bench = Bench::new();
    put_pythia(&bench, "main", "model.safetensors", 3);
    // The checkpoint shares configuration and tokenizer with it.
    put_pythia(&bench, "step8", "model.safetensors", 3);
    bench
        .server
        .put_at(PYTHIA, "step8", "model.safetensors", noise(MB, 99));
    bench
        .server
        .put_at(PYTHIA, "step16", "config.json", noise(100, 14));
    bench
        .server
        .put_at(PYTHIA, "step16", "tokenizer.json", noise(2000, 17));
    bench
        .server
        .put_at(PYTHIA, "step16", "model.safetensors", noise(MB, 98));
    let hub = bench.hub();
    bench
        .server
        .fault(|fault| fault.bytes_per_s = Some(500_000));
    break_off(&hub, "pythia-70m@step8", 300_000, Control::stop);
    break_off(&hub, "pythia-70m@step16", 300_000, Control::stop);
    assert_eq!(hub.unfinished().len(), 2);
    bench.server.fault(|fault| fault.bytes_per_s = None);
    let main = download(&hub, "pythia-70m").expect("downloaded");

    let before = hub.unfinished();
    hub.discard(&reference("pythia-70m@step8")).expect("gone");
    assert_eq!(hub.unfinished(), before[..1], "step16 is as it was");
    assert_eq!(hub.models_on_this_machine(), [main]);
    let again = download(&hub, "pythia-70m@step16").expect("downloaded");
    assert_eq!(again.id, "pythia-70m@step16");
}

#[test]
fn a_deleted_model_gives_back_what_nothing_else_uses() {
    let (bench, _) = Bench::with_model(MB);
    put_pythia(&bench, "main", "model.safetensors", 3);
    put_pythia(&bench, "step8", "model.safetensors", 3);
    bench
        .server
        .put_at(PYTHIA, "step8", "model.safetensors", noise(MB + 5, 99));
    bench
        .server
        .put("models/owner/name", "other.gguf", noise(300, 1));
    let hub = bench.hub();
    let main = download(&hub, "pythia-70m").expect("downloaded");
    let step = download(&hub, "pythia-70m@step8").expect("downloaded");
    let gguf = download(&hub, "hf:owner/name/model.gguf").expect("downloaded");
    let other = download(&hub, "hf:owner/name/other.gguf").expect("downloaded");

    // Configuration and tokenizer are the same files in both revisions.
    assert_eq!(hub.delete(&step).expect("deleted"), MB as u64 + 5);
    assert_eq!(hub.delete(&gguf).expect("deleted"), MB as u64);
    assert_eq!(hub.models_on_this_machine(), [other.clone(), main.clone()]);
    assert!(main.path.join("config.json").is_file());
    let left = bench.files();
    assert!(!left.iter().any(|file| file.contains("step8")), "{left:?}");
    assert!(plan(&hub, "pythia-70m").is_installed());

    // What Python put beside it and noted of it goes with the last model of the commit.
    std::fs::write(main.path.join("README.md"), "of Python").expect("written");
    let noted = bench
        .cache()
        .join("models--EleutherAI--pythia-70m/.no_exist")
        .join(&main.commit);
    std::fs::create_dir_all(&noted).expect("made");
    std::fs::write(noted.join("added_tokens.json"), "").expect("written");
    let freed = hub.delete(&main).expect("deleted");
    assert_eq!(freed, MB as u64 + 2100 + 9);
    hub.delete(&other).expect("deleted");
    let left: Vec<_> = std::fs::read_dir(bench.cache()).expect("read").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn pickled_checkpoints_are_fetched_from_the_catalogue_alone_and_converted_once() {
    let bench = Bench::new();
    put_pythia(&bench, "step0", "pytorch_model.bin", 3);
    put_pythia(&bench, "main", "pytorch_model.bin", 3);
    for (path, bytes) in [
        ("config.json", 100),
        ("pytorch_model.bin", 50),
        ("tokenizer.json", 7),
    ] {
        bench
            .server
            .put_at("models/owner/pickle", "step0", path, noise(bytes, 1));
    }
    let hub = bench.hub();
    for other in ["hf:owner/pickle@step0", "pythia-70m"] {
        let error = hub
            .plan(&reference(other), &Control::new())
            .expect_err("a pickle");
        assert!(
            line(&error).contains("neither safetensors nor GGUF"),
            "{error}"
        );
    }
    let planned = plan(&hub, "pythia-70m@step0");
    assert!(planned.needs_conversion);
    let model = hub
        .download(&planned, &Control::new(), &mut |_| {})
        .expect("downloaded");
    assert!(model.needs_conversion);
    assert_eq!(hub.models_on_this_machine(), std::slice::from_ref(&model));
    assert!(hub.converted(&model).is_err(), "there is nothing yet");
    assert!(model.path.join("pytorch_model.bin").is_file());

    // What the converter does.
    std::fs::write(model.path.join("model.safetensors"), noise(MB, 5)).expect("written");
    let converted = hub.converted(&model).expect("converted");
    assert!(!converted.needs_conversion);
    assert!(!model.path.join("pytorch_model.bin").exists());
    assert_eq!(converted.bytes, MB as u64 + 2100);
    let again = plan(&hub, "pythia-70m@step0");
    assert!(again.is_installed(), "it is not fetched again");
    assert_eq!(
        hub.download(&again, &Control::new(), &mut |_| {})
            .expect("there")
            .path,
        converted.path
    );
    assert!(hub.delete(&converted).expect("deleted") > MB as u64);
    assert_eq!(std::fs::read_dir(bench.cache()).expect("read").count(), 0);
}

#[test]
fn a_refused_download_leaves_nothing_and_goes_on_once_access_is_given() {
    let bench = Bench::new();
    let repo = "models/meta-llama/Llama-3.2-1B";
    for (path, bytes) in [
        ("config.json", 100),
        ("model.safetensors", MB),
        ("tokenizer.json", 7),
    ] {
        bench.server.put(repo, path, noise(bytes, 1));
    }
    bench.server.gate(repo);
    bench.server.account("hf_ada", "ada");
    let plain = bench.hub();
    assert!(plan(&plain, "llama3.2-1b").gated);
    let page = format!("{}/meta-llama/Llama-3.2-1B", bench.server.endpoint);
    let tokens = format!("{}/settings/tokens", bench.server.endpoint);
    let refused = |hub: &Hub| {
        let error = download(hub, "llama3.2-1b").expect_err("refused");
        let left = std::fs::read_dir(bench.cache()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{error}");
        (error.link().expect("a page").to_owned(), line(&error))
    };
    assert_eq!(refused(&plain).0, tokens);
    let ada = bench.hub_with_token("hf_ada");
    let (link, words) = refused(&ada);
    assert_eq!(link, page);
    assert!(words.contains("has not accepted the licence"), "{words}");
    bench.server.answer(repo, "hf_ada", Access::Waiting);
    assert!(refused(&ada).1.contains("have not answered"));
    bench.server.answer(repo, "hf_ada", Access::Denied);
    let (link, words) = refused(&ada);
    assert_eq!(link, page);
    assert!(
        words.contains("turned this account's request down"),
        "{words}"
    );
    let stranger = bench.hub_with_token("hf_old");
    let error = stranger
        .plan(&reference("llama3.2-1b"), &Control::new())
        .expect_err("unknown");
    assert!(matches!(error, Error::BadToken { .. }), "{error:?}");
    assert_eq!(error.link(), Some(tokens.as_str()));
    bench.server.answer(repo, "hf_ada", Access::Granted);
    let model = download(&ada, "llama3.2-1b").expect("downloaded");
    assert_eq!(model.id, "llama-3.2-1b");
}
