//! A scaler whose statistics are those of the rows so far, the row itself included.
//!
//! Mean and deviation are Welford's, value by value in the order of the rows, so that they are the same however the
//! rows were cut into epochs. Quantiles are exact: the values of the time of learning are kept, in order.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use foreline_engine::{
    Account, Batch, ConfigError, Epoch, Fault, Input, Keyed, LateSupport, Operator, Out, Planned,
    Schema, ShardSet, TimeDomain,
};
use serde::{Deserialize, Serialize};

use super::by::{By, Regime};
use super::places::Places;
use super::summary::{Figures, quantile};
use super::{Line, Method, Online, Shape};
use crate::columns::{channel, same_version};
use crate::learning::{Period, Running};

/// Raised whenever `Known` changes.
const STATE_VERSION: u32 = 1;
/// Regimes of a key that have statistics of their own; more are settings that were not rounded.
const MAX_REGIMES: usize = 64;
/// Most values that `robust` keeps of a column, for each key and regime: each is put in order among the others.
const MAX_KEPT: u64 = 10_000;

/// The step of a scaler that learns as it goes.
pub(super) fn plan(
    shape: Shape,
    method: Method,
    online: Online,
) -> Result<Planned, Vec<ConfigError>> {
    let until = until(online, method, shape.input.domain()).map_err(|e| vec![e])?;
    let Shape { input, places, by, constant } = shape;
    let rule = Rule { method, constant, until };
    Ok(Planned {
        output: places.schema.clone(),
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let (input, places, by) = (input.clone(), places.clone(), by.clone());
            let known = Keyed::new(&input);
            Ok(Box::new(Learner { input, places, by, rule, known }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

/// When the statistics are as they stay; `None`: never.
fn until(
    online: Online,
    method: Method,
    domain: TimeDomain,
) -> Result<Option<Period>, ConfigError> {
    let period = match online {
        Online::Always(_) => None,
        Online::Learning(learn) => Some(learn.plan("online", domain)?),
    };
    if !method.keeps() {
        return Ok(period);
    }
    match period {
        Some(Period::Rows(rows)) if rows <= MAX_KEPT => Ok(period),
        Some(Period::Rows(rows)) => {
            let what = format!("'{rows}' values are too many to keep");
            let help = format!("give a number from 2 to {MAX_KEPT}");
            Err(ConfigError::new("online.rows", what).help(help))
        }
        Some(Period::Length(_)) | None => {
            let what = "quantiles need the rows they are of, so there must be a last one";
            Err(ConfigError::new("online", what).help("write 'online: { rows: 1000 }'"))
        }
    }
}

/// How rows become statistics and statistics a line.
#[derive(Debug, Clone, Copy)]
struct Rule {
    method: Method,
    constant: f64,
    /// When there is nothing more to learn; `None`: never.
    until: Option<Period>,
}

/// What is known of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// The event time of its first row.
    since: Option<i64>,
    /// Each regime with the statistics of its columns, in the order in which they came.
    regimes: Vec<(Regime, Vec<Seen>)>,
    /// The statistics of all rows, for regimes that have none.
    overall: Vec<Seen>,
}

/// The values of a column so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    values: Running,
    min: f64,
    max: f64,
    /// The values in order, of a method that needs them.
    sorted: Vec<f64>,
    /// What follows from all of them, as long as nothing more is learnt.
    #[serde(skip)]
    line: Option<Line>,
}

impl Seen {
    fn learn(&mut self, x: f64, keep: bool) {
        (self.min, self.max) =
            if self.values.n == 0 { (x, x) } else { (self.min.min(x), self.max.max(x)) };
        self.values.add(x);
        if keep {
            let place = self.sorted.partition_point(|v| v.total_cmp(&x).is_lt());
            self.sorted.insert(place, x);
        }
    }

    fn figures(&self, quantiles: [f64; 2]) -> Figures {
        Figures {
            mean: self.values.mean,
            std: self.values.population_std(),
            min: self.min,
            max: self.max,
            low: quantile(&self.sorted, quantiles[0]),
            median: quantile(&self.sorted, 0.5),
            high: quantile(&self.sorted, quantiles[1]),
            ..Figures::unnamed()
        }
    }
}

impl Rule {
    /// Takes the value at `at` in, as long as a key that is known since `since` learns.
    fn learn(&self, seen: &mut Seen, x: f64, since: i64, at: i64) {
        let learns = self.until.is_none_or(|period| period.has(seen.values.n, since, at));
        if learns && x.is_finite() {
            seen.line = None;
            seen.learn(x, self.method.keeps());
        }
    }

    /// The scaled value; NaN where it is missing or nothing was learnt yet.
    fn scale(&self, seen: &mut Seen, x: f64) -> f64 {
        if !x.is_finite() || seen.values.n == 0 {
            return f64::NAN;
        }
        let line = seen.line.unwrap_or_else(|| self.line(seen));
        seen.line = Some(line);
        line.at(x)
    }

    fn line(&self, seen: &Seen) -> Line {
        self.method.line(&seen.figures(self.method.quantiles()), self.constant)
    }
}

impl Known {
    /// The place of a regime's statistics; `None` where it has none and there is no room for more.
    fn place(&mut self, regime: Option<&Regime>, n_columns: usize) -> Option<usize> {
        let regime = regime?;
        if let Some(place) = self.regimes.iter().position(|(r, _)| r == regime) {
            return Some(place);
        }
        (self.regimes.len() < MAX_REGIMES).then(|| {
            self.regimes.push((regime.clone(), vec![Seen::default(); n_columns]));
            self.regimes.len() - 1
        })
    }
}

#[derive(Debug)]
struct Learner {
    input: Schema,
    places: Places,
    by: By,
    rule: Rule,
    known: Keyed<Known>,
}

impl Learner {
    fn scaled(&mut self, batch: &Batch) -> Result<RecordBatch, Fault> {
        let from = &self.places.from;
        let channels = from.iter().map(|&c| channel(batch.rows.column(c)));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let split = self.by.split(&batch.rows)?;
        let times = batch.times(&self.input);
        let column = |_| Vec::with_capacity(batch.len());
        let mut results: Vec<Vec<f64>> = (0..channels.len()).map(column).collect();
        let mut flags = Vec::with_capacity(batch.len());
        for group in batch.groups() {
            let slot = self.known.slot(batch, self.input.key(), group.start, Known::default)?;
            let known = self.known.get_mut(slot);
            let since = *known.since.get_or_insert(times[group.start]);
            known.overall.resize_with(channels.len(), Seen::default);
            // Which regime a key knows under which place: asked once, not for every row.
            let mut places: Vec<Option<Option<usize>>> = vec![None; split.regimes.len()];
            for row in group.start..group.end {
                let regime = split.of_row[row] as usize;
                let place = *places[regime].get_or_insert_with(|| {
                    // Where there is one regime, it is what all rows are of.
                    let regime = split.regimes[regime].as_ref().filter(|r| !r.is_empty());
                    known.place(regime, channels.len())
                });
                for (c, (values, result)) in channels.iter().zip(&mut results).enumerate() {
                    let x = values[row];
                    self.rule.learn(&mut known.overall[c], x, since, times[row]);
                    let seen = match place {
                        Some(place) => {
                            let seen = &mut known.regimes[place].1[c];
                            self.rule.learn(seen, x, since, times[row]);
                            seen
                        }
                        None => &mut known.overall[c],
                    };
                    result.push(self.rule.scale(seen, x));
                }
                flags.push(Some(place.is_none()));
            }
        }
        let flags: Option<BooleanArray> = self.by.any().then(|| flags.into_iter().collect());
        self.places.put(&batch.rows, results, flags)
    }
}

impl Operator for Learner {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let rows = self.scaled(batch)?;
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(Batch { rows, ..batch.clone() });
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.known.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.known.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.known.load(&state)
    }
}
