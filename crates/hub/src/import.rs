//! Brings a model file or folder of the person's own into the library: checked first, then linked or copied, and in place
//! all at once or not at all.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Error;
use crate::fingerprint::{file_name, hex};

/// Files that a model folder may hold beside its safetensors and that say how to run it.
pub(crate) const FOLDER_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
];

const INDEX: &str = "model.safetensors.index.json";

/// The files of the model at `path`, sorted: the file itself, or of a folder its configuration, tokenizer, index and
/// safetensors (those that the index names, where there is one). A folder that holds GGUF files only counts those.
pub(crate) fn model_files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let about = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !about.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let sharded = index_shards(path);
    let mut safetensors = Vec::new();
    let mut ggufs = Vec::new();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
        let file = entry.map_err(Error::io("read", path))?.path();
        let name = file_name(&file);
        let extension = file.extension().and_then(|e| e.to_str());
        if !file.is_file() {
            continue;
        }
        match extension {
            Some("safetensors") if sharded.as_ref().is_none_or(|names| names.contains(&name)) => {
                safetensors.push(file);
            }
            Some("gguf") => ggufs.push(file),
            _ if FOLDER_FILES.contains(&name.as_str()) => files.push(file),
            _ => {}
        }
    }
    files.extend(if safetensors.is_empty() {
        ggufs
    } else {
        safetensors
    });
    files.sort();
    Ok(files)
}

/// Names of the shards by the index; none without a readable index.
fn index_shards(folder: &Path) -> Option<BTreeSet<String>> {
    let text = std::fs::read(folder.join(INDEX)).ok()?;
    let index: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let shards = index.get("weight_map")?.as_object()?;
    Some(
        shards
            .values()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    )
}

/// Weights are shared with the person's own file where the disk allows: they are large, and programs replace them whole.
fn may_link(file: &Path) -> bool {
    file.extension()
        .is_some_and(|ending| ending == "gguf" || ending == "safetensors")
}

/// Puts `files` into the new folder `into`: weights by a hard link where the disk allows; what people edit in place
/// (configurations, templates), and the rest, by a copy whose hash must be the one found before. Everything is on the disk
/// when this returns.
pub(crate) fn place_files(files: &[(PathBuf, String)], into: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(into).map_err(Error::io("make", into))?;
    let mut to_copy = Vec::new();
    for (file, hash) in files {
        let target = into.join(file_name(file));
        // A link to a link would not do: the library must hold the bytes.
        let source = file.canonicalize().map_err(Error::io("read", file))?;
        if !may_link(file) || std::fs::hard_link(&source, &target).is_err() {
            to_copy.push((source, target, hash));
        }
    }
    let need_bytes: u64 = to_copy
        .iter()
        .filter_map(|(source, _, _)| std::fs::metadata(source).ok())
        .map(|about| about.len())
        .sum();
    if let Some(free_bytes) = free_disk_bytes(into)
        && need_bytes > free_bytes
    {
        return Err(Error::NoRoom {
            path: files.first().map_or_else(PathBuf::new, |(f, _)| f.clone()),
            need_bytes,
            // The person knows the library, not the place of this one import.
            folder: into.parent().unwrap_or(into).to_owned(),
            free_bytes,
        });
    }
    for (source, target, hash) in to_copy {
        if copy(&source, &target)? != *hash {
            return Err(Error::Changed(source));
        }
    }
    sync_folder(into);
    Ok(())
}

/// Copies, flushes to the disk, and gives the hash of what was copied.
fn copy(source: &Path, target: &Path) -> Result<String, Error> {
    let mut from = std::fs::File::open(source).map_err(Error::io("read", source))?;
    let mut to = std::fs::File::create_new(target).map_err(Error::io("write", target))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = from.read(&mut buffer).map_err(Error::io("read", source))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])
            .map_err(Error::io("write", target))?;
    }
    to.sync_all().map_err(Error::io("write", target))?;
    Ok(hex(&hasher.finalize()))
}

/// Makes the names in a folder durable, where the system can.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(dir) = std::fs::File::open(folder) {
        // Not every file system can; the names are then written a little later.
        let _ = dir.sync_all();
    }
}

#[cfg(unix)]
pub(crate) fn free_disk_bytes(folder: &Path) -> Option<u64> {
    let about = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(about.blocks_available() as u64 * about.fragment_size() as u64)
}

#[cfg(not(unix))]
pub(crate) fn free_disk_bytes(_: &Path) -> Option<u64> {
    None
}

/// An id from a file's or folder's name: lower case, digits, '.', '_' and '-'.
pub(crate) fn slug(path: &Path) -> String {
    let name = file_name(path);
    let stem = name
        .strip_suffix(".gguf")
        .or_else(|| name.strip_suffix(".safetensors"))
        .unwrap_or(&name);
    let mut id = String::new();
    for c in stem.to_lowercase().chars().take(80) {
        let c = if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            c
        } else {
            '-'
        };
        if c != '-' || !id.ends_with('-') {
            id.push(c);
        }
    }
    let id = id.trim_matches(['-', '.']);
    if id.is_empty() {
        "model".to_owned()
    } else {
        id.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::sha256_file;

    #[test]
    fn ids_are_plain() {
        for (name, id) in [
            (
                "/x/TinyLlama-1.1B-Chat_v1.0.Q4_K_M.gguf",
                "tinyllama-1.1b-chat_v1.0.q4_k_m",
            ),
            ("My  model: (2).gguf", "my-model-2"),
            ("..", "model"),
            ("Ünïcode", "n-code"),
            ("---.gguf", "model"),
        ] {
            assert_eq!(slug(Path::new(name)), id, "{name}");
        }
    }

    #[test]
    fn a_folder_gives_only_what_is_needed_to_run_it() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [
            "config.json",
            "tokenizer.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "pytorch_model.bin",
            "notes.txt",
        ] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        std::fs::create_dir(dir.path().join("deep.safetensors")).expect("made");
        let names = || -> Vec<String> {
            model_files(dir.path())
                .expect("read")
                .iter()
                .map(|f| file_name(f))
                .collect()
        };
        assert_eq!(
            names(),
            [
                "config.json",
                "model-1.safetensors",
                "model-2.safetensors",
                "tokenizer.json"
            ]
        );
        let index = r#"{"weight_map": {"a": "model-2.safetensors"}}"#;
        std::fs::write(dir.path().join(INDEX), index).expect("written");
        assert_eq!(
            names(),
            [
                "config.json",
                "model-2.safetensors",
                INDEX,
                "tokenizer.json"
            ]
        );
    }

    #[test]
    fn copies_are_whole_and_links_to_links_become_the_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("real.gguf");
        std::fs::write(&file, vec![7; 3 << 20]).expect("written");
        let target = dir.path().join("copied.gguf");
        let hash = copy(&file, &target).expect("copied");
        assert_eq!(hash, sha256_file(&target).expect("read"));
        assert!(copy(&file, &target).is_err(), "never over an existing file");
        #[cfg(unix)]
        {
            let link = dir.path().join("link.gguf");
            std::os::unix::fs::symlink(&file, &link).expect("linked");
            let into = dir.path().join("into");
            place_files(&[(link, hash)], &into).expect("placed");
            std::fs::remove_file(&file).expect("removed");
            assert_eq!(
                std::fs::read(into.join("link.gguf")).expect("read").len(),
                3 << 20
            );
        }
    }
}
