//! Hours in which people are left alone, by the clock on their wall.

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone as _};
use chrono_tz::Tz;

/// From one time of day to another, the next day where that is not later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) from: NaiveTime,
    pub(crate) to: NaiveTime,
    pub(crate) zone: Tz,
    /// Messages at least as severe go out all the same.
    pub(crate) except: Option<i64>,
}

impl Quiet {
    /// Whether a message of this severity goes out in quiet hours.
    pub(crate) fn lets_pass(&self, severity: Option<i64>) -> bool {
        matches!((self.except, severity), (Some(least), Some(is)) if is >= least)
    }

    /// When the quiet hours end that `at_ns` lies in; `None` where it lies in none. The first moment is quiet, the end is not.
    pub(crate) fn end(&self, at_ns: i64) -> Option<i64> {
        let today = DateTime::from_timestamp_nanos(at_ns).with_timezone(&self.zone).date_naive();
        // Those that began yesterday may still be on.
        [today.checked_sub_days(Days::new(1)), Some(today)].into_iter().flatten().find_map(|day| {
            let last =
                if self.to > self.from { Some(day) } else { day.checked_add_days(Days::new(1)) };
            let (from, to) = (self.instant(day, self.from)?, self.instant(last?, self.to)?);
            (from <= at_ns && at_ns < to).then_some(to)
        })
    }

    /// The instant of a local time. Of one that comes twice it is the first; one that is skipped is where the clock goes on.
    fn instant(&self, day: NaiveDate, time: NaiveTime) -> Option<i64> {
        let mut local = day.and_time(time);
        // No clock was ever set on by more than a day.
        for _ in 0..=24 * 4 {
            match self.zone.from_local_datetime(&local) {
                LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => {
                    return at.timestamp_nanos_opt();
                }
                LocalResult::None => local += TimeDelta::minutes(15),
            }
        }
        None
    }
}
