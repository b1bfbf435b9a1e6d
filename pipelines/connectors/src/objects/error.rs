//! What can go wrong with an object, as far as it decides what to do about it.

use std::error::Error as _;

/// Longest text of a store that a message repeats.
const SHOWN_CHARS_MAX: usize = 300;

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
        match error {
            E::NotFound { .. } if text.contains("NoSuchBucket") => ObjectError::Definite(text),
            E::NotFound { .. } => ObjectError::Gone,
            E::Precondition { .. } | E::AlreadyExists { .. } | E::NotModified { .. } => {
                ObjectError::Changed("another one is there than before".to_owned())
            }
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => ObjectError::Definite(text),
            E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => {
                ObjectError::Definite(text)
            }
            E::Generic { .. } if is_final(&text) => ObjectError::Definite(text),
            _ => ObjectError::Transient(text),
        }
    }
}

/// Answers that no repetition changes: the request itself is refused.
fn is_final(text: &str) -> bool {
    ["status code: 400", "status code: 405", "status code: 501", "redirect", "status code: 301"]
        .iter()
        .any(|mark| text.contains(mark))
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
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => {
            let status = text.split("<?xml").next().unwrap_or_default().trim();
            format!("{} {code}: {message}", status.trim_end_matches(':'))
        }
        _ => text,
    };
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
