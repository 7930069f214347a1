//! Where MMLU's questions come from: the starter pack, or what the person gave, kept in the store's settings. Every run pins
//! its own source when it is recorded, so that a later choice does not change a run that is resumed.
//!
//! It owns the choice and the words about it; what a place holds, `billion-eval` finds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use billion_eval::tasks::mmlu::{DEFAULT_SHOTS, Location, MmluData, SUBJECTS};
use billion_hub::{Control, Hub, datasets};
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, MmluOrigin, MmluSource, MmluSubject};
use crate::cancel::Cancel;
use crate::downloads::tell;
use crate::facade::Workbench;
use crate::requests::JobProgress;

/// How often a download asks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// What the person chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MmluChoice {
    pub(crate) origin: MmluOrigin,
    pub(crate) path: PathBuf,
}

/// The questions in use.
pub(crate) struct MmluInUse {
    pub(crate) source: MmluSource,
    pub(crate) data: Arc<MmluData>,
    /// What a run has to keep to find them again; none for the starter pack, which moves with the program.
    pub(crate) pin: Option<PathBuf>,
}

/// The questions read last, with the files they were read from as they were then.
#[derive(Debug)]
pub(crate) struct MmluRead {
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
    data: Arc<MmluData>,
}

impl Workbench {
    /// The MMLU questions that scorecards use now.
    pub fn mmlu_source(&self) -> Result<MmluSource, ApiError> {
        Ok(self.mmlu_in_use()?.source)
    }

    /// Uses the questions at `path` from now on: an official folder, its archive, or parquet files of `cais/mmlu`. They are
    /// read whole first.
    pub fn use_mmlu(&self, path: &Path) -> Result<MmluSource, ApiError> {
        self.choose_mmlu(MmluOrigin::Own, path)
    }

    /// Uses the starter pack's questions from now on.
    pub fn use_starter_mmlu(&self) -> Result<MmluSource, ApiError> {
        self.store.save_mmlu_choice(None)?;
        self.mmlu_source()
    }

    /// The 57 subjects and their groups.
    pub fn mmlu_subjects(&self) -> Vec<MmluSubject> {
        SUBJECTS
            .iter()
            .map(|(subject, group)| MmluSubject {
                subject: (*subject).to_owned(),
                group: (*group).to_owned(),
            })
            .collect()
    }

    /// Gets `cais/mmlu` into the Hub's cache, unless it is there, and uses it from now on. What came before a stop is kept.
    pub(crate) fn fetch_and_use_mmlu(
        &self,
        hub: &Hub,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluSource, ApiError> {
        cancel.check()?;
        let control = Control::new();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let fetched = std::thread::scope(|scope| {
            let steer = control.clone();
            scope.spawn(move || {
                // Ends when the other end is dropped.
                while ended.recv_timeout(STOP_POLL)
                    == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    if cancel.is_set() {
                        steer.stop();
                    }
                }
            });
            let mut progress = JobProgress {
                step: "asks the Hub for cais/mmlu".to_owned(),
                ..JobProgress::default()
            };
            on_progress(&progress);
            let fetched = datasets::mmlu(hub, &control, &mut |event| {
                tell(&mut progress, event);
                on_progress(&progress);
            });
            drop(done);
            fetched
        });
        let files = fetched.map_err(|error| {
            if cancel.is_set() {
                ApiError::cancelled()
            } else {
                ApiError::failed(error.to_string())
            }
        })?;
        let folder = files.test[0].parent().unwrap_or(Path::new("."));
        self.choose_mmlu(MmluOrigin::Hub, folder)
    }

    pub(crate) fn choose_mmlu(
        &self,
        origin: MmluOrigin,
        path: &Path,
    ) -> Result<MmluSource, ApiError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let data = self.mmlu_at(&path)?;
        self.store.save_mmlu_choice(Some(&MmluChoice {
            origin,
            path: path.clone(),
        }))?;
        Ok(source(origin, &path, &data))
    }

    /// The questions in use. A choice that cannot be read now gives way to the starter pack, and the source says so.
    pub(crate) fn mmlu_in_use(&self) -> Result<MmluInUse, ApiError> {
        let mut problem = None;
        if let Some(MmluChoice { origin, path }) = self.store.mmlu_choice()? {
            match self.mmlu_at(&path) {
                Ok(data) => {
                    return Ok(MmluInUse {
                        source: source(origin, &path, &data),
                        data,
                        pin: Some(path),
                    });
                }
                Err(error) => problem = Some(error.message),
            }
        }
        let path = self.starter_mmlu()?;
        let data = self.mmlu_at(&path)?;
        let mut source = source(MmluOrigin::Starter, &path, &data);
        if let Some(problem) = problem {
            source.note = Some(format!(
                "the questions chosen before cannot be used ({problem}), so these are the starter pack's, without solved examples; bring them back or choose others"
            ));
        }
        Ok(MmluInUse {
            source,
            data,
            pin: None,
        })
    }

    /// The questions at `path`, read again only if its files have changed.
    pub(crate) fn mmlu_at(&self, path: &Path) -> Result<Arc<MmluData>, ApiError> {
        let failed = |error: billion_eval::Error| ApiError::failed(error.to_string());
        let location = Location::find(path).map_err(failed)?;
        let files = location
            .files()
            .iter()
            .map(|file| {
                let status = std::fs::metadata(file).map_err(|error| {
                    ApiError::failed(format!("cannot read {}: {error}", file.display()))
                })?;
                Ok((file.clone(), status.len(), status.modified().ok()))
            })
            .collect::<Result<Vec<_>, ApiError>>()?;
        let mut read = self
            .mmlu_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_ref().filter(|read| read.files == files) {
            return Ok(Arc::clone(&read.data));
        }
        let data = Arc::new(location.read().map_err(failed)?);
        *read = Some(MmluRead {
            files,
            data: Arc::clone(&data),
        });
        Ok(data)
    }
}

fn source(origin: MmluOrigin, path: &Path, data: &MmluData) -> MmluSource {
    let examples = data.examples();
    let shots = data
        .subjects
        .values()
        .map(|subject| subject.dev.len())
        .max()
        .unwrap_or(0)
        .min(DEFAULT_SHOTS);
    let subjects = match data.subjects.len() {
        n if n < SUBJECTS.len() => format!(" of {n} subjects"),
        _ => String::new(),
    };
    let solved = match examples {
        0 => "no solved examples".to_owned(),
        1 => "1 solved example".to_owned(),
        n => format!("{} solved examples", thousands(n)),
    };
    let words = format!(
        "{} questions{subjects}, {solved}",
        thousands(data.questions())
    );
    MmluSource {
        origin,
        words,
        shots: shots as u32,
        note: note(origin, data, shots),
        fix: (examples == 0).then(|| {
            match origin {
                MmluOrigin::Starter => "drop the official MMLU folder or archive here, choose it, or fetch it (cais/mmlu)",
                MmluOrigin::Own | MmluOrigin::Hub => "add the dev files to it",
            }
            .to_owned()
        }),
        path: path.display().to_string(),
    }
}

/// Why there are not five solved examples before every question, and what is missing.
fn note(origin: MmluOrigin, data: &MmluData, shots: usize) -> Option<String> {
    let mut notes = Vec::new();
    if shots == 0 {
        notes.push(match origin {
            MmluOrigin::Starter => "the starter pack has the test split only, so questions are asked without solved examples (0-shot); published scores are 5-shot".to_owned(),
            MmluOrigin::Own | MmluOrigin::Hub => "there is no dev split, so questions are asked without solved examples (0-shot); published scores are 5-shot".to_owned(),
        });
    } else {
        let few: Vec<String> = data
            .subjects
            .iter()
            .filter(|(_, subject)| subject.dev.len() < DEFAULT_SHOTS)
            .map(|(name, subject)| format!("{} ({})", name.replace('_', " "), subject.dev.len()))
            .collect();
        match &few[..] {
            [] => {}
            _ if few.len() > 6 => notes.push(format!(
                "{} subjects have fewer than {DEFAULT_SHOTS} solved examples and use what there is",
                few.len()
            )),
            _ => notes.push(format!(
                "fewer than {DEFAULT_SHOTS} solved examples: {}; these use what there is",
                few.join(", ")
            )),
        }
    }
    if data.subjects.len() < SUBJECTS.len() {
        notes.push(format!(
            "{} of the {} subjects are missing",
            SUBJECTS.len() - data.subjects.len(),
            SUBJECTS.len()
        ));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// "14,042".
pub(crate) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use billion_hub::{HubSettings, Limits};

    use super::*;
    use crate::api::ErrorCode;
    use crate::facade::OpenOptions;

    /// An official folder of two subjects; anatomy has three solved examples.
    fn folder(at: &Path) {
        let row = |i: usize| format!("Question {i}?,1,2,3,4,{}\n", ["A", "B", "C", "D"][i % 4]);
        let rows = |n: usize| (0..n).map(row).collect::<String>();
        for (file, n) in [
            ("test/anatomy_test.csv", 1200),
            ("test/virology_test.csv", 2),
            ("dev/anatomy_dev.csv", 3),
            ("dev/virology_dev.csv", 5),
        ] {
            let path = at.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, rows(n)).unwrap();
        }
    }

    fn open(data: &Path) -> Arc<Workbench> {
        Workbench::open(OpenOptions {
            data_dir: Some(data.to_owned()),
            engine: Some(data.join("billion")),
            resource_dir: None,
            hub: None,
        })
        .unwrap()
    }

    #[test]
    fn a_choice_is_checked_kept_and_given_up_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let workbench = open(&dir.path().join("store"));
        let starter = workbench.mmlu_source().unwrap();
        assert_eq!((starter.origin, starter.shots), (MmluOrigin::Starter, 0));
        assert_eq!(starter.words, "14,042 questions, no solved examples");
        assert!(starter.note.unwrap().contains("0-shot"));
        assert!(workbench.mmlu_in_use().unwrap().pin.is_none());

        let own = dir.path().join("mmlu");
        let error = workbench.use_mmlu(&own).unwrap_err();
        assert!(error.message.contains("cannot read"), "{error}");
        folder(&own);
        let source = workbench.use_mmlu(&own).unwrap();
        assert_eq!((source.origin, source.shots), (MmluOrigin::Own, 5));
        assert_eq!(
            source.words,
            "1,202 questions of 2 subjects, 8 solved examples"
        );
        assert_eq!(
            source.note.as_deref(),
            Some(
                "fewer than 5 solved examples: anatomy (3); these use what there is; 55 of the 57 subjects are missing"
            )
        );
        // Another program over the same store uses it too, and a file that changes is read again.
        let other = open(&dir.path().join("store"));
        assert_eq!(other.mmlu_source().unwrap(), source);
        assert_eq!(other.mmlu_in_use().unwrap().pin, Some(own.clone()));
        std::fs::remove_dir_all(own.join("dev")).unwrap();
        let without = other.mmlu_source().unwrap();
        assert_eq!(without.shots, 0);
        assert!(without.note.unwrap().contains("there is no dev split"));

        std::fs::remove_dir_all(&own).unwrap();
        let gone = other.mmlu_source().unwrap();
        assert_eq!(gone.origin, MmluOrigin::Starter);
        assert!(gone.note.unwrap().contains("cannot be used"));
        other.use_starter_mmlu().unwrap();
        let note = workbench.mmlu_source().unwrap().note.unwrap();
        assert!(!note.contains("cannot be used"), "{note}");
        assert_eq!(workbench.mmlu_subjects().len(), 57);
    }

    #[test]
    fn what_the_hub_gave_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let workbench = open(&dir.path().join("store"));
        let cache = dir.path().join("hub");
        let hub = Hub::new(
            HubSettings {
                cache: cache.clone(),
                offline: true,
                ..HubSettings::of_process()
            },
            Limits::default(),
        );
        let fetch = || workbench.fetch_and_use_mmlu(&hub, &Cancel::default(), &mut |_| {});
        let error = fetch().unwrap_err();
        assert_eq!(error.code, ErrorCode::Failed);
        assert!(error.message.contains("HF_HUB_OFFLINE"), "{error}");
        let all = cache
            .join("datasets--cais--mmlu/snapshots")
            .join(datasets::MMLU_COMMIT)
            .join("all");
        std::fs::create_dir_all(&all).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../eval/tests/fixtures/mmlu");
        for file in ["test-00000-of-00001.parquet", "dev-00000-of-00001.parquet"] {
            std::fs::copy(fixture.join(file), all.join(file)).unwrap();
        }
        let source = fetch().unwrap();
        assert_eq!(source.origin, MmluOrigin::Hub);
        assert_eq!(source.words, "3 questions of 2 subjects, 1 solved example");
        assert_eq!(workbench.mmlu_source().unwrap(), source);
        let stopped = Cancel::default();
        stopped.set();
        let error = workbench
            .fetch_and_use_mmlu(&hub, &stopped, &mut |_| {})
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
    }

    #[test]
    fn thousands_are_set_apart() {
        for (n, text) in [
            (7, "7"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(thousands(n), text);
        }
    }
}
