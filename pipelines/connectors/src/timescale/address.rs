//! Where the database is and how safely it is reached, from a URL that may hold a password.
//!
//! What a reader would get wrong:
//!
//! * `sslmode` is stricter than libpq's: `require`, `verify-ca` and `verify-full` all check the certificate and the name
//!   in it. Without `sslmode` that holds for every host but this machine.
//! * `prefer`, which lets whoever is in between choose, is only for this machine, where it means no TLS.
//! * Nothing here prints user or password, the message of a parse error included.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use foreline_engine::ConfigError;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::TlsConfig;

/// How a client is called that does not say otherwise (`application_name`).
pub(super) const APPLICATION: &str = "foreline";
/// How long a connection may take, where the URL does not say (`connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that is silent is asked after so long; the system's two hours would hold a pipeline up for as long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and is not acknowledged for so long was not delivered.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// How a database is reached.
#[derive(Clone, PartialEq)]
pub(crate) struct Address {
    pub(super) config: Config,
    /// The certificates, if the connection is encrypted.
    pub(super) tls: Option<TlsConfig>,
}

impl Address {
    /// Takes a URL apart; `tls` are the certificates of the pipeline file.
    pub(super) fn parse(url: &str, tls: Option<&TlsConfig>) -> Result<Self, ConfigError> {
        let scheme = ["postgresql://", "postgres://"].iter().any(|s| url.starts_with(s));
        if !scheme {
            return Err(not_an_address("it does not begin with 'postgresql://'"));
        }
        let (url, sslmode) = without_sslmode(url)?;
        let mut config = Config::from_str(&url).map_err(|e| not_an_address(&reason(&e)))?;
        if config.get_hosts().is_empty() {
            return Err(not_an_address("it names no host"));
        }
        let encrypted = encrypted(sslmode.as_deref(), is_here(&config), tls)?;
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES).tcp_user_timeout(UNACKNOWLEDGED);
        if config.get_hosts().len() > 1 {
            // Of several servers only the one that takes rows will do.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let tls = encrypted.then(|| tls.cloned().unwrap_or_default());
        Ok(Address { config, tls })
    }

    /// Things a user should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        if self.tls.is_some() || is_here(&self.config) {
            return Vec::new();
        }
        vec![format!("what goes to {self}, the password included, is not encrypted")]
    }
}

/// Host, port and database.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgresql://")?;
        let ports = self.config.get_ports();
        for (i, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(PORT);
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(folder) => write!(f, "{comma}{}:{port}", folder.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn not_an_address(why: &str) -> ConfigError {
    ConfigError::new("url", format!("this is not the address of a database: {why}"))
        .help("write postgresql://user:password@host:5432/database, best as ${env:DATABASE_URL}")
}

/// What is wrong with a URL, where that can be said without its values.
fn reason(error: &tokio_postgres::Error) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let names_only = ["unknown option", "invalid value for option"];
    if names_only.iter().any(|begin| source.starts_with(begin)) {
        source.replace('`', "'")
    } else {
        "it cannot be taken apart".to_owned()
    }
}

/// Takes out what the client does not understand, or not as we do.
fn without_sslmode(url: &str) -> Result<(String, Option<String>), ConfigError> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let mut sslmode = None;
    let mut rest = Vec::new();
    for option in query.split('&') {
        match option.split_once('=') {
            Some(("sslmode", mode)) => sslmode = Some(mode.to_owned()),
            Some((name @ ("sslrootcert" | "sslcert" | "sslkey"), _)) => {
                let message = format!("'{name}' has no effect in the URL");
                let help = "name the files in the sink: tls: { ca: ..., cert: ..., key: ... }";
                return Err(ConfigError::new("url", message).help(help));
            }
            _ => rest.push(option),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, sslmode))
}

/// Whether every host is this machine.
fn is_here(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
        }
    })
}

fn encrypted(
    sslmode: Option<&str>,
    here: bool,
    tls: Option<&TlsConfig>,
) -> Result<bool, ConfigError> {
    if let Some(TlsConfig { cert, key, .. }) = tls
        && cert.is_some() != key.is_some()
    {
        let message = "'cert' and 'key' belong together, and one of them is missing";
        return Err(ConfigError::new("tls", message).help("name both, or neither"));
    }
    match sslmode {
        None => Ok(tls.is_some() || !here),
        Some("require" | "verify-ca" | "verify-full") => Ok(true),
        Some("disable") if tls.is_some() => {
            let message = "there are certificates, but the URL says 'sslmode=disable'";
            Err(ConfigError::new("tls", message).help("leave one of them out"))
        }
        Some("disable") => Ok(false),
        Some("prefer" | "allow") if here && tls.is_none() => Ok(false),
        Some(mode @ ("prefer" | "allow")) => {
            let message = format!("with 'sslmode={mode}' whoever is in between can end encryption");
            Err(ConfigError::new("url", message)
                .help("write verify-full, or disable if you mean it"))
        }
        Some(_) => Err(ConfigError::new("url", "there is no such 'sslmode'")
            .help("write verify-full, or disable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, ConfigError> {
        Address::parse(url, None)
    }

    #[test]
    fn only_this_machine_is_reached_without_encryption() {
        for (url, tls) in [
            ("postgresql://u:p@127.0.0.1/db", false),
            ("postgresql://u:p@localhost:5433/db?sslmode=prefer", false),
            ("postgresql://u:p@%2Frun%2Fpostgresql/db", false),
            ("postgresql://u:p@localhost/db?sslmode=require", true),
            ("postgres://u:p@db.example/db", true),
            ("postgresql://u:p@localhost,db.example/db", true),
            ("postgresql://u:p@db.example/db?sslmode=disable&application_name=x", false),
        ] {
            assert_eq!(parse(url).unwrap().tls.is_some(), tls, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_without_a_secret() {
        for url in [
            "host=db password=canary",
            "postgresql://u:canary@db.example/db?sslmode=prefer",
            "postgresql://u:canary@db.example/db?sslmode=canary",
            "postgresql://u:canary@db.example/db?sslrootcert=x",
            "postgresql://u:canary@db.example/db?colour=blue",
            "postgresql://u:canary@db.example:port/db",
            "postgresql:///db",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
            assert!(error.help.is_some() && error.at == "url", "{error:?}");
        }
    }

    #[test]
    fn an_address_prints_without_user_and_password() {
        let address = parse("postgresql://ann:canary@db.example:5433/plant").unwrap();
        assert_eq!(address.to_string(), "postgresql://db.example:5433/plant");
        assert_eq!(format!("{address:?}"), address.to_string());
        let plain = parse("postgresql://ann:canary@db.example/plant?sslmode=disable").unwrap();
        assert_eq!(plain.notes().len(), 1);
    }

    #[test]
    fn certificates_need_their_keys_and_a_use() {
        let tls =
            |cert: Option<&str>| TlsConfig { cert: cert.map(Into::into), ..TlsConfig::default() };
        let at = |url: &str, tls: &TlsConfig| Address::parse(url, Some(tls)).unwrap_err().at;
        assert_eq!(at("postgresql://u@localhost/db", &tls(Some("c.pem"))), "tls");
        assert_eq!(at("postgresql://u@localhost/db?sslmode=disable", &tls(None)), "tls");
        assert!(
            Address::parse("postgresql://u@localhost/db", Some(&tls(None))).unwrap().tls.is_some()
        );
    }
}
