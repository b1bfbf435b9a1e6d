//! The real MLflow tracking server, from PyPI.
//!
//! `cargo xtask test` installs it in a folder of its own; a test for which it is missing says so and leaves out what it would
//! have shown.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{await_port, free_port, pause};

/// Looks at a server that listens already and is not ready, before it is given up.
const LOOKS: usize = 600;

/// A server, gone with the value.
#[derive(Debug)]
pub struct Mlflow {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Mlflow {
    /// Starts an empty server; none where it is not installed, which is said on stderr.
    ///
    /// # Errors
    /// When it is there and does not start.
    pub fn start() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let store = format!("sqlite:///{}", folder.path().join("mlflow.db").display());
        Self::on(&store, folder)
    }

    /// Starts a server on a folder of files; none where it is not installed.
    ///
    /// # Errors
    /// When it is there and does not start.
    pub fn on_files(files: &Path) -> Result<Option<Self>> {
        Self::on(&files.display().to_string(), tempfile::tempdir()?)
    }

    fn on(store: &str, folder: TempDir) -> Result<Option<Self>> {
        let Some(program) = program().filter(|program| program.is_file()) else {
            skipped();
            return Ok(None);
        };
        let port = free_port()?;
        let process = Command::new(&program)
            .args(["server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"])
            .args(["--backend-store-uri", store, "--artifacts-destination"])
            .arg(folder.path().join("artifacts"))
            .env("MLFLOW_ALLOW_FILE_STORE", "true")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("'{}' does not start", program.display()))?;
        let server = Mlflow { process, port, _folder: folder };
        await_port(port)?;
        for _ in 0..LOOKS {
            if server.get("/health").is_ok() {
                return Ok(Some(server));
            }
            pause();
        }
        anyhow::bail!("mlflow does not become ready")
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it answers.
    ///
    /// # Errors
    /// When it does not answer with yes.
    pub fn get(&self, path: &str) -> Result<String> {
        self.ask(&format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n"))
    }

    /// What it answers to JSON.
    ///
    /// # Errors
    /// When it does not answer with yes.
    pub fn post(&self, path: &str, body: &str) -> Result<String> {
        let length = body.len();
        self.ask(&format!(
            "POST {path} HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    fn ask(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        let says_yes = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        ensure!(says_yes, "{}: {body}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        // It starts a process of its own that serves; asked to end, it ends both.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.process.wait();
    }
}

/// Where `cargo xtask test` installs it.
fn program() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty());
    let cache = named.map(PathBuf::from).or_else(home)?;
    Some(cache.join("foreline-mlflow/bin/mlflow"))
}

#[expect(
    clippy::print_stderr,
    reason = "that a test was left out is said where its failure would be"
)]
fn skipped() {
    eprintln!("SKIPPED: mlflow is not installed; `cargo xtask test` installs it with python3-venv");
}
