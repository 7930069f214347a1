//! PyTorch checkpoints become safetensors with the same numbers, and nothing in them is run: files by torch
//! (`checkpoints/make.py`), and hostile ones built here.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fixtures;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use billion_llm::checkpoint::Progress;
use billion_llm::load::ModelFiles;
use billion_llm::weights::Weights;
use billion_llm::{Error, convert_checkpoint};
use fixtures::{copy_of, fixture};
use safetensors::SafeTensors;
use tempfile::TempDir;

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/checkpoints")
        .join(name)
}

/// A folder with this checkpoint alone.
fn folder_of(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    folder
}

fn convert(folder: &Path) -> Result<PathBuf, Error> {
    convert_checkpoint(folder, &mut |_| ControlFlow::Continue(()))
}

/// What converting says of a checkpoint that it must refuse within a second, leaving nothing behind.
fn refusal(bytes: &[u8]) -> String {
    let folder = folder_of(bytes);
    let start = Instant::now();
    let message = convert(folder.path())
        .expect_err("must be refused")
        .to_string();
    assert!(start.elapsed() < Duration::from_secs(1), "took too long");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    message
}

#[track_caller]
fn refused_with(bytes: &[u8], parts: &[&str]) {
    let message = refusal(bytes);
    for part in parts.iter().chain(&["pytorch_model.bin"]) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn every_kind_of_number_and_layout_is_what_torch_reads() {
    let folder = folder_of(&fs::read(checkpoint("odd.bin")).unwrap());
    let mut reports = Vec::new();
    let path = convert_checkpoint(folder.path(), &mut |progress| {
        reports.push(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(path, folder.path().join("model.safetensors"));
    let (found, expected) = (
        fs::read(&path).unwrap(),
        fs::read(checkpoint("odd.safetensors")).unwrap(),
    );
    let found = SafeTensors::deserialize(&found).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let mut total = 0;
    for (name, expected) in expected.tensors() {
        let found = found.tensor(&name).unwrap();
        assert_eq!(found.dtype(), expected.dtype(), "{name}");
        assert_eq!(found.shape(), expected.shape(), "{name}");
        assert_eq!(found.data(), expected.data(), "{name}");
        total += found.data().len() as u64;
    }
    assert_eq!(found.len(), expected.len());
    assert!(reports.is_sorted_by_key(|report| report.done_bytes));
    let last = Progress {
        done_bytes: total,
        total_bytes: total,
    };
    assert_eq!(reports.last(), Some(&last));
    // The pickle stays; nothing else is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// A model folder whose weights are two shards.
fn sharded() -> TempDir {
    let folder = copy_of("families/stablelm_12b");
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let original = Weights::open(&fixture("families/stablelm_12b")).unwrap();
    let mut map = serde_json::Map::new();
    for (index, name) in original.names().enumerate() {
        let number = if index < 20 { 1 } else { 2 };
        map.insert(
            name.to_owned(),
            format!("pytorch_model-0000{number}-of-00002.bin").into(),
        );
    }
    for number in [1, 2] {
        let shard = format!("pytorch_model-0000{number}-of-00002.bin");
        fs::copy(
            checkpoint(&format!("tiny.{number}.bin")),
            folder.path().join(shard),
        )
        .unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    let path = folder.path().join("pytorch_model.bin.index.json");
    fs::write(path, index.to_string()).unwrap();
    folder
}

#[test]
fn a_sharded_model_is_the_same_model() {
    let folder = sharded();
    let before = ModelFiles::open(folder.path()).unwrap_err().to_string();
    assert!(before.contains("PyTorch pickle"), "{before}");
    convert(folder.path()).unwrap();
    let (found, expected) = (
        ModelFiles::open(folder.path()).unwrap(),
        ModelFiles::open(&fixture("families/stablelm_12b")).unwrap(),
    );
    assert_eq!(found.spec(), expected.spec());
    let pairs = found.weights().names().zip(expected.weights().names());
    for (name, other) in pairs {
        assert_eq!(name, other);
        let views =
            [found.weights(), expected.weights()].map(|weights| weights.require(name).unwrap());
        assert_eq!(views[0].bytes, views[1].bytes, "{name}");
    }
    // Once is enough: a second look changes nothing, whatever became of the pickles.
    fs::remove_file(folder.path().join("pytorch_model-00001-of-00002.bin")).unwrap();
    assert!(convert(folder.path()).is_ok());
}

#[test]
fn shards_that_are_missing_or_elsewhere() {
    let folder = sharded();
    let index = folder.path().join("pytorch_model.bin.index.json");
    let refused = |parts: &[&str]| {
        let message = convert(folder.path()).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    };
    let text = fs::read_to_string(&index).unwrap();
    let write = |text: &str| fs::write(&index, text).unwrap();
    write(&text.replacen("of-00002.bin", "of-00003.bin", 1));
    refused(&["of-00003.bin"]);
    write(&text.replacen("model.norm.weight", "model.other.weight", 1));
    refused(&["model.other.weight is missing", "-00002-of-00002.bin"]);
    write(r#"{"weight_map": {"a": "../secret.bin"}}"#);
    refused(&["../secret.bin", "not a .bin file of this folder"]);
    write(r#"{"weight_map": {}}"#);
    refused(&["names no tensors"]);
    write("{");
    refused(&["not a valid index"]);
    fs::remove_file(&index).unwrap();
    refused(&["neither pytorch_model.bin nor pytorch_model.bin.index.json"]);
}

#[test]
fn a_cancelled_conversion_leaves_nothing_and_can_begin_again() {
    let folder = folder_of(&fs::read(checkpoint("odd.bin")).unwrap());
    let outcome = convert_checkpoint(folder.path(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // As a process that was killed leaves it.
    let partial = folder.path().join("model.safetensors.partial");
    fs::write(&partial, vec![7; 100_000]).unwrap();
    let locked = fs::File::open(&partial).unwrap();
    locked.lock().unwrap();
    let message = convert(folder.path()).unwrap_err().to_string();
    assert!(message.contains("another process"), "{message}");
    drop(locked);
    let path = convert(folder.path()).unwrap();
    assert!(!partial.exists());
    SafeTensors::deserialize(&fs::read(path).unwrap()).unwrap();
}

#[test]
fn a_pickle_that_runs_a_command_is_refused_with_what_it_asks_for() {
    let bytes = fs::read(checkpoint("system.bin")).unwrap();
    refused_with(
        &bytes,
        &[
            "byte 172 (GLOBAL)",
            "\"system\" of \"posix\"",
            "nothing of it was run",
        ],
    );
    assert!(!Path::new("/tmp/billion_ran_a_pickle").exists());
}

/// An entry of an archive that need not be true.
#[derive(Clone)]
struct Entry {
    name: String,
    data: Vec<u8>,
    method: u16,
    flags: u16,
    said_bytes: Option<u32>,
    local: Option<u32>,
}

fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: format!("x/{name}"),
        data: data.to_vec(),
        method: 0,
        flags: 0,
        said_bytes: None,
        local: None,
    }
}

fn header(entry: &Entry) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x00\x00".to_vec();
    bytes.extend(entry.flags.to_le_bytes());
    bytes.extend(entry.method.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend((entry.name.len() as u16).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(entry.name.as_bytes());
    bytes.extend(&entry.data);
    bytes
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut table) = (Vec::new(), Vec::new());
    for entry in entries {
        let local = entry.local.unwrap_or(bytes.len() as u32);
        if entry.local.is_none() {
            bytes.extend(header(entry));
        }
        let said = entry.said_bytes.unwrap_or(entry.data.len() as u32);
        table.extend(b"PK\x01\x02\x00\x00\x00\x00");
        table.extend(entry.flags.to_le_bytes());
        table.extend(entry.method.to_le_bytes());
        table.extend([0; 8]);
        table.extend(said.to_le_bytes());
        table.extend(said.to_le_bytes());
        table.extend((entry.name.len() as u16).to_le_bytes());
        table.extend([0; 12]);
        table.extend(local.to_le_bytes());
        table.extend(entry.name.as_bytes());
    }
    let (start, len, count) = (bytes.len() as u32, table.len() as u32, entries.len() as u16);
    bytes.extend(table);
    bytes.extend(b"PK\x05\x06\x00\x00\x00\x00");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A checkpoint of this pickle and one storage of eight F32.
fn of_pickle(pickle: &[u8]) -> Vec<u8> {
    zip(&[entry("data.pkl", pickle), entry("data/0", &[1; 32])])
}

/// LONG1 of eight bytes.
fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &number.to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|&item| int(item)).collect();
    [&b"("[..], &items, b"t"].concat()
}

/// What `_rebuild_tensor_v2` is called with.
struct Said {
    kind: &'static str,
    len: i64,
    offset: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// All eight numbers.
fn whole() -> Said {
    Said {
        kind: "FloatStorage",
        len: 8,
        offset: 0,
        shape: vec![8],
        strides: vec![1],
    }
}

fn tensor(said: &Said) -> Vec<u8> {
    let storage = [
        &b"("[..],
        &text("storage"),
        format!("ctorch\n{}\n", said.kind).as_bytes(),
        &text("0"),
        &text("cpu"),
        &int(said.len),
        b"tQ",
    ]
    .concat();
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n("[..],
        &storage,
        &int(said.offset),
        &tuple(&said.shape),
        &tuple(&said.strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// A pickled dictionary of these names and values.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items
        .iter()
        .flat_map(|(name, value)| [text(name), value.clone()].concat())
        .collect();
    [&b"\x80\x02}("[..], &items, b"u."].concat()
}

#[test]
fn what_is_built_here_is_read_where_it_is_true() {
    let folder = folder_of(&of_pickle(&dict(&[("a", tensor(&whole()))])));
    let path = convert(folder.path()).unwrap();
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("a").unwrap().data(), [1; 32]);
}

#[test]
fn sizes_and_places_that_cannot_be() {
    let refused = |said: Said, parts: &[&str]| {
        refused_with(&of_pickle(&dict(&[("a", tensor(&said))])), parts);
    };
    refused(
        Said {
            strides: vec![-1],
            ..whole()
        },
        &["is -1; none may be negative", "REDUCE"],
    );
    refused(
        Said {
            shape: vec![-8],
            ..whole()
        },
        &["is -8; none may be"],
    );
    refused(
        Said {
            offset: -1,
            ..whole()
        },
        &["is -1; none may be"],
    );
    refused(
        Said { len: -8, ..whole() },
        &["a storage of -8 numbers", "BINPERSID"],
    );
    refused(
        Said {
            len: 1 << 60,
            ..whole()
        },
        &[
            "tensor a",
            "1152921504606846976 numbers of 4",
            "has 32 bytes",
        ],
    );
    refused(
        Said { len: 9, ..whole() },
        &["9 numbers of 4 bytes, but has 32 bytes"],
    );
    refused(
        Said { len: 7, ..whole() },
        &["7 numbers of 4 bytes, but has 32 bytes"],
    );
    refused(
        Said {
            kind: "DoubleStorage",
            ..whole()
        },
        &["8 numbers of 8 bytes, but has 32"],
    );
    refused(
        Said {
            kind: "ComplexFloatStorage",
            ..whole()
        },
        &["ComplexFloatStorage", "torch"],
    );
    refused(
        Said {
            shape: vec![1 << 60],
            ..whole()
        },
        &["[1152921504606846976]", "more numbers than the 8"],
    );
    refused(
        Said {
            shape: vec![1 << 32, 1 << 32],
            strides: vec![0, 0],
            ..whole()
        },
        &["more numbers than the 8"],
    );
    // A few bytes that would become many.
    refused(
        Said {
            shape: vec![1 << 40],
            strides: vec![0],
            ..whole()
        },
        &["more numbers than the 8"],
    );
    refused(
        Said {
            offset: 1,
            ..whole()
        },
        &["[8] with strides [1] from number 1", "beyond the 8"],
    );
    refused(
        Said {
            strides: vec![2],
            ..whole()
        },
        &["strides [2]", "beyond the 8"],
    );
    refused(
        Said {
            strides: vec![i64::MAX],
            ..whole()
        },
        &["beyond the 8"],
    );
    refused(
        Said {
            offset: i64::MAX,
            ..whole()
        },
        &["beyond the 8"],
    );
    refused(
        Said {
            shape: vec![0],
            offset: 9,
            ..whole()
        },
        &["from number 9", "beyond the 8"],
    );
    refused(
        Said {
            strides: vec![1, 1],
            ..whole()
        },
        &["1 dimensions and 2 strides"],
    );
    refused(
        Said {
            shape: vec![1; 9],
            strides: vec![1; 9],
            ..whole()
        },
        &["9 dimensions", "at most 8"],
    );
    // An empty tensor has no numbers that could be elsewhere.
    let empty = Said {
        shape: vec![0, 1 << 40, 1 << 40],
        strides: vec![1, 1, 1],
        ..whole()
    };
    let folder = folder_of(&of_pickle(&dict(&[("a", tensor(&empty))])));
    let made = convert(folder.path()).unwrap();
    assert_eq!(Weights::open(&made).unwrap().tensor_bytes(), 0);
    // Many views of one storage.
    let large = Said {
        len: 1 << 20,
        shape: vec![1 << 20],
        ..whole()
    };
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let views: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), tensor(&large)))
        .collect();
    let storage = entry("data/0", &vec![1; 4 << 20]);
    let folder = folder_of(&zip(&[entry("data.pkl", &dict(&views)), storage]));
    let message = convert(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("838860800 bytes, more than 2 times"),
        "{message}"
    );
}

#[test]
fn every_opcode_and_name_beyond_state_dicts_is_refused_with_its_place() {
    let refused = |program: &[u8], parts: &[&str]| {
        let pickle = [&b"\x80\x02"[..], program].concat();
        refused_with(&of_pickle(&pickle), parts);
    };
    refused(
        b"cbuiltins\neval\n.",
        &["byte 2 (GLOBAL)", "\"eval\" of \"builtins\""],
    );
    refused(b"ctorch\nload\n.", &["\"load\" of \"torch\""]);
    refused(
        b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        &["byte 2 (GLOBAL)", "\"system\" of \"os\""],
    );
    refused(
        b"(ios\nsystem\n.",
        &["byte 3 (INST)", "no place in a state dict"],
    );
    refused(b"(ios\nsystem\no.", &["INST"]);
    refused(b"N)\x81.", &["byte 4 (NEWOBJ)"]);
    refused(
        b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
        &["byte 20 (STACK_GLOBAL)"],
    );
    refused(b"\x82\x01.", &["byte 2 (EXT1)"]);
    refused(b"P0\n.", &["byte 2 (PERSID)"]);
    refused(b"S'a'\n.", &["byte 2 (STRING)"]);
    refused(b"\xff.", &["byte 2 (opcode 0xff)"]);
    refused(b"X\x01\x00\x00\x00a)R.", &["REDUCE", "it calls a text"]);
    refused(
        b"ccollections\nOrderedDict\n]R.",
        &["expected a tuple, found a list"],
    );
    refused(
        b"ccollections\nOrderedDict\n(]]tR.",
        &["OrderedDict is called with 2 values"],
    );
    refused(
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        &["RebuildTensor is called with 0 values"],
    );
    refused(
        b"ctorch._utils\n_rebuild_parameter\n(NNNtR.",
        &["a parameter is made of None"],
    );
    refused(b"NQ.", &["BINPERSID", "expected a tuple, found None"]);
    refused(b"NN\x86Q.", &["a storage is described by None, None"]);
    refused(b"N}b.", &["BUILD", "gives None the state a dictionary"]);
    refused(b"NNs.", &["SETITEM", "there is no value"]);
    refused(b"N(NNs.", &["SETITEM", "there is no value"]);
    refused(b"}(Nu.", &["SETITEMS", "a key without a value"]);
    refused(b"u.", &["SETITEMS", "no mark"]);
    refused(b"]Ne.", &["APPENDS", "no mark"]);
    refused(b"}Na.", &["appends to a dictionary"]);
    refused(b"h\x07.", &["nothing was remembered as 7"]);
    refused(b"NN.", &["STOP", "1 values are left over"]);
    refused(b".", &["STOP", "no value"]);
    refused(b"N.N", &["ends at byte 4, but has 5 bytes"]);
    refused(b"N.", &["it holds None, not a dictionary"]);
    refused(b"}.", &["it holds no tensors"]);
    refused(b"}(K\x01K\x02u.", &["a key in it is an integer"]);
    refused(
        b"X\xff\xff\xff\xffa.",
        &["BINUNICODE", "4294967295 bytes more"],
    );
    refused(b"X\x01\x00\x00\x00\xff.", &["not UTF-8"]);
    refused(b"\x8a\x09123456789.", &["an integer of 9 bytes"]);
    refused(b"cos", &["a name without an end"]);
    refused_with(&of_pickle(b"\x80\x04N."), &["PROTO", "protocol 4"]);
    refused_with(
        &of_pickle(&dict(&[("epoch", int(3))])),
        &["\"epoch\" in it is an integer, not a tensor"],
    );
    refused_with(
        &of_pickle(&dict(&[("a", tensor(&whole())), ("a", tensor(&whole()))])),
        &["\"a\" is in it twice"],
    );
    let message = refusal(&of_pickle(&dict(&[("__metadata__", tensor(&whole()))])));
    assert!(message.contains("named __metadata__"), "{message}");
    // A list that holds itself, deep nests, and doublings by memory take no more than their length.
    refused(b"]q\x00h\x00a.", &["it holds a list"]);
    let deep = [vec![b')'], vec![0x85; 1 << 20], vec![b'.']].concat();
    refused(&deep, &["it holds a tuple"]);
    let mut doubling = b")".to_vec();
    for _ in 0..1000 {
        doubling.extend(b"q\x00h\x00\x86");
    }
    doubling.push(b'.');
    refused(&doubling, &["it holds a tuple"]);
    refused(&vec![b'('; 3 << 20], &["its pickle has 3145730 bytes"]);
}

#[test]
fn archives_that_are_not_what_torch_writes() {
    let pickle = dict(&[("a", tensor(&whole()))]);
    let good = [entry("data.pkl", &pickle), entry("data/0", &[1; 32])];
    let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.to_vec();
        change(&mut entries);
        zip(&entries)
    };
    refused_with(
        &changed(&|entries| entries[1].method = 8),
        &["x/data/0 is compressed (method 8"],
    );
    refused_with(
        &changed(&|entries| entries[1].flags = 1),
        &["x/data/0 is encrypted"],
    );
    refused_with(
        &changed(&|entries| entries[1].said_bytes = Some(33)),
        &["x/data/0", "33 bytes from byte", "damaged or truncated"],
    );
    refused_with(
        &changed(&|entries| entries[1].said_bytes = Some(0xffff_fff0)),
        &["4294967280 bytes from byte"],
    );
    refused_with(
        &changed(&|entries| entries[1].said_bytes = Some(31)),
        &["tensor a", "has 31 bytes"],
    );
    refused_with(
        &changed(&|entries| entries[1].local = Some(0)),
        &["x/data/0", "header and the table disagree"],
    );
    refused_with(
        &changed(&|entries| entries[1].local = Some(5)),
        &["x/data/0", "no header at byte 5"],
    );
    refused_with(
        &changed(&|entries| {
            entries.push(Entry {
                local: Some(0),
                ..good[0].clone()
            });
        }),
        &["two entries named x/data.pkl"],
    );
    // The storage lies inside another entry.
    let inner = header(&good[1]);
    refused_with(
        &changed(&|entries| {
            let at = header(&entries[0]).len() + header(&entry("outer", &[])).len();
            entries[1] = entry("outer", &inner);
            entries.push(Entry {
                local: Some(at as u32),
                ..good[1].clone()
            });
        }),
        &["x/outer and x/data/0 share bytes"],
    );
    refused_with(
        &changed(&|entries| {
            entries.remove(1);
        }),
        &["should be in x/data/0, which the archive lacks"],
    );
    refused_with(
        &changed(&|entries| {
            entries.remove(0);
        }),
        &["one data.pkl"],
    );
    refused_with(
        &changed(&|entries| {
            entries.push(Entry {
                name: "y/data.pkl".to_owned(),
                ..good[0].clone()
            });
        }),
        &["one data.pkl"],
    );
    refused_with(
        &changed(&|entries| entries.push(entry("byteorder", b"big"))),
        &["little-endian"],
    );
    refused_with(b"PK", &["truncated"]);
    refused_with(b"<html>", &["not a PyTorch checkpoint"]);
    refused_with(&fs::read(checkpoint("old.bin")).unwrap(), &["before 1.6"]);
    // Counts and places of the table itself.
    let whole = zip(&good);
    let end = whole.len() - 22;
    for (at, len) in [(10, 2), (12, 4), (16, 4)] {
        let mut bytes = whole.clone();
        bytes[end + at..end + at + len].fill(0xff);
        refused_with(&bytes, &["table"]);
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = fs::read(checkpoint("odd.bin")).unwrap();
    for len in (1..whole.len()).step_by(3) {
        let message = refusal(&whole[..len]);
        assert!(message.contains("pytorch_model.bin"), "{len}: {message}");
    }
}

#[test]
fn damage_anywhere_is_an_error_or_harmless() {
    let whole = fs::read(checkpoint("odd.bin")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let mut state = 1_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut converted = 0;
    for case in 0..600 {
        let mut bytes = whole.clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
        }
        fs::write(&path, &bytes).unwrap();
        let outcome = std::panic::catch_unwind(|| convert(folder.path()));
        let outcome = outcome.unwrap_or_else(|_| panic!("case {case} panicked"));
        if let Ok(made) = outcome {
            converted += 1;
            Weights::open(&made).unwrap_or_else(|error| panic!("case {case}: {error}"));
            fs::remove_file(made).unwrap();
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "case {case}"
        );
    }
    println!("{converted} of 600 were harmless");
    assert!((50..550).contains(&converted), "{converted}");
}
