//! The models on this machine: the starter model, those in the library and those in the hub's cache, found by reference,
//! listed, added and removed.
//!
//! A model in the library is a folder `models/ID` in the data folder that holds its files and `billion.json`: imported by
//! the person, or made here from another (a quantization). What lies in the hub's cache is `hub_models`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::catalogue::{CATALOGUE, Known, near_misses};
use crate::client::Hub;
use crate::facts::{Facts, Inspection, inspect};
use crate::fingerprint::{Records, file_name, is_weights, sha256_file, sha256_weights};
use crate::hub_models::HubModel;
use crate::import::{model_files, place_files, slug, sync_folder};
use crate::model_reference::ModelReference;
use crate::starter::{Places, STARTER_ID, StarterPack};

const SIDECAR: &str = "billion.json";

/// Age from which what an import or a removal left behind is nobody's work any more.
const LEFT_BEHIND: Duration = Duration::from_hours(24);

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Ships with Billion.
    Starter,
    /// In the library.
    Imported,
    /// In the hub's cache, whoever put it there.
    HubCache,
    /// In the library, made here from another model.
    Made,
    /// A file or folder named by its path, not in the library.
    Path,
}

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What commands take as MODEL.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// File or folder.
    pub path: PathBuf,
    /// SHA-256 of the weights, and what is in them; or why they cannot be used.
    pub contents: Result<(String, Facts), String>,
}

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What results are stored under, and commands take as MODEL.
    pub id: String,
    /// File or folder.
    pub path: PathBuf,
    /// Where it comes from.
    pub source: Source,
}

/// What `billion.json` says of an imported model.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sidecar {
    name: String,
    /// Inside the model's folder; none is the folder itself.
    file: Option<String>,
    sha256: String,
    /// Where it was imported from, or what it was made from.
    origin: String,
    /// Seconds since the Unix epoch.
    imported_at: u64,
    /// What commands take for it, of a model that was made here: `tinyllama-1.1b-chat:q4_0`. Others are called as their
    /// folder.
    #[serde(default)]
    reference: Option<String>,
}

/// The models on this machine.
#[derive(Debug)]
pub struct Library {
    models: PathBuf,
    records: Records,
    starter: Result<StarterPack, Vec<PathBuf>>,
    /// Whose cache is looked at; it is asked for nothing.
    hub: Hub,
}

impl Library {
    /// The library in `data_folder`, with the starter pack found in `places` and the cache of `hub`. Nothing is made before
    /// something is imported.
    pub fn open(data_folder: &Path, places: &Places, hub: Hub) -> Self {
        Self {
            hub,
            models: data_folder.join("models"),
            records: Records::new(data_folder.join("models/.records")),
            starter: StarterPack::find(places).map_err(|error| match error {
                Error::NoStarter { looked } => looked,
                _ => Vec::new(),
            }),
        }
    }

    /// The starter pack.
    pub fn starter(&self) -> Result<&StarterPack, Error> {
        self.starter.as_ref().map_err(|looked| Error::NoStarter {
            looked: looked.clone(),
        })
    }

    /// Every model on this machine: the starter first, then those in the library by id, then those of the hub's cache.
    /// Models that cannot be used are listed with the reason; of the cache, which other programs fill with all kinds of
    /// models, only those that Billion knows or can run.
    pub fn installed(&self) -> Result<Vec<Installed>, Error> {
        let mut found = Vec::new();
        if let Ok(starter) = &self.starter {
            found.push(self.describe(Resolved {
                id: STARTER_ID.to_owned(),
                path: starter.model(),
                source: Source::Starter,
            }));
        }
        for (folder, sidecar) in self.sidecars()? {
            found.push(self.describe(self.kept(&folder, &sidecar)));
        }
        for model in self.hub.models_on_this_machine() {
            let known = Known::of_repository(&model.repo.id).is_some();
            let mut installed = self.describe(cached(&model));
            if model.needs_conversion {
                installed.contents = Err(format!(
                    "its weights are here, but still to be converted: billion models pull {}",
                    model.id
                ));
            }
            if known || installed.contents.is_ok() {
                found.push(installed);
            }
        }
        Ok(found)
    }

    /// What is in the model that a reference led to.
    pub fn describe(&self, resolved: Resolved) -> Installed {
        let contents = self
            .records
            .read(&resolved.path)
            .map(|record| (record.sha256, record.facts))
            .map_err(|error| error.to_string());
        let name = match resolved.source {
            Source::Starter => Known::find(STARTER_ID).map(|known| known.name.to_owned()),
            Source::Imported | Source::Made => self
                .find_kept(&resolved.id)
                .map(|(_, sidecar)| sidecar.name),
            Source::HubCache => ModelReference::parse(&resolved.id)
                .ok()
                .map(|reference| reference.name()),
            Source::Path => None,
        };
        Installed {
            name: name.unwrap_or_else(|| display_name(&resolved.path)),
            id: resolved.id,
            source: resolved.source,
            path: resolved.path,
            contents,
        }
    }

    /// SHA-256 of the weights and what is in the model at `path`, from the record if its files have not changed.
    pub fn facts(&self, path: &Path) -> Result<(String, Facts), Error> {
        let record = self.records.read(path)?;
        Ok((record.sha256, record.facts))
    }

    /// Follows a MODEL reference (cli.md): an id or short name, with `@REVISION` or `:QUANT`, `hf:OWNER/NAME`, a `.gguf`
    /// file, or a model folder.
    pub fn resolve(&self, reference: &str) -> Result<Resolved, Error> {
        let fail = |problem: &str| {
            Err(Error::Reference {
                reference: reference.to_owned(),
                problem: problem.to_owned(),
            })
        };
        if reference.is_empty() {
            return fail("a model reference cannot be empty; try starter");
        }
        if let Some((folder, sidecar)) = self.find_kept(reference) {
            return Ok(self.kept(&folder, &sidecar));
        }
        if Known::find(reference).is_some_and(|known| known.id == STARTER_ID) {
            return Ok(Resolved {
                id: STARTER_ID.to_owned(),
                path: self.starter()?.model(),
                source: Source::Starter,
            });
        }
        let (base, quant) = ModelReference::split_quant(reference);
        let known = Known::find(base.split(['@', ':']).next().unwrap_or(base)).is_some();
        if !known && !base.starts_with("hf:") {
            let path = Path::new(reference);
            if path.exists() {
                let path = path.canonicalize().map_err(Error::io("read", path))?;
                return Ok(Resolved {
                    id: path.display().to_string(),
                    path,
                    source: Source::Path,
                });
            }
            let of_library = self.find_kept(base);
            if let (Some(_), Some(quant)) = (&of_library, quant) {
                return Err(Error::NotInstalled {
                    name: format!("{base} as {}", quant.name()),
                    id: reference.to_owned(),
                });
            }
            let is_gguf = path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
            if reference.contains(['/', '\\']) || is_gguf {
                return fail(
                    "there is no such file or folder; a repository of the hub is written hf:OWNER/NAME",
                );
            }
            let name = reference.split(['@', ':']).next().unwrap_or(reference);
            return Err(Error::Unknown {
                reference: reference.to_owned(),
                near: self.near(name),
            });
        }
        let asked = ModelReference::parse(reference)?;
        if asked.quant.is_some() {
            // Under its short name it was not found above.
            if let Some((folder, sidecar)) = self.find_kept(&asked.id()) {
                return Ok(self.kept(&folder, &sidecar));
            }
        } else if let Some(model) = self.hub.model_on_this_machine(&asked.repo)
            && !model.needs_conversion
        {
            return Ok(cached(&model));
        }
        Err(Error::NotInstalled {
            id: asked.id(),
            name: asked.name(),
        })
    }

    /// The hub whose cache this looks at.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The model of the hub's cache that a reference leads to; none if it leads elsewhere.
    pub fn of_hub_cache(&self, reference: &str) -> Option<HubModel> {
        let resolved = self.resolve(reference).ok()?;
        if resolved.source != Source::HubCache {
            return None;
        }
        let asked = ModelReference::parse(&resolved.id).ok()?;
        self.hub.model_on_this_machine(&asked.repo)
    }

    fn near(&self, name: &str) -> Vec<String> {
        let imported = self.sidecars().unwrap_or_default();
        let names = CATALOGUE
            .iter()
            .flat_map(|known| known.aliases.iter().chain([&known.id]).copied())
            .chain(imported.iter().map(|(id, _)| id.as_str()));
        near_misses(name, names)
    }

    /// Everything that opening a model tells.
    pub fn inspect(&self, reference: &str) -> Result<(Installed, Inspection), Error> {
        let resolved = self.resolve(reference)?;
        let inspection = inspect(&resolved.path)?;
        Ok((self.describe(resolved), inspection))
    }

    /// Adds a `.gguf` file or a model folder. It is checked whole first; the same weights twice are one model.
    pub fn import(&self, path: &Path) -> Result<Installed, Error> {
        let path = &path.canonicalize().map_err(Error::io("read", path))?;
        let inspection = inspect(path)?;
        let mut files = Vec::new();
        let mut hashes = Vec::new();
        for file in model_files(path)? {
            let hash = sha256_file(&file)?;
            hashes.push((file_name(&file), hash.clone()));
            files.push((file, hash));
        }
        let sha256 = sha256_weights(&hashes);
        if let Some(existing) = self.same_weights(&sha256, &hashes)? {
            return Ok(self.describe(existing));
        }
        let folder = path.is_dir();
        let sidecar = Sidecar {
            name: inspection
                .facts
                .name
                .clone()
                .unwrap_or_else(|| display_name(path)),
            // A folder that holds a single GGUF file is opened by that file.
            file: (!folder).then(|| file_name(path)),
            sha256: sha256.clone(),
            origin: path.display().to_string(),
            imported_at: seconds_now(),
            reference: None,
        };
        std::fs::create_dir_all(&self.models).map_err(Error::io("make", &self.models))?;
        self.sweep();
        let fresh = self
            .models
            .join(format!(".import-{}-{}", std::process::id(), &sha256[..12]));
        let id = self.free_id(path, &sha256);
        let result = self.move_in(&files, &sidecar, &fresh, &self.models.join(&id));
        if result.is_err() {
            // The first error matters; what is left behind has a name that nothing reads.
            let _ = std::fs::remove_dir_all(&fresh);
        }
        result?;
        let place = self.path_of(&id, &sidecar);
        self.records.put(&place, sha256, inspection.facts);
        Ok(self.describe(Resolved {
            path: place,
            id,
            source: Source::Imported,
        }))
    }

    /// Removes what broken-off imports and removals left behind.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.models) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with(".import-") || name.starts_with(".removed-");
            let old = entry
                .metadata()
                .and_then(|about| about.modified())
                .ok()
                .and_then(|changed| changed.elapsed().ok())
                .is_some_and(|age| age > LEFT_BEHIND);
            if ours && old {
                // The next import tries again.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Fills the folder `fresh` and gives it its final name at once.
    fn move_in(
        &self,
        files: &[(PathBuf, String)],
        sidecar: &Sidecar,
        fresh: &Path,
        target: &Path,
    ) -> Result<(), Error> {
        place_files(files, fresh)?;
        seal(fresh, sidecar, target, &self.models)
    }

    /// The model on this machine that has these very weights and, of a folder, the same files besides.
    fn same_weights(
        &self,
        sha256: &str,
        hashes: &[(String, String)],
    ) -> Result<Option<Resolved>, Error> {
        if let Ok(starter) = &self.starter
            && let Ok(record) = self.records.read(&starter.model())
            && record.sha256 == sha256
        {
            return Ok(Some(Resolved {
                id: STARTER_ID.to_owned(),
                path: starter.model(),
                source: Source::Starter,
            }));
        }
        for (folder, sidecar) in self.sidecars()? {
            let kept = self.kept(&folder, &sidecar);
            let path = &kept.path;
            let same_others = || {
                hashes
                    .iter()
                    .filter(|(name, _)| !is_weights(name))
                    .all(|(name, hash)| {
                        sha256_file(&path.join(name)).is_ok_and(|have| have == *hash)
                    })
            };
            if sidecar.sha256 == sha256 && path.exists() && same_others() {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }

    /// A new folder on the library's disk for a model that is being made; `keep_made` takes it in. What a broken-off program
    /// leaves is swept away a day later.
    pub fn workshop(&self) -> Result<PathBuf, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        std::fs::create_dir_all(&self.models).map_err(Error::io("make", &self.models))?;
        self.sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = self
            .models
            .join(format!(".import-{}-made-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        Ok(folder)
    }

    /// Takes in a model that was made in `folder` (of `workshop`), in the place of one that was made under this reference
    /// before. It is checked whole first.
    pub fn keep_made(&self, folder: &Path, made: &Made) -> Result<Installed, Error> {
        let inside = match &made.file {
            Some(file) => folder.join(file),
            None => folder.to_owned(),
        };
        let inspection = inspect(&inside)?;
        let mut hashes = Vec::new();
        for file in model_files(&inside)? {
            hashes.push((file_name(&file), sha256_file(&file)?));
        }
        let sha256 = sha256_weights(&hashes);
        let sidecar = Sidecar {
            name: made.name.clone(),
            file: made.file.clone(),
            sha256: sha256.clone(),
            origin: made.origin.clone(),
            imported_at: seconds_now(),
            reference: Some(made.reference.clone()),
        };
        if self.find_kept(&made.reference).is_some() {
            self.remove(&made.reference)?;
        }
        let id = self.free_id(
            Path::new(&made.reference.replace([':', '@', '/'], "-")),
            &sha256,
        );
        seal(folder, &sidecar, &self.models.join(&id), &self.models)?;
        let resolved = self.kept(&id, &sidecar);
        self.records.put(&resolved.path, sha256, inspection.facts);
        Ok(self.describe(resolved))
    }

    /// An id from the name; with the beginning of the hash if the name is taken.
    fn free_id(&self, path: &Path, sha256: &str) -> String {
        let plain = slug(path);
        let taken = |id: &str| Known::find(id).is_some() || self.models.join(id).exists();
        if !taken(&plain) {
            return plain;
        }
        let mut id = format!("{plain}-{}", &sha256[..6]);
        let mut number = 2;
        while taken(&id) {
            id = format!("{plain}-{}-{number}", &sha256[..6]);
            number += 1;
        }
        id
    }

    /// Removes a model of the library and its files, or one of the hub's cache with what nothing else uses of it.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        let Some((folder, sidecar)) = self.find_kept(id) else {
            return self.remove_other(id);
        };
        self.records.forget(&self.path_of(&folder, &sidecar));
        let place = self.models.join(&folder);
        // Out of sight first, so that a removal broken off halfway leaves no half model.
        let gone = self
            .models
            .join(format!(".removed-{}-{folder}", std::process::id()));
        std::fs::rename(&place, &gone).map_err(Error::io("remove", &place))?;
        std::fs::remove_dir_all(&gone).map_err(Error::io("remove", &gone))
    }

    fn remove_other(&self, id: &str) -> Result<(), Error> {
        let resolved = self.resolve(id)?;
        match resolved.source {
            Source::Starter => return Err(Error::Permanent(id.to_owned())),
            Source::HubCache => {}
            Source::Imported | Source::Made | Source::Path => {
                return Err(Error::Reference {
                    reference: id.to_owned(),
                    problem: "it is not in the library, so there is nothing to remove; delete the file yourself"
                        .to_owned(),
                });
            }
        }
        let asked = ModelReference::parse(&resolved.id)?;
        if let Some(model) = self.hub.model_on_this_machine(&asked.repo) {
            self.records.forget(&model.path);
            self.hub.delete(&model)?;
        }
        Ok(())
    }

    /// Bytes of all imported files.
    pub fn imported_bytes(&self) -> u64 {
        let Ok(models) = self.sidecars() else {
            return 0;
        };
        models
            .iter()
            .filter_map(|(id, _)| std::fs::read_dir(self.models.join(id)).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .map(|about| about.len())
            .sum()
    }

    /// The model of the library that is called `reference`, with its folder's name.
    fn find_kept(&self, reference: &str) -> Option<(String, Sidecar)> {
        if let Some(sidecar) = self.sidecar(reference)
            && sidecar.reference.is_none()
        {
            return Some((reference.to_owned(), sidecar));
        }
        self.sidecars()
            .ok()?
            .into_iter()
            .find(|(_, sidecar)| sidecar.reference.as_deref() == Some(reference))
    }

    fn kept(&self, folder: &str, sidecar: &Sidecar) -> Resolved {
        Resolved {
            path: self.path_of(folder, sidecar),
            id: sidecar
                .reference
                .clone()
                .unwrap_or_else(|| folder.to_owned()),
            source: if sidecar.reference.is_some() {
                Source::Made
            } else {
                Source::Imported
            },
        }
    }

    fn path_of(&self, id: &str, sidecar: &Sidecar) -> PathBuf {
        let folder = self.models.join(id);
        match &sidecar.file {
            Some(file) => folder.join(file),
            None => folder,
        }
    }

    /// The sidecar of an id; none if it is no plain name or not in the library.
    fn sidecar(&self, id: &str) -> Option<Sidecar> {
        let plain = !id.starts_with('.')
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if !plain {
            return None;
        }
        let text = std::fs::read(self.models.join(id).join(SIDECAR)).ok()?;
        let sidecar: Sidecar = serde_json::from_slice(&text).ok()?;
        // A name with a slash would lead out of the library.
        let inside = sidecar
            .file
            .as_ref()
            .is_none_or(|file| !file.contains(['/', '\\']) && file != "..");
        inside.then_some(sidecar)
    }

    /// Every imported model, by id.
    fn sidecars(&self) -> Result<Vec<(String, Sidecar)>, Error> {
        let entries = match std::fs::read_dir(&self.models) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.models)(error)),
        };
        let mut found: Vec<(String, Sidecar)> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|id| {
                let sidecar = self.sidecar(&id)?;
                Some((id, sidecar))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}

/// A model that was made here, to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What commands will take as MODEL.
    pub reference: String,
    /// For people.
    pub name: String,
    /// The file in its folder that is opened; none is the folder itself.
    pub file: Option<String>,
    /// What it was made from, in words.
    pub origin: String,
}

/// Writes `billion.json` into a folder and gives it its final name in `models` at once.
fn seal(folder: &Path, sidecar: &Sidecar, target: &Path, models: &Path) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(sidecar).expect("plain data serialises");
    let place = folder.join(SIDECAR);
    std::fs::write(&place, text)
        .and_then(|()| std::fs::File::open(&place)?.sync_all())
        .map_err(Error::io("write", &place))?;
    sync_folder(folder);
    std::fs::rename(folder, target).map_err(Error::io("write", target))?;
    sync_folder(models);
    Ok(())
}

fn cached(model: &HubModel) -> Resolved {
    Resolved {
        id: model.id.clone(),
        path: model.path.clone(),
        source: Source::HubCache,
    }
}

fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn display_name(path: &Path) -> String {
    let name = file_name(path);
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests;
