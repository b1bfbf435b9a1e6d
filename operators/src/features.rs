//! What a window can say of a column: one entry a feature, in the tables of the files beside.
//!
//! A feature looks at the values of one window that are not null, in order. It is null where it is not
//! defined (no value, one value for `std`, a constant for `skewness`) or not finite. A feature may take
//! parameters, which a file writes as a map: `autocorrelation: { lag: 2 }`; [`FeatureCall`] reads them.

use foreline_engine::Unit;

use aggregate::Aggregate;
pub use args::{Args, Param, ParamKind};
pub use call::{Call, FeatureCall};
pub(crate) use sample::Passes;
pub use sample::{Absolute, Needs, Sample};

mod aggregate;
mod amplitude;
mod args;
mod autoregression;
mod call;
mod changes;
mod disorder;
mod fourier;
mod least_squares;
mod location;
mod order;
#[cfg(test)]
mod page;
#[cfg(test)]
mod reference;
mod sample;
mod trend;
mod unit;
mod wavelet;

/// The unit of a feature, given that of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitRule {
    /// The column's.
    Same,
    /// The column's squared.
    Squared,
    /// The third power of the column's.
    Cubed,
    /// The column's by the unit of event time.
    PerTime,
    /// None: it is a ratio.
    Ratio,
    /// Degrees.
    Degrees,
    /// The column's, squared where the parameter at this place, `f_agg`, is a variance.
    Aggregate(usize),
    /// None, but the column's where the parameter at this place, the number of a coefficient, is 0.
    Term(usize),
    /// A number of rows; the feature is an `Int64`.
    Count,
    /// 1 for true and 0 for false; the feature is an `Int64`.
    Flag,
}

impl UnitRule {
    /// The unit of a feature with `args` of a column in `unit`, where event time is in `time`.
    #[must_use]
    pub fn apply(self, args: &Args, unit: Option<&Unit>, time: &Unit) -> Option<Unit> {
        match self {
            UnitRule::Same => unit.cloned(),
            UnitRule::Aggregate(place) if Aggregate::told(args, place).squares() => {
                UnitRule::Squared.apply(args, unit, time)
            }
            UnitRule::Aggregate(_) => unit.cloned(),
            UnitRule::Term(place) if args.whole(place) == 0 => unit.cloned(),
            UnitRule::Term(_) => UnitRule::Ratio.apply(args, unit, time),
            UnitRule::Squared => unit.map(|u| unit::power(u, 2)),
            UnitRule::Cubed => unit.map(|u| unit::power(u, 3)),
            UnitRule::PerTime => unit.map(|u| Unit::new(&format!("{u}/{time}"))),
            UnitRule::Ratio | UnitRule::Flag => Some(Unit::new("1")),
            UnitRule::Degrees => Some(Unit::new("deg")),
            UnitRule::Count => Some(Unit::new("{count}")),
        }
    }

    /// Whether the feature is whole: an `Int64`.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, UnitRule::Count | UnitRule::Flag)
    }
}

/// How a feature is computed. `None`, NaN and infinity become null.
pub type Compute = fn(&Sample<'_>, &Args) -> Option<f64>;

/// A feature of a column over a window.
#[derive(Debug)]
pub struct Feature {
    /// The name, which follows the column's: `<column>_<name>`.
    pub name: &'static str,
    /// What it is and its formula, for the manual.
    pub doc: &'static str,
    /// Its unit.
    pub unit: UnitRule,
    /// What it is computed from.
    pub needs: Needs,
    /// What it can be told.
    pub params: &'static [Param],
    /// Whether the first parameter has to be below the second.
    pub ascending: bool,
    /// The value.
    pub value: Compute,
}

/// The features of a theme.
#[derive(Debug)]
pub struct Theme {
    /// The heading of the manual.
    pub title: &'static str,
    /// Its features.
    pub features: &'static [Feature],
}

/// All features.
pub const THEMES: &[Theme] = &[
    amplitude::THEME,
    order::THEME,
    trend::THEME,
    changes::THEME,
    autoregression::THEME,
    location::THEME,
    disorder::THEME,
    fourier::THEME,
    wavelet::THEME,
];

impl Feature {
    /// A feature without parameters.
    const fn new(
        name: &'static str,
        unit: UnitRule,
        needs: Needs,
        doc: &'static str,
        value: Compute,
    ) -> Self {
        Feature { name, doc, unit, needs, params: &[], ascending: false, value }
    }

    /// The same with parameters.
    const fn with(self, params: &'static [Param]) -> Self {
        Feature { params, ..self }
    }

    /// The same, whose first parameter has to be below the second.
    const fn ascending(self) -> Self {
        Feature { ascending: true, ..self }
    }

    /// All features, theme by theme.
    pub fn all() -> impl Iterator<Item = &'static Feature> {
        THEMES.iter().flat_map(|theme| theme.features)
    }

    /// The feature called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Feature> {
        Self::all().find(|f| f.name == name)
    }

    /// Whether it can be named without parameters.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.params.iter().all(|p| p.default.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<_> = Feature::all().map(|f| f.name).collect();
        assert_eq!(names.len(), Feature::all().count());
    }

    #[test]
    fn parameters_fit_their_place() {
        for feature in Feature::all() {
            assert!(feature.params.len() <= Args::MOST, "{}", feature.name);
            assert!(!feature.ascending || feature.params.len() >= 2, "{}", feature.name);
            for param in feature.params {
                assert!(param.default.is_none_or(|d| param.fits(d)), "{}", feature.name);
            }
        }
    }
}
