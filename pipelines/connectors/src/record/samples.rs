//! Waveforms: the bursts of samples of one column, however a payload writes them.
//!
//! A sample that is missing, no number, or beyond what 32 bits can say would shift or bend all that is computed from the
//! burst, so it spoils the whole of it, other than a NaN that stands alone, which is null. So does a burst without samples,
//! and one that is too long.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use foreline_engine::{Reason, waveform_type};

use super::Unfit;
use super::value;

/// Most samples of a waveform: at 51.2 kHz 20 seconds, and what the steps that look at waveforms take.
pub(crate) const SAMPLES_MAX: usize = 1 << 20;

const EMPTY: Unfit = Unfit::bad("has no samples; null stands for a waveform that is missing");
pub(super) const NO_SAMPLES: Unfit = Unfit::bad("is no list of numbers");
const NOT_WHOLE: Unfit = Unfit::bad("is no whole number of samples");
const TOO_LONG: Unfit = Unfit {
    reason: Reason("waveform_too_long"),
    what: "has more than 1048576 samples: split it",
    sample: None,
};
const CHUNK_FULL: Unfit = Unfit::bad("comes after more samples than one part of a file may have");

/// The samples of a burst as a payload holds them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Samples<'a> {
    /// As they are kept.
    F32(&'a [f32]),
    /// Rounded to what is kept.
    F64(&'a [f64]),
    /// As bytes.
    Packed(Packed<'a>),
    /// As a list of values of any kind.
    List(&'a dyn List),
}

/// A list that may hold samples.
pub(crate) trait List: fmt::Debug {
    /// Adds its items to a burst.
    ///
    /// # Errors
    /// When one is no number, or they are too many.
    fn read(&self, to: &mut Burst<'_>) -> Result<(), Unfit>;
}

/// Samples as bytes, those of several channels side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) form: Form,
    /// The channel that is meant, from 0.
    pub(crate) channel: u32,
    /// How many there are; 1 at least.
    pub(crate) n_channels: u32,
}

/// What a sample is in bytes; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl<'a> Packed<'a> {
    /// The samples of one channel.
    pub(crate) fn alone(bytes: &'a [u8], form: Form) -> Self {
        Packed { bytes, form, channel: 0, n_channels: 1 }
    }

    #[expect(clippy::cast_precision_loss, reason = "samples have the precision of 32 bits")]
    fn read(&self, to: &mut Burst<'_>) -> Result<(), Unfit> {
        match self.form {
            Form::I8 => self.each(to, |b| f32::from(i8::from_le_bytes(b))),
            Form::I16 => self.each(to, |b| f32::from(i16::from_le_bytes(b))),
            Form::I32 => self.each(to, |b| i32::from_le_bytes(b) as f32),
            Form::I64 => self.each(to, |b| i64::from_le_bytes(b) as f32),
            Form::U8 => self.each(to, |b| f32::from(u8::from_le_bytes(b))),
            Form::U16 => self.each(to, |b| f32::from(u16::from_le_bytes(b))),
            Form::U32 => self.each(to, |b| u32::from_le_bytes(b) as f32),
            Form::U64 => self.each(to, |b| u64::from_le_bytes(b) as f32),
            Form::F32 => self.each(to, f32::from_le_bytes),
            Form::F64 => self.each(to, |b| narrow(f64::from_le_bytes(b))),
        }
    }

    fn each<const N: usize>(
        &self,
        to: &mut Burst<'_>,
        sample: impl Fn([u8; N]) -> f32,
    ) -> Result<(), Unfit> {
        let rows = self.bytes.chunks_exact(N * self.n_channels as usize);
        if !rows.remainder().is_empty() {
            return Err(NOT_WHOLE);
        }
        to.fits(rows.len())?;
        to.samples.reserve(rows.len());
        let at = N * self.channel as usize;
        let of_channel = rows.filter_map(|row| row[at..].first_chunk::<N>());
        to.samples.extend(of_channel.map(|bytes| sample(*bytes)));
        Ok(())
    }
}

impl<'a> Samples<'a> {
    fn read(&self, to: &mut Burst<'_>) -> Result<(), Unfit> {
        match self {
            Samples::F32(samples) => {
                to.fits(samples.len())?;
                to.samples.extend_from_slice(samples);
                Ok(())
            }
            Samples::F64(samples) => {
                to.fits(samples.len())?;
                to.samples.extend(samples.iter().map(|s| narrow(*s)));
                Ok(())
            }
            Samples::Packed(packed) => packed.read(to),
            Samples::List(list) => list.read(to),
        }
    }

    /// Bytes as the text that they may be, for a column of another type; `None` where they are no bytes.
    pub(super) fn text(&self) -> Option<Result<&'a str, Utf8Error>> {
        match self {
            Samples::Packed(packed) => Some(std::str::from_utf8(packed.bytes)),
            Samples::F32(_) | Samples::F64(_) | Samples::List(_) => None,
        }
    }

    /// What a message about them quotes.
    pub(super) fn shown(&self) -> Cow<'static, [u8]> {
        match self {
            Samples::Packed(packed) => {
                Cow::Owned(format!("({} bytes)", packed.bytes.len()).into_bytes())
            }
            Samples::F32(_) | Samples::F64(_) | Samples::List(_) => Cow::Borrowed(b"(an array)"),
        }
    }
}

/// The sample nearest to a number; infinite where none is near.
#[expect(clippy::cast_possible_truncation, reason = "samples have the precision of 32 bits")]
pub(crate) fn narrow(number: f64) -> f32 {
    number as f32
}

/// A burst that is being read.
#[derive(Debug)]
pub(crate) struct Burst<'a> {
    samples: &'a mut Vec<f32>,
    start: usize,
}

impl Burst<'_> {
    /// Adds a sample; `None` is no number.
    ///
    /// # Errors
    /// When it is none, or one too many.
    #[inline]
    pub(crate) fn push(&mut self, sample: Option<f32>) -> Result<(), Unfit> {
        let n = self.samples.len() - self.start;
        let Some(sample) = sample else {
            return Err(Unfit { sample: Some(n), ..Unfit::bad("is no number") });
        };
        self.fits(n + 1)?;
        self.samples.push(sample);
        Ok(())
    }

    /// That a burst may have `n` samples.
    fn fits(&self, n: usize) -> Result<(), Unfit> {
        let end = i32::try_from(self.start.saturating_add(n));
        match () {
            () if n > SAMPLES_MAX => Err(TOO_LONG),
            () if end.is_err() => Err(CHUNK_FULL),
            () => Ok(()),
        }
    }

    /// That what was read is a waveform.
    fn check(&self) -> Result<(), Unfit> {
        let samples = &self.samples[self.start..];
        if samples.is_empty() {
            return Err(EMPTY);
        }
        match samples.iter().position(|s| !s.is_finite()) {
            None => Ok(()),
            at => {
                let what = "is no finite number of 32 bits";
                Err(Unfit { reason: Reason::NON_FINITE, what, sample: at })
            }
        }
    }
}

/// A column of waveforms that grows by one a record.
#[derive(Debug)]
pub(super) struct Waveforms {
    samples: Vec<f32>,
    /// Waveform `i` is `samples[ends[i] .. ends[i + 1]]`.
    ends: Vec<i32>,
}

impl Waveforms {
    pub(super) fn new() -> Self {
        Waveforms { samples: Vec::new(), ends: vec![0] }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Adds a burst.
    pub(super) fn push(&mut self, samples: &Samples<'_>) -> Result<(), Unfit> {
        self.add(|burst| samples.read(burst))
    }

    /// Adds the burst that a valid JSON text writes: an array of numbers.
    pub(super) fn push_json(&mut self, text: &[u8]) -> Result<(), Unfit> {
        let items = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).ok_or(NO_SAMPLES)?;
        self.add(|burst| {
            if items.trim_ascii().is_empty() {
                return Ok(());
            }
            let mut numbers = items.split(|b| *b == b',');
            numbers.try_for_each(|item| {
                burst.push(value::sample(item.trim_ascii(), b'.', &mut Vec::new()))
            })
        })
    }

    /// Adds the burst that a field writes: numbers with `;` or blanks between them.
    pub(super) fn push_field(
        &mut self,
        field: &[u8],
        decimal: u8,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
        self.add(|burst| {
            if field.contains(&b';') {
                let mut numbers = field.split(|b| *b == b';');
                return numbers.try_for_each(|n| burst.push(value::sample(n, decimal, scratch)));
            }
            let mut numbers = field.split(is_blank).filter(|n| !n.is_empty());
            numbers.try_for_each(|n| burst.push(value::sample(n, decimal, scratch)))
        })
    }

    pub(super) fn push_null(&mut self) {
        self.ends.push(self.ends[self.ends.len() - 1]);
    }

    fn add(&mut self, read: impl FnOnce(&mut Burst<'_>) -> Result<(), Unfit>) -> Result<(), Unfit> {
        let start = self.samples.len();
        let mut burst = Burst { samples: &mut self.samples, start };
        let added = read(&mut burst).and_then(|()| burst.check());
        match added {
            Ok(()) => self.ends.push(end(&self.samples)),
            Err(_) => self.samples.truncate(start),
        }
        added
    }

    pub(super) fn truncate(&mut self, n_rows: usize) {
        self.ends.truncate(n_rows + 1);
        let end = self.ends.last().and_then(|&e| usize::try_from(e).ok());
        self.samples.truncate(end.unwrap_or_default());
    }

    /// All waveforms; the column is empty afterwards.
    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        // Leaving room for as many again: chunks are alike.
        let room = Waveforms { samples: Vec::with_capacity(self.samples.len()), ends: vec![0] };
        let Waveforms { samples, ends } = std::mem::replace(self, room);
        let DataType::List(item) = waveform_type() else { unreachable!("a waveform is a list") };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let samples = Arc::new(Float32Array::new(samples.into(), None));
        let lists = ListArray::try_new(item, offsets, samples, nulls);
        Arc::new(lists.expect("offsets only rise, and no sample is null"))
    }
}

fn end(samples: &[f32]) -> i32 {
    i32::try_from(samples.len()).expect("a burst is only begun where its end fits")
}
