//! Values that come from outside the file: `${env:NAME}` and `${file:/path}`.
//!
//! They are put in after the file is parsed and only into values, so that a secret can never change what the file
//! says. `$${` stands for a plain `${`. A text that holds a secret prints as `***` from then on.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::{Node, Span, Value};

/// Options whose values are secrets, also where they are written out in the file.
const SECRET_KEYS: [&str; 5] =
    ["password", "secret", "secret_access_key", "session_token", "tokens"];
/// Largest file that a value is read from; keys and passwords are far smaller.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text that is not to be printed.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where values from outside come from.
pub trait Environment {
    /// The environment variable `name`.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let text = crate::check::read_up_to(path, MAX_SECRET_BYTES).map_err(|e| e.to_string())?;
        if text.len() as u64 > MAX_SECRET_BYTES {
            return Err(format!("it has more than {MAX_SECRET_BYTES} bytes, which is the limit"));
        }
        String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())
    }
}

/// Puts secrets into a tree and remembers them, to keep them out of messages.
pub(crate) struct Secrets<'a> {
    pub(crate) environment: &'a dyn Environment,
    pub(crate) folder: PathBuf,
    known: BTreeSet<String>,
}

impl<'a> Secrets<'a> {
    pub(crate) fn new(environment: &'a dyn Environment, folder: &Path) -> Self {
        Secrets { environment, folder: folder.to_owned(), known: BTreeSet::new() }
    }

    /// Resolves every value of the tree; one that cannot be stays as it is, with a diagnostic.
    pub(crate) fn resolve(&mut self, node: &mut Node, out: &mut Vec<Diagnostic>) {
        match &mut node.value {
            Value::Text(text) if text.contains("${") => match self.expand(text) {
                Ok((text, true)) => node.value = Value::Secret(Secret(text)),
                Ok((text, false)) => node.value = Value::Text(text),
                Err((code, message, help)) => {
                    out.push(Diagnostic::error(code, node.span, message).help(help));
                }
            },
            Value::Seq(items) => items.iter_mut().for_each(|i| self.resolve(i, out)),
            Value::Map(entries) => entries.iter_mut().for_each(|e| {
                self.resolve(&mut e.value, out);
                mark(&e.key, &mut e.value, out);
            }),
            _ => {}
        }
    }

    /// `text` with its references replaced, and whether there were any.
    fn expand(&mut self, text: &str) -> Result<(String, bool), (Code, String, String)> {
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        let mut found = false;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                done.push_str(&rest[..at]);
                done.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            done.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                let message = "a '${' without its '}'".to_owned();
                let help = "write ${env:NAME} or ${file:/path}; for a plain '${' write '$${'";
                return Err((Code::SECRET_FORM, message, help.to_owned()));
            };
            let value = self.look_up(&rest[at + 2..at + end])?;
            done.push_str(&value);
            self.known.insert(value);
            found = true;
            rest = &rest[at + end + 1..];
        }
        done.push_str(rest);
        Ok((done, found))
    }

    fn look_up(&self, reference: &str) -> Result<String, (Code, String, String)> {
        match reference.split_once(':') {
            Some(("env", name)) => self.environment.variable(name).ok_or_else(|| {
                let message = format!("the environment variable '{name}' is not set");
                (Code::SECRET_UNSET, message, format!("set it: export {name}=..."))
            }),
            Some(("file", path)) => {
                let text = self.environment.file(&self.folder.join(path)).map_err(|why| {
                    let message = format!("the file '{path}' cannot be read: {why}");
                    let help = "name a file that this user may read".to_owned();
                    (Code::SECRET_UNSET, message, help)
                })?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            _ => {
                let message = format!("'${{{reference}}}' does not say where the value comes from");
                let help = "write ${env:NAME} or ${file:/path}; for a plain '${' write '$${'";
                Err((Code::SECRET_FORM, message, help.to_owned()))
            }
        }
    }

    /// `text` without any secret that was put in.
    pub(crate) fn scrub(&self, text: &str) -> String {
        // The longest first: a secret may be part of another.
        let mut known: Vec<_> = self.known.iter().filter(|s| !s.is_empty()).collect();
        known.sort_by_key(|s| std::cmp::Reverse(s.len()));
        known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Takes a text that the file gives in the clear for the secret that it is.
fn mark(key: &str, value: &mut Node, out: &mut Vec<Diagnostic>) {
    let Value::Text(text) = &value.value else { return };
    if !SECRET_KEYS.contains(&key) && credentials(text).is_none() || text.contains("${") {
        return;
    }
    let note = "a secret stands in the file: whoever reads the file has it";
    let warning = Diagnostic::warning(Code::NOTE, value.span, note);
    out.push(warning.help("write \"${env:NAME}\" or \"${file:/path}\" instead"));
    value.value = Value::Secret(Secret(text.clone()));
}

/// `text` with secrets that are written out in it covered, byte for byte, so that places stay what they are: diagnostics
/// show lines of the file.
pub(crate) fn cover(text: &str, root: &Node) -> String {
    let mut bytes = text.as_bytes().to_vec();
    cover_in(root, false, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cover_in(node: &Node, is_secret: bool, bytes: &mut [u8]) {
    match &node.value {
        Value::Seq(items) => items.iter().for_each(|item| cover_in(item, is_secret, bytes)),
        Value::Map(entries) => entries.iter().for_each(|entry| {
            cover_in(&entry.value, SECRET_KEYS.contains(&&*entry.key), bytes);
        }),
        _ => {
            let Span { start, end } = node.span;
            let written = String::from_utf8_lossy(bytes.get(start..end).unwrap_or_default());
            let part =
                credentials(&written).map(|(a, b)| Span { start: start + a, end: start + b });
            let whole = is_secret.then_some(node.span);
            // Where the file only says where it comes from, that is no secret.
            let secret = part.or(whole).filter(|_| !written.contains("${"));
            if let Some(secret) = secret {
                hide(secret, bytes);
            }
        }
    }
}

/// Where in a URL the password stands.
fn credentials(url: &str) -> Option<(usize, usize)> {
    let host = url.find("://")? + 3;
    let end = host + url[host..].find('@')?;
    let start = host + url[host..end].find(':')? + 1;
    (!url[host..end].contains(['/', ' ']) && !url[start..end].contains("${"))
        .then_some((start, end))
}

/// As [`cover`], for a text that is no tree: whatever follows the name of a secret on its line is covered.
pub(crate) fn cover_lines(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let value = |key: &&str| {
            let after = line.find(&format!("{key}:"))? + key.len() + 1;
            (!line[after..].trim_start_matches([' ', '"', '\'']).starts_with("${")).then_some(after)
        };
        let end = start + line.len();
        if let Some(after) = SECRET_KEYS.iter().filter_map(value).min() {
            hide(Span { start: start + after, end }, &mut bytes);
        } else if let Some((first, last)) = credentials(line) {
            hide(Span { start: start + first, end: start + last }, &mut bytes);
        }
        start = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hide(span: Span, bytes: &mut [u8]) {
    for byte in bytes.get_mut(span.start..span.end).unwrap_or_default() {
        if !byte.is_ascii_whitespace() {
            *byte = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "a: { password: \"sécret, 1\", user: me, tokens: [one, '${env:T}'] }
b:
  password: |
    secret
  url: postgres://me:secret@host/x
  mail: me@host
";

    #[test]
    fn secrets_that_are_written_out_are_covered() {
        let (mut root, _) = crate::yaml::parse(WRITTEN).unwrap();
        let environment: &dyn Environment = &ProcessEnvironment;
        Secrets::new(environment, Path::new("")).resolve(&mut root, &mut Vec::new());
        let shown = cover(WRITTEN, &root);
        assert_eq!(shown.len(), WRITTEN.len());
        assert!(!shown.contains("cret") && !shown.contains("one"), "{shown}");
        for stays in ["user: me,", "postgres://me:******@host/x", "mail: me@host"] {
            assert!(shown.contains(stays), "{shown}");
        }
    }

    #[test]
    fn they_are_covered_where_the_file_cannot_be_read_too() {
        let broken =
            "a: { password: secret, [\nb: '${env:T}'\npassword: ${env:P}\nu: mqtt://a:secret@b\n";
        let shown = cover_lines(broken);
        assert_eq!(shown.len(), broken.len());
        assert!(!shown.contains("secret") && shown.contains("password: ${env:P}"), "{shown}");
    }
}
