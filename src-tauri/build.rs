//! Tauri's build step, with the capabilities kept beside the Rust code of the shell.
//!
//! The window's pages come from `ui/dist`, which `./run` and `./test` build. Where they are not built yet, a page that
//! says so is put in their place, so that the shell compiles without Node.

use std::path::Path;

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Billion</title>\
<p>The window's pages are not built. Run <code>./run</code> at the top of the checkout.</p>\n";

fn main() {
    println!("cargo:rerun-if-changed=src-tauri/capabilities");
    println!("cargo:rerun-if-changed=ui/dist");
    println!("cargo:rerun-if-changed=icons");
    let page = Path::new("ui/dist/index.html");
    if !page.exists() {
        std::fs::create_dir_all("ui/dist").expect("ui/dist can be made");
        std::fs::write(page, NOT_BUILT).expect("ui/dist can be written");
    }
    let attributes =
        tauri_build::Attributes::new().capabilities_path_pattern("./src-tauri/capabilities/**/*");
    if let Err(error) = tauri_build::try_build(attributes) {
        panic!("{error:#}");
    }
}
