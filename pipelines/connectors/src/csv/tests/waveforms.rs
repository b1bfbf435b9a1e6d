//! Waveforms in files: read, put in order, and the same however many work on them.

use arrow::array::ListArray;
use arrow::datatypes::Float32Type;
use foreline_engine::{
    CollectSink, Front, Graph, Options, OrderRules, SinkNode, SourceNode, StreamId, run,
};

use super::*;

/// So many bursts come, and the later half of them before the earlier.
const BURSTS: i64 = 40;

fn columns() -> Value {
    json!({
        "t": { "type": "int64" },
        "k": { "type": "string" },
        "v": { "type": "waveform", "sample_rate": 1000, "unit": "g" },
    })
}

fn samples(t: i64) -> Vec<f32> {
    let n = u16::try_from(t).unwrap();
    (0..=n).map(|i| (f32::from(i) + 0.1) * if t % 2 == 0 { 1.0 } else { -1e-30 }).collect()
}

fn text() -> String {
    let burst = |t: i64| samples(t).iter().map(f32::to_string).collect::<Vec<_>>().join(";");
    let line =
        |t: i64| format!("{t},{},{}\n", ["a", "b", "c"][usize::try_from(t % 3).unwrap()], burst(t));
    let lines = (BURSTS / 2..BURSTS).chain(0..BURSTS / 2).map(line).collect::<String>();
    format!("t,k,v\n{lines}99,a,1;x\n")
}

fn bits(waves: &ListArray, row: usize) -> Vec<u32> {
    let samples = waves.value(row);
    samples.as_primitive::<Float32Type>().values().iter().map(|s| s.to_bits()).collect()
}

#[test]
fn waveforms_go_through_the_engine_as_they_came() {
    let folder = folder(&[("a.csv", text().as_bytes())]);
    let declared =
        Declared::new(folder.path(), json!({ "path": "a.csv" }), &columns(), &["k"], "t");
    for workers in 1..=3 {
        let order = OrderRules { lateness: BURSTS, ..OrderRules::default() };
        let schema = declared.schema();
        let name = || "bursts".to_owned();
        let source = SourceNode {
            name: name(),
            schema: schema.clone(),
            front: Front::Stream(order),
            source: declared.open(),
        };
        let (sink, rows) = CollectSink::new(1_000);
        let sink = SinkNode { name: name(), from: StreamId::Source(0), sink: Box::new(sink) };
        let (sources, sinks) = (vec![source], vec![sink]);
        let graph = Graph { name: name(), sources, steps: Vec::new(), views: Vec::new(), sinks };
        let options = Options { workers, epoch_rows: 7, ..Options::default() };
        let report = run(graph, &options).unwrap();
        let account = report.accounts["bursts"];
        assert_eq!((account.late, account.dead), (0, 1));
        let batch = rows.settled(&schema).unwrap();
        let times = batch.times(&schema);
        let waves: &ListArray = batch.rows.column(2).as_list();
        assert_eq!(times.len(), usize::try_from(BURSTS).unwrap());
        for (row, &t) in times.iter().enumerate() {
            let expected: Vec<u32> = samples(t).iter().map(|s| s.to_bits()).collect();
            assert_eq!(bits(waves, row), expected, "{workers} workers, burst {t}");
        }
    }
}

#[test]
fn bursts_do_not_depend_on_how_text_is_cut() {
    let folder = folder(&[("a.csv", text().as_bytes())]);
    let declared =
        Declared::new(folder.path(), json!({ "path": "a.csv" }), &columns(), &["k"], "t");
    let whole = declared.read();
    assert_eq!(whole.reasons(), ["bad_value"]);
    assert_eq!(whole, declared.read_by(1));
}

#[test]
fn the_name_of_a_file_is_no_waveform() {
    let folder = folder(&[("a.csv", b"t,k\n1,a\n")]);
    let mut columns = columns();
    columns["v"]["field"] = json!("#file");
    let csv = json!({ "path": "a.csv" });
    let declared = Declared::new(folder.path(), csv, &columns, &["k"], "t");
    let errors = declared.try_open().err().unwrap();
    assert_eq!(errors[0].at, "columns.v.field");
}
