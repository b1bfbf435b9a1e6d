//! Who may do what: one table of routes, and one place where every request is looked at.
//!
//! What a reader would get wrong:
//!
//! * A route that is not in [`NEEDS`] is refused to everybody; a test says which one was forgotten.
//! * Where there is neither a token nor an account everybody may do everything. That is only so on an address of this machine, and
//!   there a page of somebody else's, open in a browser, is kept out: by the name that it calls this server, and by the origin
//!   that the browser tells.
//! * A cookie is sent by the browser whether or not the user wants it: what changes something needs a header that no form and no
//!   image can send.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::accounts::{Role, Scope};
use crate::problem::Problem;
use crate::routes::Site;

/// The cookie of a session.
pub(crate) const COOKIE: &str = "foreline_session";
/// What a request of a page of ours has that changes something.
const REQUEST: &str = "x-foreline-request";

/// A token that may be shown. Only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Token(Sha256::digest(text).into())
    }

    /// Whether `text` is it. How long that takes says nothing about how much of it is right.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let shown = Sha256::digest(text);
        self.0.iter().zip(&*shown).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The address that a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it tells nothing of a pipeline.
    Nothing,
    /// Somebody who is logged in.
    Account,
    /// This.
    Scope(Scope),
}

const READ: Need = Need::Scope(Scope::Read);
const ACK: Need = Need::Scope(Scope::Ack);
const WRITE: Need = Need::Scope(Scope::Write);
const SWAP: Need = Need::Scope(Scope::Swap);
const ADMIN: Need = Need::Scope(Scope::Admin);

/// What each route needs, by method and path.
pub(crate) const NEEDS: &[(Method, &str, Need)] = &[
    (Method::POST, "/api/v1/sources/{source}/rows", WRITE),
    (Method::POST, "/api/v1/sources/{source}/wake", WRITE),
    (Method::PUT, "/api/v1/reference/{reference}", WRITE),
    (Method::DELETE, "/api/v1/reference/{reference}", WRITE),
    (Method::GET, "/api/v1/tables", READ),
    (Method::GET, "/api/v1/tables/{table}/rows", READ),
    (Method::GET, "/api/v1/tables/{table}/latest", READ),
    (Method::GET, "/api/v1/tables/{table}/stream", READ),
    (Method::GET, "/api/v1/alerts", READ),
    (Method::GET, "/api/v1/alerts/stream", READ),
    (Method::POST, "/api/v1/alerts/{alert}/{command}", ACK),
    (Method::POST, "/api/v1/rules/{rule}/{machine}/{command}", ACK),
    (Method::GET, "/api/v1/models", READ),
    (Method::GET, "/api/v1/models/{step}", READ),
    (Method::POST, "/api/v1/models/{step}/{command}", SWAP),
    (Method::PUT, "/api/v1/models/{step}/versions/{version}", SWAP),
    (Method::DELETE, "/api/v1/models/{step}/versions/{version}", SWAP),
    (Method::POST, "/api/v1/query", READ),
    (Method::GET, "/api/v1/tables/{table}/series", READ),
    (Method::GET, "/api/v1/pipeline", READ),
    (Method::GET, "/api/v1/graph", READ),
    (Method::GET, "/api/v1/dead_letters", READ),
    (Method::GET, "/api/v1/why-stuck", READ),
    (Method::GET, "/metrics", READ),
    (Method::GET, "/api/v1/auth/me", Need::Nothing),
    (Method::POST, "/api/v1/auth/login", Need::Nothing),
    (Method::POST, "/api/v1/auth/signup", Need::Nothing),
    (Method::POST, "/api/v1/auth/logout", Need::Nothing),
    (Method::POST, "/api/v1/auth/password", Need::Account),
    (Method::GET, "/api/v1/users", ADMIN),
    (Method::POST, "/api/v1/users", ADMIN),
    (Method::PATCH, "/api/v1/users/{name}", ADMIN),
    (Method::POST, "/api/v1/invitations", ADMIN),
    (Method::GET, "/api/v1/tokens", ADMIN),
    (Method::POST, "/api/v1/tokens", ADMIN),
    (Method::DELETE, "/api/v1/tokens/{id}", ADMIN),
    (Method::GET, "/api/v1/audit", ADMIN),
    (Method::GET, "/", Need::Nothing),
    (Method::GET, "/assets/{*file}", Need::Nothing),
    (Method::GET, "/openapi.json", Need::Nothing),
    (Method::GET, "/docs", Need::Nothing),
    (Method::GET, "/docs/viewer.js", Need::Nothing),
    (Method::GET, "/livez", Need::Nothing),
    (Method::GET, "/readyz", Need::Nothing),
];

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The name, for the audit log: of a user, `token:name`, or nothing.
    pub(crate) name: String,
    /// The user who is logged in.
    pub(crate) user: Option<(String, Role)>,
    /// What may be done.
    pub(crate) scopes: Vec<Scope>,
    /// From where.
    pub(crate) from: IpAddr,
}

impl Who {
    /// Whose word something is: a user's own name; a program may tell one.
    pub(crate) fn author(&self, told: Option<String>) -> Option<String> {
        match &self.user {
            Some((name, _)) => Some(name.clone()),
            None => told.or_else(|| (!self.name.is_empty()).then(|| self.name.clone())),
        }
    }
}

const ALL: [Scope; 5] = [Scope::Read, Scope::Ack, Scope::Write, Scope::Swap, Scope::Admin];

/// Looks at every request before it is answered, and writes down what was changed.
pub(crate) async fn guard(
    State(site): State<Arc<Site>>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    // A path that is not there is told so, and a method that it has not.
    let Some(matched) = matched else { return next.run(request).await };
    let (method, path) = (request.method().clone(), matched.as_str().to_owned());
    let mut routes = NEEDS.iter().filter(|(_, known, _)| *known == path);
    let get = if method == Method::HEAD { Method::GET } else { method.clone() };
    let need = match routes.clone().find(|(known, ..)| *known == get) {
        Some((.., need)) => *need,
        None if routes.next().is_some() => return next.run(request).await,
        None if let Some(route) = site.custom.get(&path) => match route.has(&get) {
            true if get == Method::GET => READ,
            true => WRITE,
            false => return next.run(request).await,
        },
        None => return forbidden("the route has no entry (a bug)").into_response(),
    };
    let from = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let who = match admit(&site, request.headers(), &method, need, from) {
        Ok(who) => who,
        Err(problem) => return problem.into_response(),
    };
    let object = request.uri().path().to_owned();
    request.extensions_mut().insert(who.clone());
    let response = next.run(request).await;
    let is_kept = matches!(need, Need::Scope(Scope::Ack | Scope::Swap | Scope::Admin))
        || path == "/api/v1/reference/{reference}";
    if !method.is_safe()
        && is_kept
        && let Some(accounts) = &site.accounts
    {
        let accounts = Arc::clone(accounts);
        let status = response.status();
        let outcome = if status.is_success() { "done".to_owned() } else { status.to_string() };
        let written = tokio::task::spawn_blocking(move || {
            let what = method.as_str().to_ascii_lowercase();
            accounts.audit.write(&who.name, &from.to_string(), &what, &object, &outcome)
        });
        if let Ok(Err(e)) = written.await {
            tracing::error!("what was changed could not be written down: {e}");
        }
    }
    response
}

/// Who asks, where they may.
fn admit(
    site: &Site,
    headers: &HeaderMap,
    method: &Method,
    need: Need,
    from: IpAddr,
) -> Result<Who, Problem> {
    let nobody = Who { name: String::new(), user: None, scopes: Vec::new(), from };
    let is_open = site.tokens.is_empty() && !site.accounts.as_ref().is_some_and(|a| a.is_any());
    let who = if is_open {
        own_host(headers)?;
        if !method.is_safe() {
            same_site(headers)?;
        }
        Who { scopes: ALL.to_vec(), ..nobody }
    } else if let Some(shown) = bearer(headers) {
        by_token(site, shown, nobody)?
    } else if let Some(who) = by_cookie(site, headers, &nobody) {
        if !method.is_safe() {
            same_site(headers)?;
            if !headers.contains_key(REQUEST) {
                return Err(forbidden("send the header 'x-foreline-request: 1'"));
            }
        }
        who
    } else {
        nobody
    };
    match need {
        Need::Nothing => Ok(who),
        Need::Account if who.user.is_some() => Ok(who),
        Need::Scope(scope) if who.scopes.contains(&scope) => Ok(who),
        _ if who.user.is_none() && who.scopes.is_empty() => {
            Err(unauthorized("log in, or show a token: 'authorization: bearer ...'"))
        }
        Need::Account => Err(forbidden("this is for users who are logged in")),
        Need::Scope(scope) => {
            let (scope, role) = (scope.name(), scope.role().name());
            Err(forbidden(&format!("this needs a token for '{scope}', or the role '{role}'")))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = shown.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn by_token(site: &Site, shown: &str, nobody: Who) -> Result<Who, Problem> {
    // All of them are looked at, whichever fits.
    if site.tokens.iter().fold(false, |any, token| any | token.is(shown)) {
        let scopes = ALL[..4].to_vec();
        return Ok(Who { name: "token:file".to_owned(), scopes, ..nobody });
    }
    let entry = site.accounts.as_ref().and_then(|accounts| accounts.token(shown));
    let entry = entry.ok_or_else(|| unauthorized("the token is not known, or has ended"))?;
    Ok(Who { name: format!("token:{}", entry.name), scopes: entry.scopes, ..nobody })
}

fn by_cookie(site: &Site, headers: &HeaderMap, nobody: &Who) -> Option<Who> {
    let accounts = site.accounts.as_ref()?;
    let session = accounts.sessions().find(cookie(headers)?)?;
    let book = accounts.store().book().ok()?;
    let user = book.users.iter().find(|user| user.name == session.user && !user.disabled)?;
    let scopes = ALL.into_iter().filter(|scope| scope.role() <= user.role).collect();
    let (name, user) = (user.name.clone(), Some((user.name.clone(), user.role)));
    Some(Who { name, user, scopes, ..nobody.clone() })
}

/// What the cookie of a session says.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim())
}

/// A page of another name that leads here would be let in by the browser, as it takes this server for its own.
fn own_host(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address || name.eq_ignore_ascii_case("localhost") || host.is_empty() {
        return Ok(());
    }
    let what = "without tokens or accounts this server is asked by its address or as 'localhost'; for another name make an account";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", what))
}

/// Keeps out what a page of somebody else's has the browser send.
pub(crate) fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let told = text("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site));
    let host = text("host").unwrap_or_default();
    let own = text("origin").is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    });
    match told && own {
        true => Ok(()),
        false => Err(forbidden("the request comes from a page of another site")),
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        let own = |host: &str| own_host(&headers(&[("host", host)])).is_ok();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7"] {
            assert!(own(host), "{host}");
        }
        for host in ["plant.example", "localhost.evil.example:8080", "127.0.0.1.nip.io:8080"] {
            assert!(!own(host), "{host}");
        }
        let same = |pairs: &[(&'static str, &str)]| {
            let mut all = headers(pairs);
            all.insert("host", "127.0.0.1:8080".parse().unwrap());
            same_site(&all).is_ok()
        };
        assert!(same(&[]), "programs tell nothing");
        assert!(same(&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(!same(&[("origin", "http://evil.example")]));
        assert!(!same(&[("origin", "http://127.0.0.1:9999")]));
        assert!(!same(&[("origin", "null")]));
        assert!(!same(&[("sec-fetch-site", "cross-site")]));
        assert!(!same(&[("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let of = |text: &str| cookie(&headers(&[("cookie", text)])).map(str::to_owned);
        assert_eq!(of("a=1; foreline_session=xyz; b=2").as_deref(), Some("xyz"));
        assert_eq!(of("foreline_sessions=xyz"), None);
        assert_eq!(of(""), None);
    }
}
