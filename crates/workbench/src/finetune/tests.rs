//! Names, references and commands of fine-tunings.

use super::{command, name_of, slug};
use crate::api::{DatasetOptions, FinetuneRequest, TrainOptions};
use crate::facade::Workbench;

fn request() -> FinetuneRequest {
    FinetuneRequest {
        model: "starter".to_owned(),
        data: "/home/me/My notes (1).jsonl".to_owned(),
        dataset: DatasetOptions::default(),
        options: TrainOptions::default(),
        name: None,
        out: None,
        forgetting: false,
    }
}

#[test]
fn a_result_is_named_after_its_file_unless_the_person_names_it() {
    assert_eq!(name_of(&request()), "My notes (1)");
    let named = |name: &str| {
        name_of(&FinetuneRequest {
            name: Some(name.to_owned()),
            ..request()
        })
    };
    assert_eq!(named(" Facts\u{202e} "), "Facts");
    assert_eq!(named("  "), "My notes (1)");
    assert_eq!(named(&"x".repeat(100)).len(), 40);
    assert_eq!(slug("My notes (1)"), "my-notes-1");
    assert_eq!(slug("世界"), "tuned");
}

#[test]
fn the_command_says_all_that_differs() {
    let plain = command(&request());
    assert!(
        plain.starts_with(
            "billion finetune --model starter --data '/home/me/My notes (1).jsonl' --out adapter --epochs "
        ),
        "{plain}"
    );
    assert!(
        !plain.contains("dropout") && !plain.contains("report"),
        "{plain}"
    );
    let mut other = request();
    other.options.dropout = 0.05;
    other.options.targets = vec!["q_proj".to_owned(), "o_proj".to_owned()];
    other.options.rslora = true;
    other.dataset.skip_problems = true;
    other.forgetting = true;
    other.dataset.layout = Some(crate::api::RowLayout::QuestionAnswer);
    other.dataset.mapping = Some(crate::api::ColumnMapping {
        prompt: Some("die Frage".to_owned()),
        ..crate::api::ColumnMapping::default()
    });
    let said = command(&other);
    for part in [
        "--dropout 0.05",
        "--targets q_proj,o_proj",
        "--rslora",
        "--layout question-answer --map 'prompt=die Frage'",
        "--skip-bad-rows",
        "--report",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn small_datasets_are_seen_more_often() {
    let epochs = |rows| Workbench::finetune_defaults(rows).options.epochs;
    let least = TrainOptions::default().epochs;
    assert_eq!(epochs(None), least);
    assert_eq!(epochs(Some(1_000_000)), least);
    assert_eq!(epochs(Some(90)), 10);
    assert!(epochs(Some(150)) > epochs(Some(280)));
    assert_eq!(epochs(Some(0)), epochs(Some(1)));
}
