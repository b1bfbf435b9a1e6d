//! The `pca_t2q` plugin: how far a row is from what is normal.

use foreline_sdk::explain;
use foreline_sdk::pca_t2q::{FORMAT, N_OUTPUTS, PcaT2q};
use foreline_sdk::weights::{Family, Header, Output, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct PluginPcaT2q {
    model: PcaT2q,
    explained: bool,
}

impl Model for PluginPcaT2q {
    const FAMILY: Family = Family::PcaT2q;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        let explained = explain::asked(config)?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let model = PcaT2q::new(weights.payload()?, weights.header.features.len())
            .map_err(Error::InvalidWeights)?;
        if N_OUTPUTS != weights.header.outputs.len() {
            return Err(Error::InvalidWeights("header and payload differ in outputs".to_owned()));
        }
        Ok(PluginPcaT2q { model, explained })
    }

    fn further_outputs(&self, header: &Header) -> Vec<Output> {
        if self.explained { explain::outputs(header, N_OUTPUTS) } else { Vec::new() }
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        if self.explained {
            self.model.explain(call.features, call.outputs);
        } else {
            self.model.score(call.features, call.outputs);
        }
        Ok(())
    }
}

foreline_sdk::plugin!(PluginPcaT2q);
