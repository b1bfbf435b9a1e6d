//! The paths that an API has beside its own (`serve.routes`): each query is planned, each name looked up.
//!
//! What a reader would get wrong: rows are in the order that is written and, where they are equal in that, of all other columns that
//! can be compared. So the order is the same each time, and a page goes on where the one before it ended.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use foreline_engine::type_name;
use foreline_sql::{About, Queries, QueryError};

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::file::{Comparison, FilterConfig, ListConfig, RouteConfig};
use crate::plan::{FilterPlan, ListPlan, RoutePlan};
use crate::planner::Planner;
use crate::yaml::{Node, Span};

/// Every request is compared with all of them.
const ROUTES_MAX: usize = 64;
/// Rows of a page that may be asked for.
const ROWS_MAX: u32 = 10_000;
/// Columns that a page's end is told by, where no order is written.
const MARKS_MAX: usize = 16;
/// What the API has already, and all that begins so.
const TAKEN: [&str; 7] = ["api", "assets", "docs", "livez", "metrics", "openapi.json", "readyz"];
/// What every request of a page may have.
const PARAMETERS: [&str; 2] = ["cursor", "limit"];

impl Planner<'_> {
    pub(super) fn routes(
        &mut self,
        routes: &BTreeMap<String, RouteConfig>,
        node: &Node,
        owner: Span,
    ) -> Vec<RoutePlan> {
        if routes.len() > ROUTES_MAX {
            let message = format!("{} routes; at most {ROUTES_MAX} are served", routes.len());
            let span = node.place("routes", owner);
            self.out.push(Diagnostic::error(Code::BAD_VALUE, span, message));
            return Vec::new();
        }
        // What is not planned is no table, and has its own mistake.
        let is_whole = self.out.iter().all(|d| d.severity != Severity::Error);
        let asks = is_whole && routes.values().any(|route| route.get.is_some());
        let tables = asks.then(|| Queries::planned(self.tables())).transpose();
        let tables = tables.unwrap_or_else(|e| {
            let message = format!("the queries of 'routes' cannot be planned: {e}");
            let span = node.place("routes", owner);
            self.out.push(Diagnostic::error(Code::CONFIGURATION, span, message));
            None
        });
        let mut planned = Vec::new();
        for (path, route) in routes {
            let place = |rest: &str| node.place(&format!("routes.{path}{rest}"), owner);
            if let Err(why) = is_free(path) {
                let error = Diagnostic::error(Code::BAD_VALUE, place(""), why);
                self.out.push(error.help("write a path such as /vibration-data"));
            }
            if route.post.is_none() && route.get.is_none() {
                let message = format!("nothing is served at '{path}'");
                let error = Diagnostic::error(Code::CONFIGURATION, place(""), message);
                self.out.push(error.help("write post: SOURCE, or get: { sql: SELECT ... }"));
            }
            if let Some(source) = &route.post {
                self.takes_rows(source, place(".post"));
            }
            let (Some(get), Some(tables)) = (&route.get, &tables) else { continue };
            if let Some(get) = self.list(get, tables, &|rest| place(&format!(".get{rest}"))) {
                planned.push(RoutePlan {
                    path: path.clone(),
                    post: route.post.clone(),
                    get: Some(get),
                });
            }
        }
        let only_take = routes.iter().filter(|(_, route)| route.get.is_none());
        planned.extend(only_take.map(|(path, route)| RoutePlan {
            path: path.clone(),
            post: route.post.clone(),
            get: None,
        }));
        planned
    }

    /// The views and streams that a query may ask.
    fn tables(&self) -> Vec<About> {
        let plan = &self.plan;
        let mut tables: BTreeMap<String, SchemaRef> = BTreeMap::new();
        for view in &plan.views {
            tables.insert(view.name.clone(), view.relation.arrow().clone());
        }
        for sink in &plan.sinks {
            if let Some(lake) = &sink.sink.lake {
                let name = plan.stream_name(sink.from).to_owned();
                tables.entry(name).or_insert_with(|| lake.file_schema());
            }
        }
        for kept in &plan.kept {
            let name = plan.stream_name(kept.stream).to_owned();
            tables.entry(name).or_insert_with(|| plan.schema(kept.stream).arrow().clone());
        }
        let about = |(name, schema): (String, SchemaRef)| {
            let units = vec![None; schema.fields().len()];
            About { name, kind: "table".to_owned(), schema, units }
        };
        tables.into_iter().map(about).collect()
    }

    /// Reports a source that takes no rows over HTTP.
    fn takes_rows(&mut self, source: &str, span: Span) {
        let sources = self.plan.sources.iter();
        let takes = sources.filter(|s| s.is_own() && !s.front.is_relation());
        let takes = takes.filter(|s| s.source.door.is_some()).map(|s| s.name.as_str());
        let takes: Vec<&str> = takes.collect();
        // One that could not be planned has its own mistake.
        let is_broken = self.plan.stream(source).is_none()
            && self.file.sources.iter().any(|s| s.name == source);
        if takes.contains(&source) || is_broken {
            return;
        }
        let message = format!("there is no source '{source}' of the kind 'http'");
        let error = Diagnostic::error(Code::UNKNOWN_STREAM, span, message);
        self.out.push(error.expected(source, takes));
    }

    fn list(
        &mut self,
        config: &ListConfig,
        tables: &Queries,
        place: &dyn Fn(&str) -> Span,
    ) -> Option<ListPlan> {
        let sql = config.sql.trim().trim_end_matches(';').trim_end().to_owned();
        let described = match tables.describe_and_wait(&sql) {
            Ok(described) => described,
            Err(error) => {
                let (message, help) = match error {
                    QueryError::Refused(refusal) => (refusal.message, refusal.help),
                    QueryError::Limit(message)
                    | QueryError::Busy(message)
                    | QueryError::Unavailable(message)
                    | QueryError::Failed(message) => (message, None),
                };
                let error = Diagnostic::error(Code::EXPRESSION, place(".sql"), message);
                let tables: Vec<String> = tables.tables().into_iter().map(|t| t.name).collect();
                let there = match tables.is_empty() {
                    true => "a query asks views, streams with 'keep', and streams in Parquet; there are none".to_owned(),
                    false => format!("tables are: {}", tables.join(", ")),
                };
                self.out.push(error.help(help.unwrap_or(there)));
                return None;
            }
        };
        let schema = described.schema;
        let mut errors = Vec::new();
        if !described.values.is_empty() {
            let message = "the query has a placeholder, which nothing fills";
            let error = Diagnostic::error(Code::EXPRESSION, place(".sql"), message);
            errors.push(error.help("compare a column with a parameter in 'filters'"));
        } else if tables.describe_and_wait(&format!("SELECT * FROM (\n{sql}\n) AS listed")).is_err()
        {
            let message = "the query cannot stand within another, which picks the rows of a page";
            let error = Diagnostic::error(Code::EXPRESSION, place(".sql"), message);
            errors.push(error.help("leave out ';' and what is behind it"));
        }
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        if let Some((i, twice)) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            let message = format!("columns {} and another are both called '{twice}'", i + 1);
            let error = Diagnostic::error(Code::EXPRESSION, place(".sql"), message);
            errors.push(error.help("give one of them another name: ... AS name"));
        }
        let comparable =
            |at: &usize| !schema.field(*at).data_type().is_nested() && !is_binary(&schema, *at);
        let mut find = |name: &str, span: Span| {
            let Some(at) = names.iter().position(|n| *n == name) else {
                let message = format!("the query has no column '{name}'");
                let error = Diagnostic::error(Code::UNKNOWN_COLUMN, span, message);
                errors.push(error.expected(name, names.clone()));
                return None;
            };
            if !comparable(&at) {
                let of = type_name(schema.field(at).data_type());
                let message = format!("'{name}' is a {of}, which cannot be compared");
                errors.push(Diagnostic::error(Code::CONFIGURATION, span, message));
            }
            Some(at)
        };
        let mut order: Vec<(usize, bool)> = Vec::new();
        for (i, name) in config.order.iter().enumerate() {
            let down = name.strip_prefix('-');
            let at = find(down.unwrap_or(name), place(&format!(".order[{i}]")));
            order.extend(at.map(|at| (at, down.is_some())));
        }
        let mut filters = Vec::new();
        for (name, filter) in &config.filters {
            let of = |rest: &str| place(&format!(".filters.{name}{rest}"));
            let (column, is, default) = match filter {
                FilterConfig::Column(column) => (column, Comparison::Equal, None),
                FilterConfig::Compared(c) => (&c.column, c.is, c.default.clone()),
            };
            let is_full = matches!(filter, FilterConfig::Compared(_));
            if let Some(column) = find(column, of(if is_full { ".column" } else { "" })) {
                filters.push(FilterPlan { name: name.clone(), column, is, default });
            }
        }
        for filter in &filters {
            let FilterPlan { name, column, default, .. } = filter;
            let span = place(&format!(".filters.{name}"));
            if PARAMETERS.contains(&name.as_str()) || !is_word(name) {
                let message = format!("no parameter can be called '{name}'");
                let error = Diagnostic::error(Code::BAD_NAME, span, message);
                errors.push(error.help("letters, digits, '_', '-' and '.' make a name; 'limit' and 'cursor' are there already"));
            }
            let of = schema.field(*column).data_type();
            if let Some(text) = default
                && !is_value(text, of)
            {
                let message = format!("'{text}' is no {}", type_name(of));
                let span = place(&format!(".filters.{name}.default"));
                errors.push(Diagnostic::error(Code::BAD_VALUE, span, message));
            }
        }
        if !(1..=ROWS_MAX).contains(&config.limit) {
            let message = format!("a page has from 1 to {ROWS_MAX} rows, not {}", config.limit);
            errors.push(Diagnostic::error(Code::BAD_VALUE, place(".limit"), message));
        }
        if !errors.is_empty() {
            self.out.extend(errors);
            return None;
        }
        let rest = (0..schema.fields().len()).filter(comparable);
        let rest: Vec<_> = rest.filter(|at| order.iter().all(|(o, _)| o != at)).collect();
        let written = order.len();
        order.extend(rest.into_iter().map(|at| (at, false)));
        let marks = if written == 0 { order.len().min(MARKS_MAX) } else { written };
        let limit = usize::try_from(config.limit).unwrap_or(usize::MAX);
        Some(ListPlan { sql, schema, order, marks, filters, limit })
    }
}

fn is_binary(schema: &SchemaRef, at: usize) -> bool {
    matches!(
        schema.field(at).data_type(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

/// Whether `text` can be a value of a column.
fn is_value(text: &str, of: &DataType) -> bool {
    let text: ArrayRef = std::sync::Arc::new(StringArray::from(vec![text]));
    cast(&text, of).is_ok_and(|value| value.null_count() == 0)
}

fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain)
}

/// A path that the API does not have yet.
fn is_free(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("'{path}' does not begin with '/'"));
    };
    let mut parts = rest.split('/');
    if !parts.clone().all(|part| is_word(part) && part != "." && part != "..") {
        return Err(format!(
            "'{path}' is not made of words of letters, digits, '_', '-' and '.' between '/'"
        ));
    }
    match parts.next().filter(|first| TAKEN.contains(first)) {
        Some(first) => Err(format!("the API has '/{first}' already")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{TAKEN, is_free};

    /// Two of one path would end the run before it begins.
    #[test]
    fn what_the_api_has_is_taken() {
        let document = include_str!("../../../../docs/openapi.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let first = paths.keys().filter_map(|path| path.split('/').nth(1));
        let missing: Vec<&str> =
            first.filter(|first| !first.is_empty() && !TAKEN.contains(first)).collect();
        assert!(paths.len() > 30 && missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn paths_that_are_free() {
        for right in ["/vibration-data", "/vibration-diagnosis/latest", "/v1/x.json", "/apis"] {
            assert_eq!(is_free(right), Ok(()), "{right}");
        }
        for wrong in
            ["", "/", "x", "/api/v2", "/docs", "/a//b", "/a/", "/{x}", "/a b", "/../x", "/ä"]
        {
            assert!(is_free(wrong).is_err(), "{wrong}");
        }
    }
}
