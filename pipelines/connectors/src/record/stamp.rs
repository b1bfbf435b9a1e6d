//! Points in time as files and messages write them, as nanoseconds of UTC.
//!
//! The forms of RFC 3339 and the epochs are read by hand, because the time column is parsed for every record;
//! other patterns go through chrono. A local time that occurs twice (the hour when summer time ends) is taken
//! to be the earlier of the two instants; one that never occurs is an error.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::Tz;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SECOND;
/// The years that lie wholly inside what 64 bits of nanoseconds can say.
const YEARS: std::ops::RangeInclusive<i64> = 1678..=2261;
/// Words for the halves of the day that chrono does not know, and what it does.
const HALVES_OF_DAY: &[(&str, &str)] = &[
    ("오전", "AM"),
    ("오후", "PM"),
    ("午前", "AM"),
    ("午後", "PM"),
    ("上午", "AM"),
    ("下午", "PM"),
];

const NOT_RFC3339: &str = "is not a time such as 2026-01-31T08:30:00Z";
const NOT_EPOCH: &str = "is not a number of seconds or parts of seconds";
const NOT_PATTERN: &str = "does not fit the column's format";
const NO_SUCH_DAY: &str = "names a day that is not in the calendar";
const OUT_OF_RANGE: &str = "lies outside the years 1678 to 2261";
const NO_SUCH_LOCAL_TIME: &str = "is a local time that the zone skips";

/// How a time is written.
#[derive(Debug, Clone)]
enum Format {
    Rfc3339,
    Epoch { nanos_per_unit: i64 },
    Pattern { items: Vec<Item<'static>>, halves_of_day: bool },
}

/// The zone of stamps that carry none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    Utc,
    Fixed(FixedOffset),
    Named(Tz),
}

/// Reads the stamps of one column.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    format: Format,
    zone: Zone,
    /// The day read last and its first nanosecond: consecutive records mostly share it.
    day: ([u8; 10], i64),
    /// The stamp read last and what it names: the machines of a fleet often report together.
    last: (Vec<u8>, i64),
}

impl Stamps {
    /// A reader for the `format` and `zone` of a column's configuration.
    ///
    /// # Errors
    /// The name of the field that is wrong and what is wrong with it.
    pub(crate) fn new(
        format: Option<&str>,
        zone: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let format = Format::new(format.unwrap_or("rfc3339")).map_err(|e| ("format", e))?;
        let zone = Zone::new(zone.unwrap_or("UTC")).map_err(|e| ("zone", e))?;
        Ok(Stamps { format, zone, day: (*b"1970-01-01", 0), last: (Vec::new(), 0) })
    }

    /// The instant that `text` names.
    ///
    /// # Errors
    /// What is wrong with it, to be read after the quoted text.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<i64, &'static str> {
        match &self.format {
            Format::Rfc3339 if !text.is_empty() && text == self.last.0 => Ok(self.last.1),
            Format::Rfc3339 => {
                let read = self.rfc3339(text)?;
                self.last.0.clear();
                self.last.0.extend_from_slice(text);
                self.last.1 = read;
                Ok(read)
            }
            Format::Epoch { nanos_per_unit } => epoch(text, *nanos_per_unit),
            Format::Pattern { items, halves_of_day } => {
                pattern(text, items, *halves_of_day, self.zone)
            }
        }
    }

    fn rfc3339(&mut self, text: &[u8]) -> Result<i64, &'static str> {
        let (date, rest) = text.split_first_chunk::<10>().ok_or(NOT_RFC3339)?;
        if *date != self.day.0 {
            self.day = (*date, day(date)?);
        }
        if rest.is_empty() {
            return self.zone.to_utc(self.day.1);
        }
        let (of_day, rest) = time_of_day(rest).ok_or(NOT_RFC3339)?;
        let nanos = self.day.1 + of_day;
        match rest {
            b"" => self.zone.to_utc(nanos),
            b"Z" | b"z" => Ok(nanos),
            _ => Ok(nanos - offset(rest).ok_or(NOT_RFC3339)?),
        }
    }
}

impl Format {
    fn new(name: &str) -> Result<Self, String> {
        let nanos_per_unit = match name {
            "rfc3339" => return Ok(Format::Rfc3339),
            "epoch_s" => NANOS_PER_SECOND,
            "epoch_ms" => 1_000_000,
            "epoch_us" => 1_000,
            "epoch_ns" => 1,
            _ => return Self::pattern(name),
        };
        Ok(Format::Epoch { nanos_per_unit })
    }

    fn pattern(text: &str) -> Result<Self, String> {
        if !text.contains('%') {
            return Err(format!(
                "'{text}' is not a time format; use rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns or a pattern such as %d/%m/%Y %H:%M"
            ));
        }
        let items = StrftimeItems::new(text)
            .parse_to_owned()
            .map_err(|_| format!("'{text}' has a '%' code that does not exist"))?;
        let sample = DateTime::UNIX_EPOCH.fixed_offset();
        let written = sample.format_with_items(items.iter()).to_string();
        if pattern(written.as_bytes(), &items, false, Zone::Utc).is_err() {
            return Err(format!("'{text}' does not say which day it is"));
        }
        let halves_of_day = text.contains("%p") || text.contains("%P");
        Ok(Format::Pattern { items, halves_of_day })
    }
}

impl Zone {
    fn new(name: &str) -> Result<Self, String> {
        if matches!(name, "UTC" | "Z" | "utc") {
            return Ok(Zone::Utc);
        }
        if let Some(nanos) = offset(name.as_bytes()) {
            let seconds = i32::try_from(nanos / NANOS_PER_SECOND).unwrap_or(i32::MAX);
            let fixed = FixedOffset::east_opt(seconds);
            return fixed.map(Zone::Fixed).ok_or(format!("'{name}' is more than a day from UTC"));
        }
        name.parse().map(Zone::Named).map_err(|_| {
            format!("there is no time zone '{name}'; use a name such as Europe/Rome or an offset such as +09:00")
        })
    }

    /// The instant at which a clock in this zone shows `local`, nanoseconds as if it were UTC.
    fn to_utc(self, local: i64) -> Result<i64, &'static str> {
        let shift = match self {
            Zone::Utc => return Ok(local),
            Zone::Fixed(offset) => offset,
            Zone::Named(zone) => {
                let naive = DateTime::from_timestamp_nanos(local).naive_utc();
                let found = zone.offset_from_local_datetime(&naive).earliest();
                found.ok_or(NO_SUCH_LOCAL_TIME)?.fix()
            }
        };
        Ok(local - i64::from(shift.local_minus_utc()) * NANOS_PER_SECOND)
    }
}

/// The number that two digits write.
fn two(digits: &[u8]) -> Option<i64> {
    let [tens, ones] = *digits.first_chunk::<2>()?;
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// The first nanosecond of the day written as `2026-01-31`.
fn day(date: &[u8; 10]) -> Result<i64, &'static str> {
    let fields = || {
        let year = two(&date[0..2])? * 100 + two(&date[2..4])?;
        let separators = date[4] == date[7] && matches!(date[4], b'-' | b'/');
        separators.then_some((year, two(&date[5..7])?, two(&date[8..10])?))
    };
    let (year, month, day) = fields().ok_or(NOT_RFC3339)?;
    if !YEARS.contains(&year) {
        return Err(OUT_OF_RANGE);
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err(NO_SUCH_DAY);
    }
    Ok(days_since_1970(year, month, day) * NANOS_PER_DAY)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of a year after 0, by counting years that start in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + day_of_year - 719_468
}

/// Reads `T08:30`, ` 08:30:15`, `T08:30:15.25`; returns nanoseconds of the day and what follows.
///
/// A leap second counts as the first second of the next minute, as POSIX time has it.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'T' | b't' | b' ', h0, h1, b':', m0, m1, rest @ ..] = text else { return None };
    let (hour, minute) = (two(&[*h0, *h1])?, two(&[*m0, *m1])?);
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (two(&[*s0, *s1])?, rest),
        _ => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos = ((hour * 60 + minute) * 60 + second) * NANOS_PER_SECOND;
    match rest {
        [b'.' | b',', rest @ ..] => {
            let (part, rest) = fraction(rest)?;
            Some((nanos + part, rest))
        }
        _ => Some((nanos, rest)),
    }
}

/// Reads the digits after a decimal point as nanoseconds; digits after the ninth are cut off.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut nanos = 0;
    let mut place = NANOS_PER_SECOND;
    for digit in &text[..digits.min(9)] {
        place /= 10;
        nanos += i64::from(digit - b'0') * place;
    }
    (digits > 0).then_some((nanos, &text[digits..]))
}

/// Reads `+09:00`, `+0900`, `-05` or ` UTC` as nanoseconds ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, digits) = match text {
        b"Z" | b"UTC" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h0, h1] => (two(&[*h0, *h1])?, 0),
        [h0, h1, m0, m1] | [h0, h1, b':', m0, m1] => (two(&[*h0, *h1])?, two(&[*m0, *m1])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * NANOS_PER_SECOND)
}

/// Reads a count of units since 1970, perhaps with decimals, exactly.
fn epoch(text: &[u8], nanos_per_unit: i64) -> Result<i64, &'static str> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let whole_digits = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (whole, rest) = digits.split_at(whole_digits);
    let part = match rest {
        [] => 0,
        [b'.', decimals @ ..] => match fraction(decimals) {
            Some((billionths, [])) => i128::from(billionths) * i128::from(nanos_per_unit),
            _ => return Err(NOT_EPOCH),
        },
        _ => return Err(NOT_EPOCH),
    };
    if whole.is_empty() || whole.len() > 19 {
        return Err(NOT_EPOCH);
    }
    let units = whole.iter().fold(0_i128, |n, d| n * 10 + i128::from(d - b'0'));
    let nanos = units * i128::from(nanos_per_unit) + part / i128::from(NANOS_PER_SECOND);
    i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| OUT_OF_RANGE)
}

fn pattern(
    text: &[u8],
    items: &[Item<'_>],
    halves_of_day: bool,
    zone: Zone,
) -> Result<i64, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| NOT_PATTERN)?;
    let mut parsed = Parsed::new();
    let known = halves_of_day.then(|| {
        HALVES_OF_DAY.iter().fold(text.to_owned(), |text, (word, known)| text.replace(word, known))
    });
    parse(&mut parsed, known.as_deref().unwrap_or(text), items.iter()).map_err(|_| NOT_PATTERN)?;
    let local = local_time(&parsed).ok_or(NOT_PATTERN)?;
    let nanos = local.and_utc().timestamp_nanos_opt().ok_or(OUT_OF_RANGE)?;
    match parsed.offset() {
        Some(seconds) => {
            nanos.checked_sub(i64::from(seconds) * NANOS_PER_SECOND).ok_or(OUT_OF_RANGE)
        }
        None => zone.to_utc(nanos),
    }
}

/// The date and time that were parsed; midnight where the pattern has a date only.
fn local_time(parsed: &Parsed) -> Option<NaiveDateTime> {
    let offset = parsed.offset().unwrap_or(0);
    let date_only = parsed.hour_mod_12().is_none() && parsed.timestamp().is_none();
    match parsed.to_naive_datetime_with_offset(offset) {
        Ok(both) => Some(both),
        Err(_) if date_only => Some(parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, zone: &str, text: &str, expected: Result<&str, &str>) {
        let mut stamps = Stamps::new(Some(format), Some(zone)).unwrap();
        let expected = expected
            .map(|t| DateTime::parse_from_rfc3339(t).unwrap().timestamp_nanos_opt().unwrap());
        assert_eq!(stamps.read(text.as_bytes()), expected, "{text} as {format} in {zone}");
    }

    #[test]
    fn rfc3339_and_its_relatives() {
        let ok = |text, expected| check("rfc3339", "UTC", text, Ok(expected));
        ok("2026-01-31T08:30:00Z", "2026-01-31T08:30:00Z");
        ok("2026-01-31 08:30:00", "2026-01-31T08:30:00Z");
        ok("2026/01/31 08:30", "2026-01-31T08:30:00Z");
        ok("2026-01-31", "2026-01-31T00:00:00Z");
        ok("2026-01-31T08:30:00.123456789+09:00", "2026-01-30T23:30:00.123456789Z");
        ok("2026-01-31T08:30:00.1234567891Z", "2026-01-31T08:30:00.123456789Z");
        ok("2026-01-31T08:30:00,5 -0530", "2026-01-31T14:00:00.5Z");
        ok("2026-01-31 08:30:00 UTC", "2026-01-31T08:30:00Z");
        ok("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z");
        ok("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z");
        ok("2024-02-29", "2024-02-29T00:00:00Z");
        for bad in
            ["", "2026-01-31T", "2026-1-31", "2026-01-31T24:00", "2026-01-31T08:30:00.Z", "x"]
        {
            check("rfc3339", "UTC", bad, Err(NOT_RFC3339));
        }
        check("rfc3339", "UTC", "2026-02-29", Err(NO_SUCH_DAY));
        check("rfc3339", "UTC", "2026-13-01", Err(NO_SUCH_DAY));
        check("rfc3339", "UTC", "0001-01-01", Err(OUT_OF_RANGE));
    }

    #[test]
    fn every_day_of_four_centuries_agrees_with_chrono() {
        let first = chrono::NaiveDate::from_ymd_opt(1800, 1, 1).unwrap();
        for date in first.iter_days().take(146_097) {
            let text = date.to_string();
            let expected = date.and_time(NaiveTime::MIN).and_utc().timestamp_nanos_opt().unwrap();
            assert_eq!(day(text.as_bytes().first_chunk().unwrap()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn epochs_are_exact() {
        let check = |format, text, expected| {
            assert_eq!(Stamps::new(Some(format), None).unwrap().read(text), expected);
        };
        check("epoch_s", b"1693786196", Ok(1_693_786_196_000_000_000));
        check("epoch_s", b"1693786196.318", Ok(1_693_786_196_318_000_000));
        check("epoch_ms", b"1693786196318", Ok(1_693_786_196_318_000_000));
        check("epoch_ms", b"0.5", Ok(500_000));
        check("epoch_us", b"-1", Ok(-1_000));
        check("epoch_ns", b"9223372036854775807", Ok(i64::MAX));
        check("epoch_s", b"9999999999999", Err(OUT_OF_RANGE));
        for bad in [&b""[..], b"-", b"1e9", b"NaN", b"1.", b"99999999999999999999"] {
            check("epoch_s", bad, Err(NOT_EPOCH));
        }
    }

    #[test]
    fn patterns_and_halves_of_the_day() {
        check("%d/%m/%Y %H:%M", "UTC", "31/01/2026 08:30", Ok("2026-01-31T08:30:00Z"));
        check("%Y%m%d", "Asia/Seoul", "20260131", Ok("2026-01-30T15:00:00Z"));
        check(
            "%Y-%m-%d %p %I:%M:%S",
            "Asia/Seoul",
            "2026-01-31 오후 1:30:00",
            Ok("2026-01-31T04:30:00Z"),
        );
        check(
            "%Y-%m-%d %p %I:%M:%S",
            "Asia/Seoul",
            "2026-01-31 오전 12:30:00",
            Ok("2026-01-30T15:30:00Z"),
        );
        check(
            "%Y-%m-%dT%H:%M:%S%.f%z",
            "Asia/Seoul",
            "2026-01-31T08:30:00.25+0100",
            Ok("2026-01-31T07:30:00.25Z"),
        );
        check("%d/%m/%Y", "UTC", "31.01.2026", Err(NOT_PATTERN));
    }

    #[test]
    fn local_times_that_occur_twice_or_never() {
        check("rfc3339", "Europe/Rome", "2020-08-17 14:00:00", Ok("2020-08-17T12:00:00Z"));
        check("rfc3339", "Europe/Rome", "2020-10-25 02:30:00", Ok("2020-10-25T00:30:00Z"));
        check("rfc3339", "Europe/Rome", "2020-03-29 02:30:00", Err(NO_SUCH_LOCAL_TIME));
        check("rfc3339", "+09:00", "2020-03-29 02:30:00", Ok("2020-03-28T17:30:00Z"));
    }

    #[test]
    fn formats_and_zones_that_do_not_exist() {
        assert_eq!(Stamps::new(Some("iso"), None).unwrap_err().0, "format");
        assert_eq!(Stamps::new(Some("%Q"), None).unwrap_err().0, "format");
        assert_eq!(Stamps::new(Some("%H:%M"), None).unwrap_err().0, "format");
        assert_eq!(Stamps::new(None, Some("Europe/Roma")).unwrap_err().0, "zone");
        assert_eq!(Stamps::new(None, Some("+99:00")).unwrap_err().0, "zone");
    }
}
