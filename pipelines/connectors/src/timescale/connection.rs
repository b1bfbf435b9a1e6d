//! One connection to the database, set up so that nothing can hold it, or others, for long.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foreline_engine::SinkError;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::address::Address;
use super::error::classify;
use super::tls;

/// A lock that somebody else holds is waited for so long at most; then the commit is given up and tried again.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// What the database does with a transaction whose client has stopped to move: others wait for its locks.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection, and what was being tried, for the message should it fail.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// What moves bytes between the client and the socket.
    line: JoinHandle<Result<(), tokio_postgres::Error>>,
    place: String,
    /// Statements that the database knows already: each commit has the same, and each would be a round trip more.
    prepared: RefCell<BTreeMap<String, Statement>>,
    /// Statements that hold for the session: the temporary tables that are there.
    set_up: RefCell<BTreeSet<String>>,
}

impl Connection {
    /// Connects and sets the session up.
    ///
    /// # Errors
    /// When the database cannot be reached or does not let us in.
    pub(super) async fn open(address: &Address, timeout: Duration) -> Result<Self, SinkError> {
        let config = &address.config;
        let what = format!("connect to {address}");
        let failed = |e: tokio_postgres::Error| classify(&what, &e);
        let (client, line) = if let Some(certificates) = &address.tls {
            let connector = tls::connector(certificates).map_err(SinkError::Fatal)?;
            let (client, connection) = config.connect(connector).await.map_err(failed)?;
            (client, tokio::spawn(connection))
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            (client, tokio::spawn(connection))
        };
        let place = address.to_string();
        let (prepared, set_up) = (RefCell::default(), RefCell::default());
        let connection = Connection { client, line, place, prepared, set_up };
        connection.run("set the session up", &session(timeout)).await?;
        Ok(connection)
    }

    /// Hangs up, so that the database lets go of what the transaction held. Dropping alone would not: nothing moves
    /// while the sink is not at work.
    pub(super) async fn hang_up(self) {
        self.line.abort();
        self.line.await.ok();
    }

    /// Runs statements that take no parameters and whose answers do not matter.
    pub(super) async fn run(&self, what: &str, statements: &str) -> Result<(), SinkError> {
        self.client.batch_execute(statements).await.map_err(|e| self.failed(what, &e))
    }

    /// Runs a statement once in the life of the connection, outside of a transaction.
    pub(super) async fn once(&self, what: &str, statement: &str) -> Result<(), SinkError> {
        if !self.set_up.borrow().contains(statement) {
            self.run(what, statement).await?;
            self.set_up.borrow_mut().insert(statement.to_owned());
        }
        Ok(())
    }

    /// Runs a statement; how many rows it touched.
    pub(super) async fn execute(
        &self,
        what: &str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SinkError> {
        let statement = self.prepare(what, statement).await?;
        let done = self.client.execute(&statement, parameters).await;
        done.map_err(|e| self.failed(what, &e))
    }

    /// The rows of a query.
    pub(super) async fn query(
        &self,
        what: &str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SinkError> {
        let statement = self.prepare(what, statement).await?;
        let rows = self.client.query(&statement, parameters).await;
        rows.map_err(|e| self.failed(what, &e))
    }

    async fn prepare(&self, what: &str, text: &str) -> Result<Statement, SinkError> {
        let known = self.prepared.borrow().get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await.map_err(|e| self.failed(what, &e))?;
        self.prepared.borrow_mut().insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What a failure means, with where it happened.
    pub(super) fn failed(&self, what: &str, error: &tokio_postgres::Error) -> SinkError {
        classify(&format!("{what} at {}", self.place), error)
    }
}

fn session(timeout: Duration) -> String {
    format!(
        "SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET statement_timeout = {}; \
         SET client_min_messages = warning; SET TimeZone = 'UTC'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        (timeout / 2).min(LOCK_TIMEOUT).as_millis().max(1),
        IDLE_TIMEOUT.as_millis(),
        timeout.as_millis().min(i32::MAX as u128)
    )
}
