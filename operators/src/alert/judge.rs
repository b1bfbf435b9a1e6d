//! What the conditions of a rule say of rows.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::or_kleene;
use arrow::datatypes::DataType;
use foreline_engine::{ConfigError, Fault, Resolver, Schema};

use super::{AlertConfig, SeverityConfig};
use crate::evaluate::{Fates, Typed, compile};
use crate::mistakes::Mistakes;
use crate::stateless::Fate;

/// What a row says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Says {
    /// Whether `when` holds.
    pub(super) when: Option<bool>,
    /// Whether `clear` holds, where there is one.
    pub(super) clear: Option<bool>,
    /// Whether `unless` holds.
    pub(super) unless: bool,
    /// The worst severity whose condition holds.
    pub(super) severity: Option<u8>,
}

impl Says {
    /// Whether it clears an active alert; `holds` is what `when` says with the rows before.
    pub(super) fn clears(&self, apart: bool, holds: Option<bool>) -> Option<bool> {
        match (apart, self.when) {
            // After a gap too few rows may confirm again: one that does is no reason to clear.
            (_, Some(true)) => Some(false),
            (false, _) => holds.map(|holds| !holds),
            (true, _) => self.clear,
        }
    }
}

/// The conditions of a rule.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    when: Option<Typed>,
    clear: Option<Typed>,
    unless: Option<Typed>,
    /// By severity, the worst first.
    levels: Vec<(u8, Typed)>,
}

impl Judge {
    pub(super) fn plan(
        config: &AlertConfig,
        input: &Schema,
        given: &dyn Resolver,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let mut one = |at: &str, sql: &String| mistakes.one(condition(sql, input, at, given));
        let mut maybe = |at: &str, sql: &Option<String>| match sql {
            Some(sql) => one(at, sql).map(Some),
            None => Some(None),
        };
        let when = maybe("when", &config.when);
        let clear = maybe("clear", &config.clear);
        let unless = maybe("unless", &config.unless);
        let mut levels = Vec::new();
        if let SeverityConfig::ByCondition(given_levels) = &config.severity {
            for (level, sql) in given_levels.iter().rev() {
                let at = format!("severity.{}", format!("{level:?}").to_lowercase());
                levels.extend(one(&at, sql).map(|typed| (level.number(), typed)));
            }
        }
        Some(Judge { when: when?, clear: clear?, unless: unless?, levels })
    }

    /// Looks at rows.
    pub(super) fn look(&self, rows: &RecordBatch) -> Result<Looked, Fault> {
        let mut fates = Fates::kept(rows.num_rows());
        let mut values = |typed: &Typed| -> Result<BooleanArray, Fault> {
            Ok(typed.values(rows, &mut fates)?.as_boolean().clone())
        };
        let levels = self.levels.iter().map(|(level, typed)| Ok((*level, values(typed)?)));
        let levels = levels.collect::<Result<Vec<_>, Fault>>()?;
        let when = match (&self.when, levels.split_first()) {
            (Some(when), _) => Some(values(when)?),
            (None, Some(((_, worst), others))) => {
                let any =
                    others.iter().try_fold(worst.clone(), |any, (_, one)| or_kleene(&any, one))?;
                Some(any)
            }
            (None, None) => None,
        };
        let clear = self.clear.as_ref().map(&mut values).transpose()?;
        let unless = self.unless.as_ref().map(&mut values).transpose()?;
        Ok(Looked { when, clear, unless, levels, fates: fates.into_inner() })
    }
}

/// A SQL condition.
fn condition(
    sql: &str,
    input: &Schema,
    at: &str,
    given: &dyn Resolver,
) -> Result<Typed, ConfigError> {
    let expression = compile(sql, input, at, given)?;
    if expression.data_type() == DataType::Boolean {
        return Ok(Typed { expression, data_type: DataType::Boolean });
    }
    let what = format!("the condition is {}, not true or false", expression.data_type());
    Err(ConfigError::new(at, what).help("compare it with something, such as 'temperature > 90'"))
}

/// What was found of the rows of a batch.
#[derive(Debug)]
pub(super) struct Looked {
    when: Option<BooleanArray>,
    clear: Option<BooleanArray>,
    unless: Option<BooleanArray>,
    levels: Vec<(u8, BooleanArray)>,
    fates: Option<Vec<Fate>>,
}

/// A truth value, or none.
fn value(truths: &BooleanArray, row: usize) -> Option<bool> {
    truths.is_valid(row).then(|| truths.value(row))
}

impl Looked {
    /// What a row says.
    pub(super) fn says(&self, row: usize) -> Says {
        let read = |truths: &Option<BooleanArray>| truths.as_ref().and_then(|t| value(t, row));
        let worst = self.levels.iter().find(|(_, truths)| value(truths, row) == Some(true));
        Says {
            when: read(&self.when),
            clear: read(&self.clear),
            unless: read(&self.unless) == Some(true),
            severity: worst.map(|(level, _)| *level),
        }
    }

    /// Whether `when` holds for a row.
    pub(super) fn alarms(&self, row: usize) -> bool {
        self.when.as_ref().is_some_and(|truths| value(truths, row) == Some(true))
    }

    /// Whether a row cannot be used.
    pub(super) fn is_dead(&self, row: usize) -> bool {
        self.fates.as_ref().is_some_and(|fates| fates[row] != Fate::Kept)
    }

    /// The rows that cannot be used.
    pub(super) fn dead(&self) -> impl Iterator<Item = (usize, &Fate)> {
        let fates = self.fates.iter().flatten().enumerate();
        fates.filter(|(_, fate)| **fate != Fate::Kept)
    }
}
