//! Plain text tables for reports, and how numbers look in them.
//!
//! A column whose every cell is a number stands right-aligned, any other left-aligned. Width is counted in
//! characters, so cells should not hold wide or combining ones.

use std::fmt;

/// Stands in a cell for a number that has no value.
pub const UNDEFINED: &str = "-";

/// Space between two columns.
const GAP: &str = "  ";

/// Rows of text under a header.
///
/// ```
/// use foreline::table::Table;
///
/// let mut table = Table::new(["machine", "hours"]);
/// table.push(["P-001", "12.5"]);
/// table.push(["P-002", "3.0"]);
/// assert_eq!(table.to_string(), "machine  hours\nP-001     12.5\nP-002      3.0\n");
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<I, S>(header: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Table { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the header are dropped, missing ones are empty.
    pub fn push<I, S>(&mut self, cells: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// Whether every cell of a column is a number or has none.
    fn is_numeric(&self, column: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[column]))
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| &row[column]);
        cells.chain([&self.header[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<(usize, bool)> = (0..self.header.len())
            .map(|column| (self.width(column), self.is_numeric(column)))
            .collect();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (at, (cell, (width, numeric))) in row.iter().zip(&columns).enumerate() {
                if at > 0 {
                    line.push_str(GAP);
                }
                let pad = " ".repeat(width - cell.chars().count());
                let (before, after) = if *numeric { (&*pad, "") } else { ("", &*pad) };
                line.extend([before, cell, after]);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number as reports write it: digits, perhaps grouped, with a sign, a point, a unit of one `%` or `s`.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_end_matches(['%', 's']).replace(',', "");
    cell.is_empty() || cell == UNDEFINED || digits.parse::<f64>().is_ok()
}

/// A count with a comma at every third digit: `1,234,567`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with `places` digits after the point, or [`UNDEFINED`].
#[must_use]
pub fn decimal(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| UNDEFINED.to_owned(), |value| format!("{value:.places$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(["name", "n", "note"]);
        table.push(["a", "1,000", "x"]);
        table.push(["longer", UNDEFINED, ""]);
        assert_eq!(
            table.to_string(),
            "name        n  note\n\
             a       1,000  x\n\
             longer      -\n"
        );
    }

    #[test]
    fn a_word_makes_its_column_left_aligned() {
        let mut table = Table::new(["value"]);
        table.push(["1"]);
        table.push(["one hundred"]);
        assert_eq!(table.to_string(), "value\n1\none hundred\n");
    }

    #[test]
    fn an_empty_first_cell_keeps_its_column() {
        let mut table = Table::new(["", "x"]);
        table.push(["", "y"]);
        table.push(["ab", "z"]);
        assert_eq!(table.to_string(), "    x\n    y\nab  z\n");
    }

    #[test]
    fn rows_take_the_width_of_the_header() {
        let mut table = Table::new(["a", "b"]);
        table.push(["1", "2", "3"]);
        table.push(["4"]);
        assert_eq!(table.to_string(), "a  b\n1  2\n4\n");
    }

    #[test]
    fn grouping() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(Some(1.25), 1), "1.2");
        assert_eq!(decimal(None, 3), UNDEFINED);
    }
}
