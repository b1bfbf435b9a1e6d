//! `foreline replay`: the same readings through a pipeline as it is and as it might be, and what differs in the results.
//!
//! What a reader would get wrong:
//!
//! * Both sides are computed, from the same readings and without state. What the sinks of the pipeline hold is neither
//!   read nor touched, and a run of it may be at work meanwhile.
//! * The readings are those of the files where all sources end by themselves, otherwise those that the journal still
//!   has (`journal: { keep: .. }`).

mod compare;
mod history;
mod report;
mod spill;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_engine::{History, Options, Report, Sink, run};
use foreline_spec::{ExtraSink, Plan};

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::progress::Progress;
use crate::session::{Purpose, RowBar, load, options};
use crate::train::{given_inputs, source_path};

/// What `foreline replay` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file as it is.
    pub before: PathBuf,
    /// The pipeline file as it might be; default: the same, with other weights.
    #[arg(required_unless_present = "weights")]
    pub after: Option<PathBuf>,
    /// Other weights for a `model` step of the second file: STEP=FILE. May be given several times.
    #[arg(long, value_name = "STEP=FILE", value_parser = source_path)]
    pub weights: Vec<(String, PathBuf)>,
    /// What a source reads instead of what the files say: SOURCE=PATH. May be given several times.
    #[arg(long, value_name = "SOURCE=PATH", value_parser = source_path, conflicts_with = "journal")]
    pub input: Vec<(String, PathBuf)>,
    /// Take the readings from the journal of the first file's data directory.
    #[arg(long)]
    pub journal: bool,
    /// Compare this stream; may be given several times. Default: those that sinks of both files take.
    #[arg(long)]
    pub stream: Vec<String>,
    /// Write the rows of both sides and what differs as Parquet below this folder. Results of an earlier replay are
    /// replaced.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Exit with 1 when results differ.
    #[arg(long)]
    pub exit_code: bool,
    /// Workers and progress.
    #[command(flatten)]
    pub running: Running,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// One side of the comparison.
struct Side {
    name: &'static str,
    plan: Plan,
}

/// A side that was carried out.
struct Done {
    report: Report,
    time: Duration,
    spills: BTreeMap<String, spill::Spilled>,
}

/// Replays what the arguments say and prints what differs.
///
/// # Errors
/// When a file has mistakes, there is nothing to replay or to compare, or a run fails.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is what the command ends with"
)]
pub fn replay(arguments: &Arguments) -> Outcome {
    let before = Side { name: "before", plan: plan(arguments, Which::Before)? };
    let after = Side { name: "after", plan: plan(arguments, Which::After)? };
    let streams = streams(arguments, &before.plan, &after.plan)?;
    let history = history::find(arguments.journal, &before.plan, &after.plan)?;
    if let (Some(found), false) = (&history, arguments.running.quiet) {
        found.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    let history = history.map(|found| found.history);
    let folder = tempfile::tempdir().context("no folder for what waits to be compared")?;
    let mut done = Vec::new();
    for side in [&before, &after] {
        done.push(carry_out(arguments, side, &streams, history.as_ref(), folder.path())?);
    }
    let mut differences = Vec::new();
    for stream in &streams {
        let (one, other) = (&done[0].spills[stream], &done[1].spills[stream]);
        let changes = arguments.out.as_deref().map(|out| out.join("changes"));
        differences.push(compare::compare(stream, one, other, changes.as_deref())?);
    }
    let report = report::ReplayReport::of(&before, &after, &done, differences);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print!("{report}");
        if let Some(out) = &arguments.out {
            println!("written: {}", out.display());
        }
    }
    if arguments.exit_code && report.differs() { Err(Failure::Answer) } else { Ok(()) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Before,
    After,
}

fn plan(arguments: &Arguments, which: Which) -> Result<Plan, Failure> {
    let inputs = given_inputs(&arguments.input)?;
    let (file, weights) = match which {
        Which::Before => (&arguments.before, BTreeMap::new()),
        Which::After => {
            let here = std::env::current_dir().context("the working folder is gone")?;
            let given = arguments.weights.iter();
            let weights = given.map(|(step, path)| (step.clone(), here.join(path))).collect();
            (arguments.after.as_ref().unwrap_or(&arguments.before), weights)
        }
    };
    load(file, Format::Text, Purpose { checking: true, inputs, weights, ..Purpose::default() })
}

/// The streams to compare, which both sides must have.
fn streams(arguments: &Arguments, before: &Plan, after: &Plan) -> Result<Vec<String>, Failure> {
    if !arguments.stream.is_empty() {
        for name in &arguments.stream {
            for (plan, file) in
                [(before, Some(&arguments.before)), (after, arguments.after.as_ref())]
            {
                if plan.stream(name).is_none() {
                    let file = file.unwrap_or(&arguments.before);
                    return Err(anyhow!("'{}' has no stream '{name}'", file.display()).into());
                }
            }
        }
        return Ok(arguments.stream.clone());
    }
    let taken = |plan: &Plan| -> BTreeSet<String> {
        plan.sinks.iter().map(|s| plan.stream_name(s.from).to_owned()).collect()
    };
    let (one, other) = (taken(before), taken(after));
    let both: Vec<String> = one.intersection(&other).cloned().collect();
    if both.is_empty() {
        let list = |names: BTreeSet<String>| Vec::from_iter(names).join(", ");
        return Err(anyhow!(
            "the sinks of the two files have no stream in common ({} | {}); name one with `--stream`",
            list(one),
            list(other)
        )
        .into());
    }
    Ok(both)
}

/// Runs one side; its rows of `streams` are put aside below `folder`.
fn carry_out(
    arguments: &Arguments,
    side: &Side,
    streams: &[String],
    history: Option<&History>,
    folder: &Path,
) -> Result<Done, Failure> {
    let (mut sinks, mut spills) = (Vec::new(), BTreeMap::new());
    for stream in streams {
        let id = side.plan.stream(stream).context("both sides have the stream")?;
        let place = folder.join(format!("{}-{}", side.name, spills.len()));
        let (sink, spilled) = spill::pair(&place, side.plan.schema(id))?;
        spills.insert(stream.clone(), spilled);
        sinks.push(extra("spill", stream, Box::new(sink)));
        if let Some(out) = &arguments.out {
            let sink = foreline_connectors::parquet::folder_sink(&out.join(side.name), stream);
            sinks.push(extra(side.name, stream, sink));
        }
    }
    let graph = side.plan.graph_of(sinks).map_err(anyhow::Error::from)?;
    let bar = Progress::detect(arguments.running.quiet).counter(side.name, "rows");
    let options = Options {
        observer: Some(RowBar::of(bar, &side.plan)),
        history: history.cloned(),
        ..options(&side.plan, arguments.running.workers())
    };
    #[expect(clippy::disallowed_methods, reason = "how long the run took is for the report only")]
    let begun = std::time::Instant::now();
    let report = run(graph, &options)?;
    Ok(Done { report, time: begun.elapsed(), spills })
}

fn extra(what: &str, stream: &str, sink: Box<dyn Sink>) -> ExtraSink {
    ExtraSink { name: format!("{what} of {stream}"), stream: stream.to_owned(), sink }
}
