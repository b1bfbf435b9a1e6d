//! `foreline tap`: the rows that a source brings, as they are decoded.
//!
//! Nothing is committed or acknowledged, and no progress is kept: a tap beside a run sees rows that the run sees too, and
//! takes none away. Rows come as the source has them: not yet put in order, repeated ones included.

use std::io::Write as _;
use std::iter::once;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
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
/// A list of so many values is shown whole on a line.
const SAMPLES_WHOLE: usize = 8;
/// How many values of a longer one are.
const SAMPLES_BEGIN: usize = 4;

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
    /// One JSON object a line; waveforms whole.
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
fn members(rows: &RecordBatch, row: usize) -> Result<Map<String, Value>, ArrowError> {
    let mut members = Map::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let value = match column.as_list_opt::<i32>() {
            Some(lists) if lists.is_valid(row) => {
                let items = lists.value(row);
                Value::Array(values(&items, 0..items.len())?)
            }
            _ => values(column, once(row))?.pop().unwrap_or_default(),
        };
        members.insert(field.name().clone(), value);
    }
    Ok(members)
}

/// Values of an array as JSON: numbers and truth values bare, all else as text.
fn values(
    array: &dyn Array,
    places: impl Iterator<Item = usize>,
) -> Result<Vec<Value>, ArrowError> {
    use DataType as D;
    let bare = matches!(array.data_type(), D::Float32 | D::Float64 | D::Int64 | D::Boolean);
    let format = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &format)?;
    let value = |place| {
        if array.is_null(place) {
            return Value::Null;
        }
        let shown = formatter.value(place).to_string();
        match bare {
            true => serde_json::from_str(&shown).unwrap_or(Value::String(shown)),
            false => Value::String(shown),
        }
    };
    Ok(places.map(value).collect())
}

/// `column=value` for each; text from outside cannot move the terminal's cursor.
fn line(members: &Map<String, Value>) -> String {
    let shown = members.iter().map(|(name, value)| match value {
        Value::String(text) => {
            format!("{name}={}", text.chars().flat_map(char::escape_debug).collect::<String>())
        }
        Value::Array(samples) => format!("{name}={}", list(samples)),
        other => format!("{name}={other}"),
    });
    shown.collect::<Vec<_>>().join("  ")
}

/// A list on a line: whole where it is short, else how it begins and how long it is.
fn list(samples: &[Value]) -> String {
    let n = samples.len();
    let n_shown = if n <= SAMPLES_WHOLE { n } else { SAMPLES_BEGIN };
    let mut shown: Vec<String> = samples[..n_shown].iter().map(Value::to_string).collect();
    if n_shown < n {
        shown.push(format!("… {n} samples"));
    }
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, ListArray, StringArray};
    use arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn a_waveform_is_whole_as_json_and_short_on_a_line() {
        let burst = |n: u16| Some((0..n).map(|i| Some(f32::from(i) / 10.0)).collect::<Vec<_>>());
        let waves =
            ListArray::from_iter_primitive::<Float32Type, _, _>([burst(3), burst(4096), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("machine", Arc::new(StringArray::from(vec!["a\n", "b", "c"]))),
            ("v", Arc::new(waves)),
            ("t", Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::NAN)]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let first = members(&rows, 0).unwrap();
        assert_eq!(
            Value::Object(first.clone()),
            json!({ "machine": "a\n", "v": [0.0, 0.1, 0.2], "t": 0.5 })
        );
        assert!(line(&first).contains("v=[0.0, 0.1, 0.2]"), "{}", line(&first));
        assert!(line(&first).contains("machine=a\\n"), "{}", line(&first));
        let second = members(&rows, 1).unwrap();
        assert_eq!(second["v"].as_array().map(Vec::len), Some(4096));
        assert!(
            line(&second).contains("v=[0.0, 0.1, 0.2, 0.3, … 4096 samples]"),
            "{}",
            line(&second)
        );
        assert_eq!(members(&rows, 2).unwrap()["v"], Value::Null);
    }
}
