//! What alarms by a predicted life would have been worth: how early, how often for nothing, how often not at all, what cost.
//!
//! A life raises an alarm in the first row in which the prediction has been below `below` for `rows` rows one after the
//! other; it ends in the first row in which it is not, and may be raised again. The first alarm decides about the life:
//!
//! - *early*: more life than `earliest` was left; *right*: between `latest` and `earliest`; *missed*: less than `latest`, or
//!   no alarm at all although less than `latest` was left in the last row
//! - a life without an alarm that goes on with `latest` or more is not due: no case of the three
//! - precision: right / (right + early); recall: right / (right + early + missed); lead time: life left at a right alarm
//! - false alarms: all alarms with more than `earliest` left, over the machine-days (machine-steps of a count) watched
//! - cost a machine-day: over the three cases, `share * (repair + loss) / days`, shares of the lives that are a case
//!
//! Source  the cost is that of a published pump project; with its defaults 5 missed, 5 early and 15 right are 7.00

use foreline_spec::{AlarmConfig, CostConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prognosis::{Course, median};
use crate::table::{Table, decimal, grouped};

/// What alarms would have been worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmReport {
    /// Lives whose first alarm came in time.
    pub right: u64,
    /// Lives whose first alarm came too early.
    pub early: u64,
    /// Lives whose first alarm came too late, or never.
    pub missed: u64,
    /// Lives without an alarm that were not due.
    pub not_due: u64,
    /// Right over right and early.
    pub precision: Option<f64>,
    /// Right over all cases.
    pub recall: Option<f64>,
    /// Median life left at a right alarm, in the unit of the prediction.
    pub lead_median: Option<f64>,
    /// Least life left at a right alarm.
    pub lead_least: Option<f64>,
    /// Alarms, raised again ones too, that came too early.
    pub false_alarms: u64,
    /// False alarms over the days (steps of a count) that machines were watched.
    pub false_alarms_per_machine_day: Option<f64>,
    /// Cost a machine-day, where costs are given.
    pub cost: Option<f64>,
}

/// How a life was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Right,
    Early,
    Missed,
    NotDue,
}

/// The figures of some lives. `days` is how many days (steps) they were watched in all.
#[must_use]
pub fn alarms(
    courses: &[Course],
    config: &AlarmConfig,
    cost: Option<&CostConfig>,
    days: f64,
) -> AlarmReport {
    let earliest = config.earliest.unwrap_or(f64::INFINITY);
    let mut report = AlarmReport {
        right: 0,
        early: 0,
        missed: 0,
        not_due: 0,
        precision: None,
        recall: None,
        lead_median: None,
        lead_least: None,
        false_alarms: 0,
        false_alarms_per_machine_day: None,
        cost: None,
    };
    let mut leads = Vec::new();
    for course in courses {
        let raised = raised(course, config);
        report.false_alarms += raised.iter().filter(|left| **left > earliest).count() as u64;
        match case(course, raised.first().copied(), config) {
            Case::Right => {
                report.right += 1;
                leads.extend(raised.first());
            }
            Case::Early => report.early += 1,
            Case::Missed => report.missed += 1,
            Case::NotDue => report.not_due += 1,
        }
    }
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    let cases = report.right + report.early + report.missed;
    report.precision = share(report.right, report.right + report.early);
    report.recall = share(report.right, cases);
    report.lead_least = leads.iter().copied().reduce(f64::min);
    report.lead_median = median(leads);
    report.false_alarms_per_machine_day = (days > 0.0).then(|| report.false_alarms as f64 / days);
    report.cost = cost.filter(|_| cases > 0).map(|cost| {
        [(report.missed, cost.missed), (report.early, cost.early), (report.right, cost.right)]
            .iter()
            .map(|(n, case)| *n as f64 / cases as f64 * (case.repair + case.loss) / case.days)
            .sum()
    });
    report
}

fn case(course: &Course, first: Option<f64>, config: &AlarmConfig) -> Case {
    let left = course.points.last().map_or(f64::INFINITY, |p| p.truth);
    match first {
        Some(left) if left > config.earliest.unwrap_or(f64::INFINITY) => Case::Early,
        Some(left) if left < config.latest => Case::Missed,
        Some(_) => Case::Right,
        // A life that ends with its last row is due, whatever `latest` is.
        None if left < config.latest || left <= 0.0 => Case::Missed,
        None => Case::NotDue,
    }
}

/// The life left at each alarm. A row without a prediction neither raises nor ends one.
fn raised(course: &Course, config: &AlarmConfig) -> Vec<f64> {
    let (mut below, mut found) = (0, Vec::new());
    for point in course.points.iter().filter(|p| p.predicted.is_finite()) {
        below = if point.predicted < config.below { below + 1 } else { 0 };
        if below == config.rows.max(1) {
            found.push(point.truth);
        }
    }
    found
}

impl std::fmt::Display for AlarmReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new(["alarms", "value"]);
        for (name, count) in [
            ("lives met in time", self.right),
            ("alarm too early", self.early),
            ("missed", self.missed),
            ("no alarm and not due", self.not_due),
            ("false alarms", self.false_alarms),
        ] {
            table.push([name.to_owned(), grouped(count)]);
        }
        for (name, value) in [
            ("false alarms per machine-day", self.false_alarms_per_machine_day),
            ("precision", self.precision),
            ("recall", self.recall),
            ("lead time, median", self.lead_median),
            ("lead time, least", self.lead_least),
            ("cost per machine-day", self.cost),
        ] {
            table.push([name.to_owned(), decimal(value, 3)]);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::prognosis::Point;

    fn course(points: &[(f64, f64)]) -> Course {
        let point = |&(truth, predicted): &(f64, f64)| Point {
            truth,
            predicted,
            between: (f64::NAN, f64::NAN),
        };
        Course { name: String::new(), points: points.iter().map(point).collect() }
    }

    fn config() -> AlarmConfig {
        AlarmConfig { below: 20.0, rows: 2, earliest: Some(40.0), latest: 5.0 }
    }

    #[test]
    fn each_case() {
        let right = course(&[(30.0, 19.0), (20.0, 50.0), (15.0, 19.0), (10.0, 19.0), (0.0, 1.0)]);
        let early = course(&[(90.0, 1.0), (80.0, 1.0), (70.0, 99.0), (60.0, 1.0), (50.0, 1.0)]);
        let late = course(&[(6.0, 9.0), (3.0, 9.0), (0.0, 9.0)]);
        let never = course(&[(9.0, 50.0), (0.0, 50.0)]);
        let not_due = course(&[(90.0, 50.0), (60.0, f64::NAN)]);
        let all = [right, early, late, never, not_due];
        let report = alarms(&all, &config(), Some(&CostConfig::default()), 4.0);
        let counts = (report.right, report.early, report.missed, report.not_due);
        assert_eq!(counts, (1, 1, 2, 1));
        assert_eq!((report.false_alarms, report.false_alarms_per_machine_day), (2, Some(0.5)));
        assert_eq!((report.precision, report.recall), (Some(0.5), Some(0.25)));
        assert_eq!(report.lead_median, Some(10.0));
        let cost = 0.5 * 600.0 / 30.0 + 0.25 * 100.0 / 20.0 + 0.25 * 100.0 / 30.0;
        assert!((report.cost.expect("there are cases") - cost).abs() < 1e-12);
    }

    #[test]
    fn cost_of_the_pump_project() {
        let of = |n, points: &[(f64, f64)]| vec![course(points); n];
        let mut all = of(5, &[(9.0, 50.0), (0.0, 50.0)]);
        all.extend(of(5, &[(90.0, 1.0), (80.0, 1.0)]));
        all.extend(of(15, &[(30.0, 1.0), (20.0, 1.0), (0.0, 1.0)]));
        let report = alarms(&all, &config(), Some(&CostConfig::default()), 1.0);
        assert!((report.cost.expect("there are cases") - 7.0).abs() < 1e-12);
    }

    #[test]
    fn no_lives_no_figures() {
        let report = alarms(&[], &config(), Some(&CostConfig::default()), 0.0);
        assert_eq!((report.cost, report.recall, report.lead_median), (None, None, None));
    }
}
