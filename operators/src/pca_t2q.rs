//! PCA monitoring: rows whose columns do not go together as they did in a learning period.
//!
//! Input   keyed rows; the columns, two at least, are `Float64` or `Int64`
//! Output  the same rows with `pca_t2` (how far a row is out along the usual directions) and `pca_q` (how far it is off
//!         them, squared), no unit; with `contributions` also `pca_t2_<column>` and `pca_q_<column>`, which add up to
//!         those; the name in `as` stands in place of `pca`
//! State   of each key the means and products of its columns while it learns, then means, deviations, and the
//!         directions: at most `(d + 3) * d` numbers for `d` columns
//! Late    honours `late: { correct }`; a late row in the learning period changes all that follows
//! Errors  none: a row that came in goes out
//! Source  Jackson and Mudholkar 1979; Kourti 2005. `z = (x - mean) / std`, eigenvectors `p_i` and eigenvalues `l_i` of
//!         the correlation matrix by Jacobi's rotations, `t_i = p_i . z`, `T2 = sum(t_i^2 / l_i)` over the components
//!         that are kept, `Q = |z - sum(t_i p_i)|^2`; column `j` contributes `z_j sum(t_i p_ij / l_i)` to `T2` and its
//!         part of the square to `Q`
//!
//! A row in which a column is null or infinite gives nulls and is not learnt from; results are null while a key learns. A column that
//! was constant in the period is only centred with `scale: false`, and left out of both with scaling. Directions along
//! which the period had no more than rounding are never kept.

use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Batch, ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::annotate::{Added, Annotate, Holds, both, places, planned_until, reset};
use crate::columns::{channel, numeric, only};
use crate::learning::{Learn, Period};
use model::{Keep, Model, Past};

mod model;

/// Most columns: the directions are found in about `10 d^3` steps, by each key once.
const MAX_COLUMNS: usize = 64;

/// Watches how columns go together.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcaT2qConfig {
    /// The columns to look at together: 2 to 64.
    pub columns: Vec<String>,
    /// The period from which each key learns: `{ rows: 500 }`, `{ duration: 7d }`. It should have several times as many
    /// rows as there are columns.
    pub learn: Learn,
    /// How many components are kept, fewer than there are columns. Left out: as `variance` has it.
    #[serde(default)]
    pub components: Option<usize>,
    /// As many components are kept as have this part of the variance, above 0 and at most 1; 0.95 unless given.
    #[serde(default)]
    pub variance: Option<f64>,
    /// Whether each column is divided by its standard deviation, as it is unless given. Must stay so where columns
    /// have different units.
    #[serde(default = "yes")]
    pub scale: bool,
    /// Whether the contribution of each column comes out too; not unless given.
    #[serde(default)]
    pub contributions: bool,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// What the names of the results begin with; `pca` unless given.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
}

fn yes() -> bool {
    true
}

/// The kind `pca_t2q`.
#[derive(Debug, Clone, Copy)]
pub struct PcaT2q;

impl OperatorKind for PcaT2q {
    type Config = PcaT2qConfig;

    const NAME: &'static str = "pca_t2q";
    const SUMMARY: &'static str =
        "says how far rows are from how columns went together in a learning period (T2 and Q)";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "together: { from: readings, pca_t2q: { columns: [vibration, temperature, load], learn: { duration: 10m }, contributions: true } }";

    fn plan(
        config: &PcaT2qConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let from = places(input, &config.columns, numeric);
        let from = from.and_then(|from| scalable(config, input, &from).map(|()| from));
        let from = both(from, reset(input, config.reset_on.as_deref()));
        let ((from, resets), monitor) = both(from, Monitor::plan(config, input.domain()))?;
        let stem = config.name.as_deref().unwrap_or("pca");
        let number = |name: String| Added::new(name, Holds::Number).with_unit(Some(Unit::new("1")));
        let mut added = vec![number(format!("{stem}_t2")), number(format!("{stem}_q"))];
        if config.contributions {
            for part in ["t2", "q"] {
                let each = config.columns.iter().map(|c| number(format!("{stem}_{part}_{c}")));
                added.extend(each);
            }
        }
        planned_until(input, Monitor { from, ..monitor }, added, resets)
    }
}

/// Without scaling, columns of different units cannot be added up.
fn scalable(config: &PcaT2qConfig, input: &Schema, from: &[usize]) -> Result<(), Vec<ConfigError>> {
    let unit = |place: usize| input.columns()[place].unit.as_ref();
    let other = from.iter().find(|&&place| unit(place) != unit(from[0]));
    match other {
        Some(&other) if !config.scale => {
            let name = |place: usize| &input.columns()[place].name;
            let what = format!("'{}' and '{}' have different units", name(from[0]), name(other));
            Err(vec![ConfigError::new("scale", what).help("leave 'scale' out, or convert one")])
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Clone)]
struct Monitor {
    from: Vec<usize>,
    period: Period,
    keep: Keep,
    scale: bool,
}

impl Monitor {
    fn plan(config: &PcaT2qConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let period = config.learn.plan("learn", domain).map_err(|e| vec![e]);
        let (period, keep) = both(period, keep(config))?;
        Ok(Monitor { from: Vec::new(), period, keep, scale: config.scale })
    }
}

fn keep(config: &PcaT2qConfig) -> Result<Keep, Vec<ConfigError>> {
    let n_columns = config.columns.len();
    let mut errors = Vec::new();
    if n_columns == 1 || n_columns > MAX_COLUMNS {
        let what = format!("'{n_columns}' columns cannot be looked at together");
        let error = ConfigError::new("columns", what);
        errors.push(error.help(format!("name 2 to {MAX_COLUMNS}")));
    }
    let keep = match (config.components, config.variance) {
        (Some(_), Some(_)) => {
            let what = "components and variance exclude one another";
            Err(ConfigError::new("", what).help("keep one of them"))
        }
        (Some(n), None) if n >= 1 && (n < n_columns || n_columns < 2) => Ok(Keep::Components(n)),
        (Some(n), None) => {
            let error = ConfigError::new("components", format!("'{n}' is out of range"));
            Err(error.help(format!("give a number from 1 to {}", n_columns.saturating_sub(1))))
        }
        (None, variance) => {
            let part = variance.unwrap_or(0.95);
            let error = ConfigError::new("variance", format!("'{part}' is out of range"));
            let ok = part > 0.0 && part <= 1.0;
            ok.then_some(Keep::Variance(part))
                .ok_or_else(|| error.help("give a number above 0 and at most 1"))
        }
    };
    match keep {
        Ok(keep) if errors.is_empty() => Ok(keep),
        keep => {
            errors.extend(keep.err());
            Err(errors)
        }
    }
}

impl Annotate for Monitor {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.from.iter().map(|&c| channel(batch.rows.column(c))).collect()
    }

    fn start(&self) -> Past {
        Past::of(self.from.len())
    }

    fn follow(&self, times: &[i64], channels: &[&[f64]], past: &mut Past, out: &mut [Vec<f64>]) {
        // The parts of each column are made where they come out.
        let mut said = vec![f64::NAN; out.len()];
        let mut off = vec![0.0; channels.len()];
        let mut row = vec![0.0; channels.len()];
        for (i, &at) in times.iter().enumerate() {
            for (to, values) in row.iter_mut().zip(channels) {
                *to = values[i];
            }
            match self.model(at, &row, past) {
                Some(model) => model.judge(&mut row, &mut off, &mut said),
                None => said.fill(f64::NAN),
            }
            for (column, &value) in out.iter_mut().zip(&said) {
                column.push(value);
            }
        }
    }
}

impl Monitor {
    /// What a row is judged by; `None` where it is learnt from or has a null.
    fn model<'a>(&self, at: i64, row: &[f64], past: &'a mut Past) -> Option<&'a Model> {
        if row.iter().any(|x| !x.is_finite()) || past.learns(self.period, at, row) {
            return None;
        }
        Some(past.model(self.keep, self.scale))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::UtcNanos;
    use foreline_engine::{Column, Unit};
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_numpy() {
        let input = Table::parse(UtcNanos, include_str!("../reference/pca_t2q_input.csv"));
        let cases = [
            (
                json!({ "learn": { "rows": 40 }, "components": 2, "contributions": true }),
                include_str!("../reference/pca_t2q.csv"),
            ),
            (
                json!({ "learn": { "duration": "60s" }, "variance": 0.8, "scale": false,
                    "as": "odd" }),
                include_str!("../reference/pca_t2q_unscaled.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y", "z", "w"]);
            check("pca_t2q", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn columns_that_part_show_in_q_and_by_name() {
        let mut text = String::from("m,t,x,y\n");
        for t in 0..60 {
            let x = f64::from(t % 7);
            let y = if t == 50 { 20.0 } else { 2.0 * x + f64::from(t % 2) };
            text.push_str(&format!("a,{t},{x},{y}\n"));
        }
        let input = Table::parse(UtcNanos, &text);
        let config = json!({ "columns": ["x", "y"], "learn": { "rows": 40 }, "components": 1,
            "contributions": true });
        let outcome = sameness("pca_t2q", &config, &input);
        let q = outcome.numbers("pca_q");
        let usual = q[40..50].iter().flatten().fold(0.0_f64, |a, &b| a.max(b));
        assert!(q[50].unwrap() > 20.0 * usual, "{q:?}");
        let parts = ["pca_q_x", "pca_q_y"].map(|c| outcome.numbers(c)[50].unwrap());
        assert!((parts[0] + parts[1] - q[50].unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_column_that_was_constant_says_nothing() {
        let mut text = String::from("m,t,x,y,c\n");
        for t in 0..30 {
            let (x, y) = (t % 5, t * t % 11);
            text.push_str(&format!("a,{t},{x},{y},{}\n", if t < 20 { 3 } else { 8 }));
        }
        let input = Table::parse(UtcNanos, &text);
        let config = |columns: Value| {
            json!({ "columns": columns, "learn": { "rows": 20 },
            "components": 1 })
        };
        let with = sameness("pca_t2q", &config(json!(["x", "c", "y"])), &input);
        let without = sameness("pca_t2q", &config(json!(["x", "y"])), &input);
        for column in ["pca_t2", "pca_q"] {
            let pairs = with.numbers(column).into_iter().zip(without.numbers(column));
            for (a, b) in pairs {
                assert!((a.unwrap_or(-1.0) - b.unwrap_or(-1.0)).abs() < 1e-9, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(8, 120, UtcNanos);
        let config = json!({ "columns": ["x", "y", "n"], "learn": { "rows": 6 } });
        let outcome = sameness("pca_t2q", &config, &input);
        assert!(outcome.numbers("pca_t2").iter().flatten().count() > 20);
    }

    #[test]
    fn says_what_is_wrong() {
        let mut input = Table::parse(UtcNanos, "m,t,x,y,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["x"], "learn": { "rows": 9 } }),
                &["columns: '1' columns cannot be looked at together"],
            ),
            (
                json!({ "columns": ["x", "s", "z"], "learn": {}, "components": 3 }),
                &[
                    "columns[1]: column 's' is Utf8, not a number",
                    "columns[2]: there is no column 'z'",
                    "learn: nothing says how long to learn",
                    "components: '3' is out of range",
                ],
            ),
            (
                json!({ "columns": ["x", "y"], "learn": { "rows": 9 }, "variance": 1.5 }),
                &["variance: '1.5' is out of range"],
            ),
            (
                json!({ "columns": ["x", "y"], "learn": { "rows": 9 }, "variance": 0.5,
                    "components": 1 }),
                &["components and variance exclude one another"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("pca_t2q", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
        let mut columns: Vec<Column> = input.schema.columns().to_vec();
        columns[2] = columns[2].clone().with_unit(Some(Unit::new("mm/s")));
        input.schema = foreline_engine::Schema::new(columns, &["m"], "t").unwrap();
        let config = json!({ "columns": ["x", "y"], "learn": { "rows": 9 }, "scale": false });
        let errors = try_plan("pca_t2q", &config, &input.schema).unwrap_err();
        assert_eq!(errors, ["scale: 'x' and 'y' have different units"]);
    }
}
