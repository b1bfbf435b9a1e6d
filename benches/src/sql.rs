//! Queries over 100 million rows of history: ours, through the gate and with its limits, beside DataFusion alone and DuckDB.
//!
//! All three read the same Parquet files with two threads. The files are as a sink writes them: of one stretch of time each,
//! sorted by machine and time. DuckDB is asked through Python where the module is there; nothing of the product is Python.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::SchemaRef;
use foreline_sql::plain::Plain;
use foreline_sql::{About, Catalogue, Content, Files, Limits, Part, Queries, Snapshot};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use serde::Serialize;

/// Rows of history.
pub(crate) const ROWS: u64 = 100_000_000;
/// Rows of a file, which is also what the sink writes unless it is told otherwise.
const FILE_ROWS: u64 = 1_000_000;
const MACHINES: u64 = 1_000;
/// 2026-03-01T00:00:00Z.
const START_S: i64 = 1_772_323_200;
const THREADS: usize = 2;
/// Where DuckDB's module is, below the cache folder of the user.
const DUCKDB: &str = "foreline-duckdb/bin/python";

/// A query, as each of the three is asked.
struct Case {
    name: &'static str,
    ours: &'static str,
    plain: &'static str,
    duckdb: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        name: "scan",
        ours: "SELECT count(*) AS n, avg(vibration) AS v, max(temperature) AS t FROM readings WHERE vibration > 2.5",
        plain: "SELECT count(*) AS n, avg(vibration) AS v, max(temperature) AS t FROM readings WHERE vibration > 2.5",
        duckdb: "SELECT count(*) AS n, avg(vibration) AS v, max(temperature) AS t FROM readings WHERE vibration > 2.5",
    },
    Case {
        name: "time bucket",
        ours: "SELECT machine, time_bucket(INTERVAL '1 hour', ts) AS h, avg(vibration) AS v, max(temperature) AS t FROM readings GROUP BY machine, h",
        plain: "SELECT machine, date_bin(INTERVAL '1 hour', ts) AS h, avg(vibration) AS v, max(temperature) AS t FROM readings GROUP BY machine, h",
        duckdb: "SELECT machine, time_bucket(INTERVAL '1 hour', ts::TIMESTAMPTZ) AS h, avg(vibration) AS v, max(temperature) AS t FROM readings GROUP BY machine, h",
    },
    Case {
        name: "latest per machine",
        ours: "SELECT machine, last(vibration, ts) AS v FROM readings GROUP BY machine",
        plain: "SELECT machine, last_value(vibration ORDER BY ts) AS v FROM readings GROUP BY machine",
        duckdb: "SELECT machine, arg_max(vibration, ts) AS v FROM readings GROUP BY machine",
    },
    Case {
        name: "point",
        ours: "SELECT ts, vibration FROM readings WHERE machine = 'P-0500' AND ts = TIMESTAMP '2026-03-01T00:08:20Z'",
        plain: "SELECT ts, vibration FROM readings WHERE machine = 'P-0500' AND ts = TIMESTAMP '2026-03-01T00:08:20Z'",
        duckdb: "SELECT ts, vibration FROM readings WHERE machine = 'P-0500' AND ts = TIMESTAMPTZ '2026-03-01 00:08:20+00'",
    },
];

/// The figures of one query.
#[derive(Debug, Serialize)]
struct Figures {
    query: &'static str,
    answer_rows: usize,
    ours_s: f64,
    datafusion_s: f64,
    duckdb_s: Option<f64>,
    /// Ours over the better of the others.
    ratio: f64,
}

pub(crate) fn run(rows: u64, rounds: u32, json: bool) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("foreline-bench-sql-").tempdir()?;
    let files = history(folder.path(), rows)?;
    let bytes = files.iter().map(|f| f.metadata().map(|m| m.len())).sum::<Result<u64, _>>()?;
    let catalogue = Arc::new(History { files: files.clone(), schema: schema_of(&files[0])? });
    let limits = Limits { time: Duration::from_secs(600), ..Limits::default() };
    let queries = Queries::new(catalogue, limits, &folder.path().join("spill"))?;
    let plain = Plain::new("readings", &files, THREADS)?;
    let duckdb = duckdb(folder.path(), rounds)?;
    let mut all = Vec::new();
    for (at, case) in CASES.iter().enumerate() {
        let (ours_s, answer) = best(rounds, || Ok(queries.ask_and_wait(case.ours, 1_000_000)?))?;
        let (datafusion_s, other) = best(rounds, || Ok(plain.ask(case.plain)?))?;
        let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum();
        let (answer_rows, others): (usize, usize) = (count(&answer.rows), count(&other));
        let duckdb_s = duckdb.as_ref().map(|times| times[at].0);
        let theirs = duckdb.as_ref().map_or(others, |times| times[at].1);
        ensure!(
            answer_rows == others && answer_rows == theirs,
            "'{}': {answer_rows} rows, {others} of DataFusion, {theirs} of DuckDB",
            case.name
        );
        let better = duckdb_s.map_or(datafusion_s, |duckdb| duckdb.min(datafusion_s));
        let ratio = ours_s / better;
        all.push(Figures { query: case.name, answer_rows, ours_s, datafusion_s, duckdb_s, ratio });
    }
    report(&all, rows, files.len(), bytes, json)
}

/// The shortest time of several rounds, and the last answer.
#[expect(clippy::disallowed_methods, reason = "measures outside any dataflow")]
fn best<T>(rounds: u32, mut ask: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        last = Some(ask()?);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok((best, last.ok_or_else(|| anyhow!("no round"))?))
}

/// Seconds and rows of each query by DuckDB, where its module is there.
fn duckdb(folder: &Path, rounds: u32) -> Result<Option<Vec<(f64, usize)>>> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let Some(python) = cache.or(home).map(|cache| cache.join(DUCKDB)).filter(|p| p.exists()) else {
        return Ok(None);
    };
    let script = "import duckdb, json, sys, time\n\
        folder, rounds, threads, queries = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])\n\
        db = duckdb.connect()\n\
        db.execute(f\"SET threads={threads}; SET TimeZone='UTC'; SET enable_progress_bar=false\")\n\
        db.execute(f\"CREATE VIEW readings AS SELECT * FROM read_parquet('{folder}/*.parquet')\")\n\
        out = []\n\
        for query in queries:\n\
        \x20   best, rows = 1e9, 0\n\
        \x20   for _ in range(rounds):\n\
        \x20       begun = time.perf_counter()\n\
        \x20       rows = db.sql(query).to_arrow_table().num_rows\n\
        \x20       best = min(best, time.perf_counter() - begun)\n\
        \x20   out.append([best, rows])\n\
        print(json.dumps(out))\n";
    let queries: Vec<&str> = CASES.iter().map(|case| case.duckdb).collect();
    let output = Command::new(python)
        .args(["-c", script])
        .arg(folder)
        .args([rounds.max(1).to_string(), THREADS.to_string(), serde_json::to_string(&queries)?])
        .output()
        .context("DuckDB's Python cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "DuckDB failed: {said}");
    Ok(Some(serde_json::from_slice(&output.stdout).context("what DuckDB measured")?))
}

/// Writes the history.
fn history(folder: &Path, rows: u64) -> Result<Vec<PathBuf>> {
    let sorting =
        [0, 1].map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true });
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_sorting_columns(Some(sorting.to_vec()))
        .build();
    let mut files = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for first in (0..rows).step_by(usize::try_from(FILE_ROWS)?) {
        let batch = stretch(first, FILE_ROWS.min(rows - first), &mut random)?;
        let path = folder.join(format!("{:06}.parquet", first / FILE_ROWS));
        let writer =
            ArrowWriter::try_new(File::create(&path)?, batch.schema(), Some(properties.clone()));
        let mut writer = writer?;
        writer.write(&batch)?;
        writer.close()?;
        files.push(path);
    }
    Ok(files)
}

/// The rows of one file: so many seconds of every machine, with the digits that sensors have.
fn stretch(first: u64, rows: u64, random: &mut u64) -> Result<RecordBatch> {
    let seconds = rows.div_ceil(MACHINES);
    let from = START_S + i64::try_from(first / MACHINES)?;
    let mut next = |span: u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % span
    };
    let n = usize::try_from(rows)?;
    let (mut machines, mut times) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut vibration, mut temperature) = (Vec::with_capacity(n), Vec::with_capacity(n));
    'all: for machine in 0..MACHINES {
        let name = format!("P-{machine:04}");
        for second in 0..seconds {
            if times.len() == n {
                break 'all;
            }
            machines.push(name.clone());
            times.push((from + i64::try_from(second)?) * 1_000_000_000);
            vibration.push(next(3000) as f64 / 1000.0);
            temperature.push(40.0 + next(400) as f64 / 10.0);
        }
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("machine", Arc::new(StringArray::from(machines))),
        ("ts", Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))),
        ("vibration", Arc::new(Float64Array::from(vibration))),
        ("temperature", Arc::new(Float64Array::from(temperature))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn schema_of(file: &Path) -> Result<SchemaRef> {
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?;
    Ok(Arc::clone(reader.schema()))
}

/// The history as a pipeline's sink would have it.
#[derive(Debug)]
struct History {
    files: Vec<PathBuf>,
    schema: SchemaRef,
}

impl Catalogue for History {
    fn tables(&self) -> Vec<About> {
        vec![About {
            name: "readings".to_owned(),
            kind: "stream".to_owned(),
            schema: Arc::clone(&self.schema),
            units: vec![None; 4],
        }]
    }

    fn snapshot(&self, names: &[String]) -> Result<Option<Snapshot>, String> {
        let part = Part { rows: self.files.clone(), ..Part::default() };
        let identity = vec!["machine".to_owned(), "ts".to_owned()];
        let files = Files { generations: [(0, part)].into(), identity };
        let tables = names.iter().map(|_| Content::Files(files.clone())).collect();
        Ok(Some(Snapshot { epoch: None, tables }))
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark is what it prints")]
fn report(all: &[Figures], rows: u64, files: usize, bytes: u64, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(all)?);
        return Ok(());
    }
    println!("{rows} rows in {files} files, {} MB, {THREADS} threads", bytes / 1_000_000);
    for f in all {
        let duckdb = match f.duckdb_s {
            Some(seconds) => format!("DuckDB {seconds:.3} s"),
            None => format!("DuckDB is not there (~/.cache/{DUCKDB}, module 'duckdb')"),
        };
        println!(
            "{:<18} {:.3} s; DataFusion alone {:.3} s, {duckdb}; ratio to the better {:.2}; {} rows",
            f.query, f.ours_s, f.datafusion_s, f.ratio, f.answer_rows
        );
    }
    Ok(())
}
