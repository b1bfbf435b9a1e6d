//! What an expression may not contain.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Volatility};
use foreline_engine::ExpressionError;

use crate::message::whole;
use crate::text::Text;

/// Refuses what looks beyond the row or does not always give the same.
pub(crate) fn allow_pure(text: &Text<'_>, expr: &Expr) -> Result<(), ExpressionError> {
    let mut refused = None;
    expr.apply(|node| {
        refused = refusal(text, node);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(|e| whole(&e.to_string()))?;
    refused.map_or(Ok(()), Err)
}

/// Functions whose result may be of any length, whatever the length of what they are given: one row could take all
/// memory.
const UNBOUNDED: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
];

fn refusal(text: &Text<'_>, node: &Expr) -> Option<ExpressionError> {
    let named = |name: &str, why: &str| {
        let mut error = whole(&format!("function '{name}' {why}"));
        error.at = text.place_of(name);
        Some(error)
    };
    match node {
        Expr::ScalarFunction(call) if UNBOUNDED.contains(&call.func.name()) => named(
            call.func.name(),
            "can make a value of any length, so one row could take all memory",
        ),
        Expr::ScalarFunction(call) => {
            let why = match call.func.signature().volatility {
                Volatility::Immutable => return None,
                Volatility::Stable => "depends on when it is called, so replay would differ",
                Volatility::Volatile => "gives another value at each call, so replay would differ",
            };
            named(call.func.name(), why)
        }
        Expr::AggregateFunction(call) => named(
            call.func.name(),
            "needs many rows, but an expression sees one; use the step 'window' for it",
        ),
        Expr::WindowFunction(call) => {
            named(call.fun.name(), "looks at other rows, but an expression sees one")
        }
        Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::ScalarSubquery(_)
        | Expr::OuterReferenceColumn(..) => {
            Some(whole("a query is not possible here: an expression sees one row"))
        }
        Expr::ScalarVariable(..) | Expr::Placeholder(_) => {
            Some(whole("variables and placeholders have no value here"))
        }
        Expr::GroupingSet(_) | Expr::Unnest(_) => Some(whole("one row must give one value")),
        _ => None,
    }
}
