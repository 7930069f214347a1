//! The compiled interpreter, kept on disk so that its seconds of compiling are spent once.
//!
//! What is kept is machine code that will run, so a file is used only if all of this holds: it is readable by its owner
//! alone (Unix), it was made from the same WebAssembly by the same wasmtime with the same settings for this processor,
//! and its SHA-256 over that key and the code is the one it carries. It is read once, and the bytes that were checked are
//! the bytes that run. Anything else is compiled anew and replaced.
//!
//! This guards against damage: a disk, a write cut short, another version, a file from another machine, and a folder that
//! other users may read or write. It does not guard against someone who can write the user's own files, who could as well
//! replace this program.

use std::hash::{Hash as _, Hasher};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, Module};

use crate::Error;

const MAGIC: &[u8; 16] = b"billion-cwasm-1\n";

/// A compiled interpreter is about 40 MB; no file beyond this is read.
const MOST_BYTES: u64 = 512 << 20;

/// The compiled module of the file `wasm`, from `folder` if it lies there sound; else compiled, and kept there if that is
/// possible. Tells whether it had to be compiled.
pub(super) fn module(engine: &Engine, wasm: &Path, folder: &Path) -> Result<(Module, bool), Error> {
    let bytes = std::fs::read(wasm).map_err(|source| Error::Read {
        path: wasm.to_owned(),
        source,
    })?;
    let key = key(engine, &bytes);
    let path = folder.join(format!("python-{}.cwasm", hex(&key[..8])));
    if let Some(module) = kept(engine, &path, &key) {
        return Ok((module, false));
    }
    let failed = |e: wasmtime::Error| Error::Sandbox {
        what: format!("cannot compile {}", wasm.display()),
        problem: format!("{e:#}; fetch the starter pack anew"),
    };
    let module = Module::new(engine, &bytes).map_err(failed)?;
    let code = module.serialize().map_err(failed)?;
    // Without a cache everything works, only later.
    if keep(&path, &key, &code).is_ok() {
        forget_others(folder, &path);
    }
    Ok((module, true))
}

/// What the code depends on: the interpreter, and all of wasmtime that decides about machine code.
fn key(engine: &Engine, wasm: &[u8]) -> [u8; 32] {
    /// Feeds what wasmtime hashes of its settings, version and target to SHA-256.
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(Sha256::new());
    feed.0.update(Sha256::digest(wasm));
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().into()
}

fn kept(engine: &Engine, path: &Path, key: &[u8; 32]) -> Option<Module> {
    let file = std::fs::File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !is_private(&metadata) || metadata.len() > MOST_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let rest = bytes.strip_prefix(MAGIC)?;
    let (digest, code) = rest.split_at_checked(32)?;
    if digest != seal(key, code) {
        return None;
    }
    #[expect(unsafe_code, reason = "wasmtime has no safe way to load compiled code")]
    // SAFETY: `code` must be what `Module::serialize` gave, unmodified. The digest just checked over the key and these
    // very bytes in memory says so, for a file that only its owner can have written (`is_private`).
    let module = unsafe { Module::deserialize(engine, code) };
    module.ok()
}

fn keep(path: &Path, key: &[u8; 32], code: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(MAGIC)?;
        file.write_all(&seal(key, code))?;
        file.write_all(code)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

/// Removes what other versions kept: each would lie there for good.
fn forget_others(folder: &Path, path: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let is_ours = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("python-") && name.ends_with(".cwasm")
    };
    for other in entries.flatten().map(|e| e.path()).filter(is_ours) {
        if other != path {
            let _ = std::fs::remove_file(other);
        }
    }
}

#[cfg(unix)]
fn is_private(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let others = metadata.permissions().mode() & 0o077;
    metadata.is_file() && others == 0
}

/// Elsewhere the user's data folder is private by what it inherits.
#[cfg(not(unix))]
fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file()
}

fn seal(key: &[u8; 32], code: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(key)
        .chain_update(code)
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(module (func (export "f") (result i32) i32.const 7))`
    const WASM: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x06\x01\x04\0\x41\x07\x0b";

    fn seven(module: &Module, engine: &Engine) -> i32 {
        let mut store = wasmtime::Store::new(engine, ());
        let instance = wasmtime::Instance::new(&mut store, module, &[]).expect("instance");
        let f = instance
            .get_typed_func::<(), i32>(&mut store, "f")
            .expect("f");
        f.call(&mut store, ()).expect("runs")
    }

    #[test]
    fn code_is_kept_and_damage_or_an_open_file_is_compiled_anew() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let wasm = dir.path().join("python.wasm");
        std::fs::write(&wasm, WASM).expect("written");
        let folder = dir.path().join("cache");
        let engine = Engine::default();
        let open = || {
            let (module, compiled) = super::module(&engine, &wasm, &folder).expect("opened");
            assert_eq!(seven(&module, &engine), 7);
            compiled
        };
        assert!(open() && !open());
        let entry = || {
            let mut files = std::fs::read_dir(&folder).expect("there");
            let path = files.next().expect("one file").expect("readable").path();
            assert!(files.next().is_none(), "one file");
            path
        };
        let path = entry();
        let sound = std::fs::read(&path).expect("read");
        for at in [0, 20, 60, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).expect("written");
            assert!(open() && !open(), "a damaged byte {at}");
        }
        for cut in [0, 16, 47, sound.len() - 1] {
            std::fs::write(&path, &sound[..cut]).expect("written");
            assert!(open() && !open(), "cut at {cut}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |m| std::fs::set_permissions(&path, PermissionsExt::from_mode(m));
            mode(0o644).expect("set");
            assert!(open() && !open(), "a file that others can read");
        }
        // Other WebAssembly, other settings: another file, and the old one goes.
        let mut eight = WASM.to_vec();
        eight[WASM.len() - 2] = 8;
        std::fs::write(&wasm, eight).expect("written");
        let (_, compiled) = super::module(&engine, &wasm, &folder).expect("opened");
        assert!(compiled && entry() != path);
        // A folder that cannot be written costs only time.
        let (_, compiled) = super::module(&engine, &wasm, &wasm.join("no")).expect("opened");
        assert!(compiled);
        std::fs::write(&wasm, b"no wasm").expect("written");
        let error = super::module(&engine, &wasm, &folder).expect_err("no wasm");
        assert!(error.to_string().contains("cannot compile"), "{error}");
    }
}
