//! From a positioned tree to the sections of a pipeline file; every mistake of shape is found here.
//!
//! A source, step or sink that cannot be read stays in the file as a name without a configuration, so that what
//! refers to it is not reported as well.

use foreline_connectors::{SinkConfig, SourceConfig};
use foreline_engine::{ConfigError, Described, Extent, StepConfig, StreamId, parse_config};
use foreline_operators::alert_book::BookOptions;
use serde_json::Value as Json;

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{
    AlertEntry, EpochConfig, EvaluationConfig, JournalConfig, ReferenceCommon, ServeConfig,
    SinkCommon, SnapshotConfig, SourceCommon, StepCommon, TestConfig, TrainingConfig, TuningConfig,
    ViewConfig,
};
use crate::kinds::{BlockLanguage, Kinds, Language, MAX_WORKERS};
use crate::shape::{Owner, Shapes, is_missing, misspelt, unknown_key};
use crate::suggest::closest;
use crate::yaml::{Entry, Node, Span, Value};

/// A stream that every pipeline has: rows that could not be used.
pub const DEAD_LETTERS: &str = "dead_letters";
/// A stream that every pipeline has: rows behind their key's watermark, whether they corrected the result or not.
pub const LATE: &str = "late";

/// The streams that nothing in a file makes, and what each holds. Only sinks take them, and tests look at them.
pub(crate) const DIAGNOSTICS: &[(&str, StreamId, &str)] = &[
    (DEAD_LETTERS, StreamId::DeadLetters, "rows that could not be used"),
    (LATE, StreamId::Late, "rows behind their key's watermark"),
];

/// The stream called `name`, if nothing in the file makes it.
pub(crate) fn diagnostic(name: &str) -> Option<StreamId> {
    DIAGNOSTICS.iter().find(|d| d.0 == name).map(|d| d.1)
}

/// Longest name; names become columns of metrics and folders.
const MAX_NAME_LENGTH: usize = 64;

const SECTIONS: &[&str] = &[
    "version",
    "name",
    "sources",
    "reference",
    "steps",
    "views",
    "alerts",
    "alert_book",
    "sinks",
    "training",
    "evaluation",
    "tuning",
    "tests",
    "epoch",
    "snapshot",
    "journal",
    "serve",
    "data_dir",
    "workers",
];

/// A source, step or sink.
#[derive(Debug)]
pub(crate) struct Block<'n, Common, Config: ?Sized> {
    pub(crate) name: &'n str,
    pub(crate) name_span: Span,
    /// All of it.
    pub(crate) node: &'n Node,
    /// What all of its sort have; nothing when it could not be read.
    pub(crate) common: Option<Common>,
    /// The kind with its configuration; nothing when either could not be read.
    pub(crate) kind: Option<Kind<'n, Config>>,
}

/// A step.
pub(crate) type StepBlock<'n> = Block<'n, StepCommon, dyn StepConfig>;

/// A kind with its configuration.
#[derive(Debug)]
pub(crate) struct Kind<'n, Config: ?Sized> {
    pub(crate) name: &'static str,
    pub(crate) entry: &'n Entry,
    pub(crate) config: Box<Config>,
}

/// A named configuration without kinds.
#[derive(Debug)]
pub(crate) struct Named<'n, Config> {
    pub(crate) name: &'n str,
    pub(crate) name_span: Span,
    pub(crate) node: &'n Node,
    pub(crate) config: Config,
}

/// A pipeline file whose every value has its type; names are not looked up.
#[derive(Debug)]
pub(crate) struct PipelineFile<'n> {
    pub(crate) name: Option<String>,
    pub(crate) sources: Vec<Block<'n, SourceCommon, dyn SourceConfig>>,
    pub(crate) references: Vec<Block<'n, ReferenceCommon, dyn SourceConfig>>,
    pub(crate) steps: Vec<Block<'n, StepCommon, dyn StepConfig>>,
    pub(crate) sinks: Vec<Block<'n, SinkCommon, dyn SinkConfig>>,
    pub(crate) views: Vec<Named<'n, ViewConfig>>,
    pub(crate) alerts: Vec<Named<'n, AlertEntry>>,
    /// What becomes of alerts, with its place, if the file says.
    pub(crate) alert_book: Option<BookOptions>,
    pub(crate) alert_book_entry: Option<&'n Entry>,
    pub(crate) training: Vec<Named<'n, TrainingConfig>>,
    pub(crate) evaluation: Vec<Named<'n, EvaluationConfig>>,
    pub(crate) tuning: Vec<Named<'n, TuningConfig>>,
    pub(crate) tests: Vec<Named<'n, TestConfig>>,
    pub(crate) epoch: EpochConfig,
    pub(crate) snapshot: SnapshotConfig,
    pub(crate) journal: JournalConfig,
    /// The section with its node, if there is one.
    pub(crate) serve: Option<(ServeConfig, &'n Entry)>,
    pub(crate) data_dir: Option<String>,
    pub(crate) workers: Option<usize>,
    /// Names that something stands behind which could not be read.
    pub(crate) later: Vec<&'n str>,
}

/// Reads a tree.
pub(crate) struct Reader<'a> {
    pub(crate) kinds: &'a Kinds,
    pub(crate) language: &'a Language,
    pub(crate) out: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    pub(crate) fn file<'n>(&mut self, root: &'n Node) -> Option<PipelineFile<'n>> {
        let start = Span { start: 0, end: 0 };
        if !matches!(root.value, Value::Map(_)) {
            let message = "the file is not a pipeline: it has no keys";
            let help = "begin with 'version: 1', then 'sources:', 'steps:' and 'sinks:'";
            self.out.push(Diagnostic::error(Code::MISSING_KEY, start, message).help(help));
            return None;
        }
        self.version(root);
        self.sections(root);
        let mut later = Vec::new();
        if root.get("sources").is_none() {
            let message = "the file has no 'sources'";
            let help = "name at least one: sources: { readings: { csv: { path: data.csv }, ... } }";
            self.out.push(Diagnostic::error(Code::MISSING_KEY, start, message).help(help));
        }
        let kinds = self.kinds;
        let language = self.language;
        let views = self.named(root, "views", &language.view);
        let alerts = self.named(root, "alerts", &language.alert);
        let (alert_book, alert_book_entry) =
            self.settings::<BookOptions>(root, "alert_book", &language.alert_book);
        let mut unread = |section: &str, read: Vec<&str>| {
            let entries = root.get(section).into_iter().flat_map(Node::entries);
            later.extend(entries.map(|e| e.key.as_str()).filter(|name| !read.contains(name)));
        };
        unread("views", views.iter().map(|v| v.name).collect());
        unread("alerts", alerts.iter().map(|a| a.name).collect());
        Some(PipelineFile {
            name: self.name(root),
            sources: self.blocks(root, "sources", "source", &language.source, |name, value| {
                kinds.sources.iter().find(|k| k.name == name).map(|k| (k.parse)(value))
            }),
            references: self.blocks(
                root,
                "reference",
                "relation",
                &language.reference,
                |name, value| {
                    kinds.references.iter().find(|k| k.name == name).map(|k| (k.parse)(value))
                },
            ),
            steps: self.blocks(root, "steps", "step", &language.step, |name, value| {
                kinds.steps.iter().find(|k| k.name == name).map(|k| (k.parse)(value))
            }),
            sinks: self.blocks(root, "sinks", "sink", &language.sink, |name, value| {
                kinds.sinks.iter().find(|k| k.name == name).map(|k| (k.parse)(value))
            }),
            views,
            alerts,
            alert_book: alert_book_entry.map(|_| alert_book),
            alert_book_entry,
            training: self.named(root, "training", &language.training),
            evaluation: self.named(root, "evaluation", &language.evaluation),
            tuning: self.named(root, "tuning", &language.tuning),
            tests: self.tests(root),
            epoch: self.epoch(root),
            snapshot: self.snapshot(root),
            journal: self.journal(root),
            serve: self.serve(root),
            data_dir: self.data_dir(root),
            workers: self.workers(root),
            later,
        })
    }

    fn version(&mut self, root: &Node) {
        let (code, span, message) = match root.get("version") {
            Some(Node { value: Value::Int(1), .. }) => return,
            Some(node) => {
                let found = crate::shape::found(node);
                let span = node.place("", node.span);
                (Code::VERSION, span, format!("the version of the file is 1, not {found}"))
            }
            None => {
                let start = Span { start: 0, end: 0 };
                (Code::MISSING_KEY, start, "the file does not say its 'version'".to_owned())
            }
        };
        self.out.push(Diagnostic::error(code, span, message).help("write 'version: 1'"));
    }

    /// Reports sections that do not exist.
    fn sections(&mut self, root: &Node) {
        let unknown = root.entries().iter().filter(|e| !SECTIONS.contains(&e.key.as_str()));
        for entry in unknown {
            self.out.push(unknown_key(entry, "the pipeline file", SECTIONS.iter().copied()));
        }
    }

    fn name(&mut self, root: &Node) -> Option<String> {
        let entry = root.entry("name")?;
        match &entry.value.value {
            Value::Text(name) => {
                self.check_name(name, entry.value.span, "pipeline");
                Some(name.clone())
            }
            _ => {
                let found = crate::shape::found(&entry.value);
                let message = format!("'name' takes text, not {found}");
                self.out.push(Diagnostic::error(Code::WRONG_TYPE, entry.key_span, message));
                None
            }
        }
    }

    fn check_name(&mut self, name: &str, span: Span, what: &str) {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let reserved = DIAGNOSTICS.iter().find(|d| d.0 == name);
        let (message, help) = if let Some((_, _, holds)) = reserved {
            (format!("'{name}' is the stream of {holds}"), "choose another name".to_owned())
        } else if !starts || !fits || name.len() > MAX_NAME_LENGTH {
            let help = format!(
                "a name begins with a letter, has letters, digits, '_' and '-', and at most {MAX_NAME_LENGTH} of them"
            );
            (format!("'{name}' cannot be the name of a {what}"), help)
        } else {
            return;
        };
        self.out.push(Diagnostic::error(Code::BAD_NAME, span, message).help(help));
    }

    /// The entries of a section of named things.
    fn section<'n>(&mut self, root: &'n Node, section: &str, what: &str) -> &'n [Entry] {
        let Some(entry) = root.entry(section) else { return &[] };
        match &entry.value.value {
            Value::Map(entries) => {
                for e in entries {
                    self.check_name(&e.key, e.key_span, what);
                }
                entries
            }
            Value::Null => &[],
            _ => {
                let found = crate::shape::found(&entry.value);
                let message = format!("'{section}' takes a block of names, not {found}");
                let error = Diagnostic::error(Code::WRONG_TYPE, entry.key_span, message);
                self.out.push(error.help(format!("write each {what} under a name of its own")));
                &[]
            }
        }
    }

    fn blocks<'n, Common: Described, Config: ?Sized>(
        &mut self,
        root: &'n Node,
        section: &str,
        what: &str,
        language: &BlockLanguage,
        parse: impl Fn(&str, &Json) -> Option<Result<Box<Config>, ConfigError>>,
    ) -> Vec<Block<'n, Common, Config>> {
        let entries = self.section(root, section, what);
        let blocks = entries.iter().map(|entry| {
            let before = self.out.len();
            let split = self.split(entry, what, language);
            let meant: Vec<String> = self.out[before..].iter().filter_map(misspelt).collect();
            let owner = Owner { name: &entry.key, span: entry.key_span };
            let common = split
                .common
                .and_then(|node| self.typed(&node, &entry.value, &language.common, owner));
            self.out.retain(|d| !(d.span == entry.key_span && is_missing(d, &meant)));
            let kind = split.kind.and_then(|(name, schema, found)| {
                let owner = Owner { name, span: found.key_span };
                let config = self.checked(&found.value, schema, owner, |json| {
                    parse(name, json).unwrap_or_else(|| Err(ConfigError::new("", "no such kind")))
                })?;
                Some(Kind { name, entry: found, config })
            });
            let (name, name_span) = (entry.key.as_str(), entry.key_span);
            Block { name, name_span, node: &entry.value, common, kind }
        });
        blocks.collect()
    }

    /// Tells the keys that all have from the one that names the kind.
    fn split<'n, 'l>(
        &mut self,
        entry: &'n Entry,
        what: &str,
        language: &'l BlockLanguage,
    ) -> Split<'n, 'l> {
        if !matches!(entry.value.value, Value::Map(_)) {
            let found = crate::shape::found(&entry.value);
            let message = format!("'{}' takes a block of keys, not {found}", entry.key);
            let kind = language.kinds.first().map_or("kind", |(name, ..)| *name);
            let error = Diagnostic::error(Code::WRONG_TYPE, entry.key_span, message);
            self.out.push(error.help(format!("write {}: {{ {kind}: {{ ... }}, ... }}", entry.key)));
            return Split { common: None, kind: None };
        }
        let properties = self.language.resolve(&language.common).get("properties");
        let common: Vec<&str> = properties
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(|p| p.keys())
            .map(String::as_str)
            .collect();
        let kinds: Vec<&str> = language.kinds.iter().map(|(name, ..)| *name).collect();
        let (mut own, mut named, mut strange) = (Vec::new(), Vec::new(), Vec::new());
        for e in entry.value.entries() {
            if common.contains(&e.key.as_str()) {
                own.push(e.clone());
            } else if let Some(kind) = language.kinds.iter().find(|(name, ..)| *name == e.key) {
                named.push((kind.0, &kind.2, e));
            } else {
                strange.push(e);
            }
        }
        self.report_kinds(entry, what, &named, &strange, &common, &kinds);
        let node = Node { span: entry.value.span, value: Value::Map(own) };
        Split { common: Some(node), kind: (named.len() == 1).then(|| named.remove(0)) }
    }

    fn report_kinds(
        &mut self,
        entry: &Entry,
        what: &str,
        named: &[(&'static str, &Json, &Entry)],
        strange: &[&Entry],
        common: &[&str],
        kinds: &[&str],
    ) {
        let mut kind_was_meant = false;
        let misplaced = strange.iter().find_map(|e| kind_as_value(e, kinds));
        if let (Some((e, kind)), []) = (misplaced, named) {
            let message = format!("the kind of a {what} is a key, not a value");
            let error = Diagnostic::error(Code::NO_KIND, e.key_span, message);
            self.out
                .push(error.help(format!("write {kind}: {{ ... }} with the other keys inside")));
            return;
        }
        for e in strange {
            let slip_of_common =
                closest(&e.key, common).is_some() && closest(&e.key, kinds).is_none();
            if named.is_empty() && !slip_of_common && !kind_was_meant {
                kind_was_meant = true;
                let message = format!("there is no kind of {what} called '{}'", e.key);
                let error = Diagnostic::error(Code::UNKNOWN_KIND, e.key_span, message)
                    .label("unknown kind")
                    .expected(&e.key, kinds.iter().copied());
                self.out.push(error);
            } else {
                self.out.push(unknown_key(e, &format!("'{}'", entry.key), common.iter().copied()));
            }
        }
        if let [first, second, ..] = named {
            let message =
                format!("'{}' has two kinds, '{}' and '{}'", entry.key, first.0, second.0);
            let error = Diagnostic::error(Code::MANY_KINDS, second.2.key_span, message)
                .related(first.2.key_span, "the first one")
                .help(format!("give each a name of its own under '{what}s'"));
            self.out.push(error);
        }
        if named.is_empty() && !kind_was_meant {
            let message = format!("the {what} '{}' does not say its kind", entry.key);
            let error = Diagnostic::error(Code::NO_KIND, entry.key_span, message);
            self.out.push(error.expected("", kinds.iter().copied()));
        }
    }

    /// Checks a value's shape, then reads it; errors are in place below `owner`.
    fn checked<T>(
        &mut self,
        node: &Node,
        schema: &Json,
        owner: Owner<'_>,
        parse: impl FnOnce(&Json) -> Result<T, ConfigError>,
    ) -> Option<T> {
        let shapes = Shapes { definitions: &self.language.definitions };
        let found = shapes.check(node, schema, owner);
        if !found.is_empty() {
            self.out.extend(found);
            return None;
        }
        match parse(&node.to_json()) {
            Ok(value) => Some(value),
            Err(e) => {
                let span = node.place(&e.at, owner.span);
                self.out.push(from_config(Code::CONFIGURATION, span, &e));
                None
            }
        }
    }

    /// As [`Reader::checked`] for a type that reads itself; places are looked up in `whole`.
    fn typed<T: Described>(
        &mut self,
        node: &Node,
        whole: &Node,
        schema: &Json,
        owner: Owner<'_>,
    ) -> Option<T> {
        let value = self.checked(node, schema, owner, |json| Ok(json.clone()))?;
        match parse_config(&value) {
            Ok(value) => Some(value),
            Err(e) => {
                let span = whole.place(&e.at, owner.span);
                self.out.push(from_config(Code::BAD_VALUE, span, &e));
                None
            }
        }
    }

    fn named<'n, T: Described>(
        &mut self,
        root: &'n Node,
        section: &str,
        schema: &Json,
    ) -> Vec<Named<'n, T>> {
        let entries = self.section(root, section, section.trim_end_matches('s'));
        let named = entries.iter().filter_map(|e| {
            let owner = Owner { name: &e.key, span: e.key_span };
            let config = self.typed(&e.value, &e.value, schema, owner)?;
            Some(Named { name: &e.key, name_span: e.key_span, node: &e.value, config })
        });
        named.collect()
    }

    fn tests<'n>(&mut self, root: &'n Node) -> Vec<Named<'n, TestConfig>> {
        let Some(entry) = root.entry("tests") else { return Vec::new() };
        if !matches!(entry.value.value, Value::Seq(_) | Value::Null) {
            let message =
                format!("'tests' takes a list, not {}", crate::shape::found(&entry.value));
            let error = Diagnostic::error(Code::WRONG_TYPE, entry.key_span, message);
            self.out.push(error.help("begin each test with '- name: ...'"));
        }
        let language = self.language;
        let mut tests = Vec::new();
        for node in entry.value.items() {
            let span = node.entries().first().map_or(node.span, |e| e.key_span);
            let owner = Owner { name: "tests", span };
            if let Some(config) = self.typed(node, node, &language.test, owner) {
                let name = match node.get("name").map(|n| &n.value) {
                    Some(Value::Text(name)) => name.as_str(),
                    _ => "",
                };
                tests.push(Named { name, name_span: span, node, config });
            }
        }
        tests
    }

    /// A section that has settings of its own, not names.
    fn settings<'n, T: Described + Default>(
        &mut self,
        root: &'n Node,
        name: &str,
        schema: &Json,
    ) -> (T, Option<&'n Entry>) {
        let Some(entry) = root.entry(name) else { return (T::default(), None) };
        let owner = Owner { name, span: entry.key_span };
        let read = self.typed(&entry.value, &entry.value, schema, owner);
        (read.unwrap_or_default(), Some(entry))
    }

    fn epoch(&mut self, root: &Node) -> EpochConfig {
        let language = self.language;
        let (epoch, entry) = self.settings::<EpochConfig>(root, "epoch", &language.epoch);
        self.interval(entry, epoch.interval, "100ms");
        epoch
    }

    fn snapshot(&mut self, root: &Node) -> SnapshotConfig {
        let language = self.language;
        let (snapshot, entry) =
            self.settings::<SnapshotConfig>(root, "snapshot", &language.snapshot);
        self.interval(entry, snapshot.interval, "10s");
        snapshot
    }

    fn journal(&mut self, root: &Node) -> JournalConfig {
        let language = self.language;
        let (journal, entry) = self.settings::<JournalConfig>(root, "journal", &language.journal);
        if let Some(keep) = journal.keep {
            self.clock_time(entry, "keep", keep, "24h");
        }
        journal
    }

    fn serve<'n>(&mut self, root: &'n Node) -> Option<(ServeConfig, &'n Entry)> {
        let language = self.language;
        let (serve, entry) = self.settings(root, "serve", &language.serve);
        Some((serve, entry?))
    }

    /// The `interval` of a section is a time on the clock.
    fn interval(&mut self, entry: Option<&Entry>, interval: Extent, example: &str) {
        self.clock_time(entry, "interval", interval, example);
    }

    fn clock_time(&mut self, entry: Option<&Entry>, key: &str, time: Extent, example: &str) {
        if let Some(entry) = entry
            && !matches!(time, Extent::Nanos(n) if n > 0)
        {
            let span = entry.value.place(key, entry.key_span);
            let message = format!("'{time}' is not a length of the clock's time");
            let error = Diagnostic::error(Code::TIME_DOMAIN, span, message);
            self.out.push(error.help(format!("give a duration above zero, such as {example}")));
        }
    }

    fn data_dir(&mut self, root: &Node) -> Option<String> {
        let entry = root.entry("data_dir")?;
        match &entry.value.value {
            Value::Text(path) if !path.is_empty() => Some(path.clone()),
            _ => {
                let found = crate::shape::found(&entry.value);
                let message = format!("'data_dir' takes the path of a folder, not {found}");
                let span = entry.value.place("", entry.key_span);
                self.out.push(Diagnostic::error(Code::WRONG_TYPE, span, message));
                None
            }
        }
    }

    fn workers(&mut self, root: &Node) -> Option<usize> {
        let entry = root.entry("workers")?;
        match entry.value.value {
            Value::Int(n) if (1..=MAX_WORKERS).contains(&n) => usize::try_from(n).ok(),
            _ => {
                let found = crate::shape::found(&entry.value);
                let message =
                    format!("'workers' takes a whole number from 1 to {MAX_WORKERS}, not {found}");
                let span = entry.value.place("", entry.key_span);
                self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
                None
            }
        }
    }
}

/// A key such as `type` whose value is a kind: how many other tools write it.
fn kind_as_value<'e, 'k>(entry: &'e Entry, kinds: &[&'k str]) -> Option<(&'e Entry, &'k str)> {
    match &entry.value.value {
        Value::Text(text) if matches!(entry.key.as_str(), "type" | "kind") => {
            kinds.iter().find(|k| *k == text).map(|k| (entry, *k))
        }
        _ => None,
    }
}

struct Split<'n, 'l> {
    common: Option<Node>,
    kind: Option<(&'static str, &'l Json, &'n Entry)>,
}

/// An error of a kind, in place.
pub(crate) fn from_config(code: Code, span: Span, error: &ConfigError) -> Diagnostic {
    let code = match &error.unknown {
        Some(_) if error.message.contains("column") => Code::UNKNOWN_COLUMN,
        _ if error.message.contains("the event time is a ") => Code::TIME_DOMAIN,
        _ => code,
    };
    let mut diagnostic = Diagnostic::error(code, span, error.message.clone());
    diagnostic.help.clone_from(&error.help);
    match &error.unknown {
        Some((name, known)) => diagnostic.expected(name, known.iter().map(String::as_str)),
        None => diagnostic,
    }
}
