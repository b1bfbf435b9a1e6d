//! A view as it stands at the end of an epoch, for readers outside the dataflow.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;

use crate::relation::{Codec, Relation, Row};

/// The rows of a view. Readers see those of the end of one epoch, all of them or a page at a time in the order of the key.
#[derive(Debug)]
pub struct Table {
    relation: Relation,
    edition: OnceLock<u64>,
    contents: RwLock<Contents>,
    uncomputed: AtomicU64,
    arranged: AtomicI64,
    touched: AtomicU64,
}

#[derive(Debug, Default)]
struct Contents {
    epoch: u64,
    /// The last epoch that has changed a row.
    changed: u64,
    rows: BTreeMap<Row, Row>,
    bytes: usize,
    recent: Recent,
}

/// Most bytes of changes that a table remembers, for readers that follow it.
const RECENT_BYTES_MAX: usize = 4 << 20;

/// The last changes.
#[derive(Debug, Default)]
struct Recent {
    /// All changes behind this epoch are there.
    after: u64,
    changes: VecDeque<(u64, Vec<Change>)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, epoch: u64, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.bytes += changes.iter().map(Change::bytes).sum::<usize>();
        self.changes.push_back((epoch, changes.to_vec()));
        while self.bytes > RECENT_BYTES_MAX
            && let Some((epoch, changes)) = self.changes.pop_front()
        {
            self.bytes -= changes.iter().map(Change::bytes).sum::<usize>();
            self.after = epoch;
        }
    }
}

/// What an epoch has changed of a [`Table`].
#[derive(Debug, Clone)]
pub struct Changes {
    /// The epoch.
    pub epoch: u64,
    /// Rows that are no longer there.
    pub went: RecordBatch,
    /// Rows that were not there before.
    pub came: RecordBatch,
}

/// Rows of a [`Table`].
#[derive(Debug, Clone)]
pub struct Page {
    /// They are as of the end of this epoch.
    pub epoch: u64,
    /// The last epoch that has changed the table.
    pub changed: u64,
    /// The rows, in the order of the key.
    pub rows: RecordBatch,
    /// What to hand to the next call of [`Table::page`]; `None` when there are no more.
    pub next: Option<Vec<u8>>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(relation: Relation) -> Self {
        Table {
            relation,
            edition: OnceLock::new(),
            contents: RwLock::default(),
            uncomputed: AtomicU64::new(0),
            arranged: AtomicI64::new(0),
            touched: AtomicU64::new(0),
        }
    }

    /// The columns and the key.
    #[must_use]
    pub fn relation(&self) -> &Relation {
        &self.relation
    }

    /// Which of the computations of the pipeline the epochs are of, once what stood at the start of the run is there again and
    /// the run has caught up with the one before it; `None` until then. Rows of one edition and one epoch are always the same;
    /// a data directory that begins anew, or is computed anew from its journal, makes another edition.
    #[must_use]
    pub fn edition(&self) -> Option<u64> {
        self.edition.get().copied()
    }

    /// Readers may look from now on.
    pub(crate) fn appear(&self, edition: u64) {
        self.edition.get_or_init(|| edition);
    }

    /// The epoch at whose end the rows are seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.read().epoch
    }

    /// The last epoch that has changed it.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.read().changed
    }

    /// What a [page](Table::page) begins behind that follows the row with the key in `key`, a column for each of the relation's.
    ///
    /// # Errors
    /// When the columns are not those of the key, or hold none.
    pub fn behind(&self, key: &[ArrayRef]) -> Result<Vec<u8>, ArrowError> {
        let keys = Codec::of(self.relation.arrow(), self.relation.key())?.encode(key)?;
        let none = || ArrowError::InvalidArgumentError("there is no row".to_owned());
        keys.first().map(|key| key.bytes().to_vec()).ok_or_else(none)
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the rows and their keys take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read().bytes
    }

    /// How often in this run an expression of the view could not be computed for a row; it counted as null.
    #[must_use]
    pub fn uncomputed(&self) -> u64 {
        self.uncomputed.load(Ordering::Relaxed)
    }

    /// How many records the view's arrangements hold, summed over the workers: what a change of it is computed from. A view
    /// that only filters or derives has none. Batches are merged little by little, so it follows the rows at a distance; 0
    /// before the run and once it has ended.
    #[must_use]
    pub fn arranged(&self) -> usize {
        usize::try_from(self.arranged.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How many records joins, groups and ranks of the view have gone through in this run: those that came into an
    /// arrangement, and those that were looked at again to find what becomes of them.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    pub(crate) fn count_arranged(&self, came: usize, went: usize) {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.arranged.fetch_add(signed(came) - signed(went), Ordering::Relaxed);
    }

    pub(crate) fn count_touched(&self, records: usize) {
        self.touched.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_uncomputed(&self) {
        self.uncomputed.fetch_add(1, Ordering::Relaxed);
    }

    /// All rows.
    ///
    /// # Errors
    /// When a row cannot be decoded, which is a bug.
    pub fn all(&self) -> Result<Page, ArrowError> {
        self.page(None, usize::MAX)
    }

    /// At most `limit` rows behind `after`, which is what [`Page::next`] said.
    ///
    /// # Errors
    /// When a row cannot be decoded, which is a bug.
    pub fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Page, ArrowError> {
        let codec = Codec::new(self.relation.arrow().clone())?;
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(Row::from_bytes(key)));
        let contents = self.read();
        let mut rest = contents.rows.range((from, Bound::Unbounded));
        let page: Vec<(&Row, &Row)> = rest.by_ref().take(limit).collect();
        let last = page.last().map(|(key, _)| key.bytes().to_vec());
        let next = last.filter(|_| rest.next().is_some());
        let rows = codec.decode(page.into_iter().map(|(_, row)| row))?;
        Ok(Page { epoch: contents.epoch, changed: contents.changed, rows, next })
    }

    /// The rows with the keys in `key`: one column for each of the relation's key, of its type or a dictionary of it.
    ///
    /// # Errors
    /// When the columns are not those of the key.
    pub fn get(&self, key: &[ArrayRef]) -> Result<Page, ArrowError> {
        let of_key = Codec::of(self.relation.arrow(), self.relation.key())?;
        let keys = of_key.encode(key)?;
        let codec = Codec::new(self.relation.arrow().clone())?;
        let contents = self.read();
        let rows = codec.decode(keys.iter().filter_map(|key| contents.rows.get(key)))?;
        Ok(Page { epoch: contents.epoch, changed: contents.changed, rows, next: None })
    }

    /// What has changed since the end of `epoch`, an item an epoch in which something did; `None` where that is not known
    /// any more, and the table is to be read anew.
    ///
    /// # Errors
    /// When a row cannot be decoded, which is a bug.
    pub fn changes_after(&self, epoch: u64) -> Result<Option<Vec<Changes>>, ArrowError> {
        let contents = self.read();
        if epoch < contents.recent.after || epoch > contents.epoch {
            return Ok(None);
        }
        let codec = Codec::new(self.relation.arrow().clone())?;
        let of = |epoch: u64, changes: &[Change]| {
            let rows = |gone: bool| changes.iter().filter(move |c| c.gone == gone).map(|c| &c.row);
            Ok(Changes { epoch, went: codec.decode(rows(true))?, came: codec.decode(rows(false))? })
        };
        let recent = contents.recent.changes.iter().filter(|(e, _)| *e > epoch);
        recent.map(|(epoch, changes)| of(*epoch, changes)).collect::<Result<_, _>>().map(Some)
    }

    /// Takes in what stood at the start of the run, at the end of `epoch`.
    pub(crate) fn stand(&self, epoch: u64, rows: Vec<Change>) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        contents.take(epoch, rows);
        contents.recent.after = epoch;
    }

    /// Takes the changes up to the end of `epoch` in: key, row, and whether it came or went.
    pub(crate) fn apply(&self, epoch: u64, changes: Vec<Change>) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        if contents.epoch == 0 {
            contents.recent.after = epoch - 1;
        }
        contents.recent.push(epoch, &changes);
        contents.take(epoch, changes);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn take(&mut self, epoch: u64, changes: Vec<Change>) {
        if !changes.is_empty() || self.epoch == 0 {
            self.changed = epoch;
        }
        let Contents { rows, bytes, .. } = self;
        let (went, came): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| c.gone);
        for Change { key, .. } in went {
            if let Some(row) = rows.remove(&key) {
                *bytes -= key.bytes().len() + row.bytes().len();
            }
        }
        for Change { key, row, .. } in came {
            *bytes += key.bytes().len() + row.bytes().len();
            if let Some(before) = rows.insert(key.clone(), row) {
                *bytes -= key.bytes().len() + before.bytes().len();
            }
        }
        self.epoch = epoch;
    }
}

/// A row that came into a view or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub key: Row,
    pub row: Row,
    pub gone: bool,
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.bytes().len() + self.row.bytes().len()
    }
}
