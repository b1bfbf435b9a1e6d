//! The host of plugins on wasmtime: what is let in, how it is compiled, and what a call may cost.
//!
//! One engine serves the process; one compiled plugin serves all workers; every worker and step has a store and an
//! instance of its own, so there are no locks while rows are scored.

mod admit;
mod bindings;
mod cache;
mod compile;
mod contract;
mod instance;
mod limits;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use contract::Linked;

pub use admit::AdmitError;
pub(crate) use admit::{MAX_PLUGIN_BYTES, MAX_WEIGHTS_BYTES, read_capped, read_weights, survey};
pub(crate) use bindings::{Descriptor, Feature, MissingPolicy, OutputKind, Scored};
pub use compile::{COMPILE_CHILD_VARIABLE, COMPILE_SUBCOMMAND, compile_child_main};
pub(crate) use contract::{Call, Contract, PRESENT, PREVIOUS};
pub(crate) use instance::{CallError, Instance, Shape, StoreState, reasons};
pub(crate) use limits::CallLimits;
pub(crate) use settings::Setup;

/// SHA-256 of `bytes` in lower-case hex.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A plugin that was let in and compiled, with what it is initialised with.
pub(crate) struct Plugin {
    pre: Linked,
    /// For messages and the log.
    pub(crate) name: String,
    pub(crate) weights: Vec<u8>,
    /// The step's `config:`, in key order.
    pub(crate) config: Vec<(String, String)>,
    pub(crate) limits: CallLimits,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Admits and compiles `component`; nothing of it has run after this.
    pub(crate) fn new(
        name: &str,
        component: &[u8],
        cache_dir: &Path,
        (weights, config): (Vec<u8>, Vec<(String, String)>),
        limits: CallLimits,
    ) -> Result<Self, AdmitError> {
        Self::in_setup(Setup::Usual, name, component, cache_dir, (weights, config), limits)
    }

    /// The same in one of the two engines.
    pub(crate) fn in_setup(
        setup: Setup,
        name: &str,
        component: &[u8],
        cache_dir: &Path,
        (weights, config): (Vec<u8>, Vec<(String, String)>),
        limits: CallLimits,
    ) -> Result<Self, AdmitError> {
        let pre = Host::get(setup)?.ready(component, cache_dir)?;
        Ok(Plugin { pre, name: name.to_owned(), weights, config, limits })
    }
}

/// The engine of this process and the plugins compiled for it.
struct Host {
    setup: Setup,
    engine: Engine,
    linker: Linker<StoreState>,
    ready: Mutex<BTreeMap<String, Linked>>,
}

impl Host {
    fn get(setup: Setup) -> Result<&'static Host, AdmitError> {
        static HOSTS: [OnceLock<Result<Host, String>>; Setup::COUNT] =
            [const { OnceLock::new() }; Setup::COUNT];
        let start = || Host::start(setup).map_err(|e| format!("{e:#}"));
        HOSTS[setup as usize].get_or_init(start).as_ref().map_err(|e| AdmitError::Host(e.clone()))
    }

    fn start(setup: Setup) -> wasmtime::Result<Host> {
        let engine = Engine::new(&settings::config(setup))?;
        settings::start_ticker(&engine)?;
        let mut linker = Linker::new(&engine);
        contract::add_to_linker(&mut linker)?;
        Ok(Host { setup, engine, linker, ready: Mutex::default() })
    }

    /// The plugin compiled and linked, from memory, the cache, or the compiler.
    fn ready(&self, component: &[u8], cache_dir: &Path) -> Result<Linked, AdmitError> {
        let digest = digest(component);
        let known = || self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = known().get(&digest) {
            return Ok(pre.clone());
        }
        let contract = admit::inspect(component)?;
        let compiled = self.compiled(component, &digest, cache_dir)?;
        let refused = |e: wasmtime::Error| AdmitError::Interface(format!("{e:#}"));
        let pre = self.linker.instantiate_pre(&compiled).map_err(refused)?;
        let pre = Linked::new(pre, contract).map_err(refused)?;
        known().insert(digest, pre.clone());
        Ok(pre)
    }

    fn compiled(
        &self,
        component: &[u8],
        digest: &str,
        cache_dir: &Path,
    ) -> Result<Component, AdmitError> {
        let cache = cache::Cache::open(cache_dir, &self.engine);
        if let Some(found) = cache.as_ref().and_then(|cache| cache.load(digest, &self.engine)) {
            return Ok(found);
        }
        let artefact = compile::compile(component, self.setup)?;
        if let Some(cache) = &cache {
            cache.store(digest, &artefact);
        }
        cache::deserialise(&self.engine, &artefact).map_err(|e| AdmitError::Host(format!("{e:#}")))
    }
}

/// The machine code of a component, compiled anew.
pub(crate) fn compile_anew(component: &[u8]) -> Result<Vec<u8>, AdmitError> {
    admit::inspect(component)?;
    compile::compile(component, Setup::Usual)
}

/// A plugin shared by all workers.
pub(crate) type SharedPlugin = Arc<Plugin>;
