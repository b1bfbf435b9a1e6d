//! Relations from files: when they are taken, and what leaves what was there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use foreline_engine::{
    CHANGED_AT, Chunk, Column, Decoded, Expression, ExpressionError, GONE, KnownPartition, Poll,
    PrimaryKey, ReadUpTo, Resolver, Schema, Source, TimeDomain, parse_config,
};
use serde_json::json;

use super::Csv;
use crate::kind::{ColumnConfig, ColumnType, SourceInputs, SourceKind};

struct Beside(PathBuf);

impl Resolver for Beside {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a relation has no expressions")
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

/// The relation of `m.csv` in a folder: machine, line.
fn source(folder: &Path) -> Box<dyn Source> {
    let text = |name: &str| (name.to_owned(), ColumnConfig::of(ColumnType::String));
    let columns = [text("machine"), text("line")];
    let mut all: Vec<Column> =
        columns.iter().map(|(name, _)| Column::new(name, DataType::Utf8)).collect();
    all.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
    let primary_key = PrimaryKey { columns: vec![0], position: false };
    let schema = Schema::with_primary_key(all, vec![0], 2, primary_key).unwrap();
    let config = json!({ "path": "m.csv", "every": "1ns" });
    let config = parse_config(&config).unwrap();
    let inputs = SourceInputs { columns: &columns, schema: &schema };
    let planned = Csv::plan(&config, &inputs, &Beside(folder.to_owned())).unwrap();
    (planned.open)().unwrap()
}

fn polled(source: &mut dyn Source) -> Option<Chunk> {
    match source.poll(1 << 20).unwrap() {
        Poll::Ready(chunk) => Some(chunk),
        Poll::Pending => None,
        Poll::Ended => panic!("a relation has no end"),
    }
}

/// What a chunk says: `machine line`, and the lines of rows that cannot be used.
fn said(source: &dyn Source, chunk: &Chunk) -> (Vec<String>, Vec<u64>) {
    let mut out = Decoded::default();
    source.decoder().decode(chunk, &mut out);
    let mut rows = Vec::new();
    for (batch, _) in &out.rows {
        let gone = batch.column_by_name(GONE).unwrap().as_boolean();
        assert_eq!(gone.true_count(), 0);
        for row in 0..batch.num_rows() {
            let text = |c: usize| {
                arrow::util::display::array_value_to_string(batch.column(c), row).unwrap()
            };
            rows.push(format!("{} {}", text(0), text(1)));
        }
    }
    let line = |position: Option<u64>| foreline_engine::Position(position.unwrap()).ordinal();
    (rows, out.dead.iter().map(|letter| line(letter.position)).collect())
}

#[test]
fn a_file_is_taken_when_it_has_changed_and_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.csv");
    fs::write(&file, "line,machine\nA,M-1\nB,M-2\nC,\n").unwrap();
    let mut source = source(folder.path());
    assert!(!source.is_there() && source.serves());
    let first = polled(&mut *source).unwrap();
    assert!(source.is_there());
    let (rows, dead) = said(&*source, &first);
    assert_eq!((rows, dead), (vec!["M-1 A".to_owned(), "M-2 B".to_owned()], vec![4]));
    assert!(polled(&mut *source).is_none(), "it has not changed");
    // The same contents again, with another time.
    fs::write(&file, "line,machine\nA,M-1\nB,M-2\nC,\n").unwrap();
    assert!((0..4).all(|_| polled(&mut *source).is_none()), "nothing in it has changed");
    fs::write(&file, "line,machine\nB,M-1\n").unwrap();
    assert!(polled(&mut *source).is_none(), "it may be being written");
    let second = polled(&mut *source).unwrap();
    assert_eq!(said(&*source, &second).0, ["M-1 B"]);
    assert_eq!((first.partition.0, second.partition.0), (0, 1));
    assert_eq!(source.partition_name(second.partition).as_deref(), Some("m.csv"));

    let known = |chunk: &Chunk| KnownPartition {
        partition: chunk.partition,
        name: "m.csv".to_owned(),
        identity: source.identity(chunk.partition),
        read: Some(ReadUpTo { end: chunk.range.end, end_ordinal: chunk.range.end_ordinal }),
    };
    let known = [known(&first), known(&second)];
    let mut again = self::source(folder.path());
    again.resume(&known).unwrap();
    assert!(again.is_there() && polled(&mut *again).is_none(), "an earlier run has read it");
    fs::write(&file, "line,machine\n").unwrap();
    assert!(polled(&mut *again).is_none());
    assert!(again.is_there());
    let third = polled(&mut *again).unwrap();
    assert_eq!((third.partition.0, said(&*again, &third).0.len()), (2, 0), "an empty table");
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.csv");
    let error = |source: &mut dyn Source| source.poll(1).unwrap_err().to_string();
    assert!(error(&mut *source(folder.path())).contains("m.csv"), "it is not there");
    for broken in ["", " \n", "machine\nM-1\n", "line,machine\nA,\n", "line,machine\n\"A,M\n"] {
        fs::write(&file, broken).unwrap();
        let said = error(&mut *source(folder.path()));
        assert!(said.contains("'m.csv'"), "{broken:?}: {said}");
    }
    fs::write(&file, "line,machine\nA,M-1\n").unwrap();
    let mut source = source(folder.path());
    assert!(polled(&mut *source).is_some());
    fs::remove_file(&file).unwrap();
    assert!((0..3).all(|_| polled(&mut *source).is_none()), "it is gone");
    for broken in ["", "machine\nM-1\n", "line,machine\nA,\n"] {
        fs::write(&file, broken).unwrap();
        assert!((0..3).all(|_| polled(&mut *source).is_none()), "{broken:?}");
    }
    fs::write(&file, [b"line,machine\nA,M-".as_slice(), &[0xff], b"\n"].concat()).unwrap();
    assert!((0..3).all(|_| polled(&mut *source).is_none()), "it is not all text");
    fs::write(&file, "line,machine\nB,M-1\n").unwrap();
    assert!(polled(&mut *source).is_none());
    assert!(polled(&mut *source).is_some(), "it is mended");
}
