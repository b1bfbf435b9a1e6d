//! Tests of the whole source.
