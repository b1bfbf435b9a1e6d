//! A feature as a configuration names it: `rms`, or with parameters `autocorrelation: { lag: 2 }`.
//!
//! The name of the output column is made of the feature's and the values of the parameters that were given, in
//! the order of the table: `x_autocorrelation_2`, `x_quantile_0_9`. `as` gives another name in their place.

use std::borrow::Cow;
use std::fmt;

use foreline_engine::ConfigError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{Args, Feature, Param, ParamKind};
use crate::entries::Entries;

/// The key under which a feature with parameters is given another name.
const AS: &str = "as";

/// A feature as it is written down, known or not.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureCall {
    name: String,
    given: Entries<Given>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Given {
    Flag(bool),
    Number(f64),
    Text(String),
}

/// A feature that can be computed.
#[derive(Debug, Clone)]
pub struct Call {
    /// The feature.
    pub feature: &'static Feature,
    /// Its parameters.
    pub args: Args,
    /// What follows the column's name and `_` in the name of the output column.
    pub suffix: String,
}

impl FeatureCall {
    /// The feature that is meant.
    ///
    /// # Errors
    /// Every mistake: no such feature, no such parameter, one that is missing or not what it may be.
    pub fn resolve(&self) -> Result<Call, Vec<ConfigError>> {
        let Some(feature) = Feature::find(&self.name) else {
            let error = ConfigError::new("", format!("there is no feature '{}'", self.name));
            let help = "docs/features.md lists them";
            return Err(vec![error.help(help).unknown(&self.name, Feature::all().map(|f| f.name))]);
        };
        let mut errors = self.strangers(feature);
        let (mut args, mut suffix) = (Args::default(), feature.name.to_owned());
        for (i, param) in feature.params.iter().enumerate() {
            match self.argument(param) {
                Ok(Some(value)) => {
                    args.set(i, value);
                    suffix.push('_');
                    suffix.push_str(&in_a_name(param, value));
                }
                Ok(None) => args.set(i, param.default.unwrap_or_default()),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() && feature.ascending && args.number(0) >= args.number(1) {
            let [low, high, ..] = feature.params else { unreachable!("the table is tested") };
            let what = format!("'{}' is not below '{}'", low.name, high.name);
            errors.push(ConfigError::new(format!("{}.{}", feature.name, low.name), what));
        }
        match self.given.get(AS) {
            Some(Given::Text(name)) if !name.is_empty() => suffix.clone_from(name),
            None => {}
            Some(_) => {
                let error = ConfigError::new(AS, "the name of an output column is a text");
                errors.push(error.under(feature.name));
            }
        }
        if errors.is_empty() { Ok(Call { feature, args, suffix }) } else { Err(errors) }
    }

    /// Parameters that the feature does not have.
    fn strangers(&self, feature: &Feature) -> Vec<ConfigError> {
        let known = || feature.params.iter().map(|p| p.name).chain([AS]);
        let strange = self.given.iter().filter(|(name, _)| known().all(|k| k != *name));
        let error = |(name, _): (&str, &Given)| {
            let what = format!("feature '{}' has no parameter '{name}'", feature.name);
            ConfigError::new(format!("{}.{name}", feature.name), what).unknown(name, known())
        };
        strange.map(error).collect()
    }

    /// The value of a parameter where it is given; an error where it has to be and is not.
    fn argument(&self, param: &Param) -> Result<Option<f64>, ConfigError> {
        let Some(given) = self.given.get(param.name) else {
            if param.default.is_some() {
                return Ok(None);
            }
            let what = format!("feature '{}' needs '{}': {}", self.name, param.name, param.doc);
            let help = format!("write {}: {{ {}: ... }}", self.name, param.name);
            return Err(ConfigError::new("", what).help(help));
        };
        let value = match (given, param.kind) {
            (Given::Flag(is), ParamKind::Flag) => Some(super::sample::flag(*is)),
            (Given::Number(x), ParamKind::Whole(..) | ParamKind::Number(..)) => Some(*x),
            (Given::Text(word), ParamKind::Choice(words)) => {
                words.iter().position(|w| w == word).map(super::sample::number)
            }
            _ => None,
        };
        value.filter(|v| param.fits(*v)).map(Some).ok_or_else(|| {
            let what = format!("'{given}' is not a '{}'", param.name);
            let at = format!("{}.{}", self.name, param.name);
            ConfigError::new(at, what).help(format!("give {}", param.range()))
        })
    }
}

/// A value as a part of a column's name that needs no quotes in SQL: `0_9`, `m2`, `true`.
fn in_a_name(param: &Param, value: f64) -> String {
    param.written(value).replace('.', "_").replace('-', "m")
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Flag(is) => write!(f, "{is}"),
            Given::Number(x) => write!(f, "{x}"),
            Given::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for FeatureCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = FeatureCall;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a feature, such as rms or autocorrelation: { lag: 2 }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<FeatureCall, E> {
                Ok(FeatureCall { name: name.to_owned(), given: Entries::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FeatureCall, A::Error> {
                let one = map.next_entry()?.map(|(name, given)| FeatureCall { name, given });
                match (one, map.next_key::<String>()?) {
                    (Some(call), None) => Ok(call),
                    (_, Some(more)) => Err(A::Error::custom(format!(
                        "'{more}' begins another feature; make it another member of the list"
                    ))),
                    (None, None) => Err(A::Error::custom("no feature is named")),
                }
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for FeatureCall {
    fn schema_name() -> Cow<'static, str> {
        "FeatureCall".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let plain = Feature::all()
            .filter(|f| f.is_plain())
            .map(|f| json_schema!({ "const": f.name, "description": f.doc }));
        let told = Feature::all().filter(|f| !f.params.is_empty()).map(with_parameters);
        json_schema!({
            "description": "a feature: its name, or with parameters as `autocorrelation: { lag: 2 }`; `as` among them gives the output column another name",
            "oneOf": plain.chain(told).collect::<Vec<_>>()
        })
    }
}

fn with_parameters(feature: &Feature) -> Schema {
    let mut properties: Map<String, Value> =
        feature.params.iter().map(|p| (p.name.to_owned(), parameter(p))).collect();
    let name = "what follows the column's name in the name of the output column";
    properties.insert(AS.into(), json_schema!({ "type": "string", "description": name }).into());
    let needed = feature.params.iter().filter(|p| p.default.is_none());
    let needed: Vec<&str> = needed.map(|p| p.name).collect();
    let options = json_schema!({
        "type": "object",
        "description": feature.doc,
        "properties": properties,
        "required": needed,
        "additionalProperties": false
    });
    let mut only = Map::new();
    only.insert(feature.name.to_owned(), options.into());
    json_schema!({
        "type": "object",
        "properties": only,
        "required": [feature.name],
        "additionalProperties": false
    })
}

fn parameter(param: &Param) -> Value {
    let doc = param.doc;
    let mut schema = match param.kind {
        ParamKind::Whole(least, most) => {
            json_schema!({ "type": "integer", "description": doc, "minimum": least, "maximum": most })
        }
        ParamKind::Number(least, most) => {
            let mut schema = json_schema!({ "type": "number", "description": doc });
            if least > f64::MIN {
                schema.insert("minimum".to_owned(), least.into());
            }
            if most < f64::MAX {
                schema.insert("maximum".to_owned(), most.into());
            }
            schema
        }
        ParamKind::Flag => json_schema!({ "type": "boolean", "description": doc }),
        ParamKind::Choice(words) => {
            json_schema!({ "type": "string", "description": doc, "enum": words })
        }
    };
    if let Some(default) = param.default {
        let value = match param.kind {
            ParamKind::Flag => (default != 0.0).into(),
            ParamKind::Whole(..) => Value::from(whole(default)),
            ParamKind::Number(..) => default.into(),
            ParamKind::Choice(_) => param.written(default).into(),
        };
        schema.insert("default".to_owned(), value);
    }
    schema.into()
}

/// A default as the whole number that it is.
#[expect(clippy::cast_possible_truncation, reason = "defaults are small")]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(value: Value) -> Result<Call, Vec<String>> {
        let call: FeatureCall = serde_json::from_value(value).unwrap();
        call.resolve().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn output_names_tell_calls_apart() {
        let cases = [
            (json!("rms"), "rms"),
            (json!("autocorrelation"), "autocorrelation"),
            (json!({ "autocorrelation": {} }), "autocorrelation"),
            (json!({ "autocorrelation": { "lag": 2 } }), "autocorrelation_2"),
            (json!({ "quantile": { "q": 0.9 } }), "quantile_0_9"),
            (json!({ "quantile": { "q": 0.9, "as": "p90" } }), "p90"),
            (json!({ "number_crossing_m": { "m": -1.5 } }), "number_crossing_m_m1_5"),
            (json!({ "cid_ce": { "normalize": true } }), "cid_ce_true"),
            (
                json!({ "change_quantiles": { "ql": 0, "qh": 0.5, "f_agg": "var" } }),
                "change_quantiles_0_0_5_var",
            ),
            (
                json!({ "permutation_entropy": { "dimension": 4, "tau": 2 } }),
                "permutation_entropy_2_4",
            ),
        ];
        for (value, suffix) in cases {
            assert_eq!(resolved(value).unwrap().suffix, suffix);
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let cases = [
            (json!("rmss"), vec!["there is no feature 'rmss'"]),
            (
                json!("quantile"),
                vec!["feature 'quantile' needs 'q': the share of values at or below it"],
            ),
            (
                json!({ "quantile": { "q": 90, "Q": 1 } }),
                vec![
                    "quantile.Q: feature 'quantile' has no parameter 'Q'",
                    "quantile.q: '90' is not a 'q'",
                ],
            ),
            (
                json!({ "autocorrelation": { "lag": 1.5 } }),
                vec!["autocorrelation.lag: '1.5' is not a 'lag'"],
            ),
            (
                json!({ "cid_ce": { "normalize": 1 } }),
                vec!["cid_ce.normalize: '1' is not a 'normalize'"],
            ),
            (
                json!({ "agg_autocorrelation": { "f_agg": "sum" } }),
                vec!["agg_autocorrelation.f_agg: 'sum' is not a 'f_agg'"],
            ),
            (json!({ "rms": { "lag": 1 } }), vec!["rms.lag: feature 'rms' has no parameter 'lag'"]),
            (
                json!({ "range_count": { "min": 2, "max": 2 } }),
                vec!["range_count.min: 'min' is not below 'max'"],
            ),
            (
                json!({ "c3": { "lag": 2, "as": 3 } }),
                vec!["c3.as: the name of an output column is a text"],
            ),
        ];
        for (value, mistakes) in cases {
            assert_eq!(resolved(value).unwrap_err(), mistakes);
        }
        for value in [json!({}), json!({ "c3": {}, "cid_ce": {} }), json!(3)] {
            assert!(serde_json::from_value::<FeatureCall>(value).is_err());
        }
    }

    #[test]
    fn the_schema_has_each_form_of_each_feature() {
        let schema = FeatureCall::json_schema(&mut SchemaGenerator::default());
        let forms = schema.get("oneOf").unwrap().as_array().unwrap();
        let names = forms.iter().filter(|f| f.get("const").is_some()).count();
        let plain = Feature::all().filter(|f| f.is_plain()).count();
        let told = Feature::all().filter(|f| !f.params.is_empty()).count();
        assert_eq!((names, forms.len()), (plain, plain + told));
    }
}
