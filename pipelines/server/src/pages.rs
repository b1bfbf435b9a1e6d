//! Pages of views as they were written for whoever asked first, for all who ask for the same until an epoch changes it: many
//! dashboards show one table.
//!
//! What a reader would get wrong: nothing here is ever older than what the table itself would say. A page counts while the table
//! is at the very epoch, of the very edition, that the page is of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;

/// All pages together have at most so many bytes; those that do not fit are written anew for everybody.
const BYTES_MAX: usize = 16 << 20;

/// What is asked for: a table, how many rows, behind which.
pub(crate) type Asked = (String, usize, Option<Vec<u8>>);

/// A page.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) edition: u64,
    /// The epoch that it is of.
    pub(crate) epoch: u64,
    /// The last one that changed the table.
    pub(crate) changed: u64,
    pub(crate) body: Bytes,
}

/// Those that there are.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    pages: BTreeMap<Asked, Written>,
    bytes: usize,
}

impl Pages {
    /// The page of an epoch.
    pub(crate) fn get(&self, asked: &Asked, edition: u64, epoch: u64) -> Option<Written> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = kept.pages.get(asked)?;
        (page.edition == edition && page.epoch == epoch).then(|| page.clone())
    }

    /// Keeps a page in place of an older one.
    pub(crate) fn keep(&self, asked: Asked, page: Written) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = kept.pages.remove(&asked) {
            kept.bytes -= before.body.len();
        }
        if kept.bytes + page.body.len() > BYTES_MAX {
            *kept = Kept::default();
        }
        if page.body.len() <= BYTES_MAX {
            kept.bytes += page.body.len();
            kept.pages.insert(asked, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_of_their_epoch_and_bounded() {
        let pages = Pages::default();
        let asked = |limit: usize| ("latest".to_owned(), limit, None);
        let page = |epoch, bytes| Written {
            edition: 1,
            epoch,
            changed: epoch,
            body: vec![b'x'; bytes].into(),
        };
        pages.keep(asked(1), page(7, 3));
        assert_eq!(pages.get(&asked(1), 1, 7).unwrap().body.len(), 3);
        assert!(pages.get(&asked(1), 1, 8).is_none(), "the table has gone on");
        assert!(pages.get(&asked(1), 2, 7).is_none(), "another computation");
        assert!(pages.get(&asked(2), 1, 7).is_none());
        pages.keep(asked(1), page(8, 4));
        assert_eq!(pages.0.lock().unwrap().bytes, 4);
        for limit in 0..100 {
            pages.keep(asked(limit), page(9, 1 << 20));
            assert!(pages.0.lock().unwrap().bytes <= BYTES_MAX);
        }
        pages.keep(asked(1), page(10, BYTES_MAX + 1));
        assert!(pages.get(&asked(1), 1, 10).is_none());
    }
}
