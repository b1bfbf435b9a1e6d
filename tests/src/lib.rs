//! foreline-tests.
