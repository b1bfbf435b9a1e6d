//! foreline-plugins.
