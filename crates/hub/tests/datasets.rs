//! MMLU from a hub on loopback: the right files of the right commit, once, and from the cache without a network.

use billion_hub::datasets::{MMLU_COMMIT, mmlu, mmlu_on_this_machine};
use billion_hub::{Control, Error, Hub, HubSettings, Limits};
use loopback::{HubServer, noise};

mod loopback;

#[test]
fn mmlu_is_fetched_once_and_then_found_without_a_network() {
    let server = HubServer::start();
    server.commit(MMLU_COMMIT);
    let files = [
        "all/dev-00000-of-00001.parquet",
        "all/test-00000-of-00002.parquet",
        "all/test-00001-of-00002.parquet",
    ];
    for (seed, path) in files.iter().enumerate() {
        server.put(
            "datasets/cais/mmlu",
            path,
            noise(10_000 + seed, seed as u64),
        );
    }
    for other in [
        "all/validation-00000-of-00001.parquet",
        "anatomy/test-00000-of-00001.parquet",
        "README.md",
    ] {
        server.put("datasets/cais/mmlu", other, noise(10, 1));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let settings = HubSettings::new(&server.endpoint, dir.path().join("hub"));
    let hub = Hub::new(settings.clone(), Limits::default());
    assert_eq!(mmlu_on_this_machine(&hub), None);
    let fetched = mmlu(&hub, &Control::new(), &mut |_| {}).expect("fetched");
    assert_eq!(fetched.commit, MMLU_COMMIT);
    let sizes: Vec<u64> = fetched
        .dev
        .iter()
        .chain(&fetched.test)
        .map(|file| std::fs::metadata(file).expect("there").len())
        .collect();
    assert_eq!(sizes, [10_000, 10_001, 10_002]);
    assert!(fetched.test[1].ends_with(files[2]));
    let blobs = dir.path().join("hub/datasets--cais--mmlu/blobs");
    assert_eq!(
        std::fs::read_dir(blobs).expect("read").count(),
        3,
        "nothing else is fetched"
    );

    server.seen();
    let again = mmlu(&hub, &Control::new(), &mut |_| {}).expect("there");
    assert_eq!(again, fetched);
    assert!(server.seen().is_empty());
    // One shard of two is not the split.
    std::fs::remove_file(&fetched.test[0]).expect("removed");
    assert_eq!(mmlu_on_this_machine(&hub), None);
    let offline = Hub::new(
        HubSettings {
            offline: true,
            ..settings
        },
        Limits::default(),
    );
    let error = mmlu(&offline, &Control::new(), &mut |_| {}).expect_err("offline");
    assert!(
        matches!(&error, Error::Offline { what } if what == "cais/mmlu"),
        "{error}"
    );
}
