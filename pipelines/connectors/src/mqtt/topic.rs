//! Topics as users write them: what to subscribe to, and which levels are columns.

use crate::kind::ColumnConfig;

/// Longest topic that MQTT allows.
const TOPIC_BYTES_MAX: usize = 65_535;

/// A topic with wildcards and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// What the broker is asked for.
    pub(super) filter: String,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Fixed(String),
    Any,
    /// The value of a column, by its place among the declared columns.
    Column(usize),
    /// All levels from here on, if there are any.
    Rest,
}

/// What is wrong with a topic, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadTopic {
    pub(super) message: String,
    pub(super) help: &'static str,
    /// A column that was not found.
    pub(super) unknown: Option<String>,
}

impl Template {
    /// The topic that `text` writes.
    pub(super) fn parse(text: &str, columns: &[(String, ColumnConfig)]) -> Result<Self, BadTopic> {
        let bad = |message: String, help| BadTopic { message, help, unknown: None };
        if text.is_empty() || text.len() > TOPIC_BYTES_MAX || text.contains('\0') {
            return Err(bad(format!("'{text}' is not a topic"), "name at least one level"));
        }
        if text.starts_with("$share/") {
            return Err(bad(
                format!("'{text}' shares its messages with other clients"),
                "subscribe to the topic itself; the workers of a pipeline share the work anyway",
            ));
        }
        let mut levels = Vec::new();
        let mut rest = text.split('/').peekable();
        while let Some(level) = rest.next() {
            let level = level_of(level, rest.peek().is_none(), columns).map_err(|e| match e {
                LevelError::Column(name) => BadTopic {
                    message: format!("there is no column '{name}'"),
                    help: "declare it under 'columns', or write + for a level that is not wanted",
                    unknown: Some(name.to_owned()),
                },
                LevelError::Wildcard => bad(
                    format!("level '{level}' of '{text}' is not a level"),
                    "a wildcard or a column takes a whole level: + or {name}, and # only at the end",
                ),
            })?;
            if matches!(level, Level::Column(_)) && levels.contains(&level) {
                let message = format!("'{text}' names one column twice");
                return Err(bad(message, "write + for a level that is not wanted"));
            }
            levels.push(level);
        }
        let filter: Vec<&str> = levels.iter().map(Level::filter).collect();
        Ok(Template { filter: filter.join("/"), levels })
    }

    /// The columns that are levels, by their place among the declared columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.levels.iter().filter_map(|level| match level {
            Level::Column(column) => Some(*column),
            _ => None,
        })
    }

    /// Whether level `place`, from 0, of some topic that fits can be `text`.
    pub(super) fn takes(&self, place: usize, text: &str) -> bool {
        let rest = || self.levels.iter().take(place).any(|level| *level == Level::Rest);
        match self.levels.get(place) {
            Some(Level::Fixed(fixed)) => fixed == text,
            Some(_) => true,
            None => rest(),
        }
    }

    /// Whether `topic` fits; `found` is told each column and its level.
    pub(super) fn fits<'t>(&self, topic: &'t str, mut found: impl FnMut(usize, &'t str)) -> bool {
        let mut levels = topic.split('/');
        for wanted in &self.levels {
            match (wanted, levels.next()) {
                (Level::Rest, _) => return true,
                (_, None) => return false,
                (Level::Fixed(fixed), Some(level)) if fixed != level => return false,
                (Level::Column(column), Some(level)) => found(*column, level),
                (Level::Fixed(_) | Level::Any, Some(_)) => {}
            }
        }
        levels.next().is_none()
    }
}

enum LevelError<'a> {
    Column(&'a str),
    Wildcard,
}

fn level_of<'a>(
    level: &'a str,
    is_last: bool,
    columns: &[(String, ColumnConfig)],
) -> Result<Level, LevelError<'a>> {
    if let Some(name) = level.strip_prefix('{').and_then(|l| l.strip_suffix('}')) {
        let column = columns.iter().position(|(column, _)| column == name);
        return column.map(Level::Column).ok_or(LevelError::Column(name));
    }
    match level {
        "+" => Ok(Level::Any),
        "#" if is_last => Ok(Level::Rest),
        _ if level.contains(['+', '#', '{', '}']) => Err(LevelError::Wildcard),
        _ => Ok(Level::Fixed(level.to_owned())),
    }
}

impl Level {
    fn filter(&self) -> &str {
        match self {
            Level::Fixed(text) => text,
            Level::Any | Level::Column(_) => "+",
            Level::Rest => "#",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn columns() -> Vec<(String, ColumnConfig)> {
        let config = || serde_json::from_value(json!({ "type": "string" })).unwrap();
        vec![("line".to_owned(), config()), ("machine".to_owned(), config())]
    }

    fn fits(template: &str, topic: &str) -> Option<Vec<(usize, String)>> {
        let mut found = Vec::new();
        let template = Template::parse(template, &columns()).unwrap();
        template
            .fits(topic, |column, level| found.push((column, level.to_owned())))
            .then_some(found)
    }

    #[test]
    fn levels_are_columns() {
        let template = "plant/{line}/{machine}/vib";
        assert_eq!(Template::parse(template, &columns()).unwrap().filter, "plant/+/+/vib");
        let found = vec![(0, "A".to_owned()), (1, "P-7".to_owned())];
        assert_eq!(fits(template, "plant/A/P-7/vib"), Some(found));
        assert_eq!(fits(template, "plant/A/P-7/vib/x"), None);
        assert_eq!(fits(template, "plant/A/P-7"), None);
        assert_eq!(fits("+/{line}/#", "a/b"), Some(vec![(0, "b".to_owned())]));
        assert_eq!(fits("+/{line}/#", "a/b/c/d"), Some(vec![(0, "b".to_owned())]));
        assert_eq!(fits("#", ""), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_topic() {
        for bad in
            ["", "a/#/b", "a+/b", "a/{line}x", "{line}/{line}", "a/{lin}", "$share/g/a", "a\0"]
        {
            assert!(Template::parse(bad, &columns()).is_err(), "{bad}");
        }
        assert_eq!(
            Template::parse("a/{lin}", &columns()).unwrap_err().unknown.as_deref(),
            Some("lin")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_topic_or_a_mistake(text in ".{0,40}", topic in ".{0,40}") {
            if let Ok(template) = Template::parse(&text, &columns()) {
                template.fits(&topic, |_, _| {});
            }
        }
    }
}
