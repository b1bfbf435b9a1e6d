//! Where a record ends and where its fields are.
//!
//! A quote opens a quoted field only where a field begins; inside, a doubled quote stands for one and a line
//! break is part of the field. A quote that is not closed within [`Dialect::row_bytes_max`], or not at all,
//! spoils its line only: reading goes on with the next one. The answer depends on the text from the record's
//! start and not on how the file was cut into blocks, so reader and decoder always agree.

use memchr::{memchr, memchr_iter};

/// What stands between fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delimiter {
    /// One byte.
    Byte(u8),
    /// Any run of spaces and tabs; those around the record are ignored.
    Blank,
}

/// How records are written.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    /// What stands between fields.
    pub(crate) delimiter: Delimiter,
    /// What a field may be wrapped in.
    pub(crate) quote: Option<u8>,
    /// Lines that begin so are skipped.
    pub(crate) comment: Option<Vec<u8>>,
    /// Longest record, without its line break.
    pub(crate) row_bytes_max: usize,
}

/// How far the record at the start of some text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Up to `end`, its line break included, over so many lines.
    Record { end: usize, lines: u64 },
    /// Further than a record may.
    TooLong,
    /// Further than the text at hand.
    Incomplete,
}

/// How the search for the end of a record with quotes went.
enum QuotedEnd {
    At(usize),
    NoLineBreak,
    OpenQuote,
}

impl Dialect {
    /// Where the record at the start of `text` ends. `whole` says that nothing follows the text.
    pub(crate) fn cut(&self, text: &[u8], whole: bool) -> Cut {
        let line = self.cut_line(text, whole);
        let Some(quote) = self.quote else { return line };
        let first_line = match line {
            Cut::Record { end, .. } => &text[..end],
            Cut::TooLong | Cut::Incomplete => text,
        };
        if memchr(quote, first_line).is_none() || self.is_comment(first_line) {
            return line;
        }
        let window = &text[..text.len().min(self.row_bytes_max + 1)];
        let too_long = text.len() > self.row_bytes_max;
        match self.quoted_end(window, quote) {
            QuotedEnd::At(at) => Cut::Record { end: at + 1, lines: n_lines(&text[..at]) },
            _ if !too_long && !whole => Cut::Incomplete,
            QuotedEnd::NoLineBreak if !too_long => {
                Cut::Record { end: text.len(), lines: n_lines(text) }
            }
            _ => line,
        }
    }

    /// As [`Dialect::cut`], for text without a quote.
    pub(crate) fn cut_line(&self, text: &[u8], whole: bool) -> Cut {
        let window = &text[..text.len().min(self.row_bytes_max + 1)];
        match memchr(b'\n', window) {
            Some(at) => Cut::Record { end: at + 1, lines: 1 },
            None if text.len() > self.row_bytes_max => Cut::TooLong,
            None if whole => Cut::Record { end: text.len(), lines: 1 },
            None => Cut::Incomplete,
        }
    }

    /// Whether a line is a comment.
    pub(crate) fn is_comment(&self, line: &[u8]) -> bool {
        self.comment.as_ref().is_some_and(|prefix| line.starts_with(prefix))
    }

    /// Whether a line, without its line break, holds no record.
    pub(crate) fn is_skipped(&self, line: &[u8]) -> bool {
        let empty = match self.delimiter {
            Delimiter::Byte(_) => line.is_empty(),
            Delimiter::Blank => line.iter().all(|b| matches!(b, b' ' | b'\t')),
        };
        empty || self.is_comment(line)
    }

    fn quoted_end(&self, text: &[u8], quote: u8) -> QuotedEnd {
        let mut field_starts = true;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if byte == quote && field_starts {
                match closing_quote(&text[at + 1..], quote) {
                    Some(inside) => at += inside + 1,
                    None => return QuotedEnd::OpenQuote,
                }
                field_starts = false;
            } else if byte == b'\n' {
                return QuotedEnd::At(at);
            } else {
                field_starts = self.is_delimiter(byte);
            }
            at += 1;
        }
        QuotedEnd::NoLineBreak
    }

    fn is_delimiter(&self, byte: u8) -> bool {
        match self.delimiter {
            Delimiter::Byte(delimiter) => byte == delimiter,
            Delimiter::Blank => matches!(byte, b' ' | b'\t'),
        }
    }
}

fn n_lines(text: &[u8]) -> u64 {
    memchr_iter(b'\n', text).count() as u64 + 1
}

/// The place of the quote that ends a quoted field whose inside starts `text`.
fn closing_quote(text: &[u8], quote: u8) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(quote, &text[from..])?;
        if text.get(at + 1) != Some(&quote) {
            return Some(at);
        }
        from = at + 2;
    }
}

/// The fields of one record; kept between records for its memory.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bounds: Vec<(u32, u32)>,
    unescaped: Vec<u8>,
    is_unescaped: bool,
}

/// What is wrong with the quotes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadQuotes(pub(crate) &'static str);

impl Fields {
    /// Finds the fields of `record`, which has no line break at its end.
    ///
    /// # Errors
    /// When a quote is not closed, or something follows a closing quote.
    pub(crate) fn split(&mut self, dialect: &Dialect, record: &[u8]) -> Result<(), BadQuotes> {
        match dialect.quote {
            Some(quote) if memchr(quote, record).is_some() => {
                self.split_quoted(dialect, quote, record)
            }
            _ => {
                self.split_plain(dialect, record);
                Ok(())
            }
        }
    }

    /// As [`Fields::split`], for a record without a quote.
    pub(crate) fn split_plain(&mut self, dialect: &Dialect, record: &[u8]) {
        self.bounds.clear();
        self.is_unescaped = false;
        match dialect.delimiter {
            Delimiter::Byte(delimiter) => self.split_at_byte(delimiter, record),
            Delimiter::Blank => self.split_at_blanks(record),
        }
    }

    /// How many fields.
    pub(crate) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Field `index` of the `record` that was split.
    pub(crate) fn get<'a>(&'a self, record: &'a [u8], index: usize) -> &'a [u8] {
        let (start, end) = self.bounds[index];
        let text = if self.is_unescaped { &self.unescaped } else { record };
        &text[start as usize..end as usize]
    }

    fn push(&mut self, start: usize, end: usize) {
        self.bounds.push((offset(start), offset(end)));
    }

    /// Eight bytes at a time: a field is so short that a call to `memchr` for each costs more than it saves.
    fn split_at_byte(&mut self, delimiter: u8, record: &[u8]) {
        let pattern = u64::from_le_bytes([delimiter; 8]);
        let (words, tail) = record.as_chunks::<8>();
        let mut start = 0;
        for (word_idx, word) in words.iter().enumerate() {
            let mut hits = zero_bytes(u64::from_le_bytes(*word) ^ pattern);
            while hits != 0 {
                let at = word_idx * 8 + hits.trailing_zeros() as usize / 8;
                self.push(start, at);
                start = at + 1;
                hits &= hits - 1;
            }
        }
        let tail_start = record.len() - tail.len();
        for (at, _) in tail.iter().enumerate().filter(|(_, b)| **b == delimiter) {
            self.push(start, tail_start + at);
            start = tail_start + at + 1;
        }
        self.push(start, record.len());
    }

    fn split_at_blanks(&mut self, record: &[u8]) {
        let mut start = None;
        for (at, byte) in record.iter().enumerate() {
            match (matches!(byte, b' ' | b'\t'), start) {
                (false, None) => start = Some(at),
                (true, Some(from)) => {
                    self.push(from, at);
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(from) = start {
            self.push(from, record.len());
        }
    }

    fn split_quoted(
        &mut self,
        dialect: &Dialect,
        quote: u8,
        record: &[u8],
    ) -> Result<(), BadQuotes> {
        self.bounds.clear();
        self.unescaped.clear();
        self.is_unescaped = true;
        let blank = dialect.delimiter == Delimiter::Blank;
        let mut rest = record;
        loop {
            if blank {
                let text = rest.iter().position(|b| !matches!(b, b' ' | b'\t'));
                let Some(text) = text else { return Ok(()) };
                rest = &rest[text..];
            }
            let after = self.take_field(dialect, quote, rest)?;
            match after.split_first() {
                Some((_, next)) => rest = next,
                None => return Ok(()),
            }
        }
    }

    /// Copies the field at the start of `text`; returns what follows it, its delimiter first.
    fn take_field<'a>(
        &mut self,
        dialect: &Dialect,
        quote: u8,
        text: &'a [u8],
    ) -> Result<&'a [u8], BadQuotes> {
        let start = self.unescaped.len();
        let Some(inside) = text.strip_prefix(&[quote]) else {
            let end = text.iter().position(|&b| dialect.is_delimiter(b)).unwrap_or(text.len());
            self.unescaped.extend_from_slice(&text[..end]);
            self.push(start, self.unescaped.len());
            return Ok(&text[end..]);
        };
        let end = closing_quote(inside, quote).ok_or(BadQuotes("a quote is not closed"))?;
        let after = &inside[end + 1..];
        if after.first().is_some_and(|&b| !dialect.is_delimiter(b)) {
            return Err(BadQuotes("text follows a closing quote"));
        }
        let mut quotes = 0_usize;
        self.unescaped.extend(inside[..end].iter().filter(|&&b| {
            quotes += usize::from(b == quote);
            b != quote || quotes % 2 == 1
        }));
        self.push(start, self.unescaped.len());
        Ok(after)
    }
}

/// The top bit of each byte that is zero.
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// A place in a record, whose length is limited far below 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("the configuration limits a row to less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comma() -> Dialect {
        Dialect {
            delimiter: Delimiter::Byte(b','),
            quote: Some(b'"'),
            comment: Some(b"#".to_vec()),
            row_bytes_max: 20,
        }
    }

    fn fields(dialect: &Dialect, record: &str) -> Result<Vec<String>, BadQuotes> {
        let mut fields = Fields::default();
        fields.split(dialect, record.as_bytes())?;
        let text = |i| String::from_utf8(fields.get(record.as_bytes(), i).to_vec()).unwrap();
        Ok((0..fields.len()).map(text).collect())
    }

    #[test]
    fn splits_at_a_byte() {
        let check = |record, expected: &[&str]| {
            assert_eq!(fields(&comma(), record).unwrap(), expected, "{record}");
        };
        check("", &[""]);
        check(",", &["", ""]);
        check("a,b,,c", &["a", "b", "", "c"]);
        check(",,,,,,,,,", &[""; 10]);
        check("12345678,12345678,1", &["12345678", "12345678", "1"]);
        check(r#""a,b",c"#, &["a,b", "c"]);
        check(r#""say ""no""","""#, &["say \"no\"", ""]);
        check(r#"a"b,"","#, &["a\"b", "", ""]);
        check("\u{ac},-", &["\u{ac}", "-"]);
    }

    #[test]
    fn splits_at_blanks() {
        let blank = Dialect { delimiter: Delimiter::Blank, ..comma() };
        assert_eq!(fields(&blank, "  1 2\t\t3  ").unwrap(), ["1", "2", "3"]);
        assert_eq!(fields(&blank, " \"a b\"  c ").unwrap(), ["a b", "c"]);
        assert_eq!(fields(&blank, "   ").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn quotes_that_do_not_fit() {
        assert!(fields(&comma(), r#""a,b"#).is_err());
        assert!(fields(&comma(), r#""a"b,c"#).is_err());
    }

    #[test]
    fn cuts_records() {
        let check = |text: &str, whole, expected| {
            assert_eq!(comma().cut(text.as_bytes(), whole), expected, "{text}");
        };
        check("a,b\nc", false, Cut::Record { end: 4, lines: 1 });
        check("a,b", false, Cut::Incomplete);
        check("a,b", true, Cut::Record { end: 3, lines: 1 });
        check("\"a\nb\"\nc", false, Cut::Record { end: 6, lines: 2 });
        check("\"a\nb\"", true, Cut::Record { end: 5, lines: 2 });
        check("\"a\nb", false, Cut::Incomplete);
        check("\"a\nb", true, Cut::Record { end: 3, lines: 1 });
        check("# \"a\nb\"\n", false, Cut::Record { end: 5, lines: 1 });
        check("123456789012345678901", false, Cut::TooLong);
        check("12345678901234567890\n", false, Cut::Record { end: 21, lines: 1 });
        check("\"a\n12345678901234567\"", true, Cut::Record { end: 3, lines: 1 });
    }
}
