//! How predictions of remaining life fare over a machine's life: alpha-lambda, prognostic horizon, intervals.
//!
//! With `y` the life left in truth (at most the cap, where there is one), `p` the prediction, `y0` the life left, uncapped, at
//! the first row of a machine:
//!
//! - alpha-lambda at `l`: the share of machines whose first row with `y <= (1 - l) * y0` has
//!   `(1 - alpha) y <= p <= (1 + alpha) y`. Machines that were not watched so far do not count
//! - prognostic horizon: the life left in the first row from which on all rows have `|p - y| <= alpha * y0`; 0 where the last
//!   row has not. Mean and median over machines
//! - interval: coverage, the share of rows with `low <= y <= high`; width, the mean of `high - low`
//!
//! Source  Saxena et al., Metrics for Offline Evaluation of Prognostic Performance, IJPHM 2010; its horizon is met once,
//! this one must last.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::{Table, decimal, grouped};

/// Where in a life alpha-lambda is looked at.
pub const LAMBDAS: [f64; 3] = [0.25, 0.5, 0.75];

/// A machine's rows, in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// The machine and, where it has several, its life.
    pub name: String,
    /// Its rows.
    pub points: Vec<Point>,
}

/// A prediction within a machine's life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Life left in truth, without a cap.
    pub truth: f64,
    /// Life left as predicted; NaN for none.
    pub predicted: f64,
    /// The ends of the interval; NaN for none.
    pub between: (f64, f64),
}

/// Alpha-lambda at one place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlphaLambda {
    /// The share of the life that was behind.
    pub lambda: f64,
    /// Machines that were watched so far.
    pub machines: u64,
    /// The share of them within the cone.
    pub share: Option<f64>,
}

/// How predictions fare over lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrognosisReport {
    /// How far off is good enough.
    pub alpha: f64,
    /// At a quarter, half and three quarters of the life.
    pub alpha_lambda: Vec<AlphaLambda>,
    /// Mean prognostic horizon, in the unit of the prediction.
    pub horizon_mean: Option<f64>,
    /// Median prognostic horizon.
    pub horizon_median: Option<f64>,
}

/// The figures of courses. Courses that are only a row say nothing about a life.
#[must_use]
pub fn prognosis(courses: &[Course], alpha: f64, cap: Option<f64>) -> PrognosisReport {
    let capped = |y: f64| cap.map_or(y, |cap| y.min(cap));
    let lives = || courses.iter().filter(|c| c.points.len() > 1);
    let alpha_lambda = LAMBDAS.iter().map(|&lambda| {
        let hit = lives().filter_map(|course| {
            let first = course.points.first()?.truth;
            let at = course.points.iter().find(|p| p.truth <= (1.0 - lambda) * first)?;
            let y = capped(at.truth);
            Some(((1.0 - alpha) * y..=(1.0 + alpha) * y).contains(&at.predicted))
        });
        let hits: Vec<bool> = hit.collect();
        let right = hits.iter().filter(|hit| **hit).count();
        let share = (!hits.is_empty()).then(|| right as f64 / hits.len() as f64);
        AlphaLambda { lambda, machines: hits.len() as u64, share }
    });
    let horizon = |course: &Course| {
        let bound = alpha * course.points.first()?.truth;
        // A comparison with NaN is false, as a missing prediction is not within.
        let within = |p: &&Point| (p.predicted - capped(p.truth)).abs() <= bound;
        Some(course.points.iter().rev().take_while(within).last().map_or(0.0, |p| p.truth))
    };
    let horizons: Vec<f64> = lives().filter_map(horizon).collect();
    PrognosisReport {
        alpha,
        alpha_lambda: alpha_lambda.collect(),
        horizon_mean: (!horizons.is_empty())
            .then(|| horizons.iter().sum::<f64>() / horizons.len() as f64),
        horizon_median: median(horizons),
    }
}

/// The middle value; of an even number, the mean of both.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let upper = *values.get(n / 2)?;
    Some(if n % 2 == 1 { upper } else { f64::midpoint(values[n / 2 - 1], upper) })
}

/// How far intervals keep their word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IntervalReport {
    /// The share that ought to lie inside.
    pub nominal: f64,
    /// Rows that have an interval and a truth.
    pub rows: u64,
    /// The share of them that lies inside.
    pub coverage: Option<f64>,
    /// Mean width, in the unit of the prediction.
    pub width: Option<f64>,
}

/// Coverage and width of the intervals of all points.
#[must_use]
pub fn intervals(courses: &[Course], nominal: f64, cap: Option<f64>) -> IntervalReport {
    let (mut rows, mut inside, mut width) = (0_u64, 0_u64, 0.0);
    for point in courses.iter().flat_map(|c| &c.points) {
        let (low, high) = point.between;
        let y = cap.map_or(point.truth, |cap| point.truth.min(cap));
        if low.is_finite() && high.is_finite() && y.is_finite() {
            rows += 1;
            inside += u64::from((low..=high).contains(&y));
            width += high - low;
        }
    }
    let mean = |sum: f64| (rows > 0).then(|| sum / rows as f64);
    IntervalReport { nominal, rows, coverage: mean(inside as f64), width: mean(width) }
}

impl std::fmt::Display for PrognosisReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table =
            Table::new([&*format!("over lives, alpha {}", self.alpha), "value", "machines"]);
        for at in &self.alpha_lambda {
            let name = format!("alpha-lambda at {}", at.lambda);
            table.push([name, decimal(at.share, 3), grouped(at.machines)]);
        }
        table.push(["prognostic horizon, mean".to_owned(), decimal(self.horizon_mean, 3)]);
        table.push(["prognostic horizon, median".to_owned(), decimal(self.horizon_median, 3)]);
        table.fmt(f)
    }
}

impl std::fmt::Display for IntervalReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "interval: {} of {} truths inside (nominal {}), mean width {}",
            decimal(self.coverage, 3),
            grouped(self.rows),
            self.nominal,
            decimal(self.width, 3)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(points: &[(f64, f64)]) -> Course {
        let point = |&(truth, predicted): &(f64, f64)| Point {
            truth,
            predicted,
            between: (predicted - 5.0, predicted + 5.0),
        };
        Course { name: "P-1".to_owned(), points: points.iter().map(point).collect() }
    }

    #[test]
    fn worked_example() {
        // Life left 100; bound of the horizon 20.
        let good = course(&[(100.0, 70.0), (75.0, 90.0), (50.0, 45.0), (25.0, 31.0), (0.0, 4.0)]);
        // Never within, and watched to the middle of its life only.
        let bad = course(&[(100.0, 0.0), (50.0, 0.0)]);
        let alone = course(&[(10.0, 10.0)]);
        let report = prognosis(&[good.clone(), bad, alone], 0.2, None);
        let shares: Vec<_> = report.alpha_lambda.iter().map(|a| (a.machines, a.share)).collect();
        // 90 is within 75 ± 15; 0 is not within 50 ± 10; 45 is; 31 is not within 25 ± 5.
        assert_eq!(shares, [(2, Some(0.5)), (2, Some(0.5)), (1, Some(0.0))]);
        assert_eq!((report.horizon_mean, report.horizon_median), (Some(37.5), Some(37.5)));
        let inside = intervals(&[good], 0.8, None);
        assert_eq!((inside.rows, inside.coverage, inside.width), (5, Some(0.4), Some(10.0)));
    }

    #[test]
    fn a_cap_holds_for_the_truth() {
        let capped = course(&[(300.0, 125.0), (200.0, 125.0), (150.0, 120.0)]);
        let report = prognosis(&[capped], 0.2, Some(125.0));
        assert_eq!(report.horizon_mean, Some(300.0));
        assert_eq!(report.alpha_lambda[1].share, Some(1.0));
    }

    #[test]
    fn a_missing_prediction_is_not_within() {
        let gap = course(&[(10.0, 10.0), (5.0, f64::NAN), (0.0, 0.0)]);
        assert_eq!(prognosis(&[gap], 0.2, None).horizon_mean, Some(0.0));
        assert_eq!(prognosis(&[], 0.2, None).horizon_median, None);
    }
}
