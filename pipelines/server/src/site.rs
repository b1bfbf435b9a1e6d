//! `GET /` and `GET /assets/{file}`: the dashboard, built into the command.
//!
//! What a reader would get wrong: the files hold nothing of a pipeline and ask for no token; every figure comes from the API, which does.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::tables::names;

/// A file with its type.
macro_rules! file {
    ($name:literal, $kind:literal) => {
        ($name, $kind, include_str!(concat!("../assets/", $name)))
    };
}

/// Files by name, with their content type.
const FILES: [(&str, &str, &str); 20] = [
    file!("index.html", "text/html; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("app.js", "text/javascript; charset=utf-8"),
    file!("api.js", "text/javascript; charset=utf-8"),
    file!("dom.js", "text/javascript; charset=utf-8"),
    file!("words.js", "text/javascript; charset=utf-8"),
    file!("pages/admin.js", "text/javascript; charset=utf-8"),
    file!("pages/alerts.js", "text/javascript; charset=utf-8"),
    file!("pages/cost.js", "text/javascript; charset=utf-8"),
    file!("pages/diagnoses.js", "text/javascript; charset=utf-8"),
    file!("pages/fleet.js", "text/javascript; charset=utf-8"),
    file!("pages/machine.js", "text/javascript; charset=utf-8"),
    file!("pages/models.js", "text/javascript; charset=utf-8"),
    file!("pages/pipeline.js", "text/javascript; charset=utf-8"),
    file!("pages/sql.js", "text/javascript; charset=utf-8"),
    file!("pages/tables.js", "text/javascript; charset=utf-8"),
    file!("pages/waveform.js", "text/javascript; charset=utf-8"),
    // uPlot 1.6.32, MIT: lines over time. Its licence lies beside it.
    file!("vendor/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    file!("vendor/uPlot.min.css", "text/css; charset=utf-8"),
];

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) async fn index(uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    file("index.html", &uri, &headers)
}

pub(crate) async fn asset(
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // A name that is not text is none of ours.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    file(&name, &uri, &headers)
}

fn file(name: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| {
        let detail = format!("there is nothing at '{}'", uri.path());
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    })?;
    Ok(self::text(kind, text, headers))
}

/// A text that a browser keeps until it has changed.
pub(crate) fn text(kind: &'static str, text: &str, headers: &HeaderMap) -> Response {
    let digest = Sha256::digest(text);
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let about: [(HeaderName, &str); 5] = [
        (header::ETAG, &tag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if known.is_some_and(|known| names(known, &tag)) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, kind)], text.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn text(name: &str) -> &'static str {
        FILES.iter().find(|(known, ..)| *known == name).unwrap().2
    }

    /// What stands between quotation marks behind `before`.
    fn named<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn whatever_a_file_asks_for_is_there() {
        for (name, _, text) in FILES.iter().filter(|(name, ..)| !name.starts_with("vendor/")) {
            let folder = Path::new(name).parent().unwrap();
            for asked in named(text, " from \"") {
                let path = folder.join(asked.trim_start_matches("./"));
                let path = path.to_str().unwrap().replace("pages/../", "");
                assert!(FILES.iter().any(|(known, ..)| *known == path), "{name}: {path}");
            }
            for asked in named(text, "=\"/assets/") {
                assert!(FILES.iter().any(|(known, ..)| *known == asked), "{name}: {asked}");
            }
            assert!(!text.contains("https://") && !text.contains("innerHTML"), "{name}");
        }
    }

    /// The keys of one language in `words.js`.
    fn keys(language: &str) -> BTreeSet<&'static str> {
        let words = text("words.js");
        let block = words.split(&format!("\n  {language}: {{\n")).nth(1).unwrap();
        let block = block.split("\n  },").next().unwrap();
        // Outside of what is said, a word and a colon is a key.
        let outside = block.split('"').step_by(2);
        outside
            .flat_map(|part| part.split([',', '\n']))
            .filter_map(|part| part.trim().strip_suffix(':').filter(|key| !key.is_empty()))
            .collect()
    }

    #[test]
    fn every_language_has_the_same_words_and_pages_use_no_others() {
        let english = keys("en");
        assert!(english.len() > 60, "{english:?}");
        assert_eq!(english, keys("ko"));
        for (name, _, text) in
            FILES.iter().filter(|(name, ..)| name.ends_with(".js") && !name.starts_with("vendor/"))
        {
            for key in named(text, "say(\"") {
                assert!(english.contains(key), "{name}: {key}");
            }
        }
    }
}
