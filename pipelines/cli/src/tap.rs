//! `foreline tap`: the rows that a source brings, as they are decoded.
//!
//! Nothing is committed or acknowledged, and no progress is kept: a tap beside a run sees rows that the run sees too, and
//! takes none away. Rows come as the source has them: not yet put in order, repeated ones included.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use foreline_connectors::Tap;
use foreline_engine::{Decoded, Poll, Source};
use foreline_spec::{Only, SourcePlan};
use serde_json::{Map, Value, json};

use crate::commands::{File, Format};
use crate::failure::{Failure, Outcome};
use crate::session::{Purpose, load, stop_on_signal};

/// What is asked of a source at a time: little, so that the first rows come soon.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long to wait when there is nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// What `foreline tap` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
    /// The source.
    source: String,
    /// End after so many rows and dead letters.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Shows rows until there were enough, the source ends, or ctrl-C.
///
/// # Errors
/// When the file has mistakes, or the source cannot be read.
pub fn tap(arguments: &Arguments) -> Outcome {
    let format = if arguments.json { Format::Text } else { arguments.file.format };
    let only = Only::Stream(arguments.source.clone());
    let purpose = Purpose { checking: true, only: Some(only), ..Purpose::default() };
    let plan = load(&arguments.file.file, format, purpose)?;
    let found = plan.sources.iter().find(|s| s.name == arguments.source);
    let planned = found.with_context(|| format!("'{}' is not a source", arguments.source))?;
    let mut source = open(planned)?;
    let stop = stop_on_signal()?;
    let (_open, never) = channel::<()>();
    let mut decoder = source.decoder();
    let mut left = arguments.rows;
    while left > 0 && !stop.load(Ordering::Acquire) {
        let polled = source.poll(CHUNK_BYTES);
        match polled.map_err(|e| anyhow!("source '{}': {e}", planned.name))? {
            Poll::Ready(chunk) => {
                let mut out = Decoded::default();
                decoder.decode(&chunk, &mut out);
                let name = source.partition_name(chunk.partition).unwrap_or_default();
                show(&out, &name, arguments.json, &mut left)?;
            }
            Poll::Pending => {
                // Nobody sends: this is a pause.
                never.recv_timeout(PAUSE).ok();
            }
            Poll::Ended => break,
        }
    }
    Ok(())
}

fn open(planned: &SourcePlan) -> Result<Box<dyn Source>, Failure> {
    let failed = |e| anyhow!("source '{}': {e}", planned.name);
    let opened = match &planned.source.tap {
        Tap::Opened => (planned.source.open)(),
        Tap::Apart(open) => open(),
        Tap::Refused(why) => {
            return Err(anyhow!(
                "source '{}' ({}) cannot be tapped: {why}",
                planned.name,
                planned.kind
            )
            .into());
        }
    };
    Ok(opened.map_err(failed)?)
}

/// Prints what was decoded, as far as there are rows `left` to print.
fn show(out: &Decoded, partition: &str, json: bool, left: &mut u64) -> Result<(), Failure> {
    let mut to = std::io::stdout().lock();
    for (rows, _) in &out.rows {
        for row in 0..rows.num_rows() {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            let members = members(rows, row).map_err(anyhow::Error::from)?;
            if json {
                writeln!(to, "{}", Value::Object(members))?;
            } else {
                writeln!(to, "{}", line(&members))?;
            }
        }
    }
    for dead in &out.dead {
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        if json {
            let dead = json!({ "reason": dead.reason.0, "detail": dead.detail, "from": partition });
            writeln!(to, "{}", json!({ "dead_letter": dead }))?;
        } else {
            writeln!(to, "dead letter ({}) in {partition}: {}", dead.reason.0, dead.detail)?;
        }
    }
    Ok(())
}

/// A row by column; what is missing is null.
fn members(rows: &RecordBatch, row: usize) -> Result<Map<String, Value>, arrow::error::ArrowError> {
    let format = FormatOptions::default();
    let mut members = Map::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let shown = ArrayFormatter::try_new(column, &format)?.value(row).to_string();
        let bare =
            matches!(field.data_type(), DataType::Float64 | DataType::Int64 | DataType::Boolean);
        let value = match column.is_null(row) {
            true => Value::Null,
            false if bare => serde_json::from_str(&shown).unwrap_or(Value::String(shown)),
            false => Value::String(shown),
        };
        members.insert(field.name().clone(), value);
    }
    Ok(members)
}

/// `column=value` for each; text from outside cannot move the terminal's cursor.
fn line(members: &Map<String, Value>) -> String {
    let shown = members.iter().map(|(name, value)| match value {
        Value::String(text) => {
            format!("{name}={}", text.chars().flat_map(char::escape_debug).collect::<String>())
        }
        other => format!("{name}={other}"),
    });
    shown.collect::<Vec<_>>().join("  ")
}
