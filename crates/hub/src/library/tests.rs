//! Tests of the library on the starter pack of the checkout and on the tiny models committed beside `llm`.

use super::*;
use crate::fit::fit;
use crate::settings::{HubSettings, Limits};

/// A data folder of its own, with the checkout's starter pack.
fn library(data: &Path) -> Library {
    let places = Places {
        current: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))),
        ..Places::default()
    };
    Library::open(data, &places, offline(data))
}

/// A hub whose cache is in the data folder, and which is asked for nothing.
fn offline(data: &Path) -> Hub {
    let settings = HubSettings {
        offline: true,
        ..HubSettings::new("http://127.0.0.1:9", data.join("hub"))
    };
    Hub::new(settings, Limits::default())
}

fn starter_file(library: &Library) -> PathBuf {
    library
        .starter()
        .expect("the starter pack is fetched by ./run --setup and by ./test")
        .model()
}

#[test]
fn the_starter_is_listed_with_its_facts() {
    let data = tempfile::tempdir().expect("a folder");
    let library = library(data.path());
    let installed = library.installed().expect("listed");
    assert_eq!(installed.len(), 1);
    let starter = &installed[0];
    assert_eq!(
        (starter.id.as_str(), starter.source),
        ("starter", Source::Starter)
    );
    assert_eq!(starter.name, "SmolLM2 135M Instruct");
    let (sha256, facts) = starter.contents.as_ref().expect("usable");
    // starter/contents.sha256
    assert_eq!(
        sha256,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    assert_eq!(facts.params, 134_515_008);
    assert_eq!(
        (facts.architecture.as_str(), facts.quant.as_str()),
        ("llama", "Q4_1")
    );
    assert!(facts.chat && facts.license.as_deref() == Some("apache-2.0"));
    // 30 layers, 3 heads of 64 for keys and values, F16.
    assert_eq!(facts.kv_bytes_per_token, 2 * 30 * 3 * 64 * 2);
    assert!(fit(facts, None, 8 << 30).words == "runs well");
    // The second look comes from the record, which is as true.
    let again = library.facts(&starter.path).expect("recorded");
    assert_eq!(&again, starter.contents.as_ref().expect("usable"));
    assert_eq!(
        std::fs::read_dir(data.path().join("models/.records"))
            .expect("made")
            .count(),
        1
    );

    let (_, inspection) = library.inspect("starter").expect("inspected");
    let value = |label: &str| {
        let found = inspection.details.iter().find(|(have, _)| *have == label);
        found
            .map(|(_, value)| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(value("Parameters"), "134,515,008");
    assert_eq!(value("Layers"), "30");
    assert_eq!(value("Heads"), "9 of 64 numbers; 3 for keys and values");
    assert!(
        inspection
            .chat_template
            .expect("chats")
            .contains("<|im_start|>")
    );
}

#[test]
fn references_resolve_or_say_what_to_do() {
    let data = tempfile::tempdir().expect("a folder");
    let library = library(data.path());
    let file = starter_file(&library);
    for reference in ["starter", "smollm2-135m-instruct"] {
        let resolved = library.resolve(reference).expect("found");
        assert_eq!((resolved.id.as_str(), &resolved.path), ("starter", &file));
    }
    let by_path = library.resolve(&file.display().to_string()).expect("found");
    assert_eq!(by_path.source, Source::Path);
    assert_eq!(by_path.path, file.canonicalize().expect("there"));
    for (reference, says) in [
        (
            "tinyllama",
            "TinyLlama 1.1B Chat v1.0 is not on this machine; get it with: billion models pull tinyllama-1.1b-chat",
        ),
        ("startr", "did you mean starter?"),
        ("tiny-llama-1.1b-chat", "did you mean tinyllama-1.1b-chat"),
        ("qqqqqqqq", "billion models list shows"),
        ("no/such/file.gguf", "no such file or folder"),
        ("missing.gguf", "no such file or folder"),
        ("hf:a/b", "models pull hf:a/b"),
        ("hf:a", "OWNER/NAME"),
        (
            "pythia@step1000",
            "Pythia 1B at step1000 is not on this machine; get it with: billion models pull pythia-1b@step1000",
        ),
        ("tinyllama:q4_0", "models pull tinyllama-1.1b-chat:q4_0"),
        ("tinyllama:q3", "it writes q4_0"),
        ("", "cannot be empty"),
        ("../../etc", "no such file"),
    ] {
        let error = library
            .resolve(reference)
            .expect_err("not there")
            .to_string();
        assert!(error.contains(says), "{reference}: {error}");
    }
}

#[test]
fn a_gguf_is_imported_once_and_removed_whole() {
    let data = tempfile::tempdir().expect("a folder");
    // Without a starter pack, so that its file is new to the library.
    let file = starter_file(&library(data.path()));
    let library = Library::open(data.path(), &Places::default(), offline(data.path()));
    assert!(library.starter().is_err() && library.installed().expect("empty").is_empty());
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mine = elsewhere.path().join("My Model.Q4_1.gguf");
    std::fs::copy(&file, &mine).expect("copied");

    let first = library.import(&mine).expect("imported");
    assert_eq!(
        (first.id.as_str(), first.source),
        ("my-model.q4_1", Source::Imported)
    );
    assert!(first.contents.is_ok() && first.path.is_file());
    let again = library.import(&mine).expect("the same");
    assert_eq!(again.id, first.id);
    assert_eq!(library.installed().expect("listed").len(), 1);
    assert!(library.imported_bytes() > 90_000_000);
    std::fs::remove_file(&mine).expect("removed");
    let resolved = library.resolve(&first.id).expect("found");
    assert_eq!(resolved.path, first.path);
    assert!(inspect(&resolved.path).is_ok());

    library.remove(&first.id).expect("removed");
    assert!(library.installed().expect("empty").is_empty());
    let left: Vec<_> = std::fs::read_dir(data.path().join("models"))
        .expect("there")
        .map(|entry| entry.expect("read").file_name())
        .collect();
    assert_eq!(left, [".records"]);
    assert!(library.remove(&first.id).is_err());
}

#[test]
fn damaged_files_are_not_imported_and_leave_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let library = library(data.path());
    let bytes = std::fs::read(starter_file(&library)).expect("read");
    let mine = data.path().join("half.gguf");
    std::fs::write(&mine, &bytes[..bytes.len() / 2]).expect("written");
    assert!(library.import(&mine).is_err());
    std::fs::write(&mine, "").expect("written");
    assert!(library.import(&mine).is_err());
    let empty = data.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    assert!(library.import(&empty).is_err());
    assert!(library.import(&data.path().join("none")).is_err());
    assert!(
        !data.path().join("models").exists() || library.installed().expect("listed").len() == 1
    );
    assert!(matches!(
        library.remove("starter"),
        Err(Error::Permanent(_))
    ));
    let error = library
        .remove(&mine.display().to_string())
        .expect_err("not in the library");
    assert!(error.to_string().contains("nothing to remove"), "{error}");
    assert!(
        library
            .import(&starter_file(&library))
            .is_ok_and(|same| same.id == "starter")
    );
}

#[test]
fn a_folder_is_imported_with_what_runs_it_and_nothing_else() {
    let data = tempfile::tempdir().expect("a folder");
    let library = Library::open(data.path(), &Places::default(), offline(data.path()));
    let fixture = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa"
    ));
    let mine = data.path().join("Tiny Llama");
    std::fs::create_dir(&mine).expect("made");
    for entry in std::fs::read_dir(fixture).expect("the fixture") {
        let file = entry.expect("read").path();
        std::fs::copy(&file, mine.join(file_name(&file))).expect("copied");
    }
    std::fs::write(mine.join("pytorch_model.bin"), "pickle").expect("written");
    let imported = library.import(&mine).expect("imported");
    assert_eq!(
        (imported.id.as_str(), imported.name.as_str()),
        ("tiny-llama", "Tiny Llama")
    );
    let mut files: Vec<String> = std::fs::read_dir(&imported.path)
        .expect("there")
        .map(|entry| file_name(&entry.expect("read").path()))
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            SIDECAR,
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    // Other weights under the same name become another model.
    let config = mine.join("config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, text.replacen('{', "{ ", 1)).expect("written");
    let other = library.import(&mine).expect("imported");
    assert!(other.id.starts_with("tiny-llama-"), "{}", other.id);
    // A damaged sidecar hides a model but breaks nothing.
    std::fs::write(imported.path.join(SIDECAR), "{").expect("written");
    assert_eq!(library.installed().expect("listed").len(), 1);
}

#[test]
fn what_broken_off_work_left_behind_is_removed_a_day_later() {
    let data = tempfile::tempdir().expect("a folder");
    let library = Library::open(data.path(), &Places::default(), offline(data.path()));
    let models = data.path().join("models");
    let (old, fresh) = (models.join(".import-1-abc"), models.join(".removed-2-abc"));
    for folder in [&old, &fresh] {
        std::fs::create_dir_all(folder).expect("made");
        std::fs::write(folder.join("x.gguf"), "x").expect("written");
    }
    std::fs::File::open(&old)
        .expect("opened")
        .set_modified(SystemTime::now() - 2 * LEFT_BEHIND)
        .expect("dated");
    let fixture = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa.gguf"
    ));
    library.import(fixture).expect("imported");
    assert!(!old.exists() && fresh.exists());
}

#[test]
#[cfg(unix)]
fn models_of_the_hubs_cache_are_listed_used_and_removed() {
    let data = tempfile::tempdir().expect("a folder");
    let library = Library::open(data.path(), &Places::default(), offline(data.path()));
    let fixture = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa"
    ));
    let cached = |repo: &str, revision: &str, commit: &str| {
        let folder = data.path().join("hub").join(repo);
        let snapshot = folder.join("snapshots").join(commit.repeat(40));
        std::fs::create_dir_all(&snapshot).expect("made");
        std::fs::create_dir_all(folder.join("refs")).expect("made");
        std::fs::create_dir_all(folder.join("blobs")).expect("made");
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            let blob = match name {
                "model.safetensors" => commit.repeat(64),
                _ => sha256_file(&fixture.join(name)).expect("read")[..40].to_owned(),
            };
            std::fs::copy(fixture.join(name), folder.join("blobs").join(&blob)).expect("copied");
            std::os::unix::fs::symlink(Path::new("../../blobs").join(&blob), snapshot.join(name))
                .expect("linked");
        }
        std::fs::write(folder.join("refs").join(revision), commit.repeat(40)).expect("written");
        snapshot
    };
    let pythia = cached("models--EleutherAI--pythia-1b", "step8", "a");
    let other = cached("models--owner--name", "main", "b");
    // Another tool's model that Billion cannot run is not listed.
    let bert = cached("models--other--bert", "main", "c");
    std::fs::remove_file(bert.join("config.json")).expect("removed");
    std::fs::write(bert.join("config.json"), r#"{"model_type": "bert"}"#).expect("written");

    let listed = library.installed().expect("listed");
    let ids: Vec<(&str, &str)> = listed
        .iter()
        .map(|model| (model.id.as_str(), model.name.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("hf:owner/name", "owner/name"),
            ("pythia-1b@step8", "Pythia 1B at step8")
        ]
    );
    let (sha256, _) = listed[0].contents.as_ref().expect("usable");
    assert_eq!(*sha256, "b".repeat(64), "the name of its blob");
    assert_eq!(library.imported_bytes(), 0, "it is not Billion's own");
    let resolved = library.resolve("pythia@step8").expect("found");
    assert_eq!(
        (resolved.source, &resolved.path),
        (Source::HubCache, &pythia)
    );
    assert!(library.resolve("pythia").is_err());

    library.remove("hf:owner/name").expect("removed");
    assert!(!other.exists() && pythia.exists());
    library.remove("pythia@step8").expect("removed");
    assert!(library.installed().expect("listed").is_empty());
}

#[test]
fn what_was_made_here_is_kept_under_its_reference() {
    let data = tempfile::tempdir().expect("a folder");
    let library = Library::open(data.path(), &Places::default(), offline(data.path()));
    let fixture = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../llm/tests/fixtures/gqa.gguf"
    ));
    let make = || {
        let folder = library.workshop().expect("made");
        std::fs::copy(fixture, folder.join("model.gguf")).expect("copied");
        let made = Made {
            reference: "tinyllama-1.1b-chat:q4_0".to_owned(),
            name: "TinyLlama 1.1B Chat v1.0 as Q4_0".to_owned(),
            file: Some("model.gguf".to_owned()),
            origin: "tinyllama-1.1b-chat".to_owned(),
        };
        library.keep_made(&folder, &made)
    };
    let made = make().expect("kept");
    assert_eq!(
        (made.id.as_str(), made.source),
        ("tinyllama-1.1b-chat:q4_0", Source::Made)
    );
    for reference in ["tinyllama:q4_0", "tinyllama-1.1b-chat:Q4_0"] {
        let resolved = library.resolve(reference).expect("found");
        assert_eq!((&resolved.id, &resolved.path), (&made.id, &made.path));
    }
    // Made again, it takes the place of the first.
    make().expect("kept");
    assert_eq!(library.installed().expect("listed").len(), 1);
    // What cannot be opened is not kept.
    let broken = library.workshop().expect("made");
    std::fs::write(broken.join("model.gguf"), "GGUF").expect("written");
    let made = Made {
        reference: "pythia-1b:q4_0".to_owned(),
        name: String::new(),
        file: Some("model.gguf".to_owned()),
        origin: String::new(),
    };
    assert!(library.keep_made(&broken, &made).is_err());
    library.remove("tinyllama-1.1b-chat:q4_0").expect("removed");
    assert!(library.resolve("tinyllama:q4_0").is_err());
}
