//! The weights file: what training hands to a plugin.
//!
//! ```text
//! "FLWEIGHT" · u16 container version · u16 family · u32 header length · header (postcard)
//!            · u32 profile length · profile (postcard)                           from version 2 on
//!            · u64 payload length · payload · SHA-256 of all before it          all little endian
//! ```
//!
//! The header is postcard and never JSON: JSON text does not keep every bit of an `f64`, and a threshold that moved by
//! one bit sends a row down the other branch. postcard does not describe itself, so a field of [`Header`] may be added
//! only together with [`CONTAINER_VERSION`].

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first eight bytes.
pub const MAGIC: [u8; 8] = *b"FLWEIGHT";
/// The newest layout that is read, and written where there is a profile.
pub const CONTAINER_VERSION: u16 = 2;
/// The layout without a profile, which plugins of an older SDK read too.
const VERSION_WITHOUT_PROFILE: u16 = 1;
/// Bytes of the digest at the end.
const DIGEST_LEN: usize = 32;
/// Bytes before the header: magic, version, family, header length.
const PREFIX_LEN: usize = 16;

/// A kind of model. A plugin reads the weights of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Family {
    /// A random forest; the payload is [`trees::Payload`](crate::trees::Payload).
    Forest = 1,
    /// Boosted trees, ours or imported ones; the payload is [`trees::Payload`](crate::trees::Payload).
    Trees = 2,
    /// A weighted sum; the payload is [`linear::Payload`](crate::linear::Payload).
    Linear = 3,
    /// Distance from what is normal; the payload is [`pca_t2q::Payload`](crate::pca_t2q::Payload).
    PcaT2q = 4,
    /// A neural network in ONNX; the payload is [`network::Payload`](crate::network::Payload).
    Network = 5,
    /// Nearest rows; the payload is [`knn::Payload`](crate::knn::Payload).
    Knn = 6,
    /// A health index that drifts; the payload is [`degradation::Payload`](crate::degradation::Payload).
    Degradation = 7,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 7] = [
        Family::Forest,
        Family::Trees,
        Family::Linear,
        Family::PcaT2q,
        Family::Network,
        Family::Knn,
        Family::Degradation,
    ];

    /// The word users type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Family::Forest => "forest",
            Family::Trees => "boosted",
            Family::Linear => "linear",
            Family::PcaT2q => "pca_t2q",
            Family::Knn => "knn",
            Family::Degradation => "degradation",
            Family::Network => "onnx",
        }
    }

    /// The family called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The number in the file.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.code() == code)
    }
}

/// What to do with a row in which a feature is null or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The row is not sent; its outputs are null.
    SkipRow,
    /// The row is sent with NaN in this place.
    PassNan,
}

/// A column that the model needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// The column's name, unique in the file.
    pub name: String,
    /// UCUM code, where it is known.
    pub unit: Option<String>,
    /// What to do where it is missing.
    pub missing: Missing,
    /// Smallest and largest value seen in training.
    pub trained_range: Option<(f64, f64)>,
}

/// How a feature was spread in training: what drift and contributions are measured from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The mean of the values that were there.
    pub mean: f64,
    /// The deciles, of equal ones one: bin `i` ends at edge `i`, which belongs to it. Rising, at most nine.
    pub edges: Vec<f64>,
    /// The share of the training rows in each bin, one more than edges; all 0 where every value was missing.
    pub shares: Vec<f64>,
}

/// What a number that comes out means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// Remaining useful life in this unit.
    RemainingLife(String),
    /// In `[0, 1]`.
    Probability,
    /// Unbounded; larger is worse.
    AnomalyScore,
    /// A whole number: an index into the labels.
    ClassIndex,
    /// Anything else.
    Value,
}

/// A column that comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The column's name, unique in the file.
    pub name: String,
    /// What it means.
    pub kind: OutputKind,
    /// Class names of a [`OutputKind::ClassIndex`], otherwise empty.
    pub labels: Vec<String>,
}

/// Everything that can be known of a model without running it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the family's payload.
    pub format: u16,
    /// The model's name.
    pub name: String,
    /// The model's semantic version.
    pub version: String,
    /// What trained it, with the exact version: `smartcore 0.7.0`.
    pub library: String,
    /// The columns it needs, in the order of the matrix.
    pub features: Vec<Feature>,
    /// The columns that come out, in order.
    pub outputs: Vec<Output>,
    /// `f64` values the host keeps for every key; 0 is stateless.
    pub state_width: u32,
    /// Raised whenever the meaning of those values changes.
    pub state_version: u32,
    /// Facts that are shown and stored, never interpreted.
    pub annotations: Vec<(String, String)>,
}

/// A weights file that was read: checked, the payload still bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights<'a> {
    /// The kind of model.
    pub family: Family,
    /// What is known of it.
    pub header: Header,
    /// How each feature was spread in training, in the header's order; empty where that is not known.
    pub profiles: Vec<Profile>,
    /// The model itself, as its family writes it.
    pub payload: &'a [u8],
}

impl Weights<'_> {
    /// The payload as `T`.
    ///
    /// # Errors
    /// When it is not a `T`, or something follows it.
    pub fn payload<T: serde::de::DeserializeOwned>(&self) -> Result<T, WeightsError> {
        match postcard::take_from_bytes(self.payload) {
            Ok((payload, [])) => Ok(payload),
            Ok(_) => Err(WeightsError::Payload("bytes are left over".to_owned())),
            Err(e) => Err(WeightsError::Payload(e.to_string())),
        }
    }
}

/// Why bytes are not a weights file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsError {
    /// The first eight bytes are others.
    NotWeights,
    /// The container has a version that this code does not read.
    Version(u16),
    /// The family is not known.
    Family(u16),
    /// The file is shorter or longer than it says.
    Length,
    /// The digest at the end is not that of the bytes before it.
    Digest,
    /// The header cannot be read.
    Header(String),
    /// The payload cannot be read.
    Payload(String),
}

impl std::fmt::Display for WeightsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WeightsError::NotWeights => {
                f.write_str("this is not a weights file; it does not start with 'FLWEIGHT'")
            }
            WeightsError::Version(found) => {
                write!(
                    f,
                    "the container has version {found}; this reads up to version {CONTAINER_VERSION}"
                )
            }
            WeightsError::Family(code) => write!(f, "model family {code} is not known"),
            WeightsError::Length => {
                f.write_str("the file is not as long as it says; copy it again")
            }
            WeightsError::Digest => {
                f.write_str("the file is damaged: its digest does not match; copy it again")
            }
            WeightsError::Header(why) => write!(f, "the header cannot be read: {why}"),
            WeightsError::Payload(why) => write!(f, "the model cannot be read: {why}"),
        }
    }
}

impl std::error::Error for WeightsError {}

/// The bytes of a weights file without profiles.
///
/// # Errors
/// When header or payload cannot be written, which postcard does only for a length above 2³².
pub fn write<T: Serialize>(
    family: Family,
    header: &Header,
    payload: &T,
) -> Result<Vec<u8>, WeightsError> {
    write_profiled(family, header, &[], payload)
}

/// The bytes of a weights file; `profiles` has one for every feature, or none.
///
/// # Errors
/// As [`write()`].
pub fn write_profiled<T: Serialize>(
    family: Family,
    header: &Header,
    profiles: &[Profile],
    payload: &T,
) -> Result<Vec<u8>, WeightsError> {
    let encode = |e: postcard::Error| WeightsError::Payload(e.to_string());
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| WeightsError::Length);
    let header = postcard::to_allocvec(header).map_err(encode)?;
    let payload = postcard::to_allocvec(payload).map_err(encode)?;
    let version = if profiles.is_empty() { VERSION_WITHOUT_PROFILE } else { CONTAINER_VERSION };
    let mut bytes = Vec::with_capacity(PREFIX_LEN + header.len() + 8 + payload.len() + DIGEST_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&family.code().to_le_bytes());
    bytes.extend_from_slice(&length(&header)?.to_le_bytes());
    bytes.extend_from_slice(&header);
    if !profiles.is_empty() {
        let profiles = postcard::to_allocvec(profiles).map_err(encode)?;
        bytes.extend_from_slice(&length(&profiles)?.to_le_bytes());
        bytes.extend_from_slice(&profiles);
    }
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

/// Reads a weights file. Nothing is believed before the digest was compared.
///
/// # Errors
/// When it is not a whole weights file of a version and family that this code knows.
pub fn read(bytes: &[u8]) -> Result<Weights<'_>, WeightsError> {
    if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
        return Err(WeightsError::NotWeights);
    }
    let body_len = bytes.len().checked_sub(DIGEST_LEN).ok_or(WeightsError::Length)?;
    let (body, digest) = bytes.split_at(body_len);
    if Sha256::digest(body)[..] != *digest {
        return Err(WeightsError::Digest);
    }
    let mut rest = &body[MAGIC.len()..];
    let version = u16::from_le_bytes(take(&mut rest)?);
    if !(VERSION_WITHOUT_PROFILE..=CONTAINER_VERSION).contains(&version) {
        return Err(WeightsError::Version(version));
    }
    let code = u16::from_le_bytes(take(&mut rest)?);
    let family = Family::from_code(code).ok_or(WeightsError::Family(code))?;
    let header_len = u32::from_le_bytes(take(&mut rest)?);
    let header = take_slice(&mut rest, u64::from(header_len))?;
    let profiles = if version == VERSION_WITHOUT_PROFILE {
        None
    } else {
        let profile_len = u32::from_le_bytes(take(&mut rest)?);
        Some(take_slice(&mut rest, u64::from(profile_len))?)
    };
    let payload_len = u64::from_le_bytes(take(&mut rest)?);
    let payload = take_slice(&mut rest, payload_len)?;
    if !rest.is_empty() {
        return Err(WeightsError::Length);
    }
    let header: Header = decode(header)?;
    let profiles = profiles.map_or(Ok(Vec::new()), decode)?;
    check_profiles(&profiles, &header)?;
    Ok(Weights { family, header, profiles, payload })
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, WeightsError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(WeightsError::Header("bytes are left over".to_owned())),
        Err(e) => Err(WeightsError::Header(e.to_string())),
    }
}

/// Profiles are as many as features; their edges rise, and there is a share between 0 and 1 for every bin.
fn check_profiles(profiles: &[Profile], header: &Header) -> Result<(), WeightsError> {
    let is_share = |s: &f64| (0.0..=1.0).contains(s);
    let fits = |p: &Profile| {
        p.mean.is_finite()
            && p.edges.iter().all(|e| e.is_finite())
            && p.edges.is_sorted_by(|a, b| a < b)
            && p.shares.len() == p.edges.len() + 1
            && p.shares.iter().all(is_share)
    };
    let as_many = profiles.is_empty() || profiles.len() == header.features.len();
    if as_many && profiles.iter().all(fits) {
        return Ok(());
    }
    Err(WeightsError::Header("the features' profiles do not fit together".to_owned()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WeightsError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(WeightsError::Length)?;
    *rest = tail;
    Ok(*head)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], WeightsError> {
    let len = usize::try_from(len).map_err(|_| WeightsError::Length)?;
    let (head, tail) = rest.split_at_checked(len).ok_or(WeightsError::Length)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: 1,
            name: "pump".to_owned(),
            version: "1.0.0".to_owned(),
            library: "hand".to_owned(),
            features: vec![Feature {
                name: "x".to_owned(),
                unit: Some("Cel".to_owned()),
                missing: Missing::SkipRow,
                trained_range: Some((0.1, f64::from_bits(0x3ff0_0000_0000_0001))),
            }],
            outputs: vec![Output {
                name: "rul".to_owned(),
                kind: OutputKind::RemainingLife("h".to_owned()),
                labels: Vec::new(),
            }],
            state_width: 0,
            state_version: 0,
            annotations: vec![("rows".to_owned(), "7".to_owned())],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(Family::Linear, &header(), &vec![0.1_f64, 0.2]).unwrap();
        let weights = read(&bytes).unwrap();
        assert_eq!(weights.family, Family::Linear);
        assert_eq!(weights.header, header());
        assert_eq!(weights.payload::<Vec<f64>>(), Ok(vec![0.1, 0.2]));
        assert!(weights.payload::<f64>().is_err(), "bytes left over are an error");
    }

    #[test]
    fn profiles_make_a_second_version_and_are_checked() {
        let profile = Profile { mean: 0.5, edges: vec![0.25, 0.75], shares: vec![0.3, 0.4, 0.3] };
        let written = |p: Profile| write_profiled(Family::Linear, &header(), &[p], &7_u8).unwrap();
        let bytes = written(profile.clone());
        assert_eq!((bytes[8], write(Family::Linear, &header(), &7_u8).unwrap()[8]), (2, 1));
        let weights = read(&bytes).unwrap();
        assert_eq!(
            (&weights.profiles[..], weights.payload::<u8>()),
            (&[profile.clone()][..], Ok(7))
        );
        for broken in [
            Profile { mean: f64::NAN, ..profile.clone() },
            Profile { edges: vec![0.75, 0.25], ..profile.clone() },
            Profile { shares: vec![1.0], ..profile },
        ] {
            assert!(read(&written(broken)).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = write(Family::Forest, &header(), &vec![1.5_f64; 9]).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn lengths_that_lie_under_a_good_digest_are_refused() {
        for (at, byte) in [(8, 9), (10, 99), (12, 255), (15, 255)] {
            let mut bytes = write(Family::Forest, &header(), &1_u8).unwrap();
            let body = bytes.len() - DIGEST_LEN;
            bytes[at] = byte;
            let digest = Sha256::digest(&bytes[..body]);
            bytes[body..].copy_from_slice(&digest);
            assert!(read(&bytes).is_err(), "byte {at}");
        }
    }
}
