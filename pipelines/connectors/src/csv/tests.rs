//! Tests of the whole source: one for every option, and sameness however the text is cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    ConfigError, Decoded, Expression, ExpressionError, Poll, Position, Resolver, Schema, Source,
    SourceError, parse_config,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Csv, CsvConfig};
use crate::kind::{ColumnConfig, SourceInputs, SourceKind};

mod following;
mod merging;
mod options;
mod real_data;
mod waveforms;

/// Paths relative to a folder; nothing else.
struct Folder(PathBuf);

impl Resolver for Folder {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a source has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.0.clone()
    }

    fn checking(&self) -> bool {
        false
    }
}

/// A source as a pipeline file declares it.
#[derive(Clone)]
struct Declared {
    folder: PathBuf,
    csv: Value,
    columns: Vec<(String, ColumnConfig)>,
    key: Vec<String>,
    time: String,
}

/// Everything that came out of a source.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: RecordBatch,
    positions: Vec<u64>,
    dead: Vec<foreline_engine::DeadLetter>,
    records: u64,
}

impl Declared {
    /// `columns` maps a name to its type, or to the whole configuration of the column.
    fn new(folder: &Path, csv: Value, columns: &Value, key: &[&str], time: &str) -> Self {
        let column = |value: &Value| match value {
            Value::String(t) => serde_json::from_value(json!({ "type": t })).unwrap(),
            config => serde_json::from_value(config.clone()).unwrap(),
        };
        let columns = columns.as_object().unwrap();
        Declared {
            folder: folder.to_owned(),
            csv,
            columns: columns.iter().map(|(name, c)| (name.clone(), column(c))).collect(),
            key: key.iter().map(|&k| k.to_owned()).collect(),
            time: time.to_owned(),
        }
    }

    fn schema(&self) -> Schema {
        let columns = self.columns.iter().map(|(n, c)| c.declared(n).unwrap()).collect();
        let key: Vec<&str> = self.key.iter().map(String::as_str).collect();
        Schema::new(columns, &key, &self.time).unwrap()
    }

    fn try_open(&self) -> Result<Result<Box<dyn Source>, SourceError>, Vec<ConfigError>> {
        let config: CsvConfig = parse_config(&self.csv).map_err(|e| vec![e])?;
        let schema = self.schema();
        let inputs = SourceInputs { columns: &self.columns, schema: &schema };
        let planned = Csv::plan(&config, &inputs, &Folder(self.folder.clone()))?;
        Ok((planned.open)())
    }

    fn open(&self) -> Box<dyn Source> {
        self.try_open().unwrap().unwrap()
    }

    fn error(&self) -> String {
        match self.try_open().unwrap() {
            Ok(_) => panic!("the source opens"),
            Err(e) => e.to_string(),
        }
    }

    fn read(&self) -> Everything {
        self.read_by(1 << 20)
    }

    fn read_by(&self, budget_bytes: usize) -> Everything {
        let mut source = self.open();
        let mut decoder = source.decoder();
        let mut out = Decoded::default();
        loop {
            match source.poll(budget_bytes).unwrap() {
                Poll::Ready(chunk) => {
                    let again = source.read(chunk.partition, chunk.range).unwrap();
                    assert_eq!(again.payload, chunk.payload, "a range gives the same bytes again");
                    decoder.decode(&chunk, &mut out);
                }
                Poll::Ended => break,
                Poll::Pending => panic!("files do not make wait"),
            }
        }
        Everything::new(&self.schema(), out)
    }
}

impl Everything {
    fn new(schema: &Schema, out: Decoded) -> Self {
        let (batches, positions): (Vec<RecordBatch>, Vec<UInt64Array>) =
            out.rows.into_iter().unzip();
        let rows = concat_batches(schema.arrow(), &batches).unwrap();
        let positions: Vec<u64> = positions.iter().flat_map(|p| p.values().to_vec()).collect();
        assert!(positions.is_sorted(), "rows come in reading order");
        assert_eq!(out.records, (positions.len() + out.dead.len()) as u64);
        Everything { rows, positions, dead: out.dead, records: out.records }
    }

    fn column(&self, name: &str) -> Vec<String> {
        let column = self.rows.column_by_name(name).unwrap();
        (0..column.len()).map(|i| array_value_to_string(column, i).unwrap()).collect()
    }

    fn sum(&self, name: &str) -> f64 {
        let column = self.rows.column_by_name(name).unwrap();
        arrow::compute::sum(column.as_primitive::<Float64Type>()).unwrap()
    }

    fn lines(&self) -> Vec<u64> {
        self.positions.iter().map(|&p| Position(p).ordinal()).collect()
    }

    fn dead_lines(&self) -> Vec<u64> {
        self.dead.iter().map(|d| Position(d.position.unwrap()).ordinal()).collect()
    }

    fn reasons(&self) -> Vec<&'static str> {
        self.dead.iter().map(|d| d.reason.0).collect()
    }
}

/// A folder with files in it.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The source most tests read: `t,k,v` with a whole-numbered time.
fn declared(folder: &Path, csv: Value) -> Declared {
    let columns = json!({ "t": "int64", "k": "string", "v": "float64" });
    Declared::new(folder, csv, &columns, &["k"], "t")
}

/// Reads `text` as `a.csv` with the options `csv`.
fn read(text: &[u8], mut csv: Value) -> Everything {
    let folder = folder(&[("a.csv", text)]);
    csv["path"] = json!("a.csv");
    declared(folder.path(), csv).read()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_do_not_depend_on_how_text_is_cut(
        records in prop::collection::vec(
            prop_oneof!["[0-9]{1,3},[a-c],[0-9]{1,3}\\.[0-9]", "[0-9],\"[a\\n\",]{0,9},1", "\"?[a-z0-9,\"]{0,40}"],
            0..40,
        ),
        line_break in prop_oneof![Just("\n"), Just("\r\n")],
        budget in 1_usize..200,
    ) {
        let text = format!("t,k,v\n{}", records.join(line_break));
        let folder = folder(&[("a.csv", text.as_bytes())]);
        let whole = declared(folder.path(), json!({ "path": "a.csv", "max_row_bytes": 30 }));
        prop_assert_eq!(whole.read(), whole.read_by(budget));
    }

    #[test]
    fn no_bytes_cause_a_panic(
        bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), any::<u8>()], 0..400),
        encoding in prop_oneof![Just("utf-8"), Just("cp949"), Just("utf-16le")],
        delimiter in prop_oneof![Just(","), Just("blank")],
        order in prop_oneof![Just("name"), Just("merge")],
    ) {
        let folder = folder(&[("a.csv", &bytes), ("b.csv", b"1,b,2\n")]);
        let csv = json!({
            "path": "*.csv", "header": false, "compression": "none", "encoding": encoding,
            "delimiter": delimiter, "order": order, "comment": "#", "extra_fields": "ignore", "max_row_bytes": 50,
        });
        if let Ok(mut source) = declared(folder.path(), csv).try_open().unwrap() {
            let mut decoder = source.decoder();
            let mut out = Decoded::default();
            while let Ok(Poll::Ready(chunk)) = source.poll(16) {
                decoder.decode(&chunk, &mut out);
            }
        }
    }
}
