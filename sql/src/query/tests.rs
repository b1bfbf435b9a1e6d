//! What is let in, what is refused, what ends by a limit, and that the numbers are right.

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use datafusion::parquet::arrow::ArrowWriter;

use super::*;

/// Readings of two machines, and what a test puts beside them.
#[derive(Debug)]
struct Plant {
    readings: Vec<RecordBatch>,
    files: Mutex<Option<Files>>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("machine", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
        Field::new("Vib", DataType::Float64, true),
    ]))
}

fn readings(machine: &str, from: i64, values: &[Option<f64>]) -> RecordBatch {
    let n = values.len();
    let times = (0..n as i64).map(|i| (from + i) * 1_000_000_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![machine; n])),
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(Float64Array::from(values.to_vec())),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

impl Catalogue for Plant {
    fn tables(&self) -> Vec<About> {
        let about = |name: &str| About {
            name: name.to_owned(),
            kind: "view".to_owned(),
            schema: schema(),
            units: vec![None, None, Some("mm/s".to_owned())],
        };
        vec![about("lake"), about("readings")]
    }

    fn snapshot(&self, names: &[String]) -> Result<Option<Snapshot>, String> {
        let of = |name: &String| match name.as_str() {
            "lake" => Content::Files(self.files.lock().unwrap().clone().unwrap_or_default()),
            _ => Content::Rows(self.readings.clone()),
        };
        Ok(Some(Snapshot { epoch: Some(7), tables: names.iter().map(of).collect() }))
    }
}

struct Bench {
    queries: Queries,
    plant: Arc<Plant>,
    folder: tempfile::TempDir,
}

/// Readings of two machines at epoch 7.
pub(crate) fn plant() -> Arc<dyn Catalogue> {
    made()
}

fn made() -> Arc<Plant> {
    let some = |values: &[f64]| values.iter().map(|v| Some(*v)).collect::<Vec<_>>();
    let readings = vec![
        readings("P-1", 0, &some(&[1.0, 2.0, 4.0, 8.0, 16.0])),
        readings("P-2", 0, &[Some(3.0), None, Some(-3.0)]),
    ];
    Arc::new(Plant { readings, files: Mutex::default() })
}

fn bench(limits: Limits) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let plant = made();
    let catalogue: Arc<dyn Catalogue> = Arc::clone(&plant) as _;
    let queries = Queries::new(catalogue, limits, &folder.path().join("spill")).unwrap();
    Bench { queries, plant, folder }
}

impl Bench {
    fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        self.queries.ask_and_wait(sql, 10_000)
    }

    /// The rows as text, a line a row.
    fn rows(&self, sql: &str) -> Vec<String> {
        let answer = self.ask(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let mut lines = Vec::new();
        for batch in &answer.rows {
            let format = arrow::util::display::FormatOptions::default();
            let columns = batch.columns().iter();
            let columns: Vec<_> = columns
                .map(|c| arrow::util::display::ArrayFormatter::try_new(c, &format).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
                lines.push(cells.join(" "));
            }
        }
        lines
    }

    fn number(&self, sql: &str) -> f64 {
        let answer = self.ask(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        answer.rows[0].column(0).as_primitive::<Float64Type>().value(0)
    }

    /// Writes rows into a file, with the columns of corrections where they are given.
    fn write(
        &self,
        name: &str,
        rows: &RecordBatch,
        corrects: Option<&[(u32, bool)]>,
    ) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        let rows = corrects.map_or_else(|| rows.clone(), |c| corrections(rows, c));
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        path
    }

    fn lake(&self, files: Files) {
        *self.plant.files.lock().unwrap() = Some(files);
    }
}

fn corrections(rows: &RecordBatch, standing: &[(u32, bool)]) -> RecordBatch {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("_revision", DataType::UInt32, false)));
    fields.push(Arc::new(Field::new("_deleted", DataType::Boolean, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(standing.iter().map(|s| s.0).collect::<UInt32Array>()));
    columns.push(Arc::new(BooleanArray::from(standing.iter().map(|s| s.1).collect::<Vec<_>>())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn refused(bench: &Bench, sql: &str) -> String {
    match bench.ask(sql) {
        Err(QueryError::Refused(refusal)) => QueryError::Refused(refusal).to_string(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn rows_are_found_and_names_keep_their_case() {
    let bench = bench(Limits::default());
    let found = bench
        .rows("SELECT machine, max(Vib) AS most FROM readings GROUP BY machine ORDER BY machine");
    assert_eq!(found, ["P-1 16.0", "P-2 3.0"]);
    assert_eq!(bench.ask("SELECT 1").unwrap().epoch, Some(7));
    let answer = bench.queries.ask_and_wait("SELECT * FROM readings", 6).unwrap();
    assert_eq!(answer.rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);
    assert!(answer.is_truncated);
    assert_eq!(
        refused(&bench, "SELECT\n  vib FROM readings"),
        "there is no column 'vib' (line 2, column 3); did you mean 'Vib'?"
    );
    assert_eq!(
        refused(&bench, "SELECT 1 FROM reading"),
        "there is no table 'reading' (line 1, column 15); did you mean 'readings'?"
    );
    assert!(refused(&bench, "SELECT 1 FORM readings, x y z").contains("line 1"));
}

/// Everything that writes, reads files or leaves the catalogue is refused before it is planned.
#[test]
fn only_reading_is_let_in() {
    let bench = bench(Limits::default());
    let passwd = "/etc/passwd";
    for sql in [
        "COPY readings TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO 'x.parquet'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE readings",
        "INSERT INTO readings VALUES ('a', now(), 1)",
        "UPDATE readings SET Vib = 0",
        "DELETE FROM readings",
        "TRUNCATE readings",
        "SELECT 1 INTO t FROM readings",
        "WITH a AS (SELECT 1) SELECT * INTO t FROM a",
        "SELECT 1; SELECT 2",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "EXPLAIN COPY readings TO 'x'",
        "EXPLAIN ANALYZE INSERT INTO readings SELECT * FROM readings",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "",
        ";",
        "-- nothing",
        &format!("SELECT * FROM '{passwd}'"),
        &format!("SELECT * FROM \"{passwd}\""),
        &format!("SELECT * FROM read_csv('{passwd}')"),
        "SELECT * FROM other.readings",
        "SELECT * FROM other.public.readings",
        "SELECT * FROM readings WHERE Vib IN (SELECT 1 FROM secrets)",
        "SELECT repeat('a', 1000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT range(1, 10000000000)",
        "SELECT lpad('a', 2000000000)",
        "SELECT getenv('HOME')",
    ] {
        let said = refused(&bench, sql);
        assert!(!said.is_empty() && !said.contains("root:"), "{sql}: {said}");
    }
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        "EXPLAIN SELECT * FROM readings",
        "DESCRIBE readings",
        "SHOW TABLES",
        "SELECT * FROM public.readings",
        "SELECT table_name FROM information_schema.tables",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL SELECT 2",
        "SELECT * FROM generate_series(1, 3)",
    ] {
        bench.ask(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let counts = bench.queries.counts();
    assert_eq!((counts.answered, counts.refused, counts.limited), (9, 34, 0));
}

/// Whatever is asked for ends, by an answer or a limit that is named.
#[test]
fn what_is_too_large_ends_by_a_limit() {
    let limits = Limits {
        time: Duration::from_secs(5),
        memory_bytes: 32 << 20,
        spill_bytes: 64 << 20,
        answer_bytes: 1 << 20,
        concurrent: 8,
    };
    let bench = bench(limits);
    let many = "generate_series(1, 1000000000000)";
    let wide: String = (0..50).map(|i| format!("value + {i} AS c{i}, ")).collect();
    for sql in [
        format!("SELECT count(*) FROM {many} a, {many} b"),
        format!("SELECT sum(value) FROM {many}"),
        format!("SELECT {wide} value FROM {many} ORDER BY c7 DESC, c3"),
        format!("SELECT value, count(*) FROM {many} GROUP BY value"),
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
            .to_owned(),
        "SELECT a.value FROM generate_series(1, 10000000) a ORDER BY a.value".to_owned(),
    ] {
        match bench.queries.ask_and_wait(&sql, usize::MAX) {
            Err(QueryError::Limit(said)) => assert!(!said.is_empty()),
            other => panic!("{sql}: {:?}", other.map(|a| a.is_truncated)),
        }
    }
    for (sql, why) in [
        (format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "operators and names"),
        (format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500)), "nested too deeply"),
        (format!("SELECT '{}'", "a".repeat(10 << 20)), "bytes"),
        (format!("SELECT {}1", "1 + ".repeat(60_000)), "operators and names"),
    ] {
        let said = refused(&bench, &sql);
        assert!(said.contains(why), "{said}");
    }
    // A join that compares everything and finds nothing would not notice that it is to end.
    let series = |n: u64| format!("generate_series(1, {n})");
    for sql in [
        format!("SELECT count(*) FROM {many} a JOIN {many} b ON a.value + b.value < 0"),
        format!("SELECT count(*) FROM {} a JOIN {many} b ON a.value > b.value * 2", series(1000)),
    ] {
        let said = refused(&bench, &sql);
        assert!(said.contains("compare every row with every other"), "{said}");
    }
    let sql = "SELECT count(*) FROM readings a JOIN readings b ON a.Vib > b.Vib * 2";
    assert_eq!(bench.rows(sql), ["16"]);
    // A list of names, and a pattern that other engines never end with, are answered.
    let names: Vec<String> = (0..10_000).map(|i| format!("'P-{i}'")).collect();
    let sql = format!("SELECT count(*) FROM readings WHERE machine IN ({})", names.join(","));
    assert_eq!(bench.rows(&sql), ["8"]);
    assert_eq!(bench.rows("SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaab' ~ '^(a+)+$'"), ["false"]);
    assert_eq!(bench.rows("SELECT count(*) FROM readings"), ["8"]);
}

/// Queries at the same time see their own tables and none of another's.
#[test]
fn queries_do_not_meet() {
    let bench = bench(Limits { concurrent: 64, ..Limits::default() });
    std::thread::scope(|scope| {
        for machine in ["P-1", "P-2", "P-3", "P-4"] {
            let bench = &bench;
            scope.spawn(move || {
                for _ in 0..40 {
                    let sql = format!("SELECT count(*) FROM readings WHERE machine = '{machine}'");
                    let n = match machine {
                        "P-1" => "5",
                        "P-2" => "3",
                        _ => "0",
                    };
                    assert_eq!(bench.rows(&sql), [n]);
                }
            });
        }
    });
}

#[test]
fn whoever_stops_waiting_cancels() {
    let bench = bench(Limits { concurrent: 1, ..Limits::default() });
    let endless = "SELECT sum(value) FROM generate_series(1, 1000000000000)";
    let own = Builder::new_current_thread().enable_time().build().unwrap();
    own.block_on(async {
        let asked = bench.queries.ask(endless, 1);
        let waited = tokio::time::timeout(Duration::from_millis(300), asked).await;
        assert!(waited.is_err(), "it goes on until it is cancelled");
        // The one place is free again once the query has noticed.
        for _ in 0..3_000 {
            match bench.queries.ask("SELECT 1", 1).await {
                // Its parts end one after the other, and give back what they hold.
                Ok(_) if bench.queries.shared.state.runtime_env().memory_pool.reserved() == 0 => {
                    return;
                }
                Ok(_) | Err(QueryError::Busy(_)) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(e) => panic!("{e}"),
            }
        }
        panic!("the query goes on, or its memory does not come back");
    });
    assert_eq!(bench.queries.counts().cancelled, 1);
}

/// pandas: `s = pd.Series([1., 2., 4., 8., 16.]); (s ** 2).mean() ** .5, s.kurt()`; SciPy: `kurtosis(s)`.
#[test]
fn aggregates_agree_with_pandas_and_scipy() {
    let bench = bench(Limits::default());
    let of =
        |what: &str| bench.number(&format!("SELECT {what} FROM readings WHERE machine = 'P-1'"));
    for (what, expected) in REFERENCES {
        let found = of(what);
        assert!((found - expected).abs() < 1e-12, "{what}: {found}, not {expected}");
    }
    let found = bench.rows(
        "SELECT machine, first(Vib, ts) AS a, last(Vib, ts) AS b FROM readings GROUP BY machine ORDER BY machine",
    );
    assert_eq!(found, ["P-1 1.0 16.0", "P-2 3.0 -3.0"], "the earliest and latest that are there");
    let found = bench.rows(
        "SELECT time_bucket(INTERVAL '2 seconds', ts) AS t, count(*) AS n FROM readings GROUP BY t ORDER BY t",
    );
    assert_eq!(
        found,
        ["1970-01-01T00:00:00Z 4", "1970-01-01T00:00:02Z 3", "1970-01-01T00:00:04Z 1"]
    );
    assert_eq!(bench.rows("SELECT kurtosis(Vib) FROM readings WHERE machine = 'P-9'"), [""]);
}

/// SciPy: `f, p = signal.periodogram(x, fs=1000, window="hann", detrend="constant", scaling="spectrum")` of 40 samples of the
/// sum below; amplitudes are `sqrt(2 p)`, the last one `sqrt(p)`.
#[test]
fn a_spectrum_agrees_with_scipy() {
    const EXPECTED: [(f64, f64); 5] = [
        (100.0, 1.000_248_765_637_744_6),
        (125.0, 1.999_508_284_707_041_8),
        (225.0, 0.235_821_168_233_541_82),
        (250.0, 0.180_335_457_890_225_15),
        (500.0, 0.500_041_104_397_789_5),
    ];
    let bench = bench(Limits::default());
    // Sorted the other way round, and with a sample that is missing before and after the stretch.
    let of = |samples: &str| {
        format!(
            "WITH s AS (SELECT value AS k, to_timestamp_micros(value * 1000) AS ts FROM {samples}), \
             x AS (SELECT ts, 3 + 2 * sin(2 * pi() * 5 * k / 40) + 0.5 * cos(2 * pi() * 20 * k / 40) \
             + 0.25 * sin(2 * pi() * 9.3 * k / 40) AS v FROM s ORDER BY ts DESC) \
             SELECT l['frequency'] AS f, l['amplitude'] AS a FROM (SELECT unnest(spectrum(v, ts)) AS l FROM x)"
        )
    };
    let rows = bench.rows(&of("generate_series(0, 39)"));
    assert_eq!(rows.len(), 21, "{rows:?}");
    for (frequency, amplitude) in EXPECTED {
        let found = rows.iter().find_map(|row| {
            let (f, a) = row.split_once(' ')?;
            (f.parse() == Ok(frequency)).then(|| a.parse::<f64>().unwrap())
        });
        let found = found.unwrap_or_else(|| panic!("no line at {frequency} Hz: {rows:?}"));
        assert!((found - amplitude).abs() < 1e-12, "{frequency} Hz: {found}, not {amplitude}");
    }
    assert_eq!(bench.rows("SELECT spectrum(Vib, ts) FROM readings WHERE machine = 'P-9'"), [""]);
    let refused = |query: &str, because: &str| {
        let wrong = bench.ask(query).unwrap_err().to_string();
        assert!(wrong.contains(because), "{query}: {wrong}");
    };
    let gap = of("(SELECT value FROM generate_series(0, 39) WHERE value <> 20)");
    refused(&gap, "even times");
    refused(&of("(SELECT value / 2 AS value FROM generate_series(0, 39))"), "even times");
    refused("SELECT spectrum(Vib, machine) FROM readings", "is a time");
    refused("SELECT spectrum(machine, ts) FROM readings", "is a number");
    let wave = "SELECT array_length(spectrum(sin(value), to_timestamp_micros(value))) FROM";
    let most = bench.rows(&format!("{wave} generate_series(1, 1048576)"));
    assert_eq!(most, ["524289"]);
    refused(&format!("{wave} generate_series(1, 1048577)"), "at most 1048576 samples");
}

/// pandas: `pd.Series([1., 2., 4., 8., 16.]).ewm(alpha=.3, adjust=False, ignore_na=True).mean()`, the same of
/// `[3., np.nan, -3.]`, and `.ffill()`.
#[test]
fn values_are_smoothed_and_carried_forward() {
    let bench = bench(Limits::default());
    let smoothed = "SELECT machine, round(ema(Vib, 0.3) OVER (PARTITION BY machine ORDER BY ts), 9) AS e, \
                    locf(Vib) OVER (PARTITION BY machine ORDER BY ts) AS c FROM readings ORDER BY machine, ts";
    assert_eq!(
        bench.rows(smoothed),
        [
            "P-1 1.0 1.0",
            "P-1 1.3 2.0",
            "P-1 2.11 4.0",
            "P-1 3.877 8.0",
            "P-1 7.5139 16.0",
            "P-2 3.0 3.0",
            "P-2 3.0 3.0",
            "P-2 1.2 -3.0"
        ]
    );
    let wrong = bench.ask("SELECT ema(Vib, 1.5) OVER (ORDER BY ts) FROM readings").unwrap_err();
    assert!(wrong.to_string().contains("above 0 and at most 1"), "{wrong}");
    // Alone it would depend on the order in which rows happen to be read.
    assert!(bench.ask("SELECT ema(Vib, 0.5) FROM readings").is_err());
    let at = |second: &str| {
        let time = format!("1970-01-01T00:00:{second}Z");
        bench.rows(&format!(
            "SELECT machine, as_of(Vib, ts, '{time}') AS v FROM readings GROUP BY machine ORDER BY machine"
        ))
    };
    assert_eq!(at("00"), ["P-1 1.0", "P-2 3.0"]);
    assert_eq!(at("02.5"), ["P-1 4.0", "P-2 -3.0"], "the newest that is not after it");
    assert_eq!(at("01"), ["P-1 2.0", "P-2 3.0"], "a missing value is none");
    assert_eq!(bench.rows("SELECT as_of(Vib, ts, '1969-12-31T00:00:00Z') FROM readings"), [""]);
    // Gaps are filled from a series of times.
    let filled = "SELECT t.value AS t, locf(r.Vib) OVER (ORDER BY t.value) AS v \
        FROM generate_series(TIMESTAMP '1970-01-01T00:00:03', TIMESTAMP '1970-01-01T00:00:07', INTERVAL '1 second') t \
        LEFT JOIN (SELECT * FROM readings WHERE machine = 'P-1') r ON r.ts = t.value ORDER BY t";
    let filled = bench.rows(filled);
    let values: Vec<&str> = filled.iter().map(|row| row.rsplit(' ').next().unwrap()).collect();
    assert_eq!(values, ["8.0", "16.0", "16.0", "16.0", "16.0"], "{filled:?}");
}

const REFERENCES: [(&str, f64); 3] = [
    ("rms(Vib)", 8.258_329_128_825_032),
    ("kurtosis(Vib)", 1.303_763_440_860_217),
    ("kurtosis_pop(Vib)", -0.674_059_139_784_947_4),
];

#[test]
fn corrected_and_deleted_rows_of_files_are_resolved() {
    let bench = bench(Limits::default());
    let rows = readings("P-1", 0, &[Some(1.0), Some(2.0), Some(3.0), Some(4.0)]);
    // Two readings of one second are two rows.
    let twice = readings("P-1", 3, &[Some(4.5)]);
    let fixed = readings("P-1", 1, &[Some(20.0), Some(30.0)]);
    let again = readings("P-1", 1, &[Some(21.0)]);
    let files = |recent: bool| {
        let part = Part {
            rows: vec![
                bench.write("a.parquet", &rows, None),
                bench.write("b.parquet", &twice, None),
            ],
            corrections: vec![bench.write("c.parquet", &fixed, Some(&[(1, false), (1, true)]))],
            recent: if recent { vec![readings("P-2", 9, &[Some(9.0)])] } else { Vec::new() },
            recent_corrections: if recent {
                vec![corrections(&again, &[(2, false)])]
            } else {
                Vec::new()
            },
        };
        let identity = vec!["machine".to_owned(), "ts".to_owned()];
        Files { generations: BTreeMap::from([(1, part)]), identity }
    };
    let ask = "SELECT machine, Vib FROM lake ORDER BY machine, ts, Vib";
    assert_eq!(bench.rows("SELECT count(*) FROM lake"), ["0"], "a stream that has no row yet");
    bench.lake(files(false));
    assert_eq!(bench.rows(ask), ["P-1 1.0", "P-1 20.0", "P-1 4.0", "P-1 4.5"]);
    bench.lake(files(true));
    assert_eq!(bench.rows(ask), ["P-1 1.0", "P-1 21.0", "P-1 4.0", "P-1 4.5", "P-2 9.0"]);
    // A later computation stands for the earlier one, where it has a row.
    let mut both = files(true);
    let later = readings("P-1", 2, &[Some(300.0), Some(400.0)]);
    let part = Part { rows: vec![bench.write("d.parquet", &later, None)], ..Part::default() };
    both.generations.insert(2, part);
    bench.lake(both);
    assert_eq!(bench.rows(ask), ["P-1 1.0", "P-1 21.0", "P-1 300.0", "P-1 400.0", "P-2 9.0"]);
    // Without corrections only what is asked for is read, and the answer is the same.
    let part = Part { rows: vec![bench.write("a.parquet", &rows, None)], ..Part::default() };
    bench.lake(Files { generations: BTreeMap::from([(1, part)]), identity: Vec::new() });
    let answer =
        bench.ask("SELECT count(*) AS n FROM lake WHERE Vib >= 3 AND machine = 'P-1'").unwrap();
    assert_eq!(answer.rows[0].column(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![2]));
}

#[test]
fn a_file_that_is_gone_is_named() {
    let bench = bench(Limits::default());
    let part = Part { rows: vec![bench.folder.path().join("gone.parquet")], ..Part::default() };
    bench.lake(Files { generations: BTreeMap::from([(1, part)]), identity: Vec::new() });
    match bench.ask("SELECT * FROM lake") {
        Err(QueryError::Unavailable(said)) => assert!(said.contains("gone.parquet"), "{said}"),
        other => panic!("{other:?}"),
    }
}
