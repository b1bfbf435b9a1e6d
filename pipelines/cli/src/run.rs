//! `foreline run`: carries a pipeline out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use foreline_engine::{Account, OnChange, Options, Report, Table as View, run as run_graph};
use foreline_server::accounts::{Accounts, Signup};
use foreline_server::{Filter, Listing, Otlp, Route, Served, Server, Tls, Token};
use foreline_spec::{FilterPlan, ListPlan, OtlpPlan, Plan, RoutePlan, Signal};
use foreline_sql::{WIRE_PROTOCOL, Wire};
use serde_json::json;

use crate::boards::{boards, works};
use crate::catalogue::Asked;
use crate::commands::{File, Format, Running};
use crate::failure::{Failure, Outcome};
use crate::keeper::Keeper;
use crate::logs;
use crate::progress::Progress;
use crate::runs::Noted;
use crate::session::{Purpose, RowBar, keep_progress, load, options, stop_on_signal};
use crate::table::{Table, grouped};
use crate::watching::Watching;

/// What `foreline run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    change: Change,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What to do when the pipeline is not the one whose progress was kept; without any of them that is an error.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(multiple = false)]
pub struct Change {
    /// Go on with a changed pipeline: the state of what has not changed is kept, the rest begins without any.
    #[arg(long)]
    migrate: bool,
    /// Compute everything anew from what the journal holds.
    #[arg(long)]
    from_journal: bool,
    /// Forget the progress that was kept and begin anew.
    #[arg(long)]
    fresh: bool,
}

impl Change {
    fn choice(self) -> OnChange {
        match self {
            Change { migrate: true, .. } => OnChange::Migrate,
            Change { from_journal: true, .. } => OnChange::FromJournal,
            Change { fresh: true, .. } => OnChange::Fresh,
            Change { .. } => OnChange::Refuse,
        }
    }
}

/// Runs a pipeline until its sources have ended or it is told to stop.
///
/// # Errors
/// When the file has mistakes or the run fails.
#[expect(clippy::print_stdout, reason = "the report is what the command ends with")]
pub fn run(arguments: &Arguments) -> Outcome {
    let file = &arguments.file;
    let format = if arguments.json { Format::Text } else { file.format };
    let plan = load(&file.file, format, Purpose::default())?;
    if !arguments.running.quiet {
        promise(&plan);
    }
    let (report, time) = carry_out(&plan, &arguments.running, arguments.change.choice())?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&to_json(&plan, &report, time));
        println!("{}", text.map_err(anyhow::Error::from)?);
    } else {
        print!("{}", summary(&plan, &report, time));
    }
    Ok(())
}

/// Says what the run promises before it begins.
#[expect(clippy::print_stderr, reason = "it is told to the user, and is no part of the report")]
fn promise(plan: &Plan) {
    for promise in foreline_spec::guarantees(plan) {
        eprintln!("{promise}");
    }
}

/// Runs a plan with its own sinks; how long it took.
///
/// # Errors
/// When it cannot be opened or fails.
pub fn carry_out(
    plan: &Plan,
    running: &Running,
    on_change: OnChange,
) -> Result<(Report, Duration), Failure> {
    let bar = Progress::detect(running.quiet).counter("running", "rows");
    let watching = Watching::of(plan);
    let options = Options {
        stop: stop_on_signal()?,
        observer: Some(RowBar::of(bar, plan)),
        vitals: Some(Arc::clone(&watching.vitals)),
        ..options(plan, running.workers())
    };
    let options = keep_progress(plan, on_change, options)?;
    keep_keys(plan);
    #[expect(clippy::disallowed_methods, reason = "how long the run took is for the report only")]
    let begun = Instant::now();
    let graph = plan.graph(watching.sinks()).map_err(anyhow::Error::from)?;
    let tables = graph.views.iter().map(|v| (v.name.clone(), Arc::clone(&v.table))).collect();
    let noted = Noted::begun(&plan.data_dir, options.run, options.workers);
    let _served = serve(plan, tables, &watching)?;
    let report = run_graph(graph, &options);
    noted.ended(&report, |report| rows_of_run(plan, report));
    Ok((report?, begun.elapsed()))
}

/// Has the sources that rows are pushed into remember what was pushed.
fn keep_keys(plan: &Plan) {
    for source in &plan.sources {
        if let Some(door) = &source.source.door {
            door.keep_keys_in(plan.data_dir.join("http").join(&source.name));
        }
    }
}

/// Starts the server, if the pipeline has one. It serves until it is dropped.
#[expect(clippy::print_stderr, reason = "whoever asked for a free port must be told which")]
fn serve(
    plan: &Plan,
    tables: Vec<(String, Arc<View>)>,
    watching: &Watching,
) -> Result<Option<(Server, Option<Wire>)>, Failure> {
    let Some(serve) = &plan.serve else { return Ok(None) };
    let (mut doors, mut references, mut bells) = (Vec::new(), Vec::new(), Vec::new());
    let commands = plan.commands().and_then(|source| source.source.door.clone());
    let swaps = plan.swaps().and_then(|source| source.source.door.clone());
    for source in plan.sources.iter().filter(|source| source.is_own()) {
        if let Some(door) = &source.source.door {
            let ways_in = if source.front.is_relation() { &mut references } else { &mut doors };
            ways_in.push((source.name.clone(), Arc::clone(door)));
        }
        if let Some(bell) = &source.source.bell {
            bells.push((source.name.clone(), Arc::clone(bell)));
        }
    }
    let rules = plan.alerts.iter().map(|alert| alert.name.clone()).collect();
    let tokens = serve.tokens.iter().map(|token| Token::new(token.expose())).collect();
    let figures = Arc::default();
    let queries = Asked::running(plan, &tables, watching, &figures).map_err(anyhow::Error::from)?;
    let signup = match serve.signup {
        foreline_spec::Signup::Closed => Signup::Closed,
        foreline_spec::Signup::Invited => Signup::Invited,
        foreline_spec::Signup::Open => Signup::Open,
    };
    let accounts = Arc::new(Accounts::new(&plan.data_dir, signup));
    if !serve.listen.ip().is_loopback() && serve.tokens.is_empty() && !accounts.is_any() {
        return Err(nobody(serve.listen, accounts.store().path()));
    }
    let failed = |e: std::io::Error| {
        anyhow::anyhow!("failed to take the certificate of section 'serve': {e}")
    };
    let tls = serve.tls.as_ref().map(|(cert, key)| Tls::read(cert, key));
    let tls = tls.transpose().map_err(failed)?;
    let wire = serve.postgres.map(|at| {
        let keeper = Arc::new(Keeper::new(&serve.tokens, Arc::clone(&accounts)));
        let tls = tls.as_ref().map(|tls| tls.config(WIRE_PROTOCOL)).transpose()?;
        Wire::start(at, tls, Arc::clone(&queries.queries), keeper)
    });
    let wire = wire.transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = Server::start(
        serve.listen,
        Served {
            doors,
            references,
            commands,
            rules,
            swaps,
            boards: boards(plan),
            works: works(plan),
            bells,
            tables,
            queries: Some(Arc::new(queries)),
            routes: serve.routes.iter().map(route).collect(),
            watched: watching.watched(plan),
            figures,
            tokens,
            accounts: Some(accounts),
            origins: serve.origins.clone(),
            otlp: serve.otlp.as_ref().map(otlp),
            logs: logs::for_collectors(),
            tls,
        },
    )?;
    eprintln!("listening on {scheme}://{}", server.address());
    if let Some(wire) = &wire {
        eprintln!("listening on postgresql://{}", wire.address());
    }
    Ok(Some((server, wire)))
}

/// A path that the file adds.
fn route(plan: &RoutePlan) -> Route {
    let filter = |filter: &FilterPlan| Filter {
        name: filter.name.clone(),
        column: filter.column,
        is: filter.is.sql(),
        default: filter.default.clone(),
    };
    let listing = |list: &ListPlan| Listing {
        sql: list.sql.clone(),
        schema: Arc::clone(&list.schema),
        order: list.order.clone(),
        marks: list.marks,
        filters: list.filters.iter().map(filter).collect(),
        limit: list.limit,
    };
    Route { path: plan.path.clone(), post: plan.post.clone(), get: plan.get.as_ref().map(listing) }
}

/// Where telemetry goes.
fn otlp(plan: &OtlpPlan) -> Otlp {
    let headers =
        plan.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    Otlp {
        url: plan.url.clone(),
        headers: headers.collect(),
        interval: plan.interval,
        metrics: plan.signals.contains(&Signal::Metrics),
        traces: plan.signals.contains(&Signal::Traces),
        logs: plan.signals.contains(&Signal::Logs),
    }
}

/// Others can reach the server, and anybody of them could use it.
fn nobody(listen: std::net::SocketAddr, file: &std::path::Path) -> Failure {
    Failure::Unreadable(anyhow::anyhow!(
        "others can reach '{listen}', and there is no account in '{}'; make one: foreline user add FILE NAME --role admin",
        file.display()
    ))
}

/// Rows that the sources have read, as `accounts` say.
fn rows_read(plan: &Plan, accounts: &BTreeMap<String, Account>) -> u64 {
    plan.sources.iter().filter_map(|s| accounts.get(&s.name)).map(|a| a.input).sum()
}

/// Rows that the sources have read in this run.
fn rows_of_run(plan: &Plan, report: &Report) -> u64 {
    rows_read(plan, &report.accounts) - rows_read(plan, &report.before)
}

/// The report for people.
#[must_use]
pub fn summary(plan: &Plan, report: &Report, time: Duration) -> String {
    let header = ["", "in", "used", "filtered", "late", "repeated", "dead", "in flight", "out"];
    let mut table = Table::new(header);
    let names = plan.sources.iter().map(|s| &s.name).chain(plan.steps.iter().map(|s| &s.name));
    for name in names {
        let Some(a) = report.accounts.get(name) else { continue };
        let held = u64::try_from(a.in_flight).unwrap_or(0);
        let counts = [a.input, a.used, a.filtered, a.late, a.deduplicated, a.dead, held, a.emitted];
        table.push(std::iter::once(name.clone()).chain(counts.map(grouped)));
    }
    let mut text = format!("{table}\n");
    text += &corrections(report);
    for (operator, reasons) in &report.dead {
        for (reason, count) in reasons {
            text += &format!("dead letters: {} at '{operator}', {reason}\n", grouped(*count));
        }
    }
    for sink in &plan.sinks {
        let stream = plan.stream_name(sink.from);
        let place = &sink.sink.place;
        let rows = report.written.get(&sink_label(&sink.name, stream)).copied().unwrap_or(0);
        text += &format!("written: {} rows of '{stream}' to {place}\n", grouped(rows));
    }
    for (sink, reasons) in &report.left_out {
        for (reason, count) in reasons {
            text += &format!("left out: {} rows by '{sink}', {reason}\n", grouped(*count));
        }
    }
    for (sink, times) in report.retries.iter().filter(|(_, times)| **times > 0) {
        text += &format!("tried again: '{sink}', {} times\n", grouped(*times));
    }
    let (rows, before) = (rows_of_run(plan, report), rows_read(plan, &report.before));
    let seconds = time.as_secs_f64();
    let rate = (rows as f64 / seconds.max(1e-9)) as u64;
    let stopped = if report.stopped { "stopped after " } else { "" };
    text += &format!(
        "{stopped}{} rows in {seconds:.1} s, {} rows/s, {} epochs\n",
        grouped(rows),
        grouped(rate),
        grouped(report.epochs)
    );
    if before > 0 {
        text += &format!(
            "{} rows of earlier runs are counted in the table, and in no other figure: this run went on behind them\n",
            grouped(before)
        );
    }
    text
}

/// What is to be said of late rows that were used and of clocks that were not believed.
fn corrections(report: &Report) -> String {
    let mut text = String::new();
    for (name, account) in &report.accounts {
        if account.corrected > 0 {
            text += &format!(
                "late: {} rows of '{name}' corrected results\n",
                grouped(account.corrected)
            );
        }
        if account.restamped > 0 {
            let rows = grouped(account.restamped);
            text +=
                &format!("clocks off: {rows} rows of '{name}' have their arrival as event time\n");
        }
    }
    text
}

/// What the engine calls a sink of one stream.
fn sink_label(name: &str, stream: &str) -> String {
    format!("{name}/{stream}")
}

/// The report for programs.
fn to_json(plan: &Plan, report: &Report, time: Duration) -> serde_json::Value {
    let sinks = plan.sinks.iter().map(|s| {
        let stream = plan.stream_name(s.from);
        let rows = report.written.get(&sink_label(&s.name, stream)).copied().unwrap_or(0);
        json!({ "sink": s.name, "stream": stream, "rows": rows, "place": s.sink.place })
    });
    json!({
        "pipeline": plan.name,
        "seconds": time.as_secs_f64(),
        "rows": rows_of_run(plan, report),
        "rows_of_earlier_runs": rows_read(plan, &report.before),
        "epochs": report.epochs,
        "stopped": report.stopped,
        "accounts": report.accounts,
        "dead_letters": report.dead,
        "sinks": sinks.collect::<Vec<_>>(),
        "retries": report.retries,
        "left_out": report.left_out,
        "busy_seconds": report.busy.iter().map(|(s, t)| (s.clone(), t.as_secs_f64()))
            .collect::<BTreeMap<_, _>>(),
    })
}
