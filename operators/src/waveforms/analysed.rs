//! The operator of every step over waveforms: it reads each row's waveform and makes columns of what is found in it.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float32Type};
use foreline_engine::{Column, ConfigError, Fault, LateSupport, Planned, Reason, Schema};

use super::{
    Analysis, Found, MAX_SAMPLES, MISMATCH, Reading, Refusal, Speed, TOO_SHORT, Wave, list_field,
};
use crate::columns::{channel, nullable, output};
use crate::stateless::{Fate, PerRow, Stateless};

/// A waveform has more samples than any step looks at.
const TOO_LONG: Reason = Reason("waveform_too_long");

/// The plan of a step that adds `columns` to each row, as `make`'s analysis finds them.
pub(crate) fn planned<A: Analysis + 'static>(
    input: &Schema,
    reading: Reading,
    columns: &[Column],
    make: impl Fn() -> A + Send + Sync + 'static,
) -> Result<Planned, Vec<ConfigError>> {
    let n_before = input.columns().len();
    let all = [input.columns(), columns].concat();
    let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
    let schema = output(all, key, input.time(), primary_key).map_err(|e| vec![e.under("as")])?;
    let (input, out) = (input.clone(), schema.clone());
    Ok(Planned {
        output: schema,
        late: LateSupport::Stateless,
        state_version: 0,
        build: Arc::new(move |_| {
            let work = Work { analysis: make(), samples: Vec::new(), companion: Vec::new() };
            let function = Analysed {
                reading: reading.clone(),
                n_before,
                output: out.clone(),
                work: RefCell::new(work),
            };
            Ok(Box::new(Stateless { input: input.clone(), function }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

/// The function of rows. What is in `work` are plans and buffers, which show in nothing that comes out.
#[derive(Debug)]
struct Analysed<A> {
    reading: Reading,
    n_before: usize,
    output: Schema,
    work: RefCell<Work<A>>,
}

#[derive(Debug)]
struct Work<A> {
    analysis: A,
    samples: Vec<f64>,
    companion: Vec<f64>,
}

impl<A: Analysis> PerRow for Analysed<A> {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let n_found = self.output.columns().len() - self.n_before;
        let speeds = self.speeds(rows)?;
        let waves = rows.column(self.reading.source.index).as_list::<i32>();
        let companions = self.reading.companion.map(|c| rows.column(c).as_list::<i32>());
        let column = |_| Vec::with_capacity(rows.num_rows());
        let mut found: Vec<Vec<Found>> = (0..n_found).map(column).collect();
        let mut fates = Vec::with_capacity(rows.num_rows());
        let (work, mut row_found) = (&mut *self.work.borrow_mut(), Vec::new());
        for row in 0..rows.num_rows() {
            row_found.clear();
            let speed_hz = speeds.as_ref().map(|s| s[row]).filter(|&hz| hz > 0.0 && hz.is_finite());
            let looked = work.look(row, waves, companions, speed_hz, &mut row_found);
            if looked != Ok(true) {
                row_found.clear();
                row_found.resize(n_found, Found::Null);
            }
            fates.push(looked.map_or_else(|(reason, why)| Fate::Dead(reason, why), |_| Fate::Kept));
            for (column, one) in found.iter_mut().zip(row_found.drain(..)) {
                column.push(one);
            }
        }
        let mut columns = rows.columns().to_vec();
        let added = &self.output.columns()[self.n_before..];
        columns.extend(added.iter().zip(&found).map(|(column, f)| finished(column, f)));
        let all_kept = fates.iter().all(|f| *f == Fate::Kept);
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, (!all_kept).then_some(fates)))
    }
}

impl<A> Analysed<A> {
    /// Turns a second, row by row; NaN where missing.
    fn speeds(&self, rows: &RecordBatch) -> Result<Option<ScalarBuffer<f64>>, Fault> {
        Ok(match self.reading.speed {
            None => None,
            Some(Speed::Constant(hz)) => Some(vec![hz; rows.num_rows()].into()),
            Some(Speed::Column(index, factor)) => {
                let values = channel(rows.column(index))?;
                Some(values.iter().map(|v| v * factor).collect())
            }
        })
    }
}

impl<A: Analysis> Work<A> {
    /// What is found in a row: `false` where there is no waveform.
    fn look(
        &mut self,
        row: usize,
        waves: &ListArray,
        companions: Option<&ListArray>,
        speed_hz: Option<f64>,
        found: &mut Vec<Found>,
    ) -> Result<bool, Refusal> {
        if waves.is_null(row) || companions.is_some_and(|c| c.is_null(row)) {
            return Ok(false);
        }
        read(waves, row, &mut self.samples)?;
        if let Some(companions) = companions {
            read(companions, row, &mut self.companion)?;
            if self.companion.len() != self.samples.len() {
                let (n, m) = (self.samples.len(), self.companion.len());
                let why = format!("the waveforms of the row have {n} and {m} samples");
                return Err((MISMATCH, why));
            }
        }
        let companion = companions.map(|_| self.companion.as_slice());
        let wave = Wave { samples: &self.samples, speed_hz, companion };
        self.analysis.analyse(&wave, found).map(|()| true)
    }
}

/// Reads the waveform of a row.
fn read(waves: &ListArray, row: usize, to: &mut Vec<f64>) -> Result<(), Refusal> {
    let samples = waves.value(row);
    let samples = samples.as_primitive::<Float32Type>();
    if samples.is_empty() {
        return Err((TOO_SHORT, "the waveform is empty".to_owned()));
    }
    if samples.len() > MAX_SAMPLES {
        let n = samples.len();
        let why = format!("the waveform has {n} samples, more than {MAX_SAMPLES}: split it");
        return Err((TOO_LONG, why));
    }
    to.clear();
    to.extend(samples.values().iter().map(|&x| f64::from(x)));
    // All are looked at without a branch, which is faster than to stop early.
    let all_finite = to.iter().fold(true, |all, x| all & x.is_finite());
    let bad = samples.null_count() > 0 || !all_finite;
    if let Some(k) = (0..to.len()).find(|&k| bad && (samples.is_null(k) || !to[k].is_finite())) {
        let value = if samples.is_null(k) { "null".to_owned() } else { to[k].to_string() };
        return Err((Reason::NON_FINITE, format!("sample {k} of the waveform is {value}")));
    }
    Ok(())
}

/// Findings as a column.
fn finished(column: &Column, found: &[Found]) -> ArrayRef {
    match &column.data_type {
        DataType::Int64 => Arc::new(Int64Array::from_iter(found.iter().map(|f| match f {
            Found::Count(n) => Some(*n),
            _ => None,
        }))),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(found.iter().map(|f| match f {
            Found::Flag(flag) => Some(*flag),
            _ => None,
        }))),
        DataType::Utf8 => Arc::new(StringArray::from_iter(found.iter().map(|f| match f {
            Found::Word(word) => Some(*word),
            _ => None,
        }))),
        DataType::List(_) => Arc::new(lists(found)),
        _ => {
            let number = |f: &Found| match f {
                Found::Number(x) if x.is_finite() => *x,
                _ => f64::NAN,
            };
            Arc::new(nullable(found.iter().map(number).collect()))
        }
    }
}

fn lists(found: &[Found]) -> ListArray {
    let lists = || {
        found.iter().map(|f| match f {
            Found::List(list) => Some(list.as_slice()),
            _ => None,
        })
    };
    let offsets = OffsetBuffer::from_lengths(lists().map(|list| list.map_or(0, <[f64]>::len)));
    let valid: NullBuffer = lists().map(|list| list.is_some()).collect();
    let values: Vec<f64> = lists().flatten().collect::<Vec<_>>().concat();
    let values = Arc::new(Float64Array::from(values));
    ListArray::new(Arc::new(list_field()), offsets, values, Some(valid))
}
