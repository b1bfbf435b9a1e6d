//! `spectrum(value, time)`: the amplitude spectrum of a stretch of a signal, as a list of frequencies and amplitudes.
//!
//! What a reader would get wrong: samples come in any order and from several files, so they are sorted by time before they are
//! transformed, and an uneven stretch is an error: a spectrum of it would show lines that the machine does not have.

use std::f64::consts::PI;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int64Array, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use realfft::RealFftPlanner;

/// Samples of one spectrum: 20 s of 50 kHz, and 16 MiB.
const SAMPLES_MAX: usize = 1 << 20;

/// Fewer samples have no spectrum, but `NULL`.
const SAMPLES_MIN: usize = 4;

/// By what part of the mean interval one interval may differ from it.
const UNEVEN_MAX: f64 = 0.25;

pub(super) fn spectrum() -> AggregateUDF {
    AggregateUDF::from(Spectrum { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Spectrum {
    signature: Signature,
}

/// `{frequency, amplitude}`.
fn line() -> Fields {
    let field = |name| Field::new(name, DataType::Float64, false);
    Fields::from(vec![field("frequency"), field("amplitude")])
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(line()), false))
}

impl AggregateUDFImpl for Spectrum {
    fn name(&self) -> &'static str {
        "spectrum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if !arguments[0].is_numeric() {
            return exec_err!("the first argument of 'spectrum' is a number");
        }
        if !matches!(arguments[1], DataType::Timestamp(..)) {
            return exec_err!("the second argument of 'spectrum' is a time");
        }
        Ok(DataType::List(item()))
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Samples::default()))
    }

    fn state_fields(&self, _arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |name, of| Arc::new(Field::new(name, DataType::new_list(of, true), true));
        Ok(vec![list("times", DataType::Int64), list("values", DataType::Float64)])
    }
}

/// Samples with their times in nanoseconds, as they came.
#[derive(Debug, Default)]
struct Samples {
    samples: Vec<(i64, f64)>,
}

impl Samples {
    fn take(&mut self, times: &Int64Array, values: &Float64Array) -> Result<()> {
        for (time, value) in times.iter().zip(values) {
            let (Some(time), Some(value)) = (time, value) else { continue };
            if !value.is_finite() {
                return exec_err!("'spectrum' met a sample that is not a finite number");
            }
            if self.samples.len() == SAMPLES_MAX {
                return exec_err!(
                    "'spectrum' takes at most {SAMPLES_MAX} samples: ask for a shorter stretch"
                );
            }
            self.samples.push((time, value));
        }
        Ok(())
    }

    /// Sorts by time, and gives the rate in Hz.
    fn rate(&mut self) -> Result<f64> {
        self.samples.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (first, last) = (self.samples[0].0, self.samples[self.samples.len() - 1].0);
        let intervals = self.samples.len() - 1;
        let mean_ns = nanoseconds(last - first) / number(intervals);
        for pair in self.samples.windows(2) {
            let gap_ns = nanoseconds(pair[1].0 - pair[0].0);
            if (gap_ns - mean_ns).abs() > UNEVEN_MAX * mean_ns || gap_ns <= 0.0 {
                return exec_err!(
                    "'spectrum' needs samples at even times, of one signal: one is {} ms after the one before, the mean is {} ms; resample them, or ask for a shorter stretch",
                    gap_ns / 1e6,
                    mean_ns / 1e6
                );
            }
        }
        Ok(1e9 / mean_ns)
    }

    /// Frequencies in Hz and amplitudes: Hann window, mean taken away, one-sided, so that a sine of amplitude `a` on a line is `a` there.
    fn lines(&mut self) -> Result<(Vec<f64>, Vec<f64>)> {
        let rate = self.rate()?;
        let n = self.samples.len();
        let mean = self.samples.iter().map(|s| s.1).sum::<f64>() / number(n);
        let weight = |k: usize| 0.5 - 0.5 * (2.0 * PI * number(k) / number(n)).cos();
        let plan = RealFftPlanner::<f64>::new().plan_fft_forward(n);
        let mut input: Vec<f64> =
            self.samples.iter().enumerate().map(|(k, s)| (s.1 - mean) * weight(k)).collect();
        let mut output = plan.make_output_vec();
        plan.process(&mut input, &mut output).map_err(|e| exec_datafusion_err!("{e}"))?;
        let weights: f64 = (0..n).map(weight).sum();
        let half = n.is_multiple_of(2).then_some(n / 2);
        let amplitude = |(k, line): (usize, &realfft::num_complex::Complex<f64>)| {
            let sides = if k == 0 || Some(k) == half { 1.0 } else { 2.0 };
            sides * line.norm() / weights
        };
        let amplitudes = output.iter().enumerate().map(amplitude).collect();
        let frequencies = (0..output.len()).map(|k| number(k) * rate / number(n)).collect();
        Ok((frequencies, amplitudes))
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are at most 2^20 samples")]
fn number(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "a stretch of 2^53 ns is a hundred days")]
fn nanoseconds(ns: i64) -> f64 {
    ns as f64
}

impl Accumulator for Samples {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let times = cast(&values[1], &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
        let (times, values) =
            (cast(&times, &DataType::Int64)?, cast(&values[0], &DataType::Float64)?);
        self.take(times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.samples.len() < SAMPLES_MIN {
            return ScalarValue::try_from(DataType::List(item()));
        }
        let (frequencies, amplitudes) = self.lines()?;
        let of = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let lines = StructArray::new(line(), vec![of(frequencies), of(amplitudes)], None);
        let offsets = OffsetBuffer::from_lengths([lines.len()]);
        let list = arrow::array::ListArray::new(item(), offsets, Arc::new(lines), None);
        Ok(ScalarValue::List(Arc::new(list)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.samples.capacity() * size_of::<(i64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |values: ArrayRef| {
            let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths([values.len()]);
            ScalarValue::List(Arc::new(arrow::array::ListArray::new(item, offsets, values, None)))
        };
        let times: Int64Array = self.samples.iter().map(|s| Some(s.0)).collect();
        let values: Float64Array = self.samples.iter().map(|s| Some(s.1)).collect();
        Ok(vec![list(Arc::new(times)), list(Arc::new(values))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (times, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for (times, values) in times.iter().zip(values.iter()) {
            let (Some(times), Some(values)) = (times, values) else { continue };
            self.take(times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>())?;
        }
        Ok(())
    }
}
