//! Columns that are parts of a name: of an object's key, or of a file's.

use foreline_engine::ConfigError;

use crate::kind::SourceInputs;

/// A pattern such as `{machine}_{sensor}`, whose parts are columns.
#[derive(Debug)]
pub(crate) struct Parts {
    /// As the user wrote it.
    pub(crate) written: String,
    pieces: Vec<Piece>,
    /// The columns, in the order of the pattern.
    pub(crate) columns: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// This text.
    Text(String),
    /// What stands up to the next piece, without a `/`.
    Column,
}

impl Parts {
    /// Reads the pattern that stands in `option`.
    ///
    /// # Errors
    /// Everything that is wrong with it; `example` is one that is right, `of` what its parts are of.
    pub(crate) fn new(
        option: &str,
        written: &str,
        (of, example): (&str, &str),
        inputs: &SourceInputs<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut found = Vec::new();
        let (pieces, columns) = pieces(written).unwrap_or_else(|message| {
            let help = format!("write text and names of columns, as in {example}");
            found.push(ConfigError::new(option, message).help(help));
            (Vec::new(), Vec::new())
        });
        let names = || inputs.columns.iter().map(|(name, _)| name.clone());
        for (i, column) in columns.iter().enumerate() {
            let declared = inputs.columns.iter().find(|(name, _)| name == column);
            if columns[..i].contains(column) {
                let message = format!("the column '{column}' occurs twice");
                found.push(ConfigError::new(option, message));
            }
            match declared {
                None => found.push(
                    ConfigError::new(option, format!("there is no column '{column}'"))
                        .unknown(column, names()),
                ),
                Some((_, config)) if config.field.is_some() => {
                    let message = format!("the values of '{column}' come from the {of}");
                    let at = format!("columns.{column}.field");
                    found.push(ConfigError::new(at, message).help("remove `field`"));
                }
                Some(_) => {}
            }
        }
        let written = written.to_owned();
        if found.is_empty() { Ok(Parts { written, pieces, columns }) } else { Err(found) }
    }

    /// The parts of `name`, and what stands behind the pattern; nothing where it does not begin as that says.
    pub(crate) fn of<'n>(&self, name: &'n str) -> Option<(Vec<&'n str>, &'n str)> {
        let mut parts = Vec::new();
        let mut rest = name;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(&**text)?,
                Piece::Column => {
                    let end = match pieces.peek() {
                        Some(Piece::Text(text)) => rest.find(&**text)?,
                        _ => rest.find('/').unwrap_or(rest.len()),
                    };
                    let (value, after) = rest.split_at(end);
                    if value.contains('/') {
                        return None;
                    }
                    parts.push(value);
                    rest = after;
                }
            }
        }
        Some((parts, rest))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_mean_nothing() {
        for pattern in ["{a}{b}/", "{a/", "a}/"] {
            assert!(pieces(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn names_have_parts() {
        let parts_of = |pattern: &str, name: &'static str| {
            let (pieces, columns) = pieces(pattern).unwrap();
            Parts { written: pattern.to_owned(), pieces, columns }.of(name)
        };
        assert_eq!(parts_of("{machine}_{sensor}", "g1_sensor1"), Some((vec!["g1", "sensor1"], "")));
        assert_eq!(parts_of("{machine}_{sensor}", "g1_a_b"), Some((vec!["g1", "a_b"], "")));
        assert_eq!(parts_of("{machine}_{sensor}", "g1"), None);
        assert_eq!(parts_of("{machine}-x", "g1-x-y"), Some((vec!["g1"], "-y")));
        assert_eq!(parts_of("run {n}", "run 7"), Some((vec!["7"], "")));
        assert_eq!(parts_of("", "g1"), Some((vec![], "g1")));
    }
}
