//! The HTTP server of a pipeline: records come in by it, and it says whether the pipeline is well.
//!
//! ```text
//! POST /api/v1/sources/{source}/rows   200 when durable
//! POST /api/v1/sources/{source}/wake   202: it will look for new objects at once
//! PUT  /api/v1/reference/{name}       rows that take the place of those with their keys; 200 when durable
//! DELETE                              rows with these keys are no longer there
//! GET  /api/v1/tables                 the views: columns, rows, epoch
//! GET  /api/v1/tables/{view}/rows     their rows; also .../latest
//! GET  /api/v1/tables/{view}/stream   what changes of one, as it does
//! GET  /api/v1/alerts                 the alerts of all rules; .../stream: as they change
//! POST /api/v1/alerts/{id}/ack        acknowledges one; comment, shelve, out_of_service ... likewise
//! GET  /api/v1/models                 the models that can be changed: versions, which acts, what each did
//! POST /api/v1/models/{step}/activate  another version acts; canary, rollback, reset
//! PUT  /api/v1/models/{step}/versions/{name}  a new version
//! POST /api/v1/query                   SQL over views and streams
//! POST /api/v1/auth/login              begins a session; signup, logout, password, GET me
//! GET  /api/v1/users                   users, tokens, invitations, audit: for administrators
//! GET  /api/v1/tables/{table}/series   columns over time, thinned out
//! GET  /api/v1/pipeline                how the pipeline goes; .../graph, .../dead_letters, .../why-stuck
//! GET  /metrics                        the same for Prometheus
//! GET  /                               the dashboard, which reads all of this
//! GET, POST                            the paths that the file of the pipeline adds
//! GET  /openapi.json                   all of this for programs; /docs: for people
//! GET  /livez                          200 while the process serves
//! GET  /readyz                         200 while every source takes records
//! ```
//!
//! What a reader would get wrong:
//!
//! * It has a thread and a runtime of its own; nothing of it runs on a worker, and a pipeline is not slowed down by a
//!   request that waits.
//! * Every answer that is not a success is `application/problem+json` (RFC 9457).
//! * Every number that a stranger can drive up has a limit in `limits`.

mod access;
pub mod accounts;
mod alerts;
mod auth;
mod body;
mod compress;
mod connections;
mod cors;
mod custom;
mod follow;
mod intake;
mod limits;
mod models;
mod openapi;
mod pages;
mod problem;
mod query;
mod recent;
mod routes;
mod site;
mod tables;
mod telemetry;
mod tls;
mod wait;
mod wake;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use foreline_connectors::{Bell, Door};
use foreline_engine::Table;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub use access::Token;
pub use custom::{Filter, Listing, Route};
pub use models::{Board, Refusal, Works};
pub use query::{Ask, Asking, Found, NotFound};
pub use telemetry::{Line, Logs, Otlp};
pub use tls::Tls;
pub use watch::{Family, Figures, KEEPS, METRICS, Metric, NodeAbout, Sort, Watched};

/// The application protocol of encrypted connections: the server speaks no HTTP/2.
const PROTOCOL: &str = "http/1.1";

/// What is served.
#[derive(Debug)]
pub struct Served {
    /// The sources that records are pushed into, by name.
    pub doors: Vec<(String, Arc<Door>)>,
    /// The relations that are kept up over HTTP, by name.
    pub references: Vec<(String, Arc<Door>)>,
    /// The way in for what people do with alerts, which are the table `alerts`.
    pub commands: Option<Arc<Door>>,
    /// The rules whose alerts those are.
    pub rules: Vec<String>,
    /// The way in for what people do with models, which are the table `models`.
    pub swaps: Option<Arc<Door>>,
    /// The models that can be changed.
    pub boards: Vec<Arc<dyn Board>>,
    /// What all models do.
    pub works: Vec<Arc<dyn Works>>,
    /// The sources that can be woken, by name.
    pub bells: Vec<(String, Arc<Bell>)>,
    /// The views that can be read, by name.
    pub tables: Vec<(String, Arc<Table>)>,
    /// Carries queries out, if there are to be any.
    pub queries: Option<Arc<dyn Ask>>,
    /// The paths that the file of the pipeline adds.
    pub routes: Vec<Route>,
    /// What is known of the pipeline that runs.
    pub watched: Watched,
    /// Where its figures are to be read.
    pub figures: Arc<Figures>,
    /// Who may use the API: whoever shows one of these; anybody where there is none.
    pub tokens: Vec<Token>,
    /// Users, tokens of their own, and who is logged in.
    pub accounts: Option<Arc<accounts::Accounts>>,
    /// The origins whose pages may use the API, such as `https://board.example`; none but its own where there is none.
    pub origins: Vec<String>,
    /// Where metrics, traces and logs go, if they do.
    pub otlp: Option<Otlp>,
    /// The lines of the log that go there.
    pub logs: Arc<Logs>,
    /// Who the server is to clients that speak TLS, which all must where it is there.
    pub tls: Option<Tls>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` and serves until it is stopped. Port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no thread be started.
    pub fn start(address: SocketAddr, served: Served) -> io::Result<Self> {
        let failed = |e: io::Error| {
            io::Error::new(e.kind(), format!("cannot listen on {address} (section 'serve'): {e}"))
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(limits::BLOCKING_THREADS)
            .build()?;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
        let (tls, otlp, logs) = (served.tls.clone(), served.otlp.clone(), Arc::clone(&served.logs));
        let acceptor = tls.as_ref().map(|tls| tls.config(PROTOCOL)).transpose()?;
        let acceptor = acceptor.map(TlsAcceptor::from);
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            let (router, site) = routes::router(served, &room, stopped.clone());
            runtime.spawn(watch::look(Arc::clone(&site.watch), stopped.clone()));
            let telemetry = otlp.map(|otlp| {
                runtime.spawn(telemetry::send(otlp, Arc::clone(&site), logs, stopped.clone()))
            });
            if let Some(tls) = tls {
                runtime.spawn(tls.renew(stopped.clone()));
            }
            runtime.block_on(connections::serve(listener, acceptor, router, room, stopped));
            // What is left goes out, which is bounded in time.
            if let Some(telemetry) = telemetry {
                runtime.block_on(telemetry).ok();
            }
            // A request that still waits for a disk is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Server { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets the requests that are under way have their answer, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the server panicked (a bug)");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
