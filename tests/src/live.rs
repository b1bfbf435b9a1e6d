//! The real command while it runs: started, told to end, asked over HTTP, and what is in its sink so far.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use tempfile::TempDir;

use crate::torture::{keys, now, rows, wait};

/// How long a test waits for what must come, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Starts `foreline run p.yaml` in `folder`, where it leaves `stdout`, and `stderr` behind that of runs before.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start(command: &str, folder: &Path, crash_at: &str) -> Child {
    start_with(command, folder, &[("FORELINE_CRASH_AT", crash_at)])
}

/// The same with variables of the environment.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start_with(command: &str, folder: &Path, variables: &[(&str, &str)]) -> Child {
    start_on(command, folder, variables, 2)
}

fn start_on(command: &str, folder: &Path, variables: &[(&str, &str)], workers: usize) -> Child {
    let stderr = OpenOptions::new().create(true).append(true).open(folder.join("stderr"));
    Command::new(command)
        .args(["run", "--quiet", "--json", "--workers", &workers.to_string()])
        .arg(folder.join("p.yaml"))
        .envs(variables.iter().copied())
        .stdout(File::create(folder.join("stdout")).expect("the folder can be written to"))
        .stderr(stderr.expect("the folder can be written to"))
        .stdin(Stdio::null())
        .spawn()
        .expect("the command starts")
}

/// A pipeline with a server that runs in a folder of its own, until this value goes.
#[derive(Debug)]
pub struct Running {
    /// The folder, with the pipeline as `p.yaml`.
    pub folder: TempDir,
    /// The process.
    pub child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    command: &'static str,
}

impl Running {
    /// Starts the command on a pipeline and waits until it takes rows. `files` are beside the pipeline.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn new(command: &'static str, pipeline: &str, files: &[(&str, &str)]) -> Self {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        Running::with(command, pipeline, &files)
    }

    /// The same with files that are not text.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn with(command: &'static str, pipeline: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        for (name, bytes) in files.iter().chain(&[("p.yaml", pipeline.as_bytes())]) {
            std::fs::write(folder.path().join(name), bytes)
                .expect("a new folder can be written to");
        }
        let (child, address) = begin(command, folder.path(), 2);
        Running { folder, child, address, command }
    }

    /// Starts it once more.
    pub fn again(&mut self) {
        self.again_on(2);
    }

    /// The same on so many workers.
    pub fn again_on(&mut self, workers: usize) {
        (self.child, self.address) = begin(self.command, self.folder.path(), workers);
    }

    /// Kills it in the middle and starts it once more.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn die_and_live(&mut self) {
        self.child.kill().expect("a process that runs can be killed");
        self.child.wait().expect("a child can be waited for");
        self.again();
    }

    /// Asks for something with a body of JSON; the answer to it.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn send(&self, method_and_path: &str, json: &str) -> String {
        let head = "content-type: application/json\r\n";
        let answer = ask(self.address, method_and_path, head, json.as_bytes());
        let answer = answer.expect("the server answers");
        assert_eq!(answer.status, 200, "{method_and_path}: {}", answer.body);
        answer.body
    }

    /// The rows of a sink so far.
    #[must_use]
    pub fn lake(&self, stream: &str) -> Lake {
        Lake(self.folder.path().join("lake").join(stream))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the command and waits until it takes rows.
fn begin(command: &str, folder: &Path, workers: usize) -> (Child, SocketAddr) {
    std::fs::write(folder.join("stderr"), "").expect("the folder can be written to");
    let child = start_on(command, folder, &[], workers);
    let mut address = None;
    eventually("the pipeline is ready", || {
        address = self::address(folder);
        let answer = address.and_then(|address| ask(address, "GET /readyz", "", b"").ok());
        answer.is_some_and(|answer| answer.status == 200)
    });
    (child, address.expect("it was ready"))
}

/// Sends SIGTERM and waits for the end.
///
/// # Panics
/// When the process cannot be told.
pub fn terminate(child: &mut Child) -> ExitStatus {
    // The shell's own: not every machine has the program.
    let told = Command::new("sh").args(["-c", &format!("kill {}", child.id())]).status();
    assert!(told.is_ok_and(|s| s.success()), "a process that runs can be told to end");
    child.wait().expect("a child can be waited for")
}

/// Waits until something holds.
///
/// # Panics
/// When it does not hold within [`PATIENCE`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        wait(Duration::from_millis(10));
    }
}

/// A folder of the Parquet sink.
#[derive(Debug, Clone)]
pub struct Lake(pub PathBuf);

impl Lake {
    /// Machine and time of every row that is committed so far.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn rows(&self) -> Vec<(String, i64)> {
        let batches = rows(&self.0).expect("what is committed can be read");
        batches.iter().flat_map(|b| keys(b, "ts").expect("it has machine and time")).collect()
    }

    /// Some columns of every row that is committed so far, as text; empty for null.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn texts(&self, columns: &[&str]) -> Vec<Vec<String>> {
        let batches = rows(&self.0).expect("what is committed can be read");
        let text = |batch: &RecordBatch, name: &&str, row: usize| {
            let column = batch.column_by_name(name).expect("it has the column");
            array_value_to_string(column, row).expect("it can be shown")
        };
        let of_row =
            |batch: &RecordBatch, row| columns.iter().map(|c| text(batch, c, row)).collect();
        let of_batch =
            |b: &RecordBatch| (0..b.num_rows()).map(|r| of_row(b, r)).collect::<Vec<_>>();
        batches.iter().flat_map(of_batch).collect()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends a request and reads the answer. `head` is further lines, each ended by `\r\n`.
///
/// # Errors
/// When the server cannot be reached, or goes away before it has answered.
pub fn ask(address: SocketAddr, line: &str, head: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // A server that refuses need not read all of it.
    let sent = stream.write_all(body);
    read_answer(stream).or_else(|e| sent.and(Err(e)))
}

/// Reads an answer to its end.
///
/// # Errors
/// When the server goes away before it has answered.
pub fn read_answer(mut stream: TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut_off)?;
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(cut_off)?;
    let said = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
    if said.is_some_and(|n: usize| body.len() < n) {
        read?;
        return Err(cut_off());
    }
    Ok(Answer { status, head, body: body.to_owned() })
}

/// The address that the last run in `folder` says it listens on, once it does.
#[must_use]
pub fn address(folder: &Path) -> Option<SocketAddr> {
    let said = std::fs::read_to_string(folder.join("stderr")).ok()?;
    let line = said.lines().rev().find_map(|l| l.strip_prefix("listening on http://"))?;
    line.parse().ok()
}
