//! A plan in words, for `foreline check`: what flows along every edge.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use foreline_engine::{
    ClockPolicy, Column, DeviceClock, Extent, Front, LatePolicy, RelationRules, Schema, StreamId,
    TimeDomain, ViewKind, type_name,
};

use crate::guarantee::guarantees;
use crate::plan::{AlertPlan, Plan, ViewPlan};

/// The plan as text: every stream with its key, event time, primary key and columns with type and unit, and where it goes.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    let mut text = format!("pipeline {}\n", plan.name);
    for (i, source) in plan.sources.iter().enumerate() {
        let Some(order) = source.order().filter(|_| source.is_own()) else { continue };
        let head = format!("source {} ({})", source.name, source.kind);
        stream(&mut text, plan, StreamId::Source(i), &head);
        let unit = |n: i64| length(n, source.schema.domain());
        let late = match order.late {
            LatePolicy::DeadLetter => "late rows become dead letters".to_owned(),
            LatePolicy::Correct(n) => format!("late rows correct results up to {}", unit(n)),
        };
        line(&mut text, "order", &format!("waits {}, {late}", unit(order.lateness)));
        if let Some(clock) = &order.device_clock {
            line(&mut text, "clocks", &clock_in_words(clock, &source.schema));
        }
    }
    for (i, step) in plan.steps.iter().enumerate().filter(|(_, s)| plan.is_own(s)) {
        let from = step.inputs.iter().filter(|s| plan.is_shown(**s));
        let from: Vec<&str> = from.map(|s| plan.stream_name(*s)).collect();
        let head = format!("step {} ({}) from {}", step.name, step.kind, from.join(", "));
        stream(&mut text, plan, StreamId::Step(i), &head);
    }
    for (i, view) in plan.views.iter().enumerate() {
        match view.how {
            ViewKind::Standing(source) if !plan.is_shown(source) => continue,
            ViewKind::Standing(StreamId::Source(source)) => {
                let kind = plan.sources[source].kind;
                let _ = writeln!(text, "\nreference {} ({kind})", view.name);
            }
            _ => {
                let from = view.made_of(plan).into_iter().map(|s| plan.stream_name(s));
                let from = from.collect::<Vec<_>>().join(", ");
                let _ = writeln!(text, "\nview {} ({}) from {from}", view.name, view.kind);
            }
        }
        let name = |i: &usize| view.relation.columns()[*i].name.as_str();
        line(
            &mut text,
            "key",
            &view.relation.key().iter().map(name).collect::<Vec<_>>().join(", "),
        );
        columns(&mut text, view.relation.columns());
        if let ViewKind::Standing(StreamId::Source(source)) = view.how
            && let Front::Relation(RelationRules { valid_from: Some(c), .. }) =
                plan.sources[source].front
        {
            line(&mut text, "counts", &format!("from '{}' on", view.relation.columns()[c].name));
        }
        line(&mut text, "at most", &format!("{} rows", view.max_rows));
        let versions = match view.how {
            ViewKind::Standing(StreamId::Source(source)) => Some(StreamId::Versions(source)),
            _ => None,
        };
        let ids = [Some(StreamId::View(i)), Some(StreamId::Log(i)), versions];
        let readers: Vec<String> = ids.into_iter().flatten().map(|id| readers(plan, id)).collect();
        let readers: BTreeSet<&str> =
            readers.iter().flat_map(|r| r.split(", ")).filter(|r| !r.is_empty()).collect();
        let readers = readers.into_iter().collect::<Vec<_>>().join(", ");
        line(&mut text, "goes to", if readers.is_empty() { "readers outside" } else { &readers });
    }
    for sink in &plan.sinks {
        let from = plan.stream_name(sink.from);
        let _ = writeln!(text, "\nsink {} ({}) from {from}", sink.name, sink.kind);
        line(&mut text, "place", &sink.sink.place);
    }
    if let Some(serve) = &plan.serve {
        let who = match serve.tokens.len() {
            0 => "anybody on this machine".to_owned(),
            n => format!("whoever shows one of {n} tokens"),
        };
        let _ = writeln!(text, "\nserve on {}\n  for      {who}", serve.listen);
        for route in &serve.routes {
            let takes = route.post.as_ref().map(|source| format!("takes rows for {source}"));
            let gives = route.get.as_ref().map(|get| {
                let names: Vec<&str> =
                    get.schema.fields().iter().map(|f| f.name().as_str()).collect();
                format!("gives {}", names.join(", "))
            });
            let does: Vec<String> = takes.into_iter().chain(gives).collect();
            line(&mut text, "route", &format!("{} {}", route.path, does.join("; ")));
        }
    }
    let promises = guarantees(plan);
    if !promises.is_empty() {
        text += "\nguarantees\n";
    }
    for promise in promises {
        let _ = writeln!(text, "  {promise}");
    }
    for alert in &plan.alerts {
        let from = plan.stream_name(alert.from);
        let _ = writeln!(text, "\nalert {} from {from}", alert.name);
        line(&mut text, "when", &alert.condition);
        let readers = readers(plan, alert.stream);
        line(&mut text, "goes to", if readers.is_empty() { "readers outside" } else { &readers });
    }
    for fitting in &plan.fittings {
        let from = plan.stream_name(fitting.from);
        let _ = writeln!(text, "\ntraining {} of step {} from {from}", fitting.name, fitting.step);
        line(&mut text, "file", &fitting.fitting.file.display().to_string());
    }
    for training in &plan.training {
        let from = plan.stream_name(training.from);
        let _ = writeln!(text, "\ntraining {} from {from}", training.name);
        line(&mut text, "features", &training.features.join(", "));
    }
    text
}

fn line(text: &mut String, what: &str, value: &str) {
    let _ = writeln!(text, "  {what:<8} {value}");
}

fn stream(text: &mut String, plan: &Plan, id: StreamId, head: &str) {
    let schema = plan.schema(id);
    let name = |i: &usize| schema.columns()[*i].name.as_str();
    let _ = writeln!(text, "\n{head}");
    line(text, "key", &schema.key().iter().map(name).collect::<Vec<_>>().join(", "));
    let domain = match schema.domain() {
        TimeDomain::UtcNanos => "utc",
        TimeDomain::Logical => "logical",
    };
    line(text, "time", &format!("{} ({domain})", name(&schema.time())));
    let primary = schema.primary_key();
    let mut parts: Vec<&str> = primary.columns.iter().map(name).collect();
    if primary.position {
        parts.push("position");
    }
    line(text, "row id", &parts.join(", "));
    columns(text, schema.columns());
    let readers = readers(plan, id);
    line(text, "goes to", if readers.is_empty() { "nothing" } else { &readers });
}

fn columns(text: &mut String, columns: &[Column]) {
    let width = columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for (i, column) in columns.iter().enumerate() {
        let what = if i == 0 { "columns" } else { "" };
        let unit = column.unit.as_ref().map_or(String::new(), |u| format!("  {u}"));
        let kind = match column.sample_rate {
            Some(rate) => format!("waveform of {rate}"),
            None => type_name(&column.data_type),
        };
        let pad = width - column.name.chars().count();
        let text_of = format!("{}{:pad$}  {kind:<9}{unit}", column.name, "");
        line(text, what, text_of.trim_end());
    }
}

/// How far the devices' clocks are believed.
fn clock_in_words(clock: &DeviceClock, schema: &Schema) -> String {
    let column = |i: usize| &schema.columns()[i].name;
    let arrival = match clock.arrival {
        Some(i) => format!("the arrival '{}'", column(i)),
        None => "the clock of the epoch".to_owned(),
    };
    let then = match clock.otherwise {
        ClockPolicy::Arrival => {
            let kept = column(schema.columns().len() - 1);
            format!("then that is the event time, and '{kept}' has the device's stamp")
        }
        ClockPolicy::DeadLetter => "then the row becomes a dead letter".to_owned(),
    };
    let limit = Extent::Nanos(clock.max_difference_ns);
    format!("devices are believed up to {limit} from {arrival}, {then}")
}

fn readers(plan: &Plan, id: StreamId) -> String {
    let steps = plan.steps.iter().filter(|s| plan.is_own(s) && s.inputs.contains(&id));
    let steps = steps.map(|s| s.name.as_str());
    let sinks = plan.sinks.iter().filter(|s| s.from == id).map(|s| s.name.as_str());
    let watches = |a: &&AlertPlan| match (a.from, id) {
        // It watches what changes of a view.
        (StreamId::View(i), StreamId::Log(log)) => i == log,
        (from, id) => from == id && !matches!(id, StreamId::View(_)),
    };
    let alerts = plan.alerts.iter().filter(watches).map(|a| a.name.as_str());
    let made = |v: &&ViewPlan| v.made_of(plan).contains(&id);
    let views = plan.views.iter().filter(made).map(|v| v.name.as_str());
    steps.chain(views).chain(sinks).chain(alerts).collect::<Vec<_>>().join(", ")
}

fn length(n: i64, domain: TimeDomain) -> String {
    match domain {
        TimeDomain::UtcNanos => Extent::Nanos(n).to_string(),
        TimeDomain::Logical => Extent::Count(n).to_string(),
    }
}

/// The columns of a schema in a line or two, for a drawing: the key, then how many others.
pub(crate) fn summary(schema: &Schema) -> String {
    let key: Vec<&str> = schema.key().iter().map(|i| schema.columns()[*i].name.as_str()).collect();
    format!("{} columns by {}", schema.columns().len(), key.join(", "))
}
