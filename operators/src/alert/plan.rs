//! From what is written to a rule that can be followed.

use foreline_engine::{ConfigError, TimeDomain};

use super::condition::{Delays, Reach};
use super::life::{Flapping, Rule};
use super::{AlertConfig, FlappingConfig, SeverityConfig};
use crate::mistakes::Mistakes;

/// Most rows that must confirm: each takes up to 16 bytes of a key's state.
const MAX_K: usize = 1_000;

/// Most raises that are remembered of a key.
const MAX_CHANGES: usize = 100;

/// The rule; worth nothing where there are mistakes.
pub(super) fn rule(config: &AlertConfig, domain: TimeDomain, mistakes: &mut Mistakes) -> Rule {
    what_raises(config, mistakes);
    let deadman = mistakes.length("deadman", config.deadman, domain);
    let max_gap = mistakes.length("max_gap", config.max_gap, domain);
    if config.unless_clears && config.unless.is_none() {
        let error = ConfigError::new("unless_clears", "nothing inhibits the alert");
        mistakes.push(error.help("add 'unless'"));
    }
    let delays = Delays {
        on: mistakes.length("for", config.on_delay, domain).unwrap_or(0),
        off: mistakes.length("clear_for", config.clear_for, domain).unwrap_or(0),
        k: config.of.map_or(1, |of| of.k),
        reach: reach(config, domain, mistakes).unwrap_or(Reach::Rows(1)),
        gap: deadman.or(max_gap),
        is_deadman: deadman.is_some(),
        clears_apart: config.clear.is_some(),
    };
    Rule {
        delays,
        unless_clears: config.unless_clears,
        flapping: flapping(config, domain, mistakes),
        least: least(config, mistakes).unwrap_or(1),
    }
}

/// Refuses rules that nothing raises, or two things.
fn what_raises(config: &AlertConfig, mistakes: &mut Mistakes) {
    let by_condition = matches!(config.severity, SeverityConfig::ByCondition(_));
    if config.deadman.is_none() {
        if config.when.is_none() && !by_condition {
            let error = ConfigError::new("", "nothing says when the alert is raised");
            mistakes.push(error.help("add 'when', or 'deadman'"));
        }
        return;
    }
    let not_of_silence = [
        ("when", config.when.is_some()),
        ("clear", config.clear.is_some()),
        ("for", config.on_delay.is_some()),
        ("of", config.of.is_some()),
        ("max_gap", config.max_gap.is_some()),
        ("severity", by_condition),
        ("unless_clears", config.unless_clears),
    ];
    for (at, _) in not_of_silence.into_iter().filter(|(_, is_there)| *is_there) {
        let error = ConfigError::new(at, "silence has no rows to look at");
        mistakes.push(error.help("leave it out, or make another alert of it, without 'deadman'"));
    }
}

fn reach(config: &AlertConfig, domain: TimeDomain, mistakes: &mut Mistakes) -> Option<Reach> {
    let Some(of) = config.of else { return Some(Reach::Rows(1)) };
    let k = of.k;
    if !(1..=MAX_K).contains(&k) {
        let error = ConfigError::new("of.k", format!("'{k}' is not a number of rows"));
        mistakes.push(error.help(format!("give a number from 1 to {MAX_K}")));
    }
    match (of.rows, of.duration) {
        (Some(rows), None) if rows >= k as u64 => Some(Reach::Rows(rows)),
        (Some(rows), None) => {
            let what = format!("of '{rows}' rows there are never {k} that confirm");
            mistakes.push(ConfigError::new("of.rows", what).help("make it at least 'k'"));
            None
        }
        (None, Some(_)) => mistakes.length("of.duration", of.duration, domain).map(Reach::Time),
        (None, None) => {
            let error = ConfigError::new("of", "nothing says how far back to look");
            mistakes.push(error.help("add one of rows, duration"));
            None
        }
        (Some(_), Some(_)) => {
            let error = ConfigError::new("of", "rows and duration exclude one another");
            mistakes.push(error.help("keep one of them"));
            None
        }
    }
}

fn flapping(config: &AlertConfig, domain: TimeDomain, mistakes: &mut Mistakes) -> Option<Flapping> {
    let FlappingConfig { changes, within } = config.flapping?;
    if !(1..=MAX_CHANGES).contains(&changes) {
        let what = format!("'{changes}' is not a number of times");
        let error = ConfigError::new("flapping.changes", what);
        mistakes.push(error.help(format!("give a number from 1 to {MAX_CHANGES}")));
    }
    let within = mistakes.length("flapping.within", Some(within), domain)?;
    Some(Flapping { changes, within })
}

/// The severity that an alert has where no condition says another.
fn least(config: &AlertConfig, mistakes: &mut Mistakes) -> Option<u8> {
    match &config.severity {
        SeverityConfig::Named(level) => Some(level.number()),
        SeverityConfig::Number(number @ 1..=5) => Some(*number),
        SeverityConfig::Number(number) => {
            let error = ConfigError::new("severity", format!("'{number}' is not a severity"));
            mistakes.push(error.help("give a number from 1 (info) to 5 (critical)"));
            None
        }
        SeverityConfig::ByCondition(levels) => {
            let least = levels.keys().next().map(|level| level.number());
            if least.is_none() {
                let error = ConfigError::new("severity", "no level has a condition");
                mistakes.push(error.help("write one, such as { major: \"temperature > 90\" }"));
            }
            least
        }
    }
}

/// What to tell people.
pub(super) fn message(config: &AlertConfig) -> String {
    let condition = || match (&config.deadman, &config.when, &config.severity) {
        (Some(silence), ..) => format!("no row for {silence}"),
        (None, Some(when), _) => when.clone(),
        (None, None, SeverityConfig::ByCondition(levels)) => {
            levels.values().map(String::as_str).collect::<Vec<_>>().join(" or ")
        }
        (None, None, _) => String::new(),
    };
    config.message.clone().unwrap_or_else(condition)
}

/// What a user should know.
pub(super) fn notes(config: &AlertConfig) -> Vec<String> {
    let silence = "silence is noticed when the key's watermark passes it: a live source needs 'idle_timeout', \
                   which has the watermark of a silent key go on with the clock";
    config.deadman.iter().map(|_| silence.to_owned()).collect()
}
