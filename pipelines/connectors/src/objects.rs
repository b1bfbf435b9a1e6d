//! Objects in S3 and what is compatible with it, for code that is not asynchronous.
//!
//! What a reader would get wrong:
//!
//! * A request is tried again with growing pauses (connection errors, timeouts, 429 and 5xx) before an error is
//!   seen here; [`ObjectError::Transient`] means that all those tries were in vain.
//! * A body that ends early goes on from where it broke, and only while the object's ETag stays the same.
//! * Every call blocks; the requests run on a thread of the connector's own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};
use tokio::sync::mpsc;

mod connection;
mod error;
mod network;
mod reader;

pub(crate) use connection::{Connection, Hidden, Place, RETRY_TIME_MAX, mistakes};
pub(crate) use error::ObjectError;
pub(crate) use network::Network;
pub(crate) use reader::{ObjectReader, Patience, source_error};

/// Found objects that wait to be looked at; a page of a listing has up to 1000.
const LISTED_MAX: usize = 2_000;
/// An object up to this size is written with one request; a larger one in parts of this size.
const PART_BYTES: usize = 16 << 20;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its key, from the root of the bucket.
    pub(crate) key: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its ETag without quotes, where the store lists it.
    pub(crate) etag: Option<String>,
    /// When it was last written, by the store's clock.
    pub(crate) modified_ns: i64,
}

/// A prefix of a bucket.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<AmazonS3>,
    network: Network,
    place: Place,
}

impl Objects {
    /// Prepares access to `place`. Nothing is asked of the store yet.
    pub(crate) fn open(place: &Place, connection: &Connection) -> Result<Self, String> {
        let store = connection.build(place)?;
        let network = Network::start().map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Objects { store: Arc::new(store), network, place: place.clone() })
    }

    /// Where the objects lie.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The thread that requests run on.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// What a person calls an object.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }

    /// Everything below `prefix`, page by page, in the order of keys; the last item may be an error.
    pub(crate) fn list(&self, prefix: &str) -> mpsc::Receiver<Result<Found, ObjectError>> {
        let (sender, found) = mpsc::channel(LISTED_MAX);
        let store = Arc::clone(&self.store);
        let prefix = Path::parse(prefix).ok().filter(|p| !p.as_ref().is_empty());
        self.network.spawn(async move {
            let mut listed = store.list(prefix.as_ref());
            while let Some(next) = listed.next().await {
                let next = next.map(Found::from).map_err(|e| ObjectError::of(&e));
                if sender.send(next).await.is_err() {
                    break;
                }
            }
        });
        found
    }

    /// A whole object with its ETag; `None` where there is none.
    pub(crate) fn get_whole(&self, key: &str) -> Result<Option<(Bytes, String)>, ObjectError> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        self.network.wait(async move {
            let got = match store.get(&path(&key)?).await {
                Ok(got) => got,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(ObjectError::of(&e)),
            };
            let etag = got.meta.e_tag.clone();
            let bytes = got.bytes().await.map_err(|e| ObjectError::of(&e))?;
            let etag = etag.ok_or_else(|| {
                ObjectError::Definite("the store gives objects no ETag".to_owned())
            })?;
            Ok(Some((bytes, etag)))
        })
    }

    /// Writes an object in one step: it is there whole or not at all.
    pub(crate) fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        self.network.wait(async move {
            let key = path(&key)?;
            if bytes.len() <= PART_BYTES {
                let put = store.put(&key, PutPayload::from_bytes(bytes)).await;
                return put.map(|_| ()).map_err(|e| ObjectError::of(&e));
            }
            let mut upload = store.put_multipart(&key).await.map_err(|e| ObjectError::of(&e))?;
            for start in (0..bytes.len()).step_by(PART_BYTES) {
                let part = bytes.slice(start..bytes.len().min(start + PART_BYTES));
                if let Err(e) = upload.put_part(PutPayload::from_bytes(part)).await {
                    upload.abort().await.ok();
                    return Err(ObjectError::of(&e));
                }
            }
            upload.complete().await.map(|_| ()).map_err(|e| ObjectError::of(&e))
        })
    }

    /// Replaces the object that has this ETag, or makes it where there must be none; its ETag.
    ///
    /// [`ObjectError::Changed`]: another one is there. It may be this very one, when the store took it and its answer
    /// was lost.
    pub(crate) fn put_over(
        &self,
        key: &str,
        bytes: Bytes,
        over: Option<&str>,
    ) -> Result<String, ObjectError> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        let mode = match over {
            None => PutMode::Create,
            Some(etag) => {
                PutMode::Update(UpdateVersion { e_tag: Some(etag.to_owned()), version: None })
            }
        };
        self.network.wait(async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            let put = store.put_opts(&path(&key)?, PutPayload::from_bytes(bytes), options).await;
            let put = put.map_err(|e| ObjectError::of(&e))?;
            put.e_tag
                .ok_or_else(|| ObjectError::Definite("the store gives objects no ETag".to_owned()))
        })
    }

    /// Removes an object; one that is not there is as good as removed.
    pub(crate) fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        self.network.wait(async move {
            match store.delete(&path(&key)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(ObjectError::of(&e)),
            }
        })
    }
}

/// Bytes of an object, all of `range`, if it still is the one with this ETag.
async fn get_range(
    store: &AmazonS3,
    key: &str,
    range: Range<u64>,
    etag: Option<&str>,
) -> Result<Bytes, ObjectError> {
    let wanted = range.end - range.start;
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        // A weak ETag never matches a condition; what comes is compared below.
        if_match: etag.filter(|e| !e.starts_with("W/")).map(|e| format!("\"{e}\"")),
        ..GetOptions::default()
    };
    let got = store.get_opts(&path(key)?, options).await.map_err(|e| ObjectError::of(&e))?;
    if let (Some(was), Some(is)) = (etag, got.meta.e_tag.as_deref())
        && was != bare(is)
    {
        return Err(ObjectError::Changed(format!("its ETag was '{was}' and is '{}'", bare(is))));
    }
    let bytes = got.bytes().await.map_err(|e| ObjectError::of(&e))?;
    if bytes.len() as u64 != wanted {
        let short = format!("{} bytes came of {wanted}", bytes.len());
        return Err(ObjectError::Transient(short));
    }
    Ok(bytes)
}

fn path(key: &str) -> Result<Path, ObjectError> {
    Path::parse(key).map_err(|e| ObjectError::Definite(format!("the key cannot be used: {e}")))
}

/// An ETag without its quotes, which some stores leave out where others do not.
fn bare(etag: &str) -> &str {
    etag.trim_matches('"')
}

impl From<object_store::ObjectMeta> for Found {
    fn from(meta: object_store::ObjectMeta) -> Self {
        Found {
            key: meta.location.to_string(),
            size: meta.size,
            etag: meta.e_tag.as_deref().map(bare).map(str::to_owned),
            modified_ns: meta.last_modified.timestamp_nanos_opt().unwrap_or_default(),
        }
    }
}
