//! `cargo xtask test`: everything that must hold, each step under a heading, a sum at the end.
//!
//! A step that fails does not keep the next ones from running, so that one run shows everything.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::{needs, outside};

/// Where the tests look for recorded data that is too large for the repository.
const DATA: &str = "FORELINE_DATA";

/// A step: heading, command, and what its environment has besides ours.
struct Step {
    heading: &'static str,
    command: Vec<&'static str>,
    environment: Option<(&'static str, &'static str)>,
}

/// Runs everything.
///
/// # Errors
/// When something is missing on the machine, or a step failed.
pub(crate) fn run() -> Result<()> {
    let mut out = std::io::stdout();
    let left_out = needs::meet()?;
    let data = data();
    let mut sum = Sum::default();
    let mut failed = Vec::new();
    let mut last_words = String::new();
    let nextest = needs::succeeds(&["cargo", "nextest", "--version"]);
    let wasm32 = needs::succeeds(&["sh", "-c", needs::WASM32]);
    for step in steps(nextest, wasm32) {
        writeln!(out, "\n=== {} ===\n    {}", step.heading, step.command.join(" "))?;
        let ended = run_step(&step)?;
        sum.add(&ended.sum);
        if !ended.success {
            failed.push(step.heading);
            last_words += &format!("\n=== {}: what failed ===\n{}", step.heading, ended.failures);
        }
    }
    // Again at the end, where whoever sees only the end of a long output finds it.
    writeln!(out, "{last_words}")?;
    if data.is_none() {
        writeln!(out, "SKIPPED: the tests on recorded data; {DATA} names the folder that has it")?;
    }
    for what in left_out {
        writeln!(out, "SKIPPED: {what}; it could not be installed")?;
    }
    // The sum is the last line whatever happened, so it goes out as the error where something failed.
    let line = sum.line(&failed);
    if !failed.is_empty() || sum.failed > 0 {
        bail!(line);
    }
    writeln!(out, "{line}")?;
    Ok(())
}

/// The steps, quickest answers first.
fn steps(nextest: bool, wasm32: bool) -> Vec<Step> {
    let step = |heading, command: &'static str| Step {
        heading,
        command: command.split(' ').collect(),
        environment: None,
    };
    let mut steps = vec![
        step("format", "cargo fmt --all --check"),
        step("lints", "cargo clippy --workspace --all-targets --locked -- -D warnings"),
    ];
    if wasm32 {
        // The tests of neural networks need their plugin, which is too large for the repository.
        steps.push(step("plugin of neural networks", "cargo xtask plugins onnx"));
        // What is in the repository must be what its sources make.
        steps.push(step("plugins from source", "cargo xtask plugins --compare"));
    }
    if nextest {
        // It does not run examples in documentation.
        steps.push(step("tests", "cargo nextest run --workspace --locked --no-fail-fast"));
        steps.push(step("examples", "cargo test --workspace --doc --locked --no-fail-fast"));
    } else {
        steps.push(step("tests", "cargo test --workspace --locked --no-fail-fast"));
    }
    if wasm32 {
        steps.push(step("a model from the template", "cargo xtask plugins --template"));
    }
    steps.push(Step {
        environment: Some(("RUSTDOCFLAGS", "-D warnings")),
        ..step("documentation", "cargo doc --workspace --no-deps --locked")
    });
    steps
}

/// How a step ended.
struct Ended {
    success: bool,
    sum: Sum,
    failures: String,
}

/// What was read from one output of a step.
#[derive(Default)]
struct Heard {
    sum: Sum,
    failures: Failures,
}

/// Runs a step, shows what it says, counts the tests in it and keeps what it says of failures.
fn run_step(step: &Step) -> Result<Ended> {
    let mut command = outside::command(step.command[0]);
    command.args(&step.command[1..]).envs(step.environment).current_dir(workspace());
    if std::io::stderr().is_terminal() {
        // Its output goes through us, so it cannot see the terminal itself.
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("'{}' cannot be started", step.command.join(" ")))?;
    let stdout = child.stdout.take().context("the output was asked for")?;
    let stderr = child.stderr.take().context("the output was asked for")?;
    let (one, other) = thread::scope(|scope| {
        let errors = scope.spawn(|| relay(stderr, std::io::stderr()));
        (relay(stdout, std::io::stdout()), errors.join())
    });
    let mut out = one?;
    let err = other.map_err(|_| anyhow::anyhow!("the output could not be read"))??;
    out.sum.add(&err.sum);
    let failures = err.failures.kept + &out.failures.kept;
    Ok(Ended { success: child.wait()?.success(), sum: out.sum, failures })
}

/// Copies lines, counts the tests that they tell of, and keeps those that tell of failures.
fn relay(from: impl Read, mut to: impl Write) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        let text = plain(&String::from_utf8_lossy(&line));
        heard.sum.add(&Sum::of_line(&text));
        heard.failures.hear(&text);
        line.clear();
    }
    Ok(heard)
}

/// The lines that begin to tell of a failure, and those right after them.
#[derive(Default)]
struct Failures {
    kept: String,
    follow: usize,
}

impl Failures {
    /// How many lines after the first one belong to it.
    const FOLLOW: usize = 12;
    /// What is kept of one output: a hundred failures have one cause.
    const MAX_BYTES: usize = 20_000;

    fn hear(&mut self, line: &str) {
        let trimmed = line.trim_start();
        let begins =
            ["error", "FAIL [", "TIMEOUT [", "Diff in ", "SIGKILL [", "SIGSEGV [", "SIGABRT ["];
        if begins.iter().any(|b| trimmed.starts_with(b)) || line.contains("panicked at ") {
            self.follow = Self::FOLLOW;
        } else {
            self.follow = self.follow.saturating_sub(1);
        }
        if self.follow > 0 && self.kept.len() < Self::MAX_BYTES {
            self.kept += line;
        }
    }
}

/// A line without the sequences that colour it.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// What a line of a test runner's summary says, which is nothing for any other line.
    fn of_line(line: &str) -> Sum {
        let line = line.trim();
        // `test result: ok. 3 passed; 0 failed; ..` of the standard runner, `Summary [ 1.2s] 4 tests run: 3 passed,
        // 1 failed, 0 skipped` of nextest.
        if !line.starts_with("test result:") && !line.starts_with("Summary [") {
            return Sum::default();
        }
        let words: Vec<&str> =
            line.split([' ', ';', ',']).filter(|word| !word.is_empty()).collect();
        let before = |what: &str| {
            let at = words.iter().position(|word| *word == what)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        let failed = |what| before(what).unwrap_or(0);
        Sum { passed: before("passed").unwrap_or(0), failed: failed("failed") + failed("timed") }
    }

    fn line(&self, failed: &[&str]) -> String {
        let steps = if failed.is_empty() {
            String::new()
        } else {
            format!("; failed steps: {}", failed.join(", "))
        };
        format!("{} passed, {} failed{steps}", self.passed, self.failed)
    }
}

/// The folder of recorded data, if it is there.
fn data() -> Option<PathBuf> {
    let named = std::env::var_os(DATA).map(PathBuf::from);
    Some(named.unwrap_or_else(|| workspace().join("../shared/data"))).filter(|path| path.is_dir())
}

/// The root of the repository that this was called in: checkouts may share a target folder, and so this program.
pub(crate) fn workspace() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    Path::new(&own)
        .ancestors()
        .nth(2)
        .expect("this crate lies two folders below the root")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_kept_with_what_follows() {
        let mut failures = Failures::default();
        for line in ["   Compiling a\n", "error: no\n", "  --> a.rs:1\n"] {
            failures.hear(line);
        }
        for _ in 0..20 {
            failures.hear("PASS\n");
        }
        assert!(failures.kept.starts_with("error: no\n  --> a.rs:1\nPASS\n"), "{}", failures.kept);
        assert_eq!(failures.kept.lines().count(), Failures::FOLLOW);
    }

    #[test]
    fn summaries_are_counted() {
        let cases = [
            (
                "test result: ok. 38 passed; 0 failed; 0 ignored; 0 measured; finished in 0.1s",
                38,
                0,
            ),
            ("test result: FAILED. 35 passed; 3 failed; 0 ignored; 0 measured", 35, 3),
            ("     Summary [   0.520s] 12 tests run: 12 passed, 0 skipped", 12, 0),
            (
                "     Summary [   0.5s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 0 skipped",
                9,
                3,
            ),
            ("     Summary [   0.5s] 5/12 tests run: 4 passed, 1 failed, 0 skipped", 4, 1),
            ("test metrics::tests::worked_example ... ok", 0, 0),
            ("thread panicked: 3 passed", 0, 0),
        ];
        for (line, passed, failed) in cases {
            assert_eq!(Sum::of_line(line), Sum { passed, failed }, "{line}");
        }
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.520s] \u{1b}[1m12\u{1b}[0m tests run: \u{1b}[1m12\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m skipped";
        assert_eq!(Sum::of_line(&plain(line)), Sum { passed: 12, failed: 0 });
    }

    #[test]
    fn output_is_copied_as_it_is() {
        let text = b"a\xff\ntest result: ok. 2 passed; 0 failed\nno newline";
        let mut copy = Vec::new();
        let sum = relay(&text[..], &mut copy).expect("memory can be read");
        assert_eq!(copy, text);
        assert_eq!(sum.sum, Sum { passed: 2, failed: 0 });
    }

    #[test]
    fn the_last_line_names_the_steps_that_failed() {
        let sum = Sum { passed: 3, failed: 0 };
        assert_eq!(sum.line(&[]), "3 passed, 0 failed");
        assert_eq!(sum.line(&["lints"]), "3 passed, 0 failed; failed steps: lints");
    }

    #[test]
    fn examples_are_run_whatever_the_runner() {
        let has_examples = |nextest| {
            let steps = steps(nextest, false);
            steps.iter().any(|step| {
                step.command[..2] == ["cargo", "test"] && step.command.contains(&"--workspace")
            })
        };
        assert!(has_examples(true) && has_examples(false));
    }

    #[test]
    fn the_workspace_is_this_one() {
        assert!(workspace().join("tests/xtask/Cargo.toml").is_file());
    }
}
