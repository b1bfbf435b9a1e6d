//! Real clients, and bytes that no client sends.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::*;
use crate::query::Limits;
use crate::query::tests::plant;

/// Lets in who knows the word.
#[derive(Debug)]
struct Word(Option<&'static str>);

impl Doorkeeper for Word {
    fn is_open(&self) -> bool {
        self.0.is_none()
    }

    fn admits<'a>(&'a self, user: &'a str, password: &'a str, _: IpAddr) -> Admitting<'a> {
        Box::pin(async move {
            let fits = self.0 == Some(password) && user == "ann";
            if fits { Ok(()) } else { Err("the password is wrong".to_owned()) }
        })
    }
}

struct Bench {
    wire: Wire,
    queries: Arc<Queries>,
    _folder: tempfile::TempDir,
}

fn bench(word: Option<&'static str>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { concurrent: 2, ..Limits::default() };
    let queries = Arc::new(Queries::new(plant(), limits, &folder.path().join("spill")).unwrap());
    let address = "127.0.0.1:0".parse().unwrap();
    let wire = Wire::start(address, None, Arc::clone(&queries), Arc::new(Word(word))).unwrap();
    Bench { wire, queries, _folder: folder }
}

impl Bench {
    fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.wire.address().port()).user("ann").dbname("foreline");
        config
    }

    async fn client(&self) -> Client {
        connected(&self.config()).await.unwrap()
    }
}

async fn connected(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// The rows of a simple query as text, a line a row.
async fn simple(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("-")).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    });
    rows.collect()
}

/// SQLSTATE, message, hint and place of an error.
async fn refusal(client: &Client, sql: &str) -> (String, String) {
    let error = client.simple_query(sql).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    (error.code().code().to_owned(), error.message().to_owned())
}

#[test]
fn rows_come_in_text_and_binary() {
    let bench = bench(None);
    run(async {
        let client = bench.client().await;
        let sql = "SELECT machine, ts, \"Vib\", 3 AS n, true AS b, ARRAY[1.5, 2.5] AS list FROM readings \
                   WHERE machine = 'P-2' ORDER BY ts LIMIT 2";
        assert_eq!(
            simple(&client, sql).await,
            [
                "P-2 1970-01-01 00:00:00.000000+00 3.0 3 t {1.5,2.5}",
                "P-2 1970-01-01 00:00:01.000000+00 - 3 t {1.5,2.5}"
            ]
        );
        let rows = client.query(sql, &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>("machine"), "P-2");
        assert_eq!(rows[0].get::<_, Option<f64>>("Vib"), Some(3.0));
        assert_eq!(rows[1].get::<_, Option<f64>>("Vib"), None);
        assert_eq!(rows[0].get::<_, i64>("n"), 3);
        assert_eq!(rows[0].get::<_, Vec<f64>>("list"), [1.5, 2.5]);
        assert_eq!(*rows[0].columns()[1].type_(), Type::TIMESTAMPTZ);
        let time: std::time::SystemTime = rows[1].get("ts");
        assert_eq!(time.duration_since(std::time::UNIX_EPOCH).unwrap(), Duration::from_secs(1));
        assert_eq!(simple(&client, "SHOW foreline.epoch").await, ["7"]);
        // A number without a sign, which PostgreSQL has not.
        let sql = "SELECT rank() OVER (ORDER BY ts) AS r FROM readings WHERE machine = 'P-1'";
        assert_eq!(client.query(sql, &[]).await.unwrap()[4].get::<_, i64>("r"), 5);
    });
}

#[test]
fn values_are_given_apart() {
    let bench = bench(None);
    run(async {
        let client = bench.client().await;
        let sql =
            "SELECT count(*) AS n FROM readings WHERE machine = $1 AND \"Vib\" > $2 AND ts >= $3";
        let statement = client.prepare(sql).await.unwrap();
        let types = [Type::TEXT, Type::FLOAT8, Type::TIMESTAMPTZ];
        assert_eq!(statement.params(), types);
        let after = std::time::UNIX_EPOCH + Duration::from_secs(2);
        for (machine, least, n) in [("P-1", 1.5, 3), ("P-1", 5.0, 2), ("P-2", 1.5, 0)] {
            let rows = client.query(&statement, &[&machine, &least, &after]).await.unwrap();
            assert_eq!(rows[0].get::<_, i64>("n"), n, "{machine} {least}");
        }
        // Text stays a value, whatever it says.
        let odd = "'; SELECT 1; --";
        let none = std::time::UNIX_EPOCH;
        let rows = client.query(&statement, &[&odd, &0.0, &none]).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>("n"), 0);
        assert_eq!(
            client.query_one("SELECT $1::text AS x", &[&odd]).await.unwrap().get::<_, &str>(0),
            odd
        );
    });
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let bench = bench(None);
    run(async {
        let client = bench.client().await;
        for (sql, code, said) in [
            ("INSERT INTO readings VALUES (1)", "25006", "queries only read"),
            ("COPY readings TO 'x.csv'", "25006", "queries only read"),
            ("SELEC 1", "42601", "found"),
            ("SELECT * FROM reading", "42P01", "there is no table 'reading'"),
            ("SELECT vib FROM readings", "42703", "there is no column 'vib'"),
            ("SELECT 1/0", "22000", "zero"),
            ("SET datafusion.execution.batch_size = 1", "42704", "there is no setting"),
            ("SHOW secrets", "42704", "there is no setting 'secrets'"),
        ] {
            let (found, message) = refusal(&client, sql).await;
            assert!(
                found == code && message.to_lowercase().contains(said),
                "{sql}: {found} {message}"
            );
        }
        let error = client.query("SELECT 1,\n 2 FROM reading", &[]).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.hint(), Some("did you mean 'readings'?"));
        let place = tokio_postgres::error::ErrorPosition::Original(19);
        assert_eq!(error.position(), Some(&place));
        // What came before an error is answered, and the connection is as good as before.
        assert!(client.simple_query("SELECT 1; SELEC 2; SELECT 3").await.is_err());
        assert_eq!(simple(&client, "SELECT 1; SET jit = off; SELECT 'a;b'").await, ["1", "a;b"]);
        assert_eq!(simple(&client, " ; ").await, Vec::<String>::new());
        let begun = simple(&client, "BEGIN; SELECT 2").await;
        assert_eq!(begun, ["2"]);
        assert_eq!(refusal(&client, "SELECT nothing").await.0, "42703");
        assert_eq!(refusal(&client, "SELECT 1").await.0, "25P02");
        assert_eq!(simple(&client, "ROLLBACK; SELECT 3").await, ["3"]);
    });
}

#[test]
fn queries_end_when_they_are_cancelled_and_when_nobody_waits() {
    const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 1000000000000)";
    let bench = bench(None);
    run(async {
        let client = bench.client().await;
        client.simple_query("SET statement_timeout = 50").await.unwrap();
        let (code, message) = refusal(&client, ENDLESS).await;
        assert!(code == "57014" && message.contains("50 ms"), "{message}");
        client.simple_query("RESET statement_timeout").await.unwrap();
        let token = client.cancel_token();
        let cancelled = tokio::spawn(async move { refusal(&client, ENDLESS).await.0 });
        while !cancelled.is_finished() {
            token.cancel_query(NoTls).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(cancelled.await.unwrap(), "57014");
        let before = bench.queries.counts().cancelled;
        // Two that hang up have both places.
        for _ in 0..2 {
            let (client, connection) = bench.config().connect(NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let query = tokio::spawn(async move { client.simple_query(ENDLESS).await.map(|_| ()) });
            tokio::time::sleep(Duration::from_millis(100)).await;
            connection.abort();
            assert!(query.await.unwrap().is_err());
        }
        let client = bench.client().await;
        while client.simple_query("SELECT 1").await.is_err()
            || bench.queries.counts().cancelled < before + 2
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn clients_find_the_tables() {
    let bench = bench(None);
    run(async {
        let client = bench.client().await;
        // What `\d` of psql asks.
        let listed = "SELECT n.nspname as \"Schema\", c.relname as \"Name\", \
            CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as \"Type\", \
            pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" \
            FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' \
            AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' \
            AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;";
        let tables = simple(&client, listed).await;
        assert_eq!(tables.len(), 2, "{tables:?}");
        assert!(tables[1].starts_with("public readings table"), "{tables:?}");
        // And then of one of them, by its number.
        let number = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = 'readings'";
        let number = simple(&client, number).await.remove(0);
        let columns = format!(
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = '{number}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        );
        let columns = simple(&client, &columns).await;
        assert_eq!(columns.len(), 3, "{columns:?}");
        assert!(columns[2].starts_with("Vib double precision"), "{columns:?}");
        let told = simple(&client, "SELECT current_schema(), current_database(), version()").await;
        assert!(told[0].starts_with("public foreline PostgreSQL 16"), "{told:?}");
        let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
        assert_eq!(simple(&client, sql).await, ["lake", "readings"]);
        let sql = "SELECT current_setting('server_version_num')::int/100 as version";
        assert_eq!(simple(&client, sql).await, ["1600"]);
    });
}

#[test]
fn who_does_not_know_the_word_stays_out() {
    let bench = bench(Some("sesame"));
    run(async {
        let code = |e: tokio_postgres::Error| e.code().map(|c| c.code().to_owned());
        let wrong = connected(bench.config().password("open")).await.err().unwrap();
        assert_eq!(code(wrong).as_deref(), Some("28P01"));
        let wrong = connected(bench.config().user("bob").password("sesame")).await.err().unwrap();
        assert_eq!(code(wrong).as_deref(), Some("28P01"));
        let client = connected(bench.config().password("sesame")).await.unwrap();
        assert_eq!(simple(&client, "SELECT count(*) FROM readings").await, ["8"]);
        tokio::task::spawn_blocking(move || drop(bench)).await.unwrap();
        // The server has ended, and says so to those who are there.
        assert!(client.simple_query("SELECT 1").await.is_err());
    });
}

/// A message as it goes over the wire.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn startup() -> Vec<u8> {
    let body = [&196_608_u32.to_be_bytes()[..], b"user\0ann\0\0"].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// What comes back until the other side closes, or asks for more.
fn said(stream: &mut std::net::TcpStream, until: Option<u8>) -> String {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).is_err() {
            break;
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).unwrap();
        all.push(head[0]);
        all.extend(body);
        if Some(head[0]) == until {
            break;
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn bytes_of_strangers_end_one_connection_at_most() {
    let bench = bench(None);
    let connect = || {
        let mut stream = std::net::TcpStream::connect(bench.wire.address()).unwrap();
        stream.write_all(&startup()).unwrap();
        said(&mut stream, Some(b'Z'));
        stream
    };
    // More formats than columns, which would be looked up beyond the end.
    let mut stream = connect();
    let parse = message(b'P', b"\0SELECT 1 AS a, 2 AS b, 3 AS c\0\0\0");
    let bind = message(b'B', b"\0\0\0\0\0\0\0\x02\0\x01\0\x01");
    let rest = [message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
    stream.write_all(&[parse, bind, rest].concat()).unwrap();
    let answer = said(&mut stream, Some(b'Z'));
    assert!(answer.contains("2 formats are told for 3 columns"), "{answer}");
    // It goes on with the next one.
    stream.write_all(&message(b'Q', b"SELECT 41 + 1\0")).unwrap();
    assert!(said(&mut stream, Some(b'Z')).contains("42"));
    // A message without an end.
    let mut stream = connect();
    stream.write_all(&[&[b'Q'][..], &0x3000_0000_u32.to_be_bytes()].concat()).unwrap();
    let piece = vec![b' '; 64 << 10];
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "it is read on and on");
    // No message at all.
    let mut stream = connect();
    stream.write_all(&[0xff; 64]).unwrap();
    said(&mut stream, None);
    run(async { assert_eq!(simple(&bench.client().await, "SELECT 1").await, ["1"]) });
}
