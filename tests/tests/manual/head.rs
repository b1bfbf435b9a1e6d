//! The head of an operator's file, taken apart.

use foreline_tests::root;

/// What a head says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Head {
    /// The first sentence, or more of them.
    pub(super) opening: String,
    /// `Input`, `Output`, `State` and so on, each with its text.
    pub(super) parts: Vec<(String, String)>,
    /// What follows, paragraph by paragraph.
    pub(super) notes: Vec<String>,
}

/// The words that a part begins with.
const PARTS: &[&str] = &["Input", "Output", "State", "Late", "Errors", "Source"];

/// The head of the operator `name`.
pub(super) fn of(name: &str) -> Option<Head> {
    let path = root().join(format!("operators/src/{name}.rs"));
    Some(parse(&std::fs::read_to_string(path).ok()?))
}

fn parse(text: &str) -> Head {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut head = Head::default();
    let mut paragraph = String::new();
    for line in lines.chain([""]) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        let word = line.split(' ').next().unwrap_or_default();
        if PARTS.contains(&word) && line.len() > word.len() {
            let text = line[word.len()..].trim().to_owned();
            head.parts.push((word.to_owned(), text));
        } else if let (true, Some((_, part))) = (line.starts_with("    "), head.parts.last_mut())
            && paragraph.is_empty()
        {
            part.push(' ');
            part.push_str(line.trim());
        } else if line.is_empty() {
            head.end(paragraph.trim_end());
            paragraph.clear();
        } else {
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    head
}

impl Head {
    fn end(&mut self, paragraph: &str) {
        match () {
            () if paragraph.is_empty() => {}
            () if self.opening.is_empty() => paragraph.clone_into(&mut self.opening),
            () => self.notes.push(paragraph.to_owned()),
        }
    }
}

#[test]
fn a_head_is_taken_apart() {
    let text = "//! Does it.\n//!\n//! Input   keyed\n//!         rows\n//! State   none\n//!\n//! A note\n//! of two lines.\n//!\n//! * a list\n\nuse x;\n";
    let parts = [("Input", "keyed rows"), ("State", "none")];
    let expected = Head {
        opening: "Does it.".to_owned(),
        parts: parts.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        notes: vec!["A note\nof two lines.".to_owned(), "* a list".to_owned()],
    };
    assert_eq!(parse(text), expected);
}
