//! What the `foreline` command is made of; the binary only parses the command line and calls it.

pub mod metrics;
pub mod progress;
pub mod simulate;
pub mod table;
