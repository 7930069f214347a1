//! `ui/src/ipc/bindings.ts` is generated from the commands of the shell; this test fails when it is stale.

use std::path::Path;

use specta_typescript::Typescript;

#[test]
fn bindings_of_the_window_are_up_to_date() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/src/ipc/bindings.ts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fresh = folder.path().join("bindings.ts");
    let header =
        "// Generated from src-tauri/commands by src-tauri/tests/bindings.rs; do not edit.\n";
    billion_app::bindings()
        .export(Typescript::default().header(header), &fresh)
        .expect("the commands' types can be written as TypeScript");
    let fresh = std::fs::read_to_string(fresh).expect("the bindings were written");

    if std::env::var_os("BILLION_WRITE_BINDINGS").is_some() {
        std::fs::create_dir_all(committed.parent().expect("a folder")).expect("ui/src/ipc");
        std::fs::write(&committed, &fresh).expect("ui/src/ipc/bindings.ts can be written");
    }
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(
        committed == fresh,
        "ui/src/ipc/bindings.ts is stale. Renew it: BILLION_WRITE_BINDINGS=1 cargo test -p billion --test bindings"
    );
}
