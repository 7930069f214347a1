//! Entry point of the desktop app; everything is in the library, so that tests reach it too.

// No console window beside the app on Windows.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

fn main() -> std::process::ExitCode {
    billion_app::run()
}
