//! A model in one file: the plugin, its weights, a card that says what they are, and signatures.
//!
//! ```text
//! component · section foreline:weights · section foreline:card · section foreline:signature (any number)
//! ```
//!
//! The parts are custom sections behind the component's own. So a packed model is itself a component that every tool
//! for WebAssembly reads, one digest covers all of it, and the plugin's own bytes are the beginning of the file: packing
//! and signing change neither them nor the model's digest. The same parts give the same bytes. An archive was the
//! alternative; it needs another format to be read before anything is known, and has times and owners in it.
//!
//! What a reader would get wrong: only sections at the end count. Whatever follows the first of them and is none of
//! them makes the file invalid, so nothing can hide behind a signature.

mod signature;

use std::ops::Range;
use std::path::Path;

pub use signature::{KeyPair, SignError, check_signer, new_key, sign};

use crate::sandbox::{AdmitError, MAX_PLUGIN_BYTES, MAX_WEIGHTS_BYTES, read_capped};

/// The section with the weights.
const WEIGHTS_SECTION: &str = "foreline:weights";
/// The section with the card.
const CARD_SECTION: &str = "foreline:card";
/// A section with one signature.
const SIGNATURE_SECTION: &str = "foreline:signature";
/// Bytes before the first section of a module or component.
const PREAMBLE_BYTES: usize = 8;
/// The number of a custom section.
const CUSTOM: u8 = 0;
/// Bytes of a card: some pages of text.
pub const MAX_CARD_BYTES: usize = 64 << 10;
/// Signatures of a file.
const MAX_SIGNATURES: usize = 16;
/// Bytes of a packed file: the most of each part, and room for section heads and signatures.
const MAX_PACKED_BYTES: u64 =
    MAX_PLUGIN_BYTES + MAX_WEIGHTS_BYTES + MAX_CARD_BYTES as u64 + (64 << 10);

/// Why parts cannot be put into one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The plugin has weights or a card in it already.
    #[error("the plugin is packed already; take the plugin that went into it")]
    AlreadyPacked,
    /// The card is larger than a card may be.
    #[error("the card has {found} bytes, the limit is {MAX_CARD_BYTES}")]
    CardTooLarge {
        /// Its bytes.
        found: usize,
    },
    /// A part does not fit into a section.
    #[error("{found} bytes of weights do not fit into a packed file")]
    WeightsTooLarge {
        /// Their bytes.
        found: usize,
    },
    /// The plugin was not let in.
    #[error(transparent)]
    Plugin(#[from] AdmitError),
}

/// A plugin file, taken apart. A plugin without parts behind it is a file like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    bytes: Vec<u8>,
    /// Where the component ends.
    component_end: usize,
    weights: Option<Range<usize>>,
    card: Option<Range<usize>>,
    /// Where the signatures begin: what they sign lies before it.
    signed_end: usize,
    /// Name, and the place of the signature.
    signatures: Vec<(String, Range<usize>)>,
}

impl ModelFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is larger than a plugin with weights may be, or its sections are in disorder.
    pub fn read(path: &Path) -> Result<Self, AdmitError> {
        let file = Self::take_apart(read_capped(path, MAX_PACKED_BYTES)?)?;
        if file.component_end as u64 > MAX_PLUGIN_BYTES {
            let path = path.display().to_string();
            return Err(AdmitError::TooLarge { path, max: MAX_PLUGIN_BYTES });
        }
        Ok(file)
    }

    /// Takes a file apart.
    ///
    /// # Errors
    /// When its sections are in disorder.
    pub fn take_apart(bytes: Vec<u8>) -> Result<Self, AdmitError> {
        let end = bytes.len();
        let mut file = ModelFile {
            bytes,
            component_end: end,
            weights: None,
            card: None,
            signed_end: end,
            signatures: Vec::new(),
        };
        let mut at = PREAMBLE_BYTES;
        while at < end {
            // What is no section is not ours to judge: the plugin's own bytes are looked at when it is let in.
            let Some(section) = section(&file.bytes, at) else { break };
            at = section.end;
            file.part(&section)?;
        }
        if file.is_packed() && at != end {
            return Err(disorder("something follows the last part that is not a section"));
        }
        Ok(file)
    }

    fn part(&mut self, section: &Section) -> Result<(), AdmitError> {
        let name = &self.bytes[section.name.clone()];
        let ours = [WEIGHTS_SECTION, CARD_SECTION, SIGNATURE_SECTION];
        let Some(ours) = ours.into_iter().find(|ours| section.is_custom && ours.as_bytes() == name)
        else {
            return match self.is_packed() {
                true => Err(disorder("a section of the plugin follows the parts behind it")),
                false => Ok(()),
            };
        };
        self.component_end = self.component_end.min(section.start);
        if ours == SIGNATURE_SECTION {
            self.signed_end = self.signed_end.min(section.start);
            return self.signature(section.data.clone());
        }
        if !self.signatures.is_empty() {
            return Err(disorder("a part follows the signatures"));
        }
        let place = if ours == WEIGHTS_SECTION { &mut self.weights } else { &mut self.card };
        if place.replace(section.data.clone()).is_some() {
            return Err(disorder("a part is there twice"));
        }
        let card = &self.bytes[section.data.clone()];
        if ours == CARD_SECTION
            && (card.len() > MAX_CARD_BYTES || std::str::from_utf8(card).is_err())
        {
            return Err(disorder("the card is no text that can be read"));
        }
        Ok(())
    }

    fn signature(&mut self, data: Range<usize>) -> Result<(), AdmitError> {
        let bad = || disorder("a signature cannot be read");
        let bytes = &self.bytes[data.clone()];
        let (&name_len, rest) = bytes.split_first().ok_or_else(bad)?;
        let (name, code) = rest.split_at_checked(usize::from(name_len)).ok_or_else(bad)?;
        let name = std::str::from_utf8(name).map_err(|_| bad())?.to_owned();
        if code.len() != signature::SIGNATURE_BYTES
            || self.signatures.len() == MAX_SIGNATURES
            || self.signatures.iter().any(|(known, _)| *known == name)
        {
            return Err(bad());
        }
        self.signatures.push((name, data.end - signature::SIGNATURE_BYTES..data.end));
        Ok(())
    }

    /// Whether there is anything behind the plugin.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.component_end < self.bytes.len()
    }

    /// The plugin, as it was before it was packed.
    #[must_use]
    pub fn component(&self) -> &[u8] {
        &self.bytes[..self.component_end]
    }

    /// The weights, where they are in the file.
    #[must_use]
    pub fn weights(&self) -> Option<&[u8]> {
        self.weights.clone().map(|place| &self.bytes[place])
    }

    /// The card, where there is one.
    #[must_use]
    pub fn card(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[self.card.clone()?]).ok()
    }

    /// The names that signatures were made under. A name says nothing before [`ModelFile::verify`].
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|(name, _)| name.as_str())
    }

    /// All bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the signature called `name` against the public key `key` (PEM, as `openssl pkey -pubout` writes it).
    ///
    /// # Errors
    /// When there is no such signature, the key cannot be read, or the signature is not by that key over these bytes.
    pub fn verify(&self, name: &str, key: &str) -> Result<(), SignError> {
        let Some((_, place)) = self.signatures.iter().find(|(signer, _)| signer == name) else {
            return Err(SignError::Missing(name.to_owned()));
        };
        let (signed, code) = (&self.bytes[..self.signed_end], &self.bytes[place.clone()]);
        signature::verify(name, key, signed, code)
    }
}

/// Puts a plugin, its weights and its card into one file; `card` is YAML or any other text.
///
/// # Errors
/// When the plugin is packed already or not let in, or a part is too large.
pub fn pack(component: &[u8], weights: Option<&[u8]>, card: &str) -> Result<Vec<u8>, PackError> {
    if ModelFile::take_apart(component.to_vec())?.is_packed() {
        return Err(PackError::AlreadyPacked);
    }
    if card.len() > MAX_CARD_BYTES {
        return Err(PackError::CardTooLarge { found: card.len() });
    }
    if let Some(weights) = weights.filter(|w| w.len() as u64 > MAX_WEIGHTS_BYTES) {
        return Err(PackError::WeightsTooLarge { found: weights.len() });
    }
    let mut file = component.to_vec();
    if let Some(weights) = weights {
        append(&mut file, WEIGHTS_SECTION, weights);
    }
    append(&mut file, CARD_SECTION, card.as_bytes());
    Ok(file)
}

fn disorder(what: &str) -> AdmitError {
    AdmitError::Malformed(format!("{what}; pack it again"))
}

/// A section of a module or component.
struct Section {
    start: usize,
    end: usize,
    is_custom: bool,
    /// Of a custom section; empty otherwise.
    name: Range<usize>,
    /// Of a custom section, behind its name.
    data: Range<usize>,
}

/// The section that begins at `start`.
fn section(bytes: &[u8], start: usize) -> Option<Section> {
    let mut at = start + 1;
    let len = leb128(bytes, &mut at)?;
    let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
    let is_custom = *bytes.get(start)? == CUSTOM;
    let mut name = at..at;
    if is_custom {
        let len = leb128(bytes, &mut at)?;
        name = at..at.checked_add(len).filter(|name_end| *name_end <= end)?;
    }
    Some(Section { start, end, is_custom, data: name.end..end, name })
}

/// An unsigned number of at most 32 bits as WebAssembly writes it.
fn leb128(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

fn push_leb128(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends a custom section. Callers bound the length, which a section can hold 4 GiB of.
fn append(file: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut head = Vec::new();
    push_leb128(&mut head, name.len());
    head.extend_from_slice(name.as_bytes());
    file.push(CUSTOM);
    push_leb128(file, head.len() + data.len());
    file.extend_from_slice(&head);
    file.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// The shortest component there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_is_packed_comes_out_again() {
        let weights = vec![7; 300];
        let packed = pack(EMPTY, Some(&weights), "data: pumps\n").unwrap();
        assert_eq!(packed, pack(EMPTY, Some(&weights), "data: pumps\n").unwrap());
        let file = ModelFile::take_apart(packed.clone()).unwrap();
        assert_eq!(file.component(), EMPTY);
        assert_eq!(file.weights(), Some(&weights[..]));
        assert_eq!(file.card(), Some("data: pumps\n"));
        assert_eq!(pack(&packed, None, ""), Err(PackError::AlreadyPacked));
        let plain = ModelFile::take_apart(EMPTY.to_vec()).unwrap();
        assert!(!plain.is_packed() && plain.weights().is_none() && plain.card().is_none());
    }

    #[test]
    fn every_cut_is_noticed_or_leaves_a_whole_file() {
        let packed = pack(EMPTY, Some(&[7; 300]), "card").unwrap();
        let card = packed.len() - (1 + 1 + 1 + CARD_SECTION.len() + 4);
        for end in EMPTY.len() + 1..packed.len() {
            let cut = ModelFile::take_apart(packed[..end].to_vec());
            // Before the end of the first part there is none, and the plugin itself is what cannot be read.
            let whole = cut.is_ok_and(|file| file.is_packed());
            assert_eq!(whole, end == card, "cut at {end}");
        }
    }

    #[test]
    fn nothing_may_follow_the_parts() {
        let packed = pack(EMPTY, None, "card").unwrap();
        for (more, said) in [
            (&b"\x00\x05\x04more"[..], "follows the parts"),
            (b"\x01", "not a section"),
            (&packed[EMPTY.len()..], "twice"),
        ] {
            let bytes = [&packed[..], more].concat();
            let error = ModelFile::take_apart(bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn signatures_are_by_name_and_over_all_that_is_before() {
        let (release, other) = (new_key().unwrap(), new_key().unwrap());
        let packed = pack(EMPTY, Some(&[1, 2, 3]), "card").unwrap();
        let signed = sign(&packed, "release", &release.private_pem).unwrap();
        let signed = sign(&signed, "plant-2", &other.private_pem).unwrap();
        let again = sign(&signed, "plant-2", &other.private_pem).unwrap();
        assert_eq!(signed, again, "a signature by the same name takes the place of the one before");
        let file = ModelFile::take_apart(signed.clone()).unwrap();
        assert_eq!(file.signers().collect::<Vec<_>>(), ["release", "plant-2"]);
        assert_eq!(file.weights(), Some(&[1, 2, 3][..]));
        assert_eq!(file.verify("release", &release.public_pem), Ok(()));
        assert_eq!(file.verify("plant-2", &other.public_pem), Ok(()));
        let wrong = file.verify("release", &other.public_pem);
        assert_eq!(wrong, Err(SignError::Wrong("release".to_owned())));
        let missing = file.verify("nobody", &other.public_pem);
        assert_eq!(missing, Err(SignError::Missing("nobody".to_owned())));
        for at in 0..packed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            let file = ModelFile::take_apart(changed);
            let good = file.is_ok_and(|f| f.verify("release", &release.public_pem).is_ok());
            assert!(!good, "byte {at}");
        }
    }

    #[test]
    fn keys_are_those_of_openssl() {
        // The key of RFC 8032, 7.1, test 1. The other values are what OpenSSL 3.0.19 makes of it: `openssl pkey -in
        // k.pem -pubout`, and `openssl pkeyutl -sign -inkey k.pem -rawin -in m | base64`, where `m` is the purpose
        // and the digest of `EMPTY`.
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        let code = "NbqA9WwFYplgUKU68Pc5YtQpE7LDoHJjbCeSZN3BljkR9HvfngPR0lMwOhOtOs9MtJqs0DJFUHqntyF5T1/WBw==";
        let file = ModelFile::take_apart(sign(EMPTY, "me", private).unwrap()).unwrap();
        assert_eq!(BASE64_STANDARD.encode(&file.bytes()[file.signatures[0].1.clone()]), code);
        assert_eq!(file.verify("me", public), Ok(()));
        for text in ["", "MC4CAQ", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(matches!(sign(EMPTY, "me", text), Err(SignError::Key(_))), "{text}");
            let signed = sign(EMPTY, "me", &new_key().unwrap().private_pem).unwrap();
            let file = ModelFile::take_apart(signed).unwrap();
            assert!(matches!(file.verify("me", text), Err(SignError::Key(_))), "{text}");
        }
        for name in ["", "a b", "../me", &"x".repeat(65)] {
            let key = new_key().unwrap().private_pem;
            assert!(matches!(sign(EMPTY, name, &key), Err(SignError::Name(_))), "{name}");
        }
    }
}
