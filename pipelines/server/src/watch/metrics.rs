//! `GET /metrics`: the figures of a pipeline as Prometheus reads them.
//!
//! What a reader would get wrong: every name is in the table [`METRICS`] and nowhere else, and what is written is written from
//! it; the manual's table is compared with it by a test. Counters are of this run: they begin at nothing when the process does,
//! as Prometheus expects, though the accounts of a pipeline go on.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock, Weak};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use foreline_engine::{Account, Reading, Seen};
use serde_json::Value;

use crate::limits::FOLLOWERS;
use crate::routes::Site;
use crate::watch::{KEEPS, Sort, behind, resident_bytes};

/// A figure that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, which ends in its unit.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What its labels are called.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $name:literal $kind:ident [$($label:literal),*] $help:literal)*) => {
        $(const $id: Metric = Metric {
            name: $name, kind: stringify!($kind), labels: &[$($label),*], help: $help,
        };)*
        /// All figures that are served.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

metrics! {
    INFO "foreline_info" gauge ["pipeline", "version"] "1, with the name of the pipeline and the version of the program"
    UPTIME "foreline_uptime_seconds" gauge [] "how long the process serves"
    RESIDENT "foreline_resident_bytes" gauge [] "memory that the process has"
    EPOCH "foreline_epoch" gauge [] "the last epoch that all sinks were given"
    EPOCH_CLOSED "foreline_epoch_closed" gauge [] "the last epoch that was cut from the sources"
    EPOCH_AGE "foreline_epoch_age_seconds" gauge [] "how long ago an epoch last got through"
    EPOCH_WAITING "foreline_epoch_waiting_seconds" gauge [] "for how long no epoch has got through though some wait; 0 where none waits"
    EPOCHS "foreline_epochs_total" counter [] "epochs that got through"
    JOURNAL "foreline_journal_bytes" gauge [] "bytes of the journal"
    JOURNAL_LIMIT "foreline_journal_limit_bytes" gauge [] "bytes that it may have; at that many the sources are not read"
    SOURCE_IN "foreline_source_rows_in_total" counter ["source"] "records that a source brought"
    SOURCE_ROWS "foreline_source_rows_total" counter ["source", "outcome"] "what became of them: used, late, deduplicated, dead"
    SOURCE_HELD "foreline_source_rows_held" gauge ["source"] "rows that wait for their key's watermark"
    SOURCE_CORRECTED "foreline_source_rows_corrected_total" counter ["source"] "late rows that corrected a result; they count as used, too"
    SOURCE_LAG "foreline_source_watermark_lag_seconds" gauge ["source"] "how far the newest watermark is behind the clock; where event time is a clock's"
    SOURCE_SILENT "foreline_source_silent_seconds" gauge ["source"] "how long ago the source last had records"
    SOURCE_READ "foreline_source_read" gauge ["source"] "1 while the source is asked for records, 0 while it has to wait or has ended"
    STEP_IN "foreline_step_rows_in_total" counter ["step", "kind"] "rows that a step read"
    STEP_ROWS "foreline_step_rows_total" counter ["step", "kind", "outcome"] "what became of them: used, filtered, late, deduplicated, dead"
    STEP_OUT "foreline_step_rows_out_total" counter ["step", "kind"] "rows that it sent on"
    STEP_HELD "foreline_step_rows_held" gauge ["step", "kind"] "rows that it holds back for now"
    DEAD "foreline_dead_letters_total" counter ["operator", "reason"] "rows that a source or step could not use, late ones among them"
    BUSY "foreline_busy_seconds_total" counter ["stage"] "how long a stage was at work, summed over the workers"
    SINK_ROWS "foreline_sink_rows_total" counter ["sink", "stream"] "rows that a sink was given"
    SINK_EPOCH "foreline_sink_committed_epoch" gauge ["sink", "stream"] "the last epoch that it has for certain"
    SINK_HELD "foreline_sink_waiting_epochs" gauge ["sink", "stream"] "epochs that it does not have for certain yet"
    SINK_UP "foreline_sink_up" gauge ["sink", "stream"] "0 while it takes no rows and is tried again"
    SINK_RETRIES "foreline_sink_retries_total" counter ["sink", "stream"] "how often it was tried again"
    SINK_LEFT "foreline_sink_rows_left_out_total" counter ["sink", "stream", "reason"] "rows that it took and did not write"
    VIEW_ROWS "foreline_view_rows" gauge ["view"] "rows of a view"
    VIEW_BYTES "foreline_view_bytes" gauge ["view"] "bytes that they take"
    VIEW_ARRANGED "foreline_view_arranged_records" gauge ["view"] "records that the view is kept up from"
    VIEW_UNCOMPUTED "foreline_view_uncomputed_total" counter ["view"] "how often an expression could not be computed and counted as null"
    KEPT_ROWS "foreline_kept_rows" gauge ["stream"] "rows of a stream with 'keep'"
    KEPT_BYTES "foreline_kept_bytes" gauge ["stream"] "bytes that they take"
    KEPT_FORGOTTEN "foreline_kept_rows_forgotten_total" counter ["stream"] "rows of it that were forgotten early, at a limit"
    MODEL_ROWS "foreline_model_rows_total" counter ["step", "version", "role"] "rows that a version of a model was there for; the role is acting or shadow"
    MODEL_FAILED "foreline_model_rows_failed_total" counter ["step", "version", "role"] "those of them that it could not score"
    MODEL_UNSCORED "foreline_model_rows_unscored_total" counter ["step", "version", "role"] "those of them without a score though nothing failed: a feature is missing, or the model says so"
    MODEL_HEALED "foreline_model_healed_calls_total" counter ["step", "version"] "calls that broke an instance of the plugin and went through in a fresh one"
    MODEL_KEPT_BACK "foreline_model_breakers_open" gauge ["step", "version"] "keys and shards whose rows are kept back, or sent on trial, because the model kept failing on them"
    REQUESTS "foreline_http_requests_total" counter ["route", "method", "status"] "requests that were answered"
    CONNECTIONS "foreline_http_connections" gauge [] "connections that are open"
    FOLLOWING "foreline_http_followers" gauge [] "readers that follow a table"
    QUERIES "foreline_queries_total" counter ["outcome"] "SQL over HTTP: answered, or refused for whatever reason"
    OTLP "foreline_otlp_requests_total" counter ["signal", "outcome"] "requests with metrics, traces and logs that the collector took, or refused"
    OTLP_LOST "foreline_otlp_lost_total" counter ["signal"] "spans and lines of the log that it never took"
}

/// A figure, and its values by their labels.
pub type Family = (Metric, Vec<(Vec<String>, f64)>);

/// Figures that are gathered.
#[derive(Default)]
struct Page(Vec<Family>);

impl Page {
    /// All values of one figure; without any there is nothing of it.
    fn family(&mut self, metric: Metric, values: impl IntoIterator<Item = (Vec<String>, f64)>) {
        let values: Vec<_> = values.into_iter().collect();
        debug_assert!(values.iter().all(|v| v.0.len() == metric.labels.len()), "{}", metric.name);
        if !values.is_empty() {
            self.0.push((metric, values));
        }
    }

    fn one(&mut self, metric: Metric, value: impl Into<Option<f64>>) {
        self.family(metric, value.into().map(|value| (Vec::new(), value)));
    }
}

/// Figures as Prometheus reads them.
fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for (Metric { name, kind, labels, help }, values) in families {
        // Writing to a string does not fail.
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        for (of, value) in values {
            let pairs =
                labels.iter().zip(of).map(|(label, of)| format!("{label}=\"{}\"", escaped(of)));
            let pairs = pairs.collect::<Vec<_>>().join(",");
            let braces = if pairs.is_empty() { pairs } else { format!("{{{pairs}}}") };
            writeln!(text, "{name}{braces} {value}").ok();
        }
    }
    text
}

/// The figures of a server, for others than those who ask it over HTTP; none before it runs.
#[derive(Debug, Default)]
pub struct Figures(OnceLock<Weak<Site>>);

impl Figures {
    pub(crate) fn of(&self, site: &Arc<Site>) {
        // A second server would be one of another pipeline.
        self.0.set(Arc::downgrade(site)).ok();
    }

    /// All figures, as they stand.
    #[must_use]
    pub fn read(&self) -> Vec<Family> {
        let site = self.0.get().and_then(Weak::upgrade);
        site.map(|site| figures(&site)).unwrap_or_default()
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A whole number as the format has it; above 2^53 the last digits are lost, as everywhere in Prometheus.
fn n(number: u64) -> f64 {
    number as f64
}

fn size(number: usize) -> f64 {
    number as f64
}

/// The figures.
pub(crate) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], text(&figures(&site))).into_response()
}

pub(crate) fn figures(site: &Site) -> Vec<Family> {
    let (watch, seen) = (&site.watch, site.watch.seen());
    let mut page = Page::default();
    let about = &watch.about;
    page.family(INFO, [(vec![about.pipeline.clone(), about.version.to_owned()], 1.0)]);
    page.one(UPTIME, watch.uptime().as_secs_f64());
    page.one(RESIDENT, resident_bytes().map(n));
    page.one(EPOCH, n(seen.through));
    page.one(EPOCH_CLOSED, n(seen.closed.max(seen.through)));
    page.one(EPOCH_AGE, seen.through_ns.map(behind));
    page.one(EPOCH_WAITING, seen.waiting.as_secs_f64());
    page.one(EPOCHS, n(seen.report.epochs));
    page.one(JOURNAL, seen.journal.map(|(bytes, _)| n(bytes)));
    page.one(JOURNAL_LIMIT, seen.journal.map(|(_, limit)| n(limit)));
    sources(&mut page, site, &seen);
    steps(&mut page, site, &seen);
    let letters = seen.report.dead.iter().flat_map(|(operator, reasons)| {
        reasons
            .iter()
            .map(move |(reason, count)| (vec![operator.clone(), reason.clone()], n(*count)))
    });
    page.family(DEAD, letters);
    page.family(BUSY, seen.busy.iter().map(|(s, time)| (vec![s.clone()], time.as_secs_f64())));
    sinks(&mut page, &seen);
    tables(&mut page, site);
    models(&mut page, site);
    requests(&mut page, site);
    telemetry(&mut page, site);
    page.0
}

/// What became of rows.
fn outcomes(account: &Account) -> [(&'static str, u64); 5] {
    [
        ("used", account.used),
        ("filtered", account.filtered),
        ("late", account.late),
        ("deduplicated", account.deduplicated),
        ("dead", account.dead),
    ]
}

fn sources(page: &mut Page, site: &Site, seen: &Seen) {
    let is_shown = |name: &str| {
        site.watch.about.nodes.iter().any(|node| node.sort == Sort::Source && node.name == name)
    };
    let all: Vec<_> = seen.sources.iter().filter(|s| is_shown(&s.name)).collect();
    let of = |get: fn(&Account) -> f64| {
        all.iter().map(move |s| (vec![s.name.clone()], get(&seen.of_run(&s.name))))
    };
    page.family(SOURCE_IN, of(|a| n(a.input)));
    let outcome = all.iter().flat_map(|s| {
        let account = seen.of_run(&s.name);
        // No condition of a user stands before a source.
        let outcomes = outcomes(&account).into_iter().filter(|(outcome, _)| *outcome != "filtered");
        outcomes.map(|(outcome, rows)| (vec![s.name.clone(), outcome.to_owned()], n(rows)))
    });
    page.family(SOURCE_ROWS, outcome);
    let held = |name: &str| seen.report.accounts.get(name).map_or(0.0, |a| a.in_flight as f64);
    page.family(SOURCE_HELD, all.iter().map(|s| (vec![s.name.clone()], held(&s.name))));
    page.family(SOURCE_CORRECTED, of(|a| n(a.corrected)));
    let lag = |ns: Option<i64>, is_utc: bool| ns.filter(|_| is_utc).map(behind);
    let label = |name: &String, value: Option<f64>| Some((vec![name.clone()], value?));
    page.family(SOURCE_LAG, all.iter().filter_map(|s| label(&s.name, lag(s.watermark, s.is_utc))));
    page.family(SOURCE_SILENT, all.iter().filter_map(|s| label(&s.name, lag(s.heard_ns, true))));
    let read = |reading| f64::from(u8::from(reading == Reading::Read));
    page.family(SOURCE_READ, all.iter().map(|s| (vec![s.name.clone()], read(s.reading))));
}

fn steps(page: &mut Page, site: &Site, seen: &Seen) {
    let is_step = |sort| matches!(sort, Sort::Step | Sort::Alert);
    let all: Vec<_> = site.watch.about.nodes.iter().filter(|node| is_step(node.sort)).collect();
    let of = |get: fn(&Account) -> f64| {
        all.iter().map(move |s| (vec![s.name.clone(), s.kind.clone()], get(&seen.of_run(&s.name))))
    };
    page.family(STEP_IN, of(|a| n(a.input)));
    let outcome = all.iter().flat_map(|s| {
        outcomes(&seen.of_run(&s.name)).into_iter().map(|(outcome, rows)| {
            (vec![s.name.clone(), s.kind.clone(), outcome.to_owned()], n(rows))
        })
    });
    page.family(STEP_ROWS, outcome);
    page.family(STEP_OUT, of(|a| n(a.emitted)));
    let held = |name: &str| seen.report.accounts.get(name).map_or(0.0, |a| a.in_flight as f64);
    let held = all.iter().map(|s| (vec![s.name.clone(), s.kind.clone()], held(&s.name)));
    page.family(STEP_HELD, held);
}

fn sinks(page: &mut Page, seen: &Seen) {
    let all: Vec<_> = seen.sinks.iter().filter(|s| !s.name.starts_with(KEEPS)).collect();
    let labels = |name: &str| match name.split_once('/') {
        Some((sink, stream)) => vec![sink.to_owned(), stream.to_owned()],
        None => vec![name.to_owned(), String::new()],
    };
    page.family(SINK_ROWS, all.iter().map(|s| (labels(&s.name), n(s.rows))));
    let committed = all.iter().filter_map(|s| Some((labels(&s.name), n(s.committed?))));
    page.family(SINK_EPOCH, committed);
    page.family(SINK_HELD, all.iter().map(|s| (labels(&s.name), size(s.held))));
    let up = |trouble: &Option<String>| f64::from(u8::from(trouble.is_none()));
    page.family(SINK_UP, all.iter().map(|s| (labels(&s.name), up(&s.trouble))));
    page.family(SINK_RETRIES, all.iter().map(|s| (labels(&s.name), n(s.retries))));
    let left = seen.report.left_out.iter().flat_map(|(sink, reasons)| {
        reasons.iter().map(move |(reason, rows)| {
            let mut of = labels(sink);
            of.push(reason.clone());
            (of, n(*rows))
        })
    });
    page.family(SINK_LEFT, left);
}

fn tables(page: &mut Page, site: &Site) {
    let of = |get: fn(&foreline_engine::Table) -> f64| {
        site.tables.iter().map(move |(name, table)| (vec![name.clone()], get(table)))
    };
    page.family(VIEW_ROWS, of(|t| size(t.len())));
    page.family(VIEW_BYTES, of(|t| size(t.bytes())));
    page.family(VIEW_ARRANGED, of(|t| size(t.arranged())));
    page.family(VIEW_UNCOMPUTED, of(|t| n(t.uncomputed())));
    let kept = &site.watch.about.kept;
    page.family(KEPT_ROWS, kept.iter().map(|(name, r)| (vec![name.clone()], size(r.size().0))));
    page.family(KEPT_BYTES, kept.iter().map(|(name, r)| (vec![name.clone()], size(r.size().1))));
    let forgotten = kept.iter().map(|(name, r)| (vec![name.clone()], n(r.forgotten())));
    page.family(KEPT_FORGOTTEN, forgotten);
}

fn models(page: &mut Page, site: &Site) {
    let works = site.models.works();
    let count = |work: &Value, name: &str| work.get(name).and_then(Value::as_u64).map_or(0.0, n);
    let by_role = |acting: &str, shadow: &str| {
        let of = |(step, version, work): &(String, String, Value)| {
            [("acting", acting), ("shadow", shadow)].map(|(role, name)| {
                (vec![step.clone(), version.clone(), role.to_owned()], count(work, name))
            })
        };
        works.iter().flat_map(of).collect::<Vec<_>>()
    };
    page.family(MODEL_ROWS, by_role("acted", "shadowed"));
    page.family(MODEL_FAILED, by_role("failed", "shadow_failed"));
    page.family(MODEL_UNSCORED, by_role("unscored", "shadow_unscored"));
    let of_all = |name: &str| {
        let of = |(step, version, work): &(String, String, Value)| {
            (vec![step.clone(), version.clone()], count(work, name))
        };
        works.iter().map(of).collect::<Vec<_>>()
    };
    page.family(MODEL_HEALED, of_all("healed"));
    page.family(MODEL_KEPT_BACK, of_all("kept_back"));
}

fn requests(page: &mut Page, site: &Site) {
    let by_route = site.watch.requests.by_route().into_iter();
    let by_route = by_route.map(|((route, method, status), count)| {
        (vec![route, method.to_owned(), status.to_string()], n(count))
    });
    page.family(REQUESTS, by_route);
    let (room, all) = &site.watch.connections;
    // One place is taken by whoever waits for the next connection.
    page.one(CONNECTIONS, size((all - room.available_permits()).saturating_sub(1)));
    page.one(FOLLOWING, size(FOLLOWERS - site.followers.available_permits()));
    let (answered, refused) = site.watch.requests.queries();
    let outcomes = [("answered", answered), ("refused", refused)];
    page.family(QUERIES, outcomes.map(|(outcome, count)| (vec![outcome.to_owned()], n(count))));
}

fn telemetry(page: &mut Page, site: &Site) {
    let counts = site.sent.counts();
    let requests = counts.iter().flat_map(|(signal, taken, refused, _)| {
        [("taken", taken), ("refused", refused)]
            .map(|(outcome, count)| (vec![(*signal).to_owned(), outcome.to_owned()], n(*count)))
    });
    page.family(OTLP, requests);
    // Metrics are not kept: the next ones say the same.
    let lost = counts.iter().filter(|(signal, ..)| *signal != "metrics");
    page.family(OTLP_LOST, lost.map(|(signal, _, _, lost)| (vec![(*signal).to_owned()], n(*lost))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_escaped() {
        let mut page = Page::default();
        page.family(VIEW_ROWS, [(vec!["a\"b\\c\nd".to_owned()], 2.0)]);
        let text = text(&page.0);
        assert!(text.ends_with("foreline_view_rows{view=\"a\\\"b\\\\c\\nd\"} 2\n"), "{text}");
    }

    #[test]
    fn names_say_unit_and_kind() {
        for metric in METRICS {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == "counter", "{}", metric.name);
            assert!(metric.name.starts_with("foreline_"), "{}", metric.name);
            let twice = METRICS.iter().filter(|m| m.name == metric.name).count();
            assert_eq!(twice, 1, "{}", metric.name);
        }
    }

    /// The text of a file of the repository.
    fn file(path: &str) -> String {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        std::fs::read_to_string(format!("{root}/{path}")).unwrap()
    }

    #[test]
    fn the_manual_lists_what_is_served() {
        let row = |m: &Metric| {
            let labels = m.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
            format!("| `{}` | {} | {labels} | {} |", m.name, m.kind, m.help)
        };
        let manual = file("docs/observability.md");
        let listed: Vec<&str> = manual.lines().filter(|l| l.starts_with("| `foreline_")).collect();
        let served: Vec<String> = METRICS.iter().map(row).collect();
        assert_eq!(listed, served);
    }

    #[test]
    fn dashboard_and_rules_use_what_is_served() {
        for path in ["contrib/grafana/dashboard.json", "contrib/prometheus/alerts.yml"] {
            let text = file(path);
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let unknown = words.find(|word| {
                word.starts_with("foreline_") && METRICS.iter().all(|m| m.name != *word)
            });
            assert_eq!(unknown, None, "{path}");
            assert!(text.contains("foreline_epoch_waiting_seconds"), "{path}");
        }
        assert!(serde_json::from_str::<Value>(&file("contrib/grafana/dashboard.json")).is_ok());
    }
}
