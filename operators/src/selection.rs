//! What the steps share that keep some columns and drop others, as they were chosen in training.
//!
//! A file says of each column whether it is kept, and by which figure; the step does what the file says. Columns that were
//! not judged stay as they are, and so do key and event time.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    ConfigError, FitRows, FitTarget, Fitted, Fitting, Planned, PrimaryKey, Resolver, Schema,
};
use serde::{Deserialize, Serialize};

use crate::columns::{channel, numeric, only, output};
use crate::select::Chosen;
use crate::stateless;
use crate::statistics::{self, Content, not_fitted};

/// Most columns that are judged: some are compared with each other.
const MAX_COLUMNS: usize = 1024;

/// What a user writes under such a step, read from the step's own type.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The columns to judge; all that are numeric, if none are named.
    pub(crate) columns: Option<&'a [String]>,
    pub(crate) statistics: &'a PathBuf,
    /// By which rule columns are kept, in words. A file that was fitted by another one is refused.
    pub(crate) rule: String,
    /// What is wrong with the rule.
    pub(crate) errors: Vec<ConfigError>,
}

/// Which columns were kept, as it stands in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    rule: String,
    columns: Vec<Judged>,
}

impl Content for Selection {
    const KIND: &'static str = "selection";
}

/// A column and whether it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Judged {
    pub(crate) column: String,
    pub(crate) kept: bool,
    /// The figure that it was judged by; null where there is none.
    pub(crate) figure: Option<f64>,
    /// The column that it is like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) like: Option<String>,
}

/// The columns that are judged, of the rows that are fitted on.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    /// The values of each, NaN where missing.
    pub(crate) channels: Vec<ScalarBuffer<f64>>,
}

/// Judges columns, one entry for each.
pub(crate) type Judge =
    Arc<dyn Fn(&Columns, &FitRows<'_>) -> Result<Vec<Judged>, String> + Send + Sync>;

impl Asked<'_> {
    fn checked<'i>(
        &self,
        inputs: &'i [Schema],
    ) -> Result<(&'i Schema, Vec<usize>), Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = self.errors.clone();
        let columns = match self.columns {
            Some(names) => named(input, names, &mut errors),
            None => all_numbers(input),
        };
        if errors.is_empty() && (columns.is_empty() || columns.len() > MAX_COLUMNS) {
            let what = format!("there are {} columns to choose from", columns.len());
            let help = format!("name 1 to {MAX_COLUMNS} numeric columns");
            errors.push(ConfigError::new("columns", what).help(help));
        }
        if errors.is_empty() { Ok((input, columns)) } else { Err(errors) }
    }

    /// As the step's `plan`.
    pub(crate) fn plan(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let (input, columns) = self.checked(inputs)?;
        let loaded = statistics::load::<Selection>(self.statistics, given).map_err(|e| vec![e])?;
        let selection = &loaded.content;
        if selection.rule != self.rule {
            let what =
                format!("the statistics keep {}, but the step keeps {}", selection.rule, self.rule);
            return Err(vec![not_fitted("", what)]);
        }
        let judged: Vec<&str> = selection.columns.iter().map(|j| j.column.as_str()).collect();
        let names = columns.iter().map(|&c| input.columns()[c].name.as_str());
        if !names.eq(judged.iter().copied()) {
            let what = format!("the statistics are of the columns [{}]", judged.join(", "));
            return Err(vec![not_fitted("columns", what)]);
        }
        let each = columns.iter().zip(&selection.columns);
        let dropped: Vec<usize> = each.filter(|(_, j)| !j.kept).map(|(&c, _)| c).collect();
        let (output, kept) = without(input, &dropped).map_err(|e| vec![e])?;
        let function = Chosen { from: kept, output: output.clone() };
        let planned = stateless::planned(input, output, function);
        Ok(Planned { depends_on: vec![loaded.depends_on], ..planned })
    }

    /// As the step's `fitting`.
    pub(crate) fn fitting(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
        target: FitTarget,
        judge: Judge,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let (input, columns) = self.checked(inputs)?;
        let names: Vec<String> = columns.iter().map(|&c| input.columns()[c].name.clone()).collect();
        let rule = self.rule.clone();
        let fit = move |from: &FitRows<'_>| {
            let channels = columns.iter().map(|&c| channel(from.rows.column(c)));
            let channels = channels.collect::<Result<_, _>>().map_err(|e| e.message)?;
            let columns = judge(&Columns { names: names.clone(), channels }, from)?;
            fitted(from, Selection { rule: rule.clone(), columns })
        };
        Ok(Some(Fitting { file: given.path(self.statistics), target, fit: Arc::new(fit) }))
    }
}

fn fitted(from: &FitRows<'_>, selection: Selection) -> Result<Fitted, String> {
    let kept = selection.columns.iter().filter(|j| j.kept).count();
    let n_rows = from.rows.num_rows();
    let summary = format!("{kept} of {} columns kept, by {n_rows} rows", selection.columns.len());
    if kept == 0 {
        return Err(format!("none of {} columns would be kept", selection.columns.len()));
    }
    Ok(Fitted { text: statistics::to_text(from.name, n_rows, selection)?, summary })
}

fn named(input: &Schema, names: &[String], errors: &mut Vec<ConfigError>) -> Vec<usize> {
    let mut columns = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let at = format!("columns[{i}]");
        match numeric(input, &at, name) {
            Ok(c) if columns.contains(&c) => {
                errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
            }
            Ok(c) if input.primary_key().columns.contains(&c) => {
                let what = format!("column '{name}' is part of what tells rows apart");
                errors.push(ConfigError::new(at, what).help("leave it out, so that it stays"));
            }
            Ok(c) => columns.push(c),
            Err(e) => errors.push(e),
        }
    }
    columns
}

/// The columns that can be dropped: numbers that are neither key nor event time.
fn all_numbers(input: &Schema) -> Vec<usize> {
    let fits = |c: &usize| {
        let number = matches!(input.columns()[*c].data_type, DataType::Float64 | DataType::Int64);
        let needed = input.key().contains(c)
            || *c == input.time()
            || input.primary_key().columns.contains(c);
        number && !needed
    };
    (0..input.columns().len()).filter(fits).collect()
}

/// The schema without the columns `dropped`, and the columns that are left.
fn without(input: &Schema, dropped: &[usize]) -> Result<(Schema, Vec<usize>), ConfigError> {
    let kept: Vec<usize> = (0..input.columns().len()).filter(|c| !dropped.contains(c)).collect();
    let place = |c: &usize| kept.iter().position(|k| k == c);
    let columns = kept.iter().map(|&c| input.columns()[c].clone()).collect();
    let primary_key = PrimaryKey {
        columns: input.primary_key().columns.iter().filter_map(place).collect(),
        position: input.primary_key().position,
    };
    let key = input.key().iter().filter_map(place).collect();
    let time = place(&input.time()).unwrap_or(0);
    Ok((output(columns, key, time, primary_key)?, kept))
}
