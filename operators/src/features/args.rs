//! The parameters of a feature: what it can be told, and what it is told.

use super::sample::number;

/// A parameter of a feature.
#[derive(Debug)]
pub struct Param {
    /// The name in the file.
    pub name: &'static str,
    /// What it means, for the manual.
    pub doc: &'static str,
    /// What it may be.
    pub kind: ParamKind,
    /// What it is unless given; `None`: it has to be given.
    pub default: Option<f64>,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// A whole number from the first to the second.
    Whole(u32, u32),
    /// A number from the first to the second.
    Number(f64, f64),
    /// True or false.
    Flag,
    /// One of these words; its value is its place among them.
    Choice(&'static [&'static str]),
}

impl Param {
    /// A parameter that has to be given.
    pub(super) const fn needed(name: &'static str, kind: ParamKind, doc: &'static str) -> Self {
        Param { name, doc, kind, default: None }
    }

    /// A parameter that is `default` unless given.
    pub(super) const fn or(
        name: &'static str,
        kind: ParamKind,
        default: f64,
        doc: &'static str,
    ) -> Self {
        Param { name, doc, kind, default: Some(default) }
    }

    /// Whether `value` is one it may be.
    #[must_use]
    pub fn fits(&self, value: f64) -> bool {
        match self.kind {
            ParamKind::Whole(least, most) => {
                value.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&value)
            }
            ParamKind::Number(least, most) => (least..=most).contains(&value),
            ParamKind::Flag => value == 0.0 || value == 1.0,
            ParamKind::Choice(words) => (0..words.len()).any(|place| number(place) == value),
        }
    }

    /// A value as a file has it.
    #[must_use]
    pub fn written(&self, value: f64) -> String {
        match self.kind {
            ParamKind::Flag => (value != 0.0).to_string(),
            ParamKind::Choice(words) => words[whole(value)].to_owned(),
            ParamKind::Whole(..) | ParamKind::Number(..) => value.to_string(),
        }
    }

    /// What it may be, in words.
    #[must_use]
    pub fn range(&self) -> String {
        match self.kind {
            ParamKind::Whole(least, most) => format!("a whole number from {least} to {most}"),
            ParamKind::Number(least, most) => match (least == f64::MIN, most == f64::MAX) {
                (true, true) => "a number".to_owned(),
                (false, true) => format!("a number of at least {least}"),
                _ => format!("a number from {least} to {most}"),
            },
            ParamKind::Flag => "true or false".to_owned(),
            ParamKind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// The parameters of a feature as it is computed, in the order of [`Feature::params`](super::Feature::params).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Args([f64; Args::MOST]);

impl Args {
    /// Most parameters of a feature.
    pub const MOST: usize = 4;

    /// The parameter at `index`, set to `value`.
    pub(super) fn set(&mut self, index: usize, value: f64) {
        self.0[index] = value;
    }

    /// The number at `index`.
    #[must_use]
    pub fn number(&self, index: usize) -> f64 {
        self.0[index]
    }

    /// The whole number at `index`.
    #[must_use]
    pub fn whole(&self, index: usize) -> usize {
        whole(self.0[index])
    }

    /// Whether the flag at `index` is set.
    #[must_use]
    pub fn flag(&self, index: usize) -> bool {
        self.0[index] != 0.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the plan lets whole numbers from 0 to 2^32 through"
)]
fn whole(value: f64) -> usize {
    value as usize
}
