//! `GET /openapi.json` and `GET /docs`: the API as OpenAPI 3.1, and a viewer of it that is built into the command.
//!
//! What a reader would get wrong:
//!
//! * The document is written here and not derived from handlers: what they answer has the columns of a pipeline, which no type of Rust knows. That it is true
//!   is tested: every route is in it and nothing else, and a running pipeline is asked at random whether it answers as declared.
//! * What is served also names what this pipeline has, as values of parameters, to whoever may use the API. `docs/openapi.json` is the same without them.

mod components;
mod document;
mod operations;
mod people;
mod watching;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::access::Who;
use crate::accounts::Scope;
use crate::routes::Site;
use crate::site;

/// `RapiDoc` 9.3.8, MIT, as `dist/rapidoc-min.js` of the package `rapidoc`; its licence lies beside it, its digest is in a test.
const VIEWER: &str = include_str!("../assets/vendor/rapidoc-min.js");
const PAGE: &str = include_str!("../assets/docs.html");
/// As that of the dashboard, but that the viewer's own elements have styles of their own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document.
pub(crate) async fn document(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
) -> Response {
    let mut document = written();
    if who.scopes.contains(&Scope::Read) {
        name(&site, &mut document);
        add(&site, &mut document);
    }
    let mut response = site::text("application/json", &document.to_string(), &headers);
    let shown = HeaderValue::from_static("authorization, cookie");
    response.headers_mut().append(header::VARY, shown);
    response
}

/// The viewer.
pub(crate) async fn viewer(headers: HeaderMap) -> Response {
    let mut response = site::text("text/html; charset=utf-8", PAGE, &headers);
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// What draws it.
pub(crate) async fn viewer_script(headers: HeaderMap) -> Response {
    site::text("text/javascript; charset=utf-8", VIEWER, &headers)
}

/// Has parameters be what there is.
fn name(site: &Site, document: &mut Value) {
    let of = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>();
    let sources = of(&mut site.doors.keys().chain(site.bells.keys()));
    let references = of(&mut site.references.keys());
    let tables = of(&mut site.tables.keys());
    let rules = site.rules.clone();
    let models = site.models.names();
    let named = [
        ("source", sources),
        ("reference", references),
        ("table", tables),
        ("rule", rules.clone()),
        ("rule_filter", rules),
        ("step", models),
    ];
    for (parameter, names) in named {
        if !names.is_empty() {
            document["components"]["parameters"][parameter]["schema"]["enum"] = json!(names);
        }
    }
}

/// Adds the paths that the file of the pipeline adds: as the API's own for rows and queries, but for what is asked and given.
fn add(site: &Site, document: &mut Value) {
    for (path, route) in &site.custom {
        let like = |path: &str| document["paths"][path]["post"].clone();
        let mut at = json!({});
        if let Some(get) = &route.get {
            let mut operation = like("/api/v1/query");
            operation["operationId"] = json!(format!("get {path}"));
            operation["summary"] = json!("Rows, a page at a time");
            operation["description"] = json!(PAGES);
            operation["parameters"] = json!(get.parameters());
            let rows = json!({ "type": "array", "items": get.row() });
            operation["responses"]["200"]["content"]["application/json"] =
                json!({ "schema": rows });
            for (name, about) in [("Link", "The page behind."), ("Foreline-Next", "Its `cursor`.")]
            {
                operation["responses"]["200"]["headers"][name] =
                    json!({ "description": about, "schema": { "type": "string" } });
            }
            if let Some(object) = operation.as_object_mut() {
                object.remove("requestBody");
            }
            if let Some(answers) = operation["responses"].as_object_mut() {
                for other in ["413", "415"] {
                    answers.remove(other);
                }
            }
            at["get"] = operation;
        }
        if let Some(source) = &route.post {
            let mut operation = like("/api/v1/sources/{source}/rows");
            operation["operationId"] = json!(format!("post {path}"));
            operation["summary"] = json!(format!("Give rows to the source {source}"));
            if let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.retain(|p| p["$ref"] != "#/components/parameters/source");
            }
            at["post"] = operation;
        }
        for method in ["get", "post"] {
            if at.get(method).is_some() {
                at[method]["tags"] = json!(["routes"]);
            }
        }
        document["paths"][path] = at;
    }
    let about = "Paths that the file of this pipeline adds.";
    if !site.custom.is_empty()
        && let Some(tags) = document["tags"].as_array_mut()
    {
        tags.insert(0, json!({ "name": "routes", "description": about }));
    }
}

const PAGES: &str = "All tables are read at the end of one epoch. Where there are more rows, the header `Link` leads to the next page and `foreline-next` is its \
    `cursor`. The form of the answer is that of `accept`.";

/// The document of any pipeline.
fn written() -> Value {
    let mut paths = Map::new();
    for operation in operations::all() {
        let (path, method) = (operation.path, operation.method);
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method] = operation.written();
    }
    let tag = |name: &str, about: &str| json!({ "name": name, "description": about });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Foreline",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A pipeline of predictive maintenance, while it runs",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            tag("sources", "Rows come in."),
            tag("tables", "What the pipeline knows, as of the end of an epoch."),
            tag("alerts", "What is wrong, and what people do about it."),
            tag("models", "Models that are changed while they run."),
            tag("query", "SQL."),
            tag("watch", "How the pipeline goes."),
            tag("accounts", "Who there is, and who is logged in."),
            tag("health", "For whoever restarts it."),
            tag("site", "The dashboard and this document."),
        ],
        "security": [{}, { "bearer": [] }, { "session": [] }],
        "paths": paths,
        "components": components::components(),
    })
}

const ABOUT: &str = "Everything that is not a success is `application/problem+json`; its `type` ends in a word that programs may compare. Tables are read as of \
    the end of an epoch, which their `ETag` names: with it as `If-None-Match` a client that polls is answered 304 until something has changed, and with `wait` it is answered \
    when something does. A method that a path does not have is answered 405 with `Allow`. Large answers are compressed with zstd or gzip where `Accept-Encoding` has one.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest, Sha256};

    use super::*;

    /// The files that have routes. One that is not here has routes that nobody checks.
    const ROUTERS: [&str; 1] = [include_str!("routes.rs")];

    /// Every method and path that a router has: what stands between one `.route(` and the next.
    fn routed(text: &str) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for route in text.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            let path = path.replace("{*", "{");
            let handlers = route.split_once('"').unwrap().1.split(".with_state").next().unwrap();
            for method in ["get", "post", "put", "delete", "patch"] {
                let is_there =
                    [' ', '.', '\n'].iter().any(|b| handlers.contains(&format!("{b}{method}(")));
                if is_there {
                    found.insert((method.to_owned(), path.clone()));
                }
            }
        }
        found
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let routes: BTreeSet<_> = ROUTERS.iter().flat_map(|text| routed(text)).collect();
        assert!(routes.len() > 20, "{routes:?}");
        let document: Vec<_> = operations::all();
        let documented: BTreeSet<_> =
            document.iter().map(|o| (o.method.to_owned(), o.path.to_owned())).collect();
        assert_eq!(documented.len(), document.len(), "an operation is there twice");
        assert_eq!(routes, documented);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let document = written();
        let text = document.to_string();
        let named: BTreeSet<&str> =
            text.split("\"#/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for name in &named {
            assert!(document.pointer(&format!("/{name}")).is_some(), "{name}");
        }
        for sort in ["parameters", "headers", "schemas"] {
            for (name, _) in document["components"][sort].as_object().unwrap() {
                assert!(named.contains(format!("components/{sort}/{name}").as_str()), "{name}");
            }
        }
        let ids: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values().map(|o| &o["operationId"]))
            .collect();
        assert_eq!(
            ids.iter().map(|id| id.as_str().unwrap()).collect::<BTreeSet<_>>().len(),
            ids.len()
        );
    }

    /// What is in a path is a parameter, and the other way round.
    #[test]
    fn paths_and_their_parameters_agree() {
        let document = written();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let there: BTreeSet<&str> =
                path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            for operation in methods.as_object().unwrap().values() {
                let declared = operation["parameters"].as_array().into_iter().flatten();
                let declared =
                    declared.map(|p| p["$ref"].as_str().unwrap().trim_start_matches('#'));
                let declared = declared.map(|at| document.pointer(at).unwrap());
                let declared: BTreeSet<&str> = declared
                    .filter(|p| p["in"] == "path")
                    .map(|p| p["name"].as_str().unwrap())
                    .collect();
                assert_eq!(there, declared, "{path}");
            }
        }
    }

    #[test]
    fn the_document_in_docs_is_this_one() {
        let text = serde_json::to_string_pretty(&written()).unwrap() + "\n";
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        if std::env::var_os("FORELINE_UPDATE").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == text, "docs/openapi.json is another: run this test with FORELINE_UPDATE=1");
    }

    #[test]
    fn every_kind_of_problem_is_in_the_table_of_the_docs() {
        let document = written().to_string();
        let kinds: BTreeSet<&str> = document
            .split("\"urn:foreline:problem:")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let page = include_str!("../../../docs/api.md");
        let missing: Vec<_> =
            kinds.iter().filter(|kind| !page.contains(&format!("`{kind}`"))).collect();
        assert!(kinds.len() > 30 && missing.is_empty(), "{missing:?} of {kinds:?}");
    }

    #[test]
    fn the_viewer_is_what_was_published() {
        let digest: String = Sha256::digest(VIEWER).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, "affbd173a65e870e18f392cca963113bcdafb6e50e88cd2f6a834a65b22db94d");
        assert!(
            !PAGE.contains("https://") && !PAGE.contains("<script>") && !PAGE.contains(" style=")
        );
    }
}
