//! Tests of the whole system and of the repository itself, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod manual;
mod pipelines;
mod tidy;
