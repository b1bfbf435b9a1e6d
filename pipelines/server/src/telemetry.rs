//! Metrics, traces and logs for a collector of OpenTelemetry: OTLP over HTTP, in protobuf.
//!
//! What a reader would get wrong:
//!
//! * Nothing waits for a collector. What it does not take is kept up to a limit, then the oldest goes, and is counted
//!   (`foreline_otlp_lost_total`).
//! * The metrics are those of `/metrics`, by the same names; counters are cumulative, since the process began.
//! * A trace is an epoch on its way from the sources to the sinks, or a request.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreline_engine::{Clock as _, SystemClock};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;

use crate::routes::Site;

mod logs;
mod messages;
mod queue;
mod spans;

pub use logs::{Line, Logs};
use queue::Queue;
pub(crate) use spans::{Span, Spans, context};

/// Spans and lines that wait for a collector, of each: a minute of a busy pipeline.
const WAITING_MAX: usize = 16_384;
/// Spans or lines of a request.
const BATCH: usize = 2_048;
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take for what is left when the server ends.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// Where telemetry goes, and what of it.
#[derive(Clone)]
pub struct Otlp {
    /// The collector, without `/v1/metrics` and the like.
    pub url: String,
    /// Headers of each request, such as `authorization`.
    pub headers: Vec<(String, String)>,
    /// Between two requests of a kind.
    pub interval: Duration,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether logs are sent.
    pub logs: bool,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers are secrets.
        f.debug_struct("Otlp").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Metrics,
    Traces,
    Logs,
}

impl Signal {
    pub(crate) const ALL: [Signal; 3] = [Signal::Metrics, Signal::Traces, Signal::Logs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
            Signal::Logs => "logs",
        }
    }
}

/// What was sent, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Requests that the collector took, by signal.
    taken: [AtomicU64; 3],
    /// Requests that it did not.
    refused: [AtomicU64; 3],
    /// Spans and lines that nobody will see.
    lost: [AtomicU64; 3],
    is_on: AtomicBool,
}

impl Sent {
    /// By signal: requests that were taken, that were not, and what is lost; nothing where nothing is sent.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64, u64, u64)> {
        if !self.is_on.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let of = |counts: &[AtomicU64; 3], at: usize| counts[at].load(Ordering::Relaxed);
        let of = |at: usize| {
            let name = Signal::ALL[at].name();
            (name, of(&self.taken, at), of(&self.refused, at), of(&self.lost, at))
        };
        (0..3).map(of).collect()
    }
}

/// Sends until the server ends.
pub(crate) async fn send(
    otlp: Otlp,
    site: Arc<Site>,
    logs: Arc<Logs>,
    mut stopped: watch::Receiver<bool>,
) {
    let sender = match Sender::new(otlp, site, logs) {
        Ok(sender) => sender,
        Err(e) => {
            return tracing::error!("no telemetry is sent: {e} (section 'serve', field 'otlp')");
        }
    };
    let mut is_well = true;
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(sender.otlp.interval) => false,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        let sent = match is_last {
            false => sender.round().await,
            true => tokio::time::timeout(LAST_TIMEOUT, sender.round()).await.unwrap_or(Ok(())),
        };
        match sent {
            Ok(()) if !is_well => {
                is_well = true;
                tracing::warn!("the collector takes telemetry again");
            }
            // Said once, not with each round.
            Err(why) if is_well => {
                is_well = false;
                tracing::warn!("the collector takes no telemetry, the pipeline goes on: {why}");
            }
            _ => {}
        }
        if is_last {
            return;
        }
    }
}

struct Sender {
    otlp: Otlp,
    client: reqwest::Client,
    headers: HeaderMap,
    site: Arc<Site>,
    logs: Arc<Logs>,
    begun: i64,
}

/// Why a request was not taken.
enum Refusal {
    /// It may be later.
    Later(String),
    /// It will not be.
    Never(String),
}

impl Sender {
    fn new(otlp: Otlp, site: Arc<Site>, logs: Arc<Logs>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &otlp.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| "a header has a name that no header has".to_owned())?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| format!("the header '{name}' has a value that no header has"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .use_rustls_tls()
            .user_agent(concat!("foreline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("HTTP cannot be set up: {e}"))?;
        site.sent.is_on.store(true, Ordering::Relaxed);
        if otlp.traces {
            site.spans.begin();
            site.watch.about.vitals.trace();
        }
        if otlp.logs {
            logs.begin();
        }
        let begun = SystemClock.now_ns();
        Ok(Sender { otlp, client, headers, site, logs, begun })
    }

    /// Sends what there is; the last thing that went wrong.
    async fn round(&self) -> Result<(), String> {
        let mut result = Ok(());
        let watch = &self.site.watch;
        let resource = messages::resource(&watch.about.pipeline, watch.about.version);
        if self.otlp.metrics {
            let families = crate::watch::figures(&self.site);
            let times = (self.begun, SystemClock.now_ns());
            let request = messages::metrics(resource.clone(), &families, times);
            if let Err(Refusal::Later(why) | Refusal::Never(why)) =
                self.post(Signal::Metrics, &request).await
            {
                result = Err(why);
            }
        }
        if self.otlp.traces {
            self.site.spans.take_epochs(&watch.about.vitals);
            let queue = &self.site.spans.queue;
            let make = |spans: &[Span]| messages::traces(resource.clone(), spans);
            result = result.and(self.drain(Signal::Traces, queue, make).await);
        }
        if self.otlp.logs {
            let make = |lines: &[Line]| messages::logs(resource.clone(), lines);
            result = result.and(self.drain(Signal::Logs, &self.logs.queue, make).await);
        }
        result
    }

    /// Sends what waits in a queue, until it is empty or the collector takes no more for now.
    async fn drain<T, M: Message>(
        &self,
        signal: Signal,
        queue: &Queue<T>,
        make: impl Fn(&[T]) -> M,
    ) -> Result<(), String> {
        let lost = &self.site.sent.lost[signal as usize];
        loop {
            lost.fetch_add(queue.lost(), Ordering::Relaxed);
            let batch = queue.take(BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            match self.post(signal, &make(&batch)).await {
                Ok(()) => {}
                Err(Refusal::Later(why)) => {
                    queue.put_back(batch);
                    return Err(why);
                }
                Err(Refusal::Never(why)) => {
                    lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    return Err(why);
                }
            }
        }
    }

    async fn post(&self, signal: Signal, message: &impl Message) -> Result<(), Refusal> {
        let url = format!("{}/v1/{}", self.otlp.url.trim_end_matches('/'), signal.name());
        let request = self.client.post(&url).headers(self.headers.clone());
        let sent = request.body(message.encode_to_vec()).send().await;
        let at = signal as usize;
        let answered = match sent {
            Ok(answer) if answer.status().is_success() => {
                self.site.sent.taken[at].fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Ok(answer) => {
                let why = format!("'{url}' answers {}", answer.status());
                // What the protocol says may be sent again.
                match answer.status().as_u16() {
                    429 | 502..=504 => Refusal::Later(why),
                    _ => Refusal::Never(why),
                }
            }
            Err(e) => Refusal::Later(format!("'{url}' cannot be reached: {}", e.without_url())),
        };
        self.site.sent.refused[at].fetch_add(1, Ordering::Relaxed);
        Err(answered)
    }
}

/// A lock, whoever panicked with it.
fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
