//! The projection of a file: what is usual in training, and how a row is compared with it.

use arrow::buffer::ScalarBuffer;
use foreline_engine::{ConfigError, FitRows, Fitted, Schema};
use serde::{Deserialize, Serialize};

use crate::columns::channel;
use crate::eigen::symmetric;
use crate::moments::{Central, Moments};
use crate::scaling::quantile;
use crate::statistics::{self, Content, not_fitted};

/// A column whose standard deviation is below this does not vary.
const CONSTANT: f64 = 1e-9;
/// A component whose share of the variance is below this is rounding; T² does not divide by it.
const NOTHING: f64 = 1e-12;

/// A projection as it stands in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Projection {
    standardize: bool,
    /// The columns with what is usual of them.
    columns: Vec<Usual>,
    /// The components, that with the greatest variance first.
    components: Vec<Component>,
}

impl Content for Projection {
    const KIND: &'static str = "pca";
}

/// What is usual of a column.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Usual {
    column: String,
    mean: f64,
    /// What it is divided by; 0 for a column that does not vary.
    scale: f64,
}

/// A component, and percentiles of T² and Q in training where it is the last that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    eigenvalue: f64,
    /// The share of the variance of this component and those before it.
    variance: f64,
    t2_95: f64,
    t2_99: f64,
    q_95: f64,
    q_99: f64,
    loadings: Vec<f64>,
}

impl Projection {
    /// What keeps the file from serving these columns.
    pub(super) fn check(&self, names: &[&str], standardize: bool) -> Result<(), ConfigError> {
        let fitted: Vec<&str> = self.columns.iter().map(|u| u.column.as_str()).collect();
        if fitted != names {
            let what = format!("the statistics are of the columns [{}]", fitted.join(", "));
            return Err(not_fitted("columns", what));
        }
        if self.standardize != standardize {
            let what =
                format!("the statistics were fitted with 'standardize: {}'", self.standardize);
            return Err(not_fitted("standardize", what));
        }
        Ok(())
    }

    /// How many components are kept.
    pub(super) fn kept(&self, components: Option<usize>, variance: Option<f64>) -> usize {
        let all = self.components.len();
        match (components, variance) {
            (Some(n), _) => n.min(all),
            (None, Some(share)) => {
                // The shares are sums, of which the last may be a little below 1.
                let enough = |c: &Component| c.variance >= share - 1e-12;
                self.components.iter().position(enough).map_or(all, |i| i + 1)
            }
            (None, None) => all,
        }
    }
}

/// The scores of rows in the components that are kept.
#[derive(Debug, Clone)]
pub(super) struct Scores {
    projection: Projection,
    n_kept: usize,
}

/// What is said of rows; NaN where one of the columns is missing.
#[derive(Debug)]
pub(super) struct Results {
    /// By component, a value a row.
    pub(super) components: Vec<Vec<f64>>,
    pub(super) t2: Vec<f64>,
    pub(super) q: Vec<f64>,
}

impl Scores {
    pub(super) fn new(projection: Projection, n_kept: usize) -> Self {
        Scores { projection, n_kept }
    }

    pub(super) fn of(&self, channels: &[ScalarBuffer<f64>]) -> Results {
        let mut left = Left::new(&self.projection, channels);
        let kept = &self.projection.components[..self.n_kept];
        let components = kept.iter().map(|c| left.take(c)).collect();
        Results { components, q: left.q(), t2: left.t2 }
    }
}

/// What the components have not said yet of rows; when all are through, what they cannot say.
struct Left {
    /// By column, so that what is computed of a row does not depend on the others.
    columns: Vec<Vec<f64>>,
    t2: Vec<f64>,
    /// The variance of all components.
    total: f64,
}

impl Left {
    fn new(projection: &Projection, channels: &[ScalarBuffer<f64>]) -> Self {
        let scaled = |(u, values): (&Usual, &ScalarBuffer<f64>)| -> Vec<f64> {
            values.iter().map(|x| u.scaled(*x)).collect()
        };
        Left {
            columns: projection.columns.iter().zip(channels).map(scaled).collect(),
            t2: vec![0.0; channels.first().map_or(0, |values| values.len())],
            total: projection.components.iter().map(|c| c.eigenvalue).sum(),
        }
    }

    /// The scores in the next component.
    fn take(&mut self, component: &Component) -> Vec<f64> {
        let mut scores = vec![0.0; self.t2.len()];
        for (values, loading) in self.columns.iter().zip(&component.loadings) {
            scores.iter_mut().zip(values).for_each(|(s, z)| *s += z * loading);
        }
        for (values, loading) in self.columns.iter_mut().zip(&component.loadings) {
            values.iter_mut().zip(&scores).for_each(|(z, s)| *z -= s * loading);
        }
        if component.eigenvalue > self.total * NOTHING {
            let each = self.t2.iter_mut().zip(&scores);
            each.for_each(|(t2, s)| *t2 += s * s / component.eigenvalue);
        }
        scores
    }

    fn q(&self) -> Vec<f64> {
        let mut q = vec![0.0; self.t2.len()];
        for values in &self.columns {
            q.iter_mut().zip(values).for_each(|(q, z)| *q += z * z);
        }
        q
    }
}

impl Usual {
    /// The value less what is usual; 0 for a column that does not vary, NaN stays NaN.
    fn scaled(&self, x: f64) -> f64 {
        if self.scale == 0.0 { (x - self.mean) * 0.0 } else { (x - self.mean) / self.scale }
    }
}

/// Fits the projection of `columns`.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
pub(super) fn fit(
    from: &FitRows<'_>,
    input: &Schema,
    columns: &[usize],
    standardize: bool,
) -> Result<Fitted, String> {
    let channels = columns.iter().map(|&c| channel(from.rows.column(c)));
    let channels: Vec<_> = channels.collect::<Result<_, _>>().map_err(|e| e.message)?;
    let n_rows = from.rows.num_rows();
    let whole = |&r: &usize| channels.iter().all(|values| values[r].is_finite());
    let rows: Vec<usize> = (0..n_rows).filter(whole).collect();
    if rows.len() < 2 {
        return Err(format!("only {} of {n_rows} rows have all columns", rows.len()));
    }
    let channels: Vec<ScalarBuffer<f64>> =
        channels.iter().map(|values| rows.iter().map(|&r| values[r]).collect()).collect();
    let usual = |(&c, values): (&usize, &ScalarBuffer<f64>)| {
        let moments = Moments::of(values, Central::Wanted);
        let std = moments.m2.sqrt();
        let scale = if standardize { std } else { 1.0 };
        let scale = if std < CONSTANT { 0.0 } else { scale };
        Usual { column: input.columns()[c].name.clone(), mean: moments.mean, scale }
    };
    let usual: Vec<Usual> = columns.iter().zip(&channels).map(usual).collect();
    let scaled: Vec<Vec<f64>> = usual
        .iter()
        .zip(&channels)
        .map(|(u, values)| values.iter().map(|x| u.scaled(*x)).collect())
        .collect();
    let parts = symmetric(covariance(&scaled, rows.len() as f64 - 1.0))
        .ok_or("the columns have no principal components: their values are too large")?;
    let total: f64 = parts.values.iter().sum();
    if total <= 0.0 {
        return Err("none of the columns varies".to_owned());
    }
    let mut sum = 0.0;
    let components = parts.values.iter().zip(parts.vectors).map(|(&eigenvalue, loadings)| {
        sum += eigenvalue;
        let variance = (sum / total).min(1.0);
        let none = 0.0;
        Component {
            eigenvalue,
            variance,
            t2_95: none,
            t2_99: none,
            q_95: none,
            q_99: none,
            loadings,
        }
    });
    let components = components.collect();
    let mut projection = Projection { standardize, columns: usual, components };
    limits(&mut projection, &channels);
    let n = projection.kept(None, Some(0.95));
    let summary =
        format!("{} columns of {} rows, 95 % of the variance in {n}", columns.len(), rows.len());
    Ok(Fitted { text: statistics::to_text(from.name, rows.len(), projection)?, summary })
}

fn covariance(scaled: &[Vec<f64>], divisor: f64) -> Vec<Vec<f64>> {
    let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut covariance = vec![vec![0.0; scaled.len()]; scaled.len()];
    for (i, a) in scaled.iter().enumerate() {
        for (j, b) in scaled.iter().enumerate().take(i + 1) {
            covariance[i][j] = product(a, b) / divisor;
            covariance[j][i] = covariance[i][j];
        }
    }
    covariance
}

/// The percentiles of T² and Q in training, for each number of components.
fn limits(projection: &mut Projection, channels: &[ScalarBuffer<f64>]) {
    let mut left = Left::new(projection, channels);
    for component in &mut projection.components {
        left.take(component);
        let (mut t2, mut q) = (left.t2.clone(), left.q());
        t2.sort_by(f64::total_cmp);
        q.sort_by(f64::total_cmp);
        (component.t2_95, component.t2_99) = (quantile(&t2, 0.95), quantile(&t2, 0.99));
        (component.q_95, component.q_99) = (quantile(&q, 0.95), quantile(&q, 0.99));
    }
}
