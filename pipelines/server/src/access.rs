//! Who may use the API: whoever shows a token.

use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// A token that may be shown. Only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Token(Sha256::digest(text).into())
    }

    /// Whether `text` is it. How long that takes says nothing about how much of it is right.
    fn is(&self, text: &str) -> bool {
        let shown = Sha256::digest(text);
        self.0.iter().zip(&*shown).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Lets a request through that shows one of `tokens`; any where there is none.
pub(crate) fn check(tokens: &[Token], headers: &HeaderMap) -> Result<(), Problem> {
    if tokens.is_empty() {
        return Ok(());
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // All of them are looked at, whichever fits.
    let fits = shown.map(|(_, token)| tokens.iter().fold(false, |any, t| any | t.is(token.trim())));
    match fits {
        Some(true) => Ok(()),
        Some(false) => Err(unauthorized("the token is not known")),
        None => Err(unauthorized("show a token: 'authorization: bearer ...'")),
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}
