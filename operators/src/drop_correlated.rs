//! Drops the columns that said in training what another one says.
//!
//! Input   keyed rows
//! Output  the same rows without these columns; units stay
//! State   none: the choice is that of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  pandas `corr` (Pearson, over the rows in which both columns are there)
//!
//! Columns are looked at in their order: one is dropped where `|r| > above` with some column before it that is kept. The file
//! names that column. A column that does not vary is like no other, and kept; `drop_constant` drops it.

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{
    ConfigError, Family, FitRows, FitTarget, Fitting, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::anova::correlation;
use crate::selection::{Asked, Columns, Judged};

/// Columns that are more alike are one, unless `above` says otherwise.
const ABOVE: f64 = 0.95;

/// Drops the columns that said in training what another one says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropCorrelatedConfig {
    /// The columns to look at, the one to be kept before the one to be dropped. Left out: all numeric ones that are neither
    /// key nor event time.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// The file of the choice, which `foreline train` writes.
    pub statistics: PathBuf,
    /// A column is dropped whose correlation with one that is kept is above this, or below its opposite; 0.95 unless given,
    /// from 0 to below 1.
    #[serde(default)]
    pub above: Option<f64>,
}

/// The kind `drop_correlated`.
#[derive(Debug, Clone, Copy)]
pub struct DropCorrelated;

impl OperatorKind for DropCorrelated {
    type Config = DropCorrelatedConfig;

    const NAME: &'static str = "drop_correlated";
    const SUMMARY: &'static str = "drops the columns that said in training what another one says";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str = "apart: { from: readings, drop_correlated: { above: 0.9, statistics: statistics/apart.json } }";

    fn plan(
        config: &DropCorrelatedConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &DropCorrelatedConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let above = config.above.unwrap_or(ABOVE);
        let judge = Arc::new(move |columns: &Columns, _: &FitRows<'_>| Ok(judged(columns, above)));
        config.asked().fitting(inputs, given, FitTarget::Unused, judge)
    }
}

impl DropCorrelatedConfig {
    fn asked(&self) -> Asked<'_> {
        let above = self.above.unwrap_or(ABOVE);
        let error = || {
            let what = format!("'{above}' is not a correlation");
            ConfigError::new("above", what).help("give a number from 0 to below 1")
        };
        Asked {
            columns: self.columns.as_deref(),
            statistics: &self.statistics,
            rule: format!("the columns with a correlation of at most {above}"),
            errors: (!(0.0..1.0).contains(&above)).then(error).into_iter().collect(),
        }
    }
}

fn judged(columns: &Columns, above: f64) -> Vec<Judged> {
    let mut judged: Vec<Judged> = Vec::new();
    for (column, values) in columns.names.iter().zip(&columns.channels) {
        // The column that it is most like, of those that are kept.
        let mut most: Option<(f64, &String)> = None;
        let before = judged.iter().zip(&columns.channels).filter(|(j, _)| j.kept);
        for (other, others) in before {
            let (r, _) = correlation(others, values);
            if !r.is_nan() && most.is_none_or(|(most, _)| r.abs() > most.abs()) {
                most = Some((r, &other.column));
            }
        }
        let kept = most.is_none_or(|(r, _)| r.abs() <= above);
        let like = most.map(|(_, other)| other.clone());
        let figure = most.map(|(r, _)| r);
        judged.push(Judged { column: column.clone(), kept, figure, like });
    }
    judged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Table, WithFile, check, try_plan};
    use foreline_engine::TimeDomain::Logical;

    const COLUMNS: [&str; 5] = ["a", "b", "c", "d", "e"];

    #[test]
    fn agrees_with_pandas() {
        let train = Table::parse(Logical, include_str!("../reference/channels_train.csv"));
        let expected = include_str!("../reference/correlation.csv");
        let r: Vec<Vec<f64>> = expected
            .lines()
            .skip(1)
            .map(|line| line.split(',').skip(1).map(|v| v.parse().unwrap()).collect())
            .collect();
        let mut n_kept = Vec::new();
        for above in [0.3, 0.9, 0.98] {
            let config = json!({ "columns": COLUMNS, "above": above });
            let fitted = WithFile::new("drop_correlated", &config, &train);
            let mut kept: Vec<usize> = Vec::new();
            for (i, judged) in
                fitted.file["fitted"]["columns"].as_array().unwrap().iter().enumerate()
            {
                let most =
                    kept.iter().copied().max_by(|&a, &b| r[i][a].abs().total_cmp(&r[i][b].abs()));
                let Some(most) = most else {
                    kept.push(i);
                    continue;
                };
                let figure = judged["figure"].as_f64().unwrap();
                assert!((figure - r[i][most]).abs() < 1e-9 * r[i][most].abs(), "{above} {i}");
                assert_eq!(judged["like"], COLUMNS[most]);
                assert_eq!(judged["kept"], json!(r[i][most].abs() <= above), "{above} {i}");
                if r[i][most].abs() <= above {
                    kept.push(i);
                }
            }
            n_kept.push(kept.len());
        }
        assert!(n_kept.is_sorted() && n_kept[0] < n_kept[2], "{n_kept:?}");
    }

    #[test]
    fn what_is_like_a_dropped_column_alone_stays() {
        // y is like x, z is like y but not like x.
        let rows = "m,t,x,y,z\na,0,0,0,1\na,1,1,2,3\na,2,2,2,1\na,3,3,4,3\n";
        let train = Table::parse(Logical, rows);
        let config = json!({ "above": 0.7 });
        let fitted = WithFile::new("drop_correlated", &config, &train);
        let expected = Table::parse(Logical, "m,t,x,z\na,0,0,1\na,1,1,3\na,2,2,1\na,3,3,3\n");
        check("drop_correlated", &fitted.config, &train, &expected);
    }

    #[test]
    fn a_constant_is_like_nothing() {
        let train = Table::parse(Logical, "m,t,x,y\na,0,1,0.1\na,1,2,0.1\na,2,4,0.1\n");
        let fitted = WithFile::new("drop_correlated", &json!({}), &train);
        assert_eq!(fitted.fitted.summary, "2 of 2 columns kept, by 3 rows");
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let config = json!({ "above": 1, "statistics": "a.json" });
        let errors = try_plan("drop_correlated", &config, &input.schema).unwrap_err();
        assert_eq!(errors, ["above: '1' is not a correlation"]);
    }
}
