//! Checkpoints: one safetensors file with everything that resuming needs, replaced as a whole.
//!
//! Written beside its place, brought to the disk and renamed: whenever the process or the machine dies, the file is the last
//! checkpoint or the one before. Numbers whose bits matter are stored as bits.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::optimizer::AdamW;
use super::options::{Recompute, TrainOptions};
use crate::Error;

/// Name of the file in the run's folder.
pub const FILE: &str = "checkpoint.safetensors";

/// Raised when the meaning of the file changes.
const VERSION: u32 = 1;

/// Where a run is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub record: Record,
    pub numbers: Vec<f32>,
    pub optimizer: AdamW,
    /// Numbers of the lowest held-out loss.
    pub best: Option<Vec<f32>>,
}

/// All of it that is not a long vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Optimizer steps taken.
    pub step: u32,
    /// What the run was started with. The order of rows and dropout follow from its seed and the step.
    pub options: TrainOptions,
    /// Of the rows, the held-out rows and the model.
    pub digest: u64,
    /// As decided at the start.
    pub recompute: bool,
    /// (step, bits of the loss).
    pub losses: Vec<(u32, u64)>,
    /// (step, bits of the held-out loss).
    pub held_out: Vec<(u32, u64)>,
    pub best_step: u32,
    /// Looks at the held-out rows since the best.
    pub worse: u32,
}

impl Record {
    pub fn new(options: &TrainOptions, digest: u64, recompute: bool) -> Self {
        Self {
            version: VERSION,
            step: 0,
            options: options.clone(),
            digest,
            recompute,
            losses: Vec::new(),
            held_out: Vec::new(),
            best_step: 0,
            worse: 0,
        }
    }

    /// The lowest held-out loss so far; none before the first look.
    pub fn best_loss(&self) -> Option<f64> {
        let losses = self.held_out.iter().map(|(_, bits)| f64::from_bits(*bits));
        losses.filter(|loss| !loss.is_nan()).reduce(f64::min)
    }
}

/// Losses as numbers.
pub(super) fn from_bits(losses: &[(u32, u64)]) -> Vec<(u32, f64)> {
    let number = |(step, bits): &(u32, u64)| (*step, f64::from_bits(*bits));
    losses.iter().map(number).collect()
}

/// Options without those that change how a run goes but not what it computes.
fn essential(options: &TrainOptions) -> TrainOptions {
    TrainOptions {
        threads: None,
        checkpoint_every: None,
        memory_bytes: None,
        recompute: Recompute::Auto,
        ..options.clone()
    }
}

impl State {
    /// Replaces the checkpoint of the folder.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        self.write_to(&path).map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })
    }

    fn write_to(&self, path: &Path) -> std::io::Result<()> {
        let bytes = self.bytes()?;
        let temporary = path.with_extension("tmp");
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
            // What could not be written whole is of no use.
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
        sync_folder(path.parent())
    }

    fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let le =
            |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let mut vectors = vec![
            ("numbers", le(&self.numbers)),
            ("first_moments", le(&self.optimizer.first)),
            ("second_moments", le(&self.optimizer.second)),
        ];
        if let Some(best) = &self.best {
            vectors.push(("best", le(best)));
        }
        let views = vectors
            .iter()
            .map(|(name, bytes)| {
                let len = bytes.len() / size_of::<f32>();
                Ok((*name, TensorView::new(Dtype::F32, vec![len], bytes)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(std::io::Error::other)?;
        let record = serde_json::to_string(&self.record)?;
        let metadata = HashMap::from([("billion_run".to_owned(), record)]);
        serialize(views, Some(metadata)).map_err(std::io::Error::other)
    }

    /// The checkpoint of the folder for a run of `len` numbers; none if there is none.
    pub fn read(
        folder: &Path,
        options: &TrainOptions,
        digest: u64,
        len: usize,
    ) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let damaged = |problem: String| refuse(&path, &format!("{problem}; start the run anew"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| damaged(format!("no whole checkpoint ({error})")))?;
        let record = metadata
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get("billion_run"))
            .ok_or_else(|| damaged("it says nothing of a run".to_owned()))?;
        let record: Record = serde_json::from_str(record)
            .map_err(|error| damaged(format!("its description cannot be read ({error})")))?;
        if record.version != VERSION {
            return Err(damaged(format!(
                "it is of version {}, this Billion reads {VERSION}",
                record.version
            )));
        }
        if essential(&record.options) != essential(options) {
            return Err(refuse(
                &path,
                "it was made with other options; resume with the same ones, or start in another folder",
            ));
        }
        if record.digest != digest {
            return Err(refuse(
                &path,
                "it was made with another model or other rows; resume with the same ones, or start in another folder",
            ));
        }
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| damaged(format!("no whole checkpoint ({error})")))?;
        let vector = |name: &str| -> Result<Vec<f32>, Error> {
            let view = file
                .tensor(name)
                .map_err(|_| damaged(format!("it has no {name}")))?;
            let numbers: Vec<f32> = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| f32::from_le_bytes(*four))
                .collect();
            if view.dtype() != Dtype::F32 || numbers.len() != len {
                return Err(damaged(format!(
                    "{name} has {} numbers, {len} are trained",
                    numbers.len()
                )));
            }
            Ok(numbers)
        };
        let best = if file.tensor("best").is_ok() {
            Some(vector("best")?)
        } else {
            None
        };
        Ok(Some(Self {
            numbers: vector("numbers")?,
            optimizer: AdamW {
                first: vector("first_moments")?,
                second: vector("second_moments")?,
            },
            best,
            record,
        }))
    }
}

fn refuse(path: &Path, problem: &str) -> Error {
    Error::Options(format!("{}: {problem}", path.display()))
}

/// Brings a renamed file's entry to the disk, where the system can.
fn sync_folder(folder: Option<&Path>) -> std::io::Result<()> {
    let folder = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => PathBuf::from(folder),
        _ => PathBuf::from("."),
    };
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
