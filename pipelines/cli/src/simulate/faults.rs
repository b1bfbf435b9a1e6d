//! What goes wrong between a sensor and the file.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PumpFleet;
use super::format;
use super::machine::{CHANNELS, PLACES, Random, Reading};

/// How many readings a dropout takes, at least and at most.
const DROPOUT_READINGS: (u32, u32) = (3, 30);
/// How many recorded lines a gateway sends with a new one.
const BACKFILL_LINES: u32 = 2;
/// Where the random numbers of networks begin, behind those of all machines.
const NETWORK: u64 = 1 << 40;
/// How many readings a sensor stays stuck, at least and at most.
const STUCK_READINGS: (u32, u32) = (60, 300);

/// How often each fault happens: the chance that a reading is the (first) one of it, from 0 to 1.
///
/// The last reading of a machine is never hit, so that the truth names a time that is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultRates {
    /// The machine says nothing for 3 to 30 readings.
    pub dropout: f64,
    /// A channel repeats its value for 60 to 300 readings.
    pub stuck: f64,
    /// A channel shows 10 to 50 times its value, once.
    pub spike: f64,
    /// A field is empty.
    pub empty: f64,
    /// A field is `NaN`.
    pub nan: f64,
    /// A line that is not a reading: a word for a number, a field too few or too many.
    pub malformed: f64,
    /// The line is there twice.
    pub duplicate: f64,
    /// The line comes later than it should, by up to `late_s`.
    pub late: f64,
    /// How late a line may be, in seconds. A source with that lateness loses none.
    pub late_s: u32,
    /// The gateway loses its network: what it has recorded meanwhile comes when it is back, two lines with each new reading.
    pub backfill: f64,
    /// How long that may last, in seconds; it lasts a tenth of it at least.
    pub backfill_s: u32,
}

impl Default for FaultRates {
    fn default() -> Self {
        FaultRates {
            dropout: 1e-4,
            stuck: 2e-5,
            spike: 1e-4,
            empty: 2e-4,
            nan: 1e-4,
            malformed: 2e-5,
            duplicate: 1e-4,
            late: 2e-3,
            late_s: 4,
            backfill: 5e-4,
            backfill_s: 600,
        }
    }
}

impl FaultRates {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        FaultRates {
            dropout: 0.0,
            stuck: 0.0,
            spike: 0.0,
            empty: 0.0,
            nan: 0.0,
            malformed: 0.0,
            duplicate: 0.0,
            late: 0.0,
            late_s: 0,
            backfill: 0.0,
            backfill_s: 0,
        }
    }

    pub(super) fn check(&self, max_late_s: u32) -> Result<()> {
        let rates = [
            ("dropout", self.dropout),
            ("stuck", self.stuck),
            ("spike", self.spike),
            ("empty", self.empty),
            ("nan", self.nan),
            ("malformed", self.malformed),
            ("duplicate", self.duplicate),
            ("late", self.late),
            ("backfill", self.backfill),
        ];
        for (name, rate) in rates {
            ensure!(
                (0.0..=1.0).contains(&rate),
                "fault '{name}' is {rate}, but is a chance from 0 to 1"
            );
        }
        for (name, seconds) in [("late_s", self.late_s), ("backfill_s", self.backfill_s)] {
            ensure!(
                seconds <= max_late_s,
                "'{name}' is {seconds}, but may be {max_late_s} at most"
            );
        }
        Ok(())
    }
}

/// How often each fault was put in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultCounts {
    /// Readings that no file holds.
    pub dropped: u64,
    /// Readings with a channel that repeats itself.
    pub stuck: u64,
    /// Readings with a spike.
    pub spikes: u64,
    /// Readings with an empty field.
    pub empty: u64,
    /// Readings with a field `NaN`.
    pub nan: u64,
    /// Lines that are not readings.
    pub malformed: u64,
    /// Lines that are there a second time.
    pub duplicates: u64,
    /// Lines that arrived later than they should.
    pub late: u64,
    /// Lines that came when the gateway was back.
    pub backfilled: u64,
}

impl FaultCounts {
    pub(super) fn add(&mut self, other: &FaultCounts) {
        self.dropped += other.dropped;
        self.stuck += other.stuck;
        self.spikes += other.spikes;
        self.empty += other.empty;
        self.nan += other.nan;
        self.malformed += other.malformed;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.backfilled += other.backfilled;
    }
}

/// What became of a reading on its way to the file.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// It never arrives.
    Lost,
    /// It arrives later: see [`Faulty::due`].
    Held,
    /// It is this line.
    Line(&'a [u8]),
    /// It is this line, two times.
    Twice(&'a [u8]),
}

/// What a field looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Number,
    Empty,
    Nan,
    Word,
}

/// The way from one machine to the file.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) counts: FaultCounts,
    rates: FaultRates,
    random: Random,
    /// Ticks by which a line may be late.
    late_ticks: u32,
    silent: u32,
    stuck: Option<Stuck>,
    /// A held line and the tick at which it arrives. One at a time: the next one is not held while this one is.
    held: Option<(u32, Vec<u8>)>,
    /// Its own, so that the other faults are the same with and without.
    network: Random,
    /// Ticks for which the network may be gone.
    away_ticks: u32,
    /// The tick at which it is back, and the lines that wait for it.
    away: Option<u32>,
    recorded: VecDeque<Vec<u8>>,
    /// How many of those it may still send at this tick.
    room: u32,
    line: Vec<u8>,
}

/// A channel that repeats itself.
#[derive(Debug, Clone, Copy)]
struct Stuck {
    channel: usize,
    value: f64,
    left: u32,
}

impl Faulty {
    pub(super) fn new(config: &PumpFleet, machine: u32) -> Faulty {
        Faulty {
            counts: FaultCounts::default(),
            rates: config.faults.clone(),
            // Machines have the even streams, so that faults never change what a machine does.
            random: Random::new(config.seed, u64::from(machine) * 2 + 1),
            late_ticks: config.faults.late_s.saturating_mul(1_000) / config.interval_ms,
            silent: 0,
            stuck: None,
            held: None,
            network: Random::new(config.seed, NETWORK + u64::from(machine)),
            away_ticks: config.faults.backfill_s.saturating_mul(1_000) / config.interval_ms,
            away: None,
            recorded: VecDeque::new(),
            room: 0,
            line: Vec::with_capacity(96),
        }
    }

    /// A line that arrives at `tick` and was to come before, until there is none; to be written after the reading of that
    /// tick, or it would not be behind any.
    pub(super) fn due(&mut self, tick: u32) -> Option<&[u8]> {
        let late = self.held.take_if(|(at, _)| *at == tick).map(|(_, line)| line);
        let recorded = || {
            let can_send = self.away.is_none() && self.room > 0;
            self.room = self.room.saturating_sub(1);
            if can_send { self.recorded.pop_front() } else { None }
        };
        self.line = late.or_else(recorded)?;
        Some(&self.line)
    }

    /// Takes the reading of `tick` on its way. That of the machine's `last_tick` arrives as it is.
    pub(super) fn pass(&mut self, tick: u32, reading: &Reading, last_tick: u32) -> Outcome<'_> {
        let is_away = self.is_away(tick, last_tick);
        self.room = if tick >= last_tick { u32::MAX } else { BACKFILL_LINES };
        if tick >= last_tick {
            self.write(reading, [Field::Number; CHANNELS]);
            return Outcome::Line(&self.line);
        }
        if self.is_silent() {
            self.counts.dropped += 1;
            return Outcome::Lost;
        }
        let mut reading = reading.clone();
        self.distort(&mut reading);
        let fields = self.fields();
        self.write(&reading, fields);
        self.break_line(fields);
        if is_away {
            self.counts.backfilled += 1;
            self.recorded.push_back(self.line.clone());
            return Outcome::Held;
        }
        if self.late_ticks > 0 && self.held.is_none() && self.happens(self.rates.late) {
            self.counts.late += 1;
            let delay = self.random.between(1, self.late_ticks);
            // It must arrive while the machine still runs.
            self.held = Some(((tick + delay).min(last_tick), self.line.clone()));
            return Outcome::Held;
        }
        if self.happens(self.rates.duplicate) {
            self.counts.duplicates += 1;
            return Outcome::Twice(&self.line);
        }
        Outcome::Line(&self.line)
    }

    fn happens(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.random.unit() < rate
    }

    /// Whether the network is gone at `tick`. It is back before the machine ends.
    fn is_away(&mut self, tick: u32, last_tick: u32) -> bool {
        self.away = self.away.filter(|back| tick < *back);
        let can_go = self.away.is_none() && self.away_ticks > 0 && self.rates.backfill > 0.0;
        if can_go && self.network.unit() < self.rates.backfill {
            let ticks = self.network.between(self.away_ticks.div_ceil(10), self.away_ticks);
            self.away = Some((tick + ticks).min(last_tick)).filter(|back| tick < *back);
        }
        self.away.is_some()
    }

    fn is_silent(&mut self) -> bool {
        if self.silent == 0 && self.happens(self.rates.dropout) {
            self.silent = self.random.between(DROPOUT_READINGS.0, DROPOUT_READINGS.1);
        }
        let silent = self.silent > 0;
        self.silent = self.silent.saturating_sub(1);
        silent
    }

    /// Stuck values and spikes: lines that look right and are not.
    fn distort(&mut self, reading: &mut Reading) {
        if self.stuck.is_none() && self.happens(self.rates.stuck) {
            let channel = self.channel();
            let left = self.random.between(STUCK_READINGS.0, STUCK_READINGS.1);
            self.stuck = Some(Stuck { channel, value: reading.channels[channel], left });
        }
        if let Some(stuck) = &mut self.stuck {
            reading.channels[stuck.channel] = stuck.value;
            self.counts.stuck += 1;
            stuck.left -= 1;
        }
        self.stuck = self.stuck.filter(|stuck| stuck.left > 0);
        if self.happens(self.rates.spike) {
            self.counts.spikes += 1;
            let channel = self.channel();
            reading.channels[channel] *= f64::from(self.random.between(10, 50));
        }
    }

    /// At most one field is not a number.
    fn fields(&mut self) -> [Field; CHANNELS] {
        let mut fields = [Field::Number; CHANNELS];
        let field = if self.happens(self.rates.empty) {
            self.counts.empty += 1;
            Field::Empty
        } else if self.happens(self.rates.nan) {
            self.counts.nan += 1;
            Field::Nan
        } else if self.happens(self.rates.malformed) {
            self.counts.malformed += 1;
            Field::Word
        } else {
            return fields;
        };
        fields[self.channel()] = field;
        fields
    }

    /// A malformed line is ragged in two of three cases; in the third it keeps its word.
    fn break_line(&mut self, fields: [Field; CHANNELS]) {
        if !fields.contains(&Field::Word) {
            return;
        }
        match self.random.between(0, 2) {
            0 => self.line.truncate(self.line.iter().rposition(|b| *b == b',').unwrap_or(0)),
            1 => self.line.splice(self.line.len() - 1.., *b",0").for_each(drop),
            _ => return,
        }
        if self.line.last() != Some(&b'\n') {
            self.line.push(b'\n');
        }
    }

    fn channel(&mut self) -> usize {
        self.random.between(0, CHANNELS as u32 - 1) as usize
    }

    fn write(&mut self, reading: &Reading, fields: [Field; CHANNELS]) {
        let line = &mut self.line;
        line.clear();
        format::time(line, reading.at_ms);
        line.push(b',');
        format::name(line, reading.machine);
        line.push(b',');
        line.extend_from_slice(reading.condition.as_bytes());
        for ((value, places), field) in reading.channels.iter().zip(PLACES).zip(fields) {
            line.push(b',');
            match field {
                Field::Number => format::fixed(line, *value, places),
                Field::Empty => {}
                Field::Nan => line.extend_from_slice(b"NaN"),
                Field::Word => line.extend_from_slice(b"ERR"),
            }
        }
        line.push(b'\n');
    }
}
