//! Tauri's build step, with the capabilities kept beside the Rust code of the shell.
fn main() {}
