//! The regime of a row: the values of some columns, as text.
//!
//! A regime is known by names, so that a file can hold it; within a batch by a small number, so that rows are not
//! compared by text. Fractions are no names: `regime` rounds them first.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use foreline_engine::{ConfigError, Fault, Schema};

use crate::categories::Categories;
use crate::columns::place;

/// The values that make a regime, in the order of the columns.
pub(crate) type Regime = Vec<String>;

/// The columns by which a regime is known; none, and all rows are of one regime.
#[derive(Debug, Clone)]
pub(crate) struct By {
    columns: Vec<usize>,
}

/// The regimes of the rows of a batch.
#[derive(Debug)]
pub(crate) struct Split {
    /// The regime of each row, as a place in `regimes`.
    pub(crate) of_row: Vec<u32>,
    /// Each regime that is there, once; `None` where one of the columns is null.
    pub(crate) regimes: Vec<Option<Regime>>,
}

impl By {
    /// Checks `names` (`by` in the file) against the input.
    pub(crate) fn plan(input: &Schema, names: &[String]) -> Result<Self, Vec<ConfigError>> {
        let (mut columns, mut errors) = (Vec::new(), Vec::new());
        for (i, name) in names.iter().enumerate() {
            match Self::column(input, &format!("by[{i}]"), name) {
                Ok(column) if columns.contains(&column) => {
                    let what = format!("column '{name}' is there twice");
                    errors.push(ConfigError::new(format!("by[{i}]"), what));
                }
                Ok(column) => columns.push(column),
                Err(e) => errors.push(e),
            }
        }
        if errors.is_empty() { Ok(By { columns }) } else { Err(errors) }
    }

    fn column(input: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
        let column = place(input, at, name)?;
        let fault = |what: String, help: &str| Err(ConfigError::new(at, what).help(help));
        if column == input.time() {
            let what = format!("column '{name}' is the event time, which is never the same again");
            return fault(what, "name columns that say how the machine is run");
        }
        match &input.columns()[column].data_type {
            DataType::Utf8 | DataType::Dictionary(..) | DataType::Int64 | DataType::Boolean => {
                Ok(column)
            }
            DataType::Float64 => {
                let what =
                    format!("column '{name}' has fractions, so few rows have the same value");
                fault(
                    what,
                    "put a step 'regime' before this one, which rounds, and name its column",
                )
            }
            other => fault(
                format!("column '{name}' is {other}, which names no regime"),
                "name a column of text, whole numbers or truth values",
            ),
        }
    }

    /// The names of the columns.
    pub(crate) fn names(&self, input: &Schema) -> Vec<String> {
        self.columns.iter().map(|&c| input.columns()[c].name.clone()).collect()
    }

    /// Whether there is more than one regime.
    pub(crate) fn any(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The regime of every row.
    pub(crate) fn split(&self, rows: &RecordBatch) -> Result<Split, Fault> {
        let mut split =
            Split { of_row: vec![0; rows.num_rows()], regimes: vec![Some(Regime::new())] };
        for &column in &self.columns {
            split = split.by(&Categories::of(rows.column(column))?);
        }
        Ok(split)
    }
}

impl Split {
    /// Each regime split by the values of one more column.
    fn by(self, column: &Categories) -> Split {
        let mut codes = Codes::new(self.regimes.len(), column.texts.len());
        let mut regimes = Vec::new();
        let each = self.of_row.iter().zip(&column.of_row);
        let of_row = each.map(|(&was, &category)| {
            *codes.of(was, category).get_or_insert_with(|| {
                let text = category.map(|place| &column.texts[place as usize]);
                let longer =
                    self.regimes[was as usize].clone().zip(text).map(|(mut regime, text)| {
                        regime.push(text.clone());
                        regime
                    });
                regimes.push(longer);
                u32::try_from(regimes.len() - 1).expect("a batch has fewer than 2^32 rows")
            })
        });
        Split { of_row: of_row.collect(), regimes }
    }

    /// The rows of each regime, in order.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.regimes.len()];
        for (row, &regime) in self.of_row.iter().enumerate() {
            rows[regime as usize].push(row);
        }
        rows
    }
}

/// Most pairs that have a place of their own, whether they are there or not: 512 kB.
const MAX_PLACES: usize = 1 << 16;

/// What became of each pair of a regime and a category.
enum Codes {
    /// Of few pairs: those of a regime one after the other, the last without a category.
    All { n_each: usize, places: Vec<Option<u32>> },
    /// Of many: those that are there.
    There(BTreeMap<(u32, Option<u32>), Option<u32>>),
}

impl Codes {
    fn new(n_regimes: usize, n_categories: usize) -> Self {
        let n_each = n_categories + 1;
        match n_regimes.saturating_mul(n_each) {
            n if n <= MAX_PLACES => Codes::All { n_each, places: vec![None; n] },
            _ => Codes::There(BTreeMap::new()),
        }
    }

    fn of(&mut self, regime: u32, category: Option<u32>) -> &mut Option<u32> {
        match self {
            Codes::All { n_each, places } => {
                let last = *n_each - 1;
                &mut places[regime as usize * *n_each + category.map_or(last, |c| c as usize)]
            }
            Codes::There(places) => places.entry((regime, category)).or_default(),
        }
    }
}
