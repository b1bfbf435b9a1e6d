//! The `forest` plugin: a random forest, evaluated in its flat form.

use foreline_sdk::trees::{FORMAT, Forest};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct Trees(Forest);

impl Model for Trees {
    const FAMILY: Family = Family::Forest;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let forest = Forest::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if forest.n_outputs() != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and trees differ in outputs".to_owned()));
        }
        Ok(Trees(forest))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(Trees);
