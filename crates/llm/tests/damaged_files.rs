//! Thousands of damaged copies of valid files: opening one never panics, never takes long, never reserves memory that
//! the file could not fill. Deterministic: a failure prints the case's number, which makes it again.
//!
//! Flipped bits inside weights cannot be seen by a parser; `generate` reports logits that are not numbers.

mod fixtures;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use billion_llm::models;
use billion_llm::weights::Weights;
use fixtures::fixture;

/// Damaged files of each kind; `./test --full` tries twenty times as many.
fn cases() -> u64 {
    let full = std::env::var_os("BILLION_FULL").is_some();
    if full { 20_000 } else { 1000 }
}
/// A case opens, describes and checks a file of 200 kB; a busy machine may pause it.
const MOST_TIME: Duration = Duration::from_secs(1);
/// Address space that may be added by all cases together: maps of files, the heap, other threads. An allocation sized
/// by a damaged header would be far larger.
const MOST_ADDED_BYTES: u64 = 512 << 20;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Numbers at the edges of integer types, sizes and checks.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    31,
    255,
    256,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffe0,
    u64::MAX,
];

/// Damages the header (the first `header` bytes) of a file in one of several ways.
fn damage(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    match random.below(8) {
        0 => bytes.truncate(random.below(header)),
        1 => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
        }
        2 => {
            for _ in 0..=random.below(8) {
                bytes[random.below(header)] ^= 1 << random.below(8);
            }
        }
        3 => bytes[random.below(header)] = random.next() as u8,
        4 => {
            let at = random.below(header - 8);
            let edge = EDGES[random.below(EDGES.len())];
            bytes[at..at + 8].copy_from_slice(&edge.to_le_bytes());
        }
        5 => {
            let at = random.below(header - 4);
            let edge = EDGES[random.below(EDGES.len())] as u32;
            bytes[at..at + 4].copy_from_slice(&edge.to_le_bytes());
        }
        6 => {
            // A part of the header is repeated elsewhere: duplicates and shifted fields.
            let len = 1 + random.below(64);
            let from = random.below(header - len);
            let to = random.below(header - len);
            bytes.copy_within(from..from + len, to);
        }
        _ => {
            let at = random.below(header);
            let len = random.below(64).min(header - at);
            bytes.drain(at..at + len);
        }
    }
}

/// Opens a model file or folder as far as can be done without loading it.
fn open(path: &Path) -> bool {
    Weights::open(path)
        .and_then(|weights| {
            let description = models::describe(&weights)?;
            models::tensors(&weights, &description).map(|_| ())
        })
        .is_ok()
}

/// Writes damaged copies of `whole` to `path` and opens `model` each time.
fn survive(whole: &[u8], header: usize, path: &Path, model: &Path, seed: u64) {
    assert!(open(model), "the undamaged model opens");
    let before = peak_address_space();
    assert!(before > 0 || !cfg!(target_os = "linux"));
    let mut accepted = 0;
    let cases = cases();
    for case in 0..cases {
        let mut random = Random(seed ^ case);
        let mut bytes = whole.to_vec();
        damage(&mut bytes, header, &mut random);
        fs::write(path, &bytes).expect("a temporary file can be written");
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(|| open(model));
        let took = start.elapsed();
        assert!(outcome.is_ok(), "case {case} panicked");
        assert!(took < MOST_TIME, "case {case} took {took:?}");
        accepted += u64::from(outcome.is_ok_and(|ok| ok));
    }
    let added = peak_address_space().saturating_sub(before);
    println!("{cases} cases, {accepted} still open, {added} bytes of address space added");
    assert!(
        added < MOST_ADDED_BYTES,
        "{added} bytes of address space added"
    );
    assert!(accepted < cases / 2, "most damage is noticed");
}

/// `VmPeak` of this process; 0 where the system does not tell.
fn peak_address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Where the tensor data starts: after the last name of the table and what follows it.
fn gguf_header(bytes: &[u8]) -> usize {
    let last = bytes
        .windows(4)
        .rposition(|window| window == b"blk.")
        .expect("a table of tensors");
    last + 64
}

#[test]
fn damaged_gguf() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (seed, name) in [
        (1 << 32, "gqa.gguf"),
        (2 << 32, "llama3.gguf"),
        (7 << 32, "families/stablelm_12b.gguf"),
        (8 << 32, "families/pythia.gguf"),
    ] {
        let whole = fs::read(fixture(name)).unwrap();
        fs::write(&path, &whole).unwrap();
        survive(&whole, gguf_header(&whole), &path, &path, seed);
    }
}

#[test]
fn damaged_safetensors() {
    let folder = fixtures::copy_of("gqa");
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    survive(&whole, header, &path, folder.path(), 3 << 32);
}

#[test]
fn damaged_configuration_and_index() {
    for (seed, name, file) in [
        (4 << 32, "gqa", "config.json"),
        (5 << 32, "llama3", "config.json"),
        (9 << 32, "families/stablelm_12b", "config.json"),
        (10 << 32, "families/pythia", "config.old.json"),
        (6 << 32, "llama3", "model.safetensors.index.json"),
    ] {
        let folder = fixtures::copy_of(name);
        let whole = fs::read(folder.path().join(file)).unwrap();
        let path = folder.path().join(file.replace(".old", ""));
        survive(&whole, whole.len(), &path, folder.path(), seed);
    }
}

#[test]
fn every_truncation_of_a_small_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let whole = fixtures::Gguf::new()
        .text_entry("general.architecture", b"llama")
        .u32_entry("llama.block_count", 1)
        .tensor("token_embd.weight", &[32, 4], 0, 0)
        .data(512)
        .bytes();
    fs::write(&path, &whole).unwrap();
    assert!(Weights::open(&path).is_ok());
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(
            Weights::open(&path).is_err(),
            "{len} bytes of {}",
            whole.len()
        );
    }
}
