//! `Workbench`: everything a shell can ask for. This file opens it, holds its parts and describes the machine; each
//! subject's methods are in the module of that subject.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use billion_hub::{Hub, HubSettings, Library, Limits};

use crate::api::{About, ApiError, Settings};
use crate::cancel::Cancel;
use crate::devices::engine_of_device;
use crate::jobs::Changes;
use crate::lease::Lease;
use crate::machine;
use crate::mmlu_sources::MmluRead;
use crate::models::places;
use crate::requests::{EngineOptions, Executor};
use crate::store::Store;
use crate::worker::Pool;

/// Where things are; the default finds everything itself.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Where everything is stored; none takes `BILLION_DATA`, or else the platform's data folder and "billion".
    pub data_dir: Option<PathBuf>,
    /// The `billion` executable; none takes this executable if it is `billion`, or else the one beside it.
    pub engine: Option<PathBuf>,
    /// Folder of the app's resources, which holds the starter pack.
    pub resource_dir: Option<PathBuf>,
    /// Where the hub is, and its cache; none takes the environment's (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`).
    pub hub: Option<HubSettings>,
}

/// The product's use cases over one store. Window and command line may each hold one over the same store.
#[derive(Debug)]
pub struct Workbench {
    pub(crate) store: Arc<Store>,
    pub(crate) library: Library,
    /// Held while a download is looked for and recorded, so that one model has one job.
    pub(crate) starting: Mutex<()>,
    pub(crate) lease: Lease,
    pub(crate) pool: Pool,
    /// The `billion` executable.
    pub(crate) engine: PathBuf,
    data_dir: PathBuf,
    /// Held by the chat that is being answered.
    pub(crate) turn: Mutex<()>,
    /// Chats that are being answered.
    pub(crate) answering: Mutex<HashMap<u32, Cancel>>,
    /// Held by the job at work.
    pub(crate) job_turn: Mutex<()>,
    /// Jobs of this process, queued or at work.
    pub(crate) running: Mutex<HashMap<u32, Cancel>>,
    pub(crate) changes: Arc<Changes>,
    foreground: Mutex<Vec<(u64, Cancel)>>,
    pub(crate) mmlu_read: Mutex<Option<MmluRead>>,
}

impl Workbench {
    /// Opens the store, making it if there is none.
    pub fn open(options: OpenOptions) -> Result<Arc<Self>, ApiError> {
        let data_dir = match options.data_dir {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        let store = Store::open(&data_dir)?;
        let engine = match options.engine {
            Some(engine) => engine,
            None => default_engine()?,
        };
        let settings = options.hub.unwrap_or_else(HubSettings::of_process);
        let hub = Hub::new(settings, Limits::default());
        Ok(Arc::new(Self {
            store: Arc::new(store),
            library: Library::open(&data_dir, &places(options.resource_dir), hub),
            starting: Mutex::default(),
            lease: Lease::new(&data_dir),
            pool: Pool::default(),
            engine,
            data_dir,
            turn: Mutex::default(),
            answering: Mutex::default(),
            job_turn: Mutex::default(),
            running: Mutex::default(),
            changes: Arc::default(),
            foreground: Mutex::default(),
            mmlu_read: Mutex::default(),
        }))
    }

    /// The person's settings.
    pub fn settings(&self) -> Result<Settings, ApiError> {
        self.store.settings()
    }

    /// Keeps the person's settings.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), ApiError> {
        if let Some(threads) = settings.threads
            && !(1..=1024).contains(&threads)
        {
            return Err(ApiError::failed(format!(
                "{threads} threads are not possible: choose 1 to 1024, or none for one a core"
            )));
        }
        self.store.save_settings(settings)
    }

    /// The machine and the program.
    pub fn about(&self) -> Result<About, ApiError> {
        let (memory_bytes, free_memory_bytes) = machine::memory();
        Ok(About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu: machine::cpu_name().to_owned(),
            cores: machine::cores(),
            isa: billion_llm::Isa::detect().name().to_owned(),
            memory_bytes,
            free_memory_bytes,
            os: machine::os_words(),
            data_dir: self.data_dir.display().to_string(),
            starter_dir: self.starter_dir().map(|dir| dir.display().to_string()),
            disk_bytes: disk_bytes(&self.data_dir),
        })
    }

    /// Ends the foreground work (Ctrl-C on the command line). False if there is none.
    pub fn cancel(&self) -> bool {
        let all = self
            .foreground
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (_, cancel) in all.iter() {
            cancel.set();
        }
        !all.is_empty()
    }

    /// Registers foreground work, so that `cancel` reaches it until the guard is dropped.
    pub(crate) fn foreground(&self) -> (Foreground<'_>, Cancel) {
        let cancel = Cancel::default();
        let mut all = self
            .foreground
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = all.last().map_or(0, |(number, _)| number + 1);
        all.push((number, cancel.clone()));
        (
            Foreground {
                workbench: self,
                number,
            },
            cancel,
        )
    }

    /// The hub.
    pub(crate) fn hub(&self) -> &Hub {
        self.library.hub()
    }

    /// Where everything is stored.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What can be made again: compiled modules.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.data_dir.join("cache")
    }

    /// The engine as the person's settings have it.
    pub(crate) fn engine_options(&self) -> Result<EngineOptions, ApiError> {
        self.with_settings(&EngineOptions::default())
    }

    /// The executable that runs models so.
    pub(crate) fn executable(&self, engine: &EngineOptions) -> Result<PathBuf, ApiError> {
        engine_of_device(&self.engine, &engine.device)
    }

    /// Options, with the person's settings where they leave it open. A device that is not there is refused.
    pub(crate) fn with_settings(&self, engine: &EngineOptions) -> Result<EngineOptions, ApiError> {
        self.executable(engine)?;
        let mut engine = engine.clone();
        if engine.device != "cpu" {
            // The only one there, and what results must say.
            engine.executor = Executor::Candle;
        }
        if engine.threads.is_none() {
            engine.threads = self.settings()?.threads;
        }
        Ok(engine)
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        self.changes.close();
    }
}

/// Foreground work while it lasts.
pub(crate) struct Foreground<'a> {
    workbench: &'a Workbench,
    number: u64,
}

impl Drop for Foreground<'_> {
    fn drop(&mut self) {
        let mut all = self
            .workbench
            .foreground
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|(number, _)| *number != self.number);
    }
}

fn default_data_dir() -> Result<PathBuf, ApiError> {
    if let Some(dir) = std::env::var_os("BILLION_DATA").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    dirs::data_dir()
        .map(|dir| dir.join("billion"))
        .ok_or_else(|| {
            ApiError::failed("this system names no data folder; set BILLION_DATA to one")
        })
}

/// This executable if it is `billion`; or else the one beside it, or one folder up (where cargo puts tests).
fn default_engine() -> Result<PathBuf, ApiError> {
    let own = std::env::current_exe().map_err(|error| {
        ApiError::failed(format!("this program cannot tell where it is: {error}"))
    })?;
    let name = format!("billion{}", std::env::consts::EXE_SUFFIX);
    if own.file_name().is_some_and(|file| *file == *name) {
        return Ok(own);
    }
    let folders = own.ancestors().skip(1).take(2).map(Path::to_owned);
    let found = folders
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file());
    // Whoever needs it hears where it was expected.
    Ok(found.unwrap_or_else(|| own.with_file_name(name)))
}

/// Bytes of all files below a folder; links are not followed.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(status) if status.is_dir() => disk_bytes(&entry.path()),
            Ok(status) if status.is_file() => status.len(),
            _ => 0,
        })
        .sum()
}
