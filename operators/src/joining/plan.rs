//! What the plans of steps with several inputs check: keys that meet, and columns that do not clash.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{Column, ConfigError, LateSupport, Planned, PrimaryKey, Schema};

use super::{Joining, Pairing, STATE_VERSION, Shape};
use crate::columns::{output, place};
use crate::select::Selection;

/// Why late rows cannot correct such a step.
pub(crate) const REFUSAL: &str =
    "it reads several streams, and late rows find their place in one only";

/// The two inputs of a join.
pub(crate) fn both(inputs: &[Schema]) -> Result<(&Schema, &Schema), Vec<ConfigError>> {
    let [left, right] = inputs else {
        let what = format!("this step reads two streams, not {}", inputs.len());
        let help = "name the left and the right one: 'from: [readings, events]'";
        return Err(vec![ConfigError::new("", what).help(help)]);
    };
    let errors = can_meet(left, right);
    if errors.is_empty() { Ok((left, right)) } else { Err(errors) }
}

/// What keeps rows of `one` and `other` from meeting: another key, another kind of time.
pub(crate) fn can_meet(one: &Schema, other: &Schema) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let types = |s: &Schema| s.key().iter().map(|&k| s.columns()[k].data_type.clone()).collect();
    let (a, b): (Vec<DataType>, Vec<DataType>) = (types(one), types(other));
    if a != b {
        let names = |s: &Schema| {
            s.key().iter().map(|&k| s.columns()[k].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let what =
            format!("the streams have different keys: '{}' and '{}'", names(one), names(other));
        let help = "give their sources keys of the same types, in the same order";
        errors.push(ConfigError::new("", what).help(help));
    }
    if one.domain() != other.domain() {
        let what = "the event time of one stream is a timestamp, that of the other a count";
        errors.push(ConfigError::new("", what).help("join streams of one kind of time"));
    }
    errors
}

/// What is taken from the right stream.
pub(crate) struct Taking<'a> {
    pub(crate) columns: Option<&'a Selection>,
    pub(crate) time: Option<&'a str>,
    /// The column that numbers the right rows of a left one.
    pub(crate) number: Option<&'a str>,
}

impl Taking<'_> {
    /// The sides of a join and what comes out.
    pub(crate) fn shape(&self, left: &Schema, right: &Schema) -> Result<Shape, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let (mut taken, mut columns) = (Vec::new(), left.columns().to_vec());
        for (at, new, index) in self.wanted(right, &mut errors) {
            if columns.iter().any(|c| c.name == new) {
                let what = format!("there is a column '{new}' already");
                let help = format!("give it another name: 'columns: {{ right_{new}: {new} }}'");
                errors.push(ConfigError::new(at, what).help(help));
                continue;
            }
            taken.push(index);
            columns.push(Column { name: new, ..right.columns()[index].clone() });
        }
        let time = &right.columns()[right.time()];
        columns.extend(self.time.map(|name| Column { name: name.to_owned(), ..time.clone() }));
        let mut primary_key: PrimaryKey = left.primary_key().clone();
        if let Some(name) = self.number {
            primary_key.columns.push(columns.len());
            columns.push(Column::new(name, DataType::Int64));
        }
        let schema = output(columns, left.key().to_vec(), left.time(), primary_key);
        let output = schema.map_err(|e| errors.push(e));
        match output {
            Ok(output) if errors.is_empty() => Ok(Shape {
                left: left.clone(),
                right: right.clone(),
                output,
                taken,
                right_time: self.time.is_some(),
            }),
            _ => Err(errors),
        }
    }

    /// (where, name, place) of each column that is wanted.
    fn wanted(
        &self,
        right: &Schema,
        errors: &mut Vec<ConfigError>,
    ) -> Vec<(String, String, usize)> {
        let Some(selection) = self.columns else {
            let rest = |c: &usize| !right.key().contains(c) && *c != right.time();
            let rest = (0..right.columns().len()).filter(rest);
            return rest
                .map(|c| ("columns".to_owned(), right.columns()[c].name.clone(), c))
                .collect();
        };
        let pairs = selection.pairs();
        if pairs.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let mut wanted = Vec::new();
        for (at, new, old) in pairs {
            match place(right, &at, old) {
                Ok(index) => wanted.push((at, new.to_owned(), index)),
                Err(e) => errors.push(e),
            }
        }
        wanted
    }
}

/// A join of this shape.
pub(crate) fn planned(shape: Shape, pairing: Pairing) -> Planned {
    Planned {
        output: shape.output.clone(),
        late: LateSupport::Refuses(REFUSAL),
        state_version: STATE_VERSION,
        build: Arc::new(move |_| Ok(Box::new(Joining::new(shape.clone(), pairing.clone())?))),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}
