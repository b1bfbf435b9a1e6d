//! Sends files of CSV as machines and gateways would: to a broker, a source over HTTP, or a bucket.
//!
//! It is the other side of our sources, for simulated and for recorded data; no part of a pipeline.
//!
//! What a reader would get wrong:
//!
//! * What goes out is acknowledged, or goes out again: it may come twice, never not at all. Over HTTP the same body has the same
//!   `Idempotency-Key`, so it counts once.
//! * A line that is broken goes out broken, as from a machine that has a bad day: it is for the pipeline to say so.
//! * Fields are told apart by commas alone, and none is quoted.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};

use crate::mqtt::MqttFeed;
use crate::objects::{Connection, Objects, Place, mistakes};

mod http;
mod lines;

use http::HttpFeed;
pub(crate) use lines::Lines;

/// Most lines that go out before their acknowledgements are waited for.
const BATCH: usize = 1_000;
/// Batches a second where a rate is asked for, so that rows come evenly.
const BATCHES_PER_S: u32 = 10;
/// How long a receiver may be away before it is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A way to a receiver.
pub struct Feed {
    to: To,
    /// Where pauses are waited for.
    runtime: Runtime,
    rows_per_s: Option<u32>,
    /// When the next batch may go out.
    next: Option<Instant>,
}

enum To {
    Http(HttpFeed),
    Mqtt(Box<MqttFeed>),
    Bucket(Objects),
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("rows_per_s", &self.rows_per_s).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed to `url`: `mqtt://host:1883/topic/{column}` (`mqtts://` with TLS; user and password from `MQTT_USERNAME` and
    /// `MQTT_PASSWORD`), `http://host:8080/api/v1/sources/NAME/rows` (token from `FORELINE_TOKEN`), or `s3://bucket/prefix`
    /// (`endpoint` for a store other than AWS; keys from the environment). Nothing is asked of the receiver yet.
    ///
    /// # Errors
    /// When `url` is none of these.
    pub fn open(
        url: &str,
        endpoint: Option<&str>,
        rows_per_s: Option<u32>,
    ) -> Result<Self, String> {
        let to = match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => To::Http(HttpFeed::open(url)?),
            Some("mqtt" | "mqtts" | "tcp" | "ssl") => To::Mqtt(Box::new(MqttFeed::open(url)?)),
            Some("s3") => To::Bucket(bucket(url, endpoint)?),
            _ => {
                return Err(format!(
                    "'{url}' is no receiver; write mqtt://host:1883/topic, http://host:8080/api/v1/sources/NAME/rows or s3://bucket/prefix"
                ));
            }
        };
        if endpoint.is_some() && !matches!(to, To::Bucket(_)) {
            return Err("an endpoint belongs to a bucket, s3://…".to_owned());
        }
        Ok(Feed { to, runtime: new_runtime()?, rows_per_s, next: None })
    }

    /// Sends a file of CSV, whose first line names its columns: to a bucket as the object `name` below the prefix, else line by
    /// line. Returns once all of it was taken, with the number of lines; `progress` hears how many were.
    ///
    /// # Errors
    /// When the file cannot be read, or the receiver refuses or is away for a minute.
    pub fn file(&mut self, path: &Path, name: &str, progress: &dyn Fn(u64)) -> Result<u64, String> {
        let unreadable = |e: std::io::Error| format!("'{}' cannot be read: {e}", path.display());
        if let To::Bucket(objects) = &self.to {
            self.wait();
            let bytes = std::fs::read(path).map_err(unreadable)?;
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
            let key = objects.place().key(name);
            objects.put(&key, Bytes::from(bytes)).map_err(|e| e.to_string())?;
            self.went(lines);
            progress(lines as u64);
            return Ok(lines as u64);
        }
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut header = String::new();
        file.read_line(&mut header).map_err(unreadable)?;
        let batch = self.rows_per_s.map_or(BATCH, |rate| {
            usize::try_from(rate / BATCHES_PER_S).unwrap_or(BATCH).clamp(1, BATCH)
        });
        let mut lines = Lines::new(header.trim_end());
        let mut sent = 0;
        loop {
            let ended = lines.fill(&mut file, batch).map_err(unreadable)?;
            if lines.is_empty() {
                return Ok(sent);
            }
            self.wait();
            match &mut self.to {
                To::Http(http) => self.runtime.block_on(http.send(&lines))?,
                To::Mqtt(mqtt) => self.runtime.block_on(mqtt.send(&lines))?,
                To::Bucket(_) => {}
            }
            self.went(lines.len());
            sent += lines.len() as u64;
            progress(sent);
            if ended {
                return Ok(sent);
            }
        }
    }

    fn wait(&self) {
        if let Some(next) = self.next {
            self.runtime.block_on(sleep_until(next));
        }
    }

    /// Takes note of lines that went out.
    fn went(&mut self, lines: usize) {
        if let Some(rate) = self.rows_per_s {
            let pause = Duration::from_secs_f64(lines as f64 / f64::from(rate.max(1)));
            let now = Instant::now();
            // One that is behind goes on from now, so that no burst follows.
            self.next = Some(self.next.map_or(now, |next| next.max(now)) + pause);
        }
    }
}

pub(crate) fn new_runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("no thread for the network: {e}"))
}

fn bucket(url: &str, endpoint: Option<&str>) -> Result<Objects, String> {
    let place = Place::parse(url)?;
    let connection = Connection {
        endpoint: endpoint.map(str::to_owned),
        // Whoever names an endpoint without TLS on a command line means it.
        allow_http: endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")),
        ..Connection::default()
    };
    match mistakes(&connection).first() {
        Some(mistake) => Err(mistake.to_string()),
        None => Objects::open(&place, &connection),
    }
}
