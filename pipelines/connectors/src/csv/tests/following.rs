//! Followed files: growing, rotated, copied and cut, replaced, compressed, and all of it across a restart.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use foreline_engine::{KnownPartition, Partition, Range, ReadUpTo};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source that is polled, with what it has handed out.
struct Following {
    source: Box<dyn Source>,
    chunks: Vec<(Partition, Range)>,
    known: Vec<KnownPartition>,
    out: Decoded,
}

fn csv(path: &str) -> Value {
    json!({ "path": path, "follow": { "poll": "1ms" } })
}

impl Following {
    fn open(folder: &Path, csv: Value) -> Self {
        let source = declared(folder, csv).open();
        Following { source, chunks: Vec::new(), known: Vec::new(), out: Decoded::default() }
    }

    /// Goes on in another run.
    fn again(self, folder: &Path, csv: Value) -> Self {
        let mut source = declared(folder, csv).open();
        source.resume(&self.known).unwrap();
        Following { source, ..self }
    }

    fn poll(&mut self) -> Result<bool, SourceError> {
        let Poll::Ready(chunk) = self.source.poll(1 << 20)? else { return Ok(false) };
        let (partition, range) = (chunk.partition, chunk.range);
        let again = self.source.read(partition, range).unwrap();
        assert_eq!(again.payload, chunk.payload, "a range gives the same bytes again");
        self.source.decoder().decode(&chunk, &mut self.out);
        self.chunks.push((partition, range));
        let read = Some(ReadUpTo { end: range.end, end_ordinal: range.end_ordinal });
        match self.known.iter_mut().find(|k| k.partition == partition) {
            Some(known) => known.read = read,
            None => {
                let identity = self.source.identity(partition);
                let name = self.source.partition_name(partition).unwrap();
                self.known.push(KnownPartition { partition, name, identity, read });
            }
        }
        Ok(true)
    }

    /// The values of `v` so far, in the order in which they came.
    fn values(&self) -> Vec<f64> {
        let values = |rows: &RecordBatch| {
            let column = rows.column_by_name("v").unwrap().as_primitive::<Float64Type>().clone();
            column.values().to_vec()
        };
        self.out.rows.iter().flat_map(|(rows, _)| values(rows)).collect()
    }

    /// Polls until these values have come, and then for a while to see that nothing follows.
    fn expect(&mut self, values: &[f64]) {
        let begun = now();
        while self.values().len() < values.len() && begun.elapsed() < PATIENCE {
            self.poll().unwrap();
        }
        let settled = now();
        while settled.elapsed() < Duration::from_millis(40) {
            self.poll().unwrap();
        }
        assert_eq!(self.values(), values);
        let mut positions: Vec<u64> =
            self.out.rows.iter().flat_map(|(_, p)| p.values().to_vec()).collect();
        let n = positions.len();
        positions.sort_unstable();
        positions.dedup();
        assert_eq!(positions.len(), n, "positions are unique");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits for what must come, and no longer")]
fn now() -> Instant {
    Instant::now()
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// So many records that the beginning of the file tells it from all others.
fn long(n: usize) -> (String, Vec<f64>) {
    let text = (0..n).map(|i| format!("{i},some-machine-with-a-long-name,{i}\n"));
    let values = (0..n).map(|i| i as f64).collect();
    (std::iter::once("t,k,v\n".to_owned()).chain(text).collect(), values)
}

#[test]
fn half_a_line_waits_for_its_end() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n2,a,")]);
    let a = folder.path().join("a.csv");
    let mut following = Following::open(folder.path(), csv("a.csv"));
    following.expect(&[1.0]);
    append(&a, "2");
    following.expect(&[1.0]);
    append(&a, "5\n3,\"a\nb\",3\n");
    following.expect(&[1.0, 25.0, 3.0]);
    append(&a, "4,\"half\n");
    following.expect(&[1.0, 25.0, 3.0]);
    append(&a, "\",4\n");
    following.expect(&[1.0, 25.0, 3.0, 4.0]);
    assert!(following.out.dead.is_empty(), "{:?}", following.out.dead);
}

#[test]
fn a_file_may_come_later_and_grow_from_nothing() {
    let folder = folder(&[]);
    let mut following = Following::open(folder.path(), csv("logs/*.csv"));
    following.expect(&[]);
    fs::create_dir(folder.path().join("logs")).unwrap();
    let a = folder.path().join("logs/a.csv");
    append(&a, "t,k");
    following.expect(&[]);
    append(&a, ",v\n");
    following.expect(&[]);
    append(&a, "1,a,1\n");
    following.expect(&[1.0]);
    let hidden = folder.path().join("logs/.b.csv.tmp");
    append(&hidden, "t,k,v\n2,a,2\n");
    following.expect(&[1.0]);
    fs::rename(&hidden, folder.path().join("logs/b.csv")).unwrap();
    following.expect(&[1.0, 2.0]);
    assert_eq!(following.known.len(), 2, "each file is a partition");
}

#[test]
fn a_rotated_file_is_read_to_its_end() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n")]);
    let (a, rotated) = (folder.path().join("a.csv"), folder.path().join("a.csv.1"));
    let mut following = Following::open(folder.path(), csv("a.csv"));
    following.expect(&[1.0]);
    append(&a, "2,a,2\n3,a,3");
    fs::rename(&a, &rotated).unwrap();
    append(&a, "t,k,v\n4,a,4\n");
    following.expect(&[1.0, 2.0, 4.0, 3.0]);
    append(&a, "5,a,5\n");
    following.expect(&[1.0, 2.0, 4.0, 3.0, 5.0]);
}

#[test]
fn what_was_rotated_while_nobody_looked_is_read_first() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n")]);
    let (a, rotated) = (folder.path().join("a.csv"), folder.path().join("a.csv.1"));
    let mut following = Following::open(folder.path(), csv("a.csv"));
    following.expect(&[1.0]);
    append(&a, "2,a,2\n");
    fs::rename(&a, &rotated).unwrap();
    append(&a, "t,k,v\n3,a,3\n");
    let mut following = following.again(folder.path(), csv("a.csv"));
    following.expect(&[1.0, 2.0, 3.0]);
    let mut following = following.again(folder.path(), csv("a.csv"));
    append(&a, "4,a,4\n");
    following.expect(&[1.0, 2.0, 3.0, 4.0]);
    let names: Vec<_> = following.known.iter().map(|k| k.partition.0).collect();
    assert_eq!(names, [0, 1]);
}

#[test]
fn a_file_cut_short_is_read_anew_and_its_copy_from_where_it_was_left() {
    let (text, mut values) = long(200);
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let (a, copy) = (folder.path().join("a.csv"), folder.path().join("a.csv.1"));
    let mut following = Following::open(folder.path(), csv("a.csv*"));
    following.expect(&values);
    // What `copytruncate` does; the last line comes between the last look and the copy.
    append(&a, "200,k,200\n");
    fs::copy(&a, &copy).unwrap();
    fs::write(&a, "t,k,v\n201,k,201\n").unwrap();
    values.extend([200.0, 201.0]);
    following.expect(&values);
    append(&a, "202,k,202\n");
    values.push(202.0);
    let mut following = following.again(folder.path(), csv("a.csv*"));
    following.expect(&values);
}

#[test]
fn a_copy_is_not_read_while_the_original_is_there() {
    let (text, values) = long(200);
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let mut following = Following::open(folder.path(), csv("*.csv"));
    following.expect(&values);
    fs::copy(folder.path().join("a.csv"), folder.path().join("b.csv")).unwrap();
    following.expect(&values);
}

#[test]
fn a_file_cut_short_ends_the_pipeline_where_that_was_asked_for() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n2,a,2\n")]);
    let csv = json!({ "path": "a.csv", "follow": { "poll": "1ms", "truncated": "error" } });
    let mut following = Following::open(folder.path(), csv);
    following.expect(&[1.0, 2.0]);
    fs::write(folder.path().join("a.csv"), "t,k,v\n3,a,3\n").unwrap();
    let begun = now();
    let error = loop {
        assert!(begun.elapsed() < PATIENCE);
        if let Err(error) = following.poll() {
            break error.to_string();
        }
    };
    assert!(error.contains("a.csv") && error.contains("cut short in its place"), "{error}");
}

#[test]
fn a_file_written_anew_with_more_is_the_same_file() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n")]);
    let (a, temporary) = (folder.path().join("a.csv"), folder.path().join(".a.csv.x"));
    let mut following = Following::open(folder.path(), csv("a.csv"));
    following.expect(&[1.0]);
    append(&temporary, "t,k,v\n1,a,1\n2,a,2\n");
    fs::rename(&temporary, &a).unwrap();
    following.expect(&[1.0, 2.0]);
    assert_eq!(following.known.len(), 1);
}

#[test]
fn a_compressed_file_is_read_when_it_is_whole() {
    let (text, mut values) = long(3000);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let folder = folder(&[("a.csv.gz", &packed[..packed.len() / 2])]);
    let mut following = Following::open(folder.path(), csv("*"));
    following.expect(&[]);
    fs::write(folder.path().join("a.csv.gz"), &packed).unwrap();
    following.expect(&values);
    append(&folder.path().join("b.csv"), "t,k,v\n9,b,9\n");
    values.push(9.0);
    following.expect(&values);
}

#[test]
fn a_packed_rotated_file_is_not_read_twice() {
    let (text, values) = long(300);
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let mut following = Following::open(folder.path(), csv("a.csv*"));
    following.expect(&values);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    fs::write(folder.path().join("a.csv.1.gz"), packed.finish().unwrap()).unwrap();
    fs::remove_file(folder.path().join("a.csv")).unwrap();
    following.expect(&values);
    let mut following = following.again(folder.path(), csv("a.csv*"));
    following.expect(&values);
}

#[test]
fn a_last_line_is_whole_when_the_file_has_settled() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1")]);
    let csv = json!({ "path": "a.csv", "follow": { "poll": "1ms", "settle": "10ms" } });
    let mut following = Following::open(folder.path(), csv);
    following.expect(&[1.0]);
}

#[test]
fn a_file_that_lacks_a_column_does_not_stop_the_others() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n"), ("b.csv", b"t,k,w\n1,a,9\n")]);
    let mut following = Following::open(folder.path(), csv("*.csv"));
    following.expect(&[1.0]);
    fs::write(folder.path().join("b.csv"), "t,k,v\n2,a,2\n").unwrap();
    following.expect(&[1.0, 2.0]);
}

#[test]
fn a_record_that_is_too_long_waits_for_its_end_and_is_one_dead_letter() {
    let folder = folder(&[("a.csv", b"t,k,v\n1,a,1\n2,")]);
    let a = folder.path().join("a.csv");
    let csv = json!({ "path": "a.csv", "follow": { "poll": "1ms" }, "max_row_bytes": 50 });
    let mut following = Following::open(folder.path(), csv);
    append(&a, &"x".repeat(200));
    following.expect(&[1.0]);
    append(&a, "\n3,a,3\n");
    following.expect(&[1.0, 3.0]);
    assert_eq!(following.out.dead.len(), 1);
}

#[test]
fn what_does_not_go_together_with_following_is_refused() {
    let folder = folder(&[]);
    let csv = json!({
        "path": "a.csv", "order": "merge", "encoding": "cp949", "follow": { "poll": "0s", "settle": 3 },
    });
    let Err(errors) = declared(folder.path(), csv).try_open() else { panic!("it is refused") };
    let places: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(places.len(), 4, "{errors:?}");
    for place in ["order", "encoding", "follow.poll", "follow.settle"] {
        assert!(places.contains(&place), "{errors:?}");
    }
}
