//! Weighted sums of features: ridge, lasso and elastic net for numbers, logistic regression for classes.
//!
//! Features are centred and scaled first, so that one penalty fits all of them, and the coefficients are scaled back: the
//! plugin sees the raw features. With `n` rows, standardised features `Z` and centred target `y`:
//!
//! - `l1_ratio: 0` (ridge): the least of `|y - Zw|² + alpha |w|²`, by normal equations (scikit-learn's `Ridge`)
//! - else: the least of `|y - Zw|²/(2n) + alpha l1_ratio |w|₁ + alpha (1 - l1_ratio)/2 |w|²`, by coordinate descent until no
//!   coefficient moves (scikit-learn's `ElasticNet`, `Lasso` where `l1_ratio` is 1). The two scale `alpha` differently, as there
//! - classes: the least of `sum -ln p(class) + |w|²/(2c)`, by Newton's method (scikit-learn's `LogisticRegression(C=c)`); two
//!   classes have one set of coefficients, more have one each

use foreline_sdk::linear::{FORMAT, Payload as Linear};
use schemars::JsonSchema;
use serde::Deserialize;

use super::scaling::{scaled, solve, standard};
use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters, within};

/// Rounds of coordinate descent before it is given up; problems that are hard take thousands.
const MAX_ROUNDS: u32 = 100_000;
/// Coordinate descent ends when no standardised coefficient moved by more than this share of the target's deviation.
const STILL: f64 = 1e-12;
/// Newton steps before it is given up; ten are usual.
const MAX_STEPS: u32 = 200;
/// Coefficients of all classes: their square is the matrix that every Newton step solves.
const MAX_COEFFICIENTS: usize = 3000;
/// Newton's method ends when the gradient is below this, a row.
const FLAT: f64 = 1e-10;
/// Keeps the intercepts of several classes, of which only differences count, at one place.
const PIN: f64 = 1e-9;

/// Parameters of a linear model.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinearParameters {
    /// Penalty on the coefficients of the standardised features, above 0, so that features that repeat one another have a
    /// solution. Of ridge it is scikit-learn's `Ridge(alpha)`, else its `ElasticNet(alpha)`, behind `StandardScaler`.
    pub alpha: f64,
    /// How much of the penalty is on absolute values, which makes coefficients 0: 0 is ridge, 1 is lasso.
    #[schemars(range(min = 0, max = 1))]
    pub l1_ratio: f64,
    /// Of classes: the inverse of the penalty on squared coefficients; above 0. scikit-learn's `LogisticRegression(C)`.
    pub c: f64,
}

impl Default for LinearParameters {
    fn default() -> Self {
        LinearParameters { alpha: 1.0, l1_ratio: 0.0, c: 1.0 }
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let given: LinearParameters = parameters(params)?;
    for (name, value) in [("alpha", given.alpha), ("c", given.c)] {
        if !(value.is_finite() && value > 0.0) {
            return Err(TrainError::parameter(name, format!("'{value}' is not above 0")));
        }
    }
    within("l1_ratio", given.l1_ratio, 0.0, 1.0)?;
    let (means, scales) = standard(matrix);
    let z = scaled(matrix, &means, &scales);
    let rows = Rows { z: &z, width: matrix.width };
    let classes = matrix.n_classes;
    let models = if classes > 0 {
        logistic(&rows, &matrix.y, classes, given.c)?
    } else {
        let target = matrix.y.iter().sum::<f64>() / matrix.rows as f64;
        let y: Vec<f64> = matrix.y.iter().map(|y| y - target).collect();
        let w = if given.l1_ratio == 0.0 {
            ridge(&rows, &y, given.alpha)?
        } else {
            elastic_net(&rows, &y, given.alpha, given.l1_ratio)?
        };
        vec![(target, w)]
    };
    let mut model = Linear { intercepts: Vec::new(), coefficients: Vec::new() };
    for (intercept, w) in models {
        let raw: Vec<f64> = w.iter().zip(&scales).map(|(w, scale)| w / scale).collect();
        let shift: f64 = raw.iter().zip(&means).map(|(c, mean)| c * mean).sum();
        model.intercepts.push(intercept - shift);
        model.coefficients.extend(raw);
    }
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"));
    let columns = if classes > 0 { Columns::Classes } else { Columns::One };
    Ok(Fitted { payload: Payload::Linear(model), format: FORMAT, library, columns })
}

/// Standardised rows.
struct Rows<'a> {
    z: &'a [f64],
    width: usize,
}

impl Rows<'_> {
    fn iter(&self) -> std::slice::ChunksExact<'_, f64> {
        self.z.chunks_exact(self.width)
    }

    fn len(&self) -> usize {
        self.z.len() / self.width
    }
}

fn ridge(rows: &Rows<'_>, y: &[f64], alpha: f64) -> Result<Vec<f64>, TrainError> {
    let width = rows.width;
    let mut normal = vec![0.0; width * width];
    let mut right = vec![0.0; width];
    for (z, y) in rows.iter().zip(y) {
        for i in 0..width {
            right[i] += z[i] * y;
            for j in 0..=i {
                normal[i * width + j] += z[i] * z[j];
            }
        }
    }
    for i in 0..width {
        normal[i * width + i] += alpha;
    }
    if solve(&mut normal, &mut right) {
        return Ok(right);
    }
    Err(TrainError::Failed("the features repeat one another; raise alpha".to_owned()))
}

/// Coordinate descent on the Gram matrix, feature by feature in their order.
fn elastic_net(
    rows: &Rows<'_>,
    y: &[f64],
    alpha: f64,
    l1_ratio: f64,
) -> Result<Vec<f64>, TrainError> {
    let (width, n) = (rows.width, rows.len() as f64);
    let mut gram = vec![0.0; width * width];
    let mut rest = vec![0.0; width];
    for (z, y) in rows.iter().zip(y) {
        for i in 0..width {
            rest[i] += z[i] * y / n;
            for j in 0..=i {
                gram[i * width + j] += z[i] * z[j] / n;
            }
        }
    }
    for i in 0..width {
        for j in 0..i {
            gram[j * width + i] = gram[i * width + j];
        }
    }
    let (l1, l2) = (alpha * l1_ratio, alpha * (1.0 - l1_ratio));
    let spread = (y.iter().map(|y| y * y).sum::<f64>() / n).sqrt();
    let mut w = vec![0.0; width];
    // `rest` is Zᵀ(y - Zw)/n throughout.
    for _ in 0..MAX_ROUNDS {
        let mut moved: f64 = 0.0;
        for j in 0..width {
            let own = gram[j * width + j];
            if own == 0.0 {
                continue;
            }
            let pull = rest[j] + own * w[j];
            let shrunk = pull.signum() * (pull.abs() - l1).max(0.0) / (own + l2);
            let step = shrunk - w[j];
            if step != 0.0 {
                for (rest, gram) in rest.iter_mut().zip(&gram[j * width..]) {
                    *rest -= step * gram;
                }
                w[j] = shrunk;
            }
            moved = moved.max(step.abs());
        }
        if moved <= STILL * spread {
            return Ok(w);
        }
    }
    let why = "coordinate descent does not come to rest; raise alpha, or leave out features that repeat one another";
    Err(TrainError::Failed(why.to_owned()))
}

/// Intercept and coefficients of every class.
fn logistic(
    rows: &Rows<'_>,
    y: &[f64],
    n_classes: usize,
    c: f64,
) -> Result<Vec<(f64, Vec<f64>)>, TrainError> {
    // Of two classes the second alone has coefficients, against 0 of the first.
    let free = if n_classes == 2 { 1 } else { n_classes };
    let block = rows.width + 1;
    within("coefficients of all classes", free * block, 1, MAX_COEFFICIENTS)?;
    let problem = Logistic { rows, y, n_classes, free, block, c };
    let mut w = vec![0.0; free * block];
    let mut loss = problem.loss(&w);
    for _ in 0..MAX_STEPS {
        let (mut gradient, mut hessian) = problem.slopes(&w);
        let steepest = gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        if steepest <= FLAT * rows.len() as f64 {
            return Ok(problem.models(&w));
        }
        if !solve(&mut hessian, &mut gradient) {
            return Err(TrainError::Failed("the features repeat one another; lower c".to_owned()));
        }
        // A whole step may go too far while the probabilities are far off; half of it, until it helps.
        let mut share = 1.0;
        let (next, next_loss) = loop {
            let next: Vec<f64> = w.iter().zip(&gradient).map(|(w, g)| w - share * g).collect();
            let next_loss = problem.loss(&next);
            if next_loss <= loss || share < 1e-10 {
                break (next, next_loss);
            }
            share *= 0.5;
        };
        if share < 1e-10 {
            // Rounding hides what is left to gain.
            return Ok(problem.models(&w));
        }
        (w, loss) = (next, next_loss);
    }
    Err(TrainError::Failed("logistic regression does not come to rest; lower c".to_owned()))
}

struct Logistic<'a> {
    rows: &'a Rows<'a>,
    y: &'a [f64],
    n_classes: usize,
    free: usize,
    /// Coefficients of a class, its intercept behind them.
    block: usize,
    c: f64,
}

impl Logistic<'_> {
    /// The probabilities of the free classes, and minus the logarithm of that of class `y`.
    fn shares(&self, w: &[f64], z: &[f64], y: usize, shares: &mut [f64]) -> f64 {
        for (share, w) in shares.iter_mut().zip(w.chunks_exact(self.block)) {
            let sum: f64 = w.iter().zip(z).map(|(w, z)| w * z).sum();
            *share = sum + w[self.block - 1];
        }
        let fixed = if self.free < self.n_classes { 0.0 } else { f64::NEG_INFINITY };
        let most = shares.iter().copied().fold(fixed, f64::max);
        let first = self.n_classes - self.free;
        let own = if y < first { 0.0 } else { shares[y - first] };
        let mut total = libm::exp(fixed - most);
        for share in shares.iter_mut() {
            *share = libm::exp(*share - most);
            total += *share;
        }
        shares.iter_mut().for_each(|share| *share /= total);
        most + libm::log(total) - own
    }

    fn loss(&self, w: &[f64]) -> f64 {
        let mut shares = vec![0.0; self.free];
        let rows = self.rows.iter().zip(self.y);
        let losses = rows.map(|(z, y)| self.shares(w, z, *y as usize, &mut shares));
        let fit: f64 = losses.sum();
        fit + self.penalty(w)
    }

    fn penalty(&self, w: &[f64]) -> f64 {
        let (mut squares, mut pins) = (0.0, 0.0);
        for w in w.chunks_exact(self.block) {
            let (coefficients, intercept) = w.split_at(self.block - 1);
            squares += coefficients.iter().map(|w| w * w).sum::<f64>();
            pins += intercept[0] * intercept[0];
        }
        squares / (2.0 * self.c) + if self.free > 1 { PIN * pins / 2.0 } else { 0.0 }
    }

    fn slopes(&self, w: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (n, block) = (w.len(), self.block);
        let (mut gradient, mut hessian) = (vec![0.0; n], vec![0.0; n * n]);
        let mut shares = vec![0.0; self.free];
        let mut z1 = vec![1.0; block];
        let first = self.n_classes - self.free;
        for (z, y) in self.rows.iter().zip(self.y) {
            z1[..block - 1].copy_from_slice(z);
            let y = *y as usize;
            self.shares(w, z, y, &mut shares);
            for a in 0..self.free {
                let off = shares[a] - f64::from(u8::from(y == a + first));
                for i in 0..block {
                    gradient[a * block + i] += off * z1[i];
                }
                for b in 0..=a {
                    let same = f64::from(u8::from(a == b));
                    let curve = shares[a] * (same - shares[b]);
                    for i in 0..block {
                        let line = &mut hessian[(a * block + i) * n + b * block..][..block];
                        let slope = curve * z1[i];
                        line.iter_mut().zip(&z1).for_each(|(h, z)| *h += slope * z);
                    }
                }
            }
        }
        for (at, w) in w.iter().enumerate() {
            let is_intercept = at % block == block - 1;
            let pin = if self.free > 1 { PIN } else { 0.0 };
            let strength = if is_intercept { pin } else { 1.0 / self.c };
            gradient[at] += strength * w;
            hessian[at * n + at] += strength;
        }
        (gradient, hessian)
    }

    fn models(&self, w: &[f64]) -> Vec<(f64, Vec<f64>)> {
        let fixed = (self.free < self.n_classes).then(|| (0.0, vec![0.0; self.block - 1]));
        let free =
            w.chunks_exact(self.block).map(|w| (w[self.block - 1], w[..self.block - 1].to_vec()));
        fixed.into_iter().chain(free).collect()
    }
}
