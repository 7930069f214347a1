use super::*;

#[test]
fn references_are_read_as_people_write_them() {
    let model = |id: &str, revision: &str, file: Option<&str>| RepoReference {
        repo: RepoId {
            kind: RepoKind::Model,
            id: id.to_owned(),
        },
        revision: revision.to_owned(),
        file: file.map(str::to_owned),
    };
    let mut dataset = model("cais/mmlu", "main", None);
    dataset.repo.kind = RepoKind::Dataset;
    for (text, want) in [
        (
            "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            model("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "main", None),
        ),
        (
            "hf:EleutherAI/pythia-1b@step1000",
            model("EleutherAI/pythia-1b", "step1000", None),
        ),
        (
            "hf:a/b/model.gguf",
            model("a/b", "main", Some("model.gguf")),
        ),
        (
            "hf:a/b@v1/deep/model.gguf",
            model("a/b", "v1", Some("deep/model.gguf")),
        ),
        (" https://huggingface.co/a/b ", model("a/b", "main", None)),
        ("https://huggingface.co/a/b/", model("a/b", "main", None)),
        ("http://hf.co/a/b?library=x#top", model("a/b", "main", None)),
        (
            "https://huggingface.co/a/b/tree/step1000",
            model("a/b", "step1000", None),
        ),
        (
            "https://huggingface.co/a/b/tree/main/deep",
            model("a/b", "main", None),
        ),
        (
            "https://huggingface.co/a/b/blob/main/x/y%20z.gguf",
            model("a/b", "main", Some("x/y z.gguf")),
        ),
        (
            "https://huggingface.co/a/b/resolve/main/y.gguf?download=true",
            model("a/b", "main", Some("y.gguf")),
        ),
        (
            "https://huggingface.co/a/b/tree/refs%2Fpr%2F7",
            model("a/b", "refs/pr/7", None),
        ),
        (
            "https://huggingface.co/a/b/blob/refs/pr/7/y.gguf",
            model("a/b", "refs/pr/7", Some("y.gguf")),
        ),
        (
            "https://huggingface.co/a/b/discussions",
            model("a/b", "main", None),
        ),
        ("hf:https://huggingface.co/datasets/cais/mmlu", dataset),
    ] {
        assert_eq!(
            RepoReference::parse(text).map_err(|e| e.to_string()),
            Ok(want),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_reference_is_refused_in_a_line() {
    for text in [
        "",
        "tinyllama",
        "hf:",
        "a/",
        "/b",
        "a/..",
        "a/b@",
        "a/b@../x",
        "a/b/../../c",
        "a/b/C:\\x",
        "-a/b",
        "a/b--c",
        "https://huggingface.co",
        "https://huggingface.co/a",
        "https://example.com/a/b",
        "https://huggingface.co/spaces/a/b",
        "https://huggingface.co/a/b/blob/main/%2e%2e/x",
        "https://huggingface.co/a/b/blob/main/%zz",
    ] {
        let error = RepoReference::parse(text).expect_err(text).to_string();
        assert!(
            !error.contains('\n') && error.len() < 250,
            "{text}: {error}"
        );
    }
}

#[test]
fn paths_that_lead_out_are_not_safe() {
    for good in ["a", "a/b.c", "a b/c", "..a", "a..b"] {
        assert!(is_safe_path(good), "{good}");
    }
    for bad in [
        "", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.", "a\\b", "c:d", "a\0b", "a\nb", "a.",
        "a ",
    ] {
        assert!(!is_safe_path(bad), "{bad:?}");
    }
}

#[test]
fn addresses_are_encoded() {
    assert_eq!(
        percent_encode("refs/pr/1", Slashes::Inside),
        "refs%2Fpr%2F1"
    );
    assert_eq!(
        percent_encode("a b/ü?#", Slashes::Separate),
        "a%20b/%C3%BC%3F%23"
    );
    assert_eq!(
        percent_decode("a%20b/%C3%BC%3F%23").as_deref(),
        Some("a b/ü?#")
    );
    assert_eq!(percent_decode("%ff"), None);
}

fn read(text: &str, tree: Option<&str>) -> Result<RepoRevision, String> {
    let reference = RepoReference::parse("a/b").expect("a reference");
    let answer: ApiRevision = serde_json::from_str(text).expect("JSON");
    assert_eq!(answer.lacks_sizes(), tree.is_some());
    answer.revision(
        &reference,
        tree.map(|t| serde_json::from_str(t).expect("JSON")),
    )
}

const COMMIT: &str = "fe8a4ea1ffedaf415f4da2f062534de366a451e6";

#[test]
fn a_revision_is_read_as_the_hub_writes_it() {
    let sha256 = "a".repeat(64);
    let blob = "b".repeat(40);
    let text = format!(
        r#"{{"id": "a/b", "private": false, "gated": "manual", "sha": "{COMMIT}", "cardData": {{"license": "apache-2.0"}},
        "siblings": [
          {{"rfilename": "model.safetensors", "size": 2200119864, "blobId": "{blob}",
            "lfs": {{"sha256": "{sha256}", "size": 2200119864, "pointerSize": 135}}}},
          {{"rfilename": "config.json", "size": 608, "blobId": "{blob}"}}]}}"#
    );
    let revision = read(&text, None).expect("read");
    assert_eq!((revision.commit.as_str(), revision.gated), (COMMIT, true));
    assert_eq!(revision.license.as_deref(), Some("apache-2.0"));
    assert_eq!(
        revision.files,
        [
            RemoteFile {
                path: "config.json".to_owned(),
                bytes: 608,
                hash: BlobHash::GitSha1(blob.clone())
            },
            RemoteFile {
                path: "model.safetensors".to_owned(),
                bytes: 2200119864,
                hash: BlobHash::Sha256(sha256.clone())
            }
        ]
    );
    let error = revision
        .file("other.json")
        .expect_err("not there")
        .to_string();
    assert!(
        error.contains("a/b has no file other.json at main (it has config.json)"),
        "{error}"
    );

    // A mirror that lists names only: the tree has the rest.
    let bare = format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "config.json"}}]}}"#);
    let tree = format!(
        r#"[{{"type": "directory", "path": "x", "oid": "{blob}", "size": 0}},
        {{"type": "file", "path": "x/m.gguf", "oid": "{blob}", "size": 7, "lfs": {{"oid": "{sha256}", "size": 7, "pointerSize": 9}}}}]"#
    );
    let revision = read(&bare, Some(&tree)).expect("read");
    assert_eq!(revision.files.len(), 1);
    assert_eq!(revision.files[0].hash, BlobHash::Sha256(sha256));
    assert!(!revision.gated && revision.license.is_none());
}

#[test]
fn a_hostile_list_is_refused() {
    let blob = "b".repeat(40);
    let with = |sha: &str, name: &str, blob: &str| {
        let text = format!(
            r#"{{"sha": "{sha}", "siblings": [{{"rfilename": "{name}", "size": 1, "blobId": "{blob}"}}]}}"#
        );
        read(&text, None)
    };
    assert!(with(COMMIT, "x.json", &blob).is_ok());
    assert!(with("../../etc", "x.json", &blob).is_err());
    assert!(with(COMMIT, "../x.json", &blob).is_err());
    assert!(with(COMMIT, "x.json", "../../x").is_err());
}
