//! Weights of our own families, scored by code compiled into this program: for validation, which scores far more often
//! than it trains, and as what the sandbox is measured against.
//!
//! The plugin of a family evaluates the same `foreline-sdk`, so both give the same bits; a test compares them.

use foreline_sdk::ensemble::Ensemble;
use foreline_sdk::knn::Knn;
use foreline_sdk::linear::Linear;
use foreline_sdk::logistic::Logistic;
use foreline_sdk::pca_t2q::{self, PcaT2q};
use foreline_sdk::trees::Payload;
use foreline_sdk::weights::{self, Family, Header, Missing, OutputKind};

/// Scores rows × features, row-major, into rows × outputs.
type Score = Box<dyn Fn(&[f64], &mut [f64]) + Send + Sync>;

/// A model without state.
pub struct Native {
    family: Family,
    header: Header,
    score: Score,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Whether the first output is a class.
fn names_class(header: &Header) -> bool {
    header.outputs.first().is_some_and(|o| o.kind == OutputKind::ClassIndex)
}

impl Native {
    /// Reads weights.
    ///
    /// # Errors
    /// With what is wrong with them, or that their family is not scored here.
    pub fn load(bytes: &[u8]) -> Result<Self, String> {
        let weights = weights::read(bytes).map_err(|e| e.to_string())?;
        let header = weights.header.clone();
        let score: Score = match weights.family {
            // Its engine is in the plugin alone.
            Family::Network => return Err("a network runs in its plugin only".to_owned()),
            Family::Degradation => return Err("the model keeps state of its machines".to_owned()),
            Family::Knn => {
                let payload = weights.payload().map_err(|e| e.to_string())?;
                let model = Knn::new(payload, header.features.len())?;
                if model.n_outputs() != header.outputs.len() {
                    return Err("header and payload differ in outputs".to_owned());
                }
                Box::new(move |rows, scores| model.score(rows, scores))
            }
            Family::PcaT2q => {
                let payload = weights.payload().map_err(|e| e.to_string())?;
                let model = PcaT2q::new(payload, header.features.len())?;
                if header.outputs.len() != pca_t2q::N_OUTPUTS {
                    return Err("header and payload differ in outputs".to_owned());
                }
                Box::new(move |rows, scores| model.score(rows, scores))
            }
            Family::Linear if names_class(&header) => {
                let payload = weights.payload().map_err(|e| e.to_string())?;
                let model = Logistic::new(payload, header.features.len())?;
                if model.n_classes() + 1 != header.outputs.len() {
                    return Err("header and payload differ in classes".to_owned());
                }
                Box::new(move |rows, scores| model.score(rows, scores))
            }
            Family::Linear => {
                let payload = weights.payload().map_err(|e| e.to_string())?;
                let model = Linear::new(payload, header.features.len())?;
                if model.n_outputs() != header.outputs.len() {
                    return Err("header and payload differ in outputs".to_owned());
                }
                Box::new(move |rows, scores| model.score(rows, scores))
            }
            Family::Forest | Family::Trees => {
                let payload = Payload::read(&weights).map_err(|e| e.to_string())?;
                let model = Ensemble::new(payload, &header).map_err(|e| e.to_string())?;
                Box::new(move |rows, scores| model.score(rows, scores))
            }
        };
        Ok(Native { family: weights.family, header, score })
    }

    /// The family of the weights.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// What the weights say of the model.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The outputs of rows × features, row-major: rows × outputs. A row that lacks a feature the model needs has NaN in
    /// all of them, as the host has null.
    ///
    /// # Panics
    /// When `features` is not whole rows, which is a bug in the caller.
    #[must_use]
    pub fn score(&self, features: &[f64]) -> Vec<f64> {
        let (width, n_outputs) = (self.header.features.len(), self.header.outputs.len());
        assert_eq!(features.len() % width.max(1), 0, "whole rows");
        let mut scores = vec![f64::NAN; features.len() / width.max(1) * n_outputs];
        (self.score)(features, &mut scores);
        let needed: Vec<bool> =
            self.header.features.iter().map(|f| f.missing == Missing::SkipRow).collect();
        let rows = features.chunks_exact(width.max(1)).zip(scores.chunks_exact_mut(n_outputs));
        for (row, out) in rows {
            if row.iter().zip(&needed).any(|(x, needed)| *needed && x.is_nan()) {
                out.fill(f64::NAN);
            }
        }
        scores
    }

    /// As [`Native::score`] into a place that is there, without a look at what is missing: for measuring.
    pub(crate) fn score_into(&self, features: &[f64], scores: &mut [f64]) {
        (self.score)(features, scores);
    }
}
