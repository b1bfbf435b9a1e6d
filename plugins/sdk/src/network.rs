//! Neural networks in ONNX: the payload, and how a machine's rows become the network's input.
//!
//! What runs the network is not here: the plugin `onnx` brings tract, everybody else gets by without it.
//!
//! What a reader would get wrong:
//!
//! * A network is always run for one row (one window) at a time, even where its batch axis is dynamic. The kernels may sum in
//!   another order for another batch, and how rows are cut into calls must not show.
//! * The state of a key is the window *without* its latest row: `(window - 1) * features` values as they came in,
//!   unscaled, oldest first, NaN where there was no row yet. A network of single rows keeps none.
//! * A row that is not sent, since a feature is missing, is not part of any window: a window is the last rows that were
//!   whole, however much time lies between them.

pub mod onnx;

use serde::{Deserialize, Serialize};

use crate::model::{Call, Error};
use crate::weights::{Header, OutputKind};

/// The version of [`Payload`].
pub const FORMAT: u16 = 1;
/// The version of what is kept for a key.
pub const STATE_VERSION: u32 = 1;
/// Numbers that the host keeps for a key at most; the contract's limit.
pub const MAX_STATE_WIDTH: usize = 65_536;

/// What a weights file of the family holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The file as it was exported.
    pub onnx: Vec<u8>,
    /// How the network takes its input.
    pub layout: Layout,
    /// Rows of a window; 1 for [`Layout::Row`].
    pub window: u32,
    /// What stands for the rows that a key does not have yet.
    pub pad: Pad,
    /// Mean and scale of each feature: the network is given `(x - mean) / scale`. Empty: the feature as it is.
    pub input: Vec<(f64, f64)>,
    /// Mean and scale of each number that comes out: the score is `y * scale + mean`. Empty: the number as it is.
    pub output: Vec<(f64, f64)>,
    /// What is done with the numbers before they are scaled.
    pub activation: Activation,
}

/// The axes of the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `[batch, feature]`.
    Row,
    /// `[batch, time, feature]`, as PyTorch's recurrent layers with `batch_first` and Keras have it.
    TimeFirst,
    /// `[batch, feature, time]`, as PyTorch's convolutions have it.
    FeatureFirst,
}

/// What stands for the rows that a key does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pad {
    /// Nothing: there is no score until the window is full.
    None,
    /// The key's first row.
    First,
    /// Zeros, after scaling.
    Zero,
}

/// What is done with the numbers that come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// Each becomes `1 / (1 + exp(-y))`.
    Sigmoid,
    /// All together become shares of 1.
    Softmax,
}

/// A network without the network: what is made of rows before it runs, and of its numbers afterwards.
#[derive(Debug, Clone)]
pub struct Network {
    layout: Layout,
    window: usize,
    pad: Pad,
    input: Vec<(f64, f64)>,
    output: Vec<(f64, f64)>,
    activation: Activation,
    n_features: usize,
    n_numbers: usize,
    /// Whether the first output is the index of the largest number.
    classes: bool,
}

/// Values kept for a key.
///
/// # Errors
/// When it is more than the contract allows, with the numbers.
pub fn state_width(window: usize, n_features: usize) -> Result<u32, String> {
    let width = window.saturating_sub(1).saturating_mul(n_features);
    if width > MAX_STATE_WIDTH {
        return Err(format!(
            "a window of {window} rows of {n_features} features keeps {width} numbers for a key, and {MAX_STATE_WIDTH} are allowed; take a shorter window or fewer features"
        ));
    }
    Ok(width as u32)
}

impl Network {
    /// Checks that payload and header fit together.
    ///
    /// # Errors
    /// Saying what does not fit.
    pub fn new(payload: &Payload, header: &Header) -> Result<Self, String> {
        let n_features = header.features.len();
        let classes = header.outputs.first().is_some_and(|o| o.kind == OutputKind::ClassIndex);
        let n_numbers = header.outputs.len() - usize::from(classes);
        let window = payload.window as usize;
        if n_features == 0 || n_numbers == 0 {
            return Err("a network has at least one feature and one output".to_owned());
        }
        if window == 0 || (payload.layout == Layout::Row && window != 1) {
            return Err(format!("a window of {window} rows does not fit the layout"));
        }
        let width = state_width(window, n_features)?;
        if header.state_width != width {
            let found = header.state_width;
            return Err(format!("the header says {found} state values, not {width}"));
        }
        let scales = |what: &str, pairs: &[(f64, f64)], n: usize| {
            if !pairs.is_empty() && pairs.len() != n {
                return Err(format!("{} scales of {what} for {n}", pairs.len()));
            }
            match pairs.iter().find(|(m, s)| !m.is_finite() || !s.is_normal()) {
                Some((mean, scale)) => Err(format!("{what} cannot be scaled by {mean}, {scale}")),
                None => Ok(()),
            }
        };
        scales("features", &payload.input, n_features)?;
        scales("outputs", &payload.output, n_numbers)?;
        Ok(Network {
            layout: payload.layout,
            window,
            pad: payload.pad,
            input: payload.input.clone(),
            output: payload.output.clone(),
            activation: payload.activation,
            n_features,
            n_numbers,
            classes,
        })
    }

    /// The shape of the network's input, for one row.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        match self.layout {
            Layout::Row => vec![1, self.n_features],
            Layout::TimeFirst => vec![1, self.window, self.n_features],
            Layout::FeatureFirst => vec![1, self.n_features, self.window],
        }
    }

    /// How many numbers the network must answer for a row.
    #[must_use]
    pub fn n_numbers(&self) -> usize {
        self.n_numbers
    }

    /// Scores rows; `run` takes an input of [`shape`](Self::shape) and answers
    /// [`n_numbers`](Self::n_numbers) numbers.
    ///
    /// # Errors
    /// Those of `run`.
    #[expect(clippy::needless_pass_by_value, reason = "as the trait of models hands it over")]
    pub fn score(
        &self,
        call: Call<'_>,
        mut run: impl FnMut(&[f32]) -> Result<Vec<f32>, Error>,
    ) -> Result<(), Error> {
        let kept = (self.window - 1) * self.n_features;
        let n_outputs = self.n_numbers + usize::from(self.classes);
        let mut input = vec![0.0_f32; self.window * self.n_features];
        let rows = call.features.chunks_exact(call.width);
        for (at, (row, outputs)) in rows.zip(call.outputs.chunks_exact_mut(n_outputs)).enumerate() {
            // A row that the host would not send; it must not become part of a window.
            if row.iter().any(|v| v.is_nan()) {
                continue;
            }
            let state = match call.slots.get(at) {
                Some(&slot) => &mut call.state[slot as usize * kept..][..kept],
                None => &mut [],
            };
            if self.fill(state, row, &mut input) {
                let mut numbers: Vec<f64> = run(&input)?.into_iter().map(f64::from).collect();
                self.finish(&mut numbers, outputs);
            } else {
                // What a row may cost is measured on rows without a history, so these cost as much as any; nobody sees what
                // comes out.
                input.fill(0.0);
                let _ = run(&input);
            }
            push(state, row);
        }
        Ok(())
    }

    /// Lays out the window that ends with `row`; whether there is one.
    fn fill(&self, state: &[f64], row: &[f64], input: &mut [f32]) -> bool {
        let there = state.chunks_exact(self.n_features);
        let lack = there.take_while(|row| row[0].is_nan()).count();
        if lack > 0 && self.pad == Pad::None {
            return false;
        }
        let first = state.chunks_exact(self.n_features).nth(lack).unwrap_or(row);
        let rows = state.chunks_exact(self.n_features).chain([row]);
        for (time, row) in rows.enumerate() {
            let row = match (time < lack, self.pad) {
                (false, _) => Some(row),
                (true, Pad::Zero) => None,
                (true, _) => Some(first),
            };
            for feature in 0..self.n_features {
                let value = row.map_or(0.0, |row| self.scaled(feature, row[feature]));
                let at = match self.layout {
                    Layout::Row | Layout::TimeFirst => time * self.n_features + feature,
                    Layout::FeatureFirst => feature * self.window + time,
                };
                input[at] = value;
            }
        }
        true
    }

    /// In `f64` up to here: readings of a large mean and small spread would lose digits in `f32`.
    fn scaled(&self, feature: usize, value: f64) -> f32 {
        match self.input.get(feature) {
            Some((mean, scale)) => ((value - mean) / scale) as f32,
            None => value as f32,
        }
    }

    fn finish(&self, numbers: &mut [f64], outputs: &mut [f64]) {
        // No score: an index or a share of what is no number would be a lie.
        if numbers.len() != self.n_numbers || numbers.iter().any(|y| y.is_nan()) {
            return;
        }
        match self.activation {
            Activation::Identity => {}
            Activation::Sigmoid => {
                numbers.iter_mut().for_each(|y| *y = 1.0 / (1.0 + libm::exp(-*y)));
            }
            Activation::Softmax => softmax(numbers),
        }
        for (y, (mean, scale)) in numbers.iter_mut().zip(&self.output) {
            *y = *y * scale + mean;
        }
        let skip = usize::from(self.classes);
        outputs[skip..].copy_from_slice(numbers);
        if self.classes {
            // The first of equals.
            let largest = numbers.iter().enumerate();
            let best = largest.fold(0, |best, (at, y)| if *y > numbers[best] { at } else { best });
            outputs[0] = best as f64;
        }
    }
}

/// The row becomes the latest of the state, the oldest goes.
fn push(state: &mut [f64], row: &[f64]) {
    if let Some(last) = state.len().checked_sub(row.len()) {
        state.copy_within(row.len().., 0);
        state[last..].copy_from_slice(row);
    }
}

fn softmax(numbers: &mut [f64]) {
    let largest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    numbers.iter_mut().for_each(|y| *y = libm::exp(*y - largest));
    let sum: f64 = numbers.iter().sum();
    numbers.iter_mut().for_each(|y| *y /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own::{feature, header, output};
    use crate::weights::Missing;

    fn network(pad: Pad, layout: Layout, window: u32) -> Network {
        let features = ["a", "b"].map(|name| feature(name, "", Missing::SkipRow));
        let mut header =
            header("n", "1.0.0", features.to_vec(), vec![output("y", OutputKind::Value)]);
        header.state_width = state_width(window as usize, 2).unwrap();
        let payload = Payload {
            onnx: vec![],
            layout,
            window,
            pad,
            input: vec![(1.0, 2.0), (0.0, 1.0)],
            output: vec![(100.0, 10.0)],
            activation: Activation::Identity,
        };
        Network::new(&payload, &header).unwrap()
    }

    /// The inputs that the network saw, and the scores, for rows 1.. of one key; the network answers 1.
    fn seen(network: &Network, rows: u32, state: &mut [f64]) -> (Vec<Vec<f32>>, Vec<f64>) {
        let features: Vec<f64> = (1..=rows).flat_map(|r| [f64::from(r), 10.0]).collect();
        let (mut inputs, mut outputs) = (vec![], vec![f64::NAN; rows as usize]);
        let slots = if state.is_empty() { vec![] } else { vec![0; rows as usize] };
        let times: Vec<i64> = (0..).take(slots.len()).collect();
        let call = Call {
            rows: rows as usize,
            width: 2,
            features: &features,
            times: &times,
            slots: &slots,
            state,
            outputs: &mut outputs,
        };
        let run = |input: &[f32]| {
            inputs.push(input.to_vec());
            Ok(vec![1.0])
        };
        network.score(call, run).unwrap();
        (inputs, outputs)
    }

    #[test]
    fn a_window_is_laid_out_as_the_network_takes_it() {
        let network = network(Pad::None, Layout::TimeFirst, 3);
        let mut state = vec![f64::NAN; 4];
        let (inputs, outputs) = seen(&network, 4, &mut state);
        let windows = [[0.0, 10.0, 0.5, 10.0, 1.0, 10.0], [0.5, 10.0, 1.0, 10.0, 1.5, 10.0]];
        assert_eq!(inputs[2..], windows);
        assert_eq!(inputs[..2], [[0.0; 6]; 2], "as dear as the others, and without a score");
        assert!(outputs[0].is_nan() && outputs[1].is_nan());
        assert_eq!(outputs[2..], [110.0, 110.0]);
        assert_eq!(state, [3.0, 10.0, 4.0, 10.0], "as they came in");
    }

    #[test]
    fn padding_is_the_first_row_or_zeros_after_scaling() {
        let first = network(Pad::First, Layout::FeatureFirst, 3);
        let (inputs, _) = seen(&first, 2, &mut [f64::NAN; 4]);
        assert_eq!(inputs, [[0.0, 0.0, 0.0, 10.0, 10.0, 10.0], [0.0, 0.0, 0.5, 10.0, 10.0, 10.0]]);
        let zero = network(Pad::Zero, Layout::FeatureFirst, 3);
        let (inputs, _) = seen(&zero, 2, &mut [f64::NAN; 4]);
        assert_eq!(inputs[1], [0.0, 0.0, 0.5, 0.0, 10.0, 10.0]);
    }

    #[test]
    fn single_rows_keep_nothing() {
        let (inputs, outputs) = seen(&network(Pad::None, Layout::Row, 1), 2, &mut []);
        assert_eq!(inputs, [[0.0, 10.0], [0.5, 10.0]]);
        assert_eq!(outputs, [110.0, 110.0]);
    }

    #[test]
    fn state_has_a_bound_that_says_the_numbers() {
        assert_eq!(state_width(65, 1024), Ok(65_536));
        let refused = state_width(66, 1024).unwrap_err();
        assert!(refused.contains("66 rows of 1024 features keeps 66560"), "{refused}");
    }
}
