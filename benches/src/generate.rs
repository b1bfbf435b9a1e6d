//! The input of the benchmarks: a time-ordered CSV, the same bytes for the same fleet and number of rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// Machines that are read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    /// How many; at most 10,000, so that all names are as long.
    pub machines: u64,
    /// Milliseconds between two readings of a machine.
    pub step_ms: u64,
}

/// Writes `rows` readings, one of each machine every step.
pub(crate) fn write(path: &Path, rows: u64, fleet: Fleet) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(b"ts,machine,vibration,temperature,pressure\n")?;
    let mut noise = 1_u64;
    let mut next = move || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise >> 40
    };
    let mut stamp = String::new();
    for row in 0..rows {
        let machine = row % fleet.machines;
        if machine == 0 {
            stamp = stamp_of(row / fleet.machines * fleet.step_ms);
        }
        let (vibration, temperature, pressure) =
            (1_000 + next() % 4_000, 4_000 + next() % 3_000, 900_000 + next() % 200_000);
        writeln!(
            out,
            "{stamp},m{machine:04},{}.{:03},{}.{:02},{}.{:06}",
            vibration / 1_000,
            vibration % 1_000,
            temperature / 100,
            temperature % 100,
            pressure / 1_000_000,
            pressure % 1_000_000,
        )?;
    }
    out.flush()?;
    Ok(())
}

/// `ms` after 2026-01-01T00:00:00Z, which must be on the same day.
fn stamp_of(ms: u64) -> String {
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("2026-01-01T{:02}:{:02}:{:02}.{ms:03}Z", s / 3_600, s / 60 % 60, s % 60)
}
