//! The `forest` plugin: a random forest, evaluated in its flat form.

use foreline_sdk::ensemble::Ensemble;
use foreline_sdk::weights::{Family, Header, Output, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct Trees(Ensemble);

impl Model for Trees {
    const FAMILY: Family = Family::Forest;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        Ensemble::load(weights, config).map(Trees)
    }

    fn further_outputs(&self, header: &Header) -> Vec<Output> {
        self.0.further_outputs(header)
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(Trees);
