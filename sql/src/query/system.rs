//! What PostgreSQL's clients read to learn of databases and tables: `pg_catalog`, and the functions that go with it.
//!
//! What a reader would get wrong:
//!
//! * The numbers by which these tables name each other are given out when one is first read. They are kept as long as the
//!   process runs, so that what one query found the next one finds again; nobody may keep them longer.
//! * A query of this kind is rewritten before it is planned, since clients write them for PostgreSQL itself. It goes through the
//!   same gate, and may read our tables beside them.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider as _, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::{DataFusionError, ScalarValue, exec_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::tables::About;

/// The schema of these tables.
pub(super) const SCHEMA: &str = "pg_catalog";
/// The version of PostgreSQL whose clients are answered.
pub(crate) const VERSION: &str = "16.6";
/// Words by which a query about them is known, beside names that begin with `pg_`.
const WORDS: [&str; 20] = [
    "array_lower",
    "array_upper",
    "current_catalog",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_user",
    "format_type",
    "has_any_column_privilege",
    "has_database_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "quote_ident",
    "regclass",
    "regnamespace",
    "regproc",
    "regtype",
    "session_user",
    "version",
];

/// The tables, and a parser that makes of what clients write what can be planned.
#[derive(Debug)]
pub(super) struct System {
    state: SessionState,
    tables: Arc<dyn SchemaProvider>,
    parser: PostgresCompatibilityParser,
}

impl System {
    /// Those that tell of `about`.
    pub(super) fn new(state: &SessionState, about: &[About]) -> Result<Self, DataFusionError> {
        let schema = Arc::new(MemorySchemaProvider::new());
        for table in about {
            let empty = Arc::new(EmptyTable::new(Arc::clone(&table.schema)));
            schema.register_table(table.name.clone(), empty)?;
        }
        let catalogue = Arc::new(MemoryCatalogProvider::new());
        catalogue.register_schema("public", schema)?;
        let list = Arc::new(MemoryCatalogProviderList::new());
        list.register_catalog("foreline".to_owned(), Arc::clone(&catalogue) as _);
        let own = SessionStateBuilder::new_from_existing(state.clone()).with_catalog_list(list);
        let context = SessionContext::new_with_state(own.build());
        setup_pg_catalog(&context, "foreline", EmptyContextProvider).map_err(|e| *e)?;
        context.register_udf(ScalarUDF::from(Told::version()));
        context.register_udf(ScalarUDF::from(Told::setting()));
        let Some(tables) = catalogue.schema(SCHEMA) else {
            return exec_err!("there is no {SCHEMA}");
        };
        let parser = PostgresCompatibilityParser::new();
        Ok(System { state: context.state(), tables, parser })
    }

    /// The state with which queries about them are planned; its catalogues are those of the template.
    pub(super) fn state(&self) -> &SessionState {
        &self.state
    }

    /// The tables.
    pub(super) fn tables(&self) -> Arc<dyn SchemaProvider> {
        Arc::clone(&self.tables)
    }

    /// What is planned for a query.
    pub(super) fn parse(&self, sql: &str) -> Result<Vec<Statement>, ParserError> {
        let statements = self.parser.parse(sql)?.into_iter();
        Ok(statements.map(|s| Statement::Statement(Box::new(s))).collect())
    }
}

/// Whether a query is about these tables.
pub(super) fn is_asked(tokens: &[Token]) -> bool {
    tokens.iter().any(|token| {
        let Token::Word(word) = token else { return false };
        let word = word.value.to_ascii_lowercase();
        word.starts_with("pg_") || WORDS.contains(&word.as_str())
    })
}

/// What a setting says that clients look at.
pub(crate) fn setting(name: &str) -> Option<&'static str> {
    let value = match name.to_ascii_lowercase().as_str() {
        "server_version" => VERSION,
        "server_version_num" => "160006",
        "server_encoding" | "client_encoding" => "UTF8",
        "standard_conforming_strings" | "integer_datetimes" => "on",
        "transaction_read_only" | "default_transaction_read_only" => "on",
        "is_superuser" | "in_hot_standby" => "off",
        "transaction_isolation"
        | "transaction isolation level"
        | "default_transaction_isolation" => "repeatable read",
        "timezone" | "time zone" => "UTC",
        "datestyle" => "ISO, MDY",
        "intervalstyle" => "postgres",
        "search_path" => "public",
        "bytea_output" => "hex",
        "extra_float_digits" => "1",
        "max_identifier_length" => "63",
        "max_index_keys" => "32",
        "lc_collate" | "lc_ctype" => "C",
        _ => return None,
    };
    Some(value)
}

/// A function that answers with text about the server.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    name: &'static str,
    signature: Signature,
}

impl Told {
    fn version() -> Self {
        Told { name: "version", signature: Signature::nullary(Volatility::Stable) }
    }

    fn setting() -> Self {
        let text = vec![DataType::Utf8];
        Told { name: "current_setting", signature: Signature::exact(text, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Told {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> Result<ColumnarValue, DataFusionError> {
        let told = match arguments.args.first() {
            None => format!("PostgreSQL {VERSION} (Foreline {})", env!("CARGO_PKG_VERSION")),
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)))) => match setting(name) {
                Some(value) => value.to_owned(),
                None => return exec_err!("there is no setting '{name}'"),
            },
            Some(_) => return exec_err!("'current_setting' takes the name of a setting as text"),
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(told))))
    }
}
