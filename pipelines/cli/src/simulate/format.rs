//! Numbers and times as text, written straight into a line: this is most of the work of a simulation.

/// Appends `value` with `places` digits after the point, rounded half away from zero.
pub(super) fn fixed(line: &mut Vec<u8>, value: f64, places: u32) {
    let scale = 10_u64.pow(places);
    let scaled = (value.abs() * scale as f64).round() as u64;
    if value < 0.0 && scaled > 0 {
        line.push(b'-');
    }
    digits(line, scaled / scale, 1);
    if places > 0 {
        line.push(b'.');
        digits(line, scaled % scale, places as usize);
    }
}

/// Appends a time as `2026-03-02T06:00:00.000Z`; `ms` since 1970, from the year 0 on.
pub(super) fn time(line: &mut Vec<u8>, ms: i64) {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) as u64);
    let (year, month, day) = date(days);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3_600_000, 2, b':'),
        (of_day / 60_000 % 60, 2, b':'),
        (of_day / 1_000 % 60, 2, b'.'),
        (of_day % 1_000, 3, b'Z'),
    ];
    for (number, width, after) in parts {
        digits(line, number, width);
        line.push(after);
    }
}

/// Appends the name of a machine, `P-001` for number 0.
pub(super) fn name(line: &mut Vec<u8>, number: u32) {
    line.extend_from_slice(b"P-");
    digits(line, u64::from(number) + 1, 3);
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970.
///
/// Source: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`. Years begin in March
/// there, so that the leap day is the last of its year.
fn date(days: i64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097) as u64);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = (era * 400).unsigned_abs() + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Appends `number` with at least `width` digits.
fn digits(line: &mut Vec<u8>, mut number: u64, width: usize) {
    /// As many as the largest `u64` has.
    const MOST: usize = 20;
    let mut text = [b'0'; MOST];
    let mut at = MOST;
    while number > 0 || at > MOST - width {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).expect("only digits are written")
    }

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for value in [0.0, 0.1, 1.0, 1.23456, 99.999, 6000.26, 123_456_789.0, -1.5, -27.126] {
            for places in [1, 2, 4] {
                let expected = format!("{value:.0$}", places as usize);
                assert_eq!(text(|line| fixed(line, value, places)), expected);
            }
        }
        // Where the library rounds to even and keeps the sign of a zero.
        assert_eq!(text(|line| fixed(line, 2.5, 0)), "3");
        assert_eq!(text(|line| fixed(line, -0.0004, 3)), "0.000");
    }

    #[test]
    fn names() {
        assert_eq!(text(|line| name(line, 0)), "P-001");
        assert_eq!(text(|line| name(line, 12_344)), "P-12345");
    }

    #[test]
    fn times() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_772_431_200_000, "2026-03-02T06:00:00.000Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (ms, expected) in cases {
            assert_eq!(text(|line| time(line, ms)), expected);
        }
    }
}
