//! How much memory this process has taken at most.

/// Peak resident memory so far in MiB, where the system tells (Linux).
pub(crate) fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}

/// Starts the peak anew, where the system lets us (Linux).
pub(crate) fn forget_peak() {
    // Where it cannot be reset, the peak of the whole run is reported: never too small.
    std::fs::write("/proc/self/clear_refs", "5").ok();
}
