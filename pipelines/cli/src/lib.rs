//! What the `foreline` command is made of; the binary only calls [`commands::main`].

mod boards;
pub mod check;
pub mod commands;
pub mod connect;
pub mod demo;
pub mod evaluate;
pub mod failure;
pub mod fleet;
pub mod graph;
pub mod journal;
pub mod learning;
pub mod metrics;
pub mod model;
pub mod operators;
pub mod progress;
pub mod replay;
pub mod retrain;
pub mod run;
pub mod session;
pub mod simulate;
pub mod sink;
pub mod table;
pub mod tap;
pub mod tests;
pub mod train;
