//! The paths that a pipeline's file adds to the API: rows of a query, a page at a time, and rows that are taken for a source.
//!
//! What a reader would get wrong:
//!
//! * What a request says never becomes SQL: it is bound as a value of the column's own type.
//! * A cursor says what the last row had in the columns of the order, and how many rows with the same were given. The next page begins
//!   at the first row that is not before that, so that rows that come meanwhile move nothing, whereas a count of pages would.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{MatchedPath, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::query::Form;
use crate::routes::Site;
use crate::tables::{bad, broken, cursor, limit, value};
use crate::{intake, query};

/// A path that a pipeline's file adds to the API.
#[derive(Debug, Clone)]
pub struct Route {
    /// The path.
    pub path: String,
    /// The source that takes the rows of a POST.
    pub post: Option<String>,
    /// What a GET is answered.
    pub get: Option<Listing>,
}

/// Rows of a query, a page at a time.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The query.
    pub sql: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The places of the columns that rows are in the order of, and whether the greatest come first.
    pub order: Vec<(usize, bool)>,
    /// With how many of these a page says where it ends.
    pub marks: usize,
    /// The parameters of a request.
    pub filters: Vec<Filter>,
    /// Rows of a page where a request does not say.
    pub limit: usize,
}

/// A parameter of a request.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its name.
    pub name: String,
    /// The place of the column that it is compared with.
    pub column: usize,
    /// How, as in SQL.
    pub is: &'static str,
    /// What it is where a request does not have it.
    pub default: Option<String>,
}

/// Where a page ended: the last row's values in the columns of the order as text, and how many rows with the same were given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    given: u32,
    values: Vec<Option<String>>,
}

/// A query with its values.
#[derive(Debug)]
struct Asked {
    sql: String,
    values: Vec<ArrayRef>,
}

impl Route {
    /// Whether it is there for a method.
    pub(crate) fn has(&self, method: &Method) -> bool {
        match *method {
            Method::GET => self.get.is_some(),
            Method::POST => self.post.is_some(),
            _ => false,
        }
    }
}

/// Gives a page.
pub(crate) async fn get(
    State(site): State<Arc<Site>>,
    matched: MatchedPath,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let listing = site.custom.get(matched.as_str()).and_then(|route| route.get.as_ref());
    let (Some(listing), Some(ask)) = (listing, &site.queries) else { return Err(nothing()) };
    let form = Form::accepted(&headers)?;
    let Query(given) = parameters.map_err(|e| bad(format!("the query cannot be read: {e}")))?;
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        if parameters.contains_key(&name) {
            return Err(bad(format!("'{name}' is there twice")));
        }
        parameters.insert(name, value);
    }
    let rows = match parameters.remove("limit") {
        Some(text) => limit(Some(text))?,
        None => listing.limit,
    };
    let mark = parameters.remove("cursor").map(|text| listing.mark(&text)).transpose()?;
    let asked = listing.asked(&parameters, mark.as_ref(), rows)?;
    // One more than is given tells whether there is another page.
    let found = ask.ask(&asked.sql, &asked.values, rows + 1, false).await;
    site.watch.requests.query(found.is_ok());
    let mut found = found?;
    let listing = listing.clone();
    let written = tokio::task::spawn_blocking(move || {
        let all = concat_batches(&found.schema, &found.rows)?;
        let page = all.slice(0, all.num_rows().min(rows));
        let next =
            (all.num_rows() > rows).then(|| listing.end(&page, mark.as_ref())).transpose()?;
        found.rows = if page.num_rows() == 0 { Vec::new() } else { vec![page] };
        found.is_truncated = next.is_some();
        Ok((query::objects(form, &found)?, next))
    });
    let internal =
        |_| Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "a bug");
    let written: Result<_, ArrowError> = written.await.map_err(internal)?;
    let (mut response, next) = written.map_err(|e| broken(&e))?;
    if let Some(next) = next.map(|mark| mark.text()) {
        let link = format!("<{}>; rel=\"next\"", following(&uri, &next));
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&link).map(|link| (header::LINK, link)));
        headers.extend(HeaderValue::from_str(&next).map(|n| (query::NEXT, n)));
    }
    Ok(response)
}

/// Takes rows for a source.
pub(crate) async fn post(
    State(site): State<Arc<Site>>,
    matched: MatchedPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let source = site.custom.get(matched.as_str()).and_then(|route| route.post.clone());
    let Some(source) = source else { return Err(nothing()) };
    intake::into_source(&site, &source, &headers, body).await
}

fn nothing() -> Problem {
    Problem::new(axum::http::StatusCode::NOT_FOUND, "not-found", "there is nothing here")
}

/// The path and query of the next page.
fn following(uri: &Uri, next: &str) -> String {
    let parts = uri.query().unwrap_or_default().split('&');
    let is_kept = |part: &&str| !part.is_empty() && part.split('=').next() != Some("cursor");
    let kept: Vec<&str> = parts.filter(is_kept).collect();
    let kept = kept.iter().map(|part| format!("{part}&")).collect::<String>();
    format!("{}?{kept}cursor={next}", uri.path())
}

impl Listing {
    fn of(&self, column: usize) -> &DataType {
        self.schema.field(column).data_type()
    }

    fn name(&self, column: usize) -> String {
        format!("\"{}\"", self.schema.field(column).name().replace('"', "\"\""))
    }

    /// The columns that tell where a page ends.
    fn marks(&self) -> &[(usize, bool)] {
        &self.order[..self.marks.min(self.order.len())]
    }

    /// The query of a page.
    fn asked(
        &self,
        parameters: &BTreeMap<String, String>,
        mark: Option<&Mark>,
        rows: usize,
    ) -> Result<Asked, Problem> {
        let mut wanted = Vec::new();
        let mut values = Vec::new();
        let known = |name: &str| self.filters.iter().any(|filter| filter.name == name);
        if let Some(other) = parameters.keys().find(|name| !known(name)) {
            let names = self.filters.iter().map(|filter| format!("'{}'", filter.name));
            let names: Vec<String> =
                names.chain(["'limit'".to_owned(), "'cursor'".to_owned()]).collect();
            let shown: String = other.chars().take(64).flat_map(char::escape_debug).collect();
            return Err(bad(format!("there is no '{shown}' here; there is: {}", names.join(", "))));
        }
        for filter in &self.filters {
            let given = parameters.get(&filter.name).or(filter.default.as_ref());
            let Some(text) = given else { continue };
            let of = self.of(filter.column);
            let value = value(text, of).ok_or_else(|| {
                let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
                let of = foreline_engine::type_name(of);
                bad(format!("'{}' is '{shown}', which is no {of}", filter.name))
            })?;
            values.push(value);
            wanted.push(format!("{} {} ${}", self.name(filter.column), filter.is, values.len()));
        }
        if let Some(mark) = mark {
            wanted.push(self.not_before(mark, &mut values)?);
        }
        let order = self.order.iter().map(|(column, down)| {
            let way = if *down { "DESC" } else { "ASC" };
            format!("{} {way} NULLS LAST", self.name(*column))
        });
        let order: Vec<String> = order.collect();
        let mut sql = format!("SELECT * FROM (\n{}\n) AS listed", self.sql);
        if !wanted.is_empty() {
            sql += &format!(" WHERE {}", wanted.join(" AND "));
        }
        if !order.is_empty() {
            sql += &format!(" ORDER BY {}", order.join(", "));
        }
        let given = mark.map_or(0, |mark| mark.given);
        sql += &format!(" LIMIT {} OFFSET {given}", rows + 1);
        Ok(Asked { sql, values })
    }

    /// What is true of rows that are not before a mark.
    fn not_before(&self, mark: &Mark, values: &mut Vec<ArrayRef>) -> Result<String, Problem> {
        let wrong = || bad("the cursor is not the 'next' of a page of this path");
        if mark.values.len() != self.marks().len() {
            return Err(wrong());
        }
        let mut same: Vec<String> = Vec::new();
        let mut any = Vec::new();
        for ((column, down), text) in self.marks().iter().zip(&mark.values) {
            let name = self.name(*column);
            let Some(text) = text else {
                // Nothing comes behind what is not there.
                same.push(format!("{name} IS NULL"));
                continue;
            };
            values.push(value(text, self.of(*column)).ok_or_else(wrong)?);
            let way = if *down { "<" } else { ">" };
            let behind = format!("({name} {way} ${n} OR {name} IS NULL)", n = values.len());
            any.push(same.iter().cloned().chain([behind]).collect::<Vec<_>>().join(" AND "));
            same.push(format!("{name} = ${}", values.len()));
        }
        any.push(same.join(" AND "));
        Ok(format!("({})", any.join(" OR ")))
    }

    /// Where a page ends that is not empty.
    fn end(&self, page: &RecordBatch, before: Option<&Mark>) -> Result<Mark, ArrowError> {
        let columns = self.marks().iter();
        let columns = columns.map(|(column, _)| cast(page.column(*column), &DataType::Utf8));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let of = |row: usize| -> Vec<Option<String>> {
            let columns = columns.iter().map(|column| column.as_string::<i32>());
            columns.map(|c| c.is_valid(row).then(|| c.value(row).to_owned())).collect()
        };
        let last = page.num_rows() - 1;
        let values = of(last);
        let same = (0..=last).rev().take_while(|row| of(*row) == values).count();
        let is_all = same == page.num_rows();
        let same = u32::try_from(same).unwrap_or(u32::MAX);
        // All of the page may be rows of which the one before had some.
        let given = match before.filter(|before| is_all && before.values == values) {
            Some(before) => before.given.saturating_add(same),
            None => same,
        };
        Ok(Mark { given, values })
    }

    /// What a cursor says.
    fn mark(&self, text: &str) -> Result<Mark, Problem> {
        let wrong = || bad("the cursor is not the 'next' of a page of this path");
        let bytes = cursor(text)?;
        let (given, values): (u32, Vec<Option<String>>) =
            serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        match values.len() == self.marks().len() {
            true => Ok(Mark { given, values }),
            false => Err(wrong()),
        }
    }

    /// Parameters as OpenAPI has them.
    pub(crate) fn parameters(&self) -> Vec<Value> {
        let filters = self.filters.iter().map(|filter| {
            let column = self.schema.field(filter.column).name();
            let mut schema = schema_of(self.of(filter.column));
            if let Some(default) = &filter.default {
                schema["description"] = json!(format!("{default} where it is not given"));
            }
            json!({
                "name": filter.name, "in": "query", "required": false, "schema": schema,
                "description": format!("Rows whose `{column}` {} this", filter.is),
            })
        });
        let limit = json!({
            "name": "limit", "in": "query", "required": false,
            "schema": { "type": "integer", "minimum": 1, "maximum": crate::limits::PAGE_ROWS_MAX, "default": self.limit },
            "description": "Rows of a page",
        });
        let cursor = json!({
            "name": "cursor", "in": "query", "required": false, "schema": { "type": "string" },
            "description": "The header `foreline-next` of the page before",
        });
        filters.chain([limit, cursor]).collect()
    }

    /// A row as OpenAPI has it.
    pub(crate) fn row(&self) -> Value {
        let properties = self.schema.fields().iter().map(|field| {
            let mut schema = schema_of(field.data_type());
            if let Some(of) = schema.get("type").cloned() {
                schema["type"] = json!([of, "null"]);
            }
            (field.name().clone(), schema)
        });
        json!({ "type": "object", "properties": properties.collect::<serde_json::Map<_, _>>() })
    }
}

/// A type as JSON has it.
fn schema_of(of: &DataType) -> Value {
    match of {
        DataType::Boolean => json!({ "type": "boolean" }),
        DataType::Timestamp(..) => json!({ "type": "string", "format": "date-time" }),
        of if of.is_integer() => json!({ "type": "integer" }),
        of if of.is_floating() => json!({ "type": "number" }),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
            json!({ "type": "string" })
        }
        _ => json!({}),
    }
}

impl Mark {
    fn text(&self) -> String {
        let written = json!([self.given, self.values]).to_string();
        written.bytes().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn listing() -> Listing {
        let schema = Schema::new(vec![
            Field::new("machine", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("x\"y", DataType::Float64, true),
        ]);
        let filter = |name: &str, column, is, default: Option<&str>| Filter {
            name: name.to_owned(),
            column,
            is,
            default: default.map(str::to_owned),
        };
        Listing {
            sql: "SELECT 1".to_owned(),
            schema: Arc::new(schema),
            order: vec![(0, false), (1, true), (2, false)],
            marks: 2,
            filters: vec![filter("machine", 0, "=", None), filter("most", 1, "<=", Some("5"))],
            limit: 10,
        }
    }

    #[test]
    fn what_a_request_says_is_bound_and_never_written() {
        let wanted = BTreeMap::from([("machine".to_owned(), "' OR 1=1 --".to_owned())]);
        let asked = listing().asked(&wanted, None, 10).unwrap();
        assert_eq!(
            asked.sql,
            "SELECT * FROM (\nSELECT 1\n) AS listed WHERE \"machine\" = $1 AND \"n\" <= $2 ORDER BY \"machine\" ASC NULLS LAST, \
             \"n\" DESC NULLS LAST, \"x\"\"y\" ASC NULLS LAST LIMIT 11 OFFSET 0"
        );
        assert_eq!(asked.values[0].as_string::<i32>().value(0), "' OR 1=1 --");
        for (name, text) in [("most", "five"), ("most", ""), ("color", "red"), ("Machine", "x")] {
            let wanted = BTreeMap::from([(name.to_owned(), text.to_owned())]);
            assert!(listing().asked(&wanted, None, 10).is_err(), "{name}={text}");
        }
    }

    #[test]
    fn a_page_goes_on_where_the_one_before_it_ended() {
        let page = |machines: Vec<Option<&str>>, n: Vec<Option<i64>>| {
            let x = Float64Array::from(vec![0.5; n.len()]);
            RecordBatch::try_new(
                Arc::clone(&listing().schema),
                vec![
                    Arc::new(StringArray::from(machines)),
                    Arc::new(Int64Array::from(n)),
                    Arc::new(x),
                ],
            )
            .unwrap()
        };
        let first = listing().end(&page(vec![Some("a"); 3], vec![Some(9), Some(7), Some(7)]), None);
        let first = first.unwrap();
        assert_eq!(first.given, 2);
        assert_eq!(listing().mark(&first.text()).unwrap(), first);
        let again = listing().end(&page(vec![Some("a"); 2], vec![Some(7), Some(7)]), Some(&first));
        assert_eq!(again.unwrap().given, 4, "rows with the same go on over pages");
        let asked = listing().asked(&BTreeMap::new(), Some(&first), 3).unwrap();
        assert!(
            asked.sql.contains(
                "((\"machine\" > $2 OR \"machine\" IS NULL) OR \"machine\" = $2 AND (\"n\" < $3 OR \"n\" IS NULL) OR \
                 \"machine\" = $2 AND \"n\" = $3)"
            ) && asked.sql.ends_with("LIMIT 4 OFFSET 2"),
            "{}",
            asked.sql
        );
        let last = listing().end(&page(vec![Some("b"), None], vec![None, None]), None).unwrap();
        let asked = listing().asked(&BTreeMap::new(), Some(&last), 3).unwrap();
        assert!(asked.sql.contains("(\"machine\" IS NULL AND \"n\" IS NULL)"), "{}", asked.sql);
        for wrong in [
            "",
            "00",
            "5b5d",
            "7b7d",
            "5b312c5b5d5d",
            "5b343239343936373239362c5b6e756c6c2c6e756c6c5d5d",
        ] {
            assert!(listing().mark(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_next_page_has_the_parameters_of_this_one() {
        let uri: Uri = "/x/y?machine=P%201&cursor=aa&limit=5".parse().unwrap();
        assert_eq!(following(&uri, "bb"), "/x/y?machine=P%201&limit=5&cursor=bb");
        assert_eq!(following(&"/x".parse().unwrap(), "bb"), "/x?cursor=bb");
    }
}
