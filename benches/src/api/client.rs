//! A client that keeps its connection, and does as little as possible besides.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Longer, and the server has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) tag: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn connect(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::with_capacity(1 << 16, stream) })
    }

    pub(super) fn get(&mut self, path: &str, tag: Option<&str>) -> Result<Answer> {
        let tag = tag.map_or(String::new(), |tag| format!("if-none-match: {tag}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{tag}\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.answer()
    }

    pub(super) fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.with_context(|| format!("'{}' is no answer", line.trim()))?;
        let (mut tag, mut length) = (None, None);
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the server went away");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "etag" => tag = Some(value.trim().to_owned()),
                "content-length" => length = Some(value.trim().parse::<usize>()?),
                _ => {}
            }
        }
        let length = if status == 304 { 0 } else { length.context("an answer has a length")? };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, tag, body })
    }
}
