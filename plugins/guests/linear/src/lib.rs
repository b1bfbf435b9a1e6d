//! The `linear` plugin: a weighted sum of the features, or the probabilities of classes by such sums.

use foreline_sdk::linear::{FORMAT, Linear};
use foreline_sdk::logistic::Logistic;
use foreline_sdk::weights::{Family, OutputKind, Weights};
use foreline_sdk::{Call, Config, Error, Model};

enum Sum {
    Number(Linear),
    Classes(Logistic),
}

impl Model for Sum {
    const FAMILY: Family = Family::Linear;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let (header, payload) = (&weights.header, weights.payload()?);
        let differ = |what| Err(Error::InvalidWeights(format!("header and payload differ in {what}")));
        if header.outputs.first().is_some_and(|o| o.kind == OutputKind::ClassIndex) {
            let model =
                Logistic::new(payload, header.features.len()).map_err(Error::InvalidWeights)?;
            if model.n_classes() + 1 != header.outputs.len() {
                return differ("classes");
            }
            return Ok(Sum::Classes(model));
        }
        let model = Linear::new(payload, header.features.len()).map_err(Error::InvalidWeights)?;
        if model.n_outputs() != header.outputs.len() {
            return differ("outputs");
        }
        Ok(Sum::Number(model))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        match self {
            Sum::Number(model) => model.score(call.features, call.outputs),
            Sum::Classes(model) => model.score(call.features, call.outputs),
        }
        Ok(())
    }
}

foreline_sdk::plugin!(Sum);
