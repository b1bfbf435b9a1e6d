//! Several files at once.

use super::*;

#[test]
fn records_of_all_files_come_in_the_order_of_time() {
    let folder = folder(&[
        ("a.csv", b"t,k,v\n1,a,1\n3,a,2\nx,a,3\n5,a,4\n"),
        ("b.csv", b"v,k,t\n5,b,1\n6,b,2\n7,b,4\n8,b,5\n"),
    ]);
    let source = declared(folder.path(), json!({ "path": "*.csv", "order": "merge" }));
    let found = source.read();
    assert_eq!(found.column("v"), ["1.0", "5.0", "6.0", "2.0", "7.0", "4.0", "8.0"]);
    assert_eq!(found.lines(), [1, 2, 3, 4, 6, 7, 8]);
    assert_eq!(found.dead_lines(), [5]);
    assert!(found.dead[0].detail.contains("a.csv:4: column 't': 'x'"), "{}", found.dead[0].detail);
    assert_eq!(found, source.read_by(1));
}

#[test]
fn a_merge_by_row_number() {
    let folder = folder(&[("a.csv", b"1\n2\n"), ("b.csv", b"3\n4\n")]);
    let columns = json!({
        "n": { "type": "int64", "field": "#row" },
        "file": { "type": "string", "field": "#file" },
        "g": "float64",
    });
    let csv = json!({ "path": "*.csv", "order": "merge", "header": false });
    let found = Declared::new(folder.path(), csv, &columns, &["file"], "n").read();
    assert_eq!(found.column("g"), ["1.0", "3.0", "2.0", "4.0"]);
    assert_eq!(found.column("file"), ["a", "b", "a", "b"]);
}
