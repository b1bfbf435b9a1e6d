//! Encrypted connections, with certificates that were made for this test.
//!
//! The authority signed a certificate for `localhost` and its key was thrown away:
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 36500 \
//!     -subj "/CN=foreline test authority" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
//! openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out csr -subj "/CN=localhost"
//! openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -out server.pem -days 36500 \
//!     -extfile <(printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n')
//! ```

use std::fs;

use super::*;

#[test]
fn the_certificate_must_be_good_for_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", include_str!("tls/ca.pem"));
    let mut db = Postgres::start().unwrap();
    // The server reads its own files, so they lie where it may.
    for (name, text) in [
        ("server.crt", include_str!("tls/server.pem")),
        ("server.key", include_str!("tls/server.key")),
    ] {
        let path = db.data().join(name);
        fs::write(&path, text).unwrap();
        db.own(&path).unwrap();
    }
    db.sql("alter system set ssl = on").unwrap();
    db.stop().unwrap();
    db.start_again().unwrap();

    let open = |host: &str, mode: &str, tls: Value| {
        let url = db.url().replace("127.0.0.1", host) + "?sslmode=" + mode;
        sink_at(&url, json!({ "tls": tls })).open(RunId(1), 1, &schema())
    };
    assert_eq!(open("localhost", "verify-full", json!({ "ca": &ca })).unwrap(), None);
    let refused = |host: &str, tls: Value, about: &str| {
        let error = open(host, "require", tls).unwrap_err();
        assert!(matches!(error, SinkError::Fatal(_)) && said(&error).contains(about), "{error}");
    };
    refused("127.0.0.1", json!({ "ca": &ca }), "not valid for name");
    refused(
        "localhost",
        json!({ "ca": folder.path().join("none.pem") }),
        "none.pem' cannot be read",
    );
    refused("localhost", json!({ "ca": file("empty.pem", "") }), "there is no certificate in");
    let key = file("server.key", include_str!("tls/server.key"));
    refused("localhost", json!({ "cert": &ca, "key": &key }), "");
    let stranger = file("stranger.pem", include_str!("tls/server.pem"));
    refused("localhost", json!({ "ca": stranger }), "certificate");

    let mut sink = sink_at(
        &(db.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full"),
        json!({ "tls": { "ca": &ca } }),
    );
    sink.open(RunId(2), 1, &schema()).unwrap();
    let encrypted = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'foreline'";
    assert_eq!(db.sql(encrypted).unwrap(), "t");
}
