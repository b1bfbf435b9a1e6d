//! Expressions of the form `a`, `a + b` or `a > b`, so that tests of steps need no SQL.
//!
//! An operand is a column or a number; operators are `+ - * / > <`. Whole numbers divided by zero fail, as they
//! do in SQL; so does a column that is not there.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use foreline_engine::{EvaluateError, Expression, ExpressionError, Schema, Unit};

use crate::columns::channel;

#[derive(Debug)]
struct Small {
    left: Operand,
    rest: Option<(char, Operand)>,
    data_type: DataType,
    /// That of the first operand, which is the result's where it is the only one.
    unit: Option<Unit>,
}

#[derive(Debug, Clone)]
enum Operand {
    Column(usize, DataType),
    Number(f64),
}

pub(super) fn compile(sql: &str, schema: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let (left, rest) = match words[..] {
        [a] => (operand(a, schema)?, None),
        [a, op, b] => {
            let op = op.chars().next().filter(|c| "+-*/><".contains(*c));
            let op = op.ok_or_else(|| wrong(format!("'{sql}' has no operator")))?;
            (operand(a, schema)?, Some((op, operand(b, schema)?)))
        }
        _ => return Err(wrong(format!("'{sql}' is no expression"))),
    };
    let data_type = match (&left, &rest) {
        (_, Some(('>' | '<', _))) => DataType::Boolean,
        (Operand::Column(_, DataType::Int64), Some(('/', Operand::Column(_, DataType::Int64)))) => {
            DataType::Int64
        }
        (Operand::Column(_, data_type), None) => data_type.clone(),
        _ => DataType::Float64,
    };
    let unit = match &left {
        Operand::Column(c, _) => schema.columns()[*c].unit.clone(),
        Operand::Number(_) => None,
    };
    Ok(Arc::new(Small { left, rest, data_type, unit }))
}

fn wrong(message: String) -> ExpressionError {
    ExpressionError { message, at: None, unknown: None }
}

fn operand(text: &str, schema: &Schema) -> Result<Operand, ExpressionError> {
    if let Ok(number) = text.parse() {
        return Ok(Operand::Number(number));
    }
    let index = schema.index_of(text).ok_or_else(|| {
        let known = schema.columns().iter().map(|c| c.name.clone()).collect();
        let unknown = Some((text.to_owned(), known));
        ExpressionError { unknown, ..wrong(format!("there is no column '{text}'")) }
    })?;
    Ok(Operand::Column(index, schema.columns()[index].data_type.clone()))
}

impl Operand {
    fn values(&self, rows: &RecordBatch) -> Result<Vec<f64>, EvaluateError> {
        match self {
            Operand::Number(v) => Ok(vec![*v; rows.num_rows()]),
            Operand::Column(c, _) => {
                let values = channel(rows.column(*c)).map_err(|e| EvaluateError(e.message))?;
                Ok(values.to_vec())
            }
        }
    }
}

impl Expression for Small {
    fn data_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn unit(&self) -> Option<Unit> {
        if self.rest.is_none() { self.unit.clone() } else { None }
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let Some((op, right)) = &self.rest else {
            return match &self.left {
                Operand::Column(c, _) => Ok(Arc::clone(rows.column(*c))),
                Operand::Number(v) => Ok(Arc::new(Float64Array::from(vec![*v; rows.num_rows()]))),
            };
        };
        if self.data_type == DataType::Int64 {
            return divided(&self.left, right, rows);
        }
        let (left, right) = (self.left.values(rows)?, right.values(rows)?);
        let pairs = || left.iter().zip(&right);
        let there = |a: f64, b: f64| !a.is_nan() && !b.is_nan();
        Ok(match op {
            '>' => Arc::new(
                pairs().map(|(a, b)| there(*a, *b).then_some(a > b)).collect::<BooleanArray>(),
            ),
            '<' => Arc::new(
                pairs().map(|(a, b)| there(*a, *b).then_some(a < b)).collect::<BooleanArray>(),
            ),
            op => {
                let each = pairs().map(|(a, b)| there(*a, *b).then_some(number(*op, *a, *b)));
                Arc::new(each.collect::<Float64Array>())
            }
        })
    }
}

fn number(op: char, a: f64, b: f64) -> f64 {
    match op {
        '+' => a + b,
        '-' => a - b,
        '*' => a * b,
        _ => a / b,
    }
}

fn divided(left: &Operand, right: &Operand, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
    let (Operand::Column(a, _), Operand::Column(b, _)) = (left, right) else {
        return Err(EvaluateError("only columns are whole numbers".into()));
    };
    let (a, b) = (rows.column(*a), rows.column(*b));
    let (a, b) = (a.as_primitive::<Int64Type>(), b.as_primitive::<Int64Type>());
    let each = a.iter().zip(b.iter()).map(|(a, b)| match (a, b) {
        (Some(_), Some(0)) => Err(EvaluateError("divide by zero".into())),
        (Some(a), Some(b)) => Ok(Some(a / b)),
        _ => Ok(None),
    });
    Ok(Arc::new(each.collect::<Result<Int64Array, _>>()?))
}
