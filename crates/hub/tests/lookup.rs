//! Searching the hub on loopback, and looking at repositories: what runs here, what does not and why, what to choose among.

use bench::{Bench, MB};
use billion_hub::{Control, Found, Hub, Query, RepoKind, Repository};
use loopback::noise;

mod bench;
mod loopback;

fn look(hub: &Hub, text: &str) -> Repository {
    let Ok(Query::Repository(reference)) = Query::read(text) else {
        panic!("{text} is a repository");
    };
    hub.look(&reference, &Control::new()).expect("looked at")
}

/// Puts files of these sizes.
fn put(bench: &Bench, repo: &str, files: &[(&str, usize)]) {
    for (path, bytes) in files {
        let repo = format!("models/{repo}");
        bench.server.put(&repo, path, noise(*bytes, 1));
    }
}

#[test]
fn a_search_tells_what_each_repository_is_and_whether_it_runs() {
    let bench = Bench::new();
    for (repo, about) in [
        (
            "a/Tiny-One",
            r#""downloads":7,"config":{"model_type":"llama"},"safetensors":{"total":1100048384},"tags":["license:mit"]"#,
        ),
        (
            "b/tiny-gguf",
            r#""downloads":9,"gguf":{"architecture":"gptneox","total":5}"#,
        ),
        (
            "c/tiny-mamba",
            r#""downloads":1,"config":{"model_type":"mamba"}"#,
        ),
        (
            "d/tiny-gptq",
            r#""config":{"model_type":"llama","quantization_config":{"quant_method":"gptq"}}"#,
        ),
        ("e/tiny-plain", r#""downloads":3"#),
        ("f/other", r#""downloads":2"#),
    ] {
        put(&bench, repo, &[("config.json", 1)]);
        bench.server.about(&format!("models/{repo}"), about);
    }
    bench.server.gate("models/a/Tiny-One");
    let mut found = bench
        .hub()
        .search(" tiny ", RepoKind::Model, &Control::new())
        .expect("found");
    // The real hub sorts.
    found.sort_by(|a, b| a.repo.id.cmp(&b.repo.id));
    let seen = bench.server.seen();
    assert!(
        seen[0].path.contains("sort=downloads") && seen[0].path.contains("search=tiny&"),
        "{}",
        seen[0].path
    );
    let about = |found: &Found| {
        (
            found.architecture.clone().unwrap_or_default(),
            found.downloads,
            found.problem.is_some(),
        )
    };
    let all: Vec<_> = found.iter().map(about).collect();
    assert_eq!(
        all,
        [
            ("llama".to_owned(), 7, false),
            ("gptneox".to_owned(), 9, false),
            ("mamba".to_owned(), 1, true),
            ("llama".to_owned(), 0, true),
            (String::new(), 3, false),
        ]
    );
    let tiny = &found[0];
    assert_eq!(
        (tiny.params, tiny.license.as_deref(), tiny.gated),
        (Some(1_100_048_384), Some("mit"), true)
    );
    let mamba = found[2].problem.clone().expect("a reason");
    assert!(
        mamba.contains("\"mamba\"") && mamba.contains("llama, stablelm, gpt_neox"),
        "{mamba}"
    );
    assert!(
        found[3]
            .problem
            .clone()
            .expect("a reason")
            .contains("quantized with gptq")
    );
}

#[test]
fn a_repository_is_looked_at_and_its_files_are_the_choices() {
    let bench = Bench::new();
    put(
        &bench,
        "owner/name",
        &[
            ("README.md", 9),
            ("config.json", 100),
            ("mmproj-F16.gguf", 3),
            ("model.Q8_0.gguf", 900),
            ("model.Q4_0.gguf", 500),
            ("big-00001-of-00002.gguf", 2000),
            ("big-00002-of-00002.gguf", 2000),
            ("model.safetensors", MB),
            ("tokenizer.json", 2000),
        ],
    );
    bench.server.about(
        "models/owner/name",
        r#""downloads":12,"config":{"model_type":"llama"},"gguf":{"architecture":"llama","total":77}"#,
    );
    let hub = bench.hub();
    let page = look(&hub, "https://huggingface.co/owner/name/tree/main");
    assert_eq!(
        (page.architecture.as_deref(), page.problem.as_deref()),
        (Some("llama"), None)
    );
    assert_eq!(page.page, format!("{}/owner/name", bench.server.endpoint));
    assert_eq!(
        (page.downloads, page.params, page.license.as_deref()),
        (Some(12), Some(77), Some("mit"))
    );
    assert_eq!(
        page.total_bytes,
        MB as u64 + 2000 + 4000 + 1400 + 3 + 100 + 9
    );
    let choices: Vec<_> = page
        .choices
        .iter()
        .map(|choice| (choice.id.as_str(), choice.bytes, choice.installed))
        .collect();
    assert_eq!(
        choices,
        [
            ("hf:owner/name", MB as u64 + 2100, false),
            ("hf:owner/name/model.Q4_0.gguf", 500, false),
            ("hf:owner/name/model.Q8_0.gguf", 900, false),
        ]
    );
    // Each choice is a reference that fetches it, and is known as installed then.
    hub.fetch_model(&page.choices[1].id, &Control::new(), &mut |_| {})
        .expect("fetched");
    let again = look(&hub, "owner/name");
    let installed: Vec<bool> = again.choices.iter().map(|c| c.installed).collect();
    assert_eq!(installed, [false, true, false]);
}

#[test]
fn what_does_not_run_says_why_in_a_line() {
    let bench = Bench::new();
    for (repo, files, about, why) in [
        (
            "a/bin",
            &[("pytorch_model.bin", 5), ("config.json", 2)][..],
            r#""config":{"model_type":"llama"}"#,
            "hold neither safetensors nor GGUF",
        ),
        (
            "a/mamba",
            &[
                ("model.safetensors", 5),
                ("config.json", 2),
                ("tokenizer.json", 2),
            ],
            r#""config":{"model_type":"mamba"}"#,
            "\"mamba\" is not one that Billion runs",
        ),
        (
            "a/bare",
            &[("model.safetensors", 5), ("config.json", 2)],
            r#""downloads":1"#,
            "no tokenizer.json",
        ),
        (
            "a/parts",
            &[("m-00001-of-00002.gguf", 5), ("m-00002-of-00002.gguf", 2)],
            r#""gguf":{"architecture":"llama"}"#,
            "come in parts",
        ),
        (
            "a/gguf",
            &[("m.gguf", 5)],
            r#""gguf":{"architecture":"bert"}"#,
            "\"bert\" is not one",
        ),
    ] {
        put(&bench, repo, files);
        bench.server.about(&format!("models/{repo}"), about);
        let looked = look(&bench.hub(), repo);
        assert!(looked.choices.is_empty(), "{repo}");
        let problem = looked.problem.expect("a reason");
        assert!(problem.contains(why), "{repo}: {problem}");
        assert!(!problem.contains('\n'));
    }
    // The architecture is read in the file where the API does not tell it.
    put(
        &bench,
        "a/quiet",
        &[("model.safetensors", 5), ("tokenizer.json", 2)],
    );
    let config = br#"{"model_type": "gpt_neox", "hidden_size": 5}"#;
    bench
        .server
        .put("models/a/quiet", "config.json", config.to_vec());
    let looked = look(&bench.hub(), "a/quiet");
    assert_eq!(looked.architecture.as_deref(), Some("gpt_neox"));
    assert_eq!(looked.choices.len(), 1);
    bench.server.gate("models/a/quiet");
    let looked = look(&bench.hub(), "a/quiet");
    assert!(looked.gated && looked.architecture.is_none() && looked.choices.len() == 1);
}
