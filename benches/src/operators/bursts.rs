//! Bursts of an accelerometer: rows for the steps that look at waveforms.
//!
//! A machine sends 4,096 samples every ten seconds. They are a shaft at about 25 Hz, a resonance at 2 kHz that swings
//! with one of the bearing's lines, and noise.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, TimeUnit};
use foreline_engine::{Column, SampleRate, Schema, Unit};
use foreline_operators::testing::Dice;

use super::rows::{MACHINES, Part, Rows, START, named, part, stamps};

/// Samples of a burst.
pub(super) const SAMPLES: usize = 4_096;
/// Samples a second.
pub(super) const RATE: f64 = 8_192.0;
/// Nanoseconds between two bursts of a machine.
const STEP: i64 = 10_000_000_000;

/// A burst in place of a thousand readings, at least one of each machine.
pub(super) fn bursts(readings: &Rows) -> Result<Rows> {
    let schema = schema()?;
    let n_epochs = (readings.n_rows / 1_000 / MACHINES).max(1);
    let mut dice = Dice::new(2);
    let epochs = (0..n_epochs).map(|i| epoch(&schema, i, &mut dice));
    let epochs = epochs.collect::<Result<_>>()?;
    Ok(Rows { epochs, schema, n_rows: n_epochs * MACHINES, beside: Vec::new() })
}

fn schema() -> Result<Schema> {
    let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let rate = SampleRate::new(RATE).context("a rate")?;
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("ts", stamp),
        Column::waveform("a", rate).with_unit(Some(Unit::new("g"))),
        Column::new("speed", DataType::Float64).with_unit(Some(Unit::new("{rpm}"))),
    ];
    Ok(Schema::new(columns, &["machine"], "ts")?)
}

/// Burst `i` of every machine.
fn epoch(schema: &Schema, i: usize, dice: &mut Dice) -> Result<Part> {
    let at = START + i64::try_from(i)? * STEP;
    let speeds: Vec<f64> = (0..MACHINES).map(|_| 1_500.0 + 30.0 * dice.unit()).collect();
    let samples: Vec<f32> = speeds.iter().flat_map(|rpm| burst(rpm / 60.0, dice)).collect();
    let field = Arc::new(Field::new_list_field(DataType::Float32, false));
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(SAMPLES, MACHINES));
    let waves = ListArray::new(field, offsets, Arc::new(Float32Array::from(samples)), None);
    let columns: Vec<ArrayRef> = vec![
        named(MACHINES, 1),
        stamps(std::iter::repeat_n(at, MACHINES)),
        Arc::new(waves),
        Arc::new(Float64Array::from(speeds)),
    ];
    part(schema, columns, at)
}

fn burst(speed_hz: f64, dice: &mut Dice) -> Vec<f32> {
    let angle = |k: usize, hz: f64| 2.0 * PI * hz * k as f64 / RATE;
    let sample = |k: usize| {
        let swing = 1.0 + angle(k, 3.6 * speed_hz).cos();
        angle(k, speed_hz).sin() + 0.5 * swing * angle(k, 2_000.0).sin() + 0.2 * dice.unit()
    };
    (0..SAMPLES).map(sample).map(|x| x as f32).collect()
}

impl Part {
    /// The rows of bursts that are in this part: each its samples.
    pub(super) fn bursts(&self) -> impl Iterator<Item = &[f32]> {
        let lists = self.batch.rows.column(2).as_list::<i32>();
        let samples = lists.values().as_primitive::<Float32Type>().values();
        lists.offsets().windows(2).map(move |ends| &samples[range(ends)])
    }

    /// How fast the shaft turned, in turns a second.
    pub(super) fn speeds_hz(&self) -> impl Iterator<Item = f64> {
        let speeds = self.batch.rows.column(3).as_primitive::<Float64Type>().values();
        speeds.iter().map(|rpm| rpm / 60.0)
    }
}

fn range(ends: &[i32]) -> Range<usize> {
    let at = |end: i32| usize::try_from(end).expect("an offset is not below 0");
    at(ends[0])..at(ends[1])
}
