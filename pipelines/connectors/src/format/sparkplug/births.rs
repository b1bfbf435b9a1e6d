//! What the births of edge nodes and devices have said about their metrics.
//!
//! An alias is known by its edge node, a name by its device. An edge node that is born again begins anew.

use std::collections::BTreeMap;

use prost::Message as _;

use super::message::{Metric, Payload};

/// Most metrics that are remembered, of all edge nodes together: some hundred megabytes.
const METRICS_MAX: usize = 1_000_000;

/// The metrics of each edge node, by `group/node`.
#[derive(Debug, Default)]
pub(crate) struct Births {
    nodes: BTreeMap<String, BTreeMap<Id, Born>>,
    n_metrics: usize,
}

/// What a metric is called in a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Alias(u64),
    /// By device, which is empty for the edge node's own, and name.
    Name(String, String),
}

/// What its birth said about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Born {
    name: String,
    datatype: Option<u32>,
}

/// A payload with the names and types that its births have given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// It lacks none.
    AsItIs,
    /// With what it lacked.
    Filled(Vec<u8>),
    /// It has an alias that no birth since the start has named. Its edge node, as `group/node`.
    Unknown(String),
}

impl Births {
    /// Takes in what a message tells about metrics, and puts in what it lacks. A message that cannot be read is left as
    /// it is, for the decoder to refuse.
    pub(crate) fn resolve(&mut self, topic: &str, payload: &[u8]) -> Resolved {
        let levels: Vec<&str> = topic.split('/').collect();
        let (group, kind, node, device) = match levels[..] {
            [_, group, kind, node] => (group, kind, node, ""),
            [_, group, kind, node, device] => (group, kind, node, device),
            _ => return Resolved::AsItIs,
        };
        let birth = matches!(kind, "NBIRTH" | "DBIRTH");
        if !birth && !matches!(kind, "NDATA" | "DDATA") {
            return Resolved::AsItIs;
        }
        let Ok(mut message) = Payload::decode(payload) else { return Resolved::AsItIs };
        let node = format!("{group}/{node}");
        if birth {
            self.learn(&node, device, kind == "NBIRTH", &message);
            return Resolved::AsItIs;
        }
        let known = self.nodes.get(&node);
        let mut filled = false;
        for metric in &mut message.metrics {
            match fill(metric, device, known) {
                Ok(changed) => filled |= changed,
                Err(UnknownAlias) => return Resolved::Unknown(node),
            }
        }
        if filled { Resolved::Filled(message.encode_to_vec()) } else { Resolved::AsItIs }
    }

    fn learn(&mut self, node: &str, device: &str, anew: bool, message: &Payload) {
        let known = self.nodes.entry(node.to_owned()).or_default();
        if anew {
            self.n_metrics -= known.len();
            known.clear();
        }
        for metric in &message.metrics {
            let Some(name) = &metric.name else { continue };
            let born = Born { name: name.clone(), datatype: metric.datatype };
            let by_name = Id::Name(device.to_owned(), name.clone());
            for id in metric.alias.map(Id::Alias).into_iter().chain([by_name]) {
                if self.n_metrics < METRICS_MAX || known.contains_key(&id) {
                    self.n_metrics += usize::from(known.insert(id, born.clone()).is_none());
                } else {
                    tracing::warn!(
                        "more than {METRICS_MAX} sparkplug metrics; one of '{node}' is forgotten"
                    );
                    return;
                }
            }
        }
    }
}

struct UnknownAlias;

/// Puts in what a metric lacks; whether anything was.
fn fill(
    metric: &mut Metric,
    device: &str,
    known: Option<&BTreeMap<Id, Born>>,
) -> Result<bool, UnknownAlias> {
    let id = match (&metric.name, metric.alias) {
        (Some(name), _) if !name.is_empty() => Id::Name(device.to_owned(), name.clone()),
        (_, Some(alias)) => Id::Alias(alias),
        _ => return Ok(false),
    };
    let by_alias = matches!(id, Id::Alias(_));
    let Some(born) = known.and_then(|known| known.get(&id)) else {
        return if by_alias { Err(UnknownAlias) } else { Ok(false) };
    };
    let lacks_type = metric.datatype.is_none() && born.datatype.is_some();
    if lacks_type {
        metric.datatype = born.datatype;
    }
    if by_alias {
        metric.name = Some(born.name.clone());
    }
    Ok(by_alias || lacks_type)
}
