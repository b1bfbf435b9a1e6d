//! Tests of the whole system and of the repository itself, in one binary.

mod pipelines;
mod tidy;
