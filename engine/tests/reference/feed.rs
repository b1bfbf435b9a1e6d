//! The world outside: readings that can be read again, and a relation of which whole tables or changes are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use foreline_engine::{
    CHANGED_AT, Chunk, Clock, Column, Decoded, Decoder, GONE, KnownPartition, Partition, Poll,
    Position, PrimaryKey, Range, Relation, RelationRules, Replay, Schema, Source, SourceError,
    TimeDomain,
};

use crate::{Dice, Ticking};

/// Machines of the stream. The last one is in no table.
pub(crate) const N_MACHINES: u64 = 6;
/// Times from which rows count lie on this grid, so that they meet.
const GRID_NS: i64 = 10_000_000;

/// A line of a table, or a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub machine: u64,
    pub since: Option<i64>,
    pub limit: i64,
    pub gone: bool,
}

/// From when a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Always: `since` is a column like any other.
    Always,
    /// From a time of the clock's.
    Time,
    /// From a cycle.
    Cycle,
}

/// What kind of relation it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub whole: bool,
    pub counts: Counts,
}

impl Kind {
    fn time_type(self) -> DataType {
        match self.counts {
            Counts::Time => TimeDomain::UtcNanos.data_type(),
            Counts::Always | Counts::Cycle => DataType::Int64,
        }
    }

    fn columns(self) -> Vec<Column> {
        vec![
            Column::new("machine", DataType::Utf8),
            Column::new("since", self.time_type()),
            Column::new("limit", DataType::Int64),
        ]
    }

    pub(crate) fn schema(self) -> Schema {
        let mut columns = self.columns();
        columns.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
        let mut primary = vec![0];
        primary.extend(self.valid_from());
        let primary_key = PrimaryKey { columns: primary, position: false };
        Schema::with_primary_key(columns, vec![0], 3, primary_key).unwrap()
    }

    pub(crate) fn relation(self) -> Relation {
        Relation::new(self.columns(), vec![0]).unwrap()
    }

    fn valid_from(self) -> Option<usize> {
        (self.counts != Counts::Always).then_some(1)
    }

    pub(crate) fn rules(self) -> RelationRules {
        RelationRules { whole: self.whole, valid_from: self.valid_from(), max_rows: 1_000 }
    }
}

/// What there is outside, whatever runs see of it.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// What was handed out last under each position.
    pub lines: BTreeMap<u64, Line>,
    /// The table as it lies there.
    pub table: Vec<Line>,
    /// So many tables or changes are still to come.
    pub left: u64,
}

/// A connection to the relation. It never ends.
pub(crate) struct Feed {
    pub outside: Arc<Mutex<Outside>>,
    pub kind: Kind,
    pub clock: Arc<Ticking>,
    pub dice: Dice,
    next_partition: u32,
    next_ordinal: u64,
    there: bool,
}

impl Feed {
    pub(crate) fn new(
        outside: &Arc<Mutex<Outside>>,
        kind: Kind,
        clock: &Arc<Ticking>,
        dice: Dice,
    ) -> Self {
        let (outside, clock) = (Arc::clone(outside), Arc::clone(clock));
        Feed { outside, kind, clock, dice, next_partition: 0, next_ordinal: 1, there: false }
    }

    fn line(&mut self) -> Line {
        let steps = i64::try_from(self.dice.below(41)).unwrap() - 20;
        let since = match self.kind.counts {
            Counts::Time => (self.clock.now_ns() / GRID_NS + steps) * GRID_NS,
            Counts::Always | Counts::Cycle => steps,
        };
        Line {
            machine: self.dice.below(N_MACHINES - 1),
            since: (!self.dice.one_in(3)).then_some(since),
            limit: i64::try_from(self.dice.below(4)).unwrap(),
            gone: !self.kind.whole && self.dice.one_in(3),
        }
    }

    /// The next table or changes.
    fn lines(&mut self) -> Vec<Line> {
        if !self.kind.whole {
            return (0..1 + self.dice.below(4)).map(|_| self.line()).collect();
        }
        if !self.dice.one_in(3) {
            let n = self.dice.below(9);
            let table: Vec<Line> = (0..n).map(|_| self.line()).collect();
            self.outside.lock().unwrap().table = table;
        }
        self.outside.lock().unwrap().table.clone()
    }

    fn place(&mut self) -> (Partition, u64) {
        if self.kind.whole {
            self.next_partition += 1;
            // As if the first line named the columns.
            return (Partition(self.next_partition - 1), 2);
        }
        (Partition(0), self.next_ordinal)
    }
}

impl Source for Feed {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn is_there(&self) -> bool {
        self.there
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        let is_left = self.outside.lock().unwrap().left > 0;
        if !self.dice.one_in(5) || (self.there && !is_left) {
            return Ok(Poll::Pending);
        }
        self.there = true;
        let lines = self.lines();
        let (partition, first) = self.place();
        let end = first + lines.len() as u64;
        if !self.kind.whole {
            self.next_ordinal = end;
        }
        let mut outside = self.outside.lock().unwrap();
        outside.left = outside.left.saturating_sub(1);
        for (ordinal, line) in (first..).zip(&lines) {
            outside.lines.insert(Position::new(partition, ordinal).0, line.clone());
        }
        let text = |line: &Line| {
            let since = line.since.map_or(String::new(), |since| since.to_string());
            format!("{},{since},{},{}\n", line.machine, line.limit, line.gone)
        };
        let payload = lines.iter().map(text).collect::<String>().into_bytes();
        let range = Range { start: first, end, first_ordinal: first, end_ordinal: end };
        Ok(Poll::Ready(Chunk { partition, range, rows: lines.len(), payload }))
    }

    fn read(&mut self, _: Partition, _: Range) -> Result<Chunk, SourceError> {
        Err(SourceError::Io("what it was then is in the journal alone".to_owned()))
    }

    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(LineDecoder(self.kind))
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        Some(format!("version {}", partition.0))
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        Vec::new()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        self.there = known.iter().any(|k| k.read.is_some());
        self.next_partition = known.iter().map(|k| k.partition.0 + 1).max().unwrap_or(0);
        let read = known.iter().filter_map(|k| k.read).max_by_key(|read| read.end_ordinal);
        self.next_ordinal = read.map_or(1, |read| read.end_ordinal);
        Ok(())
    }
}

struct LineDecoder(Kind);

impl Decoder for LineDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let text = std::str::from_utf8(&chunk.payload).unwrap();
        let fields: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        let machines: StringArray = fields.iter().map(|f| Some(format!("m{}", f[0]))).collect();
        let since = || fields.iter().map(|f| f[1].parse::<i64>().ok());
        let since: ArrayRef = match self.0.counts {
            Counts::Time => {
                Arc::new(since().collect::<TimestampNanosecondArray>().with_timezone("UTC"))
            }
            Counts::Always | Counts::Cycle => Arc::new(since().collect::<Int64Array>()),
        };
        let limits: Int64Array = fields.iter().map(|f| f[2].parse::<i64>().ok()).collect();
        let gone: BooleanArray = fields.iter().map(|f| Some(f[3] == "true")).collect();
        let schema = self.0.schema();
        let mut declared: Vec<_> = schema.arrow().fields()[..3].to_vec();
        declared.push(Arc::new(Field::new(GONE, DataType::Boolean, true)));
        let machines = arrow::compute::cast(&machines, declared[0].data_type()).unwrap();
        let columns: Vec<ArrayRef> = vec![machines, since, Arc::new(limits), Arc::new(gone)];
        let rows = RecordBatch::try_new(Arc::new(ArrowSchema::new(declared)), columns).unwrap();
        out.records = rows.num_rows() as u64;
        // A decoder may say what a chunk has in several pieces.
        let half = rows.num_rows() / 2;
        for (start, end) in [(0, half), (half, rows.num_rows())] {
            let ordinals = (start..end).map(|row| chunk.range.first_ordinal + row as u64);
            let position = ordinals.map(|o| Position::new(chunk.partition, o).0);
            let position = position.collect::<Vec<_>>();
            out.rows.push((rows.slice(start, end - start), position.into()));
        }
    }
}

/// A reading: machine, cycle, value.
pub(crate) type Reading = (u64, i64, f64);

pub(crate) fn readings_schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// A file of readings.
pub(crate) struct Readings {
    pub all: Arc<Vec<Reading>>,
    pub next: usize,
    pub replay: Replay,
    pub dice: Dice,
}

impl Readings {
    fn chunk(&self, start: usize, end: usize) -> Chunk {
        let line = |(machine, cycle, v): &Reading| format!("{machine},{cycle},{v}\n");
        let payload = self.all[start..end].iter().map(line).collect::<String>().into_bytes();
        let (first, last) = (start as u64 + 1, end as u64 + 1);
        let range = Range { start: first, end: last, first_ordinal: first, end_ordinal: last };
        Chunk { partition: Partition(0), range, rows: end - start, payload }
    }
}

impl Source for Readings {
    fn replay(&self) -> Replay {
        self.replay
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        if self.next == self.all.len() {
            return Ok(Poll::Ended);
        }
        if self.dice.one_in(2) {
            return Ok(Poll::Pending);
        }
        let n = usize::try_from(1 + self.dice.below(5)).unwrap();
        let (start, end) = (self.next, (self.next + n).min(self.all.len()));
        self.next = end;
        Ok(Poll::Ready(self.chunk(start, end)))
    }

    fn read(&mut self, _: Partition, range: Range) -> Result<Chunk, SourceError> {
        assert_eq!(self.replay, Replay::ByRange, "what is in the journal is not read again");
        let place = |ordinal: u64| usize::try_from(ordinal - 1).unwrap();
        Ok(self.chunk(place(range.start), place(range.end)))
    }

    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(ReadingDecoder)
    }

    fn partition_name(&self, _: Partition) -> Option<String> {
        Some("readings.csv".to_owned())
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        Vec::new()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let read = known.iter().find_map(|k| k.read);
        self.next = read.map_or(0, |read| usize::try_from(read.end - 1).unwrap());
        Ok(())
    }
}

struct ReadingDecoder;

impl Decoder for ReadingDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let text = std::str::from_utf8(&chunk.payload).unwrap();
        let fields: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        let machines: StringArray = fields.iter().map(|f| Some(format!("m{}", f[0]))).collect();
        let schema = readings_schema();
        let machines = arrow::compute::cast(&machines, schema.arrow().field(0).data_type());
        let columns: Vec<ArrayRef> = vec![
            machines.unwrap(),
            Arc::new(fields.iter().map(|f| f[1].parse().ok()).collect::<Int64Array>()),
            Arc::new(fields.iter().map(|f| f[2].parse().ok()).collect::<Float64Array>()),
        ];
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
        out.records = rows.num_rows() as u64;
        let ordinals = chunk.range.first_ordinal..chunk.range.end_ordinal;
        let position = ordinals.map(|o| Position::new(chunk.partition, o).0).collect::<Vec<_>>();
        out.rows.push((rows, position.into()));
    }
}
