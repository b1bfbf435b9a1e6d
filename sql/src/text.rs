//! The text of an expression as tokens: limits, and where a name stands.

use std::ops::Range;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};
use foreline_engine::ExpressionError;

use crate::compile::{MAX_LENGTH_BYTES, MAX_OPERATORS};
use crate::message::located;

/// An expression cut into tokens; white space and comments are left out.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    sql: &'a str,
    tokens: Vec<TokenWithSpan>,
}

impl<'a> Text<'a> {
    /// Cuts `sql` into tokens.
    ///
    /// # Errors
    /// When it is empty, too long, holds a query, or is not SQL text at all (an open quote).
    pub(crate) fn new(sql: &'a str) -> Result<Self, ExpressionError> {
        if sql.len() > MAX_LENGTH_BYTES {
            let found = sql.len();
            return Err(plain(format!(
                "the expression has {found} bytes, the limit is {MAX_LENGTH_BYTES}"
            )));
        }
        let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| located(sql, &e.message, Some(e.location)))?;
        tokens.retain(|t| !matches!(t.token, Token::Whitespace(_)));
        if tokens.is_empty() {
            return Err(plain("the expression is empty".to_owned()));
        }
        let operators = tokens.iter().filter(|t| nests(&t.token)).count();
        if operators > MAX_OPERATORS {
            return Err(plain(format!(
                "the expression has {operators} operators and keywords, the limit is {MAX_OPERATORS}"
            )));
        }
        let text = Text { sql, tokens };
        match text.find(|word| word.quote_style.is_none() && word.keyword == Keyword::SELECT) {
            Some(at) => Err(ExpressionError {
                message: "a query is not possible here: an expression sees one row".to_owned(),
                at: Some(at),
                unknown: None,
            }),
            None => Ok(text),
        }
    }

    /// Where `name` first stands as a word, whatever its case.
    pub(crate) fn place_of(&self, name: &str) -> Option<Range<usize>> {
        self.find(|word| word.value == name)
            .or_else(|| self.find(|word| word.value.eq_ignore_ascii_case(name)))
    }

    fn find(&self, fits: impl Fn(&Word) -> bool) -> Option<Range<usize>> {
        self.tokens.iter().find_map(|t| match &t.token {
            Token::Word(word) if fits(word) => {
                Some(offset(self.sql, t.span.start)..offset(self.sql, t.span.end))
            }
            _ => None,
        })
    }
}

/// Whether an expression may be one level deeper for this token.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword && word.quote_style.is_none(),
        Token::Comma | Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) => false,
        _ => true,
    }
}

fn plain(message: String) -> ExpressionError {
    ExpressionError { message, at: None, unknown: None }
}

/// The byte at `location`, whose column counts characters from 1; the end of the text where it lies beyond.
pub(crate) fn offset(sql: &str, location: Location) -> usize {
    let line = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
    let start = match line {
        0 => 0,
        _ => match sql.match_indices('\n').nth(line - 1) {
            Some((at, _)) => at + 1,
            None => return sql.len(),
        },
    };
    sql[start..].char_indices().nth(column).map_or(sql.len(), |(at, _)| start + at)
}
