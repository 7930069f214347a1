//! Greedy completions of the starter model are the same one by one and with any number of slots, on HumanEval problems;
//! `BILLION_FULL=1` takes more of them and longer ones.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use billion_eval::UnderTest;
use billion_eval::clock::SystemClock;
use billion_eval::tasks::humaneval::{
    Completion, Form, HumanEvalOptions, prompt, read_problems, run, stop_strings,
};
use billion_llm::decoder::TextCodec as _;
use billion_llm::load::{LoadOptions, Loaded, ModelFiles, load};

fn pack(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../starter/pack")
        .join(file)
}

fn starter() -> Loaded {
    let files = ModelFiles::open(&pack("SmolLM2-135M-Instruct.Q4_1.gguf")).expect("opened");
    load(&files, &LoadOptions::default()).expect("loaded")
}

fn complete(loaded: &mut Loaded, options: &HumanEvalOptions) -> Vec<Completion> {
    let problems = read_problems(&pack("humaneval/HumanEval.jsonl.gz")).expect("the starter pack");
    let mut model = UnderTest {
        decoder: loaded.decoder.as_mut(),
        codec: loaded.tokenizer.as_ref(),
        clock: &SystemClock::default(),
    };
    let template = loaded.chat_template.as_ref();
    run(&mut model, template, &problems, options, &[], &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("completed")
    .completions
}

#[test]
fn the_number_of_slots_does_not_change_a_completion() {
    let full = std::env::var_os("BILLION_FULL").is_some();
    let (problems, max_tokens) = if full { (82, 256) } else { (8, 16) };
    let mut loaded = starter();
    for form in [Form::Base, Form::Instruct] {
        let options = HumanEvalOptions {
            limit: Some(problems),
            max_tokens,
            form,
            slots: 1,
            ..HumanEvalOptions::default()
        };
        let alone = complete(&mut loaded, &options);
        assert_eq!(alone.len(), problems);
        // Asked in the instruct form, the starter model mostly closes the code at once.
        let written: usize = alone.iter().map(|c| c.completion.len()).sum();
        assert!(
            form == Form::Instruct || written > 10 * problems,
            "{alone:?}"
        );
        for slots in [2, 3, 8, 16] {
            let many = complete(
                &mut loaded,
                &HumanEvalOptions {
                    slots,
                    ..options.clone()
                },
            );
            assert_eq!(many, alone, "{slots} slots, {form:?}");
        }
    }
}

/// The harness's own templates, rendered by jinja and transformers (`humaneval_reference/prompts.py`).
#[test]
fn prompts_are_the_harness_tokens() {
    #[derive(serde::Deserialize)]
    struct Prompts {
        stop: Vec<String>,
        prompts: Vec<Prompt>,
    }
    #[derive(serde::Deserialize)]
    struct Prompt {
        task_id: String,
        form: Form,
        tokens: Vec<u32>,
        tail: String,
    }
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/humaneval_reference/prompts.json");
    let golden: Prompts = serde_json::from_slice(&std::fs::read(golden).expect("the golden file"))
        .expect("as prompts.py writes it");
    let loaded = starter();
    let problems = read_problems(&pack("humaneval/HumanEval.jsonl.gz")).expect("the starter pack");
    assert_eq!(stop_strings(Form::Base), golden.stop);
    for expected in &golden.prompts {
        let problem = problems.iter().find(|p| p.task_id == expected.task_id);
        let tokens = prompt(
            loaded.tokenizer.as_ref(),
            loaded.chat_template.as_ref(),
            expected.form,
            problem.expect("a problem of HumanEval"),
        )
        .expect("encoded");
        assert!(loaded.tokenizer.decode(&tokens).ends_with(&expected.tail));
        assert_eq!(
            tokens, expected.tokens,
            "{} {:?}",
            expected.task_id, expected.form
        );
    }
}
