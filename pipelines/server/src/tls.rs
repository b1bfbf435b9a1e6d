//! Encrypted connections: rustls with ring, and a certificate that may be renewed while the server runs.
//!
//! What a reader would get wrong: a renewed certificate that cannot be read changes nothing. The one before it is shown until
//! there is a better one, and the log says why.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

/// Between two looks whether the files have changed.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// Who the server is, by the files that say so.
#[derive(Clone)]
pub struct Tls {
    shown: Arc<Shown>,
    provider: Arc<CryptoProvider>,
}

/// The certificate that is shown to clients.
#[derive(Debug)]
struct Shown {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.shown.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificate, with those that vouch for it behind it, and its private key, all PEM.
    ///
    /// # Errors
    /// When a file cannot be read, does not hold what it should, or they do not belong together.
    pub fn read(cert: &Path, key: &Path) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let now = RwLock::new(Arc::new(certified(cert, key, &provider)?));
        let shown = Arc::new(Shown { cert: cert.to_owned(), key: key.to_owned(), now });
        Ok(Tls { shown, provider })
    }

    /// How a server speaks: TLS 1.2 and 1.3, with one application protocol.
    ///
    /// # Errors
    /// When rustls has none of its protocol versions, which does not happen.
    pub fn config(&self, protocol: &str) -> io::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }

    /// Looks again and again whether the files have changed, until the server ends.
    pub(crate) async fn renew(self, mut stopped: watch::Receiver<bool>) {
        let mut seen = self.shown.stamp();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_TIME) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            let stamp = self.shown.stamp();
            if stamp != seen {
                seen = stamp;
                self.read_again();
            }
        }
    }

    fn read_again(&self) {
        let Shown { cert, key, now } = &*self.shown;
        match certified(cert, key, &self.provider) {
            Ok(renewed) => {
                *now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                tracing::info!("the certificate in '{}' is read again", cert.display());
            }
            Err(e) => {
                tracing::error!("the certificate before is still shown: {e} (section 'serve')");
            }
        }
    }
}

impl Shown {
    /// What changes when a file does.
    fn stamp(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.cert, &self.key].map(|path| {
            let about = path.metadata().ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(cert: &Path, key: &Path, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| unreadable(cert, &e))?;
    if chain.is_empty() {
        return Err(unreadable(cert, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|e| {
        let (cert, key) = (cert.display(), key.display());
        io::Error::other(format!("'{cert}' and '{key}' do not fit together: {e}"))
    })
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("'{}' cannot be read: {error}", path.display()))
}
