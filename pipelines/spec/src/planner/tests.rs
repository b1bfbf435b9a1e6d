//! The `tests` section: every source has its input, and every stream and column that is expected is there.

use foreline_engine::Schema;

use crate::diagnostic::{Code, Diagnostic};
use crate::file::{TestConfig, TestRows};
use crate::planner::Planner;
use crate::planner::training::no_column;
use crate::read::{Named, diagnostic};
use crate::yaml::Node;

impl Planner<'_> {
    pub(super) fn tests(&mut self) {
        let file = self.file;
        for (i, test) in file.tests.iter().enumerate() {
            if let Some(first) = file.tests[..i].iter().find(|t| t.name == test.name) {
                let message = format!("two tests are called '{}'", test.name);
                let error = Diagnostic::error(
                    Code::NAME_TWICE,
                    test.node.place("name", test.name_span),
                    message,
                );
                let first = first.node.place("name", first.name_span);
                let error = error.related(first, "the first one");
                self.out.push(error.help("give each test a name of its own"));
            }
            self.test_input(test);
            self.test_expect(test);
            self.plan.tests.push(test.config.clone());
        }
    }

    fn test_input(&mut self, test: &Named<'_, TestConfig>) {
        let file = self.file;
        let place = |name: &str| {
            let input = test.node.get("input");
            input.and_then(|n| n.entry(name)).map_or(test.name_span, |e| e.key_span)
        };
        for (name, rows) in &test.config.input {
            let names = || {
                file.sources.iter().map(|s| s.name).chain(file.references.iter().map(|r| r.name))
            };
            let Some(source) = names().find(|n| n == name) else {
                let message = format!("there is no source '{name}'");
                let known = names();
                let error = Diagnostic::error(Code::UNKNOWN_STREAM, place(name), message);
                self.out.push(error.label("unknown source").expected(name, known));
                continue;
            };
            let planned = self.plan.sources.iter().find(|s| s.name == source);
            if let Some(schema) = planned.map(|s| s.schema.clone()) {
                self.test_rows(rows, test.node, &format!("input.{name}"), &schema);
            }
        }
        for source in file.sources.iter().filter(|s| !test.config.input.contains_key(s.name)) {
            let message =
                format!("the test '{}' has no input for the source '{}'", test.name, source.name);
            let span = test.node.entry("input").map_or(test.name_span, |e| e.key_span);
            let help = format!("add '{}: []' if it is to read nothing", source.name);
            self.out.push(Diagnostic::error(Code::MISSING_KEY, span, message).help(help));
        }
    }

    fn test_expect(&mut self, test: &Named<'_, TestConfig>) {
        let expect = &test.config.expect;
        let nothing_more = expect.dead_letters.is_none() && expect.alerts.is_none();
        if expect.rows.is_empty() && expect.counts.is_empty() && nothing_more {
            let message = format!("the test '{}' expects nothing, so it cannot fail", test.name);
            let span = test.node.entry("expect").map_or(test.name_span, |e| e.key_span);
            let help = "add 'rows', 'counts', 'alerts' or 'dead_letters'";
            self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message).help(help));
        }
        let node = test.node.get("expect");
        let place = |section: &str, name: &str| {
            let entry = node.and_then(|n| n.get(section)).and_then(|n| n.entry(name));
            entry.map_or(test.name_span, |e| e.key_span)
        };
        for name in expect.counts.keys().filter(|n| diagnostic(n).is_none()) {
            self.find(name, place("counts", name));
        }
        self.test_alerts(test);
        for (name, rows) in &expect.rows {
            if let Some(id) = diagnostic(name).or_else(|| self.find(name, place("rows", name))) {
                let schema = self.plan.schema(id);
                self.test_rows(rows, test.node, &format!("expect.rows.{name}"), &schema);
            }
        }
    }

    /// Each alert that is expected has the name of a rule, and columns of its changes.
    fn test_alerts(&mut self, test: &Named<'_, TestConfig>) {
        let file = self.file;
        for (i, row) in test.config.expect.alerts.iter().flatten().enumerate() {
            let at =
                |name: &str| test.node.place(&format!("expect.alerts[{i}].{name}"), test.name_span);
            let rule = row.get("rule").and_then(serde_json::Value::as_str).unwrap_or_default();
            if file.later.contains(&rule) {
                continue;
            }
            if !file.alerts.iter().any(|a| a.name == rule) {
                let message = format!("there is no alert '{rule}'");
                let error = Diagnostic::error(Code::UNKNOWN_STREAM, at("rule"), message);
                let known = file.alerts.iter().map(|a| a.name);
                self.out.push(error.label("unknown rule").expected(rule, known));
                continue;
            }
            let Some(alert) = self.plan.alerts.iter().find(|a| a.name == rule) else { continue };
            let schema = self.plan.schema(alert.stream);
            for name in row.keys().filter(|name| schema.index_of(name).is_none()) {
                self.out.push(no_column(name, &schema, at(name)));
            }
        }
    }

    /// Reports columns of written-out rows that the stream does not have.
    fn test_rows(&mut self, rows: &TestRows, node: &Node, path: &str, schema: &Schema) {
        let TestRows::Rows(rows) = rows else { return };
        for (i, row) in rows.iter().enumerate() {
            for name in row.keys().filter(|name| schema.index_of(name).is_none()) {
                let span = node.place(&format!("{path}[{i}].{name}"), node.span);
                self.out.push(no_column(name, schema, span));
            }
        }
    }
}
