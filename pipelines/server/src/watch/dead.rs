//! `GET /api/v1/dead_letters`: the last rows that could not be used, newest first, and how many there were by reason.
//!
//! What a reader would get wrong: these are the last ones of this run, in memory. A table of all of them is a sink's:
//! `from: dead_letters`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use foreline_engine::{DEAD_LETTERS_MAX, Dead};
use serde_json::json;

use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::tables::{bad, limit};

/// What a list can be narrowed by.
const FILTERS: [&str; 3] = ["source", "operator", "reason"];

/// The last dead letters.
pub(crate) async fn dead_letters(
    State(site): State<Arc<Site>>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) = query.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let limit = limit(query.remove("limit"))?;
    let before = query.remove("cursor").map(|text| {
        let wrong = || bad(format!("'{text}' is not the 'next' of a page"));
        text.parse::<u64>().map_err(|_| wrong())
    });
    let before = before.transpose()?;
    if let Some(other) = query.keys().find(|name| !FILTERS.contains(&name.as_str())) {
        let names = FILTERS.join(", ");
        return Err(bad(format!("'{other}' is neither 'limit' nor 'cursor' nor one of {names}")));
    }
    let is_wanted = |dead: &Dead| {
        let has = |name: &str, value: Option<&str>| {
            query.get(name).is_none_or(|wanted| value == Some(wanted.as_str()))
        };
        has("source", dead.source.as_deref())
            && has("operator", Some(&dead.operator))
            && has("reason", Some(dead.reason))
    };
    let vitals = &site.watch.about.vitals;
    // One more tells whether there is a page behind this one.
    let mut letters = vitals.dead_letters(before, limit + 1, is_wanted);
    let is_more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| is_more).map(|dead| dead.number.to_string());
    let counts = site.watch.seen().report.dead;
    Ok(as_json(&json!({
        "counts": counts,
        "kept_at_most": DEAD_LETTERS_MAX,
        "next": next,
        "dead_letters": letters,
    })))
}
