//! The models on this machine: the starter model and the imported ones, found by reference, listed, added and removed.
//!
//! An imported model is a folder `models/ID` in the data folder that holds its files and `billion.json`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::catalogue::{CATALOGUE, Known, near_misses};
use crate::facts::{Facts, Inspection, inspect};
use crate::fingerprint::{Records, file_name, is_weights, sha256_file, sha256_weights};
use crate::import::{model_files, place_files, slug, sync_folder};
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
    /// Where it was imported from.
    origin: String,
    /// Seconds since the Unix epoch.
    imported_at: u64,
}

/// The models on this machine.
#[derive(Debug)]
pub struct Library {
    models: PathBuf,
    records: Records,
    starter: Result<StarterPack, Vec<PathBuf>>,
}

impl Library {
    /// The library in `data_folder`, with the starter pack found in `places`. Nothing is made before something is
    /// imported.
    pub fn open(data_folder: &Path, places: &Places) -> Self {
        Self {
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

    /// Every model on this machine: the starter first, then the imported ones by id. Models that cannot be used are
    /// listed with the reason.
    pub fn installed(&self) -> Result<Vec<Installed>, Error> {
        let mut found = Vec::new();
        if let Ok(starter) = &self.starter {
            found.push(self.describe(Resolved {
                id: STARTER_ID.to_owned(),
                path: starter.model(),
                source: Source::Starter,
            }));
        }
        for (id, sidecar) in self.sidecars()? {
            let path = self.path_of(&id, &sidecar);
            found.push(self.describe(Resolved {
                id,
                path,
                source: Source::Imported,
            }));
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
            Source::Imported => self.sidecar(&resolved.id).map(|sidecar| sidecar.name),
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

    /// Follows a MODEL reference (cli.md): an id or short name, a `.gguf` file, or a model folder.
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
        if let Some(sidecar) = self.sidecar(reference) {
            return Ok(Resolved {
                path: self.path_of(reference, &sidecar),
                id: reference.to_owned(),
                source: Source::Imported,
            });
        }
        if let Some(known) = Known::find(reference) {
            return self.known(known);
        }
        if reference.starts_with("hf:") {
            return fail(
                "this version downloads nothing; get the .gguf file yourself, then: billion models import FILE",
            );
        }
        let path = Path::new(reference);
        let looks_like_path = reference.contains(['/', '\\'])
            || path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if path.exists() {
            let path = path.canonicalize().map_err(Error::io("read", path))?;
            return Ok(Resolved {
                id: path.display().to_string(),
                path,
                source: Source::Path,
            });
        }
        if looks_like_path {
            return fail("there is no such file or folder");
        }
        let name = reference.split(['@', ':']).next().unwrap_or(reference);
        if name != reference && (Known::find(name).is_some() || self.sidecar(name).is_some()) {
            return fail(
                "this version has neither checkpoints (@) nor its own quantizations (:); import the file you want with: billion models import FILE",
            );
        }
        Err(Error::Unknown {
            reference: reference.to_owned(),
            near: self.near(name),
        })
    }

    fn known(&self, known: &'static Known) -> Result<Resolved, Error> {
        if known.id != STARTER_ID {
            return Err(Error::NotInstalled {
                id: known.id,
                name: known.name,
            });
        }
        Ok(Resolved {
            id: STARTER_ID.to_owned(),
            path: self.starter()?.model(),
            source: Source::Starter,
        })
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
            imported_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
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
        let text = serde_json::to_string_pretty(sidecar).expect("plain data serialises");
        let place = fresh.join(SIDECAR);
        std::fs::write(&place, text)
            .and_then(|()| std::fs::File::open(&place)?.sync_all())
            .map_err(Error::io("write", &place))?;
        sync_folder(fresh);
        std::fs::rename(fresh, target).map_err(Error::io("write", target))?;
        sync_folder(&self.models);
        Ok(())
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
        for (id, sidecar) in self.sidecars()? {
            let path = self.path_of(&id, &sidecar);
            let same_others = || {
                hashes
                    .iter()
                    .filter(|(name, _)| !is_weights(name))
                    .all(|(name, hash)| {
                        sha256_file(&path.join(name)).is_ok_and(|have| have == *hash)
                    })
            };
            if sidecar.sha256 == sha256 && path.exists() && same_others() {
                return Ok(Some(Resolved {
                    id,
                    path,
                    source: Source::Imported,
                }));
            }
        }
        Ok(None)
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

    /// Removes an imported model and its files.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        let Some(sidecar) = self.sidecar(id) else {
            if Known::find(id).is_some_and(|known| known.id == STARTER_ID) {
                return Err(Error::Permanent(id.to_owned()));
            }
            return Err(match self.resolve(id) {
                Ok(_) => Error::Reference {
                    reference: id.to_owned(),
                    problem: "it is not in the library, so there is nothing to remove; delete the file yourself"
                        .to_owned(),
                },
                Err(error) => error,
            });
        };
        self.records.forget(&self.path_of(id, &sidecar));
        let folder = self.models.join(id);
        // Out of sight first, so that a removal broken off halfway leaves no half model.
        let gone = self
            .models
            .join(format!(".removed-{}-{id}", std::process::id()));
        std::fs::rename(&folder, &gone).map_err(Error::io("remove", &folder))?;
        std::fs::remove_dir_all(&gone).map_err(Error::io("remove", &gone))
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

fn display_name(path: &Path) -> String {
    let name = file_name(path);
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests;
