//! Units in an expression: what may be added and compared, and what the result is in.
//!
//! Only what is known is checked: a number has no unit, and neither has a product or a quotient, because it may be a
//! conversion. A sum of temperatures in degrees is in none either: 20 °C and 20 °C are not 40 °C.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Operator};
use foreline_engine::{ExpressionError, Schema, Unit};

use crate::message::whole;
use crate::text::Text;

/// Functions whose result is one of their arguments, or near it.
const CHOOSING: &[&str] = &["abs", "greatest", "least", "coalesce", "nvl"];
/// Functions that round their first argument.
const ROUNDING: &[&str] = &["round", "trunc", "floor", "ceil"];
/// Units whose zero is a convention.
const SCALES: &[&str] = &["Cel", "[degF]"];

/// The unit of the result, where it is known.
///
/// # Errors
/// When values of different units are added or compared.
pub(crate) fn check(
    text: &Text<'_>,
    expr: &Expr,
    schema: &Schema,
) -> Result<Option<Unit>, ExpressionError> {
    let mut refused = None;
    expr.apply(|node| {
        let mut pairs = pairs(node).into_iter();
        refused = pairs.find_map(|(a, b)| clash(text, a, b, schema));
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(|e| whole(&e.to_string()))?;
    refused.map_or_else(|| Ok(unit_of(expr, schema)), Err)
}

/// What has to be in one unit.
fn pairs(node: &Expr) -> Vec<(&Expr, &Expr)> {
    use Operator as O;
    match node {
        Expr::BinaryExpr(binary) => match binary.op {
            O::Plus | O::Minus | O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq => {
                vec![(&binary.left, &binary.right)]
            }
            _ => Vec::new(),
        },
        Expr::Between(between) => {
            vec![(&between.expr, &between.low), (&between.expr, &between.high)]
        }
        Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => {
            let firsts = call.args.iter().take(1);
            firsts.flat_map(|first| call.args.iter().skip(1).map(move |a| (first, a))).collect()
        }
        _ => Vec::new(),
    }
}

fn clash(text: &Text<'_>, a: &Expr, b: &Expr, schema: &Schema) -> Option<ExpressionError> {
    let (one, other) = (unit_of(a, schema)?, unit_of(b, schema)?);
    if one.is_same(&other) {
        return None;
    }
    let advice = match one.conversion(&other) {
        Ok(_) => "make them one with the step 'convert'",
        Err(_) => "they cannot be added or compared",
    };
    let mut error = whole(&format!("'{a}' is in '{one}' and '{b}' in '{other}'; {advice}"));
    error.at = b.column_refs().iter().next().and_then(|c| text.place_of(&c.name));
    Some(error)
}

fn unit_of(expr: &Expr, schema: &Schema) -> Option<Unit> {
    match expr {
        Expr::Column(column) => schema.column(&column.name)?.unit.clone(),
        Expr::Alias(alias) => unit_of(&alias.expr, schema),
        Expr::Negative(inner) => unit_of(inner, schema),
        Expr::Cast(cast) => unit_of(&cast.expr, schema),
        Expr::TryCast(cast) => unit_of(&cast.expr, schema),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            let (a, b) = (unit_of(&binary.left, schema)?, unit_of(&binary.right, schema)?);
            (a.is_same(&b) && !SCALES.contains(&a.code())).then_some(a)
        }
        Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => {
            let mut units = call.args.iter().map(|a| unit_of(a, schema));
            let first = units.next()??;
            units.all(|u| u.is_some_and(|u| u.is_same(&first))).then_some(first)
        }
        Expr::ScalarFunction(call) if ROUNDING.contains(&call.func.name()) => {
            unit_of(call.args.first()?, schema)
        }
        _ => None,
    }
}
