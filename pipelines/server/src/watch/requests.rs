//! Requests and queries, counted by what they asked for and how they were answered.
//!
//! What a reader would get wrong: a route is a pattern of the server's, such as `/api/v1/tables/{table}/rows`, never the path
//! that a client made up: there are as many counters as routes, and no more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use foreline_engine::{Clock as _, SystemClock};

use crate::routes::Site;
use crate::telemetry;

/// What was asked, how often.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    by_route: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    answered: AtomicU64,
    refused: AtomicU64,
}

impl Requests {
    /// By route, method and status.
    pub(super) fn by_route(&self) -> BTreeMap<(String, &'static str, u16), u64> {
        self.by_route.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Queries that were answered, and those that were not.
    pub(super) fn queries(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// A query was answered, or not.
    pub(crate) fn query(&self, is_answered: bool) {
        let counter = if is_answered { &self.answered } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, route: String, method: &'static str, status: u16) {
        let mut by_route = self.by_route.lock().unwrap_or_else(PoisonError::into_inner);
        *by_route.entry((route, method, status)).or_default() += 1;
    }
}

/// Counts a request by its answer.
pub(crate) async fn count(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let is_traced = site.spans.is_on();
    let context = if is_traced { telemetry::context(request.headers()) } else { None };
    let begun = SystemClock.now_ns();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    if is_traced {
        site.spans.request(context, (method, &route, status), (begun, SystemClock.now_ns()));
    }
    site.watch.requests.note(route, method, status);
    response
}
