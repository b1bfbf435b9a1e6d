//! `GET /api/v1/why-stuck`: what holds a pipeline up, by name.
//!
//! What a reader would get wrong: it goes from the sinks to the sources, because what stands still further on makes all before
//! it stand still, too. A source that says nothing is no failure; it is named because windows that wait for its event time
//! stay open.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use foreline_engine::{Held, Reading, Seen};
use serde::Serialize;
use serde_json::json;

use crate::problem::json as as_json;
use crate::routes::Site;
use crate::watch::{KEEPS, Sort, Watch, behind};

/// What takes longer stands still: many times what an epoch takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// A source that says nothing for so long is named.
const SILENCE_S: f64 = 10.0;

/// Something that holds the pipeline up.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// `sink`, `view`, `step`, `source`, `reference` or `journal`.
    what: &'static str,
    name: String,
    why: String,
    seconds: Option<f64>,
}

/// What holds the pipeline up.
pub(crate) async fn why_stuck(State(site): State<Arc<Site>>) -> Response {
    let seen = site.watch.seen();
    let (findings, silent) = (findings(&site.watch, &seen), silent(&site.watch, &seen));
    as_json(&json!({
        "stuck": !findings.is_empty(),
        "epoch": seen.through,
        "epoch_closed": seen.closed.max(seen.through),
        "waiting_seconds": seen.waiting.as_secs_f64(),
        "held_up_by": findings,
        "silent": silent,
    }))
}

/// What keeps epochs from getting through, the first cause first.
pub(super) fn findings(watch: &Watch, seen: &Seen) -> Vec<Finding> {
    let waiting = seen.waiting.as_secs_f64();
    let mut found = Vec::new();
    for sink in seen.sinks.iter().filter(|s| !s.name.starts_with(KEEPS)) {
        if let Some(trouble) = &sink.trouble {
            let epochs = sink.held;
            found.push(Finding {
                what: "sink",
                name: sink.name.clone(),
                why: format!("it takes no rows, and {epochs} epochs wait for it: {trouble}"),
                seconds: Some(waiting),
            });
        }
    }
    if let Some((name, time)) = &seen.at_work
        && *time > PATIENCE
    {
        found.push(Finding {
            what: "sink",
            name: name.clone(),
            why: "it was handed rows and has not come back".to_owned(),
            seconds: Some(time.as_secs_f64()),
        });
    }
    let is_slow = seen.waiting > PATIENCE;
    if found.is_empty() && is_slow {
        found.push(match &seen.held {
            Some(held) => at(held, waiting),
            None if seen.closed > seen.dispatched => Finding {
                what: "journal",
                name: "journal".to_owned(),
                why: "epochs wait to be durable: the disk is slow or full".to_owned(),
                seconds: Some(waiting),
            },
            None => Finding {
                what: "view",
                name: "views".to_owned(),
                why: "an epoch is through all steps, and the views are not through with it"
                    .to_owned(),
                seconds: Some(waiting),
            },
        });
    }
    if let Some((bytes, limit)) = seen.journal
        && seen.sources.iter().any(|s| s.reading == Reading::JournalFull)
    {
        let (bytes, limit) = (bytes >> 20, limit >> 20);
        found.push(Finding {
            what: "journal",
            name: "journal".to_owned(),
            why: format!("it has {bytes} of {limit} MiB, and nothing is read until there is room"),
            seconds: None,
        });
    }
    if seen.sources.iter().any(|s| s.reading == Reading::WaitsForReference) {
        let unread = seen.sources.iter().filter(|s| s.is_relation && s.heard_ns.is_none());
        found.extend(unread.filter(|s| is_own(watch, &s.name)).map(|s| Finding {
            what: "reference",
            name: s.name.clone(),
            why: "it was not read yet, and no stream is read before it".to_owned(),
            seconds: Some(watch.uptime().as_secs_f64()),
        }));
    }
    found
}

fn at(held: &Held, seconds: f64) -> Finding {
    let Held { name, kind, worker, epoch } = held;
    let (what, doing) = match *kind {
        "source" => ("source", "decodes or orders the rows of".to_owned()),
        kind => ("step", format!("({kind}) is at work on")),
    };
    let why = format!("it {doing} epoch {epoch} on worker {worker}, and all that follows waits");
    Finding { what, name: name.clone(), why, seconds: Some(seconds) }
}

/// Sources that are asked and say nothing.
fn silent(watch: &Watch, seen: &Seen) -> Vec<Finding> {
    let all = seen.sources.iter().filter(|s| s.reading == Reading::Read && !s.is_relation);
    let all = all.filter(|s| is_own(watch, &s.name));
    all.filter_map(|s| {
        let seconds = s.heard_ns.map_or(watch.uptime().as_secs_f64(), behind);
        let why = match s.heard_ns {
            Some(_) => {
                "it has brought nothing since; windows stay open until its event time goes on"
            }
            None => {
                "it has brought nothing in this run; windows stay open until its event time goes on"
            }
        };
        (seconds > SILENCE_S).then(|| Finding {
            what: "source",
            name: s.name.clone(),
            why: why.to_owned(),
            seconds: Some(seconds),
        })
    })
    .collect()
}

fn is_own(watch: &Watch, name: &str) -> bool {
    watch.about.nodes.iter().any(|node| node.sort == Sort::Source && node.name == name)
}
