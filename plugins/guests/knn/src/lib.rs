//! The `knn` plugin: what the nearest rows of the training say.

use foreline_sdk::knn::{FORMAT, Knn};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct PluginKnn(Knn);

impl Model for PluginKnn {
    const FAMILY: Family = Family::Knn;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let model = Knn::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if model.n_outputs() != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and payload differ in outputs".to_owned()));
        }
        Ok(PluginKnn(model))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(PluginKnn);
