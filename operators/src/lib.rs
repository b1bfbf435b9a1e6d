//! The steps of a pipeline: one file and one line each.
//!
//! What a reader would get wrong: inside a step a missing value is a NaN ([`columns::channel`]), on an edge
//! it is an Arrow null, and nothing else than these two places converts between them. Every sum runs over
//! the same rows in the same order however the input was cut into epochs; no step adds to a sum in one
//! epoch and takes away from it in another.

use foreline_engine::Registration;

pub mod anova;
pub mod columns;
pub mod derive;
pub mod drop_constant;
pub mod drop_correlated;
pub mod ema;
pub mod entries;
mod evaluate;
pub mod features;
pub mod filter;
pub mod history;
pub mod minmax;
pub mod moments;
pub mod moving_average;
pub mod one_hot;
pub mod pca;
pub mod regime;
pub mod robust;
mod scaling;
pub mod select;
mod selection;
mod smoothing;
pub mod standard;
mod stateless;
mod statistics;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod window;

/// All kinds of step of this crate.
pub const OPERATORS: &[Registration] = &[
    Registration::of::<anova::Anova>(),
    Registration::of::<derive::Derive>(),
    Registration::of::<drop_constant::DropConstant>(),
    Registration::of::<drop_correlated::DropCorrelated>(),
    Registration::of::<ema::Ema>(),
    Registration::of::<filter::Filter>(),
    Registration::of::<minmax::MinMax>(),
    Registration::of::<moving_average::MovingAverage>(),
    Registration::of::<one_hot::OneHot>(),
    Registration::of::<pca::Pca>(),
    Registration::of::<regime::Regime>(),
    Registration::of::<robust::Robust>(),
    Registration::of::<select::Select>(),
    Registration::of::<standard::Standard>(),
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
