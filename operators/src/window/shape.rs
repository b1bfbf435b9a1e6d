//! Which rows belong together: what the configuration says of it, checked.

use foreline_engine::{ConfigError, TimeDomain};

use super::timed::{Grid, Limits};
use super::{Count, Rolling, Session, Sliding, WindowConfig, rolling, session, timed};
use crate::columns::positive;

/// Rows that the open windows of a key may hold unless `max_rows` says otherwise: ten minutes at 100 Hz with room
/// to spare, and 3 MB a key for a column.
const DEFAULT_MAX_ROWS: usize = 100_000;

/// Most sliding windows that are open at a time: each row counts in all of them.
const MAX_OVERLAP: i64 = 10_000;

/// Most rows of a `rolling` or `count` window: they are kept, and features are computed anew for every row out.
const MAX_WINDOW_ROWS: usize = 100_000;

/// Which rows belong together.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Those of a stretch of event time.
    Timed(Grid, Limits),
    /// The last so many.
    Rows(rolling::Rule),
    /// Those that follow one another closely.
    Session(session::Rule, Limits),
}

type Planning<T> = Result<T, Vec<ConfigError>>;

impl Shape {
    pub(super) fn plan(config: &WindowConfig, domain: TimeDomain) -> Planning<Self> {
        let mut errors = Vec::new();
        let limits = limits(config, &mut errors);
        let WindowConfig { tumbling, sliding, rolling, count, session, .. } = *config;
        let shape = match (tumbling, sliding, rolling, count, session) {
            (Some(length), None, None, None, None) => positive("tumbling", length, domain)
                .map(|length| Shape::Timed(Grid { length, every: length }, limits))
                .map_err(|e| vec![e]),
            (None, Some(sliding), None, None, None) => {
                overlapping(sliding, domain).map(|grid| Shape::Timed(grid, limits))
            }
            (None, None, Some(rolling), None, None) => last_rows(rolling, domain).map(Shape::Rows),
            (None, None, None, Some(count), None) => so_many_rows(count, domain).map(Shape::Rows),
            (None, None, None, None, Some(session)) => {
                sessions(session, domain).map(|rule| Shape::Session(rule, limits))
            }
            (None, None, None, None, None) => Err(vec![
                ConfigError::new("", "nothing says which windows")
                    .help("add one of tumbling, sliding, rolling, count, session"),
            ]),
            _ => Err(vec![
                ConfigError::new(
                    "",
                    "tumbling, sliding, rolling, count and session exclude one another",
                )
                .help("keep one of them, and make another step for the other"),
            ]),
        };
        if let (Ok(Shape::Rows(_)), Some(_)) = (&shape, config.min_rows) {
            let what = "'min_rows' is for windows of time";
            let help = "a 'rolling' window has its own, and a 'count' window is never shorter";
            errors.push(ConfigError::new("min_rows", what).help(help));
        }
        match shape {
            Ok(shape) if errors.is_empty() => Ok(shape),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The names of the time columns, the event time first; `None`: that of the input.
    pub(super) fn times(&self) -> Option<&'static [&'static str]> {
        match self {
            Shape::Timed(..) => Some(&["window_end"]),
            Shape::Session(..) => Some(&["window_end", "window_first", "window_last"]),
            Shape::Rows(_) => None,
        }
    }

    pub(super) fn state_version(&self) -> u32 {
        match self {
            Shape::Timed(..) => timed::STATE_VERSION,
            Shape::Rows(_) => rolling::STATE_VERSION,
            Shape::Session(..) => session::STATE_VERSION,
        }
    }
}

fn limits(config: &WindowConfig, errors: &mut Vec<ConfigError>) -> Limits {
    let max_rows = config.max_rows.unwrap_or(DEFAULT_MAX_ROWS);
    let min_rows = config.min_rows.unwrap_or(1);
    if max_rows == 0 {
        errors.push(ConfigError::new("max_rows", "a window must hold at least one row"));
    } else if min_rows == 0 || min_rows > max_rows {
        let what = format!("'{min_rows}' is not between 1 and 'max_rows', which is {max_rows}");
        errors.push(ConfigError::new("min_rows", what).help("give a number in between"));
    }
    Limits { max_rows, min_rows }
}

fn overlapping(sliding: Sliding, domain: TimeDomain) -> Planning<Grid> {
    let length = positive("sliding.length", sliding.length, domain);
    let every = positive("sliding.every", sliding.every, domain);
    let (length, every) = match (length, every) {
        (Ok(length), Ok(every)) => (length, every),
        (length, every) => {
            return Err([length.err(), every.err()].into_iter().flatten().collect());
        }
    };
    if every > length {
        let what = format!("windows of {} every {} leave gaps", sliding.length, sliding.every);
        let error = ConfigError::new("sliding.every", what);
        return Err(vec![error.help("make 'every' at most 'length'")]);
    }
    if length / every > MAX_OVERLAP {
        let what = format!("more than {MAX_OVERLAP} windows would be open at a time");
        return Err(vec![ConfigError::new("sliding.every", what).help("make 'every' longer")]);
    }
    Ok(Grid { length, every })
}

fn last_rows(rolling: Rolling, domain: TimeDomain) -> Planning<rolling::Rule> {
    let mut errors = n_rows("rolling.rows", rolling.rows);
    errors.extend(every("rolling.every", rolling.every));
    if rolling.min_rows == 0 || rolling.min_rows > rolling.rows {
        let what = format!("'{}' is not between 1 and 'rows'", rolling.min_rows);
        errors.push(ConfigError::new("rolling.min_rows", what));
    }
    let max_gap = rolling.max_gap.map(|gap| positive("rolling.max_gap", gap, domain)).transpose();
    let max_gap = max_gap.unwrap_or_else(|e| {
        errors.push(e);
        None
    });
    let Rolling { rows, every, min_rows, .. } = rolling;
    let rule = rolling::Rule { rows, every, min_rows, phase: 0, max_gap };
    if errors.is_empty() { Ok(rule) } else { Err(errors) }
}

fn so_many_rows(count: Count, domain: TimeDomain) -> Planning<rolling::Rule> {
    let (rows, step) = (count.rows, count.every.unwrap_or(count.rows));
    let mut errors = n_rows("count.rows", rows);
    errors.extend(count.every.and_then(|step| every("count.every", step)));
    let max_gap = count.max_gap.map(|gap| positive("count.max_gap", gap, domain)).transpose();
    let max_gap = max_gap.unwrap_or_else(|e| {
        errors.push(e);
        None
    });
    let rule = rolling::Rule { rows, every: step, min_rows: rows, phase: rows, max_gap };
    if errors.is_empty() { Ok(rule) } else { Err(errors) }
}

fn n_rows(at: &str, rows: usize) -> Vec<ConfigError> {
    if (1..=MAX_WINDOW_ROWS).contains(&rows) {
        return Vec::new();
    }
    let error = ConfigError::new(at, format!("'{rows}' is not a number of rows"));
    vec![error.help(format!("give a number from 1 to {MAX_WINDOW_ROWS}"))]
}

fn every(at: &str, rows: usize) -> Option<ConfigError> {
    let error = ConfigError::new(at, "a row cannot come out for every 0 rows");
    (rows == 0).then(|| error.help("give 1 for one row out for each row in"))
}

fn sessions(session: Session, domain: TimeDomain) -> Planning<session::Rule> {
    let gap = positive("session.gap", session.gap, domain);
    let max_length = session.max_length.map(|most| positive("session.max_length", most, domain));
    match (gap, max_length.transpose()) {
        (Ok(gap), Ok(max_length)) => Ok(session::Rule { gap, max_length }),
        (gap, most) => Err([gap.err(), most.err()].into_iter().flatten().collect()),
    }
}
