//! `GET /api/v1/models`, `POST /api/v1/models/{step}/activate` and its like, and `PUT` of versions: what people see of the models
//! that act, and do with them.
//!
//! What a reader would get wrong:
//!
//! * 200 says that a change is durable. It is obeyed from the epoch on that it becomes part of, some milliseconds later, by all
//!   workers; `since_epoch` shows that.
//! * What stands is a row of a relation, and a change a new row in its place, made of the one before. So changes are made one
//!   after the other, from what this server was told last: the table is a few milliseconds behind.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use foreline_connectors::Door;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::access::Who;
use crate::body;
use crate::intake;
use crate::intake::What;
use crate::limits::MODEL_BYTES;
use crate::problem::{Problem, json as as_json};
use crate::routes::Site;
use crate::tables::{bad, broken, written};

/// The table of what stands.
const MODELS: &str = "models";
/// The version that the file's own model is.
const CHAMPION: &str = "champion";
/// What is done with a model.
const COMMANDS: [&str; 4] = ["activate", "canary", "rollback", "reset"];
/// Most bytes of a text of a command.
const TEXT_BYTES_MAX: usize = 4_096;

/// What a model does while it runs.
pub trait Works: Debug + Send + Sync {
    /// The step.
    fn step(&self) -> &str;
    /// What each version did in this run: an object of counts.
    fn works(&self) -> BTreeMap<String, Value>;
}

/// A model that can be changed while it runs. What is told of versions is as their makers have it: an object for readers.
pub trait Board: Debug + Send + Sync {
    /// The step.
    fn step(&self) -> &str;
    /// The versions of the file.
    fn versions(&self) -> BTreeMap<String, Value>;
    /// What the version with that file is.
    ///
    /// # Errors
    /// When its file is gone or damaged.
    fn facts(&self, digest: &str) -> Result<Value, String>;
    /// The versions that score beside the one that acts.
    fn shadows(&self) -> Vec<String>;
    /// Whether rows are routed by a column.
    fn is_routed(&self) -> bool;
    /// The canary of the file and its share.
    fn canary(&self) -> Option<(String, f64)>;
    /// The epoch from which on what stands has stood.
    fn since(&self) -> Option<u64>;
    /// Whether a version that comes may have that name.
    ///
    /// # Errors
    /// When it may not; says why.
    fn check_name(&self, name: &str) -> Result<(), String>;
    /// Lets a version in and keeps it durably; the digest of its file and what it is.
    ///
    /// # Errors
    /// When it is not let in; nothing has changed then.
    fn admit(&self, bytes: &[u8]) -> Result<(String, Value), Refusal>;
    /// Most versions that may come.
    fn most_versions(&self) -> usize;
}

/// Why a version is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what the step takes.
    NotThis(String),
    /// It cannot be kept.
    NotKept(String),
}

/// The models of a pipeline.
#[derive(Debug)]
pub(crate) struct Models {
    door: Option<Arc<Door>>,
    boards: BTreeMap<String, Arc<dyn Board>>,
    works: BTreeMap<String, Arc<dyn Works>>,
    /// What was told last; `None` where that is for the table to say.
    told: Mutex<Option<Rows>>,
}

impl Models {
    /// What each version of each step did in this run.
    pub(crate) fn works(&self) -> Vec<(String, String, Value)> {
        let of = |(step, of): (&String, &Arc<dyn Works>)| {
            let works = of.works().into_iter();
            works.map(|(version, work)| (step.clone(), version, work)).collect::<Vec<_>>()
        };
        self.works.iter().flat_map(of).collect()
    }

    /// The same of one step.
    fn works_of(&self, step: &str) -> BTreeMap<String, Value> {
        self.works.get(step).map(|of| of.works()).unwrap_or_default()
    }
}

/// Rows of the relation, by step and version.
type Rows = BTreeMap<(String, String), Row>;

/// A row of the relation: of a version, or without one of what acts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    step: String,
    version: String,
    digest: Option<String>,
    acts: Option<String>,
    previous: Option<String>,
    canary: Option<String>,
    share: Option<f64>,
    by: Option<String>,
    comment: Option<String>,
}

impl Models {
    pub(crate) fn new(
        door: Option<Arc<Door>>,
        boards: Vec<Arc<dyn Board>>,
        works: Vec<Arc<dyn Works>>,
    ) -> Self {
        let boards = boards.into_iter().map(|board| (board.step().to_owned(), board)).collect();
        let works = works.into_iter().map(|of| (of.step().to_owned(), of)).collect();
        Models { door, boards, works, told: Mutex::new(None) }
    }

    /// The steps that have them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.boards.keys().cloned().collect()
    }

    fn board(&self, step: &str) -> Result<&Arc<dyn Board>, Problem> {
        self.boards.get(step).ok_or_else(|| {
            let there: Vec<&str> = self.boards.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let detail =
                format!("no step '{}' has a model with 'versions'; there is: {there}", shown(step));
            Problem::new(StatusCode::NOT_FOUND, "unknown-model", detail)
        })
    }
}

/// What stands, held so that nobody else changes it.
struct Standing<'a>(MutexGuard<'a, Option<Rows>>);

impl<'a> Standing<'a> {
    async fn of(site: &'a Site) -> Result<Self, Problem> {
        let mut told = site.models.told.lock().await;
        if told.is_none() {
            let (table, _) = site.table(MODELS)?;
            let rows = table.all().and_then(|page| written(&page.rows)).map_err(|e| broken(&e))?;
            let rows: Vec<Row> = serde_json::from_slice(&rows).map_err(|e| {
                let detail = format!("the table of models cannot be read (a bug): {e}");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            })?;
            let keyed = rows.into_iter().map(|row| ((row.step.clone(), row.version.clone()), row));
            *told = Some(keyed.collect());
        }
        Ok(Standing(told))
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().flatten().map(|(_, row)| row)
    }

    /// What acts in a step: what was told of it, or else what the file says.
    fn acting(&self, board: &dyn Board) -> Row {
        let told = self.rows().find(|row| row.step == board.step() && row.version.is_empty());
        told.cloned().unwrap_or_else(|| {
            let (canary, share) = board.canary().unzip();
            let (step, acts) = (board.step().to_owned(), Some(CHAMPION.to_owned()));
            Row { step, acts, canary, share, ..Row::default() }
        })
    }

    /// The versions that came while it ran, with the digests of their files.
    fn came(&self, step: &str) -> BTreeMap<&str, &Row> {
        let of_step = self.rows().filter(|row| row.step == step && !row.version.is_empty());
        of_step.map(|row| (row.version.as_str(), row)).collect()
    }

    /// Whether one more version may come, or one of that name again.
    fn has_room(&self, board: &dyn Board, name: &str) -> Result<(), Problem> {
        let (came, most) = (self.came(board.step()), board.most_versions());
        if came.contains_key(name) || came.len() < most {
            return Ok(());
        }
        let detail = format!("{most} versions came already; delete one that does not act");
        Err(Problem::new(StatusCode::CONFLICT, "too-many-versions", detail))
    }

    /// Has a row take the place of the one with its key, or go; returns once that is durable.
    async fn tell(&mut self, site: &Site, row: Row, gone: bool) -> Result<(), Problem> {
        let door = site.models.door.clone().ok_or_else(no_models)?;
        let body = serde_json::to_vec(&row).map_err(|e| {
            let detail = format!("the change cannot be written (a bug): {e}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })?;
        // If the answer is not known, neither is what stands: the table says it later.
        let before = self.0.take();
        let what = What::Relation { gone };
        intake::hand_in(door, what, "application/x-ndjson", body).await?;
        let mut rows = before.unwrap_or_default();
        let key = (row.step.clone(), row.version.clone());
        if gone {
            rows.remove(&key);
        } else {
            rows.insert(key, row);
        }
        *self.0 = Some(rows);
        Ok(())
    }

    /// A model for people.
    fn described(&self, models: &Models, board: &dyn Board) -> Value {
        let acting = self.acting(board);
        let works = models.works_of(board.step());
        let mut versions = board.versions();
        for facts in versions.values_mut() {
            facts["from"] = json!("file");
        }
        for (name, row) in self.came(board.step()) {
            let digest = row.digest.as_deref().unwrap_or_default();
            let mut facts = match board.facts(digest) {
                Ok(facts) => facts,
                Err(error) => json!({ "error": error }),
            };
            facts["from"] = json!("http");
            facts["sha256"] = json!(digest);
            facts["by"] = json!(row.by);
            facts["comment"] = json!(row.comment);
            versions.entry(name.to_owned()).or_insert(facts);
        }
        for (name, facts) in &mut versions {
            facts["rows"] = works.get(name).cloned().unwrap_or(Value::Null);
        }
        json!({
            "step": board.step(),
            "acts": acting.acts,
            "previous": acting.previous,
            "canary": acting.canary.map(|v| json!({ "version": v, "share": acting.share })),
            "by": acting.by,
            "comment": acting.comment,
            "since_epoch": board.since(),
            "routed": board.is_routed(),
            "shadow": board.shadows(),
            "versions": versions,
        })
    }
}

/// All models that can be changed.
pub(crate) async fn list(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    if site.models.door.is_none() {
        return Ok(as_json(&json!({ "models": [] })));
    }
    let standing = Standing::of(&site).await?;
    let models: Vec<Value> = site
        .models
        .boards
        .values()
        .map(|board| standing.described(&site.models, &**board))
        .collect();
    Ok(as_json(&json!({ "models": models })))
}

/// One model.
pub(crate) async fn one(
    State(site): State<Arc<Site>>,
    step: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let step = step.map(|Path(name)| name).unwrap_or_default();
    let board = site.models.board(&step)?;
    Ok(as_json(&Standing::of(&site).await?.described(&site.models, &**board)))
}

/// What somebody says with a command.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    version: Option<String>,
    share: Option<f64>,
    by: Option<String>,
    comment: Option<String>,
}

/// Has another version act.
pub(crate) async fn command(
    State(site): State<Arc<Site>>,
    Extension(who): Extension<Who>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Path((step, verb)) = path.map_err(|_| bad("the path is not text"))?;
    let board = Arc::clone(site.models.board(&step)?);
    if !COMMANDS.contains(&verb.as_str()) {
        let (verb, known) = (shown(&verb), COMMANDS.join(", "));
        let detail =
            format!("nothing is called '{verb}' that can be done with a model; there is: {known}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-command", detail));
    }
    // Whoever is logged in speaks for themselves.
    let said = said(&headers, body).map(|said| Said { by: who.author(said.by), ..said })?;
    let mut standing = Standing::of(&site).await?;
    let now = standing.acting(&*board);
    let known =
        |name: &str| board.versions().contains_key(name) || standing.came(&step).contains_key(name);
    let next = changed(&verb, now, &said, known)?;
    let gone = verb == "reset";
    standing.tell(&site, next, gone).await?;
    Ok(as_json(&standing.described(&site.models, &*board)))
}

/// What stands after a command.
fn changed(
    verb: &str,
    now: Row,
    said: &Said,
    known: impl Fn(&str) -> bool,
) -> Result<Row, Problem> {
    let wrong =
        |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-command", detail);
    let takes = |version: bool, share: bool| match (said.version.is_some(), said.share.is_some()) {
        (true, _) if !version => Err(wrong(&format!("'{verb}' takes no 'version'"))),
        (_, true) if !share => Err(wrong(&format!("'{verb}' takes no 'share'"))),
        _ => Ok(()),
    };
    let named = || {
        let name = said.version.as_deref();
        let name = name.ok_or_else(|| wrong(&format!("'{verb}' needs a 'version'")))?;
        if known(name) {
            return Ok(name.to_owned());
        }
        let detail = format!("the model has no version '{}'", shown(name));
        Err(Problem::new(StatusCode::NOT_FOUND, "unknown-version", detail))
    };
    let (by, comment) = (said.by.clone(), said.comment.clone());
    let base = Row { step: now.step.clone(), by, comment, ..Row::default() };
    match verb {
        "activate" => {
            takes(true, false)?;
            let acts = named()?;
            // Activated once more, it is still the one before that a rollback goes back to.
            let again = now.acts.as_ref() == Some(&acts);
            let previous = if again { now.previous } else { now.acts };
            Ok(Row { acts: Some(acts), previous, ..base })
        }
        "canary" => {
            takes(true, true)?;
            let share = said.share.filter(|share| (0.0..=1.0).contains(share));
            let share = share.ok_or_else(|| wrong("'canary' needs a 'share' from 0 to 1"))?;
            let canary = named()?;
            let (canary, share) = (share > 0.0).then_some((canary, share)).unzip();
            Ok(Row { acts: now.acts, previous: now.previous, canary, share, ..base })
        }
        "rollback" => {
            takes(false, false)?;
            if now.canary.is_some() {
                return Ok(Row { acts: now.acts, previous: now.previous, ..base });
            }
            let Some(previous) = now.previous.filter(|name| known(name)) else {
                let detail = "no canary acts, and no version acted before this one";
                let kind = "nothing-to-roll-back";
                return Err(Problem::new(StatusCode::CONFLICT, kind, detail));
            };
            Ok(Row { acts: Some(previous), ..base })
        }
        _ => {
            takes(false, false)?;
            Ok(base)
        }
    }
}

fn said(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Said, Problem> {
    let body = body::json(headers, body)?;
    let wrong =
        |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-command", detail);
    let said: Said = match body.trim_ascii() {
        [] => Said::default(),
        // A struct could be read from a list, too.
        text => serde_json::from_slice(text)
            .and_then(|map: serde_json::Map<String, Value>| serde_json::from_value(map.into()))
            .map_err(|e| {
                let what = "the body is an object with version, share, by, comment";
                wrong(format!("{what}: {e}"))
            })?,
    };
    for (name, text) in [("by", &said.by), ("comment", &said.comment)] {
        let n_bytes = text.as_ref().map_or(0, String::len);
        if n_bytes > TEXT_BYTES_MAX {
            return Err(wrong(format!(
                "'{name}' has {n_bytes} bytes; give at most {TEXT_BYTES_MAX}"
            )));
        }
    }
    Ok(said)
}

/// Takes a new version. It is tried as one of the file is before anything hears of it.
pub(crate) async fn put(
    State(site): State<Arc<Site>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path((step, name)) = path.map_err(|_| bad("the path is not text"))?;
    let board = Arc::clone(site.models.board(&step)?);
    board
        .check_name(&name)
        .map_err(|e| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-name", e))?;
    let (memory, bytes) = intake::read(&site, MODEL_BYTES, &headers, body).await?;
    // Before the work, too: what is not to be taken is not to be compiled.
    Standing::of(&site).await?.has_room(&*board, &name)?;
    let admitting = Arc::clone(&board);
    let admitted = tokio::task::spawn_blocking(move || admitting.admit(&bytes)).await;
    drop(memory);
    let (digest, _) = match admitted {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(Refusal::NotThis(why))) => {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not-admitted", why));
        }
        Ok(Err(Refusal::NotKept(why))) => {
            return Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, "not-kept", why));
        }
        Err(_) => {
            let detail = "the version could not be looked at (a bug)";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail));
        }
    };
    let mut standing = Standing::of(&site).await?;
    standing.has_room(&*board, &name)?;
    let came = standing.came(&step);
    let before = came.get(name.as_str()).and_then(|row| row.digest.as_ref());
    if before != Some(&digest) {
        in_use(&standing.acting(&*board), &name)?;
        let row = Row { step, version: name, digest: Some(digest), ..Row::default() };
        standing.tell(&site, row, false).await?;
    }
    Ok(as_json(&standing.described(&site.models, &*board)))
}

/// Has a version go.
pub(crate) async fn delete(
    State(site): State<Arc<Site>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((step, name)) = path.map_err(|_| bad("the path is not text"))?;
    let board = Arc::clone(site.models.board(&step)?);
    let mut standing = Standing::of(&site).await?;
    if !standing.came(&step).contains_key(name.as_str()) {
        let detail = format!("no version '{}' came while the pipeline ran", shown(&name));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-version", detail));
    }
    in_use(&standing.acting(&*board), &name)?;
    let row = Row { step, version: name, ..Row::default() };
    standing.tell(&site, row, true).await?;
    Ok(as_json(&standing.described(&site.models, &*board)))
}

/// What acts, or is to be gone back to, must not become something else.
fn in_use(acting: &Row, name: &str) -> Result<(), Problem> {
    let roles = [("acts", &acting.acts), ("is the canary", &acting.canary)];
    let roles = roles.into_iter().chain([("is what a rollback goes back to", &acting.previous)]);
    for (role, version) in roles {
        if version.as_deref() == Some(name) {
            let detail = format!("'{name}' {role}; give the new version another name");
            return Err(Problem::new(StatusCode::CONFLICT, "in-use", detail));
        }
    }
    Ok(())
}

fn no_models() -> Problem {
    let detail = "the pipeline has no model with 'versions'";
    Problem::new(StatusCode::NOT_FOUND, "no-models", detail)
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(acts: &str, previous: Option<&str>, canary: Option<(&str, f64)>) -> Row {
        let (canary, share) = canary.map(|(name, share)| (name.to_owned(), share)).unzip();
        Row {
            step: "rul".to_owned(),
            acts: Some(acts.to_owned()),
            previous: previous.map(str::to_owned),
            canary,
            share,
            ..Row::default()
        }
    }

    fn after(verb: &str, now: &Row, said: &str) -> Result<Row, String> {
        let said: Said = serde_json::from_str(said).unwrap();
        let known = |name: &str| ["champion", "next", "v3"].contains(&name);
        changed(verb, now.clone(), &said, known).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_rollback_ends_a_canary_or_goes_back_to_the_version_before() {
        let first = row("champion", None, None);
        let canary = after("canary", &first, r#"{"version":"next","share":0.1}"#).unwrap();
        assert_eq!(canary, row("champion", None, Some(("next", 0.1))));
        assert_eq!(after("rollback", &canary, "{}").unwrap(), first);
        assert_eq!(after("canary", &canary, r#"{"version":"next","share":0}"#).unwrap(), first);
        let active = after("activate", &canary, r#"{"version":"next"}"#).unwrap();
        assert_eq!(active, row("next", Some("champion"), None));
        let again = after("activate", &active, r#"{"version":"next"}"#).unwrap();
        assert_eq!(again, active, "it is still the champion that it goes back to");
        let third = after("activate", &active, r#"{"version":"v3"}"#).unwrap();
        let back = after("rollback", &third, "{}").unwrap();
        assert_eq!(back, row("next", None, None));
        assert!(after("rollback", &back, "{}").unwrap_err().contains("nothing-to-roll-back"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let now = row("champion", None, None);
        for (verb, said, kind) in [
            ("activate", r#"{"version":"nobody"}"#, "unknown-version"),
            ("activate", "{}", "bad-command"),
            ("activate", r#"{"version":"next","share":0.1}"#, "bad-command"),
            ("canary", r#"{"version":"next"}"#, "bad-command"),
            ("canary", r#"{"version":"next","share":1.5}"#, "bad-command"),
            ("canary", r#"{"version":"nobody","share":0}"#, "unknown-version"),
            ("rollback", r#"{"version":"next"}"#, "bad-command"),
            ("reset", r#"{"share":0.5}"#, "bad-command"),
        ] {
            let found = after(verb, &now, said).unwrap_err();
            assert!(found.contains(kind), "{verb} {said}: {found}");
        }
    }

    #[test]
    fn what_acts_is_not_replaced() {
        let now = row("next", Some("v1"), Some(("v3", 0.5)));
        for name in ["next", "v1", "v3"] {
            assert!(in_use(&now, name).is_err(), "{name}");
        }
        assert!(in_use(&now, "v4").is_ok());
    }
}
