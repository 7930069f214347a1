//! Which models get whose scores, and when a badge says what.

use billion_hub::Known;
use serde_json::json;

use super::*;

fn described<'a>(id: &'a str, name: &'a str, params: u64) -> Described<'a> {
    Described {
        id,
        name,
        params,
        settings: None,
    }
}

fn mmlu(value: f64, half: f64, shots: u32, total: u32) -> Measured<'static> {
    Measured {
        task: "mmlu",
        value,
        ci95: [value - half, value + half],
        shots,
        total,
        subjects: 57,
        quant: "Q4_0",
    }
}

#[test]
fn only_a_certain_model_gets_scores() {
    for (id, name, params, want) in [
        ("llama-3.2-1b", "x", 0, Some("llama-3.2-1b")),
        ("llama-3.2-1b:q4_0", "x", 0, Some("llama-3.2-1b")),
        ("pythia-1b@step1000", "Pythia 1B", 1_011_781_632, None),
        ("pythia-1b@step143000:q8_0", "x", 0, Some("pythia-1b")),
        (
            "hf:meta-llama/Llama-3.2-1B-Instruct",
            "x",
            0,
            Some("llama-3.2-1b-instruct"),
        ),
        (
            "hf:meta-llama/Llama-3.2-1B@main/x.gguf",
            "x",
            0,
            Some("llama-3.2-1b"),
        ),
        ("hf:EleutherAI/pythia-1b@step0", "x", 0, None),
        ("hf:someone/Llama-3.2-1B", "Llama 3.2 1B", 1, None),
        // An imported file is taken at its word only with the exact number of parameters.
        (
            "llama-q4",
            "Llama 3.2 1B Instruct",
            1_235_814_400,
            Some("llama-3.2-1b-instruct"),
        ),
        ("llama-q4", "Llama 3.2 1B Instruct", 1_235_814_401, None),
        (
            "mine",
            "Llama 3.2 1B Instruct My Finetune",
            1_235_814_400,
            None,
        ),
        ("mine", "TinyLlama 1.1B Chat v0.3", 1_100_048_384, None),
        (
            "/models/tinyllama-1.1b.gguf",
            "something",
            1_100_048_384,
            None,
        ),
        ("starter", "SmolLM2 135M Instruct", 134_515_008, None),
    ] {
        assert_eq!(identify(described(id, name, params)), want, "{id} {name}");
    }
    let adapter = json!({ "adapter": "folder" });
    let adapted = Described {
        settings: Some(&adapter),
        ..described("llama-3.2-1b", "x", 0)
    };
    assert_eq!(identify(adapted), None, "an adapter makes another model");
}

#[test]
fn every_score_is_of_a_known_model_and_claims_stand_apart() {
    for reference in &REFERENCES {
        let id = reference.model;
        assert!(
            Known::find(id).is_some_and(|known| known.id == id) || id == "tinyllama-1.1b-2.5t",
            "{id}"
        );
        assert!((0.0..1.0).contains(&reference.value));
        let published = reference.kind == ReferenceKind::Published;
        assert_eq!(published, reference.shots.is_some());
        assert_eq!(published, reference.tolerance > 0.0);
    }
    let of_pythia = references(described("pythia-1b", "", 0));
    let claims: Vec<f64> = of_pythia
        .iter()
        .filter(|score| score.kind == ReferenceKind::Claimed)
        .map(|score| score.value)
        .collect();
    assert_eq!(claims, [0.264, 0.103]);
    assert!(
        of_pythia
            .iter()
            .any(|score| score.value == 0.259 && score.shots == Some(0))
    );
}

#[test]
fn a_badge_needs_the_same_shots_and_enough_questions() {
    let llama = described("llama-3.2-1b", "", 0);
    let got = |measured| badge(llama, measured).expect("something is published");
    let good = got(mmlu(0.300, 0.007, 5, 14_042));
    assert_eq!(good.matches, Some(true));
    assert_eq!(
        good.words,
        "matches published 31.07 % (5-shot, lm-evaluation-harness issue 2528): measured 30.0 % with Q4_0 weights, 1.1 points lower, within ±1.7 points (1.0 for harness and number formats, 0.7 for chance)"
    );
    let low = got(mmlu(0.270, 0.007, 5, 14_042));
    assert_eq!(low.matches, Some(false));
    assert!(
        low.words.starts_with("differs from published 31.07 %"),
        "{}",
        low.words
    );
    let zero = got(mmlu(0.31, 0.007, 0, 14_042));
    assert_eq!(zero.matches, None);
    assert!(zero.words.ends_with("this run is 0-shot"), "{}", zero.words);
    let quick = got(mmlu(0.31, 0.09, 5, 100));
    assert_eq!(quick.matches, None);
    assert!(
        quick
            .words
            .contains("100 questions of 57 subjects are too few"),
        "{}",
        quick.words
    );
    let one_subject = got(Measured {
        subjects: 1,
        ..mmlu(0.31, 0.02, 5, 1_534)
    });
    assert_eq!(one_subject.matches, None);
    // The same number of shots decides which figure is compared.
    let pythia = badge(described("pythia-1b", "", 0), mmlu(0.25, 0.007, 0, 14_042)).unwrap();
    assert!(pythia.words.contains("25.9 % (0-shot"), "{}", pythia.words);
    // Another protocol or another checkpoint is never a match, however near.
    for id in ["llama-3.2-1b-instruct", "tinyllama-1.1b"] {
        let near = if id == "tinyllama-1.1b" {
            0.2592
        } else {
            0.493
        };
        let apart = badge(described(id, "", 0), mmlu(near, 0.007, 5, 14_042)).unwrap();
        assert_eq!(apart.matches, None, "{}", apart.words);
    }
    // Claims give no badge.
    assert_eq!(
        badge(
            described("stablelm-2-1.6b", "", 0),
            mmlu(0.308, 0.007, 5, 14_042)
        ),
        None
    );
    assert_eq!(
        badge(described("starter", "", 0), mmlu(0.3, 0.007, 5, 14_042)),
        None
    );
    let code = Measured {
        task: "humaneval",
        subjects: 0,
        ..mmlu(0.02, 0.03, 0, 20)
    };
    let few = badge(described("pythia-1b", "", 0), code).unwrap();
    assert!(few.matches.is_none() && few.words.contains("20 problems are too few"));
    let all = badge(
        described("pythia-1b", "", 0),
        Measured { total: 164, ..code },
    )
    .unwrap();
    assert_eq!(all.matches, Some(true), "{}", all.words);
}
