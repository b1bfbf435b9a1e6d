//! Trees as a plugin scores them: what the flat evaluator says, behind the class where the outputs are classes.
//!
//! Where the first output is a class index, the trees give the probabilities of the outputs behind it, one a label in
//! the labels' order; the class is the likeliest of them, of equally likely ones the first.

use crate::model::{Config, Error};
use crate::trees::{FORMAT, Forest, Payload};
use crate::weights::{Header, OutputKind, Weights};

/// Trees that fit the header of their weights.
#[derive(Debug, Clone)]
pub struct Ensemble {
    forest: Forest,
    names_class: bool,
}

impl Ensemble {
    /// Reads the weights of a plugin that has no options.
    ///
    /// # Errors
    /// When the config has a key, or the payload is no ensemble that fits the header.
    pub fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        Self::new(weights.payload()?, &weights.header)
    }

    /// Trees for the features and outputs of `header`.
    ///
    /// # Errors
    /// When the format is another, an index leads astray, or header and trees differ in outputs.
    pub fn new(payload: Payload, header: &Header) -> Result<Self, Error> {
        if header.format != FORMAT {
            let found = header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let forest = Forest::new(payload, header.features.len()).map_err(Error::InvalidWeights)?;
        let n_outputs = forest.n_outputs();
        let names_class = match header.outputs.first() {
            Some(first) if first.kind == OutputKind::ClassIndex => {
                if first.labels.len() != n_outputs {
                    let message = "header and trees differ in classes".to_owned();
                    return Err(Error::InvalidWeights(message));
                }
                true
            }
            _ => false,
        };
        if header.outputs.len() != n_outputs + usize::from(names_class) {
            return Err(Error::InvalidWeights("header and trees differ in outputs".to_owned()));
        }
        Ok(Ensemble { forest, names_class })
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × the header's outputs, row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        if !self.names_class {
            return self.forest.score(features, outputs);
        }
        let n_classes = self.forest.n_outputs();
        let mut shares = vec![0.0; outputs.len() / (n_classes + 1) * n_classes];
        self.forest.score(features, &mut shares);
        let rows = shares.chunks_exact(n_classes).zip(outputs.chunks_exact_mut(n_classes + 1));
        for (shares, out) in rows {
            out[0] = likeliest(shares) as f64;
            out[1..].copy_from_slice(shares);
        }
    }
}

/// The place of the largest share, of equal ones the first.
fn likeliest(shares: &[f64]) -> usize {
    let ahead = |best: usize, at: usize| if shares[at] > shares[best] { at } else { best };
    (0..shares.len()).fold(0, ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::{Link, NAN_IS_MISSING, Node};
    use crate::weights::{Feature, Missing, Output};

    fn header(classes: &[&str]) -> Header {
        let output = |name: &str, kind, labels| Output { name: name.to_owned(), kind, labels };
        let labels: Vec<String> = classes.iter().map(|&c| c.to_owned()).collect();
        let mut outputs = vec![output("state", OutputKind::ClassIndex, labels)];
        outputs.extend(classes.iter().map(|c| output(c, OutputKind::Probability, vec![])));
        Header {
            format: FORMAT,
            name: "m".to_owned(),
            version: "1.0.0".to_owned(),
            library: "hand".to_owned(),
            features: vec![Feature {
                name: "x".to_owned(),
                unit: None,
                missing: Missing::PassNan,
                trained_range: None,
            }],
            outputs,
            state_width: 0,
            state_version: 0,
            annotations: vec![],
        }
    }

    /// One stump: shares `[0.75, 0.25]` up to 1, `[0.5, 0.5]` above.
    fn stump() -> Payload {
        Payload {
            input_f32: false,
            strict: false,
            acc_f32: false,
            outputs: 2,
            base: vec![0.0; 2],
            average: true,
            link: Link::Identity,
            tree_output: vec![0],
            tree_start: vec![0],
            nodes: vec![
                Node { threshold: 1.0, feature: NAN_IS_MISSING, left: 1 },
                Node::leaf(1),
                Node::leaf(2),
            ],
            values: vec![0.0, 0.0, 0.25, 0.75, 0.5, 0.5],
            value_width: 2,
        }
    }

    #[test]
    fn the_class_stands_before_its_probabilities() {
        let model = Ensemble::new(stump(), &header(&["good", "worn"])).unwrap();
        let mut out = [0.0; 6];
        model.score(&[1.0, 2.0], &mut out);
        assert_eq!(out, [1.0, 0.25, 0.75, 0.0, 0.5, 0.5], "of two equal ones the first");
    }

    #[test]
    fn outputs_that_do_not_fit_are_refused() {
        assert!(Ensemble::new(stump(), &header(&["good", "worn", "lost"])).is_err());
        let mut one = header(&["good", "worn"]);
        one.outputs.pop();
        assert!(Ensemble::new(stump(), &one).is_err());
        assert!(Ensemble::new(stump(), &Header { format: 9, ..header(&["a", "b"]) }).is_err());
    }
}
