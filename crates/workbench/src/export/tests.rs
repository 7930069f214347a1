//! Exports of a store made for the test: read back with other means than wrote them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use billion_eval::tasks::mmlu::SUBJECTS;
use serde_json::{Value, json};

use super::*;
use crate::api::{ScorecardRequest, ScorecardSize};
use crate::facade::OpenOptions;
use crate::reports::{EnergyReport, MemoryReport, MmluPart, MmluReport, SpeedReport, Spread};
use crate::requests::EngineOptions;
use crate::store::NewRun;
use crate::worker::MmluSample;

const HOSTILE: &str = "=cmd|'/C calc'!A0</td><script>alert(1)</script>";

struct Bench {
    dir: tempfile::TempDir,
    workbench: Arc<Workbench>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workbench = Workbench::open(OpenOptions {
            data_dir: Some(dir.path().join("data")),
            engine: Some(dir.path().join("billion")),
            resource_dir: None,
            hub: None,
        })
        .unwrap();
        Self { dir, workbench }
    }

    fn new_run(task: &str, model: &str, scorecard: Option<u32>) -> NewRun {
        NewRun {
            task: task.to_owned(),
            model: model.to_owned(),
            name: if model == "evil" {
                HOSTILE.to_owned()
            } else {
                format!("Model {model}")
            },
            path: format!("/home/someone/models/{model}.gguf"),
            sha256: "5".repeat(64),
            quant: "Q4_0".to_owned(),
            params: 1_100_048_384,
            task_version: format!("{task} 1"),
            shots: 0,
            seed: 0,
            hardware: "Some CPU, 2 cores, 8.0 GB memory, Linux".to_owned(),
            isa: "avx512".to_owned(),
            threads: 2,
            settings: json!({ "limit": null, "data": "/home/someone/mmlu", "data_sha256": "d" }),
            command: format!("billion bench {task} --model {model} --threads 2"),
            scorecard,
            job: 0,
        }
    }

    /// A run of all 57 subjects, with some of its answers.
    fn mmlu(&self, model: &str, scorecard: Option<u32>, each: u32) -> u32 {
        let run = Self::new_run("mmlu", model, scorecard);
        let store = &self.workbench.store;
        let id = store.begin_run(&run).unwrap();
        for (subject, _) in SUBJECTS.iter().take(3) {
            for index in 0..4 {
                let ll = [-1.5, -0.25, -3.0, -4.125];
                let sample = MmluSample::new(subject, index, ll, index % 2);
                store.add_sample(id, &sample).unwrap();
            }
        }
        let part = |correct: u32, total: u32| MmluPart {
            accuracy: f64::from(correct) / f64::from(total),
            correct,
            total,
            shots: Some(0),
            stderr: None,
        };
        let total = 57 * each;
        let report = MmluReport {
            run: id,
            model: model.to_owned(),
            accuracy: 0.3,
            correct: total * 3 / 10,
            total,
            ci95: [0.293, 0.307],
            by_subject: SUBJECTS
                .iter()
                .map(|(subject, _)| ((*subject).to_owned(), part(each / 3, each)))
                .collect(),
            by_group: BTreeMap::from([("stem".to_owned(), part(5, 10))]),
            shots: 0,
            prompt_tokens_computed: 1_234_567,
            truncated: 0,
            stderr: None,
            stopped_early: None,
            notes: Vec::new(),
            seconds: 3725.0,
        };
        store.finish_run(id, 0, &report).unwrap();
        id
    }

    fn speed(&self, model: &str, scorecard: Option<u32>) -> u32 {
        let store = &self.workbench.store;
        let id = store
            .begin_run(&Self::new_run("speed", model, scorecard))
            .unwrap();
        let spread = |runs: &[f64]| Spread {
            median: runs[0],
            min: runs[0],
            max: runs[0],
            runs: runs.to_vec(),
            outliers: Vec::new(),
        };
        let report = SpeedReport {
            run: id,
            model: model.to_owned(),
            prefill_tokens_per_s: spread(&[200.0, 201.0]),
            decode_tokens_per_s: spread(&[50.5]),
            ttft_s: 0.5,
            load_s: 0.1,
            device: "cpu".to_owned(),
            threads: 2,
            isa: "avx512".to_owned(),
            prompt: 16,
            generate: 8,
            batch: 1,
            depth: 0,
            other_cores_busy: Some(0.1),
            notes: vec!["another program kept a core busy".to_owned()],
        };
        store.finish_run(id, 0, &report).unwrap();
        id
    }

    fn memory(&self, model: &str, scorecard: Option<u32>) {
        let store = &self.workbench.store;
        let id = store
            .begin_run(&Self::new_run("memory", model, scorecard))
            .unwrap();
        let report = MemoryReport {
            run: id,
            model: model.to_owned(),
            weights_bytes: 600_000_000,
            kv_bytes: 45_000_000,
            kv_bytes_per_token: 22_528,
            peak_rss_bytes: 760_000_000,
            idle_rss_bytes: Some(650_000_000),
            ctx: 2048,
            notes: Vec::new(),
        };
        store.finish_run(id, 0, &report).unwrap();
    }

    /// Two joules a token; the questions took `mmlu_joules`.
    fn energy(&self, model: &str, scorecard: u32, mmlu_joules: Option<f64>) {
        let store = &self.workbench.store;
        let id = store
            .begin_run(&Self::new_run("energy", model, Some(scorecard)))
            .unwrap();
        let report = EnergyReport {
            run: Some(id),
            model: model.to_owned(),
            source: Some("rapl".to_owned()),
            covers: Some("the processor".to_owned()),
            joules_per_token: Some(2.0),
            spread: Some(Spread {
                median: 2.0,
                min: 1.5,
                max: 2.5,
                runs: vec![1.5, 2.0, 2.5],
                outliers: Vec::new(),
            }),
            gross_joules_per_token: Some(3.0),
            idle_watts: Some(5.0),
            load_watts: Some(15.0),
            mmlu_joules,
            correct_per_wh: mmlu_joules.map(|joules| 90.0 / (joules / 3600.0)),
            tokens: 192,
            seconds: 10.0,
            generate: 64,
            device: "cpu".to_owned(),
            threads: 2,
            isa: "avx512".to_owned(),
            other_cores_busy: Some(0.0),
            notes: Vec::new(),
            reason: None,
        };
        store.finish_run(id, 0, &report).unwrap();
    }

    fn scorecard(&self, models: &[&str]) -> u32 {
        let request = ScorecardRequest {
            models: models.iter().map(|&model| model.to_owned()).collect(),
            size: ScorecardSize::Full,
            stop_at_half_width: None,
            mmlu: None,
        };
        let engine = EngineOptions::default();
        let id = self
            .workbench
            .store
            .new_scorecard(&request, &engine, "Some CPU")
            .unwrap();
        for model in models {
            self.memory(model, Some(id));
            self.speed(model, Some(id));
            self.mmlu(model, Some(id), 246);
        }
        id
    }

    fn export(
        &self,
        scorecard: Option<u32>,
        runs: &[u32],
        format: ExportFormat,
    ) -> (PathBuf, Exported) {
        let out = self.dir.path().join(format!("out.{format:?}"));
        let request = ExportRequest {
            scorecard,
            runs: runs.to_vec(),
            format,
            out: out.display().to_string(),
        };
        let exported = self.workbench.export_results(&request).unwrap();
        assert_eq!(exported.bytes, std::fs::metadata(&out).unwrap().len());
        (out, exported)
    }

    fn text(&self, scorecard: Option<u32>, runs: &[u32], format: ExportFormat) -> String {
        std::fs::read_to_string(self.export(scorecard, runs, format).0).unwrap()
    }
}

#[test]
fn a_table_has_a_row_an_answer_and_nothing_a_spreadsheet_would_run() {
    let bench = Bench::new();
    let (mmlu, speed) = (bench.mmlu("evil", None, 20), bench.speed("a", None));
    let text = bench.text(None, &[mmlu, speed], ExportFormat::Csv);
    assert!(text.contains("\r\n") && !text.replace("\r\n", "").contains('\n'));
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|have| have == name).unwrap();
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 12 + 3);
    let first = &rows[0];
    assert_eq!(&first[column("item")], "abstract_algebra/0");
    assert_eq!(&first[column("name")], format!("'{HOSTILE}"));
    assert_eq!(
        [
            &first[column("ll_a")],
            &first[column("ll_b")],
            &first[column("pred")],
            &first[column("gold")],
            &first[column("passed")]
        ],
        ["-1.5", "-0.25", "B", "A", "0"],
        "numbers stay numbers"
    );
    assert_eq!(&first[column("sha256")], "5".repeat(64));
    for (row, value) in rows[12..].iter().zip(["50.5", "200", "201"]) {
        assert_eq!(
            (&row[column("task")], &row[column("value")]),
            ("speed", value)
        );
    }
    for row in &rows {
        for (name, cell) in header.iter().zip(row) {
            let formula = cell.starts_with(['=', '+', '@', '\t', '\r']);
            let minus = cell.starts_with('-') && cell.parse::<f64>().is_err();
            assert!(!formula && !minus, "{name}: {cell}");
        }
    }
}

#[test]
fn json_holds_every_answer_and_how_it_was_made() {
    let bench = Bench::new();
    let card = bench.scorecard(&["a"]);
    let document: Value =
        serde_json::from_str(&bench.text(Some(card), &[], ExportFormat::Json)).unwrap();
    assert_eq!(document["format"], "billion results 1");
    assert_eq!(document["scorecard"]["rows"][0]["model"], "a");
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    let mmlu = runs.iter().find(|run| run["task"] == "mmlu").unwrap();
    assert_eq!(mmlu["questions"].as_array().unwrap().len(), 12);
    assert_eq!(
        mmlu["questions"][0]["ll"],
        json!([-1.5, -0.25, -3.0, -4.125])
    );
    assert_eq!(mmlu["report"]["total"], 57 * 246);
    assert_eq!(mmlu["settings"]["data_sha256"], "d");
    assert!(document["charts"].as_array().unwrap().len() >= 5);
}

#[test]
fn the_report_of_a_full_scorecard_loads_nothing_and_stays_small() {
    let bench = Bench::new();
    let card = bench.scorecard(&["a", "evil"]);
    let text = bench.text(Some(card), &[], ExportFormat::Html);
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    for loads in [
        "http:",
        "https:",
        "<script",
        " src=",
        " href=",
        "url(",
        "@import",
        "<link",
        "<img",
        "<iframe",
        "<object",
        "javascript:",
        " onload",
        " onclick",
    ] {
        assert!(!text.contains(loads), "{loads}");
    }
    for says in [
        "default-src 'none'",
        "Scorecard 1 (Full)",
        "Some CPU",
        &"5".repeat(64),
        "1,100,048,384 parameters",
        "Humanities · world religions",
        "billion scorecard --models a,evil --full",
        "billion bench mmlu --model a --threads 2",
        "95 % interval (Wilson, stratified by subject)",
        "cannot be told apart",
        "24 answers and completions",
        "another program kept a core busy",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        env!("CARGO_PKG_VERSION"),
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(text.contains(says), "{says}");
    }
    assert!(
        !text.contains("/home/someone"),
        "folders of this machine stay here"
    );
    for tag in [
        "table", "tbody", "tr", "th", "td", "figure", "svg", "text", "div", "ul", "li", "h2", "h3",
        "p", "span",
    ] {
        let (open, closed) = (
            text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count(),
            text.matches(&format!("</{tag}>")).count(),
        );
        assert_eq!(open, closed, "{tag}");
    }
    let charts = bench.workbench.scorecard(card).unwrap().charts;
    assert_eq!(text.matches("<figure").count(), charts.len());
}

#[test]
fn pictures_hold_every_chart_and_a_run_without_one_says_so() {
    let bench = Bench::new();
    let card = bench.scorecard(&["a", "b"]);
    let svg = bench.text(Some(card), &[], ExportFormat::Svg);
    for chart in bench.workbench.scorecard(card).unwrap().charts {
        let first = chart.title.split(' ').next().unwrap().to_owned();
        assert!(svg.contains(&first), "{}", chart.title);
    }
    assert!(svg.contains("Scorecard 1 (Full)") && svg.contains("Some CPU"));
    let (png, _) = bench.export(Some(card), &[], ExportFormat::Png);
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    let perplexity = bench
        .workbench
        .store
        .begin_run(&Bench::new_run("perplexity", "a", None))
        .unwrap();
    let report = json!({ "run": perplexity, "model": "a", "tokens": 9, "nll_mean": 1.0, "perplexity": 2.7, "ctx": 8, "seconds": 1.0 });
    bench
        .workbench
        .store
        .finish_run(perplexity, 0, &report)
        .unwrap();
    let request = ExportRequest {
        scorecard: None,
        runs: vec![perplexity],
        format: ExportFormat::Svg,
        out: bench.dir.path().join("x.svg").display().to_string(),
    };
    let error = bench.workbench.export_results(&request).unwrap_err();
    assert!(
        error.message.contains("there is no chart"),
        "{}",
        error.message
    );
    let text = bench.text(None, &[perplexity], ExportFormat::Html);
    assert!(text.contains("Perplexity"));
}

#[test]
fn what_cannot_be_exported_is_refused_and_writes_nothing() {
    let bench = Bench::new();
    let open = bench
        .workbench
        .store
        .begin_run(&Bench::new_run("mmlu", "a", None))
        .unwrap();
    let out = bench.dir.path().join("x.json");
    for (scorecard, runs, says) in [
        (None, vec![], "nothing to export"),
        (None, vec![99], "there is no run 99"),
        (Some(99), vec![], "there is no scorecard 99"),
        (None, vec![open], "is not finished"),
    ] {
        let request = ExportRequest {
            scorecard,
            runs,
            format: ExportFormat::Json,
            out: out.display().to_string(),
        };
        let error = bench.workbench.export_results(&request).unwrap_err();
        assert!(error.message.contains(says), "{}", error.message);
    }
    assert!(!out.exists());
}

#[test]
fn colours_go_by_the_order_of_first_use_and_never_change() {
    let bench = Bench::new();
    bench.mmlu("b", None, 20);
    bench.mmlu("a", None, 20);
    let order = |bench: &Bench| -> Vec<(String, u32)> {
        let all = bench.workbench.identities().unwrap();
        all.into_iter()
            .filter(|known| known.model != "starter")
            .map(|known| (known.model, known.index))
            .collect()
    };
    let before = order(&bench);
    assert_eq!(before[0].0, "b");
    assert_eq!(before[1].0, "a");
    let first = bench.workbench.runs().unwrap().pop().unwrap().id;
    bench.workbench.delete_run(first).unwrap();
    bench.mmlu("c", None, 20);
    let after = order(&bench);
    assert_eq!(after[..2], before[..]);
    assert_eq!(after[2], ("c".to_owned(), before[1].1 + 1));
}

#[test]
fn right_answers_a_watt_hour_are_told_where_one_session_counted_them() {
    let bench = Bench::new();
    let id = bench.scorecard(&["a", "b"]);
    bench.energy("a", id, Some(7200.0));
    bench.energy("b", id, None);
    let card = bench.workbench.scorecard(id).unwrap();
    let [counted, not] = &card.rows[..] else {
        panic!("two rows");
    };
    let figure = counted.correct_per_wh.as_ref().unwrap();
    assert_eq!((figure.value, figure.unit.as_str()), (45.0, "1/Wh"));
    assert!(figure.how.contains("2.000 Wh"), "{}", figure.how);
    assert!(
        counted
            .remarks()
            .iter()
            .all(|line| !line.contains("watt-hour"))
    );
    assert_eq!(not.energy.as_ref().unwrap().value, 2.0);
    assert_eq!(not.correct_per_wh, None);
    assert!(
        not.remarks()
            .iter()
            .any(|line| line.contains("measure again"))
    );
    let html = bench.text(Some(id), &[], ExportFormat::Html);
    assert!(html.contains("Right answers a Wh") && html.contains("45"));
}

#[test]
fn a_scorecard_says_what_is_missing_and_how_to_make_it_again() {
    let bench = Bench::new();
    let request = ScorecardRequest {
        models: vec!["a".to_owned()],
        size: ScorecardSize::Quick,
        stop_at_half_width: Some(0.025),
        mmlu: Some("/data/official mmlu".to_owned()),
    };
    let store = &bench.workbench.store;
    let id = store
        .new_scorecard(&request, &EngineOptions::default(), "Some CPU")
        .unwrap();
    bench.speed("a", Some(id));
    store.note(id, "a", "memory", Some("too little")).unwrap();
    let card = bench.workbench.scorecard(id).unwrap();
    let gaps: Vec<(&str, bool)> = card.rows[0]
        .gaps
        .iter()
        .map(|gap| (gap.task.as_str(), gap.pending))
        .collect();
    assert_eq!(
        gaps,
        [("memory", false), ("mmlu", true), ("humaneval", true)]
    );
    assert_eq!(
        card.rows[0].remarks()[..2],
        ["memory: too little", "not measured yet: MMLU, HumanEval"]
    );
    assert_eq!(
        card.command,
        "billion scorecard --models a --quick --stop-at 2.5 --data '/data/official mmlu'"
    );
}
