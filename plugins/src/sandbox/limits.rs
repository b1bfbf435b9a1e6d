//! What a plugin may use.
//!
//! wasmtime's own limiter counts each memory alone, so that five memories of 60 MiB pass a limit of 128 MiB; this one
//! sums over all of a store.

use wasmtime::{Error, ResourceLimiter, Result};

/// Table elements of a store in all. Real plugins have a few thousand functions.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Core instances of a component. A Python plugin needs 107.
const MAX_INSTANCES: usize = 128;
/// Memories and tables of a component.
const MAX_MEMORIES: usize = 64;
/// Fuel that a call has before its rows count, for work that does not depend on them.
const FUEL_PER_CALL: u64 = 1_000_000;
/// Fuel of `init` whatever the weights.
const INIT_FUEL: u64 = 500_000_000;
/// Fuel of `init` for a byte of weights: the digest takes about 20, decoding and checking about as much again.
const INIT_FUEL_PER_BYTE: u64 = 500;

/// What one step's plugin may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLimits {
    /// Bytes of all memories of a store.
    pub(crate) memory_bytes: usize,
    /// Fuel a row.
    pub(crate) fuel_per_row: u64,
}

impl CallLimits {
    /// The fuel of a call of `rows`.
    pub(super) fn call_fuel(&self, rows: usize) -> u64 {
        FUEL_PER_CALL.saturating_add(self.fuel_per_row.saturating_mul(rows as u64))
    }
}

/// The fuel that reading `weights_len` bytes of weights may take.
pub(super) fn init_fuel(weights_len: usize) -> u64 {
    INIT_FUEL + INIT_FUEL_PER_BYTE.saturating_mul(weights_len as u64)
}

/// The limiter of one store.
#[derive(Debug)]
pub(super) struct Limits {
    max_bytes: usize,
    used_bytes: usize,
    used_elements: usize,
    /// Which limit was hit.
    pub(super) denied: Option<&'static str>,
    /// The machine refused what the limit allowed.
    pub(super) host_fault: Option<String>,
}

impl Limits {
    pub(super) fn new(max_bytes: usize) -> Self {
        Limits { max_bytes, used_bytes: 0, used_elements: 0, denied: None, host_fault: None }
    }

    /// Bytes of all memories.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let used = self.used_bytes.saturating_add(desired.saturating_sub(current));
        if used > self.max_bytes {
            self.denied = Some("memory");
            return Err(Error::msg("the plugin's memory limit is reached"));
        }
        self.used_bytes = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        if error.downcast_ref::<std::io::Error>().is_some() {
            self.host_fault = Some(format!("no memory for a plugin: {error}"));
            return Err(error);
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let used = self.used_elements.saturating_add(desired.saturating_sub(current));
        if used > MAX_TABLE_ELEMENTS {
            self.denied = Some("tables");
            return Err(Error::msg("the plugin's table limit is reached"));
        }
        self.used_elements = used;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_MEMORIES
    }
}
