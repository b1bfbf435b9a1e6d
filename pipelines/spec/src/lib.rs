//! foreline-spec.
