//! What took how long: epochs from their closing to the sinks, and requests.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderMap;
use foreline_engine::{Clock as _, SystemClock, Vitals};
use sha2::{Digest as _, Sha256};

use super::queue::Queue;

/// A thing that began and ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: String,
    /// Whether somebody asked for it from outside.
    pub(super) is_served: bool,
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    pub(super) text: Vec<(&'static str, String)>,
    pub(super) numbers: Vec<(&'static str, i64)>,
    pub(super) is_error: bool,
}

/// Those that wait for a collector.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    pub(super) queue: Queue<Span>,
    made: AtomicU64,
}

/// The trace that a client says a request is a part of (W3C Trace Context), and its span there.
pub(crate) fn context(headers: &HeaderMap) -> Option<([u8; 16], [u8; 8])> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let mut ids = ([0; 16], [0; 8]);
    if version.len() != 2 || version == "ff" || !hex(trace, &mut ids.0) || !hex(parent, &mut ids.1)
    {
        return None;
    }
    (ids.0 != [0; 16] && ids.1 != [0; 8]).then_some(ids)
}

/// Reads lower-case hexadecimal digits.
fn hex(text: &str, into: &mut [u8]) -> bool {
    let digit = |byte: u8| (byte as char).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != into.len() * 2 {
        return false;
    }
    pairs.zip(into).all(|(pair, to)| match (digit(pair[0]), digit(pair[1])) {
        (Some(high), Some(low)) => {
            *to = u8::try_from(high * 16 + low).unwrap_or_default();
            true
        }
        _ => false,
    })
}

impl Spans {
    pub(super) fn begin(&self) {
        self.queue.begin();
    }

    /// Whether anybody takes them.
    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_on()
    }

    /// Numbers that no other span of this or another process has.
    fn ids(&self) -> ([u8; 16], [u8; 8]) {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let mut digest = Sha256::new();
        digest.update(std::process::id().to_le_bytes());
        digest.update(SystemClock.now_ns().to_le_bytes());
        digest.update(made.to_le_bytes());
        digest.update((std::ptr::from_ref(self) as usize).to_le_bytes());
        let digest = digest.finalize();
        let mut ids = ([0; 16], [0; 8]);
        ids.0.copy_from_slice(&digest[..16]);
        ids.1.copy_from_slice(&digest[16..24]);
        ids
    }

    /// A request was answered.
    pub(crate) fn request(
        &self,
        context: Option<([u8; 16], [u8; 8])>,
        (method, route, status): (&'static str, &str, u16),
        (from_ns, to_ns): (i64, i64),
    ) {
        let (own, id) = self.ids();
        self.queue.push(Span {
            trace: context.map_or(own, |(trace, _)| trace),
            id,
            parent: context.map(|(_, parent)| parent),
            name: format!("{method} {route}"),
            is_served: true,
            from_ns,
            to_ns,
            text: vec![
                ("http.request.method", method.to_owned()),
                ("http.route", route.to_owned()),
            ],
            numbers: vec![("http.response.status_code", i64::from(status))],
            is_error: status >= 500,
        });
    }

    /// The epochs that got through since this was done last.
    pub(super) fn take_epochs(&self, vitals: &Vitals) {
        for epoch in vitals.take_epochs() {
            let (trace, id) = self.ids();
            self.queue.push(Span {
                trace,
                id,
                parent: None,
                name: "epoch".to_owned(),
                is_served: false,
                from_ns: epoch.closed_ns,
                to_ns: epoch.through_ns,
                text: Vec::new(),
                numbers: vec![("foreline.epoch", i64::try_from(epoch.epoch).unwrap_or(i64::MAX))],
                is_error: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_up_where_it_is_one() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            context(&headers)
        };
        let (trace, parent) =
            of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((trace[0], trace[15], parent[0], parent[7]), (0x0a, 0x9c, 0xb7, 0x31));
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        let spans = Spans::default();
        assert_ne!(spans.ids(), spans.ids());
    }
}
