//! The texts of a key column, each stored once and known by number.
//!
//! A decoder keeps its dictionary from chunk to chunk, so that most chunks share one array of texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// A dictionary that has grown beyond this is started afresh: its array is built anew whenever a text is
/// added, which must not cost more than the rows it serves.
const TEXTS_MAX: usize = 1 << 16;
/// The same for its bytes.
const BYTES_MAX: usize = 64 << 20;

/// Texts by number.
#[derive(Debug)]
pub(crate) struct Dictionary {
    numbers: HashTable<i32>,
    bytes: Vec<u8>,
    /// Text `i` is `bytes[ends[i] .. ends[i + 1]]`.
    ends: Vec<i32>,
    array: ArrayRef,
}

impl Dictionary {
    /// An empty dictionary.
    pub(crate) fn new() -> Self {
        Dictionary {
            numbers: HashTable::new(),
            bytes: Vec::new(),
            ends: vec![0],
            array: Arc::new(StringArray::new_null(0)),
        }
    }

    /// The number of `text`, if it is known.
    #[inline]
    pub(crate) fn find(&self, text: &[u8]) -> Option<i32> {
        let same = |&number: &i32| text_of(&self.bytes, &self.ends, number) == text;
        self.numbers.find(xxh3_64(text), same).copied()
    }

    /// Adds a text that is not there.
    pub(crate) fn insert(&mut self, text: &str) -> i32 {
        let number = as_i32(self.ends.len() - 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(as_i32(self.bytes.len()));
        let (bytes, ends) = (&self.bytes, &self.ends);
        let hash = |&number: &i32| xxh3_64(text_of(bytes, ends, number));
        self.numbers.insert_unique(xxh3_64(text.as_bytes()), number, hash);
        number
    }

    /// All texts in the order of their numbers; the same array as long as none was added.
    pub(crate) fn array(&mut self) -> ArrayRef {
        if self.array.len() != self.ends.len() - 1 {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends.clone()));
            let bytes = Buffer::from_slice_ref(&self.bytes);
            let texts = StringArray::try_new(offsets, bytes, None);
            self.array = Arc::new(texts.expect("only whole texts are added"));
        }
        Arc::clone(&self.array)
    }

    /// Forgets the texts when there are too many. No number given out before may be used after it.
    pub(crate) fn shrink(&mut self) {
        if self.ends.len() > TEXTS_MAX || self.bytes.len() > BYTES_MAX {
            *self = Dictionary::new();
        }
    }
}

fn text_of<'a>(bytes: &'a [u8], ends: &[i32], number: i32) -> &'a [u8] {
    let at = |i: usize| usize::try_from(ends[i]).unwrap_or_default();
    let number = usize::try_from(number).unwrap_or_default();
    &bytes[at(number)..at(number + 1)]
}

/// A length or number within one dictionary. It grows by at most one chunk between two calls of
/// [`Dictionary::shrink`], and a chunk is never larger than a few rows of greatest length.
fn as_i32(n: usize) -> i32 {
    i32::try_from(n).expect("a dictionary holds far less than 2 GiB")
}
