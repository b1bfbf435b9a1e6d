//! The options by which users say how records are written, checked the same for files and for messages.

use foreline_engine::ConfigError;

use super::value;
use super::{Delimiter, Dialect};

/// Longest row that may be configured; a reader and every worker hold a few of them.
const ROW_BYTES_MAX: usize = 64 << 20;

/// How users say that records are written; see the options of the same names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsWritten<'a> {
    pub(crate) delimiter: &'a str,
    pub(crate) quote: &'a str,
    pub(crate) decimal: &'a str,
    pub(crate) comment: Option<&'a str>,
    pub(crate) max_row_bytes: usize,
}

impl AsWritten<'_> {
    /// The dialect and the decimal point; what is wrong is added to `mistakes`.
    pub(crate) fn dialect(&self, mistakes: &mut Vec<ConfigError>) -> (Dialect, u8) {
        let mut note = |e| mistakes.push(e);
        let delimiter = delimiter(self.delimiter).map_err(&mut note).unwrap_or(Delimiter::Blank);
        let quote = quote(self.quote).map_err(&mut note).unwrap_or(None);
        let decimal = self.decimal().map_err(&mut note).unwrap_or(b'.');
        if quote.is_some_and(|q| delimiter == Delimiter::Byte(q)) {
            note(ConfigError::new("quote", "the quote is also the delimiter"));
        }
        if self.comment.is_some_and(str::is_empty) {
            note(
                ConfigError::new("comment", "every line begins with nothing")
                    .help("leave `comment` out when there are no comments"),
            );
        }
        let row_bytes_max = self.max_row_bytes;
        if !(1..=ROW_BYTES_MAX).contains(&row_bytes_max) {
            let message = format!("{row_bytes_max} is not between 1 and {ROW_BYTES_MAX}");
            note(ConfigError::new("max_row_bytes", message));
        }
        let comment = self.comment.map(|c| c.as_bytes().to_vec());
        (Dialect { delimiter, quote, comment, row_bytes_max }, decimal)
    }

    fn decimal(&self) -> Result<u8, ConfigError> {
        match self.decimal.as_bytes() {
            b"." => Ok(b'.'),
            b"," if self.delimiter == "," && self.quote == "none" => {
                Err(ConfigError::new("decimal", "the decimal point is also the delimiter"))
            }
            b"," => Ok(b','),
            _ => Err(ConfigError::new(
                "decimal",
                format!("'{}' is not a decimal point", self.decimal),
            )
            .help("use . or ,")),
        }
    }
}

fn delimiter(text: &str) -> Result<Delimiter, ConfigError> {
    match text.as_bytes() {
        b"blank" => Ok(Delimiter::Blank),
        b"tab" | b"\\t" => Ok(Delimiter::Byte(b'\t')),
        &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Delimiter::Byte(byte)),
        _ => Err(ConfigError::new("delimiter", format!("'{text}' is not a delimiter"))
            .help("use one ASCII character such as , ; | or the words tab and blank")),
    }
}

fn quote(text: &str) -> Result<Option<u8>, ConfigError> {
    match text.as_bytes() {
        b"none" => Ok(None),
        &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(byte)),
        _ => Err(ConfigError::new("quote", format!("'{text}' is not a quote"))
            .help("use one ASCII character such as \" or ', or the word none")),
    }
}

/// Words that mean "no value".
#[derive(Debug, Clone, Default)]
pub(crate) struct NullWords {
    words: Vec<Vec<u8>>,
    /// Whether some word could be read as a value, such as `-999`, and has to be looked for first.
    pub(crate) like_values: bool,
}

impl NullWords {
    /// These words.
    pub(crate) fn new(words: &[String]) -> Self {
        let like_value = |w: &[u8]| w.iter().any(u8::is_ascii_digit) || value::truth(w).is_some();
        let like_values = words.iter().any(|w| like_value(w.as_bytes()));
        NullWords { words: words.iter().map(|w| w.clone().into_bytes()).collect(), like_values }
    }

    /// Whether `field` is one of them.
    pub(crate) fn contain(&self, field: &[u8]) -> bool {
        self.words.iter().any(|word| word == field)
    }
}

/// The words that mean "no value" when the user names none.
pub(crate) fn default_null_words() -> Vec<String> {
    ["", "NULL", "null", "NaN", "nan", "NA"].map(str::to_owned).to_vec()
}
