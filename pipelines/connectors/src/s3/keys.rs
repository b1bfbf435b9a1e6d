//! What keys say: which objects are read, and which parts of a key are columns.

use foreline_engine::ConfigError;

use crate::kind::SourceInputs;

/// The pattern of keys below the prefix.
#[derive(Debug)]
pub(super) struct Keys {
    /// As the user wrote it.
    written: String,
    pieces: Vec<Piece>,
    /// The columns, in the order of the pattern.
    pub(super) columns: Vec<String>,
    include: Option<glob::Pattern>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// This text.
    Text(String),
    /// What stands up to the next piece, without a `/`.
    Column,
}

impl Keys {
    /// Reads the patterns.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn new(
        partitions: Option<&str>,
        include: Option<&str>,
        inputs: &SourceInputs<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let written = partitions.unwrap_or_default().to_owned();
        let mut found = Vec::new();
        let (pieces, columns) = pieces(&written).unwrap_or_else(|message| {
            found.push(
                ConfigError::new("partitions", message)
                    .help("write text and names of columns, as in line={line}/day={day}/"),
            );
            (Vec::new(), Vec::new())
        });
        let names = || inputs.columns.iter().map(|(name, _)| name.clone());
        for (i, column) in columns.iter().enumerate() {
            let declared = inputs.columns.iter().find(|(name, _)| name == column);
            if columns[..i].contains(column) {
                let message = format!("the column '{column}' occurs twice");
                found.push(ConfigError::new("partitions", message));
            }
            match declared {
                None => found.push(
                    ConfigError::new("partitions", format!("there is no column '{column}'"))
                        .unknown(column, names()),
                ),
                Some((_, config)) if config.field.is_some() => {
                    let message = format!("the values of '{column}' come from the key");
                    let at = format!("columns.{column}.field");
                    found.push(ConfigError::new(at, message).help("remove `field`"));
                }
                Some(_) => {}
            }
        }
        let include = include.map(glob::Pattern::new).transpose().unwrap_or_else(|e| {
            found.push(ConfigError::new("include", format!("it is not a glob: {}", e.msg)));
            None
        });
        if found.is_empty() { Ok(Keys { written, pieces, columns, include }) } else { Err(found) }
    }

    /// Whether the object `name` below the prefix is one to read.
    pub(super) fn includes(&self, name: &str) -> bool {
        let hidden = name.split('/').any(|part| part.starts_with(['.', '_']));
        !hidden && self.include.as_ref().is_none_or(|glob| glob.matches(name))
    }

    /// The columns' values in `name`.
    ///
    /// # Errors
    /// When it does not begin as the pattern says.
    pub(super) fn parts(&self, name: &str) -> Result<Vec<String>, String> {
        let unlike = || format!("its key does not begin as `partitions: {}` says", self.written);
        let mut parts = Vec::new();
        let mut rest = name;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(&**text).ok_or_else(unlike)?,
                Piece::Column => {
                    let end = match pieces.peek() {
                        Some(Piece::Text(text)) => rest.find(&**text),
                        _ => Some(rest.find('/').unwrap_or(rest.len())),
                    };
                    let (value, after) = rest.split_at(end.ok_or_else(unlike)?);
                    if value.contains('/') {
                        return Err(unlike());
                    }
                    parts.push(decoded(value));
                    rest = after;
                }
            }
        }
        Ok(parts)
    }
}

/// The pieces of a pattern, and the names of its columns.
fn pieces(pattern: &str) -> Result<(Vec<Piece>, Vec<String>), String> {
    let (mut pieces, mut columns) = (Vec::new(), Vec::new());
    let mut rest = pattern;
    while !rest.is_empty() {
        let text_end = rest.find('{').unwrap_or(rest.len());
        let (text, after) = rest.split_at(text_end);
        if text.contains('}') {
            return Err(format!("'{pattern}' has a `}}` without a `{{`"));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        rest = after;
        let Some(inner) = rest.strip_prefix('{') else { continue };
        let (name, after) = inner
            .split_once('}')
            .ok_or_else(|| format!("'{pattern}' has a `{{` without a `}}`"))?;
        if pieces.last() == Some(&Piece::Column) {
            return Err(format!("nothing stands between two columns in '{pattern}'"));
        }
        pieces.push(Piece::Column);
        columns.push(name.trim().to_owned());
        rest = after;
    }
    Ok((pieces, columns))
}

/// The value with `%20` and the like read as what they stand for, as writers of partitioned tables put them.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| byte == b'%');
        let code = digits.and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pattern: &str) -> Keys {
        let (pieces, columns) = pieces(pattern).unwrap();
        Keys { written: pattern.to_owned(), pieces, columns, include: None }
    }

    #[test]
    fn parts_of_keys_are_columns() {
        let cases: [(&str, &str, Option<&[&str]>); 7] = [
            ("line={line}/day={day}/", "line=L1/day=2026-01-02/a.csv", Some(&["L1", "2026-01-02"])),
            ("{plant}/", "north/x/y.csv", Some(&["north"])),
            ("{plant}/{machine}.csv", "north/P-7.csv", Some(&["north", "P-7"])),
            ("line={line}/", "line=a%20b%zz/x.csv", Some(&["a b%zz"])),
            ("line={line}/", "lane=L1/x.csv", None),
            ("a{x}b/", "a/b/c", None),
            ("", "anything", Some(&[])),
        ];
        for (pattern, name, expected) in cases {
            let found = keys(pattern).parts(name).ok();
            let expected = expected.map(|e| e.iter().map(|&p| p.to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing() {
        for pattern in ["{a}{b}/", "{a/", "a}/"] {
            assert!(pieces(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn hidden_names_are_passed_over() {
        for (name, read) in [("a/b.csv", true), ("_temporary/b.csv", false), ("a/.b.csv", false)] {
            assert_eq!(keys("").includes(name), read, "{name}");
        }
    }
}
