//! One test for every option and every kind of bad record.

use std::io::Write;

use super::*;

const PLAIN: &[u8] = b"t,k,v\n1,a,0.5\n2,b,1.5\n";

fn check_plain(found: &Everything) {
    assert_eq!(found.column("t"), ["1", "2"]);
    assert_eq!(found.column("k"), ["a", "b"]);
    assert_eq!(found.column("v"), ["0.5", "1.5"]);
    assert_eq!(found.dead, []);
}

#[test]
fn plain() {
    let found = read(PLAIN, json!({}));
    check_plain(&found);
    assert_eq!(found.lines(), [2, 3]);
}

#[test]
fn line_breaks_marks_and_empty_lines() {
    check_plain(&read(b"t,k,v\r\n1,a,0.5\r\n2,b,1.5", json!({})));
    let found = read(b"\xef\xbb\xbf\n\nt,k,v\n\n1,a,0.5\n\r\n2,b,1.5\n\n", json!({}));
    check_plain(&found);
    assert_eq!(found.lines(), [5, 7]);
}

#[test]
fn delimiters_and_quotes() {
    check_plain(&read(b"t;k;v\n1;a;0.5\n2;b;1.5\n", json!({ "delimiter": ";" })));
    check_plain(&read(b"t\tk\tv\n1\ta\t0.5\n2\tb\t1.5\n", json!({ "delimiter": "\t" })));
    check_plain(&read(b"t k  v \n1 a 0.5  \n 2\tb 1.5\n", json!({ "delimiter": "blank" })));
    check_plain(&read(b"t,k,v\n'1','a',0.5\n2,b,1.5\n", json!({ "quote": "'" })));
    let found = read(b"t,k,v\n1,\"a\n\"\"x\"\"\",0.5\n2,b,1\n", json!({}));
    assert_eq!(found.column("k"), ["a\n\"x\"", "b"]);
    assert_eq!(found.lines(), [2, 4]);
    let found = read(b"t,k,v\n1,\"a,0.5\n2,b,1.5\n", json!({ "quote": "none" }));
    assert_eq!(found.column("k"), ["\"a", "b"]);
}

#[test]
fn an_open_quote_spoils_its_line_only() {
    let found = read(b"t,k,v\n1,\"a,0.5\n2,b,1.5\n", json!({}));
    assert_eq!((found.column("k"), found.dead_lines()), (vec!["b".to_owned()], vec![2]));
    assert_eq!(found.reasons(), ["bad_value"]);
    assert_eq!(found.dead[0].original.as_deref(), Some(&b"1,\"a,0.5"[..]));
}

#[test]
fn a_decimal_comma_needs_another_delimiter() {
    check_plain(&read(b"t;k;v\n1;a;0,5\n2;b;1,5\n", json!({ "delimiter": ";", "decimal": "," })));
    check_plain(&read(b"t,k,v\n1,a,\"0,5\"\n2,b,\"1,5\"\n", json!({ "decimal": "," })));
}

#[test]
fn encodings() {
    let korean = encoding_rs::EUC_KR.encode("t,k,v\n1,펌프,0.5\n2,b,1.5\n").0.into_owned();
    assert_eq!(read(&korean, json!({ "encoding": "cp949" })).column("k"), ["펌프", "b"]);
    assert_eq!(read(&korean, json!({ "encoding": "EUC-KR" })).column("k"), ["펌프", "b"]);
    let utf16: Vec<u8> =
        "\u{feff}t,k,v\n1,a,0.5\n2,b,1.5\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check_plain(&read(&utf16, json!({ "encoding": "utf-16le" })));
    let found = read(b"t,k,v\n1,\xff,0.5\n2,b,1.5\n", json!({}));
    assert_eq!((found.reasons(), found.dead_lines()), (vec!["bad_encoding"], vec![2]));
    let found = read(b"t,k,v\n1,\xff\xff,0.5\n2,b,1.5\n", json!({ "encoding": "cp949" }));
    assert_eq!(found.reasons(), ["bad_encoding"]);
    let folder = folder(&[("a.csv", &utf16)]);
    let error = declared(folder.path(), json!({ "path": "a.csv" })).error();
    assert!(error.contains("encoding: utf-16le"), "{error}");
}

#[test]
fn compression() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(PLAIN).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(PLAIN, 3).unwrap();
    for (name, bytes, how) in [
        ("a.csv.gz", &gzip, "auto"),
        ("a.csv", &gzip, "auto"),
        ("a.csv", &gzip, "gzip"),
        ("a.csv.zst", &zstd, "auto"),
        ("a.csv", &zstd, "auto"),
        ("a.csv", &zstd, "zstd"),
    ] {
        let folder = folder(&[(name, bytes)]);
        check_plain(
            &declared(folder.path(), json!({ "path": name, "compression": how })).read_by(4),
        );
    }
    let folder = folder(&[("a.csv.gz", &gzip[..gzip.len() - 9])]);
    let error = declared(folder.path(), json!({ "path": "a.csv.gz" })).error();
    assert!(error.contains("a.csv.gz"), "{error}");
}

#[test]
fn nulls() {
    let found = read(b"t,k,v\n1,a,\n2,b,NaN\n3,c, NA \n4,d,null\n5,e,nAn\n6,f,-\n", json!({}));
    assert_eq!(found.rows.column(2).null_count(), 5);
    assert_eq!(found.dead_lines(), [7]);
    let found = read(b"t,k,v\n1,a,-999\n2,b,-\n3,c,1\n", json!({ "null": ["-999", "-"] }));
    assert_eq!((found.rows.column(2).null_count(), found.sum("v")), (2, 1.0));
}

#[test]
fn records_that_cannot_be_used() {
    let text = b"t,k,v\n1,a\n1,a,1,1\n1,a,x\n1,a,inf\n,a,1\nx,a,1\n1,,1\nt,k,v\n7,a,1\n";
    let found = read(text, json!({}));
    assert_eq!(found.dead_lines(), [2, 3, 4, 5, 6, 7, 8, 9]);
    let reasons = [
        "field_count",
        "field_count",
        "bad_value",
        "non_finite",
        "missing_time",
        "bad_value",
        "missing_key",
        "bad_value",
    ];
    assert_eq!(found.reasons(), reasons);
    assert_eq!(found.dead[2].detail, "column 'v': 'x' is not a number");
    assert_eq!(found.dead[7].detail, "the header is repeated");
    assert_eq!(found.dead[1].original.as_deref(), Some(&b"1,a,1,1"[..]));
    assert_eq!((found.column("t"), found.lines()), (vec!["7".to_owned()], vec![10]));
}

#[test]
fn extra_fields_and_declared_places() {
    let found = read(b"t,k,v\n1,a,0.5,x\n2,b,1.5\n", json!({ "extra_fields": "ignore" }));
    check_plain(&found);
    let folder = folder(&[("a.csv", b"x,1,a,0.5\nx,2,b,1.5\nx,3\n")]);
    let columns = json!({
        "t": { "type": "int64", "field": 2 }, "k": { "type": "string", "field": 3 }, "v": { "type": "float64", "field": 4 },
    });
    let csv = json!({ "path": "a.csv", "header": false });
    let found = Declared::new(folder.path(), csv, &columns, &["k"], "t").read();
    assert_eq!(
        (found.column("k"), found.dead_lines()),
        (vec!["a".to_owned(), "b".to_owned()], vec![3])
    );
}

#[test]
fn comments_and_lines_at_the_top() {
    let text = b"made by \"x\n\n# one\nt,k,v\n#,\"two\n1,a,0.5\n2,b,1.5\n";
    let found = read(text, json!({ "skip_lines": 1, "comment": "#" }));
    check_plain(&found);
    assert_eq!(found.lines(), [6, 7]);
}

#[test]
fn rows_that_are_too_long() {
    let long = "9".repeat(100_000);
    let text = format!("t,k,v\n1,a,{long}\n2,b,1.5\n1,\"{long}\n3,c,2\n");
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let source = declared(folder.path(), json!({ "path": "a.csv", "max_row_bytes": 20 }));
    let found = source.read();
    assert_eq!((found.dead_lines(), found.reasons()), (vec![2, 4], vec!["row_too_long"; 2]));
    assert_eq!(found.dead[0].original.as_ref().unwrap().len(), 20);
    assert_eq!(found, source.read_by(7));
}

#[test]
fn all_types_and_the_row_and_file() {
    let folder = folder(&[("run-7.csv.gz", b"at,ok,note\n1.5,yes,x\n\n2,0,NA\n")]);
    let columns = json!({
        "n": { "type": "int64", "field": "#row" },
        "run": { "type": "string", "field": "#file" },
        "at": { "type": "timestamp", "format": "epoch_s" },
        "ok": "bool",
        "note": "string",
    });
    let csv = json!({ "path": "run-7.csv.gz", "compression": "none" });
    let found = Declared::new(folder.path(), csv, &columns, &["run"], "n").read();
    assert_eq!(found.column("n"), ["0", "2"]);
    assert_eq!(found.column("run"), ["run-7", "run-7"]);
    assert_eq!(found.column("ok"), ["true", "false"]);
    assert_eq!(found.column("note"), ["x", ""]);
    let at = found.rows.column(2).as_primitive::<TimestampNanosecondType>();
    assert_eq!(at.values()[..], [1_500_000_000, 2_000_000_000]);
}

#[test]
fn parts_of_a_name_are_columns() {
    let files: &[(&str, &[u8])] =
        &[("g1_sensor_1.csv", b"1,0.5\n2,1.5\n"), ("g2_left.csv.gz", b"1,2.5\n")];
    let folder = folder(files);
    let columns = json!({ "machine": "string", "sensor": "string", "t": "int64", "v": "float64" });
    let csv = json!({ "path": ".", "names": "{machine}_{sensor}", "header": false, "compression": "none" });
    let source = Declared::new(folder.path(), csv, &columns, &["machine", "sensor"], "t");
    let found = source.read();
    assert_eq!(found.column("machine"), ["g1", "g1", "g2"]);
    assert_eq!(found.column("sensor"), ["sensor_1", "sensor_1", "left"]);
    assert_eq!(found.column("v"), ["0.5", "1.5", "2.5"]);
    std::fs::write(folder.path().join("truth.csv"), "1,1\n").unwrap();
    let error = source.error();
    assert!(
        error.contains("truth.csv' is not called as `names: {machine}_{sensor}` says"),
        "{error}"
    );
}

#[test]
fn headers_of_files_may_differ_in_order_but_not_lack_a_field() {
    let folder = folder(&[("a.csv", PLAIN), ("b.csv", b"v,note,t,k\n9,x,3,c\n")]);
    let found = declared(folder.path(), json!({ "path": "*.csv" })).read();
    assert_eq!(found.column("v"), ["0.5", "1.5", "9.0"]);
    let missing = super::folder(&[("a.csv", b"t,k,Vel\n")]);
    let columns = json!({ "t": "int64", "k": "string", "vel": "float64" });
    let csv = json!({ "path": "a.csv" });
    let error = Declared::new(missing.path(), csv.clone(), &columns, &["k"], "t").error();
    assert!(
        error.contains("has no field 'vel' (did you mean 'Vel'?); its header has 't', 'k', 'Vel'"),
        "{error}"
    );
    let twice = super::folder(&[("a.csv", b"t,k,vel,vel\n")]);
    let error = Declared::new(twice.path(), csv, &columns, &["k"], "t").error();
    assert!(error.contains("has the field 'vel' twice"), "{error}");
}

#[test]
fn files_of_a_folder_in_order() {
    let files: &[(&str, &[u8])] = &[
        ("c.csv", b"t,k,v\n1,c,1\n"),
        ("a.csv", b"t,k,v\nx,a,1\n2,a,1\n"),
        ("b.csv", b""),
        ("_notes", b"none"),
    ];
    let folder = folder(files);
    let keys = |csv| declared(folder.path(), csv).read().column("k");
    assert_eq!(keys(json!({ "path": "." })), ["c", "a"]);
    assert_eq!(keys(json!({ "path": "[ac].csv", "order": "name" })), ["a", "c"]);
    let error = declared(folder.path(), json!({ "path": "*.txt" })).error();
    assert_eq!(error, "no file matches '*.txt'");
    assert!(
        declared(folder.path(), json!({ "path": "none.csv" })).error().contains("no file matches")
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let csv = json!({
        "path": "a[", "delimiter": "ab", "quote": "", "decimal": ";", "encoding": "klingon", "comment": "",
        "max_row_bytes": 0, "header": false,
    });
    let columns = json!({
        "t": { "type": "int64", "format": "epoch_s" },
        "k": { "type": "string", "field": "machine" },
        "v": { "type": "float64", "field": "#row" },
        "w": { "type": "timestamp", "zone": "Mars/Base" },
        "x": { "type": "float64", "field": 0 },
        "y": { "type": "int64", "field": "#file" },
    });
    let errors =
        Declared::new(Path::new("/p"), csv, &columns, &["k"], "t").try_open().err().unwrap();
    let at: Vec<&str> = errors.iter().map(|e| e.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "path",
            "delimiter",
            "quote",
            "decimal",
            "comment",
            "max_row_bytes",
            "encoding",
            "columns.t.format",
            "columns.k.field",
            "columns.v.field",
            "columns.w.zone",
            "columns.x.field",
            "columns.y.field",
        ]
    );
}

#[test]
fn a_file_that_changed_is_not_read_again() {
    let folder = folder(&[("a.csv", PLAIN)]);
    let mut source = declared(folder.path(), json!({ "path": "a.csv" })).open();
    let Poll::Ready(chunk) = source.poll(1 << 20).unwrap() else { panic!("there are rows") };
    std::fs::write(folder.path().join("a.csv"), b"t,k,v\n").unwrap();
    let error = source.read(chunk.partition, chunk.range).unwrap_err().to_string();
    assert!(error.contains("has changed since it was read: it had 22 bytes and has 6"), "{error}");
}
