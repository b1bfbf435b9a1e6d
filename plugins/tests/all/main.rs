//! The `model` step through its public face: good models, evil plugins, training.
//!
//! Plugins are compiled by `foreline-compile-plugin`, which Cargo builds for this test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod author;
mod bench;
mod boosted;
mod evil;
mod families;
mod good;
mod import;
mod onnx;
mod operate;
mod training;
