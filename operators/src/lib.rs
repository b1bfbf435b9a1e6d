//! The steps of a pipeline: one file and one line each.

use foreline_engine::Registration;

/// All kinds of step of this crate.
pub const OPERATORS: &[Registration] = &[];
