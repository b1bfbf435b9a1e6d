//! `/api/v1/auth/*`, `/users`, `/invitations`, `/tokens` and `/audit`: logging in, and who there is.
//!
//! What a reader would get wrong: a secret that is made here is in the answer once, and nowhere after that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::{COOKIE, Who, cookie, same_site};
use crate::accounts::{
    ABSOLUTE_TIME, Accounts, Denied, INVITATION_TIME, Invitation, Role, Scope, Signup, StoreError,
    TokenEntry, User, check_name, check_password, digest, now, seconds, secret,
};
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::tables::{bad, limit};

type Body = Result<Bytes, BytesRejection>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    name: String,
    password: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignUp {
    name: String,
    password: String,
    invitation: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    old: String,
    new: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    password: String,
    role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    role: Option<Role>,
    disabled: Option<bool>,
    password: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    scopes: Vec<Scope>,
    expires_days: Option<u32>,
}

/// Who asks, and what they may do; also where nobody is logged in.
pub(crate) async fn me(State(site): State<Arc<Site>>, Extension(who): Extension<Who>) -> Response {
    let signup = site.accounts.as_ref().map_or(Signup::Closed, |a| a.signup());
    let has_users = site.accounts.as_ref().is_some_and(|accounts| {
        accounts.store().book().map_or(true, |book| !book.users.is_empty())
    });
    let scopes: Vec<&str> = who.scopes.iter().map(|scope| scope.name()).collect();
    as_json(&json!({
        "accounts": has_users,
        "signup": signup.name(),
        "user": who.user.map(|(name, role)| json!({ "name": name, "role": role })),
        "scopes": scopes,
    }))
}

/// Begins a session.
pub(crate) async fn login(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    same_site(&headers)?;
    let accounts = accounts(&site)?;
    let Login { name, password } = read(&headers, body)?;
    let found = accounts.user(&name, &password, who.from).await;
    if !matches!(found, Err(Denied::TooMany(_))) {
        let outcome = if found.is_ok() { "done" } else { "wrong name or password" };
        note(accounts, &name, &who, "login", "", outcome).await;
    }
    let user = found.map_err(denied)?;
    begun(&site, accounts, &user)
}

/// Makes an account and begins a session.
pub(crate) async fn signup(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    same_site(&headers)?;
    let accounts = accounts(&site)?;
    let SignUp { name, password, invitation } = read(&headers, body)?;
    check_name(&name).and_then(|()| check_password(&password)).map_err(unfit)?;
    let refused = |what: &str| Problem::new(StatusCode::FORBIDDEN, "forbidden", what);
    match (accounts.signup(), &invitation) {
        (Signup::Closed, _) => return Err(refused("accounts are made by an administrator")),
        (Signup::Invited, None) => return Err(refused("an invitation is needed")),
        _ => {}
    }
    let hash = accounts.hash(password).await.map_err(denied)?;
    let named = name.clone();
    let made = change(accounts, move |book| {
        let role = match &invitation {
            Some(code) => book.accept(code)?,
            None => Role::Viewer,
        };
        book.add(&named, role, hash)?;
        book.user_mut(&named).cloned()
    });
    let made = made.await;
    let outcome = made.as_ref().err().map_or("done", |_| "refused");
    note(accounts, &name, &who, "signup", &name, outcome).await;
    begun(&site, accounts, &made?)
}

/// Ends a session.
pub(crate) async fn logout(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accounts = accounts(&site)?;
    if let Some(shown) = cookie(&headers) {
        accounts.sessions().end(shown);
        note(accounts, &who.name, &who, "logout", "", "done").await;
    }
    let mut response = as_json(&json!({ "status": "logged out" }));
    set_cookie(&site, &mut response, "", Duration::ZERO)?;
    Ok(response)
}

/// Changes one's own password; every other session ends.
pub(crate) async fn password(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let accounts = accounts(&site)?;
    let NewPassword { old, new } = read(&headers, body)?;
    let name = who.user.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
    check_password(&new).map_err(unfit)?;
    let user = accounts.user(&name, &old, who.from).await;
    let user = user.map_err(|e| match e {
        Denied::Wrong => {
            Problem::new(StatusCode::FORBIDDEN, "forbidden", "the old password is wrong")
        }
        other => denied(other),
    })?;
    let hash = accounts.hash(new).await.map_err(denied)?;
    let named = name.clone();
    change(accounts, move |book| {
        book.user_mut(&named)?.password = hash;
        Ok(())
    })
    .await?;
    accounts.sessions().end_all(&name);
    note(accounts, &name, &who, "password", &name, "done").await;
    begun(&site, accounts, &user)
}

/// All users.
pub(crate) async fn users(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let book = accounts(&site)?.store().book().map_err(|e| broken(&e))?;
    Ok(as_json(&json!({ "users": book.users.iter().map(shown).collect::<Vec<_>>() })))
}

/// Makes one.
pub(crate) async fn add_user(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let accounts = accounts(&site)?;
    let NewUser { name, password, role } = read(&headers, body)?;
    check_name(&name).and_then(|()| check_password(&password)).map_err(unfit)?;
    let hash = accounts.hash(password).await.map_err(denied)?;
    let user = change(accounts, move |book| {
        book.add(&name, role, hash)?;
        book.user_mut(&name).cloned()
    });
    Ok(created(&shown(&user.await?)))
}

/// Changes role, password, or whether the account is switched off.
pub(crate) async fn change_user(
    State(site): State<Arc<Site>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // A name that is not text is nobody's.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let accounts = accounts(&site)?;
    let Change { role, disabled, password } = read(&headers, body)?;
    let hash = match password {
        Some(password) => {
            check_password(&password).map_err(unfit)?;
            Some(accounts.hash(password).await.map_err(denied)?)
        }
        None => None,
    };
    if accounts.store().book().is_ok_and(|book| !book.users.iter().any(|u| u.name == name)) {
        let detail = format!("there is no user '{}'", short(&name));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-user", detail));
    }
    let named = name.clone();
    let user = change(accounts, move |book| {
        let had = book.has_admin();
        let user = book.user_mut(&named)?;
        user.role = role.unwrap_or(user.role);
        user.disabled = disabled.unwrap_or(user.disabled);
        if let Some(hash) = hash {
            user.password = hash;
        }
        let changed = user.clone();
        if had && !book.has_admin() {
            return Err("nobody would be left who can make users".to_owned());
        }
        Ok(changed)
    });
    let user = user.await?;
    accounts.sessions().end_all(&name);
    Ok(as_json(&shown(&user)))
}

/// Makes a code with which somebody makes an account.
pub(crate) async fn invite(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let accounts = accounts(&site)?;
    if accounts.signup() == Signup::Closed {
        let detail = "nobody can sign up: 'serve: { accounts: { signup: closed } }'";
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail));
    }
    let Invite { role } = read(&headers, body)?;
    let code = secret("fli_").map_err(|e| internal(&e))?;
    let expires = seconds(now() + INVITATION_TIME);
    let hash = digest(&code);
    change(accounts, move |book| {
        book.invitations.push(Invitation { hash, role, expires });
        Ok(())
    })
    .await?;
    Ok(created(&json!({ "invitation": code, "role": role, "expires": expires })))
}

/// All tokens, without what they are.
pub(crate) async fn tokens(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let book = accounts(&site)?.store().book().map_err(|e| broken(&e))?;
    Ok(as_json(&json!({ "tokens": book.tokens.iter().map(told).collect::<Vec<_>>() })))
}

/// Makes one, and shows it this once.
pub(crate) async fn add_token(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let accounts = accounts(&site)?;
    let NewToken { name, scopes, expires_days } = read(&headers, body)?;
    let shown = secret("flt_").map_err(|e| internal(&e))?;
    let expires = expires_days.map(|days| seconds(now()) + u64::from(days) * 24 * 3600);
    let secret = shown.clone();
    let entry = change(accounts, move |book| book.issue(&name, &scopes, expires, &secret)).await?;
    let mut about = told(&entry);
    about["token"] = json!(shown);
    Ok(created(&about))
}

/// Ends one.
pub(crate) async fn remove_token(
    State(site): State<Arc<Site>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let accounts = accounts(&site)?;
    let wanted = id.clone();
    let found = change(accounts, move |book| {
        let before = book.tokens.len();
        book.tokens.retain(|token| token.id != wanted);
        Ok(book.tokens.len() < before)
    });
    if found.await? {
        return Ok(as_json(&json!({ "status": "revoked" })));
    }
    let detail = format!("there is no token '{}'", short(&id));
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown-token", detail))
}

/// What was changed, newest first.
pub(crate) async fn audit(
    State(site): State<Arc<Site>>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut query) = query.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let accounts = Arc::clone(accounts(&site)?);
    let most = limit(query.remove("limit"))?;
    let skip = match query.remove("cursor") {
        None => 0,
        Some(text) => {
            text.parse::<usize>().map_err(|_| bad("'cursor' is not one that an answer gave"))?
        }
    };
    if let Some(name) = query.keys().next() {
        return Err(bad(format!("'{}' is neither 'limit' nor 'cursor'", short(name))));
    }
    let look = move || accounts.audit.newest(skip, most);
    let events = tokio::task::spawn_blocking(look).await.map_err(|e| internal(&e.to_string()))?;
    let events = events.map_err(|e| internal(&format!("the audit log cannot be read: {e}")))?;
    let next = (events.len() == most).then(|| (skip + most).to_string());
    Ok(as_json(&json!({ "events": events, "next": next })))
}

impl Signup {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signup::Closed => "closed",
            Signup::Invited => "invited",
            Signup::Open => "open",
        }
    }
}

fn accounts(site: &Site) -> Result<&Arc<Accounts>, Problem> {
    site.accounts.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "this server has no accounts")
    })
}

fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let body = crate::body::json(headers, body)?;
    serde_json::from_slice::<serde_json::Map<String, Value>>(&body)
        .and_then(|map| serde_json::from_value(map.into()))
        .map_err(|e| bad(format!("the body is not what is needed: {e}")))
}

/// Changes the file on a thread that may wait.
async fn change<T: Send + 'static>(
    accounts: &Arc<Accounts>,
    change: impl FnOnce(&mut crate::accounts::Book) -> Result<T, String> + Send + 'static,
) -> Result<T, Problem> {
    let accounts = Arc::clone(accounts);
    let done = tokio::task::spawn_blocking(move || accounts.store().change(change)).await;
    done.map_err(|e| internal(&e.to_string()))?.map_err(|e| broken(&e))
}

/// Writes down what was done.
async fn note(
    accounts: &Arc<Accounts>,
    name: &str,
    who: &Who,
    what: &'static str,
    object: &str,
    outcome: &'static str,
) {
    let (accounts, name, from) = (Arc::clone(accounts), name.to_owned(), who.from.to_string());
    let object = object.to_owned();
    let written = move || accounts.audit.write(&name, &from, what, &object, outcome);
    if let Ok(Err(e)) = tokio::task::spawn_blocking(written).await {
        tracing::error!("what was changed could not be written down: {e}");
    }
}

/// The answer to somebody who is logged in now.
fn begun(site: &Site, accounts: &Accounts, user: &User) -> Result<Response, Problem> {
    let shown = accounts.sessions().begin(&user.name).map_err(|e| internal(&e))?;
    let about = json!({ "user": { "name": user.name, "role": user.role } });
    let mut response = as_json(&about);
    set_cookie(site, &mut response, &shown, ABSOLUTE_TIME)?;
    Ok(response)
}

fn set_cookie(
    site: &Site,
    response: &mut Response,
    value: &str,
    time: Duration,
) -> Result<(), Problem> {
    let secure = if site.is_secure { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        time.as_secs()
    );
    let value = HeaderValue::from_str(&text).map_err(|e| internal(&e.to_string()))?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(())
}

fn created(value: &Value) -> Response {
    let mut response = as_json(value);
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn shown(user: &User) -> Value {
    let User { name, role, created, disabled, .. } = user;
    json!({ "name": name, "role": role, "created": created, "disabled": disabled })
}

fn told(token: &TokenEntry) -> Value {
    let TokenEntry { id, name, scopes, created, expires, .. } = token;
    json!({ "id": id, "name": name, "scopes": scopes, "created": created, "expires": expires })
}

fn short(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn denied(why: Denied) -> Problem {
    match why {
        Denied::Wrong => {
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "name or password is wrong")
        }
        Denied::TooMany(wait) => {
            let detail = "too many tries; wait a little";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", detail).after(wait)
        }
        Denied::Broken(what) => internal(&what),
    }
}

fn unfit(what: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-account", what)
}

fn broken(error: &StoreError) -> Problem {
    match error {
        StoreError::Refused(what) => Problem::new(StatusCode::CONFLICT, "conflict", what.as_str()),
        other => internal(&other.to_string()),
    }
}

/// What only whoever runs the server is told.
fn internal(what: &str) -> Problem {
    tracing::error!("accounts: {what}");
    let detail = "the accounts cannot be read or changed now; the log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}
