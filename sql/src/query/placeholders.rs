//! The types of `$1`, `$2` … that the text of a query tells: by a cast behind one, or an `ANY` around it.
//!
//! What a reader would get wrong: the planner takes a value that is compared for one of the type it is compared with, also within
//! `= ANY($1)`, where it is a list of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// What the text says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It is of this type.
    Type(DataType),
    /// It is a list.
    List,
}

impl Told {
    /// The type, where the planner takes it for `inferred`.
    pub(super) fn of(&self, inferred: Option<DataType>) -> DataType {
        match (self, inferred) {
            (Told::Type(told), _) => told.clone(),
            (Told::List, Some(list @ DataType::List(_))) => list,
            (Told::List, inferred) => list(inferred.unwrap_or(DataType::Utf8)),
        }
    }
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(of, true)))
}

/// What is told of each value, by its number.
pub(super) fn told(sql: &str) -> BTreeMap<usize, Told> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else {
        return BTreeMap::new();
    };
    let tokens: Vec<Token> =
        tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
    let mut found = BTreeMap::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Placeholder(name) = token else { continue };
        let Ok(number) = name.trim_start_matches('$').parse::<usize>() else { continue };
        if let Some(of) = cast_to(&tokens[at + 1..]) {
            found.insert(number, Told::Type(of));
        } else if let [.., Token::Word(word), Token::LParen] = &tokens[..at]
            && ["any", "all"].contains(&word.value.to_ascii_lowercase().as_str())
        {
            found.insert(number, Told::List);
        }
    }
    found
}

/// The type of a cast that follows.
fn cast_to(tokens: &[Token]) -> Option<DataType> {
    let [Token::DoubleColon, Token::Word(word), rest @ ..] = tokens else { return None };
    let of = match word.value.to_ascii_lowercase().as_str() {
        "text" | "varchar" => DataType::Utf8,
        "int2" | "smallint" => DataType::Int16,
        "int" | "int4" | "integer" => DataType::Int32,
        "int8" | "bigint" => DataType::Int64,
        "float4" | "real" => DataType::Float32,
        "float8" | "double" => DataType::Float64,
        "bool" | "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamptz" => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        _ => return None,
    };
    let is_list = matches!(rest, [Token::LBracket, Token::RBracket, ..]);
    Some(if is_list { list(of) } else { of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_and_lists_are_seen() {
        let found = told(
            "SELECT $1::int8, $2 :: text[] WHERE a = ANY($3) AND b = $4 AND c <> ALL ( $5 ) AND '$6::int8' = d",
        );
        let expected = [
            (1, Told::Type(DataType::Int64)),
            (2, Told::Type(list(DataType::Utf8))),
            (3, Told::List),
            (5, Told::List),
        ];
        assert_eq!(found, BTreeMap::from(expected));
        assert_eq!(Told::List.of(Some(DataType::Float64)), list(DataType::Float64));
        assert_eq!(Told::List.of(None), list(DataType::Utf8));
    }
}
