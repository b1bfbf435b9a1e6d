//! Standard score: how many standard deviations a value is above the mean.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its scaled value (or joined by it under the name in `as`),
//!         `Float64`, unit 1; a null stays null. With `by` also `regime_unknown`
//! State   with `statistics` none. With `online`, for each key and up to 64 regimes, count, mean, sum of squares and extremes
//!         of each column
//! Late    with `statistics` any row is like any other; `online` honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `StandardScaler`, one for each regime; Welford 1962 for `online`
//!
//! `y = (x - mean) / std`, the deviation divided by the number of values. Null and infinite values are not learnt from.
//! A regime without statistics is scaled with those of all rows, and flagged. Online, the figures are those of the key's rows up
//! to this one; a regime beyond the 64th, or one that is null, is scaled with the figures of all rows of its key.

use std::path::PathBuf;

use foreline_engine::{ConfigError, Family, Fitting, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::entries::Entries;
use crate::scaling::{Asked, Method, Online};

/// Scales columns to mean 0 and standard deviation 1. Exactly one of `statistics` and `online` says where the figures are from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardConfig {
    /// The columns to scale.
    pub columns: Vec<String>,
    /// The columns whose values say under which condition a row was measured: text, whole numbers or truth values, such
    /// as the `regime` of the step `regime`, or a recipe. Each condition has statistics of its own. Left out: one for all.
    #[serde(default)]
    pub by: Vec<String>,
    /// The file of statistics, which `foreline train` writes. Either this or `online`.
    #[serde(default)]
    pub statistics: Option<PathBuf>,
    /// Statistics of the rows so far, for each key, instead of a file: `true`, or of a time of learning after which they
    /// stay as they are: `{ rows: 1000 }` values of each column and regime, at least 2, or `{ duration: 14d }` from the
    /// key's first row.
    #[serde(default)]
    pub online: Option<Online>,
    /// A spread below this is none: the column is taken for constant and becomes 0; 1e-9 unless given.
    #[serde(default)]
    pub constant: Option<f64>,
    /// With `by`, the name of the column that is true where a row's condition has no statistics, so that those of all rows
    /// were used; `regime_unknown` unless given.
    #[serde(default)]
    pub flag: Option<String>,
    /// Names for the scaled columns, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: Entries<String>,
}

/// The kind `standard`.
#[derive(Debug, Clone, Copy)]
pub struct Standard;

impl OperatorKind for Standard {
    type Config = StandardConfig;

    const NAME: &'static str = "standard";
    const SUMMARY: &'static str =
        "scales columns by mean and standard deviation, of all rows or of each regime";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str = "scaled: { from: readings, standard: { columns: [vibration, temperature], by: [recipe], statistics: statistics/pumps.json } }";

    fn plan(
        config: &StandardConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &StandardConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        config.asked().fitting(inputs, given)
    }
}

impl StandardConfig {
    fn asked(&self) -> Asked<'_> {
        Asked {
            method: Method::Standard,
            columns: &self.columns,
            by: &self.by,
            statistics: self.statistics.as_ref(),
            online: self.online.as_ref(),
            constant: self.constant,
            flag: self.flag.as_ref(),
            rename: &self.rename,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Table, WithFile, check};
    use foreline_engine::TimeDomain::UtcNanos;

    fn table(text: &str) -> Table {
        Table::parse(UtcNanos, text)
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let train = table(include_str!("../reference/scaling_train.csv"));
        let live = table(include_str!("../reference/scaling_live.csv"));
        for (config, expected) in [
            (json!({ "columns": ["x", "y"] }), include_str!("../reference/standard.csv")),
            (
                json!({ "columns": ["x", "y"], "by": ["mode", "shift"] }),
                include_str!("../reference/standard_by.csv"),
            ),
        ] {
            let fitted = WithFile::new("standard", &config, &train);
            check("standard", &fitted.config, &live, &table(expected));
        }
    }

    #[test]
    fn online_agrees_with_pandas() {
        let live = table(include_str!("../reference/scaling_live.csv"));
        for (mut config, expected) in [
            (json!({ "online": true }), include_str!("../reference/standard_online.csv")),
            (
                json!({ "online": { "rows": 25 } }),
                include_str!("../reference/standard_learning.csv"),
            ),
            (
                json!({ "online": true, "by": ["mode"] }),
                include_str!("../reference/standard_online_by.csv"),
            ),
        ] {
            config["columns"] = json!(["x", "y"]);
            check("standard", &config, &live, &table(expected));
        }
    }

    #[test]
    fn a_learning_time_ends_by_the_clock_of_the_key() {
        let input = table("m,t,x\na,0,1\nb,5,10\na,9,3\na,10,100\nb,14,20\nb,15,35\n");
        let config = json!({ "columns": ["x"], "online": { "duration": "10ns" } });
        let expected = "m,t,x\na,0,0\nb,5,0\na,9,1\na,10,98\nb,14,1\nb,15,4\n";
        check("standard", &config, &input, &table(expected));
    }
}
