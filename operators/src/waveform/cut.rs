//! The operator: it takes samples in, run by run, and cuts them where waveforms are full.
//!
//! What goes on as the watermark is `watermark - span`, because no row that follows ends a waveform which starts before.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int64Array, ListArray, RecordBatch};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Group, Input, Keyed, Operator, Out, Reason, Schema,
    ShardSet, Watermarks,
};

use super::STATE_VERSION;
use super::open::{Grid, Open};
use crate::columns::{channel, nullable, same_version, time_column};
use crate::history::History;
use crate::moments::mean_of;

/// Two samples of a signal have one time.
const SAME_TIME: Reason = Reason("same_time");

/// The operator.
#[derive(Debug)]
pub(super) struct Cutter {
    input: Schema,
    output: Schema,
    grid: Grid,
    /// The columns to cut, then those to take the mean of.
    channels: Vec<usize>,
    n_cut: usize,
    open: Keyed<Open>,
}

/// A batch and what is read of it often.
struct Taken<'a> {
    rows: &'a Batch,
    times: &'a [i64],
    channels: Vec<ScalarBuffer<f64>>,
}

/// Waveforms to emit, column by column.
struct Cut {
    slots: Vec<u32>,
    times: Vec<i64>,
    positions: Vec<u64>,
    waves: Vec<Vec<f32>>,
    means: Vec<Vec<f64>>,
}

/// What becomes of a row that does not go on with the open waveform.
enum Fate {
    /// It is the first sample of another.
    Started,
    /// It is between waveforms, or null.
    LeftOut,
    /// It cannot be used.
    Dead(Reason, String),
}

impl Cutter {
    pub(super) fn new(
        input: Schema,
        output: Schema,
        grid: Grid,
        channels: Vec<usize>,
        n_cut: usize,
    ) -> Self {
        let open = Keyed::new(&input);
        Cutter { input, output, grid, channels, n_cut, open }
    }

    /// Takes in the rows of a key.
    fn take_in(
        &mut self,
        batch: &Taken<'_>,
        group: Group,
        cut: &mut Cut,
        account: &mut Account,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let slot = self.open.slot(batch.rows, self.input.key(), group.start, Open::default)?;
        let mut open = std::mem::take(self.open.get_mut(slot));
        let mut row = group.start;
        while row < group.end {
            let n_samples = self.samples_from(&open, batch, row, group.end);
            if n_samples > 0 {
                open.rows.extend(batch.times, &batch.channels, row, row + n_samples);
                open.n_since += n_samples;
                account.in_flight += signed(n_samples);
                row += n_samples;
                open.last = Some(batch.times[row - 1]);
                if open.rows.len() == self.grid.samples {
                    release(account, open.rows.len() - open.n_used, |a| &mut a.used);
                    let position = batch.rows.position.value(row - 1);
                    cut.push(slot, position, &open.rows, self.n_cut);
                    open.next(self.grid, batch.times[row - 1]);
                }
                continue;
            }
            match self.fate(&mut open, batch, row, account) {
                Fate::Started => {}
                Fate::LeftOut => account.filtered += 1,
                Fate::Dead(reason, detail) => out.dead(DeadLetter {
                    key: Some(self.open.key_text(slot)),
                    time: Some(batch.times[row]),
                    position: Some(batch.rows.position.value(row)),
                    ..DeadLetter::new(reason, detail)
                }),
            }
            row += 1;
        }
        *self.open.get_mut(slot) = open;
        Ok(())
    }

    /// How many rows from `row` on are the next samples of the open waveform.
    fn samples_from(&self, open: &Open, batch: &Taken<'_>, row: usize, end: usize) -> usize {
        if open.n_since == 0 || open.skip > 0 {
            return 0;
        }
        let end = end.min(row + self.grid.samples - open.rows.len());
        let fits = |i: usize, t: &i64| self.grid.fits(open.start, open.n_since + i, *t);
        let mut n = leading(&batch.times[row..end], fits);
        for samples in &batch.channels[..self.n_cut] {
            n = leading(&samples[row..row + n], |_, x| narrow(*x).is_finite());
        }
        n
    }

    /// What becomes of a row that is not the next sample of the open waveform.
    fn fate(&self, open: &mut Open, batch: &Taken<'_>, row: usize, account: &mut Account) -> Fate {
        let time = batch.times[row];
        let samples = || batch.channels[..self.n_cut].iter().map(|c| c[row]);
        if samples().any(f64::is_nan) {
            release(account, open.cut(), |a| &mut a.filtered);
            return Fate::LeftOut;
        }
        if let Some(x) = samples().find(|&x| !narrow(x).is_finite()) {
            release(account, open.cut(), |a| &mut a.filtered);
            let detail = format!("'{x}' is no sample: it is not a finite number of 32 bits");
            return Fate::Dead(Reason::NON_FINITE, detail);
        }
        let fits = match open.n_since {
            // The first of a waveform belongs where it is, as long as it is not the sample before once more.
            0 => self.grid.slack >= self.grid.period || open.last != Some(time),
            i => self.grid.fits(open.start, i, time),
        };
        if !fits && open.last == Some(time) {
            let detail = "the sample before has the same event time";
            return Fate::Dead(SAME_TIME, detail.to_owned());
        }
        open.last = Some(time);
        if !fits {
            release(account, open.cut(), |a| &mut a.filtered);
        }
        if open.skip > 0 {
            open.skip -= 1;
            // The next waveform is counted from its own start.
            (open.start, open.n_since) = (time, usize::from(open.skip > 0));
            return Fate::LeftOut;
        }
        open.rows.extend(batch.times, &batch.channels, row, row + 1);
        (open.start, open.n_since) = (time, 1);
        account.in_flight += 1;
        Fate::Started
    }

    /// Ends all that is open, because nothing follows.
    fn end(&mut self, account: &mut Account) {
        for slot in self.open.slots_by_hash().to_vec() {
            if self.open.get(slot).n_since > 0 {
                let n_lost = self.open.get_mut(slot).cut();
                release(account, n_lost, |a| &mut a.filtered);
            }
        }
    }

    fn watermarks(&self, input: &Watermarks) -> Watermarks {
        let span = self.grid.span();
        let before = |at: i64| if at == Watermarks::END { at } else { at.saturating_sub(span) };
        Watermarks {
            keys: input.keys.clone(),
            key_hash: input.key_hash.clone(),
            at: input.at.values().iter().map(|&at| before(at)).collect::<Int64Array>(),
            low: before(input.low),
        }
    }

    fn batch(&mut self, cut: Cut) -> Result<Option<Batch>, Fault> {
        if cut.slots.is_empty() {
            return Ok(None);
        }
        let hashes: Vec<u64> = cut.slots.iter().map(|&s| self.open.hash(s)).collect();
        let mut columns = self.open.key_columns(&cut.slots);
        columns.push(time_column(cut.times, self.output.domain()));
        let n_rows = hashes.len();
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(self.grid.samples, n_rows));
        let field = Arc::new(Field::new_list_field(DataType::Float32, false));
        columns.extend(cut.waves.into_iter().map(|samples| -> ArrayRef {
            let samples = Arc::new(Float32Array::from(samples));
            Arc::new(ListArray::new(Arc::clone(&field), offsets.clone(), samples, None))
        }));
        columns.extend(cut.means.into_iter().map(|m| -> ArrayRef { Arc::new(nullable(m)) }));
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        let batch = Batch::new(rows, hashes.into(), cut.positions.into());
        batch.map(Some).map_err(|e| Fault::new(e.to_string()))
    }
}

impl Cut {
    /// Appends a waveform: all of `rows`.
    fn push(&mut self, slot: u32, position: u64, rows: &History, n_cut: usize) {
        self.slots.push(slot);
        self.times.push(rows.times()[0]);
        self.positions.push(position);
        let (waves, means) = rows.channels().split_at(n_cut);
        for (to, samples) in self.waves.iter_mut().zip(waves) {
            to.extend(samples.iter().map(|&x| narrow(x)));
        }
        for (to, values) in self.means.iter_mut().zip(means) {
            to.push(mean_of(values).0);
        }
    }
}

/// Items that are looked at together, without a branch between them: mostly all of them are fit.
const TOGETHER: usize = 32;

/// How many items are fit before the first that is not.
fn leading<T>(items: &[T], fit: impl Fn(usize, &T) -> bool) -> usize {
    let mut n = 0;
    for chunk in items.chunks(TOGETHER) {
        let each = || chunk.iter().enumerate().map(|(i, item)| fit(n + i, item));
        if !each().fold(true, |all, one| all & one) {
            return n + each().take_while(|one| *one).count();
        }
        n += chunk.len();
    }
    n
}

#[expect(clippy::cast_possible_truncation, reason = "a waveform has samples of 32 bits")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Counts `n` rows that were in flight as something else.
fn release(account: &mut Account, n: usize, to: impl FnOnce(&mut Account) -> &mut u64) {
    account.in_flight -= signed(n);
    *to(account) += n as u64;
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("a waveform has fewer than 2^63 samples")
}

impl Operator for Cutter {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        let schema = self.input.clone();
        let channels = self.channels.iter().map(|&c| channel(input.rows.rows.column(c)));
        let batch = Taken {
            rows: input.rows,
            times: input.rows.times(&schema),
            channels: channels.collect::<Result<_, _>>()?,
        };
        let mut cut = Cut {
            slots: Vec::new(),
            times: Vec::new(),
            positions: Vec::new(),
            waves: vec![Vec::new(); self.n_cut],
            means: vec![Vec::new(); self.channels.len() - self.n_cut],
        };
        let mut account = Account::default();
        for group in input.rows.groups() {
            self.take_in(&batch, group, &mut cut, &mut account, out)?;
        }
        if input.watermarks.ended() {
            self.end(&mut account);
        }
        out.count(account);
        if let Some(rows) = self.batch(cut)? {
            out.emit(rows);
        }
        out.watermarks(self.watermarks(input.watermarks));
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.open.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.open.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.open.load(&state)
    }
}
