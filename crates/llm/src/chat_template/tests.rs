//! Chat templates against transformers' renderings (`tests/chat_template/make.py`), and hostile templates.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::functions::strftime;
use super::{ChatTemplate, Message};
use crate::Error;
use crate::decoder::TextCodec;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_template")
}

fn render(source: &str) -> Result<String, String> {
    let messages = [Message::new("user", "Hi")];
    let template = ChatTemplate::new(source, "<s>", "</s>").map_err(|error| error.to_string())?;
    let rendered = template.render(&messages, true);
    rendered.map_err(|error| error.to_string())
}

#[test]
fn renders_as_transformers_does() {
    let bytes = std::fs::read(folder().join("expected.json")).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(file["time"].as_u64().unwrap());
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let path = folder().join(format!("templates/{name}.jinja"));
        let source = std::fs::read_to_string(path).unwrap();
        let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
        let chat = case["chat"].as_str().unwrap();
        let messages: Vec<Message> = serde_json::from_value(file["chats"][chat].clone()).unwrap();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let rendered = template.render_at(&messages, prompt, now);
        match (case["text"].as_str(), rendered) {
            (Some(text), Ok(rendered)) => assert_eq!(rendered, text, "{name}, {chat}"),
            (None, Err(error)) => {
                let message = case["error"].as_str().unwrap();
                // Errors of the template itself are passed on word for word.
                if !message.starts_with("list object") {
                    assert_eq!(error.to_string(), format!("chat template: {message}"));
                }
            }
            // minijinja finds nothing in an empty list where Jinja fails.
            (None, Ok(_)) => assert_eq!(chat, "none"),
            (Some(_), Err(error)) => panic!("{name}, {chat}: {error}"),
        }
    }
}

#[test]
fn the_starter_models_template_gives_whole_special_tokens() {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/pack");
    let weights = Weights::open(&pack.join("SmolLM2-135M-Instruct.Q4_1.gguf"))
        .expect("the starter pack is in starter/pack (./run --setup fetches it)");
    let tokenizer = Tokenizer::from_gguf(&weights).unwrap();
    let template = ChatTemplate::from_gguf(&weights, &tokenizer)
        .unwrap()
        .unwrap();
    let source = std::fs::read_to_string(folder().join("templates/smollm2.jinja")).unwrap();
    assert_eq!(template.source(), source);
    let prompt = template
        .render(&[Message::new("user", "Hi")], true)
        .unwrap();
    assert!(
        prompt.starts_with("<|im_start|>system\nYou are a helpful AI assistant"),
        "{prompt}"
    );
    let ids = tokenizer.encode_prompt(&prompt).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 3);
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 2);
    assert_eq!(ids, tokenizer.encode(&prompt, true, true).unwrap());
}

#[test]
fn templates_are_found_beside_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let bytes =
        std::fs::read(self::folder().join("../tokenizer/bytelevel_tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let find = || ChatTemplate::from_folder(folder.path(), &tokenizer);
    assert!(find().unwrap().is_none());
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(&config, r#"{"chat_template": "{{ bos_token }}A"}"#).unwrap();
    let template = find().unwrap().unwrap();
    let prompt = template.render(&[], false).unwrap();
    assert_eq!(prompt, "<|endoftext|>A");
    // BOS is there once, whether or not the template writes it.
    let ids = tokenizer.encode_prompt(&prompt).unwrap();
    assert_eq!(ids, tokenizer.encode_prompt("A").unwrap());
    assert_eq!(ids.iter().filter(|&&id| id == 0).count(), 1);
    let named = r#"{"chat_template": [{"name": "rag", "template": "B"}, {"name": "default", "template": "C"}]}"#;
    std::fs::write(&config, named).unwrap();
    assert_eq!(find().unwrap().unwrap().source(), "C");
    std::fs::write(&config, r#"{"chat_template": 3}"#).unwrap();
    assert!(find().is_err());
    std::fs::write(folder.path().join("chat_template.jinja"), "D").unwrap();
    assert_eq!(find().unwrap().unwrap().source(), "D");
}

#[test]
fn hostile_templates_end_within_a_second() {
    let out_of_fuel = "does not end";
    let cases = [
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
            out_of_fuel,
        ),
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            out_of_fuel,
        ),
        ("{% for a in range(10000000000) %}x{% endfor %}", ""),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", ""),
        (
            "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "",
        ),
        ("{{ 'x' * 100000000000 }}", out_of_fuel),
        ("{{ ('x' * 10000000) * 10000000 }}", out_of_fuel),
        ("{{ [0] * 1000000000 }}", "too large"),
        (
            "{% set ns = namespace(s='x') %}{% for i in range(200) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            out_of_fuel,
        ),
        (
            "{% set ns = namespace(s='x') %}{% for i in range(200) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ s.replace('x', s) }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ s.replace('', s) }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ s | replace('x', s) }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ ''.join([s] * 10000) }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ ([s] * 10000) | join }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ s.join([''] * 10000) }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ ([s] * 10000) | tojson }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{{ ([s] * 10000) | string }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 10000000 %}{{ s.split('x') | length }}",
            out_of_fuel,
        ),
        (
            "{% set s = ' ' * 10000000 %}{{ s.split() | length }}{{ s | list | length }}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{% for i in range(100000) %}{% set t = s.upper() %}{% endfor %}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{% for i in range(100000) %}{% set t = s | trim %}{% endfor %}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 1000000 %}{% for i in range(100000) %}{% set t = 'y' in s %}{% endfor %}",
            "",
        ),
        (
            "{% set s = 'x' * 1000000 %}{% for i in range(100000) %}{% set t = s.find('y') %}{% endfor %}",
            "",
        ),
        ("{{ '{:>1000000000000}'.format(1) }}", ""),
        ("{{ '{:.1000000000}'.format(1.5) }}", ""),
        ("{{ '%1000000000d' | format(1) }}", ""),
        (
            "{% set s = 'x' * 100000 %}{{ ('{0}' * 10000).format(s) }}",
            "",
        ),
        ("{{ messages | tojson(indent=1000000000000) }}", ""),
        ("{% set s = 'x' * 200000 %}{{ [s] * 100000 }}", out_of_fuel),
        (
            "{% set s = 'x' * 200000 %}{% set x %}{{ [s] * 100000 }}{% endset %}",
            out_of_fuel,
        ),
        (
            "{% set s = 'x' * 200000 %}{{ ([[s] * 100000] * 100) | join }}",
            out_of_fuel,
        ),
        ("{% include 'chat' %}", ""),
        ("{% include '/etc/passwd' %}", ""),
        ("{% extends 'chat' %}", ""),
        ("{% import 'x' as x %}", ""),
        ("{{ ''.__class__.__mro__ }}", ""),
        ("{{ cycler.__init__.__globals__ }}", ""),
        ("{{ raise_exception('no') }}", "no"),
        ("{% if %}", ""),
        ("{{ ", ""),
        ("{% generation %}", ""),
        ("{{ strftime_now('%Q') }}", "%Q"),
        ("{{ strftime_now('%') }}", "strftime"),
        ("{{ messages | nofilter }}", "nofilter"),
        ("{{ messages.nomethod() }}", ""),
        ("{{ 1 / 0 }}", ""),
        ("{{ 10 ** 10000 }}", ""),
    ];
    for (source, message) in cases {
        let start = Instant::now();
        let rendered = render(source);
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(1), "{source} took {taken:?}");
        if let Err(error) = &rendered {
            assert!(error.contains(message), "{source}: {error}");
            assert!(error.len() < 400, "{source}: {error}");
        } else {
            assert!(message.is_empty(), "{source} was rendered");
        }
    }
}

/// What fuel does not see: minijinja adds lists for nothing, and writes out a sum of more than 32 of them. Here each list
/// is four million long, a hundred times.
#[test]
fn a_template_that_runs_on_is_told_apart() {
    let doubled = "{% set ns = namespace(x=[0]) %}{% for i in range(22) %}{% set ns.x = ns.x + ns.x %}{% endfor %}\
        {% for i in range(100) %}{% set ns.y = ns.x %}{% for k in range(12) %}{% set ns.y = ns.y + [0] %}{% endfor %}\
        {% endfor %}";
    let template = ChatTemplate::new(doubled, "", "").unwrap();
    let start = Instant::now();
    let rendered = template.render(&[], true);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(
        matches!(&rendered, Err(Error::ChatTemplateRunsOn { .. })),
        "{rendered:?}"
    );
}

#[test]
fn deep_values_neither_overflow_the_stack_nor_take_long() {
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(30000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    let mapped = "{% set ns = namespace(x={}) %}{% for i in range(20000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}";
    for build in [nested, mapped] {
        for use_it in [
            "",
            "{{ ns.x }}",
            "{{ ns.x | tojson }}",
            "{{ ns.x == [ns.x] }}",
            "{{ ns.x | string | length }}",
            "{{ [ns.x, ns.x] | sort }}",
        ] {
            let start = Instant::now();
            let _ = render(&format!("{build}{use_it}"));
            let taken = start.elapsed();
            assert!(taken < Duration::from_secs(1), "{use_it} took {taken:?}");
        }
    }
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{'a':", "}"),
        ("-", ""),
        ("not ", ""),
    ] {
        let source = format!("{{{{ {}1{} }}}}", open.repeat(50_000), close.repeat(50_000));
        let start = Instant::now();
        let _ = render(&source);
        assert!(start.elapsed() < Duration::from_secs(1), "{open}");
    }
    let source = format!(
        "{}x{}",
        "{% if true %}".repeat(20_000),
        "{% endif %}".repeat(20_000)
    );
    assert!(render(&source).is_err());
    assert!(
        render(&"x".repeat(2 << 20))
            .unwrap_err()
            .contains("2097152 bytes")
    );
}

#[test]
fn long_conversations_are_not_mistaken_for_hostile_templates() {
    let source = std::fs::read_to_string(folder().join("templates/llama3.jinja")).unwrap();
    let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
    let many: Vec<Message> = (0..2000)
        .map(|i| Message::new("user", format!("message {i}")))
        .collect();
    assert!(
        template
            .render(&many, true)
            .unwrap()
            .contains("message 1999")
    );
    let large = [Message::new("user", "word ".repeat(1_000_000))];
    assert!(template.render(&large, true).unwrap().len() > 4_999_999);
}

#[test]
fn dates_are_right() {
    let at = |seconds: u64| {
        strftime(
            "%F %T %A %j %-d/%-m %I %p",
            UNIX_EPOCH + Duration::from_secs(seconds),
        )
        .unwrap()
    };
    assert_eq!(at(0), "1970-01-01 00:00:00 Thursday 001 1/1 12 AM");
    assert_eq!(at(951_782_399), "2000-02-28 23:59:59 Monday 059 28/2 11 PM");
    assert_eq!(
        at(951_782_400),
        "2000-02-29 00:00:00 Tuesday 060 29/2 12 AM"
    );
    assert_eq!(
        at(4_107_542_399),
        "2100-02-28 23:59:59 Sunday 059 28/2 11 PM"
    );
    assert_eq!(
        at(4_107_542_400),
        "2100-03-01 00:00:00 Monday 060 1/3 12 AM"
    );
    assert_eq!(
        at(1_735_689_599),
        "2024-12-31 23:59:59 Tuesday 366 31/12 11 PM"
    );
    let early = strftime("%Y", SystemTime::UNIX_EPOCH - Duration::from_secs(1)).unwrap();
    assert_eq!(early, "1970");
}
