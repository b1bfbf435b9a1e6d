//! Robust score: how far a value is from the median, in distances between two quantiles.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its scaled value (or joined by it under the name in `as`),
//!         `Float64`, unit 1; a null stays null. With `by` also `regime_unknown`
//! State   with `statistics` none. With `online`, for each key and up to 64 regimes, the values of the time of learning of
//!         each column, at most 10,000
//! Late    with `statistics` any row is like any other; `online` honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `RobustScaler`, one for each regime
//!
//! `y = (x - median) / (high - low)`, quantiles linear between the nearest values. A spike moves neither median nor quartiles, as it
//! moves mean and deviation.
//! A regime without statistics is scaled with those of all rows, and flagged. Online, the figures are those of the key's rows up
//! to this one; a regime beyond the 64th, or one that is null, is scaled with the figures of all rows of its key.

use std::path::PathBuf;

use foreline_engine::{ConfigError, Family, Fitting, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::entries::Entries;
use crate::scaling::{Asked, Method, Online};

/// Scales columns by median and quantiles. Exactly one of `statistics` and `online` says where the figures are from; `online` needs
/// `rows`, at most 10,000, because the values are kept.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RobustConfig {
    /// The columns to scale.
    pub columns: Vec<String>,
    /// The columns whose values say under which condition a row was measured: text, whole numbers or truth values, such
    /// as the `regime` of the step `regime`, or a recipe. Each condition has statistics of its own. Left out: one for all.
    #[serde(default)]
    pub by: Vec<String>,
    /// The file of statistics, which `foreline train` writes. Either this or `online`.
    #[serde(default)]
    pub statistics: Option<PathBuf>,
    /// Statistics of the rows so far, for each key, instead of a file, of a time of learning after which they stay as they
    /// are: `{ rows: 1000 }` values of each column and regime, 2 to 10,000. Quantiles cannot be learnt for ever.
    #[serde(default)]
    pub online: Option<Online>,
    /// Which quantiles the spread is between; `[0.25, 0.75]`, the quartiles, unless given.
    #[serde(default = "quartiles")]
    pub quantiles: [f64; 2],
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

/// The kind `robust`.
#[derive(Debug, Clone, Copy)]
pub struct Robust;

impl OperatorKind for Robust {
    type Config = RobustConfig;

    const NAME: &'static str = "robust";
    const SUMMARY: &'static str =
        "scales columns by median and quartiles, of all rows or of each regime";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str = "scaled: { from: readings, robust: { columns: [vibration, temperature], online: { rows: 1000 } } }";

    fn plan(
        config: &RobustConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &RobustConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        config.asked().fitting(inputs, given)
    }
}

impl RobustConfig {
    fn asked(&self) -> Asked<'_> {
        Asked {
            method: Method::Robust { quantiles: self.quantiles },
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

fn quartiles() -> [f64; 2] {
    [0.25, 0.75]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Table, WithFile, check, try_plan};
    use foreline_engine::TimeDomain::UtcNanos;

    fn table(text: &str) -> Table {
        Table::parse(UtcNanos, text)
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let train = table(include_str!("../reference/scaling_train.csv"));
        let live = table(include_str!("../reference/scaling_live.csv"));
        for (config, expected) in [
            (json!({ "columns": ["x", "y"] }), include_str!("../reference/robust.csv")),
            (
                json!({ "columns": ["x", "y"], "by": ["mode"] }),
                include_str!("../reference/robust_by.csv"),
            ),
        ] {
            let fitted = WithFile::new("robust", &config, &train);
            check("robust", &fitted.config, &live, &table(expected));
        }
    }

    #[test]
    fn online_agrees_with_pandas() {
        let live = table(include_str!("../reference/scaling_live.csv"));
        let config =
            json!({ "columns": ["x", "y"], "quantiles": [0.1, 0.9], "online": { "rows": 30 } });
        check("robust", &config, &live, &table(include_str!("../reference/robust_learning.csv")));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = table("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "online": true }),
                &["online: quantiles need the rows they are of, so there must be a last one"],
            ),
            (
                json!({ "online": { "rows": 20_000 } }),
                &["online.rows: '20000' values are too many to keep"],
            ),
            (
                json!({ "online": { "rows": 9 }, "quantiles": [0.5, 0.2] }),
                &["quantiles: '[0.5, 0.2]' are not two quantiles"],
            ),
        ];
        for (config, expected) in cases {
            let mut config = config.clone();
            config["columns"] = json!(["x"]);
            assert_eq!(try_plan("robust", &config, &input.schema).unwrap_err(), *expected);
        }
    }

    #[test]
    fn a_file_of_other_quantiles_is_refused() {
        let train = table(include_str!("../reference/scaling_train.csv"));
        let fitted = WithFile::new("robust", &json!({ "columns": ["x"] }), &train);
        let config = fitted.under(json!({ "columns": ["x"], "quantiles": [0.1, 0.9] }));
        let errors = try_plan("robust", &config, &train.schema).unwrap_err();
        assert_eq!(
            errors,
            ["quantiles: the statistics hold the quantiles [0.25, 0.75], not [0.1, 0.9]"]
        );
    }
}
