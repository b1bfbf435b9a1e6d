//! The `linear` plugin: a weighted sum of the features.

use foreline_sdk::linear::{FORMAT, Linear};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct Sum(Linear);

impl Model for Sum {
    const FAMILY: Family = Family::Linear;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let linear = Linear::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if linear.n_outputs() != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and payload differ in outputs".to_owned()));
        }
        Ok(Sum(linear))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(Sum);
