//! From the text of an expression to something that is evaluated on batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::prelude::SessionConfig;
use foreline_engine::{EvaluateError, Expression, ExpressionError, Schema, TimeDomain, Unit};

use crate::message::{tidy, translate, unknown, whole};
use crate::predicate::allow_pure;
use crate::text::Text;
use crate::units;

/// Longest text of an expression. What people write is a line or two; the rest is an accident.
pub const MAX_LENGTH_BYTES: usize = 4096;

/// Most operators and keywords in an expression. `a + b + c` nests once an operator, and planning and evaluation
/// recurse once a level, so this bounds the stack a thread needs. Members of an `IN` list do not count.
pub const MAX_OPERATORS: usize = 150;

/// Stack of the thread that plans an expression. DataFusion's planner takes up to 30 KiB a level without
/// optimisation; the thread that asks may have 2 MiB.
const PLANNING_STACK_BYTES: usize = 32 << 20;

/// Compiles SQL expressions against the schema of a stream.
pub struct SqlExpressions {
    state: SessionState,
}

impl std::fmt::Debug for SqlExpressions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlExpressions").finish_non_exhaustive()
    }
}

impl Default for SqlExpressions {
    fn default() -> Self {
        Self::new()
    }
}

impl SqlExpressions {
    /// A compiler with DataFusion's functions.
    #[must_use]
    pub fn new() -> Self {
        let config = SessionConfig::new()
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
        SqlExpressions { state }
    }

    /// Compiles `sql`, whose names are columns of `schema`.
    ///
    /// # Errors
    /// When it does not parse (with the place, where DataFusion knows it), names a column that is not there
    /// (with `unknown` filled), does not type, calls a function that is not immutable, or needs more than one row.
    pub fn compile(
        &self,
        sql: &str,
        schema: &Schema,
    ) -> Result<Arc<dyn Expression>, ExpressionError> {
        let text = Text::new(sql)?;
        std::thread::scope(|scope| {
            let planner = std::thread::Builder::new().stack_size(PLANNING_STACK_BYTES);
            let planning = planner.spawn_scoped(scope, || self.plan(sql, &text, schema));
            match planning.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(compiled)) => compiled,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(e) => Err(whole(&format!("no thread to plan the expression on: {e}"))),
            }
        })
    }

    fn plan(
        &self,
        sql: &str,
        text: &Text<'_>,
        schema: &Schema,
    ) -> Result<Arc<dyn Expression>, ExpressionError> {
        let fail = |e: DataFusionError| self.explain(sql, text, &e);
        let columns = DFSchema::try_from(Arc::clone(schema.arrow())).map_err(fail)?;
        let dialect = self.state.config().options().sql_parser.dialect;
        let parsed = self.state.sql_to_expr_with_alias(sql, &dialect).map_err(fail)?;
        if let Some(alias) = &parsed.alias {
            let mut error = whole(&format!("'{}' comes after the expression's end", alias.value));
            error.at = text.place_of(&alias.value);
            return Err(error);
        }
        let expr = self.state.create_logical_expr_from_sql_expr(parsed, &columns).map_err(fail)?;
        allow_pure(text, &expr)?;
        let unit = units::check(text, &expr, schema)?;
        let (expr, data_type) = self.prepare(expr, &columns).map_err(|e| match e {
            Prepare::DataFusion(e) => fail(e),
            Prepare::Type(e) => e,
        })?;
        let physical = self.state.create_physical_expr(expr, &columns).map_err(fail)?;
        let physical = checked(physical).map_err(fail)?;
        let is_number = matches!(data_type, DataType::Float64 | DataType::Int64);
        Ok(Arc::new(Compiled { physical, data_type, unit: unit.filter(|_| is_number) }))
    }

    /// Refuses constants that overflow: folding would wrap them around in silence.
    fn check_constants(&self, expr: &Expr, columns: &DFSchema) -> Result<(), DataFusionError> {
        expr.apply(|node| {
            if !matches!(node, Expr::BinaryExpr(_)) || !node.column_refs().is_empty() {
                return Ok(TreeNodeRecursion::Continue);
            }
            let constant = checked(self.state.create_physical_expr(node.clone(), columns)?)?;
            let row = RecordBatchOptions::new().with_row_count(Some(1));
            let nothing = RecordBatch::try_new_with_options(
                Arc::new(arrow::datatypes::Schema::empty()),
                Vec::new(),
                &row,
            )?;
            constant.evaluate(&nothing)?;
            Ok(TreeNodeRecursion::Jump)
        })?;
        Ok(())
    }

    /// Coerces types, folds constants and brings the result to a type a stream may have.
    fn prepare(&self, expr: Expr, columns: &DFSchema) -> Result<(Expr, DataType), Prepare> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(columns.clone()))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expr = simplifier.coerce(expr, columns)?;
        self.check_constants(&expr, columns)?;
        let expr = simplifier.simplify(expr)?;
        let found = expr.get_type(columns)?;
        let wanted = stream_type(&found)?;
        let expr = if wanted == found { expr } else { cast(expr, wanted.clone()) };
        Ok((expr, wanted))
    }

    fn explain(&self, sql: &str, text: &Text<'_>, error: &DataFusionError) -> ExpressionError {
        let translated = translate(sql, text, error);
        let invalid = translated.message.strip_prefix("invalid function '");
        match invalid.and_then(|rest| rest.split_once('\'')) {
            Some((name, _)) => {
                let known = self.state.scalar_functions().keys().cloned().collect();
                unknown(text, "function", name, known)
            }
            None => translated,
        }
    }
}

/// The same expression with whole numbers that overflow as errors of their row instead of wrong numbers.
fn checked(physical: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let done = physical.transform_up(|node| match node.downcast_ref::<BinaryExpr>() {
        Some(binary) => {
            let binary = binary.clone().with_fail_on_overflow(true);
            Ok(Transformed::yes(Arc::new(binary) as Arc<dyn PhysicalExpr>))
        }
        None => Ok(Transformed::no(node)),
    })?;
    Ok(done.data)
}

enum Prepare {
    DataFusion(DataFusionError),
    Type(ExpressionError),
}

impl From<DataFusionError> for Prepare {
    fn from(e: DataFusionError) -> Self {
        Prepare::DataFusion(e)
    }
}

impl From<ExpressionError> for Prepare {
    fn from(e: ExpressionError) -> Self {
        Prepare::Type(e)
    }
}

/// The type of a stream's column that holds values of `found` without loss.
fn stream_type(found: &DataType) -> Result<DataType, ExpressionError> {
    let advice = match found {
        DataType::Utf8
        | DataType::Float64
        | DataType::Int64
        | DataType::Boolean
        | DataType::Dictionary(..) => return Ok(found.clone()),
        DataType::Utf8View | DataType::LargeUtf8 => return Ok(DataType::Utf8),
        DataType::Float16
        | DataType::Float32
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..) => return Ok(DataType::Float64),
        t if t.is_integer() => return Ok(DataType::Int64),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if &**zone == "UTC" => {
            return Ok(found.clone());
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            return Ok(TimeDomain::UtcNanos.data_type());
        }
        DataType::Null => "give it a type, such as CAST(NULL AS DOUBLE)",
        DataType::Interval(_) | DataType::Duration(_) => {
            "take the difference in seconds: date_part('epoch', a) - date_part('epoch', b)"
        }
        _ => "cast it to DOUBLE, BIGINT, BOOLEAN, VARCHAR or TIMESTAMP",
    };
    Err(whole(&format!("the result is of type {found}, which no column can have; {advice}")))
}

#[derive(Debug)]
struct Compiled {
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    unit: Option<Unit>,
}

impl Expression for Compiled {
    fn data_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn unit(&self) -> Option<Unit> {
        self.unit.clone()
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        self.physical
            .evaluate(rows)
            .and_then(|value| value.into_array(rows.num_rows()))
            .map_err(|e| EvaluateError(tidy(&e.find_root().message())))
    }
}
