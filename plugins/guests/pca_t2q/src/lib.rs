//! The `pca_t2q` plugin: how far a row is from what is normal.

use foreline_sdk::pca_t2q::{FORMAT, N_OUTPUTS, PcaT2q};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct PluginPcaT2q(PcaT2q);

impl Model for PluginPcaT2q {
    const FAMILY: Family = Family::PcaT2q;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let model = PcaT2q::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if N_OUTPUTS != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and payload differ in outputs".to_owned()));
        }
        Ok(PluginPcaT2q(model))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(PluginPcaT2q);
