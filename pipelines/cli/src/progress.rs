//! Progress of long work, on a terminal only.
//!
//! Bars go to standard error, so that a report on standard output can be piped. They are silent with `--quiet`,
//! when standard error is no terminal, and on a terminal that cannot move its cursor (`TERM=dumb`). `NO_COLOR`
//! (set and not empty) takes the colour away.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Often enough to look alive, seldom enough to cost nothing.
const REDRAWS_PER_SECOND: u8 = 10;
/// How often a spinner turns.
const SPIN_MS: u64 = 120;

/// Whether and how progress is shown; made once, at the start of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    shown: bool,
    colored: bool,
}

impl Progress {
    /// As the terminal and the environment have it; `quiet` is the user's `--quiet`.
    #[must_use]
    pub fn detect(quiet: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Progress {
            shown: !quiet && !dumb && std::io::stderr().is_terminal(),
            colored: !is_set("NO_COLOR"),
        }
    }

    /// Shows nothing, whatever the terminal.
    #[must_use]
    pub fn silent() -> Self {
        Progress { shown: false, colored: false }
    }

    /// A bar for `total` pieces of work, `unit` a plural: `bar("simulating", 1_000, "readings")`.
    #[must_use]
    pub fn bar(self, what: &str, total: u64, unit: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(total), self.target());
        bar.set_style(style(&self.bar_template(unit)));
        bar.set_prefix(what.to_owned());
        Bar(bar)
    }

    /// A count of pieces of work whose total nobody knows: `counter("running", "rows")`.
    #[must_use]
    pub fn counter(self, what: &str, unit: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        let unit = unit.replace(['{', '}'], "");
        bar.set_style(style(&format!(
            "{{prefix:<12}} {{human_pos}} {unit} {{per_sec}} {{elapsed}}"
        )));
        bar.set_prefix(what.to_owned());
        Bar(bar)
    }

    /// A turning mark for work whose length nobody knows; [`Bar::say`] puts words beside it.
    #[must_use]
    pub fn spinner(self, what: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        bar.set_style(style("{spinner} {prefix} {wide_msg} {elapsed}"));
        bar.set_prefix(what.to_owned());
        if self.shown {
            bar.enable_steady_tick(Duration::from_millis(SPIN_MS));
        }
        Bar(bar)
    }

    fn target(self) -> ProgressDrawTarget {
        if self.shown {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        }
    }

    fn bar_template(self, unit: &str) -> String {
        let bar = if self.colored { "{bar:30.cyan/dim}" } else { "{bar:30}" };
        // Braces in the unit would be read as placeholders.
        let unit = unit.replace(['{', '}'], "");
        format!("{{prefix:<12}} {bar} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}}")
    }
}

/// A template of this file, each of which the tests parse; the plain style stands in for one that does not.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One piece of long work. It vanishes when dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// `done` of `total` pieces are done; for callers that learn the total late.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// `done` pieces are done; for counters.
    pub fn count(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Words beside the bar.
    pub fn say(&self, words: impl Into<String>) {
        self.0.set_message(words.into());
    }

    /// The work is done: the bar vanishes, so that the report stands alone.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_shows_nothing() {
        assert!(!Progress::detect(true).shown);
        assert!(!Progress::silent().shown);
        assert!(Progress::silent().bar("simulating", 10, "readings").0.is_hidden());
    }

    #[test]
    fn templates_parse() {
        for colored in [false, true] {
            for unit in ["readings", "{pos}"] {
                let template = Progress { shown: true, colored }.bar_template(unit);
                assert!(ProgressStyle::with_template(&template).is_ok(), "{template}");
                assert_eq!(template.contains("cyan"), colored);
            }
        }
    }

    #[test]
    fn a_bar_follows_what_it_is_told() {
        let bar = Progress::silent().bar("simulating", 10, "readings");
        bar.set(3, 20);
        assert_eq!((bar.0.position(), bar.0.length()), (3, Some(20)));
    }
}
