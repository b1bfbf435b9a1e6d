//! Certificates: whom we trust, and who we are.

use std::path::Path;
use std::sync::Arc;

use foreline_engine::SourceError;
use rumqttc_v5::TlsConfiguration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::plan::TlsPaths;

/// The configuration for all brokers that are reached with TLS.
///
/// # Errors
/// When a file cannot be read or does not hold what it should.
pub(super) fn configuration(paths: &TlsPaths) -> Result<TlsConfiguration, SourceError> {
    let failed = |e: rustls::Error| SourceError::Io(format!("TLS cannot be used: {e}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(paths.ca.as_deref())?);
    let config = match &paths.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
            builder.with_client_auth_cert(certificates(cert)?, private).map_err(|e| {
                let (cert, key) = (cert.display(), key.display());
                SourceError::Io(format!("'{cert}' and '{key}' do not fit together: {e}"))
            })?
        }
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

/// The certificates in `ca`, or those that the system trusts.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, SourceError> {
    let mut roots = RootCertStore::empty();
    let certificates = match ca {
        Some(ca) => certificates(ca)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let place = ca.map_or("the system".to_owned(), |ca| format!("'{}'", ca.display()));
        let message =
            format!("{place} has no certificate of an authority; name one with `tls: {{ ca: … }}`");
        return Err(SourceError::Io(message));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    all.map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Io(format!("'{}' cannot be read: {error}", path.display()))
}
