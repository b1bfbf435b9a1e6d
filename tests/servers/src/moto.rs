//! `moto_server`: how others read what S3 does, beside our own [`S3Server`](crate::S3Server).
//!
//! It takes any signature and keeps objects in memory. `cargo xtask test` installs it in a folder of its own; a test for
//! which it is missing says so and leaves out what it would have shown.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{await_port, free_port};

/// Objects of a page, few enough that a test need not put a thousand.
pub const PAGE_MAX: usize = 10;

/// Who asks: it looks at that somebody has signed, and not at the signature.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A server, gone with the value.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    /// Starts a server that has these buckets; none where it is not installed, which is said on stderr.
    ///
    /// # Errors
    /// When it is there and does not start.
    pub fn start(buckets: &[&str]) -> Result<Option<Self>> {
        let Some(program) = program().filter(|program| program.is_file()) else {
            skipped();
            return Ok(None);
        };
        let port = free_port()?;
        let process = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .env("MOTO_S3_DEFAULT_MAX_KEYS", PAGE_MAX.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("'{}' does not start", program.display()))?;
        let server = Moto { process, port };
        await_port(port)?;
        for bucket in buckets {
            server.request("PUT", &format!("/{bucket}"), b"")?;
        }
        Ok(Some(server))
    }

    /// The port of the loopback that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts an object there.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<()> {
        self.request("PUT", &format!("/{bucket}/{key}"), bytes).map(|_| ())
    }

    /// An object.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        self.request("GET", &format!("/{bucket}/{key}"), b"")
    }

    /// The body of an answer that says yes.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: {SIGNED}\r\n\
             content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no whole answer")?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        let says_yes = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        ensure!(says_yes, "{method} {path}: {}", head.lines().next().unwrap_or_default());
        Ok(body)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself; it is gone either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where `cargo xtask test` installs it.
fn program() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty());
    let cache = named.map(PathBuf::from).or_else(home)?;
    Some(cache.join("foreline-moto/bin/moto_server"))
}

#[expect(
    clippy::print_stderr,
    reason = "that a test was left out is said where its failure would be"
)]
fn skipped() {
    eprintln!(
        "SKIPPED: moto_server is not installed; `cargo xtask test` installs it with python3-venv"
    );
}
