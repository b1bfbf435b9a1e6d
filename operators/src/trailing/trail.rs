//! How far a window reaches back.

use foreline_engine::{ConfigError, Extent, TimeDomain};

use crate::columns::positive;

/// Most rows of a window.
const MAX_ROWS: usize = 100_000;

/// Rows that a window of some duration may hold unless `max_rows` says otherwise: a minute and a half at 100 Hz.
const DEFAULT_MAX_ROWS: usize = 10_000;

/// How far a window reaches back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trail {
    /// So many rows, at least one.
    Rows(usize),
    /// So long, in the unit of the time domain, but no more rows than this.
    Length {
        /// The window of a row at `t` is `(t - length, t]`.
        length: i64,
        /// Most rows.
        max_rows: usize,
    },
    /// As `Length`, and the last row that is older.
    Behind {
        /// How long.
        length: i64,
        /// Most rows.
        max_rows: usize,
    },
}

/// The options of a configuration that say how far a window reaches back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) rows: Option<usize>,
    pub(crate) duration: Option<Extent>,
    pub(crate) max_rows: Option<usize>,
    pub(crate) min_rows: usize,
}

/// A number of rows of a window, of which there are bounds.
pub(crate) fn in_bounds(at: &str, rows: usize) -> Result<usize, ConfigError> {
    let ok = (1..=MAX_ROWS).contains(&rows).then_some(rows);
    ok.ok_or_else(|| {
        let what = format!("'{rows}' is not a number of rows of a window");
        ConfigError::new(at, what).help(format!("give a number from 1 to {MAX_ROWS}"))
    })
}

/// The length of a window in time and the most rows it may hold.
pub(crate) fn in_time(
    duration: Extent,
    max_rows: Option<usize>,
    domain: TimeDomain,
) -> Result<(i64, usize), Vec<ConfigError>> {
    let length = positive("duration", duration, domain);
    let max_rows = in_bounds("max_rows", max_rows.unwrap_or(DEFAULT_MAX_ROWS));
    match (length, max_rows) {
        (Ok(length), Ok(max_rows)) => Ok((length, max_rows)),
        (length, max_rows) => Err([length.err(), max_rows.err()].into_iter().flatten().collect()),
    }
}

impl Trail {
    /// Checks what the configuration says.
    pub(crate) fn plan(reach: Reach, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let trail = match (reach.rows, reach.duration) {
            (Some(rows), None) => Trail::Rows(in_bounds("rows", rows).map_err(|e| vec![e])?),
            (None, Some(duration)) => {
                let (length, max_rows) = in_time(duration, reach.max_rows, domain)?;
                Trail::Length { length, max_rows }
            }
            (None, None) => {
                let error = ConfigError::new("", "nothing says how long the window is");
                return Err(vec![error.help("add one of rows, duration")]);
            }
            (Some(_), Some(_)) => {
                let error = ConfigError::new("", "rows and duration exclude one another");
                return Err(vec![error.help("keep one of them")]);
            }
        };
        match trail {
            Trail::Rows(rows) if reach.min_rows > rows => {
                let what = format!("a window of {rows} rows never has {} values", reach.min_rows);
                let error = ConfigError::new("min_rows", what);
                Err(vec![error.help("make 'min_rows' at most 'rows'")])
            }
            _ => Ok(trail),
        }
    }

    /// The first of the kept rows that is in the window of a row at `time` which comes after them.
    pub(super) fn first(self, kept: &[i64], time: i64) -> usize {
        let up_to = |length| kept.partition_point(|&t| t <= time.saturating_sub(length));
        match self {
            Trail::Rows(rows) => (kept.len() + 1).saturating_sub(rows),
            Trail::Length { length, .. } => up_to(length),
            Trail::Behind { length, .. } => up_to(length).saturating_sub(1),
        }
    }

    /// Whether a window of `n` rows has room for another.
    pub(super) fn has_room(self, n: usize) -> bool {
        match self {
            Trail::Rows(_) => true,
            Trail::Length { max_rows, .. } | Trail::Behind { max_rows, .. } => n < max_rows,
        }
    }
}
