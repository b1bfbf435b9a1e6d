//! The models of a plan as the server sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_plugins::{Ledger, NotAdmitted, Switchboard};
use foreline_server::{Board, Refusal, Works};
use foreline_spec::Plan;
use serde_json::{Value, json};

/// The models that can be changed while they run.
pub(crate) fn boards(plan: &Plan) -> Vec<Arc<dyn Board>> {
    plan.models.iter().map(|m| Arc::new(Model(Arc::clone(m))) as Arc<dyn Board>).collect()
}

/// What all models do.
pub(crate) fn works(plan: &Plan) -> Vec<Arc<dyn Works>> {
    plan.ledgers.iter().map(|l| Arc::new(Done(Arc::clone(l))) as Arc<dyn Works>).collect()
}

#[derive(Debug)]
struct Done(Arc<Ledger>);

impl Works for Done {
    fn step(&self) -> &str {
        self.0.step()
    }

    fn works(&self) -> BTreeMap<String, Value> {
        self.0.works().into_iter().map(|(name, work)| (name, json!(work))).collect()
    }
}

#[derive(Debug)]
struct Model(Arc<Switchboard>);

impl Board for Model {
    fn step(&self) -> &str {
        self.0.step()
    }

    fn versions(&self) -> BTreeMap<String, Value> {
        self.0.versions().into_iter().map(|(name, facts)| (name, json!(facts))).collect()
    }

    fn facts(&self, digest: &str) -> Result<Value, String> {
        self.0.facts(digest).map(|facts| json!(facts)).map_err(|e| e.message)
    }

    fn shadows(&self) -> Vec<String> {
        self.0.shadows().to_vec()
    }

    fn is_routed(&self) -> bool {
        self.0.is_routed()
    }

    fn canary(&self) -> Option<(String, f64)> {
        self.0.canary().map(|(name, share)| (name.to_owned(), share))
    }

    fn since(&self) -> Option<u64> {
        self.0.since()
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        self.0.check_name(name)
    }

    fn admit(&self, bytes: &[u8]) -> Result<(String, Value), Refusal> {
        match self.0.admit(bytes) {
            Ok((digest, facts)) => Ok((digest, json!(facts))),
            Err(NotAdmitted::Refused(why)) => Err(Refusal::NotThis(why)),
            Err(e @ NotAdmitted::Kept(_)) => Err(Refusal::NotKept(e.to_string())),
        }
    }

    fn most_versions(&self) -> usize {
        self.0.most_versions()
    }
}
