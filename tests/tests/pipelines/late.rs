//! Late rows correct the result: shuffled, delayed and repeated input leaves the rows of the ordered one, bit by bit.
//!
//! Whole pipelines write Parquet, and what stands there is compared: of each row the greatest revision, deleted ones left
//! out. The table of late rows is compared with a loop over the lines that says which of them are late.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use foreline::run::carry_out;
use foreline::simulate::{self, FaultRates, PumpFleet};
use foreline::train::fit;
use foreline_engine::{OnChange, Report};
use foreline_tests::lake;
use foreline_tests::torture::Dice;
use tempfile::TempDir;

use super::{plan, real_data, running};

/// A line of input with its key and event time.
#[derive(Debug, Clone)]
struct Reading {
    key: String,
    time: i64,
    line: String,
}

/// Readings as they were measured, and the pipeline that they go through.
struct Recording {
    header: &'static str,
    readings: Vec<Reading>,
    /// The pipeline file, with `{lateness}`, `{within}` and `{rows}` to be filled in.
    pipeline: &'static str,
    /// The streams it writes, each with what identifies a row.
    streams: Vec<(&'static str, [&'static str; 2])>,
    /// A unit of event time, as the pipeline file writes it and in the unit of the time domain.
    unit: (&'static str, i64),
    lateness: i64,
    /// The weights of its model, made once.
    weights: Vec<u8>,
}

/// How a recording is disturbed and run; lengths in units of event time.
#[derive(Debug, Clone, Copy)]
struct Way {
    seed: u64,
    /// Readings come late by up to this much.
    delay: i64,
    /// How far behind a late row may correct.
    within: i64,
    workers: u16,
    epoch_rows: usize,
}

/// A row of the table of late rows: line, watermark, lateness, outcome.
type LateRow = (u64, i64, i64, String);

const FLEET: &str = "version: 1
name: fleet
epoch: { rows: {rows} }
sources:
  readings:
    csv: { path: in.csv }
    columns: { ts: timestamp, machine: string, vibration: float64, temperature: float64 }
    key: [machine]
    time: ts
    lateness: {lateness}
    late: { correct: {within} }
    dedupe: [machine, ts]
    dedupe_within: 1h
steps:
  smooth: { from: readings, ema: { columns: [vibration, temperature], half_life: 30s } }
  level: { from: smooth, moving_average: { columns: [vibration], duration: 20s, as: { vibration: level } } }
  busy: { from: level, filter: 'vibration > level' }
  features:
    from: busy
    window: { tumbling: 1m, features: { vibration: [count, mean, std, kurtosis, slope], level: [last, max] } }
  sliding: { from: level, window: { sliding: { length: 40s, every: 20s }, features: { temperature: [rms, min] } } }
  recent: { from: smooth, window: { rolling: { rows: 9 }, features: { vibration: [mean, skewness] } } }
  rul: { from: features, model: { plugin: 'builtin:linear', weights: w.weights, output: rul } }
sinks:
  lake: { from: [smooth, level, busy, features, sliding, recent, rul], parquet: { path: lake } }
  checks: { from: [late, dead_letters], parquet: { path: checks } }
training:
  linear: { from: features, target: { remaining: {} }, plugin: 'builtin:linear', weights: w.weights }
";

const TURBOFAN: &str = "version: 1
name: turbofan
epoch: { rows: {rows} }
sources:
  flights:
    csv: { path: in.csv, delimiter: blank, header: false }
    columns:
      unit: { type: int64, field: 1 }
      cycle: { type: int64, field: 2 }
      s2: { type: float64, field: 7 }
      s3: { type: float64, field: 8 }
      s4: { type: float64, field: 9 }
    key: [unit]
    time: cycle
    lateness: {lateness}
    late: { correct: {within} }
    dedupe: [unit, cycle]
    dedupe_within: 1000
steps:
  smooth: { from: flights, ema: { columns: [s2, s3], alpha: 0.2 } }
  level: { from: smooth, moving_average: { columns: [s4], rows: 5, as: { s4: level } } }
  features: { from: level, window: { tumbling: 10, features: { s2: [mean, std, slope], level: [last, kurtosis] } } }
  sliding: { from: smooth, window: { sliding: { length: 20, every: 5 }, features: { s3: [rms, count] } } }
  recent: { from: smooth, window: { rolling: { rows: 9 }, features: { s2: [mean, skewness] } } }
  rul: { from: features, model: { plugin: 'builtin:linear', weights: w.weights, output: rul } }
sinks:
  lake: { from: [smooth, level, features, sliding, recent, rul], parquet: { path: lake } }
  checks: { from: [late, dead_letters], parquet: { path: checks } }
training:
  linear: { from: features, target: { remaining: {} }, plugin: 'builtin:linear', weights: w.weights }
";

/// Three pumps of a simulated fleet, measured each second.
fn fleet() -> Recording {
    let folder = tempfile::tempdir().unwrap();
    let config = PumpFleet {
        training: 0,
        live: 3,
        mean_life_hours: 0.4,
        faults: FaultRates::none(),
        ..PumpFleet::default()
    };
    let written = simulate::write(&config, folder.path(), &|_, _| {}).unwrap();
    let mut readings = Vec::new();
    for file in written.live {
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let place = |name: &str| header.iter().position(|h| *h == name).unwrap();
        let places = ["ts", "machine", "vibration", "temperature"].map(place);
        readings.extend(lines.map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let [ts, machine, ..] = places.map(|p| fields[p]);
            let time = string_to_timestamp_nanos(ts).unwrap();
            let line = places.map(|p| fields[p]).join(",");
            Reading { key: machine.to_owned(), time, line }
        }));
    }
    readings.sort_by_key(|r| r.time);
    let by = |time| ["machine", time];
    let streams = vec![
        ("smooth", by("ts")),
        ("level", by("ts")),
        ("busy", by("ts")),
        ("features", by("window_end")),
        ("sliding", by("window_end")),
        ("recent", by("ts")),
        ("rul", by("window_end")),
    ];
    Recording {
        header: "ts,machine,vibration,temperature\n",
        readings,
        pipeline: FLEET,
        streams,
        unit: ("s", 1_000_000_000),
        lateness: 5,
        weights: Vec::new(),
    }
    .trained()
}

/// The engines of FD001, measured each flight.
fn turbofan(data: &Path) -> Recording {
    let text = std::fs::read_to_string(data.join("train_FD001.txt")).unwrap();
    let reading = |line: &str| {
        let mut fields = line.split_whitespace();
        let key = fields.next().unwrap().to_owned();
        let time = fields.next().unwrap().parse().unwrap();
        Reading { key, time, line: line.to_owned() }
    };
    Recording {
        header: "",
        readings: text.lines().map(reading).collect(),
        pipeline: TURBOFAN,
        streams: vec![
            ("smooth", ["unit", "cycle"]),
            ("level", ["unit", "cycle"]),
            ("features", ["unit", "window_end"]),
            ("sliding", ["unit", "window_end"]),
            ("recent", ["unit", "cycle"]),
            ("rul", ["unit", "window_end"]),
        ],
        unit: ("", 1),
        lateness: 3,
        weights: Vec::new(),
    }
    .trained()
}

/// Some readings late and some twice, in the order in which they arrive.
fn disturbed(readings: &[Reading], way: Way, unit: i64) -> Vec<Reading> {
    let mut dice = Dice(way.seed);
    let delay = usize::try_from(way.delay * unit).unwrap() + 1;
    let mut arrivals = Vec::new();
    for reading in readings {
        let later = |dice: &mut Dice| reading.time + i64::try_from(dice.below(delay)).unwrap();
        let time = if dice.below(3) == 0 { later(&mut dice) } else { reading.time };
        arrivals.push((time, dice.below(1_000), reading));
        if dice.below(20) == 0 {
            let again = later(&mut dice).max(time);
            arrivals.push((again, dice.below(1_000), reading));
        }
    }
    arrivals.sort_by_key(|a| (a.0, a.1));
    arrivals.into_iter().map(|a| a.2.clone()).collect()
}

impl Recording {
    fn trained(mut self) -> Self {
        let way = Way { seed: 0, delay: 0, within: 0, workers: 1, epoch_rows: 65_536 };
        let (_folder, file) = self.written(&self.readings, way);
        fit(&file, "linear", BTreeMap::new(), &running(2)).expect("training works");
        self.weights = std::fs::read(file.with_file_name("w.weights")).unwrap();
        let known: BTreeSet<_> = self.readings.iter().map(|r| (&r.key, r.time)).collect();
        assert_eq!(known.len(), self.readings.len(), "a key has one reading at a time");
        self
    }

    /// A folder with the readings and the pipeline file.
    fn written(&self, readings: &[Reading], way: Way) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<&str> = readings.iter().map(|r| r.line.as_str()).collect();
        let text = format!("{}{}\n", self.header, lines.join("\n"));
        std::fs::write(folder.path().join("in.csv"), text).unwrap();
        std::fs::write(folder.path().join("w.weights"), &self.weights).unwrap();
        let length = |n: i64| format!("{n}{}", self.unit.0);
        let text = self
            .pipeline
            .replace("{rows}", &way.epoch_rows.to_string())
            .replace("{lateness}", &length(self.lateness))
            .replace("{within}", &length(way.within));
        let file = folder.path().join("pipeline.yaml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    fn run(&self, readings: &[Reading], way: Way) -> (TempDir, Report) {
        let (folder, file) = self.written(readings, way);
        let (report, _) = carry_out(&plan(&file), &running(way.workers), OnChange::Fresh).unwrap();
        (folder, report)
    }

    /// The late ones of some lines: what a watermark a key makes of them.
    fn late(&self, readings: &[Reading], way: Way) -> Vec<LateRow> {
        let (unit, first_line) = (self.unit.1, 1 + u64::from(!self.header.is_empty()));
        let (lateness, within) = (self.lateness * unit, way.within * unit);
        let mut seen = BTreeSet::new();
        let mut greatest: BTreeMap<&str, i64> = BTreeMap::new();
        let mut late = Vec::new();
        for (line, reading) in (first_line..).zip(readings) {
            if !seen.insert((&reading.key, reading.time)) {
                continue;
            }
            let greatest = greatest.entry(&reading.key).or_insert(reading.time);
            let watermark = *greatest - lateness;
            *greatest = reading.time.max(*greatest);
            let behind = watermark - reading.time;
            if behind > 0 {
                let outcome = if behind <= within { "corrected" } else { "dead_letter" };
                late.push((line, watermark, behind, outcome.to_owned()));
            }
        }
        late
    }
}

/// The table of late rows of a run.
fn late_table(folder: &Path, source: &str) -> Vec<LateRow> {
    let mut table: Vec<LateRow> = lake::rows(&folder.join("checks/late"))
        .unwrap()
        .into_iter()
        .map(|(_, row)| {
            assert_eq!(row["operator"], source);
            assert!(row["file"].ends_with("in.csv"), "{}", row["file"]);
            assert!(row["epoch"].parse::<u64>().unwrap() > 0);
            let number = |name: &str| row[name].parse::<i64>().unwrap();
            assert_eq!(number("watermark") - number("event_time"), number("behind"));
            let line = row["line"].parse().unwrap();
            (line, number("watermark"), number("behind"), row["outcome"].clone())
        })
        .collect();
    table.sort();
    table
}

/// Disturbed runs leave what the ordered run leaves.
fn check_sameness(recording: &Recording, source: &str, ways: &[Way]) {
    let (ordered, report) = recording.run(&recording.readings, Way { workers: 1, ..ways[0] });
    let account = report.accounts[source];
    assert_eq!((account.late, account.corrected, account.deduplicated), (0, 0, 0));
    for &way in ways {
        let readings = disturbed(&recording.readings, way, recording.unit.1);
        let (folder, report) = recording.run(&readings, way);
        for (stream, id) in &recording.streams {
            let place = Path::new("lake").join(stream);
            let want = lake::settled(&ordered.path().join(&place), id).unwrap();
            let found = lake::settled(&folder.path().join(&place), id).unwrap();
            assert!(want.len() > 50, "'{stream}' has only {} rows", want.len());
            assert_eq!(want.len(), found.len(), "'{stream}' {way:?}");
            for (key, row) in &want {
                assert_eq!(Some(row), found.get(key), "'{stream}' {key:?} {way:?}");
            }
        }
        let late = recording.late(&readings, way);
        assert!(late.len() > recording.readings.len() / 20, "only {} rows are late", late.len());
        assert_eq!(late_table(folder.path(), source), late, "{way:?}");
        let account = report.accounts[source];
        assert_eq!((account.late, account.corrected), (0, late.len() as u64), "{way:?}");
        let repeated = (readings.len() - recording.readings.len()) as u64;
        assert_eq!(account.deduplicated, repeated, "{way:?}");
    }
}

#[test]
fn a_disturbed_fleet_leaves_the_rows_of_an_ordered_one() {
    let way = Way { seed: 1, delay: 90, within: 90, workers: 1, epoch_rows: 200 };
    let ways = [
        way,
        Way { seed: 2, workers: 2, epoch_rows: 65_536, ..way },
        Way { seed: 3, workers: 3, epoch_rows: 37, ..way },
        Way { seed: 4, workers: 2, within: 300, delay: 240, epoch_rows: 900 },
    ];
    check_sameness(&fleet(), "readings", &ways);
}

#[test]
fn disturbed_turbofans_leave_the_rows_of_ordered_ones() {
    let Some(data) = real_data("cmapss") else { return };
    let way = Way { seed: 5, delay: 40, within: 40, workers: 1, epoch_rows: 4_000 };
    let ways = [
        way,
        Way { seed: 6, workers: 2, epoch_rows: 65_536, ..way },
        Way { seed: 7, workers: 3, epoch_rows: 1_000, ..way },
    ];
    check_sameness(&turbofan(&data), "flights", &ways);
}

#[test]
fn every_late_row_is_in_the_table_whatever_became_of_it() {
    let fleet = fleet();
    for (seed, workers) in [(11, 1), (12, 2), (13, 3)] {
        let way = Way { seed, delay: 90, within: 20, workers, epoch_rows: 300 };
        let readings = disturbed(&fleet.readings, way, fleet.unit.1);
        let (folder, report) = fleet.run(&readings, way);
        let late = fleet.late(&readings, way);
        assert_eq!(late_table(folder.path(), "readings"), late);
        let n_dead = late.iter().filter(|l| l.3 == "dead_letter").count() as u64;
        let account = report.accounts["readings"];
        assert_eq!((account.late, account.corrected), (n_dead, late.len() as u64 - n_dead));
        assert!(n_dead > 20 && account.corrected > 20, "{account:?}");
        let dead = lake::rows(&folder.path().join("checks/dead_letters")).unwrap();
        assert_eq!(dead.len() as u64, n_dead);
    }
}
