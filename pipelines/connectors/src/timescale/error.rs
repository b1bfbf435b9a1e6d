//! What a failure of the database means: try again, give up, or ask what became of a commit.
//!
//! | SQLSTATE | what | |
//! |---|---|---|
//! | 08, 57, 58 | connection, operator, disk | again, but for 57P04 (the database was dropped) |
//! | 40, 53, 55P03, 55006 | serialization, deadlock, out of something, locks | again, but for 53400 (a configured limit) |
//! | 25006, 25P03 | a standby that takes no rows yet, a transaction that was idle | again |
//! | all others | what is asked for is wrong, or forbidden | never |

use std::error::Error as _;

use foreline_engine::SinkError;
use tokio_postgres::Error;

/// States that are no use trying again although their class is.
const FINAL: &[&str] = &["57P04", "53400"];
/// States that are worth trying again although their class is not.
const PASSING: &[&str] = &["25006", "25P03", "55P03", "55006"];
const PASSING_CLASSES: &[&str] = &["08", "40", "53", "57", "58"];
/// How errors begin in which neither the network nor the database has a part.
const OURS: &[&str] = &[
    "invalid configuration",
    "authentication error",
    "error performing TLS handshake",
    "error serializing",
    "error deserializing",
    "invalid column",
    "query returned",
];
/// Classes in which a COMMIT fails for certain: a constraint that is checked late, a serialization failure.
const UNDONE_CLASSES: &[&str] = &["23", "40"];

/// What `error` means to the engine; `what` is what was tried.
pub(super) fn classify(what: &str, error: &Error) -> SinkError {
    let message = format!("cannot {what}: {}", text(error));
    match error.code() {
        Some(state) if is_passing(state.code()) => SinkError::Retry(message),
        Some(_) => SinkError::Fatal(message),
        None if is_about_us(error) => SinkError::Fatal(message),
        None => SinkError::Retry(message),
    }
}

/// Whether a COMMIT that was answered with `error` has certainly not happened.
pub(super) fn is_undone(error: &Error) -> bool {
    let class = |state: &str| UNDONE_CLASSES.contains(&&state[..2]);
    error.code().is_some_and(|state| class(state.code()))
}

fn is_passing(state: &str) -> bool {
    !FINAL.contains(&state)
        && (PASSING.contains(&state) || PASSING_CLASSES.iter().any(|c| state.starts_with(c)))
}

/// Whether the connection fails because of how it is set up: a certificate, a password that is not there.
fn is_about_us(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        source = cause.source();
    }
    let said = error.to_string();
    OURS.iter().any(|about| said.starts_with(about))
}

/// What the database says, with its code and advice. It quotes values of rows, never a password.
fn text(error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        return text;
    };
    let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text = format!("{text}; {}", more.trim_end_matches('.'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for state in
            ["08006", "40001", "40P01", "57P01", "57P03", "53300", "55P03", "25006", "58030"]
        {
            assert!(is_passing(state), "{state}");
        }
        for state in
            ["42P01", "42501", "22003", "23505", "28P01", "53400", "57P04", "0A000", "25001"]
        {
            assert!(!is_passing(state), "{state}");
        }
    }
}
