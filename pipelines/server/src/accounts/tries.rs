//! Wrong passwords, which become slower to try.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The time in which wrong passwords are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// So many for one name from one address.
const OF_NAME: u32 = 5;
/// So many from one address, whatever the name: people behind one router mistype, too.
const OF_ADDRESS: u32 = 30;
/// Counts that are kept; the oldest makes room.
const COUNTS_MAX: usize = 10_000;

/// What is counted: tries of a name, or of any, from an address.
type Kind = (Option<String>, IpAddr);

/// Wrong passwords of the last minute: since when, and how many.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<BTreeMap<Kind, (SystemTime, u32)>>);

impl Tries {
    /// Whether another one may be made.
    pub(super) fn check(&self, name: &str, from: IpAddr, now: SystemTime) -> Result<(), Duration> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = [(Some(short(name)), OF_NAME), (None, OF_ADDRESS)];
        for (name, most) in kinds {
            let Some((begun, n)) = counts.get(&(name, from)) else { continue };
            let since = now.duration_since(*begun).unwrap_or_default();
            if *n >= most && since < WINDOW {
                return Err(WINDOW.saturating_sub(since));
            }
        }
        Ok(())
    }

    /// One was wrong.
    pub(super) fn failed(&self, name: &str, from: IpAddr, now: SystemTime) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun: SystemTime| now.duration_since(begun).unwrap_or_default() >= WINDOW;
        if counts.len() >= COUNTS_MAX {
            counts.retain(|_, (begun, _)| !is_over(*begun));
        }
        while counts.len() >= COUNTS_MAX {
            counts.pop_first();
        }
        for name in [Some(short(name)), None] {
            let (begun, n) = counts.entry((name, from)).or_insert((now, 0));
            if is_over(*begun) {
                (*begun, *n) = (now, 0);
            }
            *n = n.saturating_add(1);
        }
    }
}

/// A name as it is counted: a long one is none.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_are_counted_by_name_and_address() {
        let tries = Tries::default();
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for _ in 0..OF_NAME {
            assert_eq!(tries.check("ann", one, start), Ok(()));
            tries.failed("ann", one, start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(tries.check("ann", one, later), Err(Duration::from_secs(40)));
        assert_eq!(tries.check("ann", two, later), Ok(()), "she is not locked out elsewhere");
        assert_eq!(tries.check("bob", one, later), Ok(()));
        for i in 0..OF_ADDRESS {
            tries.failed(&format!("guess{i}"), two, later);
        }
        assert!(tries.check("bob", two, later).is_err());
        assert_eq!(tries.check("ann", one, start + WINDOW), Ok(()));
        tries.failed("ann", one, start + WINDOW);
        assert_eq!(tries.check("ann", one, start + WINDOW), Ok(()), "counted anew");
        for i in 0..2 * COUNTS_MAX {
            tries.failed(&format!("x{i}"), [10, 1, (i / 250) as u8, (i % 250) as u8].into(), start);
        }
        assert!(tries.0.lock().unwrap().len() <= COUNTS_MAX + 1);
    }
}
