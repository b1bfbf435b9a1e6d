//! The steps of a pipeline: one file and one line each.
//!
//! What a reader would get wrong: inside a step a missing value is a NaN ([`columns::channel`]), on an edge
//! it is an Arrow null, and nothing else than these two places converts between them. Every sum runs over
//! the same rows in the same order however the input was cut into epochs; no step adds to a sum in one
//! epoch and takes away from it in another.

use foreline_engine::Registration;

pub mod align;
pub mod asof_join;
pub mod cast;
pub mod columns;
pub mod convert;
pub mod deadband;
pub mod derive;
pub mod ema;
mod emitted;
pub mod entries;
mod evaluate;
pub mod explode;
pub mod features;
pub mod fill;
pub mod filter;
mod gate;
mod gridded;
mod held;
pub mod history;
pub mod interval_join;
mod joining;
pub mod long;
pub mod moments;
pub mod moving_average;
pub mod pivot;
pub mod rate_limit;
pub mod rename;
pub mod resample;
pub mod route;
pub mod sample;
pub mod select;
mod smoothing;
mod stateless;
pub mod swinging_door;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod union;
pub mod window;

/// All kinds of step of this crate.
pub const OPERATORS: &[Registration] = &[
    Registration::of::<align::Align>(),
    Registration::of::<asof_join::AsofJoin>(),
    Registration::of::<cast::Cast>(),
    Registration::of::<convert::Convert>(),
    Registration::of::<deadband::Deadband>(),
    Registration::of::<derive::Derive>(),
    Registration::of::<ema::Ema>(),
    Registration::of::<explode::Explode>(),
    Registration::of::<fill::Fill>(),
    Registration::of::<filter::Filter>(),
    Registration::of::<interval_join::IntervalJoin>(),
    Registration::of::<moving_average::MovingAverage>(),
    Registration::of::<pivot::Pivot>(),
    Registration::of::<rate_limit::RateLimit>(),
    Registration::of::<rename::Rename>(),
    Registration::of::<resample::Resample>(),
    Registration::of::<route::Route>(),
    Registration::of::<sample::Sample>(),
    Registration::of::<select::Select>(),
    Registration::of::<swinging_door::SwingingDoor>(),
    Registration::of::<union::Union>(),
    Registration::of::<window::Window>(),
];

#[cfg(test)]
mod tests {
    use schemars::SchemaGenerator;

    use super::*;

    #[test]
    fn names_are_sorted_and_distinct() {
        let names: Vec<_> = OPERATORS.iter().map(|r| r.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn every_option_is_described() {
        for registration in OPERATORS {
            let mut generator = SchemaGenerator::default();
            let _reference = (registration.schema)(&mut generator);
            assert!(!generator.definitions().is_empty(), "{} has no schema", registration.name);
            for (name, schema) in generator.definitions() {
                let Some(options) = schema["properties"].as_object() else { continue };
                for (option, schema) in options {
                    assert!(schema["description"].is_string(), "{name}.{option} is not described");
                }
            }
        }
    }
}
