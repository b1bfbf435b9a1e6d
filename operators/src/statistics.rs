//! Files of statistics: what `foreline train` fits and steps read when they are planned.
//!
//! A file is JSON that a person can read and compare: the version of the form, what it is for, what was fitted.
//! Numbers are written with as many digits as it takes to read the same bits again. The digest of the file is part of
//! what a plan depends on, so that state which came of other statistics is not taken for its own.
//!
//! What a reader would get wrong: a file is read when a step is planned, never while it runs.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use foreline_engine::{ConfigError, Resolver, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod text;

/// The version of the form, raised when the meaning of a file changes.
const VERSION: u32 = 1;
/// A larger file is none of ours: 1,000 regimes of 100 columns take 20 MB.
const MAX_BYTES: u64 = 64 << 20;
/// The option that names the file, in every step that reads one.
pub(crate) const OPTION: &str = "statistics";

/// What is fitted, as it stands in a file.
pub(crate) trait Content: Serialize + DeserializeOwned {
    /// What it is for; a file for something else is refused.
    const KIND: &'static str;
}

/// A file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    /// The version of the form.
    foreline_statistics: u32,
    /// What it is for.
    kind: String,
    /// What the fitting was called.
    name: String,
    /// How many rows it was fitted on.
    rows: u64,
    /// What was fitted.
    fitted: T,
}

/// The beginning of any file, whatever its version.
#[derive(Debug, Deserialize)]
struct Head {
    foreline_statistics: u32,
    kind: String,
}

/// What a file holds, and the words by which a plan depends on it.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) content: T,
    pub(crate) depends_on: String,
}

/// The text of a file.
///
/// # Errors
/// When a number is not finite, which JSON cannot say.
pub(crate) fn to_text<T: Content>(name: &str, rows: usize, fitted: T) -> Result<String, String> {
    let file = File {
        foreline_statistics: VERSION,
        kind: T::KIND.to_owned(),
        name: name.to_owned(),
        rows: rows as u64,
        fitted,
    };
    let value = serde_json::to_value(file).map_err(|e| e.to_string())?;
    // A NaN would be written as null, and found out only when it is read.
    T::deserialize(&value["fitted"]).map_err(|e| format!("a figure is not a number: {e}"))?;
    Ok(text::readable(&value))
}

/// Reads the file at `path` of the pipeline file.
///
/// # Errors
/// When it is not there, or holds something else.
pub(crate) fn load<T: Content>(
    path: &Path,
    given: &dyn Resolver,
) -> Result<Loaded<T>, ConfigError> {
    let shown = path.display();
    let text = bytes(&given.path(path)).map_err(|e| {
        ConfigError::new(OPTION, format!("the statistics '{shown}' cannot be read: {e}"))
            .help("fit them with `foreline train` (an entry of 'training' with this 'step'), or correct the path")
    })?;
    let wrong = |what: String| {
        ConfigError::new(OPTION, format!("'{shown}' {what}"))
            .help("fit it again with `foreline train`, or name another file")
    };
    let head: Head = serde_json::from_slice(&text)
        .map_err(|e| wrong(format!("is not a file of statistics: {e}")))?;
    if head.foreline_statistics != VERSION {
        let found = head.foreline_statistics;
        return Err(wrong(format!("has version {found}, but this build reads version {VERSION}")));
    }
    if head.kind != T::KIND {
        return Err(wrong(format!("holds '{}', but this step needs '{}'", head.kind, T::KIND)));
    }
    let file: File<T> =
        serde_json::from_slice(&text).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let depends_on = format!("{OPTION} {:032x}", digest(&text));
    Ok(Loaded { content: file.fitted, depends_on })
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// The error of a step that cannot do without a file and names none.
pub(crate) fn required(file: Option<&PathBuf>) -> Result<&PathBuf, ConfigError> {
    file.ok_or_else(|| {
        ConfigError::new("", format!("the step is fitted, but no '{OPTION}' is named"))
            .help(format!("add '{OPTION}: statistics/<name>.json', which `foreline train` writes"))
    })
}

/// The error of a column that the file does not have, or has in another unit.
pub(crate) fn not_fitted(at: impl Into<String>, what: impl Into<String>) -> ConfigError {
    ConfigError::new(at, what).help("fit the statistics again with `foreline train`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Given;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Numbers(Vec<f64>);

    impl Content for Numbers {
        const KIND: &'static str = "numbers";
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Other(Vec<f64>);

    impl Content for Other {
        const KIND: &'static str = "other";
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn what_is_read_has_the_bits_that_were_written() {
        let mut dice = crate::testing::Dice::new(3);
        let mut numbers: Vec<f64> =
            (0..2000).map(|_| f64::from_bits(dice.next_u64())).filter(|v| v.is_finite()).collect();
        numbers.extend([0.1, -0.0, 5e-324, f64::MAX, 1.0 / 3.0]);
        let text = to_text("pump", 7, Numbers(numbers.clone())).unwrap();
        let loaded: Loaded<Numbers> = load(written(&text).path(), &Given).unwrap();
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&loaded.content.0), bits(&numbers));
    }

    #[test]
    fn a_plan_depends_on_every_byte() {
        let one = to_text("pump", 7, Numbers(vec![1.0])).unwrap();
        let depends =
            |text: &str| load::<Numbers>(written(text).path(), &Given).unwrap().depends_on;
        assert_eq!(depends(&one), depends(&one));
        assert_ne!(depends(&one), depends(&one.replace("1.0", "2.0")));
        assert!(depends(&one).starts_with("statistics "));
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let message =
            |text: &str| load::<Numbers>(written(text).path(), &Given).unwrap_err().message;
        let good = to_text("pump", 7, Numbers(vec![1.0])).unwrap();
        let other = to_text("pump", 7, Other(vec![1.0])).unwrap();
        for (text, expected) in [
            ("means: 3", "is not a file of statistics"),
            (
                &good.replace("statistics\": 1", "statistics\": 2"),
                "has version 2, but this build reads version 1",
            ),
            (&other, "holds 'other', but this step needs 'numbers'"),
            (&good.replace("1.0", "true"), "cannot be read: invalid type"),
        ] {
            assert!(message(text).contains(expected), "{} lacks {expected}", message(text));
        }
        let gone = load::<Numbers>(Path::new("no/such.json"), &Given).unwrap_err();
        assert!(gone.message.starts_with("the statistics 'no/such.json' cannot be read"));
        assert!(gone.help.unwrap().contains("foreline train"));
    }

    #[test]
    fn what_json_cannot_say_is_not_written() {
        assert!(to_text("pump", 7, Numbers(vec![f64::NAN])).is_err());
    }
}
