//! What one client asked for, and how it is answered.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::DataType;
use arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use async_trait::async_trait;
use datafusion::common::{ParamValues, ScalarValue};
use futures_util::{Sink, SinkExt as _};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionManager, DEFAULT_NAME, METADATA_USER,
    PgWireConnectionState, PidSecretKeyGenerator, RandomPidSecretKeyGenerator, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Parse, ParseComplete, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::Doorkeeper;
use super::answer::{self, error};
use super::settings::{self, Setting};
use crate::query::{Answer, Described, Queries, system};

/// Prepared statements of a connection.
const STATEMENTS: usize = 256;
/// Portals of a connection, each of which may hold an answer.
const PORTALS: usize = 16;
/// How long a wrong password takes, so that few are tried.
const WRONG_TIME: Duration = Duration::from_millis(500);
/// A setting of ours: the epoch of the last answer.
const EPOCH: &str = "foreline.epoch";

/// A statement that is prepared.
#[derive(Debug, Clone)]
pub(super) enum Prepared {
    /// A query, and what its answer looks like.
    Query(Arc<(String, Described)>),
    /// Something about the connection.
    Setting(Setting),
}

/// One connection.
pub(super) struct Session {
    queries: Arc<Queries>,
    doorkeeper: Arc<dyn Doorkeeper>,
    address: IpAddr,
    keys: RandomPidSecretKeyGenerator,
    connections: Mutex<Option<Arc<ConnectionManager>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<u64>,
    timeout: Option<Duration>,
    statements: Vec<String>,
    portals: Vec<String>,
}

impl Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        queries: Arc<Queries>,
        doorkeeper: Arc<dyn Doorkeeper>,
        address: IpAddr,
    ) -> Self {
        Session {
            queries,
            doorkeeper,
            address,
            keys: RandomPidSecretKeyGenerator::default(),
            connections: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Where requests to cancel look for it.
    pub(super) fn register_in(&self, connections: Arc<ConnectionManager>) {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = Some(connections);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a query.
    async fn ask(&self, sql: &str, values: Vec<ScalarValue>) -> PgWireResult<Answer> {
        let timeout = self.state().timeout;
        let asking = self.queries.ask_with(sql, values, usize::MAX);
        let answer = match timeout {
            None => asking.await,
            Some(most) => match tokio::time::timeout(most, asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    let most = most.as_millis();
                    let what = format!("the query took longer than statement_timeout, {most} ms");
                    return Err(error("57014", what));
                }
            },
        };
        let answer = answer.map_err(|why| answer::refused(sql, why))?;
        let mut state = self.state();
        state.epoch = answer.epoch.or(state.epoch);
        drop(state);
        Ok(answer)
    }

    /// Does what a statement says of the connection.
    fn set(&self, setting: &Setting) -> PgWireResult<Response> {
        Ok(match setting {
            Setting::Begin(tag) => Response::TransactionStart(Tag::new(tag)),
            Setting::Commit => Response::TransactionEnd(Tag::new("COMMIT")),
            Setting::Rollback => Response::TransactionEnd(Tag::new("ROLLBACK")),
            Setting::Nothing(tag) => Response::Execution(Tag::new(tag)),
            Setting::Timeout(most) => {
                self.state().timeout = *most;
                Response::Execution(Tag::new("SET"))
            }
            Setting::Show(name) => Response::Query(answer::text(name, &self.shown(name)?)?),
        })
    }

    /// What a setting is.
    fn shown(&self, name: &str) -> PgWireResult<String> {
        let state = self.state();
        let shown = match name.to_ascii_lowercase().as_str() {
            EPOCH => state.epoch.map_or_else(String::new, |epoch| epoch.to_string()),
            "statement_timeout" => state.timeout.map_or(0, |most| most.as_millis()).to_string(),
            lower => system::setting(lower)
                .ok_or_else(|| error("42704", format!("there is no setting '{name}'")))?
                .to_owned(),
        };
        Ok(shown)
    }

    /// Lets a client in.
    async fn welcome<C>(&self, client: &mut C) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (pid, key) = self.keys.generate(client);
        client.set_pid_and_secret_key(pid, key.clone());
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connections) = connections {
            let (handle, guard) = connections.register(pid, key);
            client.session_extensions().insert(handle);
            client.session_extensions().insert(guard);
        }
        let mut about = DefaultServerParameterProvider::default();
        about.server_version =
            format!("{} (Foreline {})", system::VERSION, env!("CARGO_PKG_VERSION"));
        about.is_superuser = false;
        about.default_transaction_read_only = true;
        about.time_zone = "UTC".to_owned();
        finish_authentication(client, &about).await
    }
}

/// A connection is refused for good.
fn fatal(code: &str, message: String) -> PgWireError {
    let info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message);
    PgWireError::UserError(Box::new(info))
}

/// After an error nothing is answered until the transaction ends, as drivers expect.
fn check_transaction<C: ClientInfo>(client: &C, prepared: &Prepared) -> PgWireResult<()> {
    let ends = matches!(
        prepared,
        Prepared::Setting(Setting::Commit | Setting::Rollback | Setting::Begin("ROLLBACK"))
    );
    if client.transaction_status() == TransactionStatus::Error && !ends {
        let what = "a query of this transaction failed: nothing is answered until it ends";
        return Err(error("25P02", what));
    }
    Ok(())
}

#[async_trait]
impl StartupHandler for Session {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                if self.doorkeeper.is_open() {
                    return self.welcome(client).await;
                }
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                let ask = Authentication::CleartextPassword;
                client.send(PgWireBackendMessage::Authentication(ask)).await?;
                Ok(())
            }
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                let password = password.into_password()?.password;
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                match self.doorkeeper.admits(&user, &password, self.address).await {
                    Ok(()) => self.welcome(client).await,
                    Err(why) => {
                        tokio::time::sleep(WRONG_TIME).await;
                        Err(fatal("28P01", why))
                    }
                }
            }
            _ => Err(fatal("08P01", "the connection was not begun".to_owned())),
        }
    }
}

#[async_trait]
impl SimpleQueryHandler for Session {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        let mut is_failed = client.transaction_status() == TransactionStatus::Error;
        for sql in settings::statements(query) {
            let setting = settings::read(&sql).map_err(|(code, what)| error(code, what))?;
            let ends = matches!(
                setting,
                Some(Setting::Commit | Setting::Rollback | Setting::Begin("ROLLBACK"))
            );
            let response = if is_failed && !ends {
                let what = "a query of this transaction failed: nothing is answered until it ends";
                Err(error("25P02", what))
            } else {
                match setting {
                    Some(setting) => self.set(&setting),
                    None => self.simple(&sql).await.map(Response::Query),
                }
            };
            match response {
                Ok(response) => responses.push(response),
                // What came before it is answered; what follows is not carried out.
                Err(PgWireError::UserError(info)) => {
                    responses.push(Response::Error(info));
                    break;
                }
                Err(other) => return Err(other),
            }
            is_failed = is_failed && !ends;
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

impl Session {
    async fn simple(&self, sql: &str) -> PgWireResult<pgwire::api::results::QueryResponse> {
        let answer = self.ask(sql, Vec::new()).await?;
        answer::rows(answer.rows, &answer.schema, &Format::UnifiedText)
    }
}

/// Prepares statements.
#[derive(Debug)]
pub(super) struct Parser(Arc<Queries>);

#[async_trait]
impl QueryParser for Parser {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = settings::statements(sql).into_iter();
        let Some(sql) = statements.next() else { return Ok(None) };
        if statements.next().is_some() {
            return Err(error("42601", "there is more than one statement; send them one by one"));
        }
        if let Some(setting) = settings::read(&sql).map_err(|(code, what)| error(code, what))? {
            return Ok(Some(Prepared::Setting(setting)));
        }
        let described = self.0.describe(&sql).await;
        let described = described.map_err(|why| answer::refused(&sql, why))?;
        Ok(Some(Prepared::Query(Arc::new((sql, described)))))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        let Prepared::Query(query) = prepared else { return Ok(Vec::new()) };
        Ok(query.1.values.iter().map(|of| answer::value_type(of.as_ref())).collect())
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        match prepared {
            Prepared::Query(query) => {
                answer::columns(&query.1.schema, format.unwrap_or(&Format::UnifiedText))
            }
            Prepared::Setting(Setting::Show(name)) => Ok(vec![answer::text_column(name)]),
            Prepared::Setting(_) => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Session {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser(Arc::clone(&self.queries)))
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        remember(&mut self.state().statements, &name, STATEMENTS, "prepared statements")?;
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let of = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let name = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
        let statement = client.portal_store().get_statement(of);
        let statement = statement.ok_or_else(|| PgWireError::StatementNotFound(of.to_owned()))?;
        let expected = match &statement {
            Entry::Value(statement) => match &statement.statement {
                Prepared::Query(query) => query.1.values.len(),
                Prepared::Setting(_) => 0,
            },
            Entry::Empty => 0,
        };
        let (values, formats) = (message.parameters.len(), message.parameter_format_codes.len());
        if values != expected {
            let what = format!("the statement takes {expected} values, not {values}");
            return Err(error("08P01", what));
        }
        if formats > 1 && formats != values {
            return Err(error("08P01", format!("{formats} formats are told for {values} values")));
        }
        remember(&mut self.state().portals, name, PORTALS, "portals")?;
        match statement {
            Entry::Value(statement) => {
                let portal = Portal::try_new(&message, statement)?;
                client.portal_store().put_portal(Arc::new(portal));
            }
            Entry::Empty => client.portal_store().put_empty_portal(name),
        }
        client.send(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                client.portal_store().rm_statement(name);
                self.state().statements.retain(|known| known != name);
            }
            TARGET_TYPE_BYTE_PORTAL => {
                client.portal_store().rm_portal(name);
                self.state().portals.retain(|known| known != name);
            }
            _ => {}
        }
        client.send(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        check_transaction(client, prepared)?;
        let query = match prepared {
            Prepared::Query(query) => query,
            Prepared::Setting(setting) => return self.set(setting),
        };
        let (sql, described) = &**query;
        let values = values(portal, &described.values)?;
        let answer = self.ask(sql, values).await?;
        let format = &portal.result_column_format;
        answer::rows(answer.rows, &described.schema, format).map(Response::Query)
    }
}

/// Counts names that stay until they are closed.
fn remember(names: &mut Vec<String>, name: &str, most: usize, what: &str) -> PgWireResult<()> {
    if name == DEFAULT_NAME || names.iter().any(|known| known == name) {
        return Ok(());
    }
    if names.len() >= most {
        return Err(error("54000", format!("a connection has at most {most} {what}; close some")));
    }
    names.push(name.to_owned());
    Ok(())
}

/// The values of `$1`, `$2` ... of a query.
fn values(portal: &Portal<Prepared>, types: &[Option<DataType>]) -> PgWireResult<Vec<ScalarValue>> {
    if types.is_empty() {
        return Ok(Vec::new());
    }
    let inferred: Vec<Option<&DataType>> = types.iter().map(Option::as_ref).collect();
    let told: Vec<Type> = types.iter().map(|of| answer::value_type(of.as_ref())).collect();
    let told: Vec<Option<&Type>> = told.iter().map(Some).collect();
    match deserialize_parameters_with_server_types(portal, &inferred, &told)? {
        ParamValues::List(values) => Ok(values.into_iter().map(|v| v.value).collect()),
        ParamValues::Map(_) => Err(error("XX000", "values without an order (a bug)")),
    }
}
