//! Ed25519 signatures of packed models, under names.
//!
//! What is signed is SHA-256 of all bytes before the first signature, with a text before it that no other use of such
//! a key has. Keys are the PEM files of `openssl genpkey -algorithm ed25519`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use super::{ModelFile, SIGNATURE_SECTION, append};
use crate::sandbox::AdmitError;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;
/// What stands before the digest, so that a signature of something else cannot be passed off as one of a model.
const PURPOSE: &[u8] = b"foreline model signature 1\n";
/// PKCS#8 of a private key, before its 32 bytes.
const PRIVATE_PREFIX: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// `SubjectPublicKeyInfo` of a public key, before its 32 bytes.
const PUBLIC_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Characters of a signer's name.
const MAX_NAME_CHARS: usize = 64;

/// Why a signature cannot be made or is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The file has no signature of that name.
    #[error("it is not signed by '{0}'")]
    Missing(String),
    /// The signature is not by that key over these bytes.
    #[error(
        "the signature by '{0}' is wrong: the file was changed after it was signed, or another key signed it"
    )]
    Wrong(String),
    /// The key cannot be read.
    #[error(
        "the key cannot be read: {0}; it is a PEM file as `foreline model key` and `openssl genpkey -algorithm ed25519` write it"
    )]
    Key(&'static str),
    /// The name cannot be that of a file.
    #[error("'{0}' is not a signer's name; use up to 64 letters, digits, '-' and '_'")]
    Name(String),
    /// The file is no plugin.
    #[error(transparent)]
    Plugin(#[from] AdmitError),
    /// The machine has no randomness.
    #[error("no key can be made: {0}")]
    Random(String),
}

/// A new key, both halves as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// To sign with; to be kept secret.
    pub private_pem: String,
    /// To check with.
    pub public_pem: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("public_pem", &self.public_pem).finish_non_exhaustive()
    }
}

/// Makes a key.
///
/// # Errors
/// When the machine has no randomness.
pub fn new_key() -> Result<KeyPair, SignError> {
    let mut seed = [0; KEY_BYTES];
    getrandom::fill(&mut seed).map_err(|e| SignError::Random(e.to_string()))?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|_| SignError::Random("the random bytes are no key".to_owned()))?;
    Ok(KeyPair {
        private_pem: pem("PRIVATE KEY", PRIVATE_PREFIX, &seed),
        public_pem: pem("PUBLIC KEY", PUBLIC_PREFIX, key.public_key().as_ref()),
    })
}

/// Signs a plugin, packed or not, with the private key `key` (PEM) under `name`. A signature by the same name is replaced.
///
/// # Errors
/// When the file is no plugin, or name or key cannot be used.
pub fn sign(file: &[u8], name: &str, key: &str) -> Result<Vec<u8>, SignError> {
    check_signer(name)?;
    let der = der("PRIVATE KEY", key)?;
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
        .map_err(|_| SignError::Key("it is no private key of ed25519"))?;
    let file = ModelFile::take_apart(file.to_vec())?;
    let signed = &file.bytes[..file.signed_end];
    let code = key.sign(&message(signed));
    let mut all = signed.to_vec();
    let mut codes: Vec<(&str, &[u8])> =
        file.signatures.iter().map(|(n, place)| (n.as_str(), &file.bytes[place.clone()])).collect();
    match codes.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = code.as_ref(),
        None => codes.push((name, code.as_ref())),
    }
    for (name, code) in codes {
        // At most 64 characters, all of them ASCII.
        let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let data = [&[name_len], name.as_bytes(), code].concat();
        append(&mut all, SIGNATURE_SECTION, &data);
    }
    Ok(all)
}

/// Whether `name` can be a signer's: it is part of the name of the file with the key.
///
/// # Errors
/// When it is empty, longer than 64 characters, or has others than letters, digits, `-` and `_`.
pub fn check_signer(name: &str) -> Result<(), SignError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(fits) {
        return Err(SignError::Name(name.chars().take(MAX_NAME_CHARS).collect()));
    }
    Ok(())
}

pub(super) fn verify(name: &str, key: &str, signed: &[u8], code: &[u8]) -> Result<(), SignError> {
    let der = der("PUBLIC KEY", key)?;
    let key = der
        .strip_prefix(PUBLIC_PREFIX)
        .filter(|key| key.len() == KEY_BYTES)
        .ok_or(SignError::Key("it is no public key of ed25519"))?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&message(signed), code)
        .map_err(|_| SignError::Wrong(name.to_owned()))
}

fn message(signed: &[u8]) -> Vec<u8> {
    [PURPOSE, &Sha256::digest(signed)[..]].concat()
}

fn pem(label: &str, prefix: &[u8], key: &[u8]) -> String {
    let text = BASE64_STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// What a PEM file with this label holds.
fn der(label: &str, pem: &str) -> Result<Vec<u8>, SignError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let text = pem
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end))
        .ok_or(SignError::Key("it has no such part"))?
        .0;
    let text: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(text).map_err(|_| SignError::Key("it is damaged"))
}
