//! The pipeline file as users write it: mistakes and their messages, plans, pictures, the schema.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod examples;
mod kinds;
mod mistakes;
mod plans;
mod schema;
mod secrets;
