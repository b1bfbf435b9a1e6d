//! Answers are compressed for whoever takes that.
//!
//! What a reader would get wrong: only whole bodies are, so a stream of events is never held back; and as the tag of a compressed answer stands for other bytes,
//! it becomes a weak one, which `If-None-Match` may be shown as it is.

use std::io::{self, Write as _};

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::limits::COMPRESS_BYTES;
use crate::problem::Problem;

/// Quick rather than small: networks of plants are faster than the cores of a gateway.
const ZSTD_LEVEL: i32 = 1;

/// What an answer can be compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Zstd,
    Gzip,
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Packing::Zstd => "zstd",
            Packing::Gzip => "gzip",
        }
    }

    /// What is liked best of what is accepted; zstd where both are liked the same.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Packing)> = None;
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        for part in lines.flat_map(|line| line.split(',')) {
            let (name, options) = part.split_once(';').unwrap_or((part, ""));
            let weight = options.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            let packing = match name.trim().to_ascii_lowercase().as_str() {
                "zstd" => Packing::Zstd,
                "gzip" | "x-gzip" => Packing::Gzip,
                _ => continue,
            };
            let Ok(weight) = weight else { continue };
            let is_better = best.is_none_or(|(other, _)| {
                weight > other || (weight >= other && packing == Packing::Zstd)
            });
            if weight > 0.0 && is_better {
                best = Some((weight, packing));
            }
        }
        best.map(|(_, packing)| packing)
    }

    fn pack(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Packing::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// Compresses the answer, if that is worth it.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let packing = Packing::accepted(request.headers());
    let mut response = next.run(request).await;
    if !is_text(response.headers()) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let is_large = response.body().size_hint().exact().is_some_and(|n| n >= COMPRESS_BYTES);
    match packing {
        Some(packing) if is_large => packed(response, packing).await,
        _ => response,
    }
}

/// Whether the body is one that gets smaller; files of Parquet are compressed already.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    !headers.contains_key(header::CONTENT_ENCODING)
        && kind != "text/event-stream"
        && (kind.starts_with("text/")
            || kind.ends_with("json")
            || kind == "image/svg+xml"
            || kind == "application/vnd.apache.arrow.stream")
}

async fn packed(response: Response, packing: Packing) -> Response {
    let (mut head, body) = response.into_parts();
    let bug = || {
        let detail = "the answer could not be compressed (a bug)";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
    };
    // It is in memory as it is.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return bug() };
    let Ok(Ok(packed)) = tokio::task::spawn_blocking(move || packing.pack(&bytes)).await else {
        return bug();
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
    let tag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(tag) = tag.filter(|tag| tag.starts_with('"'))
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        head.headers.insert(header::ETAG, weak);
    }
    Response::from_parts(head, Body::from(packed))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_liked_best_is_taken() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
            Packing::accepted(&headers)
        };
        assert_eq!(Packing::accepted(&HeaderMap::new()), None);
        assert_eq!(of("gzip, deflate, br, zstd"), Some(Packing::Zstd));
        assert_eq!(of("gzip;q=1.0, zstd;q=0.5"), Some(Packing::Gzip));
        assert_eq!(of("GZIP, zstd;q=0"), Some(Packing::Gzip));
        for none in ["", "identity", "br", "gzip;q=0", "zstd;q=much"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let text = "a row like the one before\n".repeat(1000);
        let packed = Packing::Zstd.pack(text.as_bytes()).unwrap();
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), text.as_bytes());
        let packed = Packing::Gzip.pack(text.as_bytes()).unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
        assert!(unpacked == text && packed.len() < text.len() / 10);
    }
}
