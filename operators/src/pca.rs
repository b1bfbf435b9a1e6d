//! Principal components: fewer columns that hold most of what many say, and how far a row is from what is usual.
//!
//! Input   rows with or without state upstream; the columns are `Float64` or `Int64`
//! Output  the same rows, joined by `pc1`, `pc2`, … (or the name in `as` instead of `pc`), unit 1, and by `t2` and `q` where they are
//!         asked for; all null where one of the columns is null
//! State   none: the projection is that of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `PCA` after `StandardScaler`; T² and Q (squared prediction error) after Jackson 1991
//!
//! With `z = (x - mean) / std` (or `x - mean` without `standardize`), loadings `v` and eigenvalues `l` of the covariance of `z` in training
//! (divided by `n - 1`): `pc_i = v_i · z`; `t2 = sum pc_i^2 / l_i` over the components kept, how far a row is out within what is usual;
//! `q = sum z^2 - sum pc_i^2`, how much of it the components cannot say, computed as the square of what is left. Of each component the
//! greatest loading is positive. The file also has the 95th and 99th percentile of `t2` and `q` in training, for all numbers of components.
//! A column that did not vary in training counts as 0.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, Fault, FitTarget, Fitting, OperatorKind, Planned, Resolver,
    Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, numeric, only, output};
use crate::stateless::{Fate, PerRow, planned};
use crate::statistics;
use projection::{Projection, Scores};

mod projection;

/// Most columns: finding the components takes time with the third power of them.
const MAX_COLUMNS: usize = 512;

/// Projects columns onto their principal components. At most one of `components` and `variance` says how many are kept; left
/// out, all are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcaConfig {
    /// The columns, at most 512.
    pub columns: Vec<String>,
    /// The file of the projection, which `foreline train` writes.
    pub statistics: PathBuf,
    /// How many components are kept.
    #[serde(default)]
    pub components: Option<usize>,
    /// As many components are kept as hold this share of the variance in training, above 0 and at most 1, such as 0.95.
    #[serde(default)]
    pub variance: Option<f64>,
    /// Whether columns are divided by their standard deviation, so that none counts more for its unit; true unless given.
    /// Without it all columns must have one unit.
    #[serde(default = "yes")]
    pub standardize: bool,
    /// What the names of the components begin with; `pc` unless given.
    #[serde(default = "pc", rename = "as")]
    pub name: String,
    /// A name for Hotelling's T²: how far a row is from the middle, in the components that are kept. Left out: it is not
    /// computed.
    #[serde(default)]
    pub t2: Option<String>,
    /// A name for Q, the squared distance of a row from what the components can say. Left out: it is not computed.
    #[serde(default)]
    pub q: Option<String>,
}

fn yes() -> bool {
    true
}

fn pc() -> String {
    "pc".to_owned()
}

/// The kind `pca`.
#[derive(Debug, Clone, Copy)]
pub struct Pca;

impl OperatorKind for Pca {
    type Config = PcaConfig;

    const NAME: &'static str = "pca";
    const SUMMARY: &'static str =
        "projects columns onto their principal components, with T² and Q of each row";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str = "reduced: { from: readings, pca: { columns: [vibration, temperature, speed, load], variance: 0.95, t2: t2, q: q, statistics: statistics/components.json } }";

    fn plan(
        config: &PcaConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let (input, columns) = checked(config, inputs)?;
        let loaded = statistics::load::<Projection>(&config.statistics, given);
        let loaded = loaded.map_err(|e| vec![e])?;
        let names: Vec<&str> = columns.iter().map(|&c| input.columns()[c].name.as_str()).collect();
        let projection = loaded.content;
        projection.check(&names, config.standardize).map_err(|e| vec![e])?;
        let n_kept = projection.kept(config.components, config.variance);
        let output = schema(config, input, n_kept).map_err(|e| vec![e])?;
        let scores = Scores::new(projection, n_kept);
        let wants = [config.t2.is_some(), config.q.is_some()];
        let function = Projected { columns, output: output.clone(), scores, wants };
        Ok(Planned { depends_on: vec![loaded.depends_on], ..planned(input, output, function) })
    }

    fn fitting(
        config: &PcaConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let (input, columns) = checked(config, inputs)?;
        let (input, standardize) = (input.clone(), config.standardize);
        Ok(Some(Fitting {
            file: given.path(&config.statistics),
            target: FitTarget::Unused,
            fit: Arc::new(move |from| projection::fit(from, &input, &columns, standardize)),
        }))
    }
}

/// The columns, all that does not depend on the file being right.
fn checked<'a>(
    config: &PcaConfig,
    inputs: &'a [Schema],
) -> Result<(&'a Schema, Vec<usize>), Vec<ConfigError>> {
    let input = only(inputs)?;
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for (i, name) in config.columns.iter().enumerate() {
        match numeric(input, &format!("columns[{i}]"), name) {
            Ok(c) if columns.contains(&c) => errors.push(ConfigError::new(
                format!("columns[{i}]"),
                format!("column '{name}' is there twice"),
            )),
            Ok(c) => columns.push(c),
            Err(e) => errors.push(e),
        }
    }
    let n = config.columns.len();
    if !(2..=MAX_COLUMNS).contains(&n) {
        let what = format!("{n} columns have no principal components");
        let help = format!("name 2 to {MAX_COLUMNS} columns");
        errors.push(ConfigError::new("columns", what).help(help));
    }
    errors.extend(how_many(config));
    errors.extend(one_unit(config, input, &columns));
    if errors.is_empty() { Ok((input, columns)) } else { Err(errors) }
}

fn how_many(config: &PcaConfig) -> Option<ConfigError> {
    let n = config.columns.len();
    match (config.components, config.variance) {
        (Some(_), Some(_)) => Some(
            ConfigError::new("", "components and variance say the same thing")
                .help("keep one of them"),
        ),
        (Some(kept), None) if kept == 0 || kept > n => {
            let what = format!("'{kept}' is not between 1 and the number of columns, {n}");
            Some(ConfigError::new("components", what))
        }
        (None, Some(share)) if !(share > 0.0 && share <= 1.0) => {
            let what = format!("'{share}' is not a share");
            Some(ConfigError::new("variance", what).help("give a number above 0 and at most 1"))
        }
        _ => None,
    }
}

/// What is wrong with the units, where they count.
fn one_unit(config: &PcaConfig, input: &Schema, columns: &[usize]) -> Option<ConfigError> {
    let unit = |c: usize| input.columns()[c].unit.as_ref();
    let first = unit(*columns.first()?);
    let other = columns.iter().copied().find(|&c| unit(c) != first);
    let other = other.filter(|_| !config.standardize)?;
    let shown = |u: Option<&Unit>| u.map_or("none".to_owned(), |u| u.code().to_owned());
    let what = format!(
        "column '{}' is in {}, but '{}' is in {}",
        input.columns()[other].name,
        shown(unit(other)),
        input.columns()[columns[0]].name,
        shown(first)
    );
    Some(ConfigError::new("standardize", what).help("leave 'standardize' out"))
}

fn schema(config: &PcaConfig, input: &Schema, n_kept: usize) -> Result<Schema, ConfigError> {
    let ratio = |name: String| Column::new(name, DataType::Float64).with_unit(Some(Unit::new("1")));
    let mut columns = input.columns().to_vec();
    columns.extend((1..=n_kept).map(|i| ratio(format!("{}{i}", config.name))));
    columns.extend([&config.t2, &config.q].into_iter().flatten().cloned().map(ratio));
    output(columns, input.key().to_vec(), input.time(), input.primary_key().clone())
}

#[derive(Debug, Clone)]
struct Projected {
    columns: Vec<usize>,
    output: Schema,
    scores: Scores,
    /// Whether T² and Q are wanted.
    wants: [bool; 2],
}

impl PerRow for Projected {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let channels = self.columns.iter().map(|&c| channel(rows.column(c)));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let results = self.scores.of(&channels);
        let mut all = rows.columns().to_vec();
        let column = |values| Arc::new(nullable(values)) as ArrayRef;
        all.extend(results.components.into_iter().map(column));
        let distances = [results.t2, results.q].into_iter().zip(self.wants);
        all.extend(distances.filter(|(_, wanted)| *wanted).map(|(values, _)| column(values)));
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), all)?, None))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, WithFile, check, plan, sameness, try_plan};
    use foreline_engine::TimeDomain::Logical;

    fn table(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    fn train() -> Table {
        table(include_str!("../reference/channels_train.csv"))
    }

    const COLUMNS: [&str; 5] = ["a", "b", "c", "d", "e"];

    #[test]
    fn agrees_with_scikit_learn() {
        let live = table(include_str!("../reference/channels_live.csv"));
        for (config, expected) in [
            (json!({ "components": 3 }), include_str!("../reference/pca_standardized.csv")),
            (
                json!({ "components": 2, "standardize": false }),
                include_str!("../reference/pca_centred.csv"),
            ),
        ] {
            let mut config = config;
            config["columns"] = json!(COLUMNS);
            config["t2"] = json!("t2");
            config["q"] = json!("q");
            let fitted = WithFile::new("pca", &config, &train());
            check("pca", &fitted.config, &live, &table(expected));
        }
    }

    #[test]
    fn as_many_components_are_kept_as_hold_the_share() {
        let fitted = WithFile::new("pca", &json!({ "columns": COLUMNS }), &train());
        let components = fitted.file["fitted"]["components"].as_array().unwrap();
        let shares: Vec<f64> = components.iter().map(|c| c["variance"].as_f64().unwrap()).collect();
        assert!(shares.is_sorted() && (shares[4] - 1.0).abs() < 1e-12, "{shares:?}");
        let n_kept = |share: f64| {
            let config = fitted.under(json!({ "columns": COLUMNS, "variance": share, "as": "f" }));
            let output = plan("pca", &config, &train().schema).output;
            output.columns().iter().filter(|c| c.name.starts_with('f') && c.name.len() == 2).count()
        };
        assert_eq!([n_kept(shares[0]), n_kept(shares[0] + 1e-6), n_kept(1.0)], [1, 2, 5]);
    }

    #[test]
    fn all_components_leave_nothing_over() {
        let config = json!({ "columns": COLUMNS, "q": "q", "t2": "t2" });
        let fitted = WithFile::new("pca", &config, &train());
        let outcome = sameness("pca", &fitted.config, &train());
        assert!(outcome.numbers("q").iter().all(|q| q.unwrap() < 1e-20));
        // Over the training rows T² has the mean (n - 1) / n * number of components.
        let t2: f64 = outcome.numbers("t2").iter().map(|t| t.unwrap()).sum();
        assert!((t2 - 5.0 * 199.0).abs() < 1e-6, "{t2}");
    }

    #[test]
    fn the_limits_are_percentiles_of_training() {
        let config = json!({ "columns": COLUMNS, "components": 2, "q": "q", "t2": "t2" });
        let fitted = WithFile::new("pca", &config, &train());
        let outcome = sameness("pca", &fitted.config, &train());
        let second = &fitted.file["fitted"]["components"][1];
        for (name, limit) in [("t2", "t2_95"), ("q", "q_95")] {
            let limit = second[limit].as_f64().unwrap();
            let above = outcome.numbers(name).iter().filter(|v| v.unwrap() > limit).count();
            assert_eq!(above, 10, "5 % of 200 rows are above the 95th percentile of {name}");
        }
    }

    #[test]
    fn a_column_that_does_not_vary_says_nothing() {
        let with = json!({ "columns": ["a", "b", "f"], "components": 2 });
        let without = json!({ "columns": ["a", "b"], "components": 2 });
        let scores = |config: &Value| {
            let fitted = WithFile::new("pca", config, &train());
            sameness("pca", &fitted.config, &train()).numbers("pc2")
        };
        assert_eq!(scores(&with), scores(&without));
    }

    #[test]
    fn says_what_is_wrong() {
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["a"] }), &["columns: 1 columns have no principal components"]),
            (
                json!({ "columns": ["a", "z", "a", "fault"], "components": 9 }),
                &[
                    "columns[1]: there is no column 'z'",
                    "columns[2]: column 'a' is there twice",
                    "columns[3]: column 'fault' is Utf8, not a number",
                    "components: '9' is not between 1 and the number of columns, 4",
                ],
            ),
            (
                json!({ "columns": ["a", "b"], "components": 1, "variance": 0.5 }),
                &["components and variance say the same thing"],
            ),
            (json!({ "columns": ["a", "b"], "variance": 0 }), &["variance: '0' is not a share"]),
        ];
        for (config, expected) in cases {
            let mut config = config.clone();
            config["statistics"] = json!("a.json");
            assert_eq!(try_plan("pca", &config, &train().schema).unwrap_err(), *expected);
        }
        let fitted = WithFile::new("pca", &json!({ "columns": ["a", "b"] }), &train());
        for (config, expected) in [
            (json!({ "columns": ["a", "c"] }), "columns: the statistics are of the columns [a, b]"),
            (
                json!({ "columns": ["a", "b"], "standardize": false }),
                "standardize: the statistics were fitted with 'standardize: true'",
            ),
            (json!({ "columns": ["a", "b"], "as": "a", "t2": "c" }), "column 'c' is there twice"),
        ] {
            let config = fitted.under(config);
            assert_eq!(try_plan("pca", &config, &train().schema).unwrap_err(), [expected]);
        }
    }

    #[test]
    fn without_standardizing_units_must_be_one() {
        let mut columns = train().schema.columns().to_vec();
        columns[2].unit = Some(Unit::new("mm/s"));
        let schema = Schema::new(columns, &["machine"], "t").unwrap();
        let config = json!({ "columns": ["a", "b"], "standardize": false, "statistics": "a.json" });
        let errors = try_plan("pca", &config, &schema).unwrap_err();
        assert_eq!(errors, ["standardize: column 'b' is in none, but 'a' is in mm/s"]);
    }

    #[test]
    fn says_what_cannot_be_fitted() {
        let fit = |text: &str| {
            let config = json!({ "columns": ["x", "y"] });
            WithFile::fit("pca", &config, &table(text)).unwrap_err()
        };
        let errors = fit("m,t,x,y\na,0,1,\na,1,1,2\n");
        assert_eq!(errors, ["only 1 of 2 rows have all columns"]);
        assert_eq!(fit("m,t,x,y\na,0,1,2\na,1,1,2\n"), ["none of the columns varies"]);
    }
}
