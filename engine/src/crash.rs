//! Places at which a test can have the process die, to see what the next run makes of what it left behind.
//!
//! In a build for debugging `FORELINE_CRASH_AT=<place>:<n>` ends the process, without any clean-up, when it comes to the
//! place for the `n`-th time. A release build has none of it.

/// The process may die here.
#[cfg(not(debug_assertions))]
#[inline]
pub fn crash_point(_place: &'static str) {}

/// The process may die here.
#[cfg(debug_assertions)]
pub fn crash_point(place: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static SEEN: AtomicU64 = AtomicU64::new(0);

    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("FORELINE_CRASH_AT").ok()?;
        let (place, n) = text.rsplit_once(':')?;
        Some((place.to_owned(), n.parse().ok()?))
    });
    if let Some((wanted, n)) = asked
        && wanted == place
        && SEEN.fetch_add(1, Ordering::Relaxed) + 1 >= *n
    {
        std::process::abort();
    }
}
