//! Deaths of a command whose input comes while it runs, and its clean end.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use foreline_servers::signal;

use super::{Dice, Options, Outcome, Reading, now, said, start, wait};

/// How long the last readings may take to come through, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long the command may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// How long it lives at most where it is to die before it has got anywhere.
const HASTY_MS: usize = 60;

/// How the command is made to die.
#[derive(Debug)]
pub(super) struct Deaths<'a> {
    pub(super) options: &'a Options,
    pub(super) folder: &'a Path,
    /// Where it may end itself, and the how manieth time at most.
    pub(super) places: &'a [(&'static str, usize)],
    /// How long it lives at most.
    pub(super) most_ms: usize,
    /// The same where it is to end itself.
    pub(super) named_ms: usize,
}

impl Deaths<'_> {
    /// Starts and kills the command until it was killed often enough and `done` holds; `look` is called behind each death.
    pub(super) fn until(
        &self,
        done: impl Fn() -> bool,
        outcome: &mut Outcome,
        look: impl Fn(&mut Outcome) -> Result<()>,
    ) -> Result<()> {
        let mut dice = Dice(self.options.seed);
        while outcome.kills < self.options.kills || !done() {
            self.die(&mut dice, outcome)?;
            look(outcome)?;
        }
        Ok(())
    }

    /// One life of the command.
    fn die(&self, dice: &mut Dice, outcome: &mut Outcome) -> Result<()> {
        let workers = [1, 2, 4][dice.below(3)];
        // Now and then it dies before it has got anywhere: recovery must itself survive its end.
        let is_hasty = dice.below(8) >= 6;
        let (place, upto) = self.places[dice.below(self.places.len())];
        let at = (dice.below(2) == 0).then(|| format!("{place}:{}", 1 + dice.below(upto)));
        let most = match &at {
            _ if is_hasty => HASTY_MS,
            Some(_) => self.named_ms,
            None => self.most_ms,
        };
        let mut child = start(&self.options.command, self.folder, workers, at.as_deref())?;
        let begun = now();
        let time = Duration::from_millis(20 + dice.below(most) as u64);
        let mut status = child.try_wait()?;
        // A place that it does not come to must not hold everything up.
        while status.is_none() && begun.elapsed() < time {
            wait(Duration::from_millis(5));
            status = child.try_wait()?;
        }
        if status.is_none() {
            child.kill()?;
        } else if at.is_some() {
            *outcome.places.entry(place).or_default() += 1;
        }
        let status = child.wait()?;
        if let Some(code) = status.code() {
            bail!("the command ended with {code}:\n{}", said(self.folder));
        }
        outcome.kills += 1;
        Ok(())
    }
}

/// Tells the command to stop, and waits until it has, cleanly.
pub(super) fn stop(mut child: Child, folder: &Path) -> Result<()> {
    signal("TERM", child.id())?;
    let begun = now();
    while begun.elapsed() < STOP {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "told to stop, it ended with {status}:\n{}", said(folder));
            return Ok(());
        }
        wait(Duration::from_millis(5));
    }
    child.kill()?;
    bail!("told to stop, it goes on after {STOP:?}:\n{}", said(folder))
}

pub(super) fn await_that(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = now();
    while !holds()? {
        ensure!(begun.elapsed() < PATIENCE, "{what} did not come in {PATIENCE:?}");
        wait(Duration::from_millis(50));
    }
    Ok(())
}

/// Counts readings that are there more than once.
pub(super) fn duplicates(found: &[Reading], outcome: &mut Outcome) {
    let distinct: BTreeSet<&Reading> = found.iter().collect();
    outcome.duplicated += (found.len() - distinct.len()) as u64;
}
