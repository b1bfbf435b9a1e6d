//! The `linear` plugin: a weighted sum of the features, or the probabilities of classes by such sums.

use foreline_sdk::explain;
use foreline_sdk::linear::{FORMAT, Linear};
use foreline_sdk::logistic::Logistic;
use foreline_sdk::weights::{Family, Header, Output, OutputKind, Weights};
use foreline_sdk::{Call, Config, Error, Model};

/// A sum, and the features' means in training where contributions are asked for.
enum Sum {
    Number(Linear, Option<Vec<f64>>),
    Classes(Logistic, Option<Vec<f64>>),
}

impl Model for Sum {
    const FAMILY: Family = Family::Linear;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        let explained = explain::asked(config)?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let (header, payload) = (&weights.header, weights.payload()?);
        let means = explained.then(|| explain::means(weights)).transpose()?;
        let differ =
            |what| Err(Error::InvalidWeights(format!("header and payload differ in {what}")));
        if header.outputs.first().is_some_and(|o| o.kind == OutputKind::ClassIndex) {
            let model =
                Logistic::new(payload, header.features.len()).map_err(Error::InvalidWeights)?;
            if model.n_classes() + 1 != header.outputs.len() {
                return differ("classes");
            }
            return Ok(Sum::Classes(model, means));
        }
        let model = Linear::new(payload, header.features.len()).map_err(Error::InvalidWeights)?;
        if model.n_outputs() != header.outputs.len() {
            return differ("outputs");
        }
        Ok(Sum::Number(model, means))
    }

    fn further_outputs(&self, header: &Header) -> Vec<Output> {
        match self {
            Sum::Number(_, Some(_)) => explain::outputs(header, header.outputs.len()),
            Sum::Classes(_, Some(_)) => explain::outputs(header, 1),
            Sum::Number(_, None) | Sum::Classes(_, None) => Vec::new(),
        }
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        match self {
            Sum::Number(model, None) => model.score(call.features, call.outputs),
            Sum::Number(model, Some(means)) => model.explain(means, call.features, call.outputs),
            Sum::Classes(model, None) => model.score(call.features, call.outputs),
            Sum::Classes(model, Some(means)) => model.explain(means, call.features, call.outputs),
        }
        Ok(())
    }
}

foreline_sdk::plugin!(Sum);
