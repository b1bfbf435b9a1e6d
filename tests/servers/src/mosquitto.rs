//! Mosquitto, the MQTT broker: with the limits it comes with or wide ones, with or without a memory, with TLS.
//!
//! It keeps its port and its folder from start to start, so that a restart is what a client sees of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{await_port, certificates, free_port, signal};

/// How a broker is set up. The default is what Mosquitto does when nobody tells it anything.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Any number of messages in flight and in the queue of an absent client.
    pub is_wide: bool,
    /// It keeps sessions and queues when it is stopped and started again.
    pub persists: bool,
    /// It speaks TLS only, and asks clients for a certificate.
    pub has_tls: bool,
    /// It wants this user name and password.
    pub credentials: Option<(String, String)>,
}

/// A running broker.
#[derive(Debug)]
pub struct Mosquitto {
    setup: Setup,
    port: u16,
    plain_port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker on a free port.
    ///
    /// # Errors
    /// When it is not installed or does not start; what it said is part of the message.
    pub fn start(setup: Setup) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for mosquitto")?;
        let (port, plain_port) = (free_port()?, free_port()?);
        if setup.has_tls {
            certificates::make(folder.path())?;
        }
        let mut broker = Mosquitto { setup, port, plain_port, folder, process: None };
        broker.configure()?;
        broker.restart()?;
        Ok(broker)
    }

    /// Its port on the loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A port that speaks without TLS, whatever the other one does, for those who publish.
    #[must_use]
    pub fn plain_port(&self) -> u16 {
        self.plain_port
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.setup.has_tls { "mqtts" } else { "mqtt" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// A certificate or key that was made for it: `ca.pem`, `client.pem`, `client.key`, `stranger.pem`, `stranger.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has written to its log since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Starts it again after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let log = fs::File::create(self.file("log"))?;
        let process = Command::new(program())
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("mosquitto does not start; on Debian: apt-get install mosquitto")?;
        self.process = Some(process);
        let ready = await_port(self.plain_port).and_then(|()| await_port(self.port));
        ready.with_context(|| self.log())
    }

    /// Ends it as an operator does: it may write down what it keeps.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            signal("TERM", process.id())?;
            process.wait()?;
        }
        Ok(())
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself; it is gone either way.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it from doing anything; its connections stay.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        signal("STOP", self.process.as_ref().context("mosquitto does not run")?.id())
    }

    /// Goes on after [`Mosquitto::pause`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        signal("CONT", self.process.as_ref().context("mosquitto does not run")?.id())
    }

    fn configure(&self) -> Result<()> {
        let mut text = format!("listener {} 127.0.0.1\n", self.plain_port);
        text += &format!("listener {} 127.0.0.1\n", self.port);
        if self.setup.has_tls {
            for (option, file) in
                [("cafile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key")]
            {
                text += &format!("{option} {}\n", self.file(file).display());
            }
            text += "require_certificate true\n";
        }
        match &self.setup.credentials {
            Some((user, password)) => {
                make_passwords(&self.file("passwords"), user, password)?;
                text += &format!("password_file {}\n", self.file("passwords").display());
            }
            None => text += "allow_anonymous true\n",
        }
        if self.setup.is_wide {
            text += "max_inflight_messages 0\nmax_queued_messages 0\n";
        }
        if self.setup.persists {
            let folder = self.folder.path().display();
            text += &format!("persistence true\npersistence_location {folder}/\n");
        }
        for kind in ["error", "warning", "notice", "information", "subscribe"] {
            text += &format!("log_type {kind}\n");
        }
        // Started by root it would become a user that cannot read the folder.
        text += "user root\n";
        fs::write(self.file("mosquitto.conf"), text)?;
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian puts it where only root looks.
fn program() -> &'static str {
    const OF_DEBIAN: &str = "/usr/sbin/mosquitto";
    if Path::new(OF_DEBIAN).exists() { OF_DEBIAN } else { "mosquitto" }
}

fn make_passwords(file: &Path, user: &str, password: &str) -> Result<()> {
    let status = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(file)
        .args([user, password])
        .status()
        .context("mosquitto_passwd does not start")?;
    ensure!(status.success(), "mosquitto_passwd ended with {status}");
    Ok(())
}
