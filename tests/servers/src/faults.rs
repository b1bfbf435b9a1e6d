//! A way to an HTTP server on which things go wrong, as they do on networks: one request a connection.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::now;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server answers with this status and does nothing.
    Status(u16),
    /// No answer comes.
    Stall,
    /// The answer breaks off behind so many bytes of its body.
    Truncate(usize),
    /// The server does what was asked, and its answer is lost.
    LoseAnswer,
}

/// Which requests it goes wrong for.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method, such as `GET`.
    pub method: &'static str,
    /// What stands in the path or the query.
    pub contains: String,
    /// What goes wrong.
    pub fault: Fault,
    /// So many requests pass before.
    pub after: usize,
    /// For so many requests.
    pub times: usize,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its first line.
    pub line: String,
    /// The first byte of the object that it asked for, where it asked for a range.
    pub from: Option<u64>,
    /// When it came.
    pub at: Instant,
}

/// A proxy before a server of this machine, gone with the value.
#[derive(Debug)]
pub struct FaultyWay {
    port: u16,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    requests: Vec<Asked>,
    n_faults: u64,
}

/// Something that goes wrong with one request in so many.
#[derive(Debug)]
struct Chance {
    seed: u64,
    one_in: u64,
}

impl FaultyWay {
    /// Starts a proxy before the server on port `to`. Nothing goes wrong yet.
    ///
    /// # Errors
    /// When there is no port or thread for it.
    pub fn start(to: u16) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&state);
        let thread =
            std::thread::Builder::new().name("faulty way".to_owned()).spawn(move || {
                let serve = async move {
                    let Ok(listener) = TcpListener::from_std(listener) else { return };
                    while let Ok((client, _)) = listener.accept().await {
                        let state = Arc::clone(&shared);
                        tokio::spawn(async move { pass_on(client, to, &state).await.ok() });
                    }
                };
                runtime.block_on(async {
                    tokio::select! { () = serve => {}, _ = stopped => {} }
                });
                runtime.shutdown_background();
            })?;
        Ok(FaultyWay { port, state, stop: Some(stop), thread: Some(thread) })
    }

    /// The port of the loopback that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a rule; the first that fits decides.
    pub fn rule(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Where no rule fits, anything goes wrong with one request in `one_in`.
    pub fn by_chance(&self, seed: u64, one_in: u64) {
        self.lock().chance = Some(Chance { seed, one_in: one_in.max(1) });
    }

    /// Nothing goes wrong from here on.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.chance = None;
    }

    /// Requests so far, each as its first line.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.iter().map(|asked| asked.line.clone()).collect()
    }

    /// Requests so far whose first line contains this.
    #[must_use]
    pub fn asked(&self, contains: &str) -> Vec<Asked> {
        self.lock().requests.iter().filter(|asked| asked.line.contains(contains)).cloned().collect()
    }

    /// How often something went wrong.
    #[must_use]
    pub fn n_faults(&self) -> u64 {
        self.lock().n_faults
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultyWay {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl State {
    /// Notes a request; what goes wrong with it.
    fn fault(&mut self, head: &str) -> Option<Fault> {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let fault = self.by_rule(&line).or_else(|| self.chance.as_mut()?.fault());
        self.n_faults += u64::from(fault.is_some());
        self.requests.push(Asked { line, from: first_byte(head), at: now() });
        fault
    }

    fn by_rule(&mut self, line: &str) -> Option<Fault> {
        let fits =
            |r: &&mut Rule| r.times > 0 && line.starts_with(r.method) && line.contains(&r.contains);
        let rule = self.rules.iter_mut().find(fits)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }
}

impl Chance {
    fn fault(&mut self) -> Option<Fault> {
        if self.below(self.one_in) > 0 {
            return None;
        }
        let statuses = [500, 503, 429];
        let n_bytes = usize::try_from(self.below(20_000)).unwrap_or(0);
        Some(match self.below(6) {
            0 => Fault::Stall,
            1 => Fault::LoseAnswer,
            2 => Fault::Truncate(n_bytes),
            n => Fault::Status(statuses[usize::try_from(n - 3).unwrap_or(0)]),
        })
    }

    /// A number below `n`, which is above 0: SplitMix64.
    fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Where the range begins that a request asks for.
fn first_byte(head: &str) -> Option<u64> {
    let range = header(head, "range")?.strip_prefix("bytes=")?;
    range.split('-').next()?.parse().ok()
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Passes one request on, and its answer back.
async fn pass_on(mut client: TcpStream, to: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client).await?;
    let fault = state.lock().unwrap_or_else(PoisonError::into_inner).fault(&head);
    match fault {
        Some(Fault::Status(status)) => {
            let text = "<Error><Code>Injected</Code><Message>asked for</Message></Error>";
            let length = text.len();
            let answer = format!(
                "HTTP/1.1 {status} Injected\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
            );
            return client.write_all(answer.as_bytes()).await;
        }
        Some(Fault::Stall) => {
            // Until the client has had enough: what it does not close would be open for ever.
            client.read_u8().await.ok();
            return Ok(());
        }
        _ => {}
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let n_bytes = match fault {
        Some(Fault::LoseAnswer) => 0,
        Some(Fault::Truncate(n)) => (end_of_head(&answer).unwrap_or(0) + n).min(answer.len()),
        _ => answer.len(),
    };
    client.write_all(&answer[..n_bytes]).await?;
    client.shutdown().await
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = end_of_head(&bytes) {
            break end;
        }
        if bytes.len() > HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = header(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}
