//! Scale to a range: the least value becomes its lower end, the greatest its upper end.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its scaled value (or joined by it under the name in `as`),
//!         `Float64`, unit 1; a null stays null. With `by` also `regime_unknown`
//! State   with `statistics` none. With `online`, for each key and up to 64 regimes, count, mean, sum of squares and extremes
//!         of each column
//! Late    with `statistics` any row is like any other; `online` honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `MinMaxScaler`, one for each regime; of a constant column, where that one gives `low + x - min`,
//!         this one gives `low`
//!
//! `y = low + (x - min) / (max - min) * (high - low)` with `range: [low, high]`. A value beyond what was seen lies beyond the range.
//! A regime without statistics is scaled with those of all rows, and flagged. Online, the figures are those of the key's rows up
//! to this one; a regime beyond the 64th, or one that is null, is scaled with the figures of all rows of its key.

use std::path::PathBuf;

use foreline_engine::{ConfigError, Family, Fitting, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::entries::Entries;
use crate::scaling::{Asked, Method, Online};

/// Scales columns to a range. Exactly one of `statistics` and `online` says where the figures are from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinMaxConfig {
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
    /// What least and greatest value become; `[0, 1]` unless given.
    #[serde(default = "unit_range")]
    pub range: [f64; 2],
    /// A spread below this is none: the column is taken for constant and becomes 0, or the lower end of `range`; 1e-9 unless given.
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

/// The kind `minmax`.
#[derive(Debug, Clone, Copy)]
pub struct MinMax;

impl OperatorKind for MinMax {
    type Config = MinMaxConfig;

    const NAME: &'static str = "minmax";
    const SUMMARY: &'static str = "scales columns from their least and greatest value to a range, of all rows or of each regime";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str = "scaled: { from: readings, minmax: { columns: [vibration, temperature], by: [recipe], statistics: statistics/pumps.json } }";

    fn plan(
        config: &MinMaxConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &MinMaxConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        config.asked().fitting(inputs, given)
    }
}

impl MinMaxConfig {
    fn asked(&self) -> Asked<'_> {
        Asked {
            method: Method::MinMax { low: self.range[0], high: self.range[1] },
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

fn unit_range() -> [f64; 2] {
    [0.0, 1.0]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Table, WithFile, check, try_plan};
    use foreline_engine::TimeDomain::{Logical, UtcNanos};

    #[test]
    fn agrees_with_scikit_learn() {
        let table = |text: &str| Table::parse(UtcNanos, text);
        let train = table(include_str!("../reference/scaling_train.csv"));
        let live = table(include_str!("../reference/scaling_live.csv"));
        for (config, expected) in [
            (json!({ "columns": ["x", "y"] }), include_str!("../reference/minmax.csv")),
            (
                json!({ "columns": ["x", "y"], "by": ["mode"], "range": [-1, 2] }),
                include_str!("../reference/minmax_by.csv"),
            ),
        ] {
            let fitted = WithFile::new("minmax", &config, &train);
            check("minmax", &fitted.config, &live, &table(expected));
        }
    }

    #[test]
    fn online_takes_the_extremes_so_far() {
        let input = Table::parse(Logical, "m,t,x\na,0,4\na,1,8\na,2,5\na,3,\na,4,0\na,5,2\n");
        let expected = Table::parse(
            Logical,
            "m,t,x,y\na,0,4,0\na,1,8,1\na,2,5,0.25\na,3,,\na,4,0,0\na,5,2,0.25\n",
        );
        let config = json!({ "columns": ["x"], "online": true, "as": { "x": "y" } });
        check("minmax", &config, &input, &expected);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let config = json!({ "columns": ["x"], "online": true, "range": [1, 1] });
        let errors = try_plan("minmax", &config, &input.schema).unwrap_err();
        assert_eq!(errors, ["range: '[1, 1]' is not a range"]);
    }
}
