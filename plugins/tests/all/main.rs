//! The `model` step through its public face: good models, evil plugins, training.
//!
//! Plugins are compiled by `foreline-compile-plugin`, which Cargo builds for this test.

mod bench;
mod evil;
mod good;
mod training;
