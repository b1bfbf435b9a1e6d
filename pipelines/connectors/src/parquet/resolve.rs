//! Which rows of a folder stand where several have the same key and event time: those of the greatest generation and
//! revision, and none where that one says deleted.
//!
//! Only corrections, and rows of later generations, are looked at beforehand; they are few beside the rows.

use std::collections::BTreeMap;

use ::parquet::schema::types::SchemaDescriptor;
use serde::{Deserialize, Serialize};

use super::sorted::{DELETED, REVISION};

/// Most rows that may stand for others.
pub(super) const RESOLVED_ROWS_MAX: usize = 16_000_000;

/// What is known of the rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// No row stands for another.
    Alone,
    /// They are as they first came, in this generation.
    Rows(u64),
    /// They correct others, in this generation.
    Corrections(u64),
}

impl Standing {
    /// The leaves that tell it beside the declared ones.
    pub(super) fn columns(self, schema: &SchemaDescriptor) -> Vec<usize> {
        let named = |leaf: &usize| {
            let name = schema.column(*leaf).name().to_owned();
            name == REVISION || name == DELETED
        };
        match self {
            Standing::Corrections(_) => (0..schema.num_columns()).filter(named).collect(),
            Standing::Alone | Standing::Rows(_) => Vec::new(),
        }
    }
}

/// By the digest of key and event time: what stands there.
#[derive(Debug, Default)]
pub(super) struct Resolution(BTreeMap<u128, (u64, u32, bool)>);

impl Resolution {
    /// Notes a row; false when there are too many.
    pub(super) fn note(&mut self, identity: u128, standing: (u64, u32, bool)) -> bool {
        let known = self.0.entry(identity).or_insert(standing);
        *known = (*known).max(standing);
        self.0.len() <= RESOLVED_ROWS_MAX
    }

    /// Whether no row stands for another.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row is part of what the folder says.
    pub(super) fn stands(
        &self,
        identity: u128,
        (generation, revision, deleted): (u64, u32, bool),
    ) -> bool {
        let best = self.0.get(&identity);
        !deleted && best.is_none_or(|&(g, r, gone)| (generation, revision) >= (g, r) && !gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_generation_and_revision_stands() {
        let mut resolution = Resolution::default();
        for standing in [(1, 1, false), (1, 2, true), (2, 0, false)] {
            assert!(resolution.note(7, standing));
        }
        assert!(resolution.note(8, (1, 1, false)) && resolution.note(8, (1, 2, true)));
        let cases = [
            (7, (1, 0, false), false),
            (7, (1, 1, false), false),
            (7, (2, 0, false), true),
            (8, (1, 0, false), false),
            (8, (1, 1, false), false),
            (8, (1, 2, true), false),
            (9, (1, 0, false), true),
        ];
        for (identity, standing, stands) in cases {
            assert_eq!(resolution.stands(identity, standing), stands, "{identity} {standing:?}");
        }
    }
}
