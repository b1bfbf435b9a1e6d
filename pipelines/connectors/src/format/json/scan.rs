//! Walks a JSON text and picks the values that columns are read from.
//!
//! What is not JSON ends the walk ([`Malformed`]); what is JSON but no usable record (a member twice, an unknown one) is
//! the record's `problem`, and the walk goes on behind it.

use std::borrow::Cow;

use crate::format::fields::{DEPTH_MAX, Node};
use crate::record::Value;

/// Up to so many members are compared each with each; more are sorted.
const FEW_MEMBERS: usize = 16;

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The byte where that shows.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) what: &'static str,
}

/// What a column found.
#[derive(Debug, Clone, Copy)]
enum Found<'a> {
    Nothing,
    Value(Value<'a>),
    /// A text with escapes: this part of [`Record::unescaped`].
    Unescaped(usize, usize),
}

/// The values of one record, by column. Kept between records for its memory.
#[derive(Debug)]
pub(super) struct Record<'a> {
    found: Vec<Found<'a>>,
    unescaped: String,
    /// The names of the members of the objects that the walk is in, the outermost first.
    names: Vec<Cow<'a, str>>,
    problem: Option<String>,
}

impl<'a> Record<'a> {
    /// A record without values; only columns below `n_columns` are looked for.
    pub(super) fn new(n_columns: usize) -> Self {
        let found = vec![Found::Nothing; n_columns];
        Record { found, unescaped: String::new(), names: Vec::new(), problem: None }
    }

    pub(super) fn clear(&mut self) {
        self.found.fill(Found::Nothing);
        self.unescaped.clear();
        self.names.clear();
        self.problem = None;
    }

    /// Why it cannot be used, if that is so.
    pub(super) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    /// The value of a column, if the record has it.
    pub(super) fn value(&self, column: usize) -> Option<Value<'_>> {
        match *self.found.get(column)? {
            Found::Nothing => None,
            Found::Value(value) => Some(value),
            Found::Unescaped(start, end) => Some(Value::Text(&self.unescaped[start..end])),
        }
    }

    fn note(&mut self, node: Option<&Node>, found: Found<'a>) {
        for &column in node.map_or(&[][..], |n| &n.columns) {
            self.found[column] = found;
        }
    }

    #[cold]
    fn spoil(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Looks for a name twice among those from `mark` on, and forgets them.
    fn close_object(&mut self, mark: usize) {
        let names = &mut self.names[mark..];
        let twice = if names.len() <= FEW_MEMBERS {
            (1..names.len()).find(|&i| names[..i].contains(&names[i])).map(|i| names[i].clone())
        } else {
            names.sort_unstable();
            names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
        };
        if let Some(name) = twice {
            self.spoil(format!("member '{}' is there twice", shortened(&name)));
        }
        self.names.truncate(mark);
    }
}

/// The first letters of a text, for a message.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

type Walked<T = ()> = Result<T, Malformed>;

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scan { text, at: 0 }
    }

    /// Whether the text is a list; its opening bracket is passed then.
    pub(super) fn opens_list(&mut self) -> bool {
        self.blank();
        self.take(b'[')
    }

    /// Whether the list that was opened has another item, which comes next. `first` is true for the first call.
    pub(super) fn next_item(&mut self, first: &mut bool) -> Walked<bool> {
        self.blank();
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',', "expected ',' or ']'")?;
        }
        Ok(true)
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Walked {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { Err(self.bad("something follows")) }
    }

    /// Whether the text is one JSON value and nothing else.
    pub(super) fn whole(&mut self) -> Walked {
        let mut record = Record::new(0);
        self.value(None, 0, &mut record)?;
        self.end()
    }

    /// Passes a value and notes what `root` wants of it; its text. `strict` makes an unknown member of an object at the
    /// top a problem.
    pub(super) fn record(
        &mut self,
        root: &Node,
        strict: bool,
        record: &mut Record<'a>,
    ) -> Walked<&'a str> {
        self.blank();
        let start = self.at;
        if self.peek() == Some(b'{') {
            self.object(Some(root), 1, strict, record)?;
            record.note(Some(root), Found::Value(Value::Nested(self.since(start).as_bytes())));
        } else {
            self.value(Some(root), 0, record)?;
        }
        Ok(self.since(start))
    }

    fn value(&mut self, node: Option<&Node>, depth: usize, record: &mut Record<'a>) -> Walked {
        self.blank();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(node, depth + 1, false, record)?,
            Some(b'[') => self.list(node, depth + 1, record)?,
            Some(b'"') => {
                let found = self.string(record)?;
                record.note(node, found);
                return Ok(());
            }
            _ => {
                let value = self.scalar()?;
                record.note(node, Found::Value(value));
                return Ok(());
            }
        }
        record.note(node, Found::Value(Value::Nested(self.since(start).as_bytes())));
        Ok(())
    }

    fn object(
        &mut self,
        node: Option<&Node>,
        depth: usize,
        strict: bool,
        record: &mut Record<'a>,
    ) -> Walked {
        self.check_depth(depth)?;
        self.at += 1;
        let mark = record.names.len();
        let (mut first, mut hint) = (true, 0);
        loop {
            self.blank();
            if self.take(b'}') {
                break;
            }
            if !std::mem::replace(&mut first, false) {
                self.expect(b',', "expected ',' or '}'")?;
                self.blank();
            }
            let name = self.name(record)?;
            let child = node.and_then(|n| n.member(&name, &mut hint));
            if strict && child.is_none() {
                record.spoil(format!("no column is read from member '{}'", shortened(&name)));
            }
            record.names.push(name);
            self.blank();
            self.expect(b':', "expected ':'")?;
            self.value(child, depth, record)?;
        }
        record.close_object(mark);
        Ok(())
    }

    fn list(&mut self, node: Option<&Node>, depth: usize, record: &mut Record<'a>) -> Walked {
        self.check_depth(depth)?;
        self.at += 1;
        let mut first = true;
        let mut index = 0;
        while self.next_item(&mut first)? {
            self.value(node.and_then(|n| n.item(index)), depth, record)?;
            index += 1;
        }
        Ok(())
    }

    fn name(&mut self, record: &mut Record<'a>) -> Walked<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.bad("expected a member's name in quotes"));
        }
        let before = record.unescaped.len();
        Ok(match self.string(record)? {
            Found::Value(Value::Text(name)) => Cow::Borrowed(name),
            _ => {
                let name = record.unescaped.split_off(before);
                Cow::Owned(name)
            }
        })
    }

    /// Passes a text in quotes.
    fn string(&mut self, record: &mut Record<'a>) -> Walked<Found<'a>> {
        self.at += 1;
        let start = self.at;
        let unescaped = record.unescaped.len();
        let mut copied = start;
        loop {
            match self.peek() {
                None => return Err(self.bad("a text is not closed")),
                Some(b'"') => break,
                Some(b'\\') => {
                    record.unescaped.push_str(&self.text[copied..self.at]);
                    record.unescaped.push(self.escape()?);
                    copied = self.at;
                }
                Some(0..=0x1f) => return Err(self.bad("a control character stands in a text")),
                Some(_) => self.at += 1,
            }
        }
        let rest = &self.text[copied..self.at];
        self.at += 1;
        if copied == start {
            return Ok(Found::Value(Value::Text(rest)));
        }
        record.unescaped.push_str(rest);
        Ok(Found::Unescaped(unescaped, record.unescaped.len()))
    }

    /// Passes what a backslash begins.
    fn escape(&mut self) -> Walked<char> {
        let code = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match code {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.bad("there is no such escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    /// Passes `\u0041`, or two of them that make a pair of surrogates.
    fn unicode(&mut self) -> Walked<char> {
        const HALF: &str = "half of a surrogate pair";
        let unit = self.hex()?;
        let code = match unit {
            0xd800..=0xdbff => {
                let low = if self.text[self.at..].starts_with("\\u") { self.hex()? } else { 0 };
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.bad(HALF));
                }
                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            unit => unit,
        };
        char::from_u32(code).ok_or_else(|| self.bad(HALF))
    }

    fn hex(&mut self) -> Walked<u32> {
        let digits = self.text.as_bytes().get(self.at + 2..self.at + 6).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.bad("'\\u' needs four digits"));
        }
        let code = digits.iter().fold(0, |n, d| n * 16 + char::from(*d).to_digit(16).unwrap_or(0));
        self.at += 6;
        Ok(code)
    }

    fn scalar(&mut self) -> Walked<Value<'a>> {
        const WORDS: &[(&str, Value<'static>)] = &[
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ];
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !matches!(c, '0'..='9' | 'a'..='z' | 'A'..='Z' | '+' | '-' | '.'));
        let word = &rest[..end.unwrap_or(rest.len())];
        let value = match WORDS.iter().find(|(w, _)| *w == word) {
            Some((_, value)) => *value,
            None if is_number(word.as_bytes()) => Value::Number(word),
            None => return Err(self.bad("expected a value")),
        };
        self.at += word.len();
        Ok(value)
    }

    fn check_depth(&self, depth: usize) -> Walked {
        if depth <= DEPTH_MAX { Ok(()) } else { Err(self.bad("nested more than 64 deep")) }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Walked {
        if self.take(byte) { Ok(()) } else { Err(self.bad(what)) }
    }

    fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    #[cold]
    fn bad(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }
}

/// Whether `text` is a number as JSON writes it.
fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(decimals) = rest.strip_prefix(b".") {
        let n = digits(decimals);
        if n == 0 {
            return false;
        }
        rest = &decimals[n..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent =
            exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let n = digits(exponent);
        return n > 0 && n == exponent.len();
    }
    rest.is_empty()
}
