//! Values that come from outside the file: `${env:NAME}` and `${file:/path}`.
//!
//! They are put in after the file is parsed and only into values, so that a secret can never change what the file
//! says. `$${` stands for a plain `${`. A text that holds a secret prints as `***` from then on.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::{Node, Value};

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
            Value::Map(entries) => entries.iter_mut().for_each(|e| self.resolve(&mut e.value, out)),
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
