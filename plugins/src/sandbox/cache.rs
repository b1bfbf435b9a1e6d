//! Compiled plugins of our own, kept so that they are compiled once.
//!
//! wasmtime does not check what it loads: an artefact with a flipped byte still loads and then runs. So a file carries
//! an HMAC under a key that lies outside the folder, and the very bytes that were checked are the ones that are used.
//! Whatever goes wrong here costs a compilation and never more.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile::MAX_ARTEFACT_BYTES;

/// Bytes of the key, and of the code at the end of a file.
const KEY_BYTES: usize = 32;
/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// The folder below the engine's cache directory.
const FOLDER: &str = "plugins";
/// The file with the key, beside the folder.
const KEY_FILE: &str = "plugins.key";

/// The folder of compiled plugins.
pub(super) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    /// Artefacts of another wasmtime or with other settings do not load, so they have other names.
    compatibility: u64,
}

impl Cache {
    /// The cache below `dir`; `None` where it cannot be had, for instance on a read-only disk.
    pub(super) fn open(dir: &Path, engine: &Engine) -> Option<Self> {
        let open = || -> std::io::Result<Cache> {
            let folder = dir.join(FOLDER);
            private_folder(&folder)?;
            let key = read_or_make_key(&dir.join(KEY_FILE))?;
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            Ok(Cache { folder, key, compatibility: hasher.finish() })
        };
        open().inspect_err(|e| tracing::warn!("compiled plugins are not kept: {e}")).ok()
    }

    /// The compiled plugin, if it is there and unharmed. A harmed file is deleted.
    pub(super) fn load(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let path = self.path(digest);
        if fs::metadata(&path).ok()?.len() > MAX_ARTEFACT_BYTES + KEY_BYTES as u64 {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let loaded = bytes
            .split_last_chunk::<KEY_BYTES>()
            .filter(|(artefact, code)| hmac(&self.key, artefact) == **code)
            .and_then(|(artefact, _)| deserialise(engine, artefact).ok());
        if loaded.is_none() {
            tracing::warn!("a compiled plugin was damaged and is compiled again");
            fs::remove_file(&path).ok();
        }
        loaded
    }

    /// Keeps an artefact. Failing to is no error: it is compiled again next time.
    pub(super) fn store(&self, digest: &str, artefact: &[u8]) {
        let path = self.path(digest);
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&partial)?;
            file.write_all(artefact)?;
            file.write_all(&hmac(&self.key, artefact))?;
            file.sync_all()?;
            // Two processes may do this at once; each file is whole and both are the same.
            fs::rename(&partial, &path)
        };
        if let Err(e) = write() {
            tracing::warn!("a compiled plugin is not kept: {e}");
            fs::remove_file(&partial).ok();
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }
}

/// HMAC-SHA-256 (RFC 2104) under a key no longer than a block.
fn hmac(key: &[u8; KEY_BYTES], message: &[u8]) -> [u8; KEY_BYTES] {
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK_BYTES];
        for (padded, key) in block.iter_mut().zip(key) {
            *padded ^= key;
        }
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// A compiled plugin from bytes that this program compiled.
#[expect(unsafe_code, reason = "wasmtime cannot check machine code; see the safety comment")]
pub(super) fn deserialise(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come straight from our compiler, or from a file whose HMAC was verified over these same bytes
    // in memory. No artefact from outside gets here: `admit` refuses precompiled plugins.
    unsafe { Component::deserialize(engine, artefact) }
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The key, made on first use. Of two processes that make it at once, the first one's stays.
fn read_or_make_key(path: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let bad = || std::io::Error::other(format!("'{}' is not a key; delete it", path.display()));
    if let Ok(bytes) = fs::read(path) {
        return bytes.try_into().map_err(|_| bad());
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(&key)?;
    file.sync_all()?;
    // A link, unlike a rename, fails where the name is taken.
    let linked = fs::hard_link(&partial, path);
    fs::remove_file(&partial).ok();
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => fs::read(path)?.try_into().map_err(|_| bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_of_the_usual_example() {
        // Python: hmac.new(bytes(range(32)), b"what do ya want for nothing?", "sha256").hexdigest()
        let key = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let code = hmac(&key, b"what do ya want for nothing?");
        assert_eq!(
            super::super::hex(&code),
            "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a"
        );
    }
}
