//! What keys say: which objects are read, and which parts of a key are columns.

use foreline_engine::ConfigError;

use crate::kind::SourceInputs;
use crate::parts::Parts;

/// The pattern of keys below the prefix.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Parts,
    include: Option<glob::Pattern>,
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
        let mut found = Vec::new();
        let written = partitions.unwrap_or_default();
        let what = ("key", "line={line}/day={day}/");
        let parts = Parts::new("partitions", written, what, inputs);
        let parts = parts.map_err(|wrong| found.extend(wrong));
        let include = include.map(glob::Pattern::new).transpose().unwrap_or_else(|e| {
            found.push(ConfigError::new("include", format!("it is not a glob: {}", e.msg)));
            None
        });
        match parts {
            Ok(parts) if found.is_empty() => Ok(Keys { parts, include }),
            _ => Err(found),
        }
    }

    /// The columns, in the order of the pattern.
    pub(super) fn columns(&self) -> &[String] {
        &self.parts.columns
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
        let parts = self.parts.of(name).map(|(parts, _)| parts.into_iter().map(decoded).collect());
        parts.ok_or_else(|| {
            format!("its key does not begin as `partitions: {}` says", self.parts.written)
        })
    }
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
    use arrow::datatypes::DataType;
    use foreline_engine::{Column, Schema};

    use crate::kind::{ColumnConfig, ColumnType};

    use super::*;

    fn keys(pattern: &str) -> Keys {
        let columns = ["line", "day", "plant", "machine", "x"];
        let columns = columns.map(|name| (name.to_owned(), ColumnConfig::of(ColumnType::String)));
        let schema = Schema::new(
            vec![Column::new("line", DataType::Utf8), Column::new("t", DataType::Int64)],
            &["line"],
            "t",
        );
        let inputs = SourceInputs { columns: &columns, schema: &schema.unwrap() };
        Keys::new(Some(pattern), None, &inputs).unwrap()
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
    fn hidden_names_are_passed_over() {
        for (name, read) in [("a/b.csv", true), ("_temporary/b.csv", false), ("a/.b.csv", false)] {
            assert_eq!(keys("").includes(name), read, "{name}");
        }
    }
}
