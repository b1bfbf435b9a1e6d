//! Rows that each have one value of some series, and the columns that the series become: what `align` and `pivot` read.

use foreline_engine::{Column, ConfigError, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use arrow::datatypes::DataType;

use crate::columns::{numeric, place};
use crate::entries::Entries;

/// The series that become columns, by their names in the rows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of names, or a map from columns to names")]
pub enum Series {
    /// The columns are called as the series are.
    Names(Vec<String>),
    /// The names of the series, by column.
    Renamed(Entries<String>),
}

impl Series {
    /// (where, column, name of the series) of each.
    fn pairs(&self) -> Vec<(String, &str, &str)> {
        match self {
            Series::Names(names) => {
                let each = names.iter().enumerate();
                each.map(|(i, n)| (format!("columns[{i}]"), n.as_str(), n.as_str())).collect()
            }
            Series::Renamed(entries) => {
                let each = entries.iter();
                each.map(|(new, old)| (format!("columns.{new}"), new, old.as_str())).collect()
            }
        }
    }
}

/// Which rows are of which series.
#[derive(Debug, Clone)]
pub(crate) struct Long {
    /// The column that names the series.
    pub(crate) by: usize,
    /// The column of the values.
    pub(crate) value: usize,
    /// The series, one a column of the output.
    pub(crate) names: Vec<String>,
    /// Those columns: `Float64`, in the unit of the values.
    pub(crate) columns: Vec<Column>,
}

impl Long {
    pub(crate) fn plan(
        input: &Schema,
        by: &str,
        value: &str,
        series: &Series,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let by = telling(input, by).map_err(|e| errors.push(e));
        let value = numeric(input, "value", value).map_err(|e| errors.push(e));
        let pairs = series.pairs();
        if pairs.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        let mut names: Vec<String> = Vec::new();
        for (at, _, name) in &pairs {
            if names.iter().any(|n| n == name) {
                errors.push(ConfigError::new(at.as_str(), format!("'{name}' is there twice")));
            }
            names.push((*name).to_owned());
        }
        let (Ok(by), Ok(value)) = (by, value) else { return Err(errors) };
        if !errors.is_empty() {
            return Err(errors);
        }
        let unit = &input.columns()[value].unit;
        let columns = pairs
            .iter()
            .map(|(_, column, _)| Column::new(*column, DataType::Float64).with_unit(unit.clone()));
        Ok(Long { by, value, columns: columns.collect(), names })
    }
}

/// The column that tells series apart: text or whole numbers, and not what tells keys apart already.
fn telling(input: &Schema, name: &str) -> Result<usize, ConfigError> {
    let index = place(input, "by", name)?;
    let column = &input.columns()[index];
    let fault = |what: String, help: &str| Err(ConfigError::new("by", what).help(help));
    if input.key().contains(&index) {
        let what = format!("column '{name}' is part of the key, so its values never meet");
        return fault(what, "leave it out of the source's 'key'");
    }
    let is_text = match &column.data_type {
        DataType::Dictionary(_, values) => **values == DataType::Utf8,
        other => matches!(other, DataType::Utf8 | DataType::Int64),
    };
    if !is_text || index == input.time() {
        let what = format!("column '{name}' names nothing");
        return fault(what, "name a column of text or whole numbers");
    }
    Ok(index)
}
