//! Which fields of a nested record the columns are read from, as a tree to walk beside the record.
//!
//! A path is written `a.b[0]`: names from the outermost in, a list's item by its number from 0. A name with a dot or a
//! bracket is quoted: `"a.b".c`. The path `$` is the record itself, for payloads that are one bare value.

use super::Wanted;
use foreline_engine::ConfigError;

/// Deepest nesting of a record. A walk takes a stack frame a level, and no sensor needs more.
pub(super) const DEPTH_MAX: usize = 64;

/// A place in a record: what reads it, and what is wanted inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Columns that take the value itself.
    pub(super) columns: Vec<usize>,
    names: Vec<(String, Node)>,
    items: Vec<(usize, Node)>,
}

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Item(usize),
}

impl Node {
    /// The tree of all `wanted` columns.
    pub(super) fn of(format: &str, wanted: &[Wanted<'_>], mistakes: &mut Vec<ConfigError>) -> Self {
        let mut root = Node::default();
        for column in wanted {
            let steps = match (&column.config.field, column.field_name(format)) {
                (None, Ok(name)) => Ok(vec![Step::Name(name.to_owned())]),
                (_, Ok(path)) => steps(path).ok_or_else(|| {
                    column
                        .error("field", format!("'{path}' is not a path"))
                        .help("write names and numbers as in a.b[0]; quote a name that has a dot or a bracket")
                }),
                (_, Err(e)) => Err(e),
            };
            match steps {
                Ok(steps) => root.add(&steps, column.index),
                Err(e) => mistakes.push(e),
            }
        }
        root
    }

    fn add(&mut self, steps: &[Step], column: usize) {
        let Some((first, rest)) = steps.split_first() else {
            self.columns.push(column);
            return;
        };
        let child = match first {
            Step::Name(name) => child(&mut self.names, name.clone()),
            Step::Item(item) => child(&mut self.items, *item),
        };
        child.add(rest, column);
    }

    /// What is wanted of the member `name`. `hint` is where the one before it was found: members mostly come in the same
    /// order.
    pub(super) fn member(&self, name: &str, hint: &mut usize) -> Option<&Node> {
        let n = self.names.len();
        let found = (0..n).map(|i| (*hint + i) % n).find(|&i| self.names[i].0 == name)?;
        *hint = found + 1;
        Some(&self.names[found].1)
    }

    /// What is wanted of item `index` of a list.
    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        self.items.iter().find(|(i, _)| *i == index).map(|(_, node)| node)
    }
}

fn child<K: PartialEq>(children: &mut Vec<(K, Node)>, key: K) -> &mut Node {
    let at = children.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
        children.push((key, Node::default()));
        children.len() - 1
    });
    &mut children[at].1
}

/// The steps of a path; `None` when it is none.
fn steps(path: &str) -> Option<Vec<Step>> {
    if path == "$" {
        return Some(Vec::new());
    }
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (name, after) = quoted.split_once('"')?;
            steps.push(Step::Name(name.to_owned()));
            rest = after;
        } else if !rest.starts_with('[') || !steps.is_empty() {
            let end = rest.find(['.', '[', ']', '"']).unwrap_or(rest.len());
            steps.push(Step::Name(rest[..end].to_owned()).nonempty()?);
            rest = &rest[end..];
        }
        while let Some(bracket) = rest.strip_prefix('[') {
            let (item, after) = bracket.split_once(']')?;
            steps.push(Step::Item(item.parse().ok()?));
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return rest.is_empty().then_some(steps),
        }
    }
}

impl Step {
    fn nonempty(self) -> Option<Self> {
        (self != Step::Name(String::new())).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let name = |n: &str| Step::Name(n.to_owned());
        assert_eq!(steps("$"), Some(vec![]));
        assert_eq!(steps("a"), Some(vec![name("a")]));
        assert_eq!(steps("a.b[0].c"), Some(vec![name("a"), name("b"), Step::Item(0), name("c")]));
        assert_eq!(steps("[1][2]"), Some(vec![Step::Item(1), Step::Item(2)]));
        assert_eq!(steps("\"a.b\".c"), Some(vec![name("a.b"), name("c")]));
        for bad in ["", ".", "a.", "a..b", "a[", "a[x]", "a[-1]", "a]b", "\"a", "a[0]b", "a\"b\""] {
            assert_eq!(steps(bad), None, "{bad}");
        }
    }
}
