//! The `linear` plugin: a weighted sum of the features.

use foreline_sdk::explain;
use foreline_sdk::linear::{FORMAT, Linear};
use foreline_sdk::weights::{Family, Header, Output, Weights};
use foreline_sdk::{Call, Config, Error, Model};

/// The sum, and the features' means in training where contributions are asked for.
struct Sum(Linear, Option<Vec<f64>>);

impl Model for Sum {
    const FAMILY: Family = Family::Linear;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        let explained = explain::asked(config)?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let linear = Linear::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if linear.n_outputs() != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and payload differ in outputs".to_owned()));
        }
        let means = explained.then(|| explain::means(weights)).transpose()?;
        Ok(Sum(linear, means))
    }

    fn further_outputs(&self, header: &Header) -> Vec<Output> {
        self.1.as_ref().map_or(Vec::new(), |_| explain::outputs(header, header.outputs.len()))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        match &self.1 {
            None => self.0.score(call.features, call.outputs),
            Some(means) => self.0.explain(means, call.features, call.outputs),
        }
        Ok(())
    }
}

foreline_sdk::plugin!(Sum);
