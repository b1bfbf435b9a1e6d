//! The categories of a column: each text that is there once, and which one each row has.
//!
//! What a reader would get wrong: texts are compared once for each word of a dictionary and each run of equal rows, not
//! for each row; truth values and whole numbers become text once for each value.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use foreline_engine::Fault;

/// The categories of the rows of a batch.
#[derive(Debug, PartialEq)]
pub(crate) struct Categories {
    /// The category of each row, as a place in `texts`; `None` where it is null.
    pub(crate) of_row: Vec<Option<u32>>,
    /// Each category that is there, in the order in which they come.
    pub(crate) texts: Vec<String>,
}

impl Categories {
    /// Those of a column of text, whole numbers or truth values.
    ///
    /// # Errors
    /// When the column cannot be text, which the plan rules out.
    pub(crate) fn of(column: &ArrayRef) -> Result<Self, Fault> {
        match column.data_type() {
            DataType::Boolean => Ok(Self::of_truths(column)),
            DataType::Int64 => {
                let text = |number: i64| number.to_string();
                Ok(Self::each(column.as_primitive::<Int64Type>().iter(), text))
            }
            DataType::Dictionary(key, word)
                if (&**key, &**word) == (&DataType::Int32, &DataType::Utf8) =>
            {
                Ok(Self::of_words(column))
            }
            _ => {
                let texts: StringArray = cast(column, &DataType::Utf8)?.as_string::<i32>().clone();
                Ok(Self::each(texts.iter(), str::to_owned))
            }
        }
    }

    fn of_truths(column: &ArrayRef) -> Self {
        let mut texts = Vec::new();
        let mut places = [None; 2];
        let of_row = column.as_boolean().iter().map(|truth| {
            let truth = truth?;
            let place = &mut places[usize::from(truth)];
            Some(*place.get_or_insert_with(|| add(&mut texts, truth.to_string())))
        });
        Categories { of_row: of_row.collect(), texts }
    }

    fn each<T: Copy + Ord>(
        values: impl Iterator<Item = Option<T>>,
        text: impl Fn(T) -> String,
    ) -> Self {
        let (mut places, mut texts) = (BTreeMap::new(), Vec::new());
        let mut last: Option<(T, u32)> = None;
        let of_row = values.map(|value| {
            let value = value?;
            if let Some((_, place)) = last.filter(|(before, _)| *before == value) {
                return Some(place);
            }
            let place = *places.entry(value).or_insert_with(|| add(&mut texts, text(value)));
            last = Some((value, place));
            Some(place)
        });
        Categories { of_row: of_row.collect(), texts }
    }

    /// Those of text in a dictionary, which may have a word twice, and words that no row has.
    fn of_words(column: &ArrayRef) -> Self {
        let dictionary = column.as_dictionary::<Int32Type>();
        let words = dictionary.values().as_string::<i32>();
        let (mut places, mut texts) = (BTreeMap::new(), Vec::new());
        // Of each word that a row has had, what became of it.
        let mut known: Vec<Option<Option<u32>>> = vec![None; words.len()];
        let of_row = dictionary.keys().iter().map(|key| {
            let word = usize::try_from(key?).ok()?;
            *known[word].get_or_insert_with(|| {
                let text = words.is_valid(word).then(|| words.value(word))?;
                Some(*places.entry(text).or_insert_with(|| add(&mut texts, text.to_owned())))
            })
        });
        Categories { of_row: of_row.collect(), texts }
    }
}

fn add(texts: &mut Vec<String>, text: String) -> u32 {
    texts.push(text);
    u32::try_from(texts.len() - 1).expect("a batch has fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, DictionaryArray, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn each_kind_of_column_has_the_texts_that_arrow_makes_of_it() {
        let words = StringArray::from(vec![Some("b"), Some("a"), Some("b"), None, Some("unused")]);
        let keys = Int32Array::from(vec![Some(2), Some(1), None, Some(0), Some(3), Some(1)]);
        let columns: [ArrayRef; 4] = [
            Arc::new(DictionaryArray::new(keys, Arc::new(words))),
            Arc::new(StringArray::from(vec![Some("b"), Some("b"), None, Some("a"), Some("b")])),
            Arc::new(Int64Array::from(vec![Some(7), Some(-3), None, Some(7), Some(i64::MIN)])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
        ];
        for column in columns {
            let found = Categories::of(&column).unwrap();
            let texts = cast(&column, &DataType::Utf8).unwrap();
            let texts: Vec<Option<&str>> = texts.as_string::<i32>().iter().collect();
            let text = |place: &Option<u32>| place.map(|p| found.texts[p as usize].as_str());
            assert_eq!(found.of_row.iter().map(text).collect::<Vec<_>>(), texts);
            let mut in_order: Vec<&str> = Vec::new();
            for text in texts.into_iter().flatten() {
                if !in_order.contains(&text) {
                    in_order.push(text);
                }
            }
            assert_eq!(found.texts, in_order);
        }
    }
}
