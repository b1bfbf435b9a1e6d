//! foreline-benches.
