//! Rows as a test writes them: CSV text, or random ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float32Array, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, TimestampNanosecondType,
};
use foreline_engine::{Column, SampleRate, Schema, TimeDomain};

use super::Dice;
use crate::columns::time_column;

/// A value; floats are equal when their bits are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Null.
    Null,
    /// A whole number or a time.
    Int(i64),
    /// The bits of a float.
    Float(u64),
    /// Text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// The bits of the floats of a list, such as a waveform.
    List(Vec<u64>),
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Null => f.write_str("null"),
            Cell::Int(v) => write!(f, "{v}"),
            Cell::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Cell::Text(v) => write!(f, "{v:?}"),
            Cell::Bool(v) => write!(f, "{v}"),
            Cell::List(bits) => {
                f.debug_list().entries(bits.iter().map(|&b| f64::from_bits(b))).finish()
            }
        }
    }
}

impl Cell {
    /// The number.
    ///
    /// # Panics
    /// When it is text or a truth value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "tests use small whole numbers")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Null => None,
            Cell::Int(v) => Some(*v as f64),
            Cell::Float(bits) => Some(f64::from_bits(*bits)),
            other => panic!("{other:?} is not a number"),
        }
    }

    /// Whether the two are the same, floats to a relative `tolerance`.
    #[must_use]
    pub fn close_to(&self, other: &Cell, tolerance: f64) -> bool {
        match (self, other) {
            (Cell::Float(a), Cell::Float(b)) => {
                close(f64::from_bits(*a), f64::from_bits(*b), tolerance)
            }
            (Cell::List(a), Cell::List(b)) => {
                let near =
                    |(a, b): (&u64, &u64)| close(f64::from_bits(*a), f64::from_bits(*b), tolerance);
                a.len() == b.len() && a.iter().zip(b).all(near)
            }
            _ => self == other,
        }
    }

    fn of(column: &ArrayRef, row: usize) -> Self {
        if column.is_null(row) {
            return Cell::Null;
        }
        match column.data_type() {
            DataType::Float64 => {
                Cell::Float(column.as_primitive::<Float64Type>().value(row).to_bits())
            }
            DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
            DataType::Timestamp(_, _) => {
                Cell::Int(column.as_primitive::<TimestampNanosecondType>().value(row))
            }
            DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
            DataType::List(_) => {
                let list = column.as_list::<i32>().value(row);
                let floats = cast(&list, &DataType::Float64).expect("a list of numbers");
                let floats = floats.as_primitive::<Float64Type>();
                Cell::List(floats.iter().flatten().map(f64::to_bits).collect())
            }
            _ => {
                let text = arrow::util::display::array_value_to_string(column, row);
                Cell::Text(text.expect("the value can be displayed"))
            }
        }
    }
}

/// Whether `a` is within a relative `tolerance` of `b`, or both are next to nothing.
fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs().max(a.abs()).max(1e-6)
}

/// One row a vector of cells.
pub(super) fn cells(rows: &RecordBatch) -> Vec<Vec<Cell>> {
    (0..rows.num_rows()).map(|r| rows.columns().iter().map(|c| Cell::of(c, r)).collect()).collect()
}

/// Rows in the order of their source; the first column is the key, the second the event time.
#[derive(Debug, Clone)]
pub struct Table {
    /// The columns.
    pub schema: Schema,
    /// The rows.
    pub rows: RecordBatch,
}

impl Table {
    /// Reads CSV text without quotes. The header names the columns; a name ends in its type where that is not
    /// `float64`: `n:int64`, `s:string`, `ok:bool`, `at:time` (nanoseconds of UTC), `w:wave@100` for waveforms of 100 Hz,
    /// `l:list` for lists of float64, both with spaces between numbers and `[]` for none. The first is the key (text), the
    /// second the event time (whole numbers of `domain`). An empty field is null.
    ///
    /// # Panics
    /// When the text is not like that.
    #[must_use]
    pub fn parse(domain: TimeDomain, text: &str) -> Self {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let header: Vec<&str> = lines.next().expect("there is a header").split(',').collect();
        let fields: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        let ragged = fields.iter().find(|f| f.len() != header.len());
        assert!(ragged.is_none(), "the row {ragged:?} does not fit the header {header:?}");
        let (mut columns, mut arrays) = (Vec::new(), Vec::new());
        for (c, title) in header.iter().enumerate() {
            let (name, data_type) = title.split_once(':').unwrap_or((title, "float64"));
            let texts = || fields.iter().map(|f| Some(f[c].trim()).filter(|v| !v.is_empty()));
            let array = match (c, data_type) {
                (0, _) => Arc::new(texts().collect::<DictionaryArray<Int32Type>>()) as ArrayRef,
                (1, _) => {
                    let time =
                        |v: Option<&str>| v.expect("a time").parse().expect("a whole number");
                    time_column(texts().map(time).collect(), domain)
                }
                (_, data_type) => parsed(data_type, texts()),
            };
            let column = Column::new(name, array.data_type().clone());
            let rate = data_type.strip_prefix("wave@").map(|hz| hz.parse().expect("a rate"));
            columns.push(Column { sample_rate: rate.and_then(SampleRate::new), ..column });
            arrays.push(array);
        }
        Self::new(columns, arrays)
    }

    /// # Panics
    /// When the first two columns are not fit to be key and event time.
    fn new(columns: Vec<Column>, arrays: Vec<ArrayRef>) -> Self {
        let (key, time) = (columns[0].name.clone(), columns[1].name.clone());
        let schema = Schema::new(columns, &[&key], &time).expect("the columns make a schema");
        let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays);
        Table { rows: rows.expect("the arrays fit the schema"), schema }
    }

    /// `n_rows` rows of some machines with the channels `x` and `y`, some null, and a whole number `n`; events are
    /// 0 to 5 ticks of 100 ms apart (or 0 to 5 counts).
    #[must_use]
    pub fn random(seed: u64, n_rows: usize, domain: TimeDomain) -> Self {
        let mut dice = Dice::new(seed);
        let tick = if domain == TimeDomain::Logical { 1 } else { 100_000_000 };
        let mut time = -40 * tick;
        let mut text = String::from("machine,ts,x,y,n:int64\n");
        for _ in 0..n_rows {
            time += tick * i64::try_from(dice.below(6)).expect("below 6");
            let machine = dice.below(7);
            let mut value = |scale: f64| match dice.below(10) {
                0 => String::new(),
                _ => format!("{:?}", dice.unit() * scale + 20.0),
            };
            let (x, y) = (value(1.0), value(1e3));
            let n = dice.below(100);
            text.push_str(&format!("m{machine},{time},{x},{y},{n}\n"));
        }
        Self::parse(domain, &text)
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event times.
    #[must_use]
    pub fn times(&self) -> Vec<i64> {
        let time = self.rows.column(self.schema.time());
        let cells = (0..self.len()).map(|row| Cell::of(time, row));
        cells.map(|c| if let Cell::Int(t) = c { t } else { panic!("a time is not null") }).collect()
    }

    /// One row a vector of cells.
    #[must_use]
    pub fn cells(&self) -> Vec<Vec<Cell>> {
        cells(&self.rows)
    }

    /// The places of the rows of each key, in order: what an oracle walks over.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<String, Vec<usize>> {
        let mut keys: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (row, cells) in self.cells().into_iter().enumerate() {
            let Cell::Text(key) = &cells[self.schema.key()[0]] else { panic!("a key is text") };
            keys.entry(key.clone()).or_default().push(row);
        }
        keys
    }

    /// The numbers of a column.
    ///
    /// # Panics
    /// When there is no such column or it is not numeric.
    #[must_use]
    pub fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        let column = self.rows.column(self.schema.index_of(name).expect("the column is there"));
        (0..self.len()).map(|row| Cell::of(column, row).number()).collect()
    }

    /// The same rows up to `until`; after it, other values.
    pub(super) fn with_another_future(&self, until: i64) -> Self {
        let times = self.times();
        let change = |column: &ArrayRef| -> ArrayRef {
            if let Some(waves) = column.as_list_opt::<i32>() {
                return Arc::new(another_future(waves, |row| times[row] > until));
            }
            let Some(floats) = column.as_primitive_opt::<Float64Type>() else {
                return Arc::clone(column);
            };
            let each = floats.iter().zip(&times);
            Arc::new(
                each.map(|(v, &t)| if t > until { v.map(|v| 1.0 - 3.0 * v) } else { v })
                    .collect::<Float64Array>(),
            )
        };
        let columns = self.rows.columns().iter().map(change).collect();
        let rows = RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns);
        Table { schema: self.schema.clone(), rows: rows.expect("the types are the same") }
    }
}

/// The same waveforms, those of the rows that are `after` with other samples.
fn another_future(waves: &ListArray, after: impl Fn(usize) -> bool) -> ListArray {
    let samples = waves.values().as_primitive::<Float32Type>();
    let mut samples = samples.values().to_vec();
    let rows = waves.value_offsets().windows(2).enumerate();
    for (_, ends) in rows.filter(|(row, _)| after(*row)) {
        let place = |end: i32| usize::try_from(end).expect("an end is not below 0");
        samples[place(ends[0])..place(ends[1])].iter_mut().for_each(|x| *x = 1.0 - 3.0 * *x);
    }
    let DataType::List(field) = waves.data_type() else { panic!("a list") };
    let samples = Arc::new(Float32Array::from(samples));
    ListArray::new(Arc::clone(field), waves.offsets().clone(), samples, waves.nulls().cloned())
}

/// Lists of numbers of `item`, which have spaces between them.
fn lists<'a>(item: &DataType, texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let (mut numbers, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for text in texts {
        let words = text.unwrap_or("").split_whitespace().filter(|word| *word != "[]");
        let n_before = numbers.len();
        numbers.extend(words.map(|word| word.parse::<f64>().expect("a number")));
        lengths.push(numbers.len() - n_before);
        valid.push(text.is_some());
    }
    let field = Arc::new(Field::new_list_field(item.clone(), false));
    let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
    let numbers = cast(&numbers, item).expect("numbers are floats");
    let (ends, valid) = (OffsetBuffer::from_lengths(lengths), NullBuffer::from(valid));
    Arc::new(ListArray::new(field, ends, numbers, Some(valid)))
}

fn parsed<'a>(data_type: &str, texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    match data_type {
        "float64" => {
            let float = |v: &str| v.parse::<f64>().expect("a number");
            Arc::new(texts.map(|v| v.map(float)).collect::<Float64Array>())
        }
        "int64" => {
            let int = |v: &str| v.parse::<i64>().expect("a whole number");
            Arc::new(texts.map(|v| v.map(int)).collect::<Int64Array>())
        }
        "time" => {
            let time = |v: &str| v.parse::<i64>().expect("nanoseconds");
            let times = texts.map(|v| v.map(time)).collect::<TimestampNanosecondArray>();
            Arc::new(times.with_timezone("UTC"))
        }
        "bool" => Arc::new(texts.map(|v| v.map(|v| v == "true")).collect::<BooleanArray>()),
        "list" => lists(&DataType::Float64, texts),
        wave if wave.starts_with("wave@") => lists(&DataType::Float32, texts),
        "string" => Arc::new(texts.collect::<StringArray>()),
        other => panic!("there is no type '{other}'"),
    }
}
