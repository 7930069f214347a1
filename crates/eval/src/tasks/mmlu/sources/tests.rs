//! Every form of MMLU gives the same questions, and what is damaged, hostile or something else is said.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::super::{MmluData, Question};
use super::Location;

const TEST: &str = "\"How many\ndays?\",1, two,\"3, or \"\"4\"\"\",,A\nHow many more?,1, two,\"3, or \"\"4\"\"\",,C\n";
const DEV: &str = "Solved?,1, two,\"3, or \"\"4\"\"\",,B\n";
const VIROLOGY: &str = "Übermaß?,1, two,\"3, or \"\"4\"\"\",,D\r\n";

/// The members of an official archive, with what it must not read.
fn members() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("data/README.txt", b"read me"),
        ("data/dev/anatomy_dev.csv", DEV.as_bytes()),
        ("data/val/anatomy_val.csv", b"one,field,too,few\n"),
        ("data/auxiliary_train/race.csv", b"\"not a row"),
        ("data/test/anatomy_test.csv", TEST.as_bytes()),
        ("data/test/virology_test.csv", VIROLOGY.as_bytes()),
        ("data/test/astrology_test.csv", b"Aries?,1,2,3,4,A\n"),
        ("__MACOSX/data/test/._anatomy_test.csv", b"\0\x05\x16"),
    ]
}

fn folder(at: &Path) {
    for (name, bytes) in members() {
        let path = at.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written as it is: `set_path` refuses what a hostile archive would hold.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).expect("appended");
    }
    builder.into_inner().expect("finished")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .expect("begun");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mmlu")
}

/// What every form of the same questions must give.
fn expected() -> MmluData {
    let question = |text: &str, answer| Question {
        text: text.to_owned(),
        choices: ["1", " two", "3, or \"4\"", ""].map(str::to_owned),
        answer,
    };
    let mut data = MmluData::default();
    let anatomy = data.subjects.entry("anatomy".to_owned()).or_default();
    anatomy.dev.push(question("Solved?", 1));
    anatomy.test.push(question("How many\ndays?", 0));
    anatomy.test.push(question("How many more?", 2));
    let virology = data.subjects.entry("virology".to_owned()).or_default();
    virology.test.push(question("Übermaß?", 3));
    data
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn every_form_gives_the_same_questions() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = dir.path();
    folder(&at.join("unpacked"));
    let tar = tar_of(&members());
    let cache = at.join("datasets--cais--mmlu");
    let all = cache.join("snapshots/0123abc/all");
    for folder in [&all, &cache.join("refs"), &cache.join("snapshots/old")] {
        std::fs::create_dir_all(folder).expect("made");
    }
    std::fs::write(cache.join("refs/main"), "0123abc\n").expect("written");
    for file in std::fs::read_dir(fixture()).expect("listed") {
        let file = file.expect("listed").path();
        std::fs::copy(&file, all.join(file.file_name().expect("named"))).expect("copied");
    }
    // Names do not matter, contents do.
    let forms = [
        (at.join("unpacked"), 3),
        (at.join("unpacked/data"), 3),
        (written(at, "data.tar", &tar), 1),
        (written(at, "mmlu", &gzip(&tar)), 1),
        (written(at, "mmlu.ZIP", &zip_of(&members())), 1),
        (fixture(), 2),
        (fixture().join("test-00000-of-00001.parquet"), 2),
        (fixture().join("dev-00000-of-00001.parquet"), 2),
        (cache.join("snapshots/0123abc"), 2),
        (cache, 2),
    ];
    for (path, files) in forms {
        let location = Location::find(&path).expect("found");
        assert_eq!(location.files().len(), files, "{}", path.display());
        let data = location.read().expect("read");
        assert_eq!(data, expected(), "{}", path.display());
        assert_eq!((data.questions(), data.examples()), (3, 1));
    }
}

#[test]
fn paths_in_archives_lead_nowhere() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).expect("made");
    let hostile: [(&str, &[u8]); 3] = [
        ("../../test/anatomy_test.csv", TEST.as_bytes()),
        ("/test/virology_test.csv", VIROLOGY.as_bytes()),
        ("../escaped.csv", b"x"),
    ];
    for (name, bytes) in [
        ("a.tar", tar_of(&hostile)),
        ("a.tar.gz", gzip(&tar_of(&hostile))),
        ("a.zip", zip_of(&hostile)),
    ] {
        let path = written(&inner, name, &bytes);
        let data = MmluData::read(&path).expect("read");
        assert_eq!(data.questions(), 3);
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").collect();
        assert_eq!(left.len(), 1, "nothing was written");
    }
}

#[test]
fn what_is_no_mmlu_is_said_with_figures() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = dir.path();
    let huge = vec![b'a'; (16 << 20) + 1];
    let name = "test/anatomy_test.csv";
    let many: Vec<String> = (0..10_001).map(|n| format!("{n}.txt")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), &b""[..])).collect();
    let tar = tar_of(&members());
    let parquet = std::fs::read(fixture().join("test-00000-of-00001.parquet")).expect("read");
    let mut cut = parquet.clone();
    cut.truncate(parquet.len() - 9);
    for (file, bytes, says) in [
        (
            "text.txt",
            b"hello".to_vec(),
            "holds no MMLU questions: expected a folder",
        ),
        ("empty", Vec::new(), "holds no MMLU questions"),
        (
            "other.tar",
            tar_of(&[("a.txt", b"a"), ("test/b_test.csv", b"")]),
            "none of its 2 entries is test/SUBJECT_test.csv",
        ),
        (
            "bomb.zip",
            zip_of(&[(name, &huge)]),
            "more than the 16777216",
        ),
        ("many.tar", tar_of(&many), "more than 10000 entries"),
        (
            "twice.tar",
            tar_of(&[
                (name, TEST.as_bytes()),
                ("data/test/anatomy_test.csv", TEST.as_bytes()),
            ]),
            "anatomy_test.csv twice, the second time as data/test/anatomy_test.csv",
        ),
        (
            "cut.tar",
            tar[..tar.len() - 4000].to_vec(),
            "damaged or not complete",
        ),
        (
            "cut.tar.gz",
            gzip(&tar)[..200].to_vec(),
            "damaged or not complete",
        ),
        (
            "cut.zip",
            zip_of(&members())[..900].to_vec(),
            "damaged or not complete",
        ),
        (
            "row.zip",
            zip_of(&[(name, b"\"two\nlines\",1,2,3,4,A\nQ,1,2,3,A\n")]),
            "anatomy_test.csv, row 2: expected 6 fields, found 5 (line 3)",
        ),
        (
            "latin.tar",
            tar_of(&[(name, b"Q,1,2,3,4,A\n\xdcber,1,2,3,4,A\n")]),
            "row 2: byte 12 of the file is not UTF-8",
        ),
        ("test-0.parquet", cut, "cannot be read"),
        ("other.parquet", parquet, "keep the names"),
    ] {
        let path = written(at, file, &bytes);
        let error = MmluData::read(&path).expect_err(file).to_string();
        assert!(error.contains(says), "{file}: {error}");
        std::fs::remove_file(path).expect("removed");
    }
    let error = MmluData::read(at).expect_err("empty").to_string();
    assert!(error.contains("among its 0 entries"), "{error}");
    let error = MmluData::read(&at.join("none"))
        .expect_err("none")
        .to_string();
    assert!(error.contains("cannot read"), "{error}");
}

#[test]
fn damaged_parquet_files_are_errors_not_panics() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let good = std::fs::read(fixture().join("test-00000-of-00001.parquet")).expect("read");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut state = 1u64;
    for _ in 0..300 {
        let mut bytes = good.clone();
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let at = 4 + (state >> 33) as usize % (bytes.len() - 4);
        bytes[at] ^= 1 << ((state >> 20) % 8);
        let path = written(dir.path(), "test-0.parquet", &bytes);
        // Many damages are in names and texts that nothing checks.
        let _ = MmluData::read(&path);
    }
    std::panic::set_hook(hook);
}
