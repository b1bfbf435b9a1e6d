//! `GET /api/v1/pipeline` and `GET /api/v1/graph`: how a pipeline goes, in figures and as a graph.
//!
//! What a reader would get wrong: rows are counted since the computation of the pipeline began, over restarts; dead letters by
//! reason, retries and rates are of this run. Times are of the clock, but a watermark is the event time of the rows.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat};
use foreline_engine::{Seen, SourceVitals};
use serde_json::{Value, json};

use crate::alerts::open_alerts;
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::watch::{KEEPS, NodeAbout, Sort, Watch, behind, given, resident_bytes, stuck};

/// How the pipeline goes.
pub(crate) async fn pipeline(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let look = move || status(&site);
    let looked = tokio::task::spawn_blocking(look).await;
    Ok(as_json(&looked.map_err(|_| Problem::bug("the pipeline could not be looked at"))?))
}

fn status(site: &Site) -> Value {
    let (watch, seen) = (&site.watch, site.watch.seen());
    let rates = watch.rates();
    let nodes = || watch.about.nodes.iter().zip(&rates);
    let of = |sort: Sort| nodes().filter(move |(node, _)| node.sort == sort);
    let sources: Vec<Value> =
        of(Sort::Source).filter_map(|(node, rate)| source(node, &seen, rate.0)).collect();
    let steps: Vec<Value> = nodes()
        .filter(|(node, _)| matches!(node.sort, Sort::Step | Sort::Alert))
        .map(|(node, rate)| step(node, &seen, *rate))
        .collect();
    let found = stuck::findings(watch, &seen);
    json!({
        "name": watch.about.pipeline,
        "version": watch.about.version,
        "state": state(&seen, found.is_empty()),
        "held_up_by": found,
        "uptime_seconds": watch.uptime().as_secs_f64(),
        "generation": seen.generation,
        "epoch": seen.through,
        "epoch_closed": seen.closed.max(seen.through),
        "epoch_age_seconds": seen.through_ns.map(behind),
        "epoch_waiting_seconds": seen.waiting.as_secs_f64(),
        "sources": sources,
        "steps": steps,
        "sinks": sinks(watch, &seen),
        "alerts": open_alerts(site),
        "journal": seen.journal.map(|(bytes, limit)| json!({ "bytes": bytes, "limit_bytes": limit })),
        "memory": { "resident_bytes": resident_bytes() },
        "kept": watch.about.kept.iter().map(|(name, recent)| {
            let (rows, bytes) = recent.size();
            json!({ "stream": name, "rows": rows, "bytes": bytes, "forgotten": recent.forgotten() })
        }).collect::<Vec<_>>(),
    })
}

/// The run in a word.
fn state(seen: &Seen, is_well: bool) -> &'static str {
    match () {
        () if !is_well => "held_up",
        () if seen.through_ns.is_none() => "starting",
        () => "running",
    }
}

fn source(node: &NodeAbout, seen: &Seen, rate: f64) -> Option<Value> {
    let vitals = seen.sources.iter().find(|s| s.name == node.name)?;
    let account = seen.report.accounts.get(&node.name).copied().unwrap_or_default();
    Some(json!({
        "name": node.name,
        "kind": node.kind,
        "reading": vitals.reading,
        "rows": account.input,
        "rows_per_second": rate,
        "used": account.used,
        "late": account.late,
        "deduplicated": account.deduplicated,
        "dead": account.dead,
        "held": account.in_flight,
        "corrected": account.corrected,
        "watermark": watermark(vitals),
        "lag_seconds": vitals.watermark.filter(|_| vitals.is_utc).map(behind),
        "silent_seconds": vitals.heard_ns.map(behind),
    }))
}

/// A watermark as the rows of the source have their time.
fn watermark(source: &SourceVitals) -> Value {
    match source.watermark {
        None => Value::Null,
        Some(at) if !source.is_utc => json!(at),
        Some(ns) => {
            json!(DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
    }
}

fn step(node: &NodeAbout, seen: &Seen, rate: (f64, f64)) -> Value {
    let account = seen.report.accounts.get(&node.name).copied().unwrap_or_default();
    json!({
        "name": node.name,
        "kind": node.kind,
        "in": account.input,
        "used": account.used,
        "filtered": account.filtered,
        "late": account.late,
        "dead": account.dead,
        "held": account.in_flight,
        "out": account.emitted,
        "in_per_second": rate.0,
        "out_per_second": rate.1,
        "busy_seconds": seen.busy.get(&node.name).map(|t| t.as_secs_f64()),
    })
}

fn sinks(watch: &Watch, seen: &Seen) -> Vec<Value> {
    let closed = seen.closed.max(seen.through);
    let all = seen.sinks.iter().filter(|s| !s.name.starts_with(KEEPS));
    let kind = |sink: &str| {
        let mut nodes = watch.about.nodes.iter();
        nodes.find(|node| node.sort == Sort::Sink && node.name == sink).map(|n| n.kind.clone())
    };
    all.map(|sink| {
        let (name, stream) = sink.name.split_once('/').unwrap_or((&sink.name, ""));
        json!({
            "name": name,
            "stream": stream,
            "kind": kind(name),
            "rows": sink.rows,
            "committed_epoch": sink.committed,
            "lag_epochs": closed.saturating_sub(sink.committed.unwrap_or(0)),
            "waiting_epochs": sink.held,
            "retries": sink.retries,
            "trouble": sink.trouble,
        })
    })
    .collect()
}

/// What the pipeline is made of, and how much flows.
pub(crate) async fn graph(State(site): State<Arc<Site>>) -> Response {
    let (watch, seen) = (&site.watch, site.watch.seen());
    let id = |node: &NodeAbout| format!("{}/{}", node.sort.word(), node.name);
    let all = watch.about.nodes.iter().zip(watch.rates());
    let nodes = all.map(|(node, rate)| {
        let account = seen.report.accounts.get(&node.name).copied().unwrap_or_default();
        let rows_in = match node.sort {
            Sort::Sink => given(node, &seen),
            _ => account.input,
        };
        json!({
            "id": id(node), "sort": node.sort.word(), "name": node.name, "kind": node.kind,
            "rows_in": rows_in, "rows_out": account.emitted,
            "in_per_second": rate.0, "out_per_second": rate.1,
        })
    });
    let nodes: Vec<Value> = nodes.collect();
    let rates = watch.rates();
    let edges = watch.about.nodes.iter().flat_map(|to| to.reads.iter().map(move |s| (s, to)));
    let edges = edges.map(|(stream, to)| {
        // Sinks have names of their own; all others share theirs, and so a stream has one node that says it.
        let says = |node: &NodeAbout| {
            node.sort != Sort::Sink
                && (node.name == *stream || stream.strip_suffix(".changes") == Some(&node.name))
        };
        let from = watch.about.nodes.iter().position(says);
        json!({
            "from": from.map(|at| id(&watch.about.nodes[at])),
            "to": id(to),
            "stream": stream,
            "rows_per_second": from.map(|at| rates[at].1),
        })
    });
    let edges: Vec<Value> = edges.collect();
    as_json(&json!({ "epoch": seen.through, "nodes": nodes, "edges": edges }))
}
