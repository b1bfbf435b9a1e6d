//! The operating regime of a row: under which of a few conditions the machine was run.
//!
//! Input   keyed rows; the settings are `Float64` or `Int64`
//! Output  the same rows, joined by the regime as text under the name in `as`; null where a setting is null. With `counters`
//!         also `<as>_1_rows`, `<as>_2_rows`, …: how many rows of the key were in each regime so far, this one included
//! State   with `counters` a number for each regime of each key; else none
//! Late    without `counters` any row is like any other; with them honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  Babu, Zhao, Li 2016 (counters); Lloyd's algorithm from k-means++ (Arthur, Vassilvitskii 2007)
//!
//! `round`: the settings, rounded (`round(x * 10^d) / 10^d`, halves to even, -0 as 0) and joined by `/`: `10/0.25/100`. `k_means`:
//! the number of the nearest of the centres that `foreline train` found, settings measured in their standard deviations.
//! Counters are of the regimes in the file of statistics, in its order; rows of any other regime count in none of them.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, FitTarget, Fitting, Keyed, LateSupport, OperatorKind, Planned,
    Resolver, Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, only, output};
use crate::entries::Entries;
use crate::stateless;
use crate::statistics::{self, required};
use counters::Counters;
use known::Known;
use label::{Label, Labelled};

mod counters;
mod k_means;
mod known;
mod label;

/// Raised whenever what the counters save changes.
const STATE_VERSION: u32 = 1;
/// Most decimals: a `Float64` has no more than 15 digits to rely on.
const MAX_DECIMALS: u8 = 9;
/// Most regimes that `k_means` looks for.
const MAX_CENTRES: usize = 256;

/// Says under which regime each row was measured. Exactly one of `round` and `k_means` says how it is known.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegimeConfig {
    /// The settings, each with the number of decimals it is rounded to, from 0 to 9: `{ altitude: 0, mach: 2 }`.
    #[serde(default)]
    pub round: Option<Entries<u8>>,
    /// Regimes found by `foreline train`, for settings that do not come to round numbers.
    #[serde(default)]
    pub k_means: Option<KMeans>,
    /// The file of the regimes that there are, which `foreline train` writes. `k_means` and `counters` need it.
    #[serde(default)]
    pub statistics: Option<PathBuf>,
    /// Whether the rows of each regime are counted, for each key.
    #[serde(default)]
    pub counters: bool,
    /// The name of the column; `regime` unless given.
    #[serde(default = "regime", rename = "as")]
    pub name: String,
}

fn regime() -> String {
    "regime".to_owned()
}

/// Regimes as the centres of clusters.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KMeans {
    /// The settings.
    pub columns: Vec<String>,
    /// How many regimes, from 2 to 256.
    pub regimes: usize,
    /// A row further than this from its centre, in standard deviations of the settings, has no regime (null). Left out:
    /// every row has the nearest.
    #[serde(default)]
    pub max_distance: Option<f64>,
    /// What the search starts from; 0 unless given. The same seed gives the same centres.
    #[serde(default)]
    pub seed: u64,
}

/// The kind `regime`.
#[derive(Debug, Clone, Copy)]
pub struct Regime;

impl OperatorKind for Regime {
    type Config = RegimeConfig;

    const NAME: &'static str = "regime";
    const SUMMARY: &'static str =
        "says under which operating regime each row was measured, and counts the rows of each";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str =
        "regime: { from: readings, regime: { round: { speed: 0, load: 0 } } }";

    fn plan(
        config: &RegimeConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let settings = Settings::plan(config, inputs)?;
        let file = match (&config.statistics, config.k_means.is_some() || config.counters) {
            (None, true) => Some(required(None).map_err(|e| vec![e])?),
            (file, _) => file.as_ref(),
        };
        let loaded = file.map(|path| statistics::load::<Known>(path, given)).transpose();
        let loaded = loaded.map_err(|e| vec![e])?;
        let known = loaded.as_ref().map(|l| &l.content);
        if let Some(known) = known {
            known.check(&settings)?;
        }
        let label = Label::new(&settings, config, known);
        let counted = known.filter(|_| config.counters);
        let names = counted.map(Known::names).unwrap_or_default();
        let schema = settings.schema(config, names.len()).map_err(|e| vec![e.under("as")])?;
        let depends_on = loaded.into_iter().map(|l| l.depends_on).collect();
        let planned = if config.counters {
            with_counters(settings.input, schema, label, names)
        } else {
            let function = Labelled { label, output: schema.clone() };
            stateless::planned(&settings.input, schema, function)
        };
        Ok(Planned { depends_on, ..planned })
    }

    fn fitting(
        config: &RegimeConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let Some(path) = &config.statistics else { return Ok(None) };
        let settings = Settings::plan(config, inputs)?;
        Ok(Some(Fitting {
            file: given.path(path),
            target: FitTarget::Unused,
            fit: Arc::new(move |from| known::fit(from, &settings)),
        }))
    }
}

/// The settings that a regime is known by.
#[derive(Debug, Clone)]
struct Settings {
    input: Schema,
    columns: Vec<usize>,
    how: How,
}

/// How settings become a regime.
#[derive(Debug, Clone, PartialEq)]
enum How {
    /// Rounded, each to so many decimals.
    Round(Vec<u8>),
    /// The nearest of so many centres.
    KMeans { regimes: usize, seed: u64 },
}

impl Settings {
    fn plan(config: &RegimeConfig, inputs: &[Schema]) -> Result<Self, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let (names, how) = match (&config.round, &config.k_means) {
            (Some(round), None) => Self::rounded(round, &mut errors),
            (None, Some(k_means)) => Self::clustered(k_means, &mut errors),
            (None, None) => {
                return Err(vec![
                    ConfigError::new("", "nothing says how a regime is known")
                        .help("add one of round, k_means"),
                ]);
            }
            (Some(_), Some(_)) => {
                return Err(vec![
                    ConfigError::new("", "round and k_means exclude one another")
                        .help("keep one of them"),
                ]);
            }
        };
        let mut columns = Vec::new();
        for (at, name) in names {
            match numeric(input, &at, name) {
                Ok(column) if columns.contains(&column) => {
                    errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
                }
                Ok(column) => columns.push(column),
                Err(e) => errors.push(e),
            }
        }
        if errors.is_empty() {
            Ok(Settings { input: input.clone(), columns, how })
        } else {
            Err(errors)
        }
    }

    fn rounded<'a>(
        round: &'a Entries<u8>,
        errors: &mut Vec<ConfigError>,
    ) -> (Vec<(String, &'a str)>, How) {
        if round.is_empty() {
            errors.push(ConfigError::new("round", "no setting is named"));
        }
        for (name, &decimals) in round.iter().filter(|(_, decimals)| **decimals > MAX_DECIMALS) {
            let what = format!("'{decimals}' is not a number of decimals");
            let help = format!("give a number from 0 to {MAX_DECIMALS}");
            errors.push(ConfigError::new(format!("round.{name}"), what).help(help));
        }
        let names = round.iter().map(|(name, _)| (format!("round.{name}"), name)).collect();
        (names, How::Round(round.iter().map(|(_, decimals)| *decimals).collect()))
    }

    fn clustered<'a>(
        k_means: &'a KMeans,
        errors: &mut Vec<ConfigError>,
    ) -> (Vec<(String, &'a str)>, How) {
        let regimes = k_means.regimes;
        if k_means.columns.is_empty() {
            errors.push(ConfigError::new("k_means.columns", "no setting is named"));
        }
        if !(2..=MAX_CENTRES).contains(&regimes) {
            let what = format!("'{regimes}' is not a number of regimes");
            let help = format!("give a number from 2 to {MAX_CENTRES}");
            errors.push(ConfigError::new("k_means.regimes", what).help(help));
        }
        if let Some(far) = k_means.max_distance.filter(|d| d.is_nan() || *d <= 0.0) {
            let what = format!("'{far}' is not above zero");
            errors.push(ConfigError::new("k_means.max_distance", what));
        }
        let named = k_means.columns.iter().enumerate();
        let names = named.map(|(i, name)| (format!("k_means.columns[{i}]"), name.as_str()));
        (names.collect(), How::KMeans { regimes, seed: k_means.seed })
    }

    /// The names of the settings.
    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|&c| self.input.columns()[c].name.clone()).collect()
    }

    /// What comes out, with counters of `n_counters` regimes.
    fn schema(&self, config: &RegimeConfig, n_counters: usize) -> Result<Schema, ConfigError> {
        let input = &self.input;
        let mut columns = input.columns().to_vec();
        columns.push(Column::new(&config.name, DataType::Utf8));
        columns.extend((1..=n_counters).map(|i| {
            Column::new(format!("{}_{i}_rows", config.name), DataType::Int64)
                .with_unit(Some(Unit::new("{count}")))
        }));
        output(columns, input.key().to_vec(), input.time(), input.primary_key().clone())
    }
}

fn with_counters(input: Schema, output: Schema, label: Label, names: Vec<String>) -> Planned {
    let schema = output.clone();
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let counts = Keyed::new(&input);
            let (input, output, label) = (input.clone(), schema.clone(), label.clone());
            Ok(Box::new(Counters { input, output, label, names: names.clone(), counts }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, WithFile, check, sameness, try_plan};
    use foreline_engine::TimeDomain::Logical;

    fn table(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    fn flights() -> Table {
        table(include_str!("../reference/regime_flights.csv"))
    }

    fn rounded() -> Value {
        json!({ "round": { "altitude": 0, "mach": 2, "throttle": 0 } })
    }

    #[test]
    fn rounds_as_numpy_does() {
        let expected = table(include_str!("../reference/regime_round.csv"));
        check("regime", &rounded(), &flights(), &expected);
    }

    #[test]
    fn counters_agree_with_pandas() {
        let mut config = rounded();
        config["counters"] = json!(true);
        let fitted = WithFile::new("regime", &config, &flights());
        assert_eq!(fitted.fitted.summary, "6 regimes of 240 rows");
        let expected = table(include_str!("../reference/regime_counters.csv"));
        check("regime", &fitted.config, &flights(), &expected);
    }

    #[test]
    fn a_regime_that_is_not_in_the_file_counts_in_none() {
        let train = table("m,t,x\na,0,1\na,1,2\n");
        let config = json!({ "round": { "x": 0 }, "counters": true, "as": "load" });
        let fitted = WithFile::new("regime", &config, &train);
        let live = table("m,t,x\na,0,2\na,1,7\na,2,\na,3,1.5\nb,0,1\n");
        let expected = "m,t,x,load:string,load_1_rows:int64,load_2_rows:int64\n\
            a,0,2,2,0,1\na,1,7,7,0,1\na,2,,,0,1\na,3,1.5,2,0,2\nb,0,1,1,1,0\n";
        check("regime", &fitted.config, &live, &table(expected));
    }

    #[test]
    fn minus_zero_is_zero_and_halves_go_to_even() {
        let input = table("m,t,x,y:int64\na,0,-0.4,3\na,1,0.5,3\na,2,1.5,-7\na,3,-1.25,0\n");
        let outcome = sameness("regime", &json!({ "round": { "x": 0, "y": 0 } }), &input);
        let text = |t: &str| Cell::Text(t.to_owned());
        assert_eq!(
            outcome.column("regime"),
            [text("0/3"), text("0/3"), text("2/-7"), text("-1/0")]
        );
    }

    #[test]
    fn k_means_finds_the_centres_that_scikit_learn_finds() {
        let columns = ["altitude", "mach", "throttle"];
        let config = json!({ "k_means": { "columns": columns, "regimes": 6 } });
        let fitted = WithFile::new("regime", &config, &flights());
        let found = fitted.file["fitted"]["regimes"].as_array().unwrap();
        let expected = include_str!("../reference/k_means.csv");
        for (found, line) in found.iter().zip(expected.lines().skip(1)) {
            let found = found["center"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
            let line = line.split(',').map(|v| v.parse::<f64>().unwrap());
            for (a, b) in found.zip(line) {
                assert!((a - b).abs() <= 1e-9 * b.abs().max(1e-3), "{a} {b}");
            }
        }
        // The centres, numbered in order, are the regimes that rounding finds.
        let outcome = sameness("regime", &fitted.config, &flights());
        let by_rounding = sameness("regime", &rounded(), &flights()).column("regime");
        let pairs: std::collections::BTreeSet<_> =
            outcome.column("regime").into_iter().zip(by_rounding).collect();
        let numbers = pairs.iter().map(|(number, _)| format!("{number:?}"));
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            ["\"1\"", "\"2\"", "\"3\"", "\"4\"", "\"5\"", "\"6\""]
        );
    }

    #[test]
    fn a_row_far_from_every_centre_has_no_regime() {
        let train = table("m,t,x\na,0,0\na,1,1\na,2,10\na,3,11\n");
        let k_means = json!({ "columns": ["x"], "regimes": 2, "max_distance": 1.0 });
        let fitted = WithFile::new("regime", &json!({ "k_means": k_means }), &train);
        let live = table("m,t,x\na,0,2\na,1,40\na,2,\na,3,9\n");
        let expected = "m,t,x,regime:string\na,0,2,1\na,1,40,\na,2,,\na,3,9,2\n";
        check("regime", &fitted.config, &live, &table(expected));
    }

    #[test]
    fn says_what_cannot_be_fitted() {
        let rows = table("m,t,x\na,0,1\na,1,1\na,2,\n");
        let k_means = json!({ "k_means": { "columns": ["x"], "regimes": 2 } });
        let errors = WithFile::fit("regime", &k_means, &rows).unwrap_err();
        assert_eq!(errors, ["the settings take fewer than 2 values: look for fewer regimes"]);
        let mut text = String::from("m,t,x\n");
        (0..1100).for_each(|i| text += &format!("a,{i},{i}\n"));
        let errors = WithFile::fit("regime", &json!({ "round": { "x": 0 } }), &table(&text));
        assert_eq!(errors.unwrap_err(), ["there are more than 1024 regimes: round more coarsely"]);
        let none = table("m,t,x\na,0,\n");
        let errors = WithFile::fit("regime", &json!({ "round": { "x": 0 } }), &none).unwrap_err();
        assert_eq!(errors, ["none of 1 rows has all settings"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = table("m,t,x,y,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({}), &["nothing says how a regime is known"]),
            (
                json!({ "round": { "x": 0 }, "k_means": { "columns": ["x"], "regimes": 2 } }),
                &["round and k_means exclude one another"],
            ),
            (
                json!({ "round": { "x": 12, "z": 0, "s": 1 } }),
                &[
                    "round.x: '12' is not a number of decimals",
                    "round.z: there is no column 'z'",
                    "round.s: column 's' is Utf8, not a number",
                ],
            ),
            (json!({ "round": {} }), &["round: no setting is named"]),
            (
                json!({ "k_means": { "columns": ["x", "x"], "regimes": 1, "max_distance": 0 } }),
                &[
                    "k_means.regimes: '1' is not a number of regimes",
                    "k_means.max_distance: '0' is not above zero",
                    "k_means.columns[1]: column 'x' is there twice",
                ],
            ),
            (
                json!({ "round": { "x": 0 }, "counters": true }),
                &["the step is fitted, but no 'statistics' is named"],
            ),
            (json!({ "round": { "x": 0 }, "as": "y" }), &["as: column 'y' is there twice"]),
        ];
        for (config, expected) in cases {
            assert_eq!(
                try_plan("regime", config, &input.schema).unwrap_err(),
                *expected,
                "{config}"
            );
        }
        let rows = table("m,t,x,y,s:string\na,0,1,2,u\n");
        let fitted = WithFile::new("regime", &json!({ "round": { "x": 0 } }), &rows);
        let other = fitted.under(json!({ "round": { "y": 0 } }));
        let errors = try_plan("regime", &other, &rows.schema).unwrap_err();
        assert_eq!(
            errors,
            ["round: the statistics hold 1 regimes by other settings than these: [x]"]
        );
    }
}
