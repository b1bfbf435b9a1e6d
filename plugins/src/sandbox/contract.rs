//! Which contract a plugin was built for, and its functions as those of the present one.
//!
//! There are two: the present one and the one before it. A plugin of the previous one is asked in its words and answers
//! in the present ones, so that nothing else knows of it.

use wasmtime::component::{HasSelf, InstancePre, Linker};
use wasmtime::{AsContextMut as _, Store};

use super::bindings::{
    Descriptor, Feature, MissingPolicy, Output, OutputKind, PluginError, Scored, present, previous,
};
use super::instance::StoreState;

/// A version of the contract, as its interfaces are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contract {
    /// What a plugin exports, up to the patch number.
    pub(crate) scorer: &'static str,
    /// The one thing that it may import.
    pub(crate) log: &'static str,
    /// As it is written.
    pub(crate) wit: &'static str,
}

/// The present contract.
pub(crate) const PRESENT: Contract = Contract {
    scorer: "foreline:model/scorer@0.2.",
    log: "foreline:model/diagnostics@0.2.",
    wit: include_str!("../../wit/model.wit"),
};

/// The contract before it.
pub(crate) const PREVIOUS: Contract = Contract {
    scorer: "foreline:model/scorer@0.1.",
    log: "foreline:model/diagnostics@0.1.",
    wit: include_str!("../../wit/previous/model.wit"),
};

impl Contract {
    /// The contract under which something is exported.
    pub(crate) fn of_export(name: &str) -> Option<Contract> {
        [PRESENT, PREVIOUS].into_iter().find(|contract| name.starts_with(contract.scorer))
    }

    /// Whether an import is one that a plugin may have.
    pub(crate) fn allows(import: &str) -> bool {
        [PRESENT, PREVIOUS].iter().any(|contract| import.starts_with(contract.log))
    }
}

/// Offers what a plugin may import.
pub(super) fn add_to_linker(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    fn same(state: &mut StoreState) -> &mut StoreState {
        state
    }
    present::ModelWithLog::add_to_linker::<StoreState, HasSelf<_>>(linker, same)?;
    previous::ModelWithLog::add_to_linker::<StoreState, HasSelf<_>>(linker, same)
}

/// A linked plugin.
#[derive(Clone)]
pub(crate) enum Linked {
    /// Of the present contract.
    Present(present::ModelWithLogPre<StoreState>),
    /// Of the one before.
    Previous(previous::ModelWithLogPre<StoreState>),
}

impl Linked {
    /// Finds the functions of the contract; their types are looked at.
    pub(super) fn new(
        pre: InstancePre<StoreState>,
        contract: Contract,
    ) -> wasmtime::Result<Linked> {
        if contract == PRESENT {
            present::ModelWithLogPre::new(pre).map(Linked::Present)
        } else {
            previous::ModelWithLogPre::new(pre).map(Linked::Previous)
        }
    }

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        match self {
            Linked::Present(pre) => pre.engine(),
            Linked::Previous(pre) => pre.engine(),
        }
    }

    pub(super) fn instantiate(&self, store: &mut Store<StoreState>) -> wasmtime::Result<Exports> {
        Ok(match self {
            Linked::Present(pre) => Exports::Present(pre.instantiate(store)?),
            Linked::Previous(pre) => Exports::Previous(pre.instantiate(store)?),
        })
    }
}

/// Rows as a call hands them over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// How many.
    pub(crate) n: usize,
    /// Rows × features, row-major.
    pub(crate) features: &'a [f64],
    /// Event times; empty when stateless, as the others below.
    pub(crate) times: &'a [i64],
    /// Which row of `state` belongs to each row.
    pub(crate) slots: &'a [u32],
    /// Slots × state width, row-major.
    pub(crate) state: &'a [f64],
}

/// What a call into a plugin gave: a trap and the like, what the plugin said was wrong, or an answer.
type Answer<T> = wasmtime::Result<Result<T, PluginError>>;

/// The functions of an instance.
pub(super) enum Exports {
    Present(present::ModelWithLog),
    Previous(previous::ModelWithLog),
}

impl Exports {
    pub(super) fn init(
        &self,
        store: &mut Store<StoreState>,
        weights: &[u8],
        config: &[(String, String)],
    ) -> Answer<Descriptor> {
        let store = store.as_context_mut();
        match self {
            Exports::Present(it) => it.foreline_model_scorer().call_init(store, weights, config),
            Exports::Previous(it) => {
                let answer = it.foreline_model_scorer().call_init(store, weights, config)?;
                Ok(answer.map(Into::into).map_err(Into::into))
            }
        }
    }

    pub(super) fn score(
        &self,
        store: &mut Store<StoreState>,
        n: u32,
        rows: Call<'_>,
    ) -> Answer<Scored> {
        let Call { features, times, slots, state, .. } = rows;
        match self {
            Exports::Present(it) => {
                it.foreline_model_scorer().call_score(store, n, features, times, slots, state)
            }
            // It was not told the times.
            Exports::Previous(it) => {
                let scorer = it.foreline_model_scorer();
                let answer = scorer.call_score(store, n, features, slots, state)?;
                let present = |said: previous::scorer::Scored| Scored {
                    outputs: said.outputs,
                    state: said.state,
                };
                Ok(answer.map(present).map_err(Into::into))
            }
        }
    }

    pub(super) fn migrate_state(
        &self,
        store: &mut Store<StoreState>,
        from: u32,
        state: &[f64],
    ) -> Answer<Vec<f64>> {
        match self {
            Exports::Present(it) => {
                it.foreline_model_scorer().call_migrate_state(store, from, state)
            }
            Exports::Previous(it) => {
                let answer = it.foreline_model_scorer().call_migrate_state(store, from, state)?;
                Ok(answer.map_err(Into::into))
            }
        }
    }
}

impl From<previous::scorer::Error> for PluginError {
    fn from(error: previous::scorer::Error) -> Self {
        use previous::scorer::Error;
        match error {
            Error::InvalidWeights(m) => PluginError::InvalidWeights(m),
            Error::InvalidConfig(m) => PluginError::InvalidConfig(m),
            Error::InvalidInput(m) => PluginError::InvalidInput(m),
            Error::Internal(m) => PluginError::Internal(m),
        }
    }
}

impl From<previous::scorer::Descriptor> for Descriptor {
    fn from(said: previous::scorer::Descriptor) -> Self {
        Descriptor {
            name: said.name,
            version: said.version,
            features: said.features.into_iter().map(Into::into).collect(),
            outputs: said.outputs.into_iter().map(Into::into).collect(),
            state_width: said.state_width,
            state_version: said.state_version,
            max_rows: said.max_rows,
            annotations: said.annotations,
        }
    }
}

impl From<previous::scorer::Feature> for Feature {
    fn from(said: previous::scorer::Feature) -> Self {
        use previous::scorer::MissingPolicy as Previous;
        let missing = match said.missing {
            Previous::SkipRow => MissingPolicy::SkipRow,
            Previous::PassNan => MissingPolicy::PassNan,
        };
        Feature { name: said.name, unit: said.unit, missing, trained_range: said.trained_range }
    }
}

impl From<previous::scorer::Output> for Output {
    fn from(said: previous::scorer::Output) -> Self {
        use previous::scorer::OutputKind as Previous;
        let kind = match said.kind {
            Previous::RemainingLife(unit) => OutputKind::RemainingLife(unit),
            Previous::Probability => OutputKind::Probability,
            Previous::AnomalyScore => OutputKind::AnomalyScore,
            Previous::ClassIndex => OutputKind::ClassIndex,
            Previous::Value => OutputKind::Value,
        };
        Output { name: said.name, kind, labels: said.labels }
    }
}
