//! The `degradation` plugin: remaining life from the drift of a health index.

use foreline_sdk::degradation::{Degradation, FORMAT, N_FEATURES, N_OUTPUTS, Payload, STATE_WIDTH};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};

struct PluginDegradation(Degradation);

impl Model for PluginDegradation {
    const FAMILY: Family = Family::Degradation;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&["threshold", "low", "high"])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let header = &weights.header;
        let fits = header.features.len() == N_FEATURES
            && header.outputs.len() == N_OUTPUTS
            && header.state_width == STATE_WIDTH;
        if !fits {
            return Err(Error::InvalidWeights("header and payload differ in columns".to_owned()));
        }
        let trained: Payload = weights.payload()?;
        // The same weights serve machines with other limits.
        let payload = Payload {
            threshold: config.number("threshold", trained.threshold)?,
            low: config.number("low", trained.low)?,
            high: config.number("high", trained.high)?,
            ..trained
        };
        Degradation::new(payload).map(PluginDegradation).map_err(Error::InvalidWeights)
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call.features, call.slots, call.state, call.outputs);
        Ok(())
    }
}

foreline_sdk::plugin!(PluginDegradation);
