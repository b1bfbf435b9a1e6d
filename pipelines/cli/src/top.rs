//! `foreline top` and `foreline why-stuck`: how a pipeline that runs goes, and what holds it up, in a terminal.
//!
//! What a reader would get wrong: nothing is computed here. Both show what the server of the pipeline says at
//! `/api/v1/pipeline` and `/api/v1/why-stuck`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::commands::Format;
use crate::failure::Outcome;
use crate::remote::Engine;
use crate::session::{Purpose, load, stop_on_signal};
use crate::table::{Table, grouped};

/// How often the screen is drawn.
const REDRAW: Duration = Duration::from_secs(1);
/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Where a server listens unless the file says something else.
const DEFAULT: &str = "http://127.0.0.1:8080";
/// To the first place of the screen, and everything behind it away.
const CLEAR: &str = "\x1b[H\x1b[J";
/// The other screen, without a cursor, and back again.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What `foreline top` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline that runs: its address, such as http://127.0.0.1:8080, or its file.
    #[arg(default_value = DEFAULT)]
    pipeline: String,
    /// Print it once, as plain text.
    #[arg(long)]
    once: bool,
    /// Print it once, as JSON.
    #[arg(long)]
    json: bool,
}

/// What `foreline why-stuck` takes.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// The pipeline that runs: its address, such as http://127.0.0.1:8080, or its file.
    #[arg(default_value = DEFAULT)]
    pipeline: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Shows how a pipeline goes, once or until it is told to end.
///
/// # Errors
/// When the pipeline cannot be asked.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn top(arguments: &Arguments) -> Outcome {
    let engine = engine(&arguments.pipeline)?;
    let look = || engine.get("/api/v1/pipeline").context("the pipeline cannot be asked");
    if arguments.json {
        println!("{:#}", look()?);
        return Ok(());
    }
    if arguments.once || !std::io::stdout().is_terminal() {
        print!("{}", screen(&look()?));
        return Ok(());
    }
    let first = look()?;
    let stop = stop_on_signal()?;
    let mut out = std::io::stdout();
    write!(out, "{ENTER}{CLEAR}{}", screen(&first)).map_err(anyhow::Error::from)?;
    while !stop.load(Ordering::Acquire) {
        out.flush().map_err(anyhow::Error::from)?;
        let looks = REDRAW.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if !stop.load(Ordering::Acquire) {
                std::thread::park_timeout(LOOK);
            }
        }
        let text = look().map_or_else(|e| format!("{e:#}\n"), |said| screen(&said));
        write!(out, "{CLEAR}{text}").map_err(anyhow::Error::from)?;
    }
    write!(out, "{LEAVE}").map_err(anyhow::Error::from)?;
    out.flush().map_err(anyhow::Error::from)?;
    Ok(())
}

/// Says what holds a pipeline up.
///
/// # Errors
/// When the pipeline cannot be asked.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn why_stuck(arguments: &WhyArguments) -> Outcome {
    let engine = engine(&arguments.pipeline)?;
    let said = engine.get("/api/v1/why-stuck").context("the pipeline cannot be asked")?;
    match arguments.json {
        true => println!("{said:#}"),
        false => print!("{}", reasons(&said)),
    }
    Ok(())
}

/// The pipeline at an address, or the one of a file where that says its own.
fn engine(pipeline: &str) -> anyhow::Result<Engine> {
    if pipeline.contains("://") {
        return Engine::at(pipeline);
    }
    let purpose = Purpose { checking: true, ..Purpose::default() };
    let plan = load(Path::new(pipeline), Format::Text, purpose)
        .map_err(|_| anyhow::anyhow!("'{pipeline}' is no pipeline file, nor like {DEFAULT}"))?;
    let serve = plan.serve.context("the pipeline has no section 'serve', so nobody can ask it")?;
    if serve.listen.port() == 0 {
        bail!("the pipeline listens on a free port: give the address that it printed");
    }
    Ok(Engine::of(&serve)?.0)
}

/// Everything on one screen.
fn screen(said: &Value) -> String {
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    let mut out = format!(
        "{} {}  {}  epoch {}  up {}\n",
        text(&said["name"]),
        text(&said["version"]),
        text(&said["state"]),
        whole(&said["epoch"]),
        time(&said["uptime_seconds"]),
    );
    let alerts = &said["alerts"];
    if alerts.is_object() {
        let (open, unseen) = (whole(&alerts["open"]), whole(&alerts["unacknowledged"]));
        writeln!(out, "alerts: {open} open, {unseen} not acknowledged").ok();
    }
    let memory = mebibytes(&said["memory"]["resident_bytes"]);
    let journal = mebibytes(&said["journal"]["bytes"]);
    writeln!(out, "memory: {memory} MiB, journal: {journal} MiB").ok();
    out += &held_up(&said["held_up_by"]);
    let list = |name: &str| said[name].as_array().cloned().unwrap_or_default();
    let mut table =
        Table::new(["source", "rows", "rows/s", "late", "dead", "held", "watermark", "behind"]);
    for s in list("sources") {
        let watermark = match &s["watermark"] {
            Value::Null => "-".to_owned(),
            Value::String(at) => at.clone(),
            count => count.to_string(),
        };
        let counts = ["rows", "rows_per_second", "late", "dead", "held"].map(|k| whole(&s[k]));
        let row = std::iter::once(text(&s["name"])).chain(counts);
        table.push(row.chain([watermark, time(&s["lag_seconds"])]));
    }
    write!(out, "\n{table}").ok();
    let mut table = Table::new(["step", "kind", "in", "in/s", "out", "filtered", "dead", "busy"]);
    for s in list("steps") {
        let counts = ["in", "in_per_second", "out", "filtered", "dead"].map(|k| whole(&s[k]));
        let row = [text(&s["name"]), text(&s["kind"])].into_iter().chain(counts);
        table.push(row.chain([time(&s["busy_seconds"])]));
    }
    write!(out, "\n{table}").ok();
    let mut table = Table::new(["sink", "rows", "epoch", "waiting", "retries", "state"]);
    for s in list("sinks") {
        let name = format!("{}/{}", text(&s["name"]), text(&s["stream"]));
        let counts = ["rows", "committed_epoch", "waiting_epochs", "retries"].map(|k| whole(&s[k]));
        let state = plain(s["trouble"].as_str().unwrap_or("well"));
        table.push(std::iter::once(name).chain(counts).chain([state]));
    }
    write!(out, "\n{table}").ok();
    out
}

/// What holds the pipeline up, a line each.
fn held_up(found: &Value) -> String {
    let mut out = String::new();
    for finding in found.as_array().into_iter().flatten() {
        let part = |name: &str| plain(finding[name].as_str().unwrap_or("?"));
        let since = match &finding["seconds"] {
            Value::Null => String::new(),
            seconds => format!(" ({})", time(seconds)),
        };
        writeln!(out, "{} '{}'{since}: {}", part("what"), part("name"), part("why")).ok();
    }
    out
}

/// Text without what a terminal would obey: an error may have come from elsewhere.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn reasons(said: &Value) -> String {
    let found = held_up(&said["held_up_by"]);
    let (epoch, closed) = (whole(&said["epoch"]), whole(&said["epoch_closed"]));
    let mut out = match found.is_empty() {
        true => format!("nothing holds it up: epoch {epoch} of {closed} is through\n"),
        false => format!("held up at epoch {epoch} of {closed}:\n{found}"),
    };
    let silent = held_up(&said["silent"]);
    if !silent.is_empty() {
        write!(out, "silent:\n{silent}").ok();
    }
    out
}

/// A number without what is behind its point, its thousands set apart.
fn whole(value: &Value) -> String {
    let rounded = |n: f64| n.max(0.0).round() as u64;
    let number = value.as_u64().or_else(|| value.as_f64().map(rounded));
    number.map_or("-".to_owned(), grouped)
}

fn mebibytes(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), |bytes| grouped(bytes >> 20))
}

/// Seconds as people say them.
fn time(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else { return "-".to_owned() };
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        let said = [0.04, 59.0, 61.0, 7_320.0, 200_000.0].map(|s| time(&json!(s)));
        assert_eq!(said, ["0.0 s", "59.0 s", "1 min 1 s", "2 h 2 min", "2 d 7 h"]);
        assert_eq!(time(&Value::Null), "-");
    }

    #[test]
    fn reasons_name_what_stands_still() {
        let sink =
            json!({ "what": "sink", "name": "db/hot", "why": "it takes no rows", "seconds": 3.0 });
        let said = json!({ "epoch": 4, "epoch_closed": 9, "held_up_by": [sink], "silent": [] });
        let text = "held up at epoch 4 of 9:\nsink 'db/hot' (3.0 s): it takes no rows\n";
        assert_eq!(reasons(&said), text);
        let well = json!({ "epoch": 9, "epoch_closed": 9, "held_up_by": [], "silent": [] });
        assert_eq!(reasons(&well), "nothing holds it up: epoch 9 of 9 is through\n");
    }
}
