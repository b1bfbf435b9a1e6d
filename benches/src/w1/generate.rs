//! The input of W1: a time-ordered CSV, the same bytes for the same number of rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// Machines in the fleet.
pub(crate) const MACHINES: u64 = 1_000;
/// Milliseconds between two readings of a machine.
const STEP_MS: u64 = 100;

/// Writes `rows` readings, `MACHINES` every tenth of a second.
pub(crate) fn write(path: &Path, rows: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(b"ts,machine,vibration,temperature,pressure\n")?;
    let mut noise = 1_u64;
    let mut next = move || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise >> 40
    };
    let mut stamp = String::new();
    for row in 0..rows {
        let machine = row % MACHINES;
        if machine == 0 {
            stamp = stamp_of(row / MACHINES * STEP_MS);
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
