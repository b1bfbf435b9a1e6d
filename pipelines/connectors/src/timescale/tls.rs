//! Encrypted connections: rustls with ring, the authorities of the system or of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::TlsConfig;

/// What makes the connection to a server whose certificate must be good for its name.
///
/// # Errors
/// When a file cannot be read, or the system has no authorities.
pub(super) fn connector(config: &TlsConfig) -> Result<MakeRustlsConnect, String> {
    let roots = match &config.ca {
        Some(file) => roots_of(file)?,
        None => roots_of_system()?,
    };
    // Named rather than the process's default, which another part may have set or not.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots);
    let client = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|e| format!("'{}' does not go with its key: {e}", cert.display()))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(client))
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|e| unreadable(file, &e))?;
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores of systems hold the odd certificate that nobody can use.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this machine knows no certificate authorities; name a file: tls: { ca: ... }"
            .to_owned());
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|e| unreadable(file, &e))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|e| unreadable(file, &e))?;
    if certificates.is_empty() {
        return Err(format!("there is no certificate in '{}'", file.display()));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("'{}' cannot be read: {error}", file.display())
}
