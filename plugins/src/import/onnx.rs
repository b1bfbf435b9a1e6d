//! A network in ONNX as weights of the plugin `onnx`.
//!
//! The network is not run here: what is refused is what the file itself says, operators by their names, types, axes.
//! That tract can make a plan of the rest shows when the plugin starts; tract would be the heaviest dependency of the
//! command, for one importer.

use foreline_sdk::network::{
    Activation, FORMAT, Layout, Network, Pad, Payload, STATE_VERSION, onnx, state_width,
};
use foreline_sdk::weights::{self, Family, Feature, Header, Missing, Output, OutputKind};
use serde::Deserialize;

use super::{ImportError, MAX_BYTES, check_names};
use crate::train::ModelMeta;

/// What an ONNX file does not say of its network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkMeta {
    /// Name, version and annotations; `output` stands for each of `outputs`, under their names. With labels it is the
    /// index of the largest number, and each number is `p_<label>`.
    pub model: ModelMeta,
    /// The features in the network's order, with UCUM codes where they are known.
    pub features: Vec<(String, Option<String>)>,
    /// Names of the numbers that come out; not looked at with labels.
    pub outputs: Vec<String>,
    /// Rows of a window, where the file leaves it open.
    pub window: Option<u32>,
    /// The order of the axes, where the lengths leave it open.
    pub layout: Option<Layout>,
    /// What stands for the rows that a key does not have yet.
    pub pad: Pad,
    /// What is done with the numbers.
    pub activation: Activation,
    /// How features and outputs are scaled.
    pub scaling: Scaling,
}

/// Means and scales, as a scaler of scikit-learn calls them; in JSON `{"input": {"mean": [..], "scale": [..]}}`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// Of the features: the network is given `(x - mean) / scale`.
    pub input: Option<Columns>,
    /// Of what comes out: the score is `y * scale + mean`.
    pub output: Option<Columns>,
}

/// A mean and a scale for each column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The means.
    pub mean: Vec<f64>,
    /// The scales, none of them 0.
    pub scale: Vec<f64>,
}

/// The weights file of a network.
///
/// # Errors
/// When the file cannot be read, has what is not supported, or does not fit what is said of it.
pub fn import_network(bytes: &[u8], meta: &NetworkMeta) -> Result<Vec<u8>, ImportError> {
    if bytes.len() > MAX_BYTES {
        return Err(ImportError::TooLarge(bytes.len()));
    }
    let broken = |why: String| ImportError::Broken(why);
    let summary = onnx::read(bytes).map_err(ImportError::NoNetwork)?;
    summary.check().map_err(|why| ImportError::Refused(format!("the network: {why}; so it")))?;
    let (layout, window) = axes(&summary.inputs[0], meta).map_err(broken)?;
    let width = state_width(window as usize, meta.features.len()).map_err(broken)?;
    let payload = Payload {
        onnx: bytes.to_vec(),
        layout,
        window,
        pad: meta.pad,
        input: pairs("input", meta.scaling.input.as_ref()).map_err(broken)?,
        output: pairs("output", meta.scaling.output.as_ref()).map_err(broken)?,
        activation: meta.activation,
    };
    let mut annotations = meta.model.annotations.clone();
    annotations.push(("opset".to_owned(), summary.opset.to_string()));
    annotations.push(("window".to_owned(), window.to_string()));
    let operators: Vec<&str> = summary.operators.iter().map(String::as_str).collect();
    annotations.push(("operators".to_owned(), operators.join(" ")));
    let feature = |(name, unit): &(String, Option<String>)| Feature {
        name: name.clone(),
        unit: unit.clone(),
        missing: Missing::SkipRow,
        trained_range: None,
    };
    let header = Header {
        format: FORMAT,
        name: meta.model.name.clone(),
        version: meta.model.version.clone(),
        library: summary.producer,
        features: meta.features.iter().map(feature).collect(),
        outputs: outputs(meta),
        state_width: width,
        state_version: u32::from(width > 0) * STATE_VERSION,
        annotations,
    };
    check_names(&header)?;
    let network = Network::new(&payload, &header).map_err(broken)?;
    // Where the file says how many numbers come out, that is compared here; otherwise when the plugin starts.
    if let [_, Some(n)] = summary.outputs[0].shape[..]
        && n != network.n_numbers() as u64
    {
        let named = network.n_numbers();
        return Err(broken(format!("the network answers {n} numbers, and {named} are named")));
    }
    weights::write(Family::Network, &header, &payload).map_err(|e| broken(e.to_string()))
}

/// Which axis is which, and how many rows a window has.
fn axes(input: &onnx::Value, meta: &NetworkMeta) -> Result<(Layout, u32), String> {
    let n = meta.features.len() as u64;
    let fits = |axis: Option<u64>, length: Option<u64>| match (axis, length) {
        (Some(axis), Some(length)) => axis == length,
        _ => true,
    };
    let name = &input.name;
    let shown = |axis: &Option<u64>| axis.map_or("?".to_owned(), |n| n.to_string());
    let shape = input.shape.iter().map(shown).collect::<Vec<_>>().join(", ");
    let (first, second) = match input.shape[..] {
        [_, features] if fits(features, Some(n)) && meta.window.unwrap_or(1) == 1 => {
            return Ok((Layout::Row, 1));
        }
        [_, first, second] => (first, second),
        _ => {
            return Err(format!("the input '{name}' is [{shape}], and {n} features are named"));
        }
    };
    let window = meta.window.map(u64::from);
    let possible = [(Layout::TimeFirst, first, second), (Layout::FeatureFirst, second, first)];
    let mut possible = possible.into_iter().filter(|(layout, time, features)| {
        fits(*features, Some(n))
            && fits(*time, window)
            && meta.layout.is_none_or(|wanted| wanted == *layout)
    });
    let (Some((layout, time, _)), other) = (possible.next(), possible.next()) else {
        return Err(format!(
            "the input '{name}' is [{shape}], which {n} features and the window do not fit"
        ));
    };
    if other.is_some() {
        return Err(format!(
            "the input '{name}' is [{shape}], and either axis may be time; say which with --layout time-first or feature-first"
        ));
    }
    let rows = time.or(window).ok_or_else(|| {
        format!("the input '{name}' is [{shape}]; say how many rows a window has with --window")
    })?;
    let rows = u32::try_from(rows).ok().filter(|rows| *rows > 0);
    Ok((layout, rows.ok_or("a window has at least one row")?))
}

fn pairs(what: &str, columns: Option<&Columns>) -> Result<Vec<(f64, f64)>, String> {
    let Some(Columns { mean, scale }) = columns else { return Ok(vec![]) };
    if mean.len() != scale.len() || mean.is_empty() {
        let (means, scales) = (mean.len(), scale.len());
        return Err(format!("the scaling of the {what} has {means} means and {scales} scales"));
    }
    Ok(mean.iter().copied().zip(scale.iter().copied()).collect())
}

fn outputs(meta: &NetworkMeta) -> Vec<Output> {
    let given = &meta.model.output;
    let named = |name: &String| Output { name: name.clone(), ..given.clone() };
    if given.kind != OutputKind::ClassIndex {
        return meta.outputs.iter().map(named).collect();
    }
    let share = |label: &String| Output {
        name: format!("p_{label}"),
        kind: OutputKind::Probability,
        labels: vec![],
    };
    std::iter::once(given.clone()).chain(given.labels.iter().map(share)).collect()
}
