//! The steps of a pipeline: one file and one line each.
//!
//! What a reader would get wrong: inside a step a missing value is a NaN ([`columns::channel`]), on an edge
//! it is an Arrow null, and nothing else than these two places converts between them. Every sum runs over
//! the same rows in the same order however the input was cut into epochs; no step adds to a sum in one
//! epoch and takes away from it in another.

use foreline_engine::Registration;

pub mod columns;
pub mod derive;
pub mod ema;
pub mod entries;
mod evaluate;
pub mod features;
pub mod filter;
pub mod history;
pub mod moments;
pub mod moving_average;
pub mod select;
mod smoothing;
mod stateless;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod window;

/// All kinds of step of this crate.
pub const OPERATORS: &[Registration] = &[
    Registration::of::<derive::Derive>(),
    Registration::of::<ema::Ema>(),
    Registration::of::<filter::Filter>(),
    Registration::of::<moving_average::MovingAverage>(),
    Registration::of::<select::Select>(),
    Registration::of::<window::Window>(),
];
