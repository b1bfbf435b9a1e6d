//! What queries may call beside DataFusion's own functions, and which of those they may not.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ScalarUDF, Signature, Volatility, WindowUDF,
    create_udaf,
};

mod running;
mod spectrum;

/// Functions of which one row can take all memory at once, where no limit is asked.
const UNBOUNDED: &[&str] = &[
    "array_repeat",
    "array_resize",
    "generate_series",
    "list_repeat",
    "list_resize",
    "lpad",
    "range",
    "repeat",
    "rpad",
    "space",
];

/// Whether a function makes as much of one row as it is told to.
pub(super) fn unbounded(name: &str, aliases: &[String]) -> bool {
    std::iter::once(name)
        .chain(aliases.iter().map(String::as_str))
        .any(|name| UNBOUNDED.contains(&name))
}

/// `time_bucket(interval, time [, origin])`: the start of the interval that a time is in, by the name that TimescaleDB has for it.
pub(super) fn time_bucket() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::clone(&date_bin()).with_aliases(["time_bucket"]))
}

/// `ema` and `locf`.
pub(super) fn windows() -> Vec<Arc<WindowUDF>> {
    running::all()
}

/// `rms`, `kurtosis`, `kurtosis_pop`, `first`, `last`, `as_of`, `spectrum`.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let moments = |name: &'static str, of: fn(&Moments) -> Option<f64>| {
        let state = vec![DataType::Float64; 5];
        Arc::new(create_udaf(
            name,
            vec![DataType::Float64],
            Arc::new(DataType::Float64),
            Volatility::Immutable,
            Arc::new(move |_| Ok(Box::new(OfMoments { moments: Moments::default(), of }))),
            Arc::new(state),
        ))
    };
    vec![
        moments("rms", Moments::rms),
        moments("kurtosis", Moments::kurtosis),
        moments("kurtosis_pop", Moments::kurtosis_pop),
        Arc::new(AggregateUDF::from(ByTime::new("first", false, 2))),
        Arc::new(AggregateUDF::from(ByTime::new("last", true, 2))),
        Arc::new(AggregateUDF::from(ByTime::new("as_of", true, 3))),
        Arc::new(spectrum::spectrum()),
    ]
}

/// Number, mean and sums of powers of the distances from it, so that a large mean takes no digits.
///
/// Source: Pébay, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical moments, 2008.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    fn merge(&mut self, b: &Moments) {
        if b.n == 0.0 {
            return;
        }
        let a = *self;
        let n = a.n + b.n;
        let d = b.mean - a.mean;
        let (an, bn) = (a.n / n, b.n / n);
        self.n = n;
        self.mean = a.mean + d * bn;
        self.m2 = a.m2 + b.m2 + d * d * a.n * bn;
        self.m3 =
            a.m3 + b.m3 + d * d * d * a.n * bn * (an - bn) + 3.0 * d * (an * b.m2 - bn * a.m2);
        self.m4 = a.m4
            + b.m4
            + d * d * d * d * a.n * bn * (an * an - an * bn + bn * bn)
            + 6.0 * d * d * (an * an * b.m2 + bn * bn * a.m2)
            + 4.0 * d * (an * b.m3 - bn * a.m3);
    }

    fn rms(&self) -> Option<f64> {
        (self.n > 0.0).then(|| (self.m2 / self.n + self.mean * self.mean).sqrt())
    }

    /// Excess over the normal distribution, of all values there are.
    fn kurtosis_pop(&self) -> Option<f64> {
        (self.m2 > 0.0).then(|| self.n * self.m4 / (self.m2 * self.m2) - 3.0)
    }

    /// Excess over the normal distribution, of a sample: unbiased where that is the distribution.
    fn kurtosis(&self) -> Option<f64> {
        let n = self.n;
        let g2 = self.kurtosis_pop().filter(|_| n > 3.0)?;
        Some((n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * g2 + 6.0))
    }
}

#[derive(Debug)]
struct OfMoments {
    moments: Moments,
    of: fn(&Moments) -> Option<f64>,
}

impl Accumulator for OfMoments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.moments.merge(&Moments { n: 1.0, mean: value, ..Moments::default() });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.of)(&self.moments)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Moments { n, mean, m2, m3, m4 } = self.moments;
        Ok([n, mean, m2, m3, m4].map(|v| ScalarValue::Float64(Some(v))).into())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let column = |at: usize| states[at].as_primitive::<Float64Type>();
        for row in 0..states[0].len() {
            let of = |at: usize| column(at).value(row);
            let other = Moments { n: of(0), mean: of(1), m2: of(2), m3: of(3), m4: of(4) };
            self.moments.merge(&other);
        }
        Ok(())
    }
}

/// The value of the earliest or the latest time, for `as_of` of the latest one up to a third argument; of equal times the first
/// one that is met.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByTime {
    name: &'static str,
    is_last: bool,
    signature: Signature,
}

impl ByTime {
    fn new(name: &'static str, is_last: bool, arguments: usize) -> Self {
        ByTime { name, is_last, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ByTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(arguments.return_field.data_type())?;
        Ok(Box::new(Earliest { value, at: None, is_last: self.is_last }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = arguments.return_field.data_type().clone();
        Ok(vec![
            Arc::new(Field::new("value", value, true)),
            Arc::new(Field::new("at", DataType::Int64, true)),
        ])
    }
}

#[derive(Debug)]
struct Earliest {
    value: ScalarValue,
    at: Option<i64>,
    is_last: bool,
}

impl Earliest {
    /// Takes values at times, those after `upto` not.
    fn take(&mut self, values: &ArrayRef, times: &ArrayRef, upto: Option<&ArrayRef>) -> Result<()> {
        let upto = upto.map(|upto| {
            let same = cast(upto, times.data_type()).and_then(|upto| cast(&upto, &DataType::Int64));
            same.map_err(|_| exec_datafusion_err!("the third argument of 'as_of' is a time"))
        });
        let upto = upto.transpose()?;
        let upto = upto.as_ref().map(|upto| upto.as_primitive::<Int64Type>());
        let times = cast(times, &DataType::Int64)
            .map_err(|_| exec_datafusion_err!("the second argument is a time or a whole number"))?;
        let times = times.as_primitive::<Int64Type>();
        let mut best = None;
        for (row, at) in times.iter().enumerate() {
            let Some(at) = at.filter(|_| values.is_valid(row)) else { continue };
            if upto.is_some_and(|upto| upto.is_null(row) || upto.value(row) < at) {
                continue;
            }
            let is_better = match self.at {
                None => true,
                Some(now) if self.is_last => at > now,
                Some(now) => at < now,
            };
            if is_better {
                self.at = Some(at);
                best = Some(row);
            }
        }
        if let Some(row) = best {
            self.value = ScalarValue::try_from_array(values, row)?;
        }
        Ok(())
    }
}

impl Accumulator for Earliest {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&values[0], &values[1], values.get(2))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(self.at)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.take(&states[0], &states[1], None)
    }
}
