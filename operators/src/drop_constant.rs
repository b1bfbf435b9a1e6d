//! Drops the columns that did not vary in training.
//!
//! Input   keyed rows
//! Output  the same rows without these columns; units stay
//! State   none: the choice is that of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `VarianceThreshold`, with the standard deviation instead of its square
//!
//! A column is kept where its standard deviation in training, divided by the number of values, is at least `below`. A column
//! without a value is dropped. Which columns are there does not depend on the rows that come later.

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{
    ConfigError, Family, FitRows, FitTarget, Fitting, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::moments::{Central, Moments};
use crate::selection::{Asked, Columns, Judged};

/// A standard deviation below this is none, unless `below` says otherwise.
const BELOW: f64 = 1e-9;

/// Drops the columns that did not vary in training.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropConstantConfig {
    /// The columns to look at. Left out: all numeric ones that are neither key nor event time.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// The file of the choice, which `foreline train` writes.
    pub statistics: PathBuf,
    /// A column whose standard deviation is below this is dropped; 1e-9 unless given, above 0.
    #[serde(default)]
    pub below: Option<f64>,
}

/// The kind `drop_constant`.
#[derive(Debug, Clone, Copy)]
pub struct DropConstant;

impl OperatorKind for DropConstant {
    type Config = DropConstantConfig;

    const NAME: &'static str = "drop_constant";
    const SUMMARY: &'static str = "drops the columns that did not vary in training";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str =
        "varied: { from: readings, drop_constant: { statistics: statistics/varied.json } }";

    fn plan(
        config: &DropConstantConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        config.asked().plan(inputs, given)
    }

    fn fitting(
        config: &DropConstantConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let below = config.below.unwrap_or(BELOW);
        let judge = Arc::new(move |columns: &Columns, _: &FitRows<'_>| Ok(judged(columns, below)));
        config.asked().fitting(inputs, given, FitTarget::Unused, judge)
    }
}

impl DropConstantConfig {
    fn asked(&self) -> Asked<'_> {
        let below = self.below.unwrap_or(BELOW);
        let wrong = !(below > 0.0 && below.is_finite());
        let error = || ConfigError::new("below", format!("'{below}' is not above zero"));
        Asked {
            columns: self.columns.as_deref(),
            statistics: &self.statistics,
            rule: format!("the columns with a standard deviation of at least {below}"),
            errors: wrong.then(error).into_iter().collect(),
        }
    }
}

fn judged(columns: &Columns, below: f64) -> Vec<Judged> {
    let each = columns.names.iter().zip(&columns.channels);
    each.map(|(column, values)| {
        let values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let deviation = Moments::of(&values, Central::Wanted).m2.sqrt();
        let figure = (!values.is_empty()).then_some(deviation);
        let kept = figure.is_some_and(|deviation| deviation >= below);
        Judged { column: column.clone(), kept, figure, like: None }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Table, WithFile, check, try_plan};
    use foreline_engine::TimeDomain::Logical;

    #[test]
    fn keeps_what_varied_in_training_whatever_comes() {
        let train = Table::parse(
            Logical,
            "m,t,x,y,z,n:int64,s:string\na,0,0.1,1,,4,u\na,1,0.1,2,,5,u\na,2,0.1,,,4,u\n",
        );
        let fitted = WithFile::new("drop_constant", &json!({}), &train);
        assert_eq!(fitted.fitted.summary, "2 of 4 columns kept, by 3 rows");
        let live =
            Table::parse(Logical, "m,t,x,y,z,n:int64,s:string\na,0,7,3,1,4,u\nb,0,8,3,,4,v\n");
        let expected = Table::parse(Logical, "m,t,y,n:int64,s:string\na,0,3,4,u\nb,0,3,4,v\n");
        check("drop_constant", &fitted.config, &live, &expected);
    }

    #[test]
    fn the_least_deviation_can_be_given() {
        // The population's deviation of 1 and 3 is 1.
        let train = Table::parse(Logical, "m,t,x,y\na,0,1,1\na,1,3,3.1\n");
        let fitted = WithFile::new("drop_constant", &json!({ "below": 1.01 }), &train);
        let kept = |i: usize| fitted.file["fitted"]["columns"][i]["kept"].clone();
        assert_eq!((kept(0), kept(1)), (json!(false), json!(true)));
        let errors = WithFile::fit("drop_constant", &json!({ "below": 9 }), &train).unwrap_err();
        assert_eq!(errors, ["none of 2 columns would be kept"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n");
        let config = json!({ "below": 0, "columns": ["m"], "statistics": "a.json" });
        let errors = try_plan("drop_constant", &config, &input.schema).unwrap_err();
        assert_eq!(
            errors,
            ["below: '0' is not above zero", "columns[0]: column 'm' is part of the key"]
        );
        let config = json!({ "columns": [], "statistics": "a.json" });
        let errors = try_plan("drop_constant", &config, &input.schema).unwrap_err();
        assert_eq!(errors, ["columns: there are 0 columns to choose from"]);
    }
}
