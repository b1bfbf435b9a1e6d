//! The pipeline file as users write it: mistakes and their messages, plans, pictures, the schema.

mod kinds;
mod mistakes;
mod plans;
mod schema;
mod secrets;
