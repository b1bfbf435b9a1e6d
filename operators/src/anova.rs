//! Keeps the columns that tell most of a target, by an F-test in training.
//!
//! Input   keyed rows
//! Output  the same rows without the columns that were not chosen; units stay
//! State   none: the choice is that of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `f_regression` and `f_classif`
//!
//! The target is that of the training. An amount: `F = r^2 / (1 - r^2) * (n - 2)` with the correlation `r` of column and target.
//! Classes (text and truth values, whole numbers with `classes`): the variance between the classes' means over the variance
//! within them, `F = (sum n_k (m_k - m)^2 / (K - 1)) / (sum (x - m_k)^2 / (n - K))`. Rows in which column or target is missing do not
//! count. A column that does not vary has no F and is not kept; of equals the first is. The target itself stays, where it is among the
//! columns, and counts for none. The file has the F of every column.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{
    ConfigError, Family, FitTarget, Fitting, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::channel;
use crate::selection::{Asked, Columns, Judged};

/// Most classes of a target; more are amounts.
const MAX_CLASSES: usize = 256;

/// Keeps the columns that tell most of the target of the training. Exactly one of `keep` and `at_least` says which.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnovaConfig {
    /// The columns to choose from. Left out: all numeric ones that are neither key nor event time.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// The file of the choice, which `foreline train` writes.
    pub statistics: PathBuf,
    /// How many columns are kept: those with the greatest F.
    #[serde(default)]
    pub keep: Option<usize>,
    /// The least F of a column that is kept, above 0.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// Whether a target of whole numbers names classes, such as codes of faults. Text and truth values always do.
    #[serde(default)]
    pub classes: bool,
}

/// The kind `anova`.
#[derive(Debug, Clone, Copy)]
pub struct Anova;

impl OperatorKind for Anova {
    type Config = AnovaConfig;

    const NAME: &'static str = "anova";
    const SUMMARY: &'static str =
        "keeps the columns that tell most of a target, chosen in training by an F-test";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str =
        "chosen: { from: readings, anova: { keep: 2, statistics: statistics/chosen.json } }";

    fn plan(
        config: &AnovaConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &AnovaConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let (keep, at_least, classes) = (config.keep, config.at_least, config.classes);
        let judge = Arc::new(move |columns: &Columns, from: &foreline_engine::FitRows<'_>| {
            let target = from.target.ok_or("the target is missing")?;
            let target = Target::of(target, classes)?;
            let figures = columns.channels.iter().map(|values| target.f(values)).collect();
            Ok(judged(columns, figures, &is_target(columns, from), keep, at_least))
        });
        config.asked().fitting(inputs, given, FitTarget::Needed, judge)
    }
}

impl AnovaConfig {
    fn asked(&self) -> Asked<'_> {
        let (rule, error) = match (self.keep, self.at_least) {
            (Some(keep), None) => (
                format!("the {keep} columns with the greatest F"),
                (keep == 0).then(|| ConfigError::new("keep", "at least one column must be kept")),
            ),
            (None, Some(f)) => (
                format!("the columns with an F of at least {f}"),
                (!(f > 0.0 && f.is_finite()))
                    .then(|| ConfigError::new("at_least", format!("'{f}' is not above zero"))),
            ),
            (None, None) => (
                String::new(),
                Some(
                    ConfigError::new("", "nothing says which columns to keep")
                        .help("add one of keep, at_least"),
                ),
            ),
            (Some(_), Some(_)) => (
                String::new(),
                Some(
                    ConfigError::new("", "keep and at_least exclude one another")
                        .help("keep one of them"),
                ),
            ),
        };
        Asked {
            columns: self.columns.as_deref(),
            statistics: &self.statistics,
            rule,
            errors: error.into_iter().collect(),
        }
    }
}

/// What columns are to tell.
enum Target {
    /// An amount a row, NaN where missing.
    Amounts(Vec<f64>),
    /// The class of each row, and how many there are.
    Classes(Vec<Option<usize>>, usize),
}

impl Target {
    fn of(target: &ArrayRef, classes: bool) -> Result<Self, String> {
        match target.data_type() {
            DataType::Float64 => {}
            DataType::Int64 if !classes => {}
            _ => return Self::classes(target),
        }
        Ok(Target::Amounts(channel(target).map_err(|e| e.message)?.to_vec()))
    }

    fn classes(target: &ArrayRef) -> Result<Self, String> {
        let texts = cast(target, &DataType::Utf8).map_err(|e| e.to_string())?;
        let mut codes = BTreeMap::new();
        let mut code = |text: Option<&str>| {
            let next = codes.len();
            text.map(|text| *codes.entry(text.to_owned()).or_insert(next))
        };
        let of_row = texts.as_string::<i32>().iter().map(&mut code).collect();
        match codes.len() {
            0 | 1 => Err("the target has one class only".to_owned()),
            n if n > MAX_CLASSES => {
                Err(format!("the target has {n} classes, but at most {MAX_CLASSES} can be told"))
            }
            n => Ok(Target::Classes(of_row, n)),
        }
    }

    /// The F of a column; `None` where it has none.
    fn f(&self, values: &[f64]) -> Option<f64> {
        let f = match self {
            Target::Amounts(target) => regression(values, target),
            Target::Classes(of_row, n) => classification(values, of_row, *n),
        };
        // A column that tells everything has an infinite F, which a file cannot hold.
        (!f.is_nan()).then(|| f.min(f64::MAX))
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
fn regression(values: &[f64], target: &[f64]) -> f64 {
    let (r, n) = correlation(values, target);
    let rr = r * r;
    rr / (1.0 - rr).max(0.0) * (n as f64 - 2.0)
}

/// The correlation over the rows in which both are there, and how many these are; NaN where one does not vary.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
pub(crate) fn correlation(x: &[f64], y: &[f64]) -> (f64, usize) {
    let both = || x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite());
    let (mut n, mut sums) = (0, (0.0, 0.0));
    for (x, y) in both() {
        n += 1;
        sums = (sums.0 + x, sums.1 + y);
    }
    let means = (sums.0 / n as f64, sums.1 / n as f64);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in both() {
        let (dx, dy) = (x - means.0, y - means.1);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    // A constant's mean is off by rounding, which would turn up as a spread.
    let varies = |square: f64, mean: f64| square > n as f64 * (mean * 1e-15) * (mean * 1e-15);
    let some = n > 2 && varies(xx, means.0) && varies(yy, means.1);
    (if some { xy / (xx.sqrt() * yy.sqrt()) } else { f64::NAN }, n)
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
fn classification(values: &[f64], of_row: &[Option<usize>], n_classes: usize) -> f64 {
    let there = || {
        let each = values.iter().zip(of_row).filter(|(x, _)| x.is_finite());
        each.filter_map(|(&x, class)| class.map(|class| (x, class)))
    };
    let mut classes = vec![(0_usize, 0.0); n_classes];
    for (x, class) in there() {
        classes[class] = (classes[class].0 + 1, classes[class].1 + x);
    }
    let n: usize = classes.iter().map(|c| c.0).sum();
    let used = classes.iter().filter(|c| c.0 > 0).count();
    if used < 2 || n <= used {
        return f64::NAN;
    }
    let mean = classes.iter().map(|c| c.1).sum::<f64>() / n as f64;
    let means: Vec<f64> = classes.iter().map(|&(n, sum)| sum / (n as f64).max(1.0)).collect();
    let within: f64 = there().map(|(x, class)| (x - means[class]) * (x - means[class])).sum();
    let each = classes.iter().zip(&means);
    let between: f64 = each.map(|(&(n, _), m)| n as f64 * (m - mean) * (m - mean)).sum();
    let rounding = (mean * 1e-15) * (mean * 1e-15) * n as f64;
    if between + within <= rounding {
        return f64::NAN;
    }
    (between / (used as f64 - 1.0)) / (within / (n - used) as f64)
}

/// Whether each column is the target itself.
fn is_target(columns: &Columns, from: &foreline_engine::FitRows<'_>) -> Vec<bool> {
    let same = |name: &String| from.rows.column_by_name(name) == from.target;
    columns.names.iter().map(same).collect()
}

fn judged(
    columns: &Columns,
    mut figures: Vec<Option<f64>>,
    is_target: &[bool],
    keep: Option<usize>,
    at_least: Option<f64>,
) -> Vec<Judged> {
    for (figure, _) in figures.iter_mut().zip(is_target).filter(|(_, target)| **target) {
        *figure = None;
    }
    let mut order: Vec<usize> = (0..figures.len()).filter(|&i| figures[i].is_some()).collect();
    order
        .sort_by(|&a, &b| figures[b].partial_cmp(&figures[a]).unwrap_or(std::cmp::Ordering::Equal));
    order.truncate(keep.unwrap_or(usize::MAX));
    let kept = |i: usize| {
        order.contains(&i) && at_least.is_none_or(|least| figures[i].is_some_and(|f| f >= least))
    };
    let each = columns.names.iter().enumerate();
    let one = |(i, column): (usize, &String)| Judged {
        column: column.clone(),
        kept: is_target[i] || kept(i),
        figure: figures[i],
        like: None,
    };
    each.map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, WithFile, sameness, try_plan};
    use foreline_engine::TimeDomain::Logical;

    fn train() -> Table {
        Table::parse(Logical, include_str!("../reference/channels_train.csv"))
    }

    fn target(name: &str) -> ArrayRef {
        let train = train();
        Arc::clone(train.rows.column(train.schema.index_of(name).unwrap()))
    }

    fn fit(config: &Value, name: &str) -> Result<WithFile, Vec<String>> {
        WithFile::fit_to("anova", config, &train(), Some(&target(name)))
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let expected = include_str!("../reference/anova.csv");
        for (place, name) in [(1, "fault"), (2, "life")] {
            let config = json!({ "columns": ["a", "b", "c", "d", "e"], "keep": 2 });
            let fitted = fit(&config, name).unwrap();
            let judged = fitted.file["fitted"]["columns"].as_array().unwrap();
            for (judged, line) in judged.iter().zip(expected.lines().skip(1)) {
                let line: Vec<&str> = line.split(',').collect();
                let (f, want) = (judged["figure"].as_f64().unwrap(), line[place]);
                let want: f64 = want.parse().unwrap();
                assert_eq!(judged["column"], line[0]);
                assert!((f - want).abs() <= 1e-9 * want, "{name} {line:?}: {f}");
                assert_eq!(judged["kept"], json!(["a", "b"].contains(&line[0])));
            }
            let outcome = sameness("anova", &fitted.config, &train());
            let names: Vec<_> = outcome.schema.columns().iter().map(|c| c.name.clone()).collect();
            assert_eq!(names, ["machine", "t", "a", "b", "f", "life", "fault"]);
            assert_eq!(
                outcome.numbers("b"),
                sameness("select", &json!({ "columns": ["machine", "t", "b"] }), &train())
                    .numbers("b")
            );
        }
    }

    #[test]
    fn a_column_that_does_not_vary_is_never_kept() {
        let fitted = fit(&json!({ "columns": ["f", "a"], "keep": 2 }), "life").unwrap();
        assert_eq!(fitted.file["fitted"]["columns"][0]["figure"], Value::Null);
        assert_eq!(fitted.fitted.summary, "1 of 2 columns kept, by 200 rows");
        let fitted = fit(&json!({ "columns": ["f", "a"], "keep": 2 }), "fault").unwrap();
        assert_eq!(fitted.file["fitted"]["columns"][0]["kept"], json!(false));
    }

    #[test]
    fn what_tells_everything_has_the_greatest_number() {
        let rows = Table::parse(Logical, "m,t,x,y,z\na,0,1,2,4\na,1,2,4,3\na,2,4,8,9\n");
        let y = Arc::clone(rows.rows.column(3));
        let fitted =
            WithFile::fit_to("anova", &json!({ "at_least": 1e4 }), &rows, Some(&y)).unwrap();
        let columns = &fitted.file["fitted"]["columns"];
        let kept = |i: usize| columns[i]["kept"].as_bool().unwrap();
        assert!(columns[0]["figure"].as_f64().unwrap() > 1e12);
        // The target stays without being judged.
        assert_eq!(
            ([kept(0), kept(1), kept(2)], &columns[1]["figure"]),
            ([true, true, false], &Value::Null)
        );
    }

    #[test]
    fn missing_values_do_not_count() {
        let rows = Table::parse(Logical, "m,t,x,y\na,0,1,1\na,1,2,2\na,2,3,2\na,3,,9\na,4,5,\n");
        let y = Arc::clone(rows.rows.column(3));
        let config = json!({ "columns": ["x"], "keep": 1 });
        let fitted = WithFile::fit_to("anova", &config, &rows, Some(&y)).unwrap();
        // r^2 = 3/4 over three rows.
        let f = fitted.file["fitted"]["columns"][0]["figure"].as_f64().unwrap();
        assert!((f - 3.0).abs() < 1e-12, "{f}");
    }

    #[test]
    fn whole_numbers_are_classes_if_told() {
        let rows = Table::parse(Logical, "m,t,x,n:int64\na,0,1,7\na,1,3,7\na,2,9,2\na,3,11,2\n");
        let n = Arc::clone(rows.rows.column(3));
        let f = |config: Value| {
            let fitted = WithFile::fit_to("anova", &config, &rows, Some(&n)).unwrap();
            fitted.file["fitted"]["columns"][0]["figure"].as_f64().unwrap()
        };
        assert_eq!(f(json!({ "columns": ["x"], "keep": 1, "classes": true })), 32.0);
        assert!((f(json!({ "columns": ["x"], "keep": 1 })) - 32.0).abs() < 1e-9);
    }

    #[test]
    fn says_what_is_wrong() {
        let cases: &[(Value, &[&str])] = &[
            (json!({}), &["nothing says which columns to keep"]),
            (json!({ "keep": 1, "at_least": 2 }), &["keep and at_least exclude one another"]),
            (
                json!({ "keep": 0, "columns": ["z", "t"] }),
                &[
                    "keep: at least one column must be kept",
                    "columns[0]: there is no column 'z'",
                    "columns[1]: column 't' is the event time",
                ],
            ),
            (json!({ "at_least": 0 }), &["at_least: '0' is not above zero"]),
        ];
        for (config, expected) in cases {
            let mut config = config.clone();
            config["statistics"] = json!("a.json");
            assert_eq!(try_plan("anova", &config, &train().schema).unwrap_err(), *expected);
        }
        let fitted = fit(&json!({ "columns": ["a", "b"], "keep": 1 }), "life").unwrap();
        for (config, expected) in [
            (
                json!({ "columns": ["a", "b"], "keep": 2 }),
                "the statistics keep the 1 columns with the greatest F, but the step keeps the 2 columns with the greatest F",
            ),
            (json!({ "keep": 1 }), "columns: the statistics are of the columns [a, b]"),
        ] {
            let config = fitted.under(config);
            assert_eq!(try_plan("anova", &config, &train().schema).unwrap_err(), [expected]);
        }
        let one_class =
            WithFile::fit_to("anova", &json!({ "keep": 1 }), &train(), Some(&target("machine")));
        assert!(one_class.is_ok());
        let rows = Table::parse(Logical, "m,t,x,s:string\na,0,1,u\na,1,2,u\n");
        let s = Arc::clone(rows.rows.column(3));
        let errors = WithFile::fit_to("anova", &json!({ "keep": 1 }), &rows, Some(&s)).unwrap_err();
        assert_eq!(errors, ["the target has one class only"]);
    }
}
