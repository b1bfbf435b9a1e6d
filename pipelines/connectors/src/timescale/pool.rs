//! The connection that the tables of a pipeline share.
//!
//! What a reader would get wrong:
//!
//! * Sinks are at work one after the other, so one connection serves all tables of a database: thirty streams do not
//!   take thirty of the hundred that PostgreSQL has. Who comes while it is at work waits.
//! * A connection goes back only after a job that went well. After any other the database has to let go of what the
//!   transaction held, so it is hung up, and the next job gets a new one.
//! * Nothing moves while no sink is at work: one runtime, which runs only within a job.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foreline_engine::SinkError;
use tokio::runtime::{Builder, Runtime};

use super::address::Address;
use super::connection::Connection;

/// All pools of the process that somebody uses.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// The connection to one database, as one user, with one set of certificates.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    timeout: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    idle: Option<Connection>,
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Job<T> {
    /// It ended; the connection can be used again.
    Done(T),
    /// It ended, and the connection is of no more use.
    Spoilt(T),
}

impl Pool {
    /// The pool of an address.
    ///
    /// # Errors
    /// When a runtime cannot be started.
    pub(super) fn of(address: &Address, timeout: Duration) -> Result<Arc<Self>, SinkError> {
        let mut pools = locked(&POOLS);
        pools.retain(|pool| pool.strong_count() > 0);
        let mut known = pools.iter().filter_map(Weak::upgrade);
        if let Some(pool) = known.find(|p| p.address == *address && p.timeout == timeout) {
            return Ok(pool);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| SinkError::Fatal(format!("cannot start a runtime: {e}")))?;
        let inner = Mutex::new(Inner { runtime, idle: None });
        let pool = Arc::new(Pool { address: address.clone(), timeout, inner });
        pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    /// Carries out a job within the timeout; `None` where it takes longer.
    ///
    /// # Errors
    /// When no connection can be made, or the job fails.
    pub(super) fn run<T>(
        &self,
        job: impl AsyncFnOnce(&Connection) -> Result<Job<T>, SinkError>,
    ) -> Option<Result<T, SinkError>> {
        let mut inner = locked(&self.inner);
        let Inner { runtime, idle } = &mut *inner;
        runtime.block_on(async {
            let mut taken = idle.take();
            let limited = tokio::time::timeout(self.timeout, async {
                let db = match &mut taken {
                    Some(db) => &*db,
                    none => &*none.insert(Connection::open(&self.address, self.timeout).await?),
                };
                job(db).await
            });
            let ended = limited.await;
            if matches!(ended, Ok(Ok(Job::Done(_)))) {
                *idle = taken;
            } else if let Some(db) = taken {
                db.hang_up().await;
            }
            match ended {
                Ok(Ok(Job::Done(value) | Job::Spoilt(value))) => Some(Ok(value)),
                Ok(Err(error)) => Some(Err(error)),
                Err(_) => None,
            }
        })
    }

    /// Hangs an idle connection up, so that the next job begins with a new one.
    pub(super) fn hang_up(&self) {
        let mut inner = locked(&self.inner);
        if let Some(db) = inner.idle.take() {
            inner.runtime.block_on(db.hang_up());
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a job left behind when it panicked is a connection that was taken out.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
