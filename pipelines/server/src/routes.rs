//! What is served at which path.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use foreline_connectors::{Bell, Door};
use foreline_engine::Table;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::accounts::Accounts;
use crate::limits::{
    BODIES_KIB, COMMAND_BYTES, CONNECTIONS, FOLLOWERS, IDLE_TIME, QUERY_BYTES, RETRY_AFTER,
};
use crate::models::{self, Models};
use crate::pages::Pages;
use crate::problem::{Problem, json as as_json};
use crate::telemetry::{Sent, Spans};
use crate::watch::Watch;
use crate::{
    Ask, Route, Served, Token, access, alerts, auth, compress, cors, custom, intake, openapi,
    query, recent, site, tables, wake,
};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) doors: BTreeMap<String, Arc<Door>>,
    pub(crate) references: BTreeMap<String, Arc<Door>>,
    /// The way in for what people do with alerts.
    pub(crate) commands: Option<Arc<Door>>,
    pub(crate) rules: Vec<String>,
    pub(crate) models: Models,
    pub(crate) bells: BTreeMap<String, Arc<Bell>>,
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
    pub(crate) pages: Pages,
    /// The paths that the file of the pipeline adds.
    pub(crate) custom: BTreeMap<String, Route>,
    pub(crate) queries: Option<Arc<dyn Ask>>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Whether clients speak TLS with it.
    pub(crate) is_secure: bool,
    /// Readers that may still follow a table.
    pub(crate) followers: Arc<Semaphore>,
    /// Whether the server ends.
    pub(crate) stopped: watch::Receiver<bool>,
    /// Kibibytes that bodies may still take.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) spans: Spans,
    pub(crate) sent: Sent,
}

pub(crate) fn router(
    served: Served,
    connections: &Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
) -> (Router, Arc<Site>) {
    let watch = Arc::new(Watch::new(served.watched, (Arc::clone(connections), CONNECTIONS)));
    let origins: Arc<[String]> = served.origins.into();
    let site = Site {
        doors: served.doors.into_iter().collect(),
        references: served.references.into_iter().collect(),
        commands: served.commands,
        rules: served.rules,
        models: Models::new(served.swaps, served.boards, served.works),
        bells: served.bells.into_iter().collect(),
        tables: served.tables.into_iter().collect(),
        pages: Pages::default(),
        custom: served.routes.into_iter().map(|route| (route.path.clone(), route)).collect(),
        queries: served.queries,
        tokens: served.tokens,
        accounts: served.accounts,
        is_secure: served.tls.is_some(),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        stopped,
        memory: Arc::new(Semaphore::new(BODIES_KIB)),
        watch,
        spans: Spans::default(),
        sent: Sent::default(),
    };
    let site = Arc::new(site);
    served.figures.of(&site);
    let people = Router::new()
        .route("/api/v1/auth/me", get(auth::me).fallback(wrong_method))
        .route("/api/v1/auth/login", post(auth::login).fallback(wrong_method))
        .route("/api/v1/auth/signup", post(auth::signup).fallback(wrong_method))
        .route("/api/v1/auth/logout", post(auth::logout).fallback(wrong_method))
        .route("/api/v1/auth/password", post(auth::password).fallback(wrong_method))
        .route("/api/v1/users", get(auth::users).post(auth::add_user).fallback(wrong_method))
        .route("/api/v1/users/{name}", patch(auth::change_user).fallback(wrong_method))
        .route("/api/v1/invitations", post(auth::invite).fallback(wrong_method))
        .route("/api/v1/tokens", get(auth::tokens).post(auth::add_token).fallback(wrong_method))
        .route("/api/v1/tokens/{id}", delete(auth::remove_token).fallback(wrong_method))
        .route("/api/v1/audit", get(auth::audit).fallback(wrong_method))
        .layer(DefaultBodyLimit::max(COMMAND_BYTES));
    let custom = site.custom.iter().map(|(path, route)| (path.as_str(), served_at(route)));
    let custom = custom.fold(Router::new(), |router, (path, at)| Router::route(router, path, at));
    let router = Router::new()
        .merge(people)
        .merge(custom)
        .route("/api/v1/sources/{source}/rows", post(intake::rows).fallback(wrong_method))
        .route("/api/v1/sources/{source}/wake", post(wake::wake).fallback(wrong_method))
        .route(
            "/api/v1/reference/{reference}",
            put(intake::put).delete(intake::delete).fallback(wrong_method),
        )
        .route("/api/v1/tables", get(tables::tables).fallback(wrong_method))
        .route("/api/v1/tables/{table}/rows", get(tables::rows).fallback(wrong_method))
        .route("/api/v1/tables/{table}/latest", get(tables::rows).fallback(wrong_method))
        .route("/api/v1/tables/{table}/stream", get(tables::stream).fallback(wrong_method))
        .route("/api/v1/alerts", get(alerts::list).fallback(wrong_method))
        .route("/api/v1/alerts/stream", get(alerts::stream).fallback(wrong_method))
        .route(
            "/api/v1/alerts/{alert}/{command}",
            post(alerts::command)
                .layer(DefaultBodyLimit::max(COMMAND_BYTES))
                .fallback(wrong_method),
        )
        .route(
            "/api/v1/rules/{rule}/{machine}/{command}",
            post(alerts::rule_command)
                .layer(DefaultBodyLimit::max(COMMAND_BYTES))
                .fallback(wrong_method),
        )
        .route("/api/v1/models", get(models::list).fallback(wrong_method))
        .route("/api/v1/models/{step}", get(models::one).fallback(wrong_method))
        .route(
            "/api/v1/models/{step}/{command}",
            post(models::command)
                .layer(DefaultBodyLimit::max(COMMAND_BYTES))
                .fallback(wrong_method),
        )
        .route(
            "/api/v1/models/{step}/versions/{version}",
            put(models::put)
                .delete(models::delete)
                .layer(DefaultBodyLimit::disable())
                .fallback(wrong_method),
        )
        .route(
            "/api/v1/query",
            post(query::query).layer(DefaultBodyLimit::max(QUERY_BYTES)).fallback(wrong_method),
        )
        .route("/api/v1/tables/{table}/series", get(recent::series).fallback(wrong_method))
        .route("/api/v1/pipeline", get(crate::watch::pipeline).fallback(wrong_method))
        .route("/api/v1/graph", get(crate::watch::graph).fallback(wrong_method))
        .route("/api/v1/dead_letters", get(crate::watch::dead_letters).fallback(wrong_method))
        .route("/api/v1/why-stuck", get(crate::watch::why_stuck).fallback(wrong_method))
        .route("/metrics", get(crate::watch::metrics).fallback(wrong_method))
        .route("/", get(site::index).fallback(wrong_method))
        .route("/assets/{*file}", get(site::asset).fallback(wrong_method))
        .route("/openapi.json", get(openapi::document).fallback(wrong_method))
        .route("/docs", get(openapi::viewer).fallback(wrong_method))
        .route("/docs/viewer.js", get(openapi::viewer_script).fallback(wrong_method))
        .route("/livez", get(live).fallback(wrong_method))
        .route("/readyz", get(ready).fallback(wrong_method))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&site), access::guard))
        .layer(from_fn_with_state(Arc::clone(&site), crate::watch::count))
        .layer(from_fn(compress::compress))
        .layer(from_fn_with_state(origins, cors::cors))
        .with_state(Arc::clone(&site));
    (router, site)
}

/// What is done at a path that a pipeline's file adds.
fn served_at(route: &Route) -> MethodRouter<Arc<Site>> {
    let mut at = MethodRouter::new();
    if route.has(&Method::GET) {
        at = at.get(custom::get);
    }
    if route.has(&Method::POST) {
        at = at.post(custom::post);
    }
    at.fallback(wrong_method)
}

async fn live() -> Response {
    as_json(&json!({ "status": "ok" }))
}

/// Ready is a pipeline whose sources are all asked for records and whose tables can be read: it has caught up with its journal and
/// is not held up.
async fn ready(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let mut waiting = Vec::new();
    for (name, door) in site.doors.iter().chain(&site.references) {
        match door.idle() {
            None => waiting.push(format!("source '{name}' does not take records yet")),
            Some(idle) if idle > IDLE_TIME => waiting.push(format!(
                "source '{name}' was not read for {} s: the journal is full",
                idle.as_secs()
            )),
            Some(_) => {}
        }
    }
    for (name, _) in site.tables.iter().filter(|(_, table)| table.edition().is_none()) {
        waiting.push(format!("table '{name}' is not there yet"));
    }
    if waiting.is_empty() {
        return Ok(as_json(&json!({ "status": "ok" })));
    }
    let detail = waiting.join("; ");
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail).after(RETRY_AFTER))
}

async fn nothing(uri: Uri) -> Problem {
    let detail = format!("there is nothing at '{}'", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
}

async fn wrong_method() -> Problem {
    let detail = "the path is there, but not for this method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

#[cfg(test)]
mod tests {
    use crate::access::NEEDS;

    /// Every path of the router has an entry, and every entry a path.
    #[test]
    fn every_route_says_what_it_needs() {
        let source = include_str!("routes.rs");
        let source = source.split("mod tests").next().unwrap();
        let paths =
            source.split('"').filter(|t| t.starts_with('/') && !t.contains(char::is_whitespace));
        let mut paths: Vec<&str> = paths.collect();
        let mut known: Vec<&str> = NEEDS.iter().map(|(_, path, _)| *path).collect();
        paths.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(paths, known);
    }
}
