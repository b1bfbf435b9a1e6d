//! What the file says of a model in operation: its versions, which of them acts on which rows, and which score beside it.
//!
//! What a reader would get wrong: all versions have the outputs of the champion, in its order, so that a swap changes no
//! column. A shadow has columns of its own from the start, and they are null while there is no version of its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray as _, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use foreline_engine::{Batch, Column, ConfigError, Fault, Resolver, Schema, type_name};

use super::config::{CanaryConfig, ModelConfig, OnError, RouteConfig};
use super::drift::{DRIFTED, PSI};
use super::plan::{PROVENANCE, Version, append};
use super::warn::OUTSIDE_RANGE;
use crate::sandbox::OutputKind;

/// The version that the step's own `plugin` and `weights` are.
pub const CHAMPION: &str = "champion";
/// Most versions of a step in the file, and as many that came over HTTP. Each takes an instance on every worker.
pub(super) const MAX_VERSIONS: usize = 16;
/// Bytes of the name of a version, which is part of names of columns.
pub(super) const MAX_VERSION_NAME_BYTES: usize = 64;

/// A model and its versions over one input.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) input: Schema,
    pub(super) output: Schema,
    pub(super) on_error: OnError,
    /// The versions of the file, the champion among them.
    pub(super) versions: BTreeMap<String, Arc<Version>>,
    /// Versions that score every row, in the order of their columns.
    pub(super) shadows: Vec<String>,
    pub(super) route: Option<Route>,
    /// Which version acts, by the file.
    pub(super) standing: Standing,
    /// Whether the file has the key `versions`, so that state is kept by version.
    pub(super) has_versions: bool,
}

/// Which version acts on rows that no route decides about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub(super) acts: String,
    /// A version and the share of keys that it acts on.
    pub(super) canary: Option<(String, f64)>,
}

impl Standing {
    /// The version that acts on a key.
    pub(super) fn of(&self, hash: u64) -> &str {
        match &self.canary {
            Some((version, share)) if in_share(hash, *share) => version,
            _ => &self.acts,
        }
    }
}

/// Whether a key is in a share of all keys. A key in a share is in every larger one.
pub(super) fn in_share(hash: u64, share: f64) -> bool {
    // The hash decides about shards by its first byte and must not decide by it here: mixed as SplitMix64 does.
    let mut mixed = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let place = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    place < share
}

/// How rows name their version.
#[derive(Debug)]
pub(super) struct Route {
    column: usize,
    to: Option<BTreeMap<String, String>>,
}

impl Route {
    /// The version that each row names, if it names one.
    pub(super) fn named(&self, batch: &Batch) -> Result<Vec<Option<String>>, Fault> {
        let texts = cast(batch.rows.column(self.column), &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        let named = |text: &str| match &self.to {
            Some(to) => to.get(text).cloned(),
            None => Some(text.to_owned()),
        };
        Ok(texts.iter().map(|text| text.and_then(named)).collect())
    }
}

impl Operation {
    /// Lets the other versions of the file in and checks that all of it fits together.
    pub(super) fn new(
        config: &ModelConfig,
        champion: Version,
        input: &Schema,
        given: &dyn Resolver,
        notes: &mut Vec<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let champion = Arc::new(champion);
        let mut versions = BTreeMap::from([(CHAMPION.to_owned(), Arc::clone(&champion))]);
        for (name, version) in config.versions.iter().flatten() {
            let at = format!("versions.{name}");
            if let Err(e) = check_version_name(name) {
                errors.push(e.under(&at));
                continue;
            }
            if version.plugin.is_none() && version.weights.is_none() && version.config.is_none() {
                let error = ConfigError::new(at, "the version is the champion once more");
                errors.push(error.help("give it 'weights', a 'plugin' or a 'config' of its own"));
                continue;
            }
            let read = Version::read(&config.version(version), input, given, notes)
                .and_then(|v| same_outputs(&champion, &v).map(|()| v).map_err(|e| vec![e]));
            match read {
                Ok(version) => drop(versions.insert(name.clone(), Arc::new(version))),
                Err(found) => errors.extend(found.into_iter().map(|e| e.under(&at))),
            }
        }
        if versions.len() > MAX_VERSIONS {
            let what = format!("{} versions are too many", versions.len());
            let error = ConfigError::new("versions", what);
            errors.push(error.help(format!("keep {MAX_VERSIONS} of them, the champion included")));
        }
        let names = Names::of(config);
        errors.extend(names.check_are_there(config));
        let route = config.route.as_ref().and_then(|r| route(r, input, &names, &mut errors));
        let canary = config.canary.as_ref().and_then(|c| canary(c, &names, &mut errors));
        let shadows: Vec<String> = config.shadow.0.iter().cloned().collect();
        let output = output(&champion, &shadows, input, &mut errors);
        let Some(output) = output.filter(|_| errors.is_empty()) else { return Err(errors) };
        Ok(Operation {
            input: input.clone(),
            output,
            on_error: config.on_error,
            versions,
            shadows,
            route,
            standing: Standing { acts: CHAMPION.to_owned(), canary },
            has_versions: config.versions.is_some(),
        })
    }

    pub(super) fn champion(&self) -> &Version {
        &self.versions[CHAMPION]
    }

    /// Whether no version keeps state, so that corrected rows can be scored like any other.
    pub(super) fn is_stateless(&self) -> bool {
        self.versions.values().all(|v| v.recipe.state_width == 0)
    }

    /// What the result depends on: the digest of every version.
    pub(super) fn depends_on(&self) -> Vec<String> {
        let champion = format!("model {}", self.champion().recipe.digest);
        let others = self.versions.iter().filter(|(name, _)| *name != CHAMPION);
        let others = others.map(|(name, v)| format!("version {name} {}", v.recipe.digest));
        std::iter::once(champion).chain(others).collect()
    }

    /// Whether a version that comes while the step runs can take part.
    pub(super) fn accepts(&self, version: &Version) -> Result<(), ConfigError> {
        same_outputs(self.champion(), version)?;
        if self.is_stateless() && version.recipe.state_width > 0 {
            let what = "the version keeps state, and no version of the file does";
            return Err(ConfigError::new("", what).help(
                "what is below counts on rows that can be scored again; put it into the file's 'versions'",
            ));
        }
        Ok(())
    }
}

/// The names that a configuration may use.
struct Names(BTreeSet<String>);

impl Names {
    fn of(config: &ModelConfig) -> Self {
        let own = config.versions.iter().flat_map(BTreeMap::keys).cloned();
        // A shadow may be one that is yet to come.
        let to_come = config.shadow.0.iter().cloned();
        Names(own.chain(to_come).chain([CHAMPION.to_owned()]).collect())
    }

    fn check(&self, at: &str, name: &str) -> Result<(), ConfigError> {
        if self.0.contains(name) {
            return Ok(());
        }
        let error = ConfigError::new(at, format!("the model has no version '{name}'"));
        Err(error.unknown(name, self.0.iter().cloned()))
    }

    /// Without `versions` there is nothing to route to.
    fn check_are_there(&self, config: &ModelConfig) -> Vec<ConfigError> {
        let uses = [
            ("shadow", !config.shadow.0.is_empty()),
            ("route", config.route.is_some()),
            ("canary", config.canary.is_some()),
        ];
        let used = uses.into_iter().filter(|(_, used)| *used && config.versions.is_none());
        let mut errors: Vec<ConfigError> = used
            .map(|(at, _)| {
                ConfigError::new(at, "the model has no other versions")
                    .help("add them: versions: { next: { weights: models/next.weights } }")
            })
            .collect();
        for name in config.shadow.0.iter().filter(|name| *name != CHAMPION) {
            errors.extend(check_version_name(name).err().map(|e| e.under("shadow")));
        }
        errors
    }
}

/// Names of versions are parts of names of columns.
pub(super) fn check_version_name(name: &str) -> Result<(), ConfigError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name == CHAMPION {
        let what = format!("'{CHAMPION}' is what stands beside 'versions'");
        return Err(ConfigError::new("", what).help("choose another name"));
    }
    if name.is_empty() || name.len() > MAX_VERSION_NAME_BYTES || !name.chars().all(fits) {
        let shown: String = name.chars().take(MAX_VERSION_NAME_BYTES).collect();
        let error = ConfigError::new("", format!("'{shown}' is no name of a version"));
        return Err(error.help(format!(
            "use lower-case letters, digits and '_', at most {MAX_VERSION_NAME_BYTES}"
        )));
    }
    Ok(())
}

/// A swap must change no column.
fn same_outputs(champion: &Version, version: &Version) -> Result<(), ConfigError> {
    let same = champion.outputs.len() == version.outputs.len()
        && champion
            .outputs
            .iter()
            .zip(&version.outputs)
            .all(|(a, b)| a.0 == b.0 && same_kind(&a.1, &b.1) && a.2 == b.2);
    if same {
        return Ok(());
    }
    let told = |v: &Version| {
        let each = v.outputs.iter().map(|(name, kind, labels)| match labels.as_slice() {
            [] => format!("{name} ({})", kind_name(kind)),
            labels => format!("{name} ({}: {})", kind_name(kind), labels.join(", ")),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    Err(ConfigError::new("", format!("its outputs are {}", told(version)))
        .help(format!("a version has those of the champion: {}", told(champion))))
}

fn same_kind(a: &OutputKind, b: &OutputKind) -> bool {
    match (a, b) {
        (OutputKind::RemainingLife(a), OutputKind::RemainingLife(b)) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn kind_name(kind: &OutputKind) -> String {
    match kind {
        OutputKind::RemainingLife(unit) => format!("remaining life in {unit}"),
        OutputKind::Probability => "probability".to_owned(),
        OutputKind::AnomalyScore => "anomaly score".to_owned(),
        OutputKind::ClassIndex => "class".to_owned(),
        OutputKind::Value => "value".to_owned(),
    }
}

fn route(
    config: &RouteConfig,
    input: &Schema,
    names: &Names,
    errors: &mut Vec<ConfigError>,
) -> Option<Route> {
    for (value, version) in config.to.iter().flatten() {
        errors.extend(names.check(&format!("route.to.{value}"), version).err());
    }
    let Some(column) = input.index_of(&config.by) else {
        let known = input.columns().iter().map(|c| c.name.clone());
        let what = format!("the input has no column '{}'", config.by);
        let error = ConfigError::new("route.by", what).unknown(&config.by, known);
        errors
            .push(error.help("add it before the model, for example with a `join` of a reference"));
        return None;
    };
    let data_type = &input.columns()[column].data_type;
    let can_name = matches!(
        data_type,
        DataType::Utf8 | DataType::Dictionary(..) | DataType::Int64 | DataType::Boolean
    );
    if !can_name {
        let what = format!("'{}' is {}, and names no version", config.by, type_name(data_type));
        let error = ConfigError::new("route.by", what);
        errors.push(error.help("route by text, a whole number or a boolean"));
        return None;
    }
    Some(Route { column, to: config.to.clone() })
}

fn canary(
    config: &CanaryConfig,
    names: &Names,
    errors: &mut Vec<ConfigError>,
) -> Option<(String, f64)> {
    errors.extend(names.check("canary.version", &config.version).err());
    if !(0.0..=1.0).contains(&config.share) {
        let error = ConfigError::new("canary.share", format!("'{}' is no share", config.share));
        errors.push(error.help("give a number from 0 to 1"));
    }
    Some((config.version.clone(), config.share))
}

/// The champion's columns, and those of the shadows.
fn output(
    champion: &Version,
    shadows: &[String],
    input: &Schema,
    errors: &mut Vec<ConfigError>,
) -> Option<Schema> {
    let mut columns = champion.columns.clone();
    let own = input.columns().len()..champion.columns.len() - PROVENANCE.len();
    for shadow in shadows {
        // What is unlike the training data is said of the row once, by the champion's.
        let own = champion.columns[own.clone()].iter();
        let own = own.filter(|c| ![OUTSIDE_RANGE, PSI, DRIFTED].contains(&c.name.as_str()));
        for column in own {
            let name = format!("{shadow}_{}", column.name);
            append(&mut columns, Column { name, ..column.clone() }, "shadow", errors);
        }
    }
    let (key, primary) = (input.key().to_vec(), input.primary_key().clone());
    let schema = Schema::with_primary_key(columns, key, input.time(), primary);
    schema.map_err(|e| errors.push(ConfigError::new("output", e.to_string()))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that differ in their low bits only, as those of one shard do.
    fn hashes() -> impl Iterator<Item = u64> {
        (0..100_000_u64).map(|n| (7 << 56) | n.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8)
    }

    #[test]
    fn a_share_has_that_many_keys_and_those_of_every_smaller_one() {
        for (small, large) in [(0.0, 0.01), (0.01, 0.1), (0.1, 0.2), (0.2, 1.0)] {
            let inside = hashes().filter(|&h| in_share(h, large)).count() as f64 / 1e5;
            assert!((inside - large).abs() < 0.005, "{inside} instead of {large}");
            assert!(hashes().filter(|&h| in_share(h, small)).all(|h| in_share(h, large)));
        }
        assert!(!hashes().any(|h| in_share(h, 0.0)) && hashes().all(|h| in_share(h, 1.0)));
    }

    #[test]
    fn names_of_versions_fit_into_names_of_columns() {
        for name in ["next", "v2", "pump_2026_03"] {
            assert_eq!(check_version_name(name), Ok(()), "{name}");
        }
        for name in ["", "Next", "a-b", "a.b", "ä", CHAMPION, &"x".repeat(65)] {
            assert!(check_version_name(name).is_err(), "{name}");
        }
    }
}
