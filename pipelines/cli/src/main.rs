//! The `foreline` command.
fn main() {}
