//! Lines of a file of CSV on their way out.

use std::io::{self, BufRead};

use serde_json::{Map, Number, Value};

/// Lines with the names of their columns.
#[derive(Debug)]
pub(crate) struct Lines {
    header: String,
    names: Vec<String>,
    lines: Vec<String>,
}

impl Lines {
    /// None yet, of a file with that first line.
    pub(super) fn new(header: &str) -> Self {
        let names = header.split(',').map(str::to_owned).collect();
        Lines { header: header.to_owned(), names, lines: Vec::new() }
    }

    /// Takes the next lines, at most `most`, in the place of those that were there; whether the file has ended.
    pub(super) fn fill(&mut self, file: &mut impl BufRead, most: usize) -> io::Result<bool> {
        self.lines.clear();
        while self.lines.len() < most {
            let mut line = String::new();
            if file.read_line(&mut line)? == 0 {
                return Ok(true);
            }
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            self.lines.push(line);
        }
        Ok(false)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// They as one file, with the header.
    pub(super) fn csv(&self) -> String {
        let lines = std::iter::once(&self.header).chain(&self.lines);
        lines.flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Each with its fields by name, as far as there are that many.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.lines.iter().map(|line| Row { names: &self.names, line })
    }
}

/// A line and the names of its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    names: &'a [String],
    line: &'a str,
}

impl<'a> Row<'a> {
    /// The field of that column.
    pub(crate) fn field(self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|known| known == name)?;
        self.line.split(',').nth(at)
    }

    /// A JSON object without the columns `left_out`; the line itself where it has not one field a column. An empty field and
    /// `NaN` are null.
    pub(crate) fn json(self, left_out: &[String]) -> String {
        let fields: Vec<&str> = self.line.split(',').collect();
        if fields.len() != self.names.len() {
            return self.line.to_owned();
        }
        let pairs = self.names.iter().zip(fields).filter(|(name, _)| !left_out.contains(name));
        let object: Map<String, Value> =
            pairs.map(|(name, field)| (name.clone(), value(field))).collect();
        Value::Object(object).to_string()
    }
}

fn value(field: &str) -> Value {
    if field.is_empty() || field.eq_ignore_ascii_case("nan") {
        return Value::Null;
    }
    if let Ok(whole) = field.parse::<i64>() {
        return whole.into();
    }
    let number = field.parse::<f64>().ok().and_then(Number::from_f64);
    number.map_or_else(|| field.into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_objects_and_broken_ones_stay() {
        let mut lines = Lines::new("ts,machine,x,n");
        let text = "2026-03-01T00:00:00Z,P-1,1.50,7\r\n,P-2,NaN,\nbroken,line\n";
        assert!(!lines.fill(&mut text.as_bytes(), 3).unwrap());
        let rows: Vec<String> = lines.rows().map(|row| row.json(&["n".to_owned()])).collect();
        assert_eq!(
            rows,
            [
                r#"{"ts":"2026-03-01T00:00:00Z","machine":"P-1","x":1.5}"#,
                r#"{"ts":null,"machine":"P-2","x":null}"#,
                "broken,line",
            ]
        );
        assert_eq!(lines.rows().next().unwrap().field("machine"), Some("P-1"));
        assert_eq!(lines.csv().lines().count(), 4);
        assert!(lines.fill(&mut "".as_bytes(), 3).unwrap() && lines.is_empty());
    }
}
