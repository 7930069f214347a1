//! The `billion` command line.
fn main() {}
