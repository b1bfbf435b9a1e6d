//! The command line: what there is, and who does it.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong usage, 78 a pipeline file that cannot be.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foreline_plugins::COMPILE_SUBCOMMAND;

use crate::{
    check, demo, evaluate, fleet, graph, journal, logs, model, operators, people, replay, retrain,
    run, sink, sql, tap, tests, top, train, tune,
};

/// Turns machine sensor readings into features, predictions of remaining life, and alerts.
#[derive(Debug, Parser)]
#[command(name = "foreline", version, max_term_width = 100)]
struct Cli {
    /// The form of the log on standard error; FORELINE_LOG says what is written, such as warn,foreline_engine=debug.
    #[arg(long, value_enum, default_value_t = logs::Form::Pretty, global = true)]
    log: logs::Form,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole thing on a simulated pump fleet: simulate, train, run, judge.
    Demo(demo::Arguments),
    /// Looks for every mistake in a pipeline file and prints its plan.
    #[command(visible_alias = "validate")]
    Check(check::Arguments),
    /// Runs a pipeline. It ends by itself when all its sources do, otherwise on ctrl-C at an epoch boundary.
    Run(run::Arguments),
    /// Shows the rows that a source brings, as they are decoded; takes nothing from the pipeline.
    Tap(tap::Arguments),
    /// Shows how a pipeline that runs goes: sources, steps, sinks, alerts, live.
    Top(top::Arguments),
    /// Names what holds a pipeline up that runs.
    WhyStuck(top::WhyArguments),
    /// Runs the `tests:` of a pipeline file.
    Test(tests::Arguments),
    /// Draws a pipeline.
    Graph(graph::Arguments),
    /// Writes the readings of a simulated pump fleet, with the truth beside them.
    Simulate(fleet::Arguments),
    /// Fits the models of a pipeline file's `training:` and writes their weights.
    Train(train::Arguments),
    /// Searches settings of a pipeline file (`tuning:`): smoothing windows, features, parameters of models.
    Tune(tune::Arguments),
    /// Replays data whose truth is known (`evaluation:`) and prints how good the predictions are.
    Evaluate(evaluate::Arguments),
    /// Trains anew and judges the new weights beside those that are there; proposes them if they are not worse.
    Retrain(retrain::Arguments),
    /// Makes, checks, tests, measures, packs and signs models.
    Model(model::Arguments),
    /// Sends readings through a pipeline as it is and as it might be, and says what differs in the results.
    Replay(replay::Arguments),
    /// Asks the tables of a pipeline in SQL, while it runs or of what it has written.
    Sql(sql::Arguments),
    /// Makes users of the API and the dashboard, and says what they may do.
    User(people::Users),
    /// Makes and ends tokens of programs that use the API.
    Token(people::Tokens),
    /// Looks at the journal of a pipeline, and cuts off what is damaged.
    Journal(journal::Arguments),
    /// Says what a pipeline's sinks need.
    Sink(sink::Arguments),
    /// Lists the kinds of steps, sources and sinks, or describes one.
    Operators(operators::Arguments),
    /// Prints the JSON schema of the pipeline file, for editors.
    Schema,
}

/// A pipeline file and what may be set beside it.
#[derive(Debug, Args)]
pub struct File {
    /// The pipeline file.
    pub file: PathBuf,
    /// How mistakes are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How mistakes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What commands that run a dataflow have in common.
#[derive(Debug, Clone, Copy, Args)]
pub struct Running {
    /// Worker threads; default: one a core. No result depends on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Print no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Running {
    /// How many workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(256);
        self.workers.map_or_else(cores, usize::from)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    // Not part of the command line: the command starts itself to compile a plugin within limits.
    if std::env::args().nth(1).as_deref() == Some(COMPILE_SUBCOMMAND) {
        return foreline_plugins::compile_child_main();
    }
    end_quietly_when_nobody_reads();
    let Cli { log, command } = Cli::parse();
    if let Err(wrong) = logs::begin(log) {
        return wrong;
    }
    let done = match command {
        Command::Demo(a) => demo::demo(&a),
        Command::Check(a) => check::check(&a),
        Command::Run(a) => run::run(&a),
        Command::Tap(a) => tap::tap(&a),
        Command::Top(a) => top::top(&a),
        Command::WhyStuck(a) => top::why_stuck(&a),
        Command::Test(a) => tests::test(&a),
        Command::Graph(a) => graph::graph(&a),
        Command::Simulate(a) => fleet::simulate(&a),
        Command::Train(a) => train::train(&a),
        Command::Tune(a) => tune::tune(&a),
        Command::Evaluate(a) => evaluate::evaluate(&a),
        Command::Retrain(a) => retrain::retrain(&a),
        Command::Model(a) => model::model(&a),
        Command::Replay(a) => replay::replay(&a),
        Command::Sql(a) => sql::sql(&a),
        Command::User(a) => people::user(&a),
        Command::Token(a) => people::token(&a),
        Command::Journal(a) => journal::journal(&a),
        Command::Sink(a) => sink::sink(&a),
        Command::Operators(a) => operators::operators(&a),
        Command::Schema => operators::schema(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What `println!` does where standard output cannot be written is a panic; here it is an error like any other.
#[expect(clippy::print_stderr, reason = "the last word of the command")]
fn end_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if let Some(why) = text.strip_prefix("failed printing to stdout: ") {
            eprintln!("error: standard output cannot be written: {why}");
            std::process::exit(1);
        }
        usual(panic);
    }));
}
