//! How a store is reached and who one is to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use foreline_engine::{ConfigError, Extent};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest pause between two tries of a request.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often a request is tried again before the error is seen.
const RETRIES_MAX: usize = 10;
/// How long a request is tried at most before the error is seen; credentials may expire while it is.
pub(crate) const RETRY_TIME_MAX: Duration = Duration::from_secs(60);
/// The time limit of one request while somebody waits: a few of them fit in the time of a probe.
const HURRIED: Extent = Extent::Nanos(3_000_000_000);
/// The longest time limit of one request that may be asked for.
const TIMEOUT_NS_MAX: i64 = 3_600_000_000_000;

/// A text that is never printed: a key, a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How an S3 store is reached. Without keys, those of the environment are used (`AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY`, a web identity token, a container's or an instance's role).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The address of a store other than AWS, such as `https://minio.plant.example:9000`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region. Default: that of the environment (`AWS_REGION`), or `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// The access key, as in `${env:LAKE_KEY}`.
    #[serde(default)]
    pub access_key_id: Option<Hidden>,
    /// The secret key, as in `${file:/run/secrets/lake}`.
    #[serde(default)]
    pub secret_access_key: Option<Hidden>,
    /// The token that belongs to temporary keys.
    #[serde(default)]
    pub session_token: Option<Hidden>,
    /// Whether requests go unsigned, for buckets that anybody may read.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether the bucket is part of the path, not of the host's name. Default: with an `endpoint` yes, else no.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Whether an `endpoint` without TLS (`http://`) may be used. Keys are not sent then, but everything can be read
    /// and changed on the way.
    #[serde(default)]
    pub allow_http: bool,
    /// A file with certificates (PEM) of authorities to trust beside those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long one request may take; it is then tried again. Default `30s`.
    #[serde(default)]
    pub timeout: Option<Extent>,
    /// Whether somebody waits for the answer.
    #[serde(skip)]
    pub(crate) hurried: bool,
}

/// A prefix of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(crate) prefix: String,
}

impl Place {
    /// Reads `s3://bucket/prefix/`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("s3://").ok_or_else(|| {
            format!("'{url}' is not the address of a bucket; write s3://bucket/prefix/")
        })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if bucket.is_empty() || !bucket.bytes().all(allowed) {
            return Err(format!("'{bucket}' is not the name of a bucket"));
        }
        let prefix = prefix.trim_matches('/').to_owned();
        object_store::path::Path::parse(&prefix)
            .map_err(|_| format!("'{prefix}' is not a prefix: it has an empty or a dotted part"))?;
        Ok(Place { bucket: bucket.to_owned(), prefix })
    }

    /// The key of `name` below the prefix.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// What is wrong with a connection, wherever it is configured.
pub(crate) fn mistakes(connection: &Connection) -> Vec<ConfigError> {
    let mut found = Vec::new();
    if let Some(endpoint) = &connection.endpoint {
        match endpoint.split_once("://") {
            Some(("https", host)) if !host.is_empty() => {}
            Some(("http", host)) if !host.is_empty() && connection.allow_http => {}
            Some(("http", _)) => found.push(
                ConfigError::new("endpoint", "the endpoint has no TLS")
                    .help("use https://, or say `allow_http: true` where the network is your own"),
            ),
            _ => found.push(ConfigError::new(
                "endpoint",
                format!("'{endpoint}' is not an address; write https://host:port"),
            )),
        }
    }
    let keys = [
        ("secret_access_key", &connection.access_key_id, &connection.secret_access_key),
        ("access_key_id", &connection.secret_access_key, &connection.access_key_id),
        ("access_key_id", &connection.session_token, &connection.access_key_id),
    ];
    if let Some((missing, ..)) =
        keys.iter().find(|(_, has, lacks)| has.is_some() && lacks.is_none())
    {
        found.push(ConfigError::new("", format!("'{missing}' is missing beside the other key")));
    }
    if connection.anonymous && connection.access_key_id.is_some() {
        found.push(ConfigError::new("anonymous", "there are keys, and they would not be used"));
    }
    if let Some(timeout) = connection.timeout
        && !matches!(timeout, Extent::Nanos(1..=TIMEOUT_NS_MAX))
    {
        found.push(
            ConfigError::new("timeout", format!("'{timeout}' is not a time limit"))
                .help("give a duration up to 1h, such as 30s"),
        );
    }
    found
}

impl Connection {
    /// The same for somebody who waits for the answer: nothing is tried for long.
    pub(crate) fn hurried(&self) -> Self {
        Connection { timeout: Some(HURRIED), hurried: true, ..self.clone() }
    }

    /// A client of the store. Nothing is asked of it yet.
    pub(super) fn build(&self, place: &Place) -> Result<AmazonS3, String> {
        let mut builder = if self.access_key_id.is_some() || self.anonymous {
            AmazonS3Builder::new()
        } else {
            AmazonS3Builder::from_env()
        };
        builder = builder.with_bucket_name(&place.bucket).with_skip_signature(self.anonymous);
        let texts = [&self.access_key_id, &self.secret_access_key, &self.session_token];
        if let [Some(id), Some(secret), token] = texts {
            builder = builder.with_access_key_id(&id.0).with_secret_access_key(&secret.0);
            builder = token.iter().fold(builder, |b, t| b.with_token(&t.0));
        }
        builder = self.region.iter().fold(builder, |b, region| b.with_region(region));
        let path_style = self.path_style.unwrap_or(self.endpoint.is_some());
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(address(endpoint, &place.bucket, path_style));
        }
        let builder = builder.with_client_options(self.client()?).with_retry(retries(self.hurried));
        // After the options, which it would be lost with.
        builder.with_allow_http(self.allow_http).build().map_err(|e| e.to_string())
    }

    fn client(&self) -> Result<ClientOptions, String> {
        let mut client = ClientOptions::new();
        if let Some(Extent::Nanos(timeout)) = self.timeout {
            client = client.with_timeout(Duration::from_nanos(timeout.unsigned_abs()));
        }
        if let Some(file) = &self.ca_file {
            let failed = |e: &dyn fmt::Display| format!("cannot use '{}': {e}", file.display());
            let text = std::fs::read(file).map_err(|e| failed(&e))?;
            for certificate in Certificate::from_pem_bundle(&text).map_err(|e| failed(&e))? {
                client = client.with_root_certificate(certificate);
            }
        }
        Ok(client)
    }
}

/// The endpoint with the bucket in its host's name, where it belongs there.
fn address(endpoint: &str, bucket: &str, path_style: bool) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}

fn retries(hurried: bool) -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: PAUSE_MAX, ..BackoffConfig::default() };
    if hurried {
        return RetryConfig { backoff, max_retries: 1, retry_timeout: Duration::from_secs(2) };
    }
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME_MAX }
}
