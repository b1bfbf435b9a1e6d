//! Objects in S3 and what is compatible with it, as a source: read once, or watched for new ones.
//!
//! What a reader would get wrong:
//!
//! * Objects are found by listing the whole prefix, again and again, and comparing with those already seen (key and
//!   ETag). No cursor is kept, so an object whose key sorts before others is found whenever it comes.
//! * What was read of an object counts for this very object: each request demands its ETag, also when a range is read
//!   again after a restart. An object that is not the same any more is an error that names it, or what `on_change`
//!   says where it had been read to its end.
//! * Objects are read one after the other, in the order in which they were found; the requests for the next ones and
//!   for the blocks of a large one are under way at the same time.
//! * A notification of the store wakes the next listing ([`Bell`]) and says nothing that counts: what it names may be
//!   gone, unfinished or known.
//! * A name that begins with `.` or `_`, an empty object, and what `include` does not match are passed over.

use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{ConfigError, Replay, Resolver, Source};

use crate::bell::Bell;
use crate::cut::Format;
use crate::kind::{PlannedSource, Probe, SourceInputs, SourceKind, Tap};
use crate::objects::{Connection, Found, Patience, Place};

mod config;
mod keys;
mod reading;
mod seen;
mod source;
#[cfg(test)]
mod tests;

pub use config::{Listing, ObjectFormat, ObjectOrder, OnChange, S3Config, TextConfig};
use keys::Keys;

/// A checked configuration.
pub(crate) struct Plan {
    place: Place,
    connection: Connection,
    format: Box<dyn Format>,
    keys: Keys,
    /// The time between two listings; none when there is one only.
    poll: Option<Duration>,
    order: ObjectOrder,
    on_change: OnChange,
    parallel: usize,
    /// Rung when somebody knows of new objects.
    bell: Arc<Bell>,
}

impl Plan {
    fn patience(&self) -> Patience {
        if self.poll.is_some() { Patience::Endless } else { Patience::None }
    }

    /// Whether an object below the prefix is one to read.
    fn reads(&self, found: &Found) -> bool {
        found.size > 0 && self.keys.includes(self.name_below(found))
    }

    /// The values of the columns that come from its key.
    fn parts(&self, found: &Found) -> Result<Vec<String>, String> {
        self.keys.parts(self.name_below(found))
    }

    /// Its key behind the prefix.
    fn name_below<'a>(&self, found: &'a Found) -> &'a str {
        let below = found.key.strip_prefix(&*self.place.prefix).unwrap_or(&found.key);
        below.strip_prefix('/').unwrap_or(below)
    }
}

/// The kind of source that reads objects of an S3 store.
#[derive(Debug)]
pub struct S3;

impl SourceKind for S3 {
    type Config = S3Config;
    const NAME: &'static str = "s3";
    const SUMMARY: &'static str = "reads objects of an S3 store, once or as they come";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let plan = Arc::new(config.plan(inputs, given)?);
        let bounded = plan.poll.is_none();
        let mut notes = Vec::new();
        if plan.on_change == OnChange::Reprocess {
            notes.push(
                "what was read of an object cannot be read again once it is overwritten: a restart that needs it ends with its name"
                    .to_owned(),
            );
        }
        let probed = Arc::clone(&plan);
        let probe: Probe = Arc::new(move || source::probe(&probed));
        let bell = (!bounded).then(|| Arc::clone(&plan.bell));
        let open = move || Ok(Box::new(source::S3Source::open(&plan)?) as Box<dyn Source>);
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded,
            replay: Replay::ByRange,
            notes,
            probe: Some(probe),
            door: None,
            bell,
            tap: Tap::Opened,
        })
    }
}
