//! The steps of a pipeline: one file and one line each.
//!
//! What a reader would get wrong: inside a step a missing value is a NaN ([`columns::channel`]), on an edge
//! it is an Arrow null, and nothing else than these two places converts between them. Every sum runs over
//! the same rows in the same order however the input was cut into epochs; no step adds to a sum in one
//! epoch and takes away from it in another.

use foreline_engine::Registration;

// The steps.
pub mod adwin;
pub mod align;
pub mod anova;
pub mod asof_join;
pub mod band_pass;
pub mod cast;
pub mod cepstrum;
pub mod clip;
pub mod conformal;
pub mod convert;
pub mod cusum;
pub mod deadband;
pub mod derive;
pub mod difference;
pub mod drift;
pub mod drop_constant;
pub mod drop_correlated;
pub mod ema;
pub mod ensemble;
pub mod envelope;
pub mod ewma_chart;
pub mod explode;
pub mod fill;
pub mod filter;
pub mod gaps;
pub mod half_space_trees;
pub mod hampel;
pub mod high_pass;
pub mod integrate;
pub mod interval_join;
pub mod join;
pub mod k_of_n;
pub mod kalman_1d;
pub mod lag;
pub mod low_pass;
pub mod matrix_profile;
pub mod minmax;
pub mod monotone;
pub mod moving_average;
pub mod moving_median;
pub mod one_hot;
pub mod orders;
pub mod page_hinkley;
pub mod pca;
pub mod pca_t2q;
pub mod pivot;
pub mod quality;
pub mod rate;
pub mod rate_limit;
pub mod regime;
pub mod rename;
pub mod resample;
pub mod robust;
pub mod route;
pub mod run_state;
pub mod sample;
pub mod savitzky_golay;
pub mod select;
pub mod severity;
pub mod spectrum;
pub mod standard;
pub mod swinging_door;
pub mod threshold;
pub mod time_features;
pub mod union;
pub mod waveform;
pub mod window;

// Sections of the pipeline file that are kinds of operator, but no steps.
pub mod alert;
pub mod alert_book;

// What several of them share.
mod annotate;
pub mod biquad;
mod categories;
mod channelwise;
pub mod columns;
#[cfg(test)]
mod detection_data;
mod eigen;
mod emitted;
pub mod entries;
mod evaluate;
pub mod features;
mod flags;
mod gate;
mod gridded;
mod held;
pub mod history;
mod joining;
pub mod learning;
pub mod long;
mod mistakes;
pub mod moments;
pub mod per;
mod scaling;
mod selection;
mod shift;
pub mod signal;
mod smoothing;
mod sorted;
mod stateless;
mod statistics;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trailing;
mod waveforms;
mod words;

/// All kinds of step of this crate.
pub const OPERATORS: &[Registration] = &[
    Registration::of::<adwin::Adwin>(),
    Registration::of::<align::Align>(),
    Registration::of::<anova::Anova>(),
    Registration::of::<asof_join::AsofJoin>(),
    Registration::of::<band_pass::BandPass>(),
    Registration::of::<cast::Cast>(),
    Registration::of::<cepstrum::Cepstrum>(),
    Registration::of::<clip::Clip>(),
    Registration::of::<conformal::Conformal>(),
    Registration::of::<convert::Convert>(),
    Registration::of::<cusum::Cusum>(),
    Registration::of::<deadband::Deadband>(),
    Registration::of::<derive::Derive>(),
    Registration::of::<difference::Difference>(),
    Registration::of::<drift::Drift>(),
    Registration::of::<drop_constant::DropConstant>(),
    Registration::of::<drop_correlated::DropCorrelated>(),
    Registration::of::<ema::Ema>(),
    Registration::of::<ensemble::Ensemble>(),
    Registration::of::<envelope::Envelope>(),
    Registration::of::<ewma_chart::EwmaChart>(),
    Registration::of::<explode::Explode>(),
    Registration::of::<fill::Fill>(),
    Registration::of::<filter::Filter>(),
    Registration::of::<gaps::Gaps>(),
    Registration::of::<half_space_trees::HalfSpaceTrees>(),
    Registration::of::<hampel::Hampel>(),
    Registration::of::<high_pass::HighPass>(),
    Registration::of::<integrate::Integrate>(),
    Registration::of::<interval_join::IntervalJoin>(),
    Registration::of::<join::Join>(),
    Registration::of::<k_of_n::KOfN>(),
    Registration::of::<kalman_1d::Kalman1d>(),
    Registration::of::<lag::Lag>(),
    Registration::of::<low_pass::LowPass>(),
    Registration::of::<matrix_profile::MatrixProfile>(),
    Registration::of::<minmax::MinMax>(),
    Registration::of::<monotone::Monotone>(),
    Registration::of::<moving_average::MovingAverage>(),
    Registration::of::<moving_median::MovingMedian>(),
    Registration::of::<one_hot::OneHot>(),
    Registration::of::<orders::Orders>(),
    Registration::of::<page_hinkley::PageHinkley>(),
    Registration::of::<pca::Pca>(),
    Registration::of::<pca_t2q::PcaT2q>(),
    Registration::of::<pivot::Pivot>(),
    Registration::of::<quality::Quality>(),
    Registration::of::<rate::Rate>(),
    Registration::of::<rate_limit::RateLimit>(),
    Registration::of::<regime::Regime>(),
    Registration::of::<rename::Rename>(),
    Registration::of::<resample::Resample>(),
    Registration::of::<robust::Robust>(),
    Registration::of::<route::Route>(),
    Registration::of::<run_state::RunState>(),
    Registration::of::<sample::Sample>(),
    Registration::of::<savitzky_golay::SavitzkyGolay>(),
    Registration::of::<select::Select>(),
    Registration::of::<severity::Severity>(),
    Registration::of::<spectrum::Spectrum>(),
    Registration::of::<standard::Standard>(),
    Registration::of::<swinging_door::SwingingDoor>(),
    Registration::of::<threshold::Threshold>(),
    Registration::of::<time_features::TimeFeatures>(),
    Registration::of::<union::Union>(),
    Registration::of::<waveform::Waveform>(),
    Registration::of::<window::Window>(),
];

/// The kinds of operator behind sections of the pipeline file, which nobody writes under `steps`.
pub const SECTIONS: &[Registration] = &[Registration::of::<alert::Alert>()];

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
        for registration in OPERATORS.iter().chain(SECTIONS) {
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
