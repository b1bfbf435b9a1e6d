//! The processor's time of this process, where the system tells.
//!
//! In ticks of a hundredth of a second as a rule: only quotients of them are used, so their length does not matter.

use anyhow::Result;

/// Does `work`, and says how many ticks all threads were at work for it; `None` where the system does not tell, or too
/// little was done to count.
pub(crate) fn of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Option<u64>)> {
    let before = ticks();
    let done = work()?;
    let spent = ticks().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok((done, spent.filter(|ticks| *ticks > 0)))
}

/// Of user and system together, since the process began.
fn ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15; the second is a name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}
