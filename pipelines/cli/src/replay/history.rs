//! Whether readings come from a journal, and whether it is one that both files can read.

use std::sync::Arc;

use anyhow::anyhow;
use foreline_engine::{History, RealDisk};
use foreline_spec::Plan;

use crate::failure::Failure;

/// A journal to be replayed.
pub(super) struct Found {
    pub(super) history: History,
    /// What the user should know of it.
    pub(super) notes: Vec<String>,
}

/// The journal of `before`, if the readings are to come from there: because that was `asked` for, or because a source
/// does not end by itself.
pub(super) fn find(asked: bool, before: &Plan, after: &Plan) -> Result<Option<Found>, Failure> {
    if !asked && before.bounded() && after.bounded() {
        return Ok(None);
    }
    let history = History {
        disk: Arc::new(RealDisk),
        dir: before.data_dir.clone(),
        sources: before.sources.iter().map(|s| s.name.clone()).collect(),
    };
    let place = history.dir.display().to_string();
    let Some(identity) = history.identity()? else {
        return Err(anyhow!(
            "there is no journal in '{place}': run the pipeline first, or give its readings with `--input SOURCE=PATH`"
        )
        .into());
    };
    let Some((first, last)) = history.epochs()? else {
        return Err(anyhow!("the journal in '{place}' has no epoch").into());
    };
    for source in &before.sources {
        if identity.nodes.get(&source.name).is_some_and(|was| *was != source.config) {
            return Err(anyhow!(
                "the journal in '{place}' was written by another version of the source '{}'; give the file as it was \
                 then as the first one",
                source.name
            )
            .into());
        }
    }
    let mut notes = vec![format!(
        "replays epochs {first} to {last} of '{place}', without the state before them"
    )];
    for source in &after.sources {
        if !history.sources.contains(&source.name) {
            notes.push(format!("the journal has no source '{}': it has no rows", source.name));
        }
    }
    Ok(Some(Found { history, notes }))
}
