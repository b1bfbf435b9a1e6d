//! What can go wrong with an object, as far as it decides what to do about it.

/// Longest text of a store that a message repeats.
const SHOWN_CHARS_MAX: usize = 300;

/// What the client writes before the status of an answer, which it keeps nowhere else.
const STATUS: &str = "Server returned non-2xx status code: ";

/// A request that had no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectError {
    /// It may go better later: no connection, too many requests, an error inside the store.
    #[error("{0}")]
    Transient(String),
    /// It will not: no permission, no such bucket, a request that the store does not know.
    #[error("{0}")]
    Definite(String),
    /// Another object has the key than the one that was asked for.
    #[error("{0}")]
    Changed(String),
    /// No object has the key.
    #[error("it is not there any more")]
    Gone,
}

impl ObjectError {
    pub(crate) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let text = shown(error);
        let status = status(&text);
        let text = text.replacen(STATUS, "the store answers ", 1);
        match (error, status) {
            _ if text.contains("NoSuchBucket") => ObjectError::Definite(text),
            (E::NotFound { .. }, _) | (_, Some(404)) => ObjectError::Gone,
            (E::Precondition { .. } | E::AlreadyExists { .. }, _) | (_, Some(412)) => {
                ObjectError::Changed("another one is there than before".to_owned())
            }
            (E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. }, _) => {
                ObjectError::Definite(text)
            }
            (_, Some(408 | 429)) => ObjectError::Transient(text),
            // The request itself is refused; a redirection is the answer to a wrong region.
            (_, Some(300..=499 | 501 | 505)) => ObjectError::Definite(text),
            _ if text.contains("redirect") => ObjectError::Definite(text),
            _ => ObjectError::Transient(text),
        }
    }
}

/// The status of the answer, where there was one.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(STATUS)?;
    rest.get(..3)?.parse().ok()
}

/// The innermost cause, which says most; of an answer in XML its code and message. No address and no header.
fn shown(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
    };
    let text = match element("Code") {
        Some(code) => {
            let status = text.split('<').next().unwrap_or_default().trim();
            let message = element("Message").map(|m| format!(": {m}")).unwrap_or_default();
            format!("{status} {code}{message}")
        }
        None => text,
    };
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
