//! Functions over the rows before a row: `ema` and `locf`, which are written with `OVER (PARTITION BY … ORDER BY …)`.
//!
//! What a reader would get wrong: they keep one value, whatever the frame of the window says, so that a history of any length
//! passes through them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    PartitionEvaluator, Signature, TypeSignature, Volatility, WindowUDF, WindowUDFImpl,
};

/// `ema(value, alpha)` and `locf(value)`.
pub(super) fn all() -> Vec<Arc<WindowUDF>> {
    let numbers = vec![DataType::Float64, DataType::Float64];
    let ema = Signature::new(TypeSignature::Exact(numbers), Volatility::Immutable);
    let locf = Signature::any(1, Volatility::Immutable);
    let of = |name, signature| Arc::new(WindowUDF::from(Running { name, signature }));
    vec![of("ema", ema), of("locf", locf)]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Running {
    name: &'static str,
    signature: Signature,
}

impl WindowUDFImpl for Running {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(
        &self,
        _arguments: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(if self.name == "ema" { Box::new(Ema::default()) } else { Box::new(Carried::default()) })
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let Some(value) = arguments.get_input_field(0) else {
            return exec_err!("'{}' takes a column", self.name);
        };
        Ok(Arc::new(Field::new(arguments.name(), value.data_type().clone(), true)))
    }
}

/// `e = alpha * value + (1 - alpha) * e`, beginning with the first value; a missing value changes nothing. As pandas'
/// `ewm(alpha=…, adjust=False, ignore_na=True).mean()`.
#[derive(Debug, Default)]
struct Ema(Option<f64>);

impl PartitionEvaluator for Ema {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let number = |at: usize| -> Result<Option<f64>> {
            let column = values
                .get(at)
                .ok_or_else(|| exec_datafusion_err!("'ema' takes a value and alpha"))?;
            match ScalarValue::try_from_array(column, range.start)? {
                ScalarValue::Float64(number) => Ok(number),
                _ => exec_err!("'ema' takes numbers"),
            }
        };
        let Some(alpha) = number(1)?.filter(|alpha| *alpha > 0.0 && *alpha <= 1.0) else {
            return exec_err!("the alpha of 'ema' is above 0 and at most 1");
        };
        if let Some(value) = number(0)? {
            self.0 = Some(self.0.map_or(value, |before| alpha * value + (1.0 - alpha) * before));
        }
        Ok(ScalarValue::Float64(self.0))
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}

/// The last value that was there: last observation carried forward.
#[derive(Debug, Default)]
struct Carried(Option<ScalarValue>);

impl PartitionEvaluator for Carried {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let Some(column) = values.first() else { return exec_err!("'locf' takes a column") };
        let value = ScalarValue::try_from_array(column, range.start)?;
        if !value.is_null() || self.0.is_none() {
            self.0 = Some(value.clone());
        }
        Ok(self.0.clone().unwrap_or(value))
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}
