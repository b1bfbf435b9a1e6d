//! Which columns of a Parquet file are read for the declared ones.

use foreline_engine::ConfigError;

use crate::kind::{ColumnType, FieldRef, SourceInputs};
use crate::record::{Kind, Need};

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The column of this name.
    Field(String),
    /// The row's place in its file, from 0.
    Row,
    /// The file's name without folder and extensions.
    File,
    /// This part of the file's name.
    Key(usize),
}

/// A declared column.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) kind: Kind,
    pub(super) need: Need,
}

/// The declared columns, in their order; those in `keyed` come from the file's name.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn wanted(
    inputs: &SourceInputs<'_>,
    keyed: &[String],
) -> Result<Vec<Wanted>, Vec<ConfigError>> {
    let (mut found, mut columns) = (Vec::new(), Vec::new());
    for (index, (name, config)) in inputs.columns.iter().enumerate() {
        let mut error = |option: &str, message: String| {
            found.push(ConfigError::new(format!("columns.{name}.{option}"), message));
        };
        let data_type = &inputs.schema.columns()[index].data_type;
        let kind = match keyed.contains(name) {
            true => Kind::of_envelope(config, data_type),
            false => Kind::new(config, data_type),
        };
        let kind = kind.unwrap_or_else(|(option, message)| {
            error(option, message);
            Kind::Int
        });
        let special = |field: &str, is: ColumnType| {
            field == "#row" && is != ColumnType::Int64
                || field == "#file" && is != ColumnType::String
        };
        let origin = match (&config.field, keyed.iter().position(|key| key == name)) {
            (_, Some(part)) => Origin::Key(part),
            (Some(FieldRef::Name(field)), _) if special(field, config.data_type) => {
                let message = format!("'{field}' is of another type: '#row' int64, '#file' string");
                error("field", message);
                Origin::Row
            }
            (Some(FieldRef::Name(field)), _) if field == "#row" => Origin::Row,
            (Some(FieldRef::Name(field)), _) if field == "#file" => Origin::File,
            (Some(FieldRef::Name(field)), _) => Origin::Field(field.clone()),
            (Some(FieldRef::Place(_)), _) => {
                error("field", "columns of Parquet have names: give the column's".to_owned());
                Origin::Row
            }
            (None, None) => Origin::Field(name.clone()),
        };
        let need = Need::of(inputs.schema, index);
        columns.push(Wanted { name: name.clone(), origin, kind, need });
    }
    if found.is_empty() { Ok(columns) } else { Err(found) }
}
