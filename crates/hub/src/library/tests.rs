//! Tests of the library on the starter pack of the checkout and on the tiny models committed beside `llm`.

use super::*;
use crate::fit::fit;

/// A data folder of its own, with the checkout's starter pack.
fn library(data: &Path) -> Library {
    let places = Places {
        current: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))),
        ..Places::default()
    };
    Library::open(data, &places)
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
            "TinyLlama 1.1B Chat v1.0 (tinyllama-1.1b-chat) is not on this machine; get a .gguf file",
        ),
        ("startr", "did you mean starter?"),
        ("tiny-llama-1.1b-chat", "did you mean tinyllama-1.1b-chat"),
        ("qqqqqqqq", "billion models list shows"),
        ("no/such/file.gguf", "no such file or folder"),
        ("missing.gguf", "no such file or folder"),
        ("hf:a/b", "downloads nothing"),
        ("pythia-1b@step1000", "neither checkpoints"),
        ("tinyllama:q4_0", "neither checkpoints"),
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
    let library = Library::open(data.path(), &Places::default());
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
    let library = Library::open(data.path(), &Places::default());
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
    let library = Library::open(data.path(), &Places::default());
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
