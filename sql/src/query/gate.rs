//! What a query may be: one statement that reads tables of the pipeline, and nothing else.

use datafusion::common::TableReference;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as Sql};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::refusal::{self, Kind, QueryError, Refusal};
use super::system::{self, System};
use super::tables::About;

/// Longest text of a query. A list of a few thousand machines has room in it.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// Levels of parentheses, subqueries and operators; DataFusion recurses once a level, again and again.
const MAX_DEPTH: usize = 100;
/// Most operators, names and words, values not counted: a list of machines may be long.
const MAX_PARTS: usize = 2_000;
/// The schema in which tables say what they are.
const INFORMATION: &str = "information_schema";

/// Whether a token makes a query deeper: values and what stands between them do not.
fn counts(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_)
    )
}

/// A query that is let in.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) statement: Statement,
    /// The tables that it reads.
    pub(super) tables: Vec<String>,
    /// Whether it reads what PostgreSQL's clients ask for.
    pub(super) is_system: bool,
}

/// Reads a query; `system` has the tables of PostgreSQL's clients.
pub(super) fn read<'s>(
    sql: &str,
    state: &SessionState,
    about: &[About],
    system: impl FnOnce() -> Result<&'s System, QueryError>,
) -> Result<Asked, QueryError> {
    let refused = |refusal| Err(QueryError::Refused(refusal));
    if sql.len() > MAX_BYTES {
        let n = sql.len();
        return refused(Refusal::whole(format!(
            "the query has {n} bytes, but at most {MAX_BYTES} are read"
        )));
    }
    let dialect = PostgreSqlDialect {};
    // A chain of operators is a tree as deep as it is long, without a parenthesis.
    let tokens = Tokenizer::new(&dialect, sql).tokenize();
    let tokens = tokens.map_err(|e| refusal::parse(sql, &ParserError::from(e)))?;
    if tokens.iter().filter(|token| counts(token)).count() > MAX_PARTS {
        return refused(Refusal::whole(format!(
            "the query has more than {MAX_PARTS} operators and names"
        )));
    }
    let is_system = system::is_asked(&tokens);
    let statements = if is_system {
        system()?.parse(sql).map_err(|e| refusal::parse(sql, &e))?
    } else {
        let parser =
            DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(MAX_DEPTH);
        let failed = |e| refusal::of(sql, &e);
        parser.build().map_err(failed)?.parse_statements().map_err(failed)?.into()
    };
    let mut statements = statements.into_iter();
    let Some(statement) = statements.next() else {
        return refused(Refusal::whole("there is no query").help("write SELECT … FROM …"));
    };
    if statements.next().is_some() {
        return refused(
            Refusal::whole("there is more than one statement").help("send them one by one"),
        );
    }
    if let Some(what) = writes(&statement) {
        let refusal = Refusal::whole(format!("{what} is refused: queries only read"));
        let help = "there is SELECT, EXPLAIN, DESCRIBE and SHOW TABLES";
        return refused(refusal.of(Kind::ReadOnly).help(help));
    }
    let tables = tables(sql, &statement, state, about, is_system)?;
    Ok(Asked { statement, tables, is_system })
}

/// The tables that a statement names, each once.
fn tables(
    sql: &str,
    statement: &Statement,
    state: &SessionState,
    about: &[About],
    is_system: bool,
) -> Result<Vec<String>, QueryError> {
    let named = state.resolve_table_references(statement).map_err(|e| refusal::of(sql, &e))?;
    let mut tables = Vec::new();
    for reference in named {
        let name = reference.table().to_owned();
        let schema = reference.schema();
        let is_function = schema.is_none() && state.table_functions().contains_key(&name);
        let is_told = schema == Some(INFORMATION) || is_system && schema == Some(system::SCHEMA);
        if is_told || is_function {
            continue;
        }
        let is_ours = schema.is_none_or(|s| s == "public")
            && !matches!(&reference, TableReference::Full { catalog, .. } if &**catalog != "foreline");
        if !is_ours || !about.iter().any(|a| a.name == name) {
            let known: Vec<String> = about.iter().map(|a| a.name.clone()).collect();
            let shown = if is_ours { name } else { reference.to_string() };
            return Err(refusal::unknown(sql, "table", &shown, &known));
        }
        tables.push(name);
    }
    tables.sort();
    tables.dedup();
    Ok(tables)
}

/// What a statement does beside reading.
fn writes(statement: &Statement) -> Option<String> {
    let first_word = |text: String| {
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        Some(words.join(" "))
    };
    match statement {
        Statement::Explain(explain) => writes(&explain.statement),
        Statement::Statement(sql) => match &**sql {
            Sql::Query(query) => into(&query.body).then(|| "SELECT … INTO".to_owned()),
            Sql::ExplainTable { .. } | Sql::ShowTables { .. } | Sql::ShowColumns { .. } => None,
            other => first_word(other.to_string()),
        },
        Statement::CreateExternalTable(_) => Some("CREATE EXTERNAL TABLE".to_owned()),
        Statement::CopyTo(_) => Some("COPY".to_owned()),
        Statement::Reset(_) => Some("RESET".to_owned()),
    }
}

/// Whether a part of a query makes a table, or changes one.
fn into(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_some(),
        SetExpr::Query(query) => into(&query.body),
        SetExpr::SetOperation { left, right, .. } => into(left) || into(right),
        SetExpr::Values(_) | SetExpr::Table(_) => false,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
    }
}
