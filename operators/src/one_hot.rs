//! A column of categories as a column of ones and zeros for each category, such as models can read.
//!
//! Input   keyed rows; the columns are text, whole numbers or truth values
//! Output  the same rows, joined for each column by `<column>_<category>` for each category (`Int64`, unit 1) and by
//!         `<column>_unknown`, which is true where a row's category is none of them; then all of them are 0. Of a null all are null
//! State   none: the categories are listed, or those of a file, which `foreline train` writes
//! Late    any: a late or corrected row is like any other
//! Errors  none: a row that came in goes out
//! Source  scikit-learn `OneHotEncoder(handle_unknown="ignore")`
//!
//! Listed categories are in the order of the list, fitted ones in the order of their text. The column itself stays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Family, Fault, FitRows, FitTarget, Fitted, Fitting, OperatorKind, Planned,
    Resolver, Schema, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::categories::Categories as Texts;
use crate::columns::{only, output, place};
use crate::entries::Entries;
use crate::stateless::{Fate, PerRow, planned};
use crate::statistics::{self, Content, not_fitted, required};

/// Most categories of a column: each is a column of its own.
const MAX_CATEGORIES: usize = 256;

/// Makes columns of ones and zeros from columns of categories.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneHotConfig {
    /// The columns with their categories, `{ recipe: [etch, clean] }`; or a list of columns, whose categories are then those of
    /// the file of `statistics`. At most 256 for a column.
    pub columns: Categories,
    /// The file of the categories, which `foreline train` writes.
    #[serde(default)]
    pub statistics: Option<PathBuf>,
}

/// Columns, with their categories or without.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of columns, or a map from columns to categories")]
pub enum Categories {
    /// The categories are in a file.
    Fitted(Vec<String>),
    /// The categories of each column.
    Listed(Entries<Vec<Category>>),
}

/// A category as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected text, a whole number, true or false")]
pub enum Category {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Truth(bool),
}

impl Category {
    fn text(&self) -> String {
        match self {
            Category::Text(text) => text.clone(),
            Category::Number(number) => number.to_string(),
            Category::Truth(truth) => truth.to_string(),
        }
    }
}

/// The kind `one_hot`.
#[derive(Debug, Clone, Copy)]
pub struct OneHot;

impl OperatorKind for OneHot {
    type Config = OneHotConfig;

    const NAME: &'static str = "one_hot";
    const SUMMARY: &'static str = "makes a column of ones and zeros for each category of a column";
    const FAMILY: Family = Family::Scaling;
    const EXAMPLE: &'static str =
        "numbers: { from: readings, one_hot: { columns: { recipe: [etch, clean, idle] } } }";

    fn plan(
        config: &OneHotConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let (categories, depends_on) = match &config.columns {
            Categories::Listed(listed) => {
                let errors = config.statistics.as_ref().map(|_| {
                    let what = "the categories are listed, so no file is needed";
                    ConfigError::new(statistics::OPTION, what)
                        .help("leave it out, or leave the lists out")
                });
                (listed_categories(input, listed, errors)?, Vec::new())
            }
            Categories::Fitted(names) => {
                let columns = columns(input, names)?;
                let path = required(config.statistics.as_ref()).map_err(|e| vec![e])?;
                let loaded = statistics::load::<Known>(path, given).map_err(|e| vec![e])?;
                (loaded.content.of(input, &columns)?, vec![loaded.depends_on])
            }
        };
        let output = schema(input, &categories).map_err(|e| vec![e.under("columns")])?;
        let function = Encoded { of: Arc::new(categories), output: output.clone() };
        Ok(Planned { depends_on, ..planned(input, output, function) })
    }

    fn fitting(
        config: &OneHotConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let (Categories::Fitted(names), Some(path)) = (&config.columns, &config.statistics) else {
            return Ok(None);
        };
        let input = only(inputs)?;
        let columns = columns(input, names)?;
        let names = names.clone();
        Ok(Some(Fitting {
            file: given.path(path),
            target: FitTarget::Unused,
            fit: Arc::new(move |from| fit(from, &names, &columns)),
        }))
    }
}

/// A column and its categories.
#[derive(Debug)]
struct OfColumn {
    column: usize,
    categories: Vec<String>,
}

fn column(input: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
    let column = place(input, at, name)?;
    match &input.columns()[column].data_type {
        _ if column == input.time() => {
            Err(ConfigError::new(at, format!("column '{name}' is the event time")))
        }
        DataType::Utf8 | DataType::Dictionary(..) | DataType::Int64 | DataType::Boolean => {
            Ok(column)
        }
        other => {
            let what = format!("column '{name}' is {other}, which names no category");
            Err(ConfigError::new(at, what)
                .help("name a column of text, whole numbers or truth values"))
        }
    }
}

fn columns(input: &Schema, names: &[String]) -> Result<Vec<usize>, Vec<ConfigError>> {
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    for (i, name) in names.iter().enumerate() {
        match column(input, &format!("columns[{i}]"), name) {
            Ok(c) => columns.push(c),
            Err(e) => errors.push(e),
        }
    }
    if names.is_empty() {
        errors.push(ConfigError::new("columns", "no column is named"));
    }
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

fn listed_categories(
    input: &Schema,
    listed: &Entries<Vec<Category>>,
    error: Option<ConfigError>,
) -> Result<Vec<OfColumn>, Vec<ConfigError>> {
    let mut errors: Vec<ConfigError> = error.into_iter().collect();
    if listed.is_empty() {
        errors.push(ConfigError::new("columns", "no column is named"));
    }
    let mut all = Vec::new();
    for (name, categories) in listed.iter() {
        let at = format!("columns.{name}");
        let categories: Vec<String> = categories.iter().map(Category::text).collect();
        if categories.is_empty() || categories.len() > MAX_CATEGORIES {
            let what = format!("{} categories of '{name}' are listed", categories.len());
            let help = format!("list 1 to {MAX_CATEGORIES}");
            errors.push(ConfigError::new(at.as_str(), what).help(help));
        }
        match column(input, &at, name) {
            Ok(column) => all.push(OfColumn { column, categories }),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
}

fn schema(input: &Schema, all: &[OfColumn]) -> Result<Schema, ConfigError> {
    let mut columns = input.columns().to_vec();
    for of in all {
        let name = &input.columns()[of.column].name;
        columns.extend(of.categories.iter().map(|category| {
            Column::new(format!("{name}_{category}"), DataType::Int64)
                .with_unit(Some(Unit::new("1")))
        }));
        columns.push(Column::new(format!("{name}_unknown"), DataType::Boolean));
    }
    output(columns, input.key().to_vec(), input.time(), input.primary_key().clone())
}

/// The categories of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    columns: Vec<KnownColumn>,
}

impl Content for Known {
    const KIND: &'static str = "categories";
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownColumn {
    column: String,
    categories: Vec<String>,
}

impl Known {
    fn of(self, input: &Schema, columns: &[usize]) -> Result<Vec<OfColumn>, Vec<ConfigError>> {
        let mut known: BTreeMap<String, Vec<String>> =
            self.columns.into_iter().map(|k| (k.column, k.categories)).collect();
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for (i, &column) in columns.iter().enumerate() {
            let name = &input.columns()[column].name;
            match known.remove(name) {
                Some(categories) => all.push(OfColumn { column, categories }),
                None => {
                    let what = format!("the statistics know no categories of '{name}'");
                    errors.push(not_fitted(format!("columns[{i}]"), what));
                }
            }
        }
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }
}

fn fit(from: &FitRows<'_>, names: &[String], columns: &[usize]) -> Result<Fitted, String> {
    let mut known = Vec::new();
    for (name, &c) in names.iter().zip(columns) {
        let texts = cast(from.rows.column(c), &DataType::Utf8).map_err(|e| e.to_string())?;
        let categories: BTreeSet<&str> = texts.as_string::<i32>().iter().flatten().collect();
        let n = categories.len();
        if n == 0 || n > MAX_CATEGORIES {
            return Err(format!(
                "column '{name}' has {n} categories, but 1 to {MAX_CATEGORIES} can be told apart"
            ));
        }
        let categories = categories.into_iter().map(str::to_owned).collect();
        known.push(KnownColumn { column: name.clone(), categories });
    }
    let each = known.iter().map(|k| format!("{} of '{}'", k.categories.len(), k.column));
    let summary = format!("categories: {}", each.collect::<Vec<_>>().join(", "));
    let text = statistics::to_text(from.name, from.rows.num_rows(), Known { columns: known })?;
    Ok(Fitted { text, summary })
}

#[derive(Debug, Clone)]
struct Encoded {
    of: Arc<Vec<OfColumn>>,
    output: Schema,
}

impl PerRow for Encoded {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut all = rows.columns().to_vec();
        for of in self.of.iter() {
            let found = Found::of(rows.column(of.column), &of.categories)?;
            let columns = (0..of.categories.len()).map(|i| found.ones(i));
            all.extend(columns.map(|ones| Arc::new(ones) as ArrayRef));
            all.push(Arc::new(found.equal(of.categories.len())));
        }
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), all)?, None))
    }
}

/// Which of the listed categories the rows have.
struct Found {
    /// Its place; behind the last it is none of them, far behind it is missing.
    places: Vec<usize>,
    /// Where there is a value; `None`: everywhere.
    there: Option<NullBuffer>,
}

impl Found {
    fn of(column: &ArrayRef, listed: &[String]) -> Result<Self, Fault> {
        let there = Texts::of(column)?;
        let place = |text: &String| listed.iter().position(|c| c == text).unwrap_or(listed.len());
        let of_text: Vec<usize> = there.texts.iter().map(place).collect();
        let of_row = || there.of_row.iter();
        let missing = of_row().any(Option::is_none);
        Ok(Found {
            places: of_row().map(|text| text.map_or(usize::MAX, |t| of_text[t as usize])).collect(),
            there: missing.then(|| of_row().map(Option::is_some).collect()),
        })
    }

    /// 1 where a row has this category, else 0.
    fn ones(&self, category: usize) -> Int64Array {
        let ones: Vec<i64> = self.places.iter().map(|p| i64::from(*p == category)).collect();
        Int64Array::new(ones.into(), self.there.clone())
    }

    /// Whether a row has this category.
    fn equal(&self, category: usize) -> BooleanArray {
        let flags: BooleanBuffer = self.places.iter().map(|p| *p == category).collect();
        BooleanArray::new(flags, self.there.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Table, WithFile, check, try_plan};
    use foreline_engine::TimeDomain::Logical;

    fn table(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    #[test]
    fn listed_categories_are_in_the_order_of_the_list() {
        let input = table(
            "m,t,s:string,n:int64,ok:bool\na,0,etch,2,true\na,1,clean,1,false\na,2,new,9,\na,3,,,true\n",
        );
        let config = json!({ "columns": { "s": ["etch", "clean"], "n": [1, 2], "ok": [true] } });
        let expected = "m,t,s:string,n:int64,ok:bool,s_etch:int64,s_clean:int64,s_unknown:bool,\
            n_1:int64,n_2:int64,n_unknown:bool,ok_true:int64,ok_unknown:bool\n\
            a,0,etch,2,true,1,0,false,0,1,false,1,false\n\
            a,1,clean,1,false,0,1,false,1,0,false,0,true\n\
            a,2,new,9,,0,0,true,0,0,true,,\n\
            a,3,,,true,,,,,,,1,false\n";
        check("one_hot", &config, &input, &table(expected));
    }

    #[test]
    fn fitted_categories_are_those_of_training() {
        let train = table("m,t,s:string\na,0,etch\na,1,clean\nb,0,etch\nb,1,\n");
        let fitted = WithFile::new("one_hot", &json!({ "columns": ["s", "m"] }), &train);
        assert_eq!(fitted.fitted.summary, "categories: 2 of 's', 2 of 'm'");
        let live = table("m,t,s:string\na,0,etch\nc,0,rinse\n");
        let expected = "m,t,s:string,s_clean:int64,s_etch:int64,s_unknown:bool,m_a:int64,m_b:int64,m_unknown:bool\n\
            a,0,etch,0,1,false,1,0,false\nc,0,rinse,0,0,true,0,0,true\n";
        check("one_hot", &fitted.config, &live, &table(expected));
        let config = fitted.under(json!({ "columns": ["s", "m"] }));
        let other = table("machine,t,m:string,s:string\n");
        assert!(try_plan("one_hot", &config, &other.schema).is_ok());
        let few = WithFile::new("one_hot", &json!({ "columns": ["s"] }), &train);
        let errors =
            try_plan("one_hot", &few.under(json!({ "columns": ["s", "m"] })), &train.schema);
        assert_eq!(errors.unwrap_err(), ["columns[1]: the statistics know no categories of 'm'"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = table("m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["s"] }), &["the step is fitted, but no 'statistics' is named"]),
            (
                json!({ "columns": ["x", "t", "z"] }),
                &[
                    "columns[0]: column 'x' is Float64, which names no category",
                    "columns[1]: column 't' is the event time",
                    "columns[2]: there is no column 'z'",
                ],
            ),
            (json!({ "columns": [] }), &["columns: no column is named"]),
            (
                json!({ "columns": { "s": [] }, "statistics": "a.json" }),
                &[
                    "statistics: the categories are listed, so no file is needed",
                    "columns.s: 0 categories of 's' are listed",
                ],
            ),
            (json!({ "columns": { "s": ["u", "u"] } }), &["columns: column 's_u' is there twice"]),
        ];
        for (config, expected) in cases {
            assert_eq!(
                try_plan("one_hot", config, &input.schema).unwrap_err(),
                *expected,
                "{config}"
            );
        }
        let mut text = String::from("m,t,s:string\n");
        (0..300).for_each(|i| text += &format!("a,{i},c{i}\n"));
        let errors =
            WithFile::fit("one_hot", &json!({ "columns": ["s"] }), &table(&text)).unwrap_err();
        assert_eq!(errors, ["column 's' has 300 categories, but 1 to 256 can be told apart"]);
    }
}
