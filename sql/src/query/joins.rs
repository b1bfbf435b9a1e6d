//! Joins that compare every row of one side with every row of the other.
//!
//! What a reader would get wrong: such a join looks at whether it was cancelled only when it has found something, or is through
//! with a batch of one side. One that finds nothing would go on behind the back of every limit, so how many pairs it has is
//! asked before it begins.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use super::refusal::{QueryError, Refusal};

/// Most pairs of rows: a core compares some hundred million in a second.
const PAIRS_MAX: u128 = 2_000_000_000;

/// Refuses a plan that would compare too many pairs.
pub(super) fn check(plan: &Arc<dyn ExecutionPlan>) -> Result<(), QueryError> {
    let children = plan.children();
    if plan.is::<NestedLoopJoinExec>() {
        let sides: Vec<Option<usize>> = children.iter().map(|side| rows(side)).collect();
        let pairs = sides.iter().try_fold(1_u128, |pairs, side| Some(pairs * (*side)? as u128));
        if pairs.is_none_or(|pairs| pairs > PAIRS_MAX) {
            let shown = |n: &Option<usize>| n.map_or("unknown many".to_owned(), |n| n.to_string());
            let sides: Vec<String> = sides.iter().map(shown).collect();
            let refusal = Refusal::whole(format!(
                "a join would compare every row with every other ({} rows), and at most {PAIRS_MAX} pairs are",
                sides.join(" times ")
            ));
            let help =
                "join on columns that are equal, such as the machine, or narrow both sides first";
            return Err(QueryError::Refused(refusal.help(help)));
        }
    }
    children.into_iter().try_for_each(check)
}

/// How many rows a part of a plan gives, as far as that is known; else how many go into it.
fn rows(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let statistics = StatisticsContext::new().compute(&**plan, &StatisticsArgs::new());
    let known = statistics.ok().and_then(|s| s.num_rows.get_value().copied());
    match (known, &plan.children()[..]) {
        (Some(n), _) => Some(n),
        (None, [only]) => rows(only),
        (None, _) => None,
    }
}
