//! Columns of text that repeat a few words, such as the names of levels.
//!
//! A row says which word it has by the word's place; a place behind the last is null.

use arrow::array::StringArray;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};

/// Words of at most so many bytes are copied at this one length, which is faster than to look how long each is.
const SHORT: usize = 16;

/// A text column of the words at these places.
#[must_use]
pub(crate) fn spelt(words: &[&str], places: &[u32]) -> StringArray {
    let mut lengths: Vec<usize> = words.iter().map(|word| word.len()).collect();
    lengths.push(0);
    let place = |place: &u32| (*place as usize).min(words.len());
    let offsets = OffsetBuffer::from_lengths(places.iter().map(|p| lengths[place(p)]));
    let mut bytes = Vec::with_capacity(places.len() * SHORT);
    if words.iter().all(|word| word.len() <= SHORT) {
        let mut padded: Vec<[u8; SHORT]> = words.iter().map(|word| short(word)).collect();
        padded.push([0; SHORT]);
        for place in places.iter().map(place) {
            let end = bytes.len() + lengths[place];
            bytes.extend_from_slice(&padded[place]);
            bytes.truncate(end);
        }
    } else {
        let known = places.iter().filter_map(|p| words.get(*p as usize));
        known.for_each(|word| bytes.extend_from_slice(word.as_bytes()));
    }
    let there = |row: usize| (places[row] as usize) < words.len();
    let all = (0..places.len()).all(there);
    let valid = (!all).then(|| BooleanBuffer::collect_bool(places.len(), there));
    StringArray::new(offsets, Buffer::from_vec(bytes), valid.map(NullBuffer::new))
}

/// A word with zeros behind it.
fn short(word: &str) -> [u8; SHORT] {
    let mut padded = [0; SHORT];
    padded[..word.len()].copy_from_slice(word.as_bytes());
    padded
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, StringArray};

    use super::spelt;

    #[test]
    fn a_word_a_row() {
        for words in [["", "größer"], ["a", "sixteen bytes it"], ["seventeen letters", "ü"]] {
            for places in [&[][..], &[1], &[0, 1, 1, 0], &[2, 1, 0, 9, 1]] {
                let word = |place: &u32| words.get(*place as usize).copied();
                let expected: StringArray = places.iter().map(word).collect();
                let got = spelt(&words, places);
                assert_eq!(got, expected);
                assert_eq!(got.nulls().is_some(), places.contains(&9));
            }
        }
    }
}
