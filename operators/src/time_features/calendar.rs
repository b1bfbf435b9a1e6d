//! The calendar and the clock on the wall, as numbers and as places on a circle.

use std::f64::consts::TAU;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use foreline_engine::{Column, ConfigError, Schema, TimeDomain, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::mistakes::Mistakes;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Something that the calendar says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The hour of the day, 0 to 23.
    Hour,
    /// The minute of the day, 0 to 1,439.
    MinuteOfDay,
    /// The day of the week: 1 for Monday to 7 for Sunday.
    Weekday,
    /// The day of the year, 1 to 366.
    DayOfYear,
    /// The month, 1 to 12.
    Month,
    /// The sine of the part of the day that has passed.
    DaySin,
    /// The cosine of the part of the day that has passed.
    DayCos,
    /// The sine of the part of the week that has passed since Monday.
    WeekSin,
    /// The cosine of the part of the week that has passed since Monday.
    WeekCos,
    /// The sine of the part of the year that has passed.
    YearSin,
    /// The cosine of the part of the year that has passed.
    YearCos,
}

impl Part {
    /// Its name and unit, and whether it is a whole number.
    fn described(self) -> (&'static str, &'static str, bool) {
        match self {
            Part::Hour => ("hour", "h", true),
            Part::MinuteOfDay => ("minute_of_day", "min", true),
            Part::Weekday => ("weekday", "1", true),
            Part::DayOfYear => ("day_of_year", "d", true),
            Part::Month => ("month", "1", true),
            Part::DaySin => ("day_sin", "1", false),
            Part::DayCos => ("day_cos", "1", false),
            Part::WeekSin => ("week_sin", "1", false),
            Part::WeekCos => ("week_cos", "1", false),
            Part::YearSin => ("year_sin", "1", false),
            Part::YearCos => ("year_cos", "1", false),
        }
    }

    /// The column that comes out.
    pub(super) fn column(self) -> Column {
        let (name, unit, whole) = self.described();
        let data_type = if whole { DataType::Int64 } else { DataType::Float64 };
        Column::new(name, data_type).with_unit(Some(Unit::new(unit)))
    }

    fn whole(self, wall: &Wall) -> i64 {
        match self {
            Part::Hour => wall.nanos / (3_600 * SECOND),
            Part::MinuteOfDay => wall.nanos / (60 * SECOND),
            Part::Weekday => i64::from(wall.day.weekday + 1),
            Part::DayOfYear => i64::from(wall.day.ordinal + 1),
            _ => i64::from(wall.day.month),
        }
    }

    fn on_circle(self, wall: &Wall) -> f64 {
        match self {
            Part::DaySin => libm::sin(TAU * wall.day_part()),
            Part::DayCos => libm::cos(TAU * wall.day_part()),
            Part::WeekSin => libm::sin(TAU * wall.week_part()),
            Part::WeekCos => libm::cos(TAU * wall.week_part()),
            Part::YearSin => libm::sin(TAU * wall.year_part()),
            _ => libm::cos(TAU * wall.year_part()),
        }
    }
}

/// The parts that are asked for, in a time zone.
#[derive(Debug)]
pub(super) struct Calendar {
    parts: Vec<Part>,
    zone: Tz,
}

impl Calendar {
    /// Checks what is asked for; `None` where nothing is.
    pub(super) fn plan(
        parts: &[Part],
        zone: Option<&str>,
        input: &Schema,
    ) -> Result<Option<Self>, Vec<ConfigError>> {
        let mut mistakes = Mistakes::default();
        for (i, part) in parts.iter().enumerate() {
            if parts[..i].contains(part) {
                let what = format!("'{}' is there twice", part.described().0);
                mistakes.push(ConfigError::new(format!("calendar[{i}]"), what));
            }
        }
        if !parts.is_empty() && input.domain() == TimeDomain::Logical {
            let what = "the event time is a count, which has no calendar";
            mistakes.push(ConfigError::new("calendar", what).help("leave it out"));
        }
        if let (true, Some(_)) = (parts.is_empty(), zone) {
            let error = ConfigError::new("zone", "no calendar is asked for");
            mistakes.push(error.help("add 'calendar', or leave 'zone' out"));
        }
        let zone = mistakes.one(zone.map_or(Ok(Tz::UTC), named));
        let zone = mistakes.or(zone)?;
        Ok((!parts.is_empty()).then(|| Calendar { parts: parts.to_vec(), zone }))
    }

    /// A column for each part.
    pub(super) fn columns(&self, times: &[i64]) -> Vec<ArrayRef> {
        let walls = self.walls(times);
        let column = |part: &Part| -> ArrayRef {
            if part.described().2 {
                return Arc::new(walls.iter().map(|w| part.whole(w)).collect::<Int64Array>());
            }
            Arc::new(walls.iter().map(|w| part.on_circle(w)).collect::<Float64Array>())
        };
        self.parts.iter().map(column).collect()
    }

    fn walls(&self, times: &[i64]) -> Vec<Wall> {
        // Rows of the same second share the look into the table of the zone, and rows of the same day what is known
        // of the day. UTC has no table.
        let mut known = None;
        let mut ahead = |second: i64| match known {
            _ if self.zone == Tz::UTC => 0,
            Some((at, offset)) if at == second => offset,
            _ => known.insert((second, offset(self.zone, second))).1,
        };
        let mut today: Option<(i64, Day)> = None;
        let wall = |&time: &i64| {
            let second = time.div_euclid(SECOND);
            let local = second + ahead(second);
            let number = local.div_euclid(DAY);
            let day = match today {
                Some((at, day)) if at == number => day,
                _ => today.insert((number, Day::new(number))).1,
            };
            Wall { day, nanos: (local - number * DAY) * SECOND + (time - second * SECOND) }
        };
        times.iter().map(wall).collect()
    }
}

fn named(zone: &str) -> Result<Tz, ConfigError> {
    Tz::from_str(zone).map_err(|_| {
        let known = chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name());
        ConfigError::new("zone", format!("there is no time zone '{zone}'")).unknown(zone, known)
    })
}

/// Seconds by which the clocks of a zone are ahead of UTC.
fn offset(zone: Tz, second: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&naive(second)).fix().local_minus_utc())
}

/// What the calendar says of a day.
#[derive(Debug, Clone, Copy)]
struct Day {
    /// 0 for Monday.
    weekday: u8,
    /// 0 for the first of January.
    ordinal: u16,
    /// 1 for January.
    month: u8,
    days_of_year: u16,
}

impl Day {
    /// The day of this number, counted from 1970-01-01.
    fn new(number: i64) -> Self {
        let date = naive(number * DAY).date();
        let small = "a year has at most 366 days";
        Day {
            weekday: date.weekday().num_days_from_monday().try_into().expect(small),
            ordinal: date.ordinal0().try_into().expect(small),
            month: date.month().try_into().expect(small),
            days_of_year: if date.leap_year() { 366 } else { 365 },
        }
    }
}

/// What a clock on the wall shows: the day, and the nanoseconds of it that have passed.
#[derive(Debug, Clone, Copy)]
struct Wall {
    day: Day,
    nanos: i64,
}

impl Wall {
    #[expect(clippy::cast_precision_loss, reason = "a day has fewer than 2^53 nanoseconds")]
    fn day_part(&self) -> f64 {
        self.nanos as f64 / 86_400e9
    }

    fn week_part(&self) -> f64 {
        (f64::from(self.day.weekday) + self.day_part()) / 7.0
    }

    fn year_part(&self) -> f64 {
        let n_days = f64::from(self.day.days_of_year);
        (f64::from(self.day.ordinal) + self.day_part()) / n_days
    }
}

fn naive(second: i64) -> NaiveDateTime {
    let time = DateTime::from_timestamp(second, 0);
    time.expect("64 bits of nanoseconds end in the year 2262").naive_utc()
}
