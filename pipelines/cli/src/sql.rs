//! `foreline sql`: asks the tables of a pipeline, while it runs or of what it has written.
//!
//! What a reader would get wrong: where the pipeline runs and serves, it is asked, and has its views; otherwise its Parquet
//! folders are read here. Both go through the same gate, so a query is the same in both.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::{Args, ValueEnum};
use foreline_connectors::parquet::parquet_bytes;
use foreline_sql::{Limits, Queries};

use crate::catalogue::Tables;
use crate::commands::Format as Diagnostics;
use crate::failure::{Failure, Outcome};
use crate::remote::Engine;
use crate::session::{Purpose, load};
use crate::table::{Table, grouped};

mod shell;

/// Rows of a table on a screen, unless asked for more.
const SHOWN_ROWS: usize = 1_000;
/// Most rows that can be asked for, as over HTTP.
const MOST_ROWS: usize = 1_000_000;
/// Longest cell of a table on a screen, in characters.
const CELL_CHARS: usize = 60;
/// How long a query may run here, where it disturbs nobody.
const TIME: Duration = Duration::from_secs(600);
/// Bytes that a query may hold here.
const MEMORY_BYTES: usize = 1 << 30;

/// What `foreline sql` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    file: PathBuf,
    /// The query. Without one there is a prompt; where the input is no terminal, it is read from there.
    #[arg(allow_hyphen_values = true)]
    query: Option<String>,
    /// The query, as psql takes it.
    #[arg(short = 'c', long = "command", value_name = "QUERY", conflicts_with = "query")]
    command: Option<String>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t = Form::Table)]
    format: Form,
    /// Write the answer into this file.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most rows of the answer; default: 1000 of a table, a million of everything else.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MOST_ROWS as u64))]
    limit: Option<u64>,
    /// The pipeline that runs there, such as http://127.0.0.1:8080. Default: where the file says that it serves, if it does. A
    /// token is taken from FORELINE_TOKEN.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Read what the pipeline has written, even if it runs.
    #[arg(long, conflicts_with = "url")]
    at_rest: bool,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// With a header.
    Csv,
    /// A list of objects.
    Json,
    /// An object a line.
    Ndjson,
    /// A Parquet file; needs `--output`.
    Parquet,
}

/// An answer, wherever it is from.
#[derive(Debug)]
struct Answer {
    epoch: Option<u64>,
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    is_truncated: bool,
    time: Duration,
}

/// Who answers.
#[derive(Debug)]
enum Source {
    Runs(Engine, String),
    AtRest {
        queries: Queries,
        /// Where queries spill; gone with the command.
        _folder: tempfile::TempDir,
    },
}

impl Source {
    fn ask(&self, sql: &str, rows: usize) -> anyhow::Result<Answer> {
        match self {
            Source::AtRest { queries, .. } => {
                let a = queries.ask_and_wait(sql, rows)?;
                Ok(Answer {
                    epoch: a.epoch,
                    schema: a.schema,
                    rows: a.rows,
                    is_truncated: a.is_truncated,
                    time: a.time,
                })
            }
            Source::Runs(engine, _) => {
                #[expect(clippy::disallowed_methods, reason = "told to whoever asked")]
                let begun = Instant::now();
                let answered = engine.query(sql, rows)?;
                if !answered.is_ok() {
                    bail!("{}", answered.detail());
                }
                let mut reader = StreamReader::try_new(&answered.body[..], None)?;
                let schema = reader.schema();
                let rows = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
                Ok(Answer {
                    epoch: answered.header("foreline-epoch").and_then(|e| e.parse().ok()),
                    schema,
                    rows,
                    is_truncated: answered.header("foreline-truncated").is_some(),
                    time: begun.elapsed(),
                })
            }
        }
    }

    /// What it is, in a line.
    fn line(&self) -> String {
        match self {
            Source::Runs(_, url) => format!("asking the pipeline that runs at {url}"),
            Source::AtRest { queries, .. } => {
                let n = queries.tables().len();
                format!(
                    "the pipeline does not run here: reading what it has written ({n} tables); views are there only while it runs"
                )
            }
        }
    }
}

/// Asks.
///
/// # Errors
/// When the file has mistakes, the query is refused, or the answer cannot be written.
pub fn sql(arguments: &Arguments) -> Outcome {
    if arguments.format == Form::Parquet && arguments.output.is_none() {
        return Err(anyhow!("a Parquet file is not for a terminal; name it with --output").into());
    }
    let source = source(arguments)?;
    let query = arguments.query.as_ref().or(arguments.command.as_ref());
    match query {
        Some(query) => one(&source, query, arguments),
        None if std::io::stdin().is_terminal() => shell::run(&source, arguments),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            one(&source, &text, arguments)
        }
    }
}

/// Asks once and writes the answer.
fn one(source: &Source, query: &str, arguments: &Arguments) -> Outcome {
    let answer = source.ask(query, most_rows(arguments))?;
    write(&answer, arguments.format, arguments.output.as_deref())?;
    Ok(())
}

fn most_rows(arguments: &Arguments) -> usize {
    let usual = if arguments.format == Form::Table { SHOWN_ROWS } else { MOST_ROWS };
    arguments.limit.map_or(usual, |n| usize::try_from(n).unwrap_or(MOST_ROWS))
}

/// The pipeline that runs, or what it has written.
fn source(arguments: &Arguments) -> Result<Source, Failure> {
    if let Some(url) = &arguments.url {
        return Ok(Source::Runs(Engine::at(url)?, url.clone()));
    }
    let purpose = Purpose { checking: true, ..Purpose::default() };
    let plan = load(&arguments.file, Diagnostics::Text, purpose)?;
    if let Some(serve) = plan.serve.as_ref().filter(|_| !arguments.at_rest) {
        let (engine, url) = Engine::of(serve)?;
        // Another pipeline may have the port: this one's tables are there by name.
        let there = engine.get("/livez").is_ok();
        if there {
            return Ok(Source::Runs(engine, url));
        }
    }
    // Whoever reads the files may read all of them.
    let tables = Tables::at_rest(&plan).for_admins();
    let is_empty = !tables.has_rows();
    let folder = tempfile::tempdir()?;
    let limits = Limits { time: TIME, memory_bytes: MEMORY_BYTES, ..Limits::default() };
    let queries = Queries::new(Arc::new(tables), limits, folder.path())?;
    if is_empty {
        return Err(anyhow!(
            "there is nothing to ask: '{}' does not run here and has no Parquet sink; start it with `foreline run` and a section 'serve'",
            arguments.file.display()
        )
        .into());
    }
    Ok(Source::AtRest { queries, _folder: folder })
}

/// Writes an answer.
fn write(answer: &Answer, form: Form, output: Option<&Path>) -> anyhow::Result<()> {
    let body = match form {
        Form::Table => table(answer)?.into_bytes(),
        Form::Csv => csv(answer)?,
        Form::Json => {
            let mut writer = arrow::json::ArrayWriter::new(Vec::new());
            answer.rows.iter().try_for_each(|rows| writer.write(rows))?;
            writer.finish()?;
            let body = writer.into_inner();
            let mut body = if body.is_empty() { b"[]".to_vec() } else { body };
            body.push(b'\n');
            body
        }
        Form::Ndjson => {
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            answer.rows.iter().try_for_each(|rows| writer.write(rows))?;
            writer.finish()?;
            writer.into_inner()
        }
        Form::Parquet => parquet_bytes(&answer.schema, &answer.rows)?,
    };
    match output {
        Some(path) => std::fs::write(path, body).with_context(|| path.display().to_string())?,
        None => {
            // Whoever reads no further, such as `head`, has what he wanted.
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&body).and_then(|()| out.flush());
        }
    }
    if answer.is_truncated && form != Form::Table {
        tell("there are more rows than the limit; raise --limit");
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "beside the answer, which may be piped")]
fn tell(what: &str) {
    eprintln!("{what}");
}

/// An answer for people.
fn table(answer: &Answer) -> anyhow::Result<String> {
    let format = FormatOptions::default().with_null("null");
    let mut table = Table::new(answer.schema.fields().iter().map(|f| f.name().clone()));
    let mut n_rows = 0_u64;
    for rows in &answer.rows {
        let columns = rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &format));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows.num_rows() {
            let cells = columns.iter().zip(rows.columns());
            let cells = cells.map(|(format, column)| match column.is_null(row) {
                true => "null".to_owned(),
                false => short(&format.value(row).to_string()),
            });
            table.push(cells);
        }
        n_rows += rows.num_rows() as u64;
    }
    let epoch = answer.epoch.map_or(String::new(), |e| format!(", epoch {e}"));
    let more = if answer.is_truncated { "first " } else { "" };
    let s = if n_rows == 1 { "" } else { "s" };
    let time = answer.time.as_secs_f64() * 1000.0;
    Ok(format!("{table}({more}{} row{s}{epoch}, {time:.0} ms)\n", grouped(n_rows)))
}

/// A cell that leaves room for others, on one line.
fn short(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > CELL_CHARS {
        line = line.chars().take(CELL_CHARS - 1).collect();
        line.push('…');
    }
    line
}

fn csv(answer: &Answer) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut body);
    if answer.rows.is_empty() {
        writer.write(&RecordBatch::new_empty(Arc::clone(&answer.schema)))?;
    }
    answer.rows.iter().try_for_each(|rows| writer.write(rows))?;
    drop(writer);
    Ok(body)
}
