//! PostgreSQL in a temporary folder.
//!
//! What a reader would get wrong:
//!
//! * PostgreSQL does not run as root. Where the tests do, as in CI, it runs as `postgres` or `nobody`, who owns the folder.
//! * What the tests ask and tell it by [`Postgres::sql`] goes through `psql`, so that no test depends on the client that
//!   it tests.
//! * It does not wait for the disk (`fsync = off`) unless it is told to: no test pulls the plug of the machine.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{START_TIMEOUT, free_port, now, pause};

/// The user who owns everything, and the password; a test looks for it where it must not be.
const USER: &str = "foreline";
/// What must never be printed.
pub const PASSWORD: &str = "canary-7c02-of-the-database";
/// Where Debian's packages put the programs, one folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How often another port is tried when somebody else was quicker to take it.
const ATTEMPTS: usize = 5;

/// A PostgreSQL server. It ends with this value.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    settings: Vec<(String, String)>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// A new server.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[("fsync", "off"), ("max_connections", "40")])
    }

    /// A new server with settings of `postgresql.conf`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for PostgreSQL")?;
        let owner = owner()?;
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (programs, server) = (programs()?, None);
        let mut postgres = Postgres { folder, programs, owner, settings, port: 0, server };
        postgres.create()?;
        for _ in 0..ATTEMPTS {
            postgres.port = free_port()?;
            if postgres.up()? {
                return Ok(postgres);
            }
        }
        bail!("PostgreSQL does not start:\n{}", postgres.log())
    }

    /// How it is reached, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(USER, PASSWORD, "postgres")
    }

    /// How a database is reached by a user.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on, also after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What statements answer: a line a row, fields with `|` between them.
    ///
    /// # Errors
    /// What PostgreSQL says is wrong.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.sql_at(&self.url(), statements)
    }

    /// As [`Postgres::sql`], at another database or as another user.
    ///
    /// # Errors
    /// What PostgreSQL says is wrong.
    pub fn sql_at(&self, url: &str, statements: &str) -> Result<String> {
        let output = self.psql(url).args(["-c", statements]).output().context("psql")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A `psql` that is given a URL and prints bare rows.
    #[must_use]
    pub fn psql(&self, url: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
        psql.stdin(Stdio::null());
        psql
    }

    /// Stops it as an administrator does who does not wait for clients.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("INT")?;
        self.await_end()
    }

    /// Starts it again on the same port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.up()?, "PostgreSQL does not start again:\n{}", self.log());
        Ok(())
    }

    /// Ends every connection of a client with this application name; how many there were.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn terminate(&self, application: &str) -> Result<usize> {
        let ended = self.sql(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{application}'"
        ))?;
        Ok(ended.lines().count())
    }

    /// Stops it and all its processes where they are.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&self) -> Result<()> {
        self.signal_all("STOP")
    }

    /// Lets it go on after [`Postgres::pause`].
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn go_on(&self) -> Result<()> {
        self.signal_all("CONT")
    }

    /// The folder of its data, with `postgresql.conf` and `pg_hba.conf`.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Gives a file to the user who runs the server, and to nobody else, as it wants a key to be.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn own(&self, file: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = self.owner {
            chown(file, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn create(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        self.own(&password)?;
        if let Some((user, group)) = self.owner {
            chown(self.folder.path(), Some(user), Some(group))?;
        }
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(self.data()).arg("--pwfile").arg(&password);
        initdb.args(["-U", USER, "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]);
        let output = initdb.output().context("initdb cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb ended with {}: {said}", output.status);
        Ok(())
    }

    /// A program of PostgreSQL, as the user who may run it.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts the server; whether it answers. It does not where its port is taken.
    fn up(&mut self) -> Result<bool> {
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().context("postgres cannot be started")?);
        let begun = now();
        while begun.elapsed() < START_TIMEOUT {
            if self.ended()? {
                return Ok(false);
            }
            if self.sql("select 1").is_ok_and(|answer| answer == "1") {
                return Ok(true);
            }
            pause();
        }
        bail!("PostgreSQL does not answer after {START_TIMEOUT:?}:\n{}", self.log())
    }

    fn ended(&mut self) -> Result<bool> {
        Ok(self.server.as_mut().map_or(Ok(None), Child::try_wait)?.is_some())
    }

    fn await_end(&mut self) -> Result<()> {
        let begun = now();
        while begun.elapsed() < START_TIMEOUT {
            if self.server.is_none() || self.ended()? {
                self.server = None;
                return Ok(());
            }
            pause();
        }
        bail!("PostgreSQL does not stop")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        crate::signal(signal, server.id())
    }

    /// To the server and the processes that it has started, each of which is a group of its own.
    fn signal_all(&self, signal: &str) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        crate::signal(signal, server.id())?;
        for process in fs::read_dir("/proc")? {
            let Ok(status) = fs::read_to_string(process?.path().join("status")) else { continue };
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name))?;
                line.trim().parse::<u32>().ok()
            };
            if let (Some(pid), true) = (field("Pid:"), field("PPid:") == Some(server.id())) {
                // One that has ended since is none that should stop.
                crate::signal(signal, pid).ok();
            }
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // One that was paused does not hear anything else.
        self.go_on().ok();
        self.signal("QUIT").ok();
        if self.await_end().is_err()
            && let Some(server) = &mut self.server
        {
            server.kill().ok();
            server.wait().ok();
        }
    }
}

/// Who is to run the server, where we are root.
fn owner() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("the users of this machine")?;
    for name in ["postgres", "nobody"] {
        let fields = users.lines().map(|l| l.split(':').collect::<Vec<_>>());
        if let Some([_, _, user, group, ..]) = fields.into_iter().find(|f| f[0] == name).as_deref()
        {
            return Ok(Some((user.parse()?, group.parse()?)));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody'")
}

/// The folder with the programs of PostgreSQL: on the path, or the newest of Debian's.
fn programs() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = fs::read_dir(DEBIAN) {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    let all = |folder: &&PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file())
    };
    let found = folders.iter().find(all).cloned();
    found.context("PostgreSQL is not installed: apt-get install postgresql")
}
