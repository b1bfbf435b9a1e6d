//! Converts columns into other units.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64` and have a unit
//! Output  the same rows, each column replaced by what it is in the other unit (or joined by it under the name in
//!         `as`), `Float64`; a null stays null
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  SI brochure; NIST SP 811 for inch, pound, psi and horsepower: `y = (x - zero) * factor + shift`, `zero` and
//!         `shift` being the readings of the two scales at the freezing point of water, 0 for all but temperatures
//!
//! Units are UCUM codes: `[g]` is the acceleration and `g` the gram, `Cel` and `[degF]` are degrees, `{rpm}` turns a
//! minute. What people write (`degC`, `rpm`, `psi`, `in/s`, `m/s^2`) is understood. A temperature is converted as a
//! point on its scale, not as a difference. Units that are not known or do not measure the same are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Conversion, Family, Fault, NoConversion, OperatorKind, Planned, Resolver,
    Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, numeric, only, output};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, planned};

/// Converts columns into other units.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertConfig {
    /// The unit that each column is to have: `vibration: in/s`. UCUM codes or their usual spellings.
    pub columns: Entries<String>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `convert`.
#[derive(Debug, Clone, Copy)]
pub struct Convert;

impl OperatorKind for Convert {
    type Config = ConvertConfig;

    const NAME: &'static str = "convert";
    const SUMMARY: &'static str = "converts columns into other units";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "us_units: { from: readings, convert: { columns: { vibration: in/s, temperature: degF } } }";

    fn plan(
        config: &ConvertConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let (mut columns, mut converted) = (input.columns().to_vec(), Vec::new());
        for (name, unit) in config.columns.iter() {
            match one(input, name, unit) {
                Ok((from, conversion)) => {
                    let column = Column::new(name, DataType::Float64);
                    let column = column.with_unit(Some(Unit::new(unit)));
                    let to = put(&mut columns, column, from, config.rename.get(name));
                    converted.push(Converted { from, to, conversion });
                }
                Err(e) => errors.push(e),
            }
        }
        for name in config.rename.keys().filter(|n| config.columns.get(n).is_none()) {
            let what = format!("column '{name}' is not among the columns to convert");
            let known = config.columns.iter().map(|(name, _)| name);
            errors.push(ConfigError::new(format!("as.{name}"), what).unknown(name, known));
        }
        let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
        match output(columns, key, input.time(), primary_key) {
            Ok(schema) if errors.is_empty() => {
                let function = Conversions { columns: converted, output: schema.clone() };
                Ok(planned(input, schema, function))
            }
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under("as"));
                Err(errors)
            }
        }
    }
}

/// Puts a result in the place of its column or, under another name, last; returns where.
fn put(columns: &mut Vec<Column>, column: Column, from: usize, rename: Option<&String>) -> usize {
    let Some(name) = rename else {
        columns[from] = column;
        return from;
    };
    columns.push(Column { name: name.clone(), ..column });
    columns.len() - 1
}

/// The column called `name` and how it becomes what it is in `unit`.
fn one(input: &Schema, name: &str, unit: &str) -> Result<(usize, Conversion), ConfigError> {
    let at = format!("columns.{name}");
    let from = numeric(input, &at, name)?;
    let Some(has) = &input.columns()[from].unit else {
        let what = format!("column '{name}' has no unit to convert from");
        let help = "declare its unit where it comes from, or 'units' of the 'derive' that makes it";
        return Err(ConfigError::new(at, what).help(help));
    };
    let to = Unit::new(unit);
    let conversion = has.conversion(&to).map_err(|why| refusal(&at, name, has, &to, why))?;
    Ok((from, conversion))
}

fn refusal(at: &str, name: &str, has: &Unit, to: &Unit, why: NoConversion) -> ConfigError {
    let fitting = || has.alike().join(", ");
    match why {
        NoConversion::UnknownFrom => {
            let what = format!("column '{name}' is in '{has}', which cannot be converted");
            ConfigError::new(at, what).help("convert it with 'derive', and name the new unit there")
        }
        NoConversion::UnknownTo => {
            let what = format!("there is no unit '{to}'");
            let help = format!("'{has}' can become {}", fitting());
            ConfigError::new(at, what).help(help).unknown(to.code(), has.alike())
        }
        NoConversion::Incompatible => {
            let what = format!("column '{name}' is in '{has}', which cannot become '{to}'");
            let gram =
                if to.code() == "g" { "; the acceleration is '[g]', 'g' is a gram" } else { "" };
            ConfigError::new(at, what).help(format!("it can become {}{gram}", fitting()))
        }
    }
}

/// A column to convert and the place of the result, which is appended where there is no such place yet.
#[derive(Debug, Clone, Copy)]
struct Converted {
    from: usize,
    to: usize,
    conversion: Conversion,
}

#[derive(Debug, Clone)]
struct Conversions {
    columns: Vec<Converted>,
    output: Schema,
}

impl PerRow for Conversions {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for Converted { from, to, conversion } in &self.columns {
            let values = channel(rows.column(*from))?;
            let values = values.iter().map(|&v| conversion.apply(v)).collect();
            let column: ArrayRef = Arc::new(nullable(values));
            if *to < columns.len() {
                columns[*to] = column;
            } else {
                columns.push(column);
            }
        }
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?, None))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, plan, try_plan};

    fn with_units(text: &str, units: &[(&str, &str)]) -> Table {
        let mut table = Table::parse(Logical, text);
        let mut columns = table.schema.columns().to_vec();
        for (name, unit) in units {
            let column = columns.iter_mut().find(|c| c.name == *name).unwrap();
            column.unit = Some(Unit::new(unit));
        }
        table.schema = Schema::new(columns, &["m"], "t").unwrap();
        table
    }

    #[test]
    fn converts_and_renames() {
        let units = [("v", "in/s"), ("c", "degC"), ("n", "rpm")];
        let input = with_units("m,t,v,c,n:int64\na,0,1,0,1500\nb,1,,100,\n", &units);
        let config =
            json!({ "columns": { "v": "mm/s", "c": "degF", "n": "Hz" }, "as": { "n": "f" } });
        let expected = "m,t,v,c,n:int64,f\na,0,25.4,32,1500,25\nb,1,,212,,\n";
        check("convert", &config, &input, &Table::parse(Logical, expected));
        let output = plan("convert", &config, &input.schema).output;
        let unit = |name| output.column(name).unwrap().unit.clone().unwrap().code().to_owned();
        assert_eq!([unit("v"), unit("c"), unit("n"), unit("f")], ["mm/s", "[degF]", "{rpm}", "Hz"]);
    }

    #[test]
    fn agrees_with_pint() {
        let mut lines = include_str!("../reference/convert_units.csv").lines();
        lines.next();
        let mut n_cases = 0;
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let [from, to, x, y] = fields[..] else { panic!("{line}") };
            let conversion = Unit::new(from).conversion(&Unit::new(to)).unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            let got = conversion.apply(x);
            assert!((got - y).abs() <= 1e-9 * y.abs().max(1e-3), "{line}: {got}");
            n_cases += 1;
        }
        assert!(n_cases > 60, "{n_cases}");
    }

    #[test]
    fn says_what_is_wrong() {
        let units = [("v", "mm/s"), ("odd", "furlong")];
        let input = with_units("m,t,v,odd,plain,s:string\n", &units).schema;
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": {} }), &["columns: no column is named"]),
            (
                json!({ "columns": { "v": "g", "odd": "m", "plain": "m", "s": "m", "z": "m" },
                        "as": { "q": "w" } }),
                &[
                    "columns.v: column 'v' is in 'mm/s', which cannot become 'g'",
                    "columns.odd: column 'odd' is in 'furlong', which cannot be converted",
                    "columns.plain: column 'plain' has no unit to convert from",
                    "columns.s: column 's' is Utf8, not a number",
                    "columns.z: there is no column 'z'",
                    "as.q: column 'q' is not among the columns to convert",
                ],
            ),
            (json!({ "columns": { "v": "mm/sec" } }), &["columns.v: there is no unit 'mm/sec'"]),
            (
                json!({ "columns": { "v": "m/s" }, "as": { "v": "odd" } }),
                &["as: column 'odd' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("convert", config, &input).unwrap_err(), *expected, "{config}");
        }
    }

    #[test]
    fn says_what_was_meant() {
        let input = with_units("m,t,v\n", &[("v", "m/s2")]).schema;
        let plan = |unit: &str| {
            let config = ConvertConfig {
                columns: serde_json::from_value(json!({ "v": unit })).unwrap(),
                rename: BTreeMap::new(),
            };
            Convert::plan(&config, std::slice::from_ref(&input), &crate::testing::Given)
        };
        let help = plan("g").unwrap_err().remove(0).help.unwrap();
        assert!(help.contains("m/s2") && help.contains("'g' is a gram"), "{help}");
        let (name, known) = plan("mm/s3").unwrap_err().remove(0).unknown.unwrap();
        assert!(name == "mm/s3" && known.contains(&"mm/s2".to_owned()), "{known:?}");
    }
}
