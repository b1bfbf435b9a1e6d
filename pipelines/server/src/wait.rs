//! `?wait=30s`: an answer that waits until there is something new.
//!
//! What a reader would get wrong: only a request whose `If-None-Match` is still true waits, so who forgets the header is answered at once, and nobody waits for
//! what has happened already. Whoever waits has the place of a reader that follows a table; a client that goes away gives it back.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use foreline_engine::Table;

use crate::limits::{FOLLOWERS, RETRY_AFTER, WAIT_TIME};
use crate::problem::Problem;
use crate::routes::Site;
use crate::tables::{bad, names, tagged, version};

/// How often a table is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long a request would wait.
pub(crate) fn asked(text: Option<String>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let of = |digits: &str, unit_ms: u64| {
        let is_number =
            (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let n = digits.parse::<u64>().ok().filter(|_| is_number)?;
        Some(Duration::from_millis(n.checked_mul(unit_ms)?))
    };
    let time = match text.strip_suffix("ms") {
        Some(digits) => of(digits, 1),
        None => text.strip_suffix('s').and_then(|digits| of(digits, 1000)),
    };
    time.filter(|time| *time <= WAIT_TIME).ok_or_else(|| {
        let longest = WAIT_TIME.as_secs();
        let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        bad(format!("'wait' is a time such as 30s or 500ms, at most {longest}s, not '{shown}'"))
    })
}

/// The answer to who has seen the table as it is, once it has been so for the whole of `wait`; nothing as soon as it has changed.
pub(crate) async fn not_modified(
    site: &Site,
    table: &Arc<Table>,
    edition: u64,
    headers: &HeaderMap,
    wait: Duration,
) -> Result<Option<Response>, Problem> {
    let Some(known) = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) else {
        return Ok(None);
    };
    // `*` stands for whatever there is, so it is the tag of now that a change is told from.
    let now = table.changed();
    let is_known = |changed| names(known, &format!("\"{}\"", version(edition, changed)));
    if !is_known(now) {
        return Ok(None);
    }
    let same = tagged(StatusCode::NOT_MODIFIED.into_response(), edition, now);
    if wait.is_zero() {
        return Ok(Some(same));
    }
    let _place = site.followers.try_acquire().map_err(|_| {
        let detail = format!("{FOLLOWERS} readers follow tables or wait, and that is the limit");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).after(RETRY_AFTER)
    })?;
    let mut stopped = site.stopped.clone();
    let change = async {
        while table.changed() == now {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = change => Ok(None),
        () = tokio::time::sleep(wait) => Ok(Some(same)),
        _ = stopped.wait_for(|stop| *stop) => Ok(Some(same)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_short_time() {
        let of = |text: &str| asked(Some(text.to_owned())).ok();
        assert_eq!(asked(None).unwrap(), Duration::ZERO);
        assert_eq!(of("30s"), Some(Duration::from_secs(30)));
        assert_eq!(of("500ms"), Some(Duration::from_millis(500)));
        for wrong in ["", "30", "s", "-1s", "+1s", "1.5s", "56s", "99999999999999999999s", "1m"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
