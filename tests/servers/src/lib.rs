//! The real servers that tests talk to, each started on a free port of the loopback and gone with its value.
//!
//! A server that is not installed is an error that says how to install it; no test passes for want of one.

pub mod certificates;
pub mod fake_broker;
pub mod mailbox;
pub mod mosquitto;
mod postgres;
pub mod proxy;
pub mod publisher;
pub mod receiver;
pub mod subscriber;

pub use postgres::{PASSWORD, Postgres};

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

mod faults;
mod mlflow;
mod moto;
mod s3;

pub use faults::{Asked, Fault, FaultyWay, Rule};
pub use mlflow::Mlflow;
pub use moto::{Moto, PAGE_MAX};
pub use s3::{ACCESS_KEY, S3Server, SECRET_KEY};

/// How long a server may take to answer after its start: minutes on a machine that is busy building.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A port of the loopback that nobody listened on a moment ago.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until somebody listens on a port of the loopback.
///
/// # Errors
/// When nobody does in two minutes.
pub fn await_port(port: u16) -> Result<()> {
    let started = now();
    while started.elapsed() < START_TIMEOUT {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        pause();
    }
    bail!("nobody listens on port {port} after {START_TIMEOUT:?}")
}

/// Waits as long as between two looks at something that takes its time.
fn pause() {
    let (_open, never) = std::sync::mpsc::channel::<()>();
    never.recv_timeout(Duration::from_millis(20)).ok();
}

/// Sends a signal, such as `TERM`, to a process that was started here.
///
/// # Errors
/// When there is no such process.
pub fn signal(name: &str, process: u32) -> Result<()> {
    // The shell's own: not every machine has the program.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status()?;
    ensure!(status.success(), "no signal {name} to process {process}: {status}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long a server takes is no part of a result")]
fn now() -> Instant {
    Instant::now()
}
