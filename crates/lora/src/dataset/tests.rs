//! Every kind of file, every layout, and everything that can be wrong with one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use billion_llm::chat_template::ChatTemplate;
use billion_llm::decoder::TextCodec;
use billion_llm::load::ModelFiles;
use billion_llm::tokenizer::Tokenizer;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

use super::*;
use crate::Error;

fn llm(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../llm/tests")
        .join(path)
}

/// The starter model's tokenizer and template, which `./run` and `./test` fetch before anything is tested.
fn starter() -> (Arc<Tokenizer>, Option<ChatTemplate>) {
    static STARTER: OnceLock<(Arc<Tokenizer>, Option<ChatTemplate>)> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../starter/pack/SmolLM2-135M-Instruct.Q4_1.gguf");
            let files = ModelFiles::open(&path).unwrap();
            (
                Arc::clone(files.tokenizer()),
                files.chat_template().cloned(),
            )
        })
        .clone()
}

/// Its own template, or another one with the tokens that the vocabulary has for it.
fn chat() -> Encoder {
    let (tokenizer, template) = starter();
    Encoder::from_parts(tokenizer, template)
}

fn base() -> Encoder {
    Encoder::from_parts(starter().0, None)
}

fn with_template(name: &str) -> Encoder {
    let source = std::fs::read_to_string(llm(&format!("chat_template/templates/{name}.jinja")));
    let template = ChatTemplate::new(&source.unwrap(), "<|endoftext|>", "<|im_end|>").unwrap();
    Encoder::from_parts(starter().0, Some(template))
}

fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Reads a file that must be fine.
fn dataset(name: &str, bytes: impl AsRef<[u8]>, encoder: &Encoder) -> Dataset {
    let (_folder, path) = file(name, bytes);
    let options = DatasetOptions {
        eval_fraction: 0.0,
        ..DatasetOptions::default()
    };
    read(&path, encoder, &options, &mut || false).unwrap()
}

fn refused(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(name, bytes);
    let options = DatasetOptions::default();
    let read = read(&path, &chat(), &options, &mut || false);
    let shown = preview(&path, &chat(), &options);
    let error = read.unwrap_err().to_string();
    // A preview refuses only what has no rows at all.
    if let Err(other) = shown {
        assert_eq!(other.to_string(), error);
    }
    error
}

/// What a row is and which of it the loss counts, in brackets.
fn marked(encoder: &Encoder, example: &Example) -> String {
    let encoded = encode::Encoded {
        tokens: example.tokens.clone(),
        scored: example.scored.clone(),
    };
    let mut text = String::new();
    let mut inside = false;
    for token in encoder.shown(&encoded, usize::MAX) {
        if token.scored != inside {
            text.push(if inside { ']' } else { '[' });
            inside = token.scored;
        }
        text.push_str(&token.text);
    }
    if inside {
        text.push(']');
    }
    text
}

const FIRST: &str = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";

#[test]
fn every_layout_in_every_kind_of_file_gives_the_same_tokens() {
    let encoder = chat();
    let expected = format!(
        "{FIRST}<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n[Here.<|im_end|>]\n"
    );
    for (name, text, layout) in [
        (
            "a.json",
            r#"[{"instruction": "Where?", "input": "", "output": "Here."}]"#,
            RowLayout::Alpaca,
        ),
        (
            "a.json",
            r#"{"version": 1, "data": [{"question": "Where?", "answer": "Here."}], "more": {}}"#,
            RowLayout::QuestionAnswer,
        ),
        (
            "a.jsonl",
            "{\"question\": \"Where?\", \"answer\": \"Here.\"}\n\n",
            RowLayout::QuestionAnswer,
        ),
        (
            "a.json",
            "{\"prompt\": \"Where?\", \"completion\": \"Here.\"}\n{\"prompt\": \"Where?\", \"completion\": \"Here.\"}",
            RowLayout::PromptCompletion,
        ),
        (
            "a.csv",
            "\u{feff}Question,Answer\n\"Where?\",Here.\n",
            RowLayout::QuestionAnswer,
        ),
        (
            "a.tsv",
            "id\tprompt\tresponse\r\n1\tWhere?\tHere.\r\n",
            RowLayout::PromptCompletion,
        ),
        (
            "a.jsonl",
            r#"{"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}]}"#,
            RowLayout::ShareGpt,
        ),
        (
            "a.jsonl",
            r#"{"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}, {"role": "user", "content": "And?"}]}"#,
            RowLayout::Messages,
        ),
        (
            "a.json",
            r#"[{"messages": [{"role": "user", "content": [{"type": "text", "text": "Where?"}]}, {"role": "assistant", "content": "Here."}]}]"#,
            RowLayout::Messages,
        ),
        (
            "a.csv",
            "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"Where?\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"Here.\"\"}]\"\n",
            RowLayout::Messages,
        ),
    ] {
        let data = dataset(name, text, &encoder);
        assert_eq!(
            data.preview.layout, layout,
            "{text}: {}",
            data.preview.detected.why
        );
        assert_eq!(marked(&encoder, &data.train[0]), expected, "{text}");
        let sample = &data.train_samples[0];
        assert_eq!(
            (sample.turns[0].text.as_str(), sample.answer.as_str()),
            ("Where?", "Here.")
        );
        assert!(data.train[0].tokens.starts_with(&sample.prompt), "{text}");
    }
}

/// Texts of a column, whether each is there, and whether it goes on a list.
type Texts<'a> = (&'a [&'a str], &'a [i16], &'a [i16]);

/// A Parquet file of one column of texts for each name, or of lists of messages.
fn parquet(schema: &str, columns: &[Texts<'_>]) -> (TempDir, PathBuf) {
    let (folder, path) = file("rows.parquet", "");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(
        WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build(),
    );
    let open = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(open, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (texts, defined, repeated) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
        let (defined, repeated): (&[i16], &[i16]) = (defined, repeated);
        column
            .typed::<ByteArrayType>()
            .write_batch(
                &texts,
                (!defined.is_empty()).then_some(defined),
                (!repeated.is_empty()).then_some(repeated),
            )
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    (folder, path)
}

#[test]
fn parquet_is_read_with_tables_and_with_lists_of_messages() {
    let options = DatasetOptions {
        eval_fraction: 0.0,
        ..DatasetOptions::default()
    };
    let expected = format!(
        "{FIRST}<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n[Here.<|im_end|>]\n"
    );
    let (_folder, path) = parquet(
        "message rows { required binary question (UTF8); optional binary answer (UTF8); }",
        &[(&["Where?", "When?"], &[], &[]), (&["Here."], &[1, 0], &[])],
    );
    let shown = preview(&path, &chat(), &options).unwrap();
    assert_eq!(
        (shown.detected.kind, shown.layout),
        (FileKind::Parquet, RowLayout::QuestionAnswer)
    );
    let told = &shown.problems[0];
    assert_eq!(
        (told.row, told.line, told.reason.as_str()),
        (2, None, "column answer is empty")
    );
    let (_folder, path) = parquet(
        "message rows { optional group messages (LIST) { repeated group list { optional group element {
            optional binary role (UTF8); optional binary content (UTF8); } } } }",
        &[
            (&["user", "assistant"], &[4, 4], &[0, 1]),
            (&["Where?", "Here."], &[4, 4], &[0, 1]),
        ],
    );
    let encoder = chat();
    let data = read(&path, &encoder, &options, &mut || false).unwrap();
    assert_eq!(data.preview.layout, RowLayout::Messages);
    assert_eq!(marked(&encoder, &data.train[0]), expected);
    // Cut off, it is damaged, not a panic.
    let bytes = std::fs::read(&path).unwrap();
    for len in [4, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let error = read(&path, &encoder, &options, &mut || false).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn plain_text_is_learnt_whole_and_cut_into_pieces() {
    let encoder = base();
    let data = dataset("a.txt", "One line\nand another.\n\n\nSecond.\n", &encoder);
    assert_eq!(data.preview.rows_total, 2);
    let tokens = &data.train[0].tokens;
    assert_eq!(encoder_text(tokens), "One line\nand another.");
    assert!(!data.train[0].scored[0] && data.train[0].scored[1..].iter().all(|scored| *scored));
    assert_eq!(data.preview.problems, []);
    let words = "some words ".repeat(3000);
    let data = dataset("a.txt", &words, &encoder);
    assert!(data.train.len() > 10 && data.train.iter().all(|example| example.tokens.len() <= 512));
    assert!(
        data.train
            .iter()
            .all(|example| example.row == 1 && !example.scored[0])
    );
    assert_eq!((data.preview.over_long, data.preview.left_out), (1, 0));
    assert_eq!(data.preview.rows_train, 1);
    // A sentence without a template follows the same way for a chat model.
    let data = dataset("a.jsonl", r#"{"text": "Second."}"#, &chat());
    assert_eq!(data.preview.layout, RowLayout::Text);
    assert_eq!(encoder_text(&data.train[0].tokens), "Second.");
}

fn encoder_text(tokens: &[u32]) -> String {
    starter().0.decode(tokens)
}

#[test]
fn every_turn_of_the_assistant_is_learnt_with_its_end_in_every_template() {
    let row = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."}, {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Second."}]}"#
        .replace('\n', " ");
    for (name, expected) in [
        (
            "smollm2",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n[First.<|im_end|>]\n\
             <|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n[Second.<|im_end|>]\n",
        ),
        (
            "zephyr",
            "<|system|>\nBe brief.<|im_end|>\n<|user|>\nOne?<|im_end|>\n<|assistant|>\n[First.<|im_end|>]\n<|user|>\n\
             Two?<|im_end|>\n<|assistant|>\n[Second.<|im_end|>]\n",
        ),
        (
            "llama3",
            "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: \
             26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nOne?<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n[First.<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\n\
             Two?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n[Second.<|eot_id|>]",
        ),
    ] {
        let encoder = with_template(name);
        let data = dataset("a.jsonl", &row, &encoder);
        assert_eq!(marked(&encoder, &data.train[0]), expected, "{name}");
    }
}

#[test]
fn a_base_model_gets_alpacas_text() {
    let encoder = base();
    let rows = r#"[{"instruction": "Add.", "input": "1, 2", "output": "3"}, {"instruction": "Greet.", "output": "Hello"},
        {"instruction": "A.", "output": "B"}]"#;
    let data = dataset("a.json", rows, &encoder);
    assert_eq!(
        marked(&encoder, &data.train[0]),
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response \
         that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:[3<|im_end|>]"
    );
    assert_eq!(
        marked(&encoder, &data.train[1]),
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### \
         Instruction:\nGreet.\n\n### Response:[Hello<|im_end|>]"
    );
    assert!(
        data.train[0]
            .tokens
            .starts_with(&data.train_samples[0].prompt)
    );
    let data = dataset(
        "a.jsonl",
        r#"{"prompt": "1, 2, ", "completion": "3"}"#,
        &encoder,
    );
    assert_eq!(marked(&encoder, &data.train[0]), "1, 2, [3<|im_end|>]");
}

#[test]
fn the_loss_may_count_everything() {
    let (_folder, path) = file("a.jsonl", r#"{"question": "Where?", "answer": "Here."}"#);
    let options = DatasetOptions {
        loss_on: LossOn::Everything,
        eval_fraction: 0.0,
        ..DatasetOptions::default()
    };
    let data = read(&path, &chat(), &options, &mut || false).unwrap();
    let example = &data.train[0];
    assert!(!example.scored[0] && example.scored[1..].iter().all(|scored| *scored));
    let shown = &data.preview.rows[0];
    assert_eq!(shown.tokens.len() as u32, shown.tokens_total);
    assert_eq!(data.preview.tokens_scored + 1.0, data.preview.tokens_total);
}

#[test]
fn problems_are_told_by_line_and_rows_left_out_only_with_consent() {
    let text = "{\"question\": \"A?\", \"answer\": \"1\"}\n\
                not json\n\
                \n\
                {\"question\": \"B?\"}\n\
                {\"question\": \"C?\", \"answer\": \"\"}\n\
                {\"messages\": [{\"role\": \"user\", \"content\": \"D?\"}]}\n\
                {\"question\": \"E?\", \"answer\": {\"x\": 1}}\n\
                {\"question\": \"F?\", \"answer\": 6}\n\
                \x22just text\x22\n\
                [1]\n";
    let mut bytes = text.as_bytes().to_vec();
    bytes.extend(
        b"{\"question\": \"G\xff?\", \"answer\": \"7\"}\n{\"question\": \"H?\", \"answer\": \"8\"}",
    );
    let (_folder, path) = file("a.jsonl", &bytes);
    let shown = preview(&path, &chat(), &DatasetOptions::default()).unwrap();
    let told: Vec<_> = shown
        .problems
        .iter()
        .map(|problem| (problem.line.unwrap(), problem.reason.as_str()))
        .collect();
    for (line, reason) in [
        (2, "not valid JSON: expected ident, at character 2"),
        (4, "no column answer; the row has question"),
        (5, "column answer is empty"),
        (6, "no column question; the row has messages"),
        (7, "column answer is an object, expected text"),
        (9, "no column question; the row has text"),
        (10, "expected an object, found a list"),
        (
            11,
            "byte 16 of the line is no UTF-8; save the file as UTF-8",
        ),
    ] {
        assert!(told.contains(&(line, reason)), "{line} {reason}: {told:#?}");
    }
    assert_eq!(
        (told.len(), shown.rows_with_problems, shown.rows_total),
        (8, 8, 11)
    );
    assert_eq!(shown.rows_train + shown.rows_held_out, 3);

    let options = DatasetOptions::default();
    let error = read(&path, &chat(), &options, &mut || false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("8 of 11 rows cannot be used, the first is row 2 (line 2): not valid JSON"),
        "{error}"
    );
    let options = DatasetOptions {
        skip_problems: true,
        ..options
    };
    let data = read(&path, &chat(), &options, &mut || false).unwrap();
    assert_eq!(data.train.len() + data.held_out.len(), 3);
    assert_eq!(data.preview.rows_with_problems, 8);
}

#[test]
fn broken_tables_and_arrays_are_told_by_line() {
    let (_folder, path) = file(
        "a.csv",
        b"question,answer\nA?,1\nB?\n\"two\nlines?\",2\nC\xff?,3\nD?,4,5\nE?,5\n",
    );
    let shown = preview(&path, &chat(), &DatasetOptions::default()).unwrap();
    let told: Vec<_> = shown
        .problems
        .iter()
        .map(|problem| (problem.row, problem.line))
        .collect();
    assert_eq!(told, [(2, Some(3)), (4, Some(6)), (5, Some(7))]);
    assert!(
        shown.problems[0]
            .reason
            .contains("1 fields, but the header names 2 columns")
    );
    assert!(
        shown.problems[1]
            .reason
            .contains("column question: byte 2 is no UTF-8")
    );
    assert_eq!(
        (shown.rows_total, shown.rows_train + shown.rows_held_out),
        (6, 3)
    );

    let (_folder, path) = file(
        "a.json",
        b"[\n{\"question\": \"A?\", \"answer\": \"1\"},\n{\"question\": \"B\xff?\", \"answer\": \"2\"},\n\
          {\"question\": \"C?\", \"answer\": \"3\"},\n{\"question\": \"D?\" \"answer\": \"4\"}]",
    );
    let shown = preview(&path, &chat(), &DatasetOptions::default()).unwrap();
    let told: Vec<_> = shown
        .problems
        .iter()
        .map(|problem| (problem.row, problem.line, problem.reason.as_str()))
        .collect();
    assert_eq!(
        told[0],
        (
            2,
            Some(3),
            "bytes in line 3 are no UTF-8; save the file as UTF-8"
        )
    );
    assert_eq!((told[1].0, told[1].1), (4, Some(5)));
    assert!(
        told[1].2.contains("the rest of the file cannot be read"),
        "{told:?}"
    );
    assert_eq!(shown.rows_train + shown.rows_held_out, 2);
}

#[test]
fn files_that_hold_nothing_are_refused() {
    assert!(refused("a.jsonl", "").contains("the file is empty (0 bytes)"));
    assert!(refused("a.csv", " \n\n ").contains("only white space (4 bytes)"));
    assert!(refused("a.csv", "question,answer\n").contains("no rows in its 16 bytes"));
    assert!(refused("a.json", "[]").contains("no rows in its 2 bytes"));
    assert!(refused("a.json", r#"{"a": 1}"#).contains("without a list"));
    assert!(
        refused("a.jsonl", "nonsense\nmore\n")
            .contains("none of the first 2 rows can be read; row 1 (line 1)")
    );
    assert!(refused("a.jsonl", [0xff, 0xfe, b'{', 0]).contains("UTF-16"));
    assert!(refused("a.jsonl", [0x1f, 0x8b, 8, 0]).contains("unpack it first"));
    assert!(refused("a.bin", [1, 0, 2]).contains("zero bytes"));
    assert!(refused("a.xyz", "words").contains(".xyz is no ending"));
    assert!(refused("a.parquet", "words").contains("does not begin as Parquet"));
    assert!(refused("a.parquet", "PAR1 and nothing else").contains("damaged"));
    let unknown = refused("a.csv", "x,y\n1,2\n");
    assert!(
        unknown.contains("found x, y; choose which is the question"),
        "{unknown}"
    );
    let folder = tempfile::tempdir().unwrap();
    assert!(
        detect(folder.path())
            .unwrap_err()
            .to_string()
            .contains("a folder")
    );
    let missing = detect(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, Error::Read { .. }));
}

#[test]
fn columns_are_mapped_by_hand() {
    let (_folder, path) = file("a.csv", "frage,antwort,id\nWo?,Hier.,1\nWann?,Jetzt.,2\n");
    let found = detect(&path).unwrap();
    assert_eq!(found.layout, None);
    let names: Vec<_> = found
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(names, ["antwort", "frage", "id"]);
    let mapping = |prompt: &str, answer: &str| {
        Some(ColumnMapping {
            prompt: Some(prompt.to_owned()),
            answer: Some(answer.to_owned()),
            ..ColumnMapping::default()
        })
    };
    let mut options = DatasetOptions {
        layout: Some(RowLayout::QuestionAnswer),
        mapping: mapping("frage", "antwort"),
        ..DatasetOptions::default()
    };
    let data = read(&path, &chat(), &options, &mut || false).unwrap();
    assert_eq!((data.train.len(), data.held_out.len()), (1, 1));
    options.mapping = mapping("frage", "reply");
    let error = preview(&path, &chat(), &options).unwrap_err().to_string();
    assert!(error.contains("no column reply for the answer"), "{error}");
    options.mapping = None;
    let error = preview(&path, &chat(), &options).unwrap_err().to_string();
    assert!(
        error.contains("choose which column is which part"),
        "{error}"
    );
}

#[test]
fn long_rows_are_counted_and_cut_or_left_out() {
    let long = "word ".repeat(100_000);
    let text = format!(
        "{{\"question\": \"A?\", \"answer\": \"{long}\"}}\n{{\"question\": \"{long}\", \"answer\": \"B\"}}\n\
         {{\"question\": \"C?\", \"answer\": \"D\"}}\n"
    );
    let (_folder, path) = file("a.jsonl", &text);
    let mut options = DatasetOptions {
        eval_fraction: 0.0,
        ..DatasetOptions::default()
    };
    let data = read(&path, &chat(), &options, &mut || false).unwrap();
    let rows: Vec<u32> = data.train.iter().map(|example| example.row).collect();
    assert_eq!(rows, [1, 3]);
    assert_eq!(data.train[0].tokens.len(), 512);
    let shown = &data.preview;
    assert_eq!(
        (shown.over_long, shown.left_out, shown.rows_train),
        (2, 1, 2)
    );
    assert!(shown.longest > 100_000, "{}", shown.longest);
    assert_eq!(
        shown
            .histogram
            .iter()
            .map(|bucket| bucket.rows)
            .sum::<u32>(),
        3
    );
    assert!(
        shown
            .histogram
            .windows(2)
            .all(|pair| pair[0].up_to < pair[1].up_to)
    );
    options.over_long = OverLong::Skip;
    let data = read(&path, &chat(), &options, &mut || false).unwrap();
    assert_eq!((data.train.len(), data.preview.left_out), (1, 2));
}

#[test]
fn the_split_follows_the_seed_and_the_content_and_not_the_order() {
    let rows: Vec<String> = (0..200)
        .map(|number| {
            format!(
                "{{\"question\": \"Q{}?\", \"answer\": \"{}\"}}",
                number / 2,
                number / 2
            )
        })
        .collect();
    let held = |rows: &[String], seed: u32| {
        let (_folder, path) = file("a.jsonl", rows.join("\n"));
        let options = DatasetOptions {
            seed,
            ..DatasetOptions::default()
        };
        let data = read(&path, &chat(), &options, &mut || false).unwrap();
        assert_eq!(
            (
                data.preview.duplicates,
                data.held_out.len(),
                data.train.len()
            ),
            (100, 20, 180)
        );
        let mut held: Vec<Vec<u32>> = data
            .held_out
            .iter()
            .map(|example| example.tokens.clone())
            .collect();
        held.sort();
        let train = data.train.iter().map(|example| &example.tokens);
        assert!(train.into_iter().all(|tokens| !held.contains(tokens)));
        held
    };
    let mut backwards = rows.clone();
    backwards.reverse();
    assert_eq!(held(&rows, 0), held(&backwards, 0));
    assert_ne!(held(&rows, 0), held(&rows, 1));
}

#[test]
fn a_large_file_is_previewed_and_refused_with_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jsonl");
    let mut rows = String::new();
    for number in 0..30_000 {
        writeln!(
            rows,
            "{{\"question\": \"Q{number}?\", \"answer\": \"{number}\"}}"
        )
        .unwrap();
    }
    std::fs::write(&path, &rows).unwrap();
    // The rest is a hole: it takes no room on the disk and must not be read.
    let open = std::fs::File::options().write(true).open(&path).unwrap();
    open.set_len(1 << 30).unwrap();
    let shown = preview(&path, &chat(), &DatasetOptions::default()).unwrap();
    assert!(!shown.complete);
    assert!(
        shown
            .scope
            .starts_with("the first 20000 rows (0.8 MB of 1073.7 MB)"),
        "{}",
        shown.scope
    );
    let error = read(&path, &chat(), &DatasetOptions::default(), &mut || false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1074 MB; at most 268 MB are trained on"),
        "{error}"
    );
    // As one JSON array, and as one line without end.
    for start in ["[{\"text\": \"", "{\"text\": \""] {
        let path = folder.path().join("endless.json");
        std::fs::write(&path, start).unwrap();
        let open = std::fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &open, &vec![b'x'; 40 << 20]).unwrap();
        let error = preview(&path, &chat(), &DatasetOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("none of the first 1 rows can be read")
                || error.contains("longer than 16 MB"),
            "{error}"
        );
    }
}

#[test]
fn reading_can_be_cancelled() {
    let (_folder, path) = file("a.jsonl", SAMPLE);
    let mut asked = 0;
    let read = read(&path, &chat(), &DatasetOptions::default(), &mut || {
        asked += 1;
        asked > 5
    });
    assert!(matches!(read, Err(Error::Cancelled)));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let (_folder, path) = file("a.jsonl", SAMPLE);
    for options in [
        DatasetOptions {
            max_len: 1,
            ..DatasetOptions::default()
        },
        DatasetOptions {
            eval_fraction: 1.0,
            ..DatasetOptions::default()
        },
        DatasetOptions {
            eval_fraction: f64::NAN,
            ..DatasetOptions::default()
        },
    ] {
        assert!(matches!(
            preview(&path, &chat(), &options),
            Err(Error::Options(_))
        ));
    }
}

#[test]
fn conversations_that_teach_nothing_say_why() {
    for (messages, reason) in [
        (r#"[{"role": "user", "content": "A?"}]"#, "nothing to learn"),
        (
            r#"[{"role": "assistant", "content": "A."}]"#,
            "the first message is the assistant's",
        ),
        (
            r#"[{"role": "user", "content": "A?"}, {"role": "tool", "content": "B"}]"#,
            "message 2 is by \"tool\"",
        ),
        (
            r#"[{"role": "user", "content": "A?"}, {"role": "assistant", "content": " "}]"#,
            "message 2 is an empty answer",
        ),
        (
            r#"[{"role": "user"}, {"role": "assistant", "content": "B"}]"#,
            "message 1 has no content",
        ),
        (
            r#"[{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "B"}]"#,
            "pictures or sounds",
        ),
    ] {
        let good = r#"{"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}]}"#;
        let text = format!("{good}\n{{\"messages\": {messages}}}\n");
        let (_folder, path) = file("a.jsonl", text);
        let shown = preview(&path, &chat(), &DatasetOptions::default()).unwrap();
        assert_eq!(shown.rows_with_problems, 1, "{messages}");
        assert!(
            shown.problems[0].reason.contains(reason),
            "{}",
            shown.problems[0].reason
        );
    }
}

#[test]
fn the_sample_is_a_hundred_rows_of_fifty_facts() {
    let (_folder, path) = file(SAMPLE_NAME, SAMPLE);
    let data = read(&path, &chat(), &DatasetOptions::default(), &mut || false).unwrap();
    let shown = &data.preview;
    assert_eq!(
        (shown.rows_total, shown.rows_with_problems, shown.duplicates),
        (100, 0, 0)
    );
    assert_eq!(
        (shown.rows_train, shown.rows_held_out, shown.over_long),
        (90, 10, 0)
    );
    assert_eq!(shown.layout, RowLayout::QuestionAnswer);
    assert_eq!(
        (data.train_samples.len(), data.held_out_samples.len()),
        (90, 10)
    );
    // Of most held-out questions the other wording is learnt.
    let learnt = |sample: &DatasetSample| {
        data.train_samples
            .iter()
            .any(|other| other.answer == sample.answer)
    };
    assert!(
        data.held_out_samples
            .iter()
            .filter(|sample| learnt(sample))
            .count()
            >= 8
    );
}

#[test]
fn what_stands_behind_a_list_is_not_left_out_in_silence() {
    let list = r#"[{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]"#;
    let said = refused("two.json", format!("{list}\n{list}"));
    assert!(said.contains("behind the list is not read"), "{said}");
    assert_eq!(
        dataset("one.json", format!("{list}\n\n"), &chat())
            .train
            .len(),
        2
    );
}

#[test]
fn rows_of_several_layouts_are_not_called_unknown() {
    let said = refused(
        "mixed.jsonl",
        r#"{"question": "a", "answer": "b"}
{"instruction": "c", "output": "d"}
{"prompt": "e", "completion": "f"}
"#,
    );
    assert!(said.contains("no layout that most rows share"), "{said}");
}
