//! Trees as a plugin scores them: what the flat evaluator says, behind the class where the outputs are classes.
//!
//! Where the first output is a class index, the trees give the probabilities of the outputs behind it, one a label in
//! the labels' order; the class is the likeliest of them, of equally likely ones the first.
//!
//! With contributions, a number has a base and a column a feature for each output: they sum to the score before its link.
//! A class has them once, for the class that was answered: of two classes they sum to the logarithm of its odds, of more
//! to its own score, where the trees give probabilities as they are to its probability.

use crate::explain::{self, Explainer};
use crate::model::{Config, Error};
use crate::trees::{Forest, Link, Payload};
use crate::weights::{Header, Output, OutputKind, Weights};

/// Trees that fit the header of their weights.
#[derive(Debug, Clone)]
pub struct Ensemble {
    forest: Forest,
    names_class: bool,
    n_features: usize,
    explainer: Option<Explainer>,
}

impl Ensemble {
    /// Reads the weights of a plugin whose only option is to explain.
    ///
    /// # Errors
    /// When the config has another key, or the payload is no ensemble that fits the header, or cannot be explained.
    pub fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        let explained = explain::asked(config)?;
        let ensemble = Self::new(Payload::read(weights)?, &weights.header)?;
        if explained { ensemble.explained() } else { Ok(ensemble) }
    }

    /// Trees for the features and outputs of `header`.
    ///
    /// # Errors
    /// When an index leads astray, or header and trees differ in outputs.
    pub fn new(payload: Payload, header: &Header) -> Result<Self, Error> {
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
        let n_features = header.features.len();
        Ok(Ensemble { forest, names_class, n_features, explainer: None })
    }

    /// The same trees with contributions behind their outputs.
    ///
    /// # Errors
    /// When the weights do not hold the covers, or a path is too long.
    pub fn explained(self) -> Result<Self, Error> {
        let explainer = Explainer::new(self.forest.payload()).map_err(Error::InvalidWeights)?;
        Ok(Ensemble { explainer: Some(explainer), ..self })
    }

    /// The columns of the contributions; none where they were not asked for.
    #[must_use]
    pub fn further_outputs(&self, header: &Header) -> Vec<Output> {
        let explained = if self.names_class { 1 } else { self.forest.n_outputs() };
        self.explainer.as_ref().map_or(Vec::new(), |_| explain::outputs(header, explained))
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × the header's outputs and the further ones,
    /// row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        let Some(explainer) = &self.explainer else { return self.score_only(features, outputs) };
        let (n_sums, n_features) = (self.forest.n_outputs(), self.n_features);
        let n_scores = n_sums + usize::from(self.names_class);
        let n_explained = if self.names_class { 1 } else { n_sums };
        let width = n_scores + n_explained * (1 + n_features);
        let n_rows = features.len() / n_features;
        let mut sums = vec![0.0; n_rows * n_sums];
        self.forest.sum(features, &mut sums);
        let mut scores = vec![0.0; n_rows * n_scores];
        self.score_only(features, &mut scores);
        let divisors = self.forest.divisors();
        for (at, out) in outputs.chunks_exact_mut(width).enumerate() {
            let (head, parts) = out.split_at_mut(n_scores);
            head.copy_from_slice(&scores[at * n_scores..][..n_scores]);
            let row = &features[at * n_features..][..n_features];
            let rounded: Vec<f64>;
            let row = if self.forest.payload().input_f32 {
                rounded = row.iter().map(|&x| f64::from(x as f32)).collect();
                &rounded
            } else {
                row
            };
            let sums = &sums[at * n_sums..][..n_sums];
            for (output, part) in parts.chunks_exact_mut(1 + n_features).enumerate() {
                let mut weights = self.explained_sum(output, head, sums, &divisors);
                weights.iter_mut().zip(&divisors).for_each(|(w, trees)| *w /= trees);
                part.fill(0.0);
                let (base, parts) = part.split_at_mut(1);
                let payload = self.forest.payload();
                // The base values are divided with the trees' sums, as the score's are.
                base[0] = explainer.explain(payload, row, &weights, parts);
            }
        }
    }

    /// Which sums, times what, are explained as output `output` of a row with these scores and sums.
    fn explained_sum(
        &self,
        output: usize,
        scores: &[f64],
        sums: &[f64],
        divisors: &[f64],
    ) -> Vec<f64> {
        let mut weights = vec![0.0; sums.len()];
        let link = self.forest.payload().link;
        if self.names_class {
            let class = scores[0] as usize;
            weights[class] = 1.0;
            if link == Link::Softmax && sums.len() == 2 {
                weights[1 - class] = -1.0;
            }
        } else if link == Link::Sorted {
            // The sum that came to stand in this place.
            let mean = |at: usize| sums[at] / divisors[at];
            let mut order: Vec<usize> = (0..sums.len()).collect();
            order.sort_by(|&a, &b| mean(a).total_cmp(&mean(b)));
            weights[order[output]] = 1.0;
        } else {
            weights[output] = 1.0;
        }
        weights
    }

    fn score_only(&self, features: &[f64], outputs: &mut [f64]) {
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
    use crate::trees::{FORMAT, Link, NAN_IS_MISSING, Node};
    use crate::weights::{self, Family, Feature, Missing};

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
            covers: vec![4.0, 3.0, 1.0],
        }
    }

    #[test]
    fn contributions_are_those_of_the_class_that_was_answered() {
        let header = header(&["good", "worn"]);
        let model = Ensemble::new(stump(), &header).unwrap().explained().unwrap();
        let names: Vec<String> =
            model.further_outputs(&header).into_iter().map(|o| o.name).collect();
        assert_eq!(names, ["state_base", "state_by_x"]);
        let mut out = [0.0; 10];
        model.score(&[1.0, 2.0], &mut out);
        // Mean of the likelier class over the rows: 0.6875 of the second, 0.3125 of the first.
        assert_eq!(out[..4], [1.0, 0.25, 0.75, 0.6875]);
        assert!((out[4] - 0.0625).abs() < 1e-15);
        assert_eq!(out[5..9], [0.0, 0.5, 0.5, 0.3125]);
        assert!((out[9] - 0.1875).abs() < 1e-15);
        let odds = Payload { link: Link::Softmax, ..stump() };
        let model = Ensemble::new(odds, &header).unwrap().explained().unwrap();
        model.score(&[1.0, 2.0], &mut out);
        assert_eq!(out[3], 0.375, "of two classes the logarithm of the odds");
        assert!((out[4] - 0.125).abs() < 1e-15);
    }

    #[test]
    fn weights_of_the_format_before_still_score() {
        // What an older version wrote: the same without the covers at the end, which are a length and 24 bytes.
        let header = Header { format: 1, ..header(&["good", "worn"]) };
        let bytes = weights::write(Family::Forest, &header, &stump()).unwrap();
        let read = weights::read(&bytes).unwrap();
        let old = Weights { payload: &read.payload[..read.payload.len() - 25], ..read };
        let model = Ensemble::load(&old, &Config::default()).unwrap();
        let mut out = [0.0; 3];
        model.score(&[1.0], &mut out);
        assert_eq!(out, [1.0, 0.25, 0.75]);
        let asked = Config::new(vec![("explain".to_owned(), "contributions".to_owned())]);
        let Err(Error::InvalidWeights(why)) = Ensemble::load(&old, &asked) else { panic!() };
        assert!(why.contains("train or import them again"), "{why}");
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
    }
}
