//! Telemetry of the real command, as a collector decodes it; and a collector that is away, or refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use foreline_tests::live::{Running, ask, eventually};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;

const COMMAND: &str = env!("CARGO_BIN_EXE_foreline");

fn pipeline(collector: SocketAddr) -> String {
    format!(
        "version: 1
name: plant
sources:
  readings:
    http: {{ max_requests_per_s: 100000 }}
    columns: {{ machine: string, ts: timestamp, v: float64 }}
    key: [machine]
    time: ts
    lateness: 0s
views:
  latest: {{ from: readings, latest: {{}} }}
sinks:
  lake: {{ from: [readings], parquet: {{ path: lake }} }}
  loud: {{ from: [readings], log: {{ level: warn }} }}
epoch: {{ interval: 5ms }}
serve:
  listen: 127.0.0.1:0
  otlp: {{ url: \"http://{collector}\", interval: 100ms, headers: {{ authorization: \"Bearer secret\" }} }}
"
    )
}

/// What a collector was sent.
#[derive(Default)]
struct Heard {
    metrics: Vec<ExportMetricsServiceRequest>,
    traces: Vec<ExportTraceServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
    /// The heads of requests, in lower case.
    heads: Vec<String>,
    /// What requests are answered.
    status: u16,
}

/// A collector: it takes requests one after the other.
fn collector(listener: TcpListener, status: u16) -> Arc<Mutex<Heard>> {
    let heard = Arc::new(Mutex::new(Heard { status, ..Heard::default() }));
    let shared = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, heard) = (stream.unwrap(), Arc::clone(&shared));
            // Connections are kept, so each has a thread. The test ends with the process.
            std::thread::spawn(move || serve(stream, &heard));
        }
    });
    heard
}

fn serve(mut stream: std::net::TcpStream, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        reader.read_exact(&mut body)?;
        let mut heard = heard.lock().unwrap();
        if heard.status == 200 {
            let path = head.split(' ').nth(1).unwrap();
            match path {
                "/v1/metrics" => heard.metrics.push(Message::decode(&body[..]).unwrap()),
                "/v1/traces" => heard.traces.push(Message::decode(&body[..]).unwrap()),
                "/v1/logs" => heard.logs.push(Message::decode(&body[..]).unwrap()),
                other => panic!("{other}"),
            }
            heard.heads.push(head);
        }
        write!(stream, "HTTP/1.1 {} x\r\ncontent-length: 0\r\n\r\n", heard.status)?;
    }
}

fn text(of: &[KeyValue], key: &str) -> Option<String> {
    let value = of.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()?;
    match value {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(n) => Some(n.to_string()),
        _ => None,
    }
}

impl Heard {
    fn spans(&self) -> Vec<Span> {
        let of = self.traces.iter().flat_map(|request| &request.resource_spans);
        of.flat_map(|of| &of.scope_spans).flat_map(|of| of.spans.clone()).collect()
    }

    /// The latest value of a figure with this label.
    fn figure(&self, name: &str, label: (&str, &str)) -> Option<f64> {
        let last = self.metrics.last()?;
        let metrics = last.resource_metrics.iter().flat_map(|of| &of.scope_metrics);
        let found = metrics.flat_map(|of| &of.metrics).find(|metric| metric.name == name)?;
        let points = match found.data.as_ref()? {
            metric::Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                &sum.data_points
            }
            metric::Data::Gauge(gauge) => &gauge.data_points,
            _ => return None,
        };
        let of = |p: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            text(&p.attributes, label.0).as_deref() == Some(label.1)
        };
        let point = points.iter().find(of)?;
        assert!(
            point.start_time_unix_nano > 0 && point.time_unix_nano >= point.start_time_unix_nano
        );
        match point.value? {
            number_data_point::Value::AsDouble(value) => Some(value),
            number_data_point::Value::AsInt(_) => None,
        }
    }
}

fn row(machine: u32) -> String {
    json!([{ "machine": format!("M-{machine}"), "ts": "2026-03-01T00:00:00Z", "v": 1.5 }])
        .to_string()
}

#[test]
fn a_collector_hears_of_rows_epochs_requests_and_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let heard = collector(listener, 200);
    let running = Running::new(COMMAND, &pipeline(at), &[]);
    for machine in 0..3 {
        running.send("POST /api/v1/sources/readings/rows", &row(machine));
    }
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(ask(running.address, "GET /api/v1/tables", parent, b"").unwrap().status, 200);
    eventually("the rows are counted", || {
        let figure = ("foreline_source_rows_in_total", ("source", "readings"));
        heard.lock().unwrap().figure(figure.0, figure.1) == Some(3.0)
    });
    let request = |span: &Span| span.name == "GET /api/v1/tables";
    eventually("the request is told of", || heard.lock().unwrap().spans().iter().any(request));
    eventually("an epoch is told of", || {
        heard.lock().unwrap().spans().iter().any(|span| span.name == "epoch")
    });
    eventually("the log is told of", || !heard.lock().unwrap().logs.is_empty());
    let heard = heard.lock().unwrap();
    let spans = heard.spans();
    let asked = spans.iter().find(|span| request(span)).unwrap();
    assert_eq!(asked.trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(asked.parent_span_id[..2], [0xb7, 0xad]);
    assert_eq!(text(&asked.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert!(asked.end_time_unix_nano >= asked.start_time_unix_nano && asked.kind == 2);
    let epochs: Vec<u64> = spans
        .iter()
        .filter(|span| span.name == "epoch")
        .map(|span| text(&span.attributes, "foreline.epoch").unwrap().parse().unwrap())
        .collect();
    assert!(epochs.is_sorted_by(|a, b| a < b), "each once, in order: {epochs:?}");
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    let resource = heard.metrics[0].resource_metrics[0].resource.as_ref().unwrap();
    assert_eq!(text(&resource.attributes, "foreline.pipeline").as_deref(), Some("plant"));
    let lines = heard.logs.iter().flat_map(|of| &of.resource_logs).flat_map(|of| &of.scope_logs);
    let line = lines.flat_map(|of| &of.log_records).next().unwrap();
    assert_eq!(line.severity_text, "WARN");
    let head = &heard.heads[0];
    assert!(head.contains("authorization: bearer secret"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
}

#[test]
fn nothing_waits_for_a_collector_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let heard = collector(listener, 503);
    let running = Running::new(COMMAND, &pipeline(at), &[]);
    running.send("POST /api/v1/sources/readings/rows", &row(1));
    let metrics = || ask(running.address, "GET /metrics", "", b"").unwrap().body;
    let figure = |text: &str, name: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let refused = "foreline_otlp_requests_total{signal=\"traces\",outcome=\"refused\"}";
    eventually("it has refused", || figure(&metrics(), refused).is_some_and(|n| n >= 3.0));
    assert_eq!(figure(&metrics(), "foreline_otlp_lost_total{signal=\"traces\"}"), Some(0.0));
    assert!(running.lake("readings").rows().len() <= 1);
    heard.lock().unwrap().status = 200;
    eventually("the request of that time is told of", || {
        let name = "POST /api/v1/sources/{source}/rows";
        heard.lock().unwrap().spans().iter().any(|span| span.name == name)
    });
    let said = std::fs::read_to_string(running.folder.path().join("stderr")).unwrap();
    assert_eq!(said.matches("takes no telemetry").count(), 1, "said once: {said}");
    assert!(!said.contains("secret"), "{said}");
}
