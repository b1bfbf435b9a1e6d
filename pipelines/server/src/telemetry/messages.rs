//! The protocol's messages, made of what the server knows.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as WireSpan, Status, span, status,
};

use super::{Line, Span};
use crate::watch::Family;

const SCOPE: &str = "foreline";

fn text(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    pair(key, value)
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}

/// Times before 1970 do not come from a clock.
fn unsigned(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0)
}

/// Who says it.
pub(super) fn resource(pipeline: &str, version: &str) -> Option<Resource> {
    let attributes = vec![
        text("service.name", "foreline"),
        text("service.instance.id", pipeline),
        text("service.version", version),
        text("foreline.pipeline", pipeline),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

/// The unit of a figure, as UCUM has it, by the end of its name.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ if name.contains("_rows") => "{row}",
        _ => "1",
    }
}

/// Figures between two times.
pub(super) fn metrics(
    resource: Option<Resource>,
    families: &[Family],
    (begun, now): (i64, i64),
) -> ExportMetricsServiceRequest {
    let metrics = families.iter().map(|(about, values)| {
        let data_points = values.iter().map(|(of, value)| NumberDataPoint {
            attributes: about.labels.iter().zip(of).map(|(key, of)| text(key, of)).collect(),
            start_time_unix_nano: unsigned(begun),
            time_unix_nano: unsigned(now),
            value: Some(number_data_point::Value::AsDouble(*value)),
            ..NumberDataPoint::default()
        });
        let data_points = data_points.collect();
        let data = match about.kind {
            "counter" => metric::Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            _ => metric::Data::Gauge(Gauge { data_points }),
        };
        Metric {
            name: about.name.to_owned(),
            description: about.help.to_owned(),
            unit: unit(about.name).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    });
    let scope_metrics = vec![ScopeMetrics {
        scope: scope(),
        metrics: metrics.collect(),
        ..ScopeMetrics::default()
    }];
    let of = ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of] }
}

pub(super) fn traces(resource: Option<Resource>, spans: &[Span]) -> ExportTraceServiceRequest {
    let spans = spans.iter().map(|of| {
        let texts = of.text.iter().map(|(key, value)| text(key, value));
        let numbers = of.numbers.iter().map(|(key, n)| pair(key, any_value::Value::IntValue(*n)));
        let kind = if of.is_served { span::SpanKind::Server } else { span::SpanKind::Internal };
        WireSpan {
            trace_id: of.trace.to_vec(),
            span_id: of.id.to_vec(),
            parent_span_id: of.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: of.name.clone(),
            kind: kind.into(),
            start_time_unix_nano: unsigned(of.from_ns),
            end_time_unix_nano: unsigned(of.to_ns),
            attributes: texts.chain(numbers).collect(),
            status: of
                .is_error
                .then(|| Status { code: status::StatusCode::Error.into(), ..Status::default() }),
            ..WireSpan::default()
        }
    });
    let scope_spans =
        vec![ScopeSpans { scope: scope(), spans: spans.collect(), ..ScopeSpans::default() }];
    let of = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![of] }
}

pub(super) fn logs(resource: Option<Resource>, lines: &[Line]) -> ExportLogsServiceRequest {
    let records = lines.iter().map(|line| {
        let severity = match line.level {
            tracing::Level::ERROR => SeverityNumber::Error,
            tracing::Level::WARN => SeverityNumber::Warn,
            tracing::Level::INFO => SeverityNumber::Info,
            tracing::Level::DEBUG => SeverityNumber::Debug,
            tracing::Level::TRACE => SeverityNumber::Trace,
        };
        let target = std::iter::once(text("target", &line.target));
        let fields = line.fields.iter().map(|(key, value)| text(key, value));
        LogRecord {
            time_unix_nano: unsigned(line.time_ns),
            observed_time_unix_nano: unsigned(line.time_ns),
            severity_number: severity.into(),
            severity_text: line.level.as_str().to_owned(),
            body: Some(AnyValue {
                value: Some(any_value::Value::StringValue(line.message.clone())),
            }),
            attributes: target.chain(fields).collect(),
            ..LogRecord::default()
        }
    });
    let scope_logs =
        vec![ScopeLogs { scope: scope(), log_records: records.collect(), ..ScopeLogs::default() }];
    let of = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![of] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::METRICS;

    #[test]
    fn every_figure_has_its_unit() {
        for metric in METRICS {
            let unit = unit(metric.name);
            let is_time = metric.name.contains("_seconds");
            assert_eq!(unit == "s", is_time, "{}", metric.name);
            assert_eq!(unit == "By", metric.name.ends_with("_bytes"), "{}", metric.name);
        }
    }
}
