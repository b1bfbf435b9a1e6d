//! Random histories, and random views over them: each as the engine has it, and as the query that finds the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Aggregate, Batch, Cell, Column, Epoch, Expression, Fault, Function, Input,
    LateSupport, Operator, Out, Planned, PrimaryKey, Relation, Schema, StreamId, ViewKind,
    Watermarks, latest,
};
use foreline_sql::SqlExpressions;

use crate::Dice;
use crate::world::{Pipeline, Step};

/// Sums of such values are exact in whatever order.
const QUARTER: f64 = 0.25;

/// A view of a random graph.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) relation: Relation,
    pub(crate) kind: ViewKind,
    /// The query that finds the same, over the tables of the views before it.
    pub(crate) sql: String,
    /// Of each column, whether any sum of its values is exact.
    exact: Vec<bool>,
}

/// A graph, and the histories that it runs on.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) sources: Vec<(&'static str, Schema, RecordBatch)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) views: Vec<Made>,
}

impl Case {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let sources = vec![
            ("readings", readings_schema(), readings(dice)),
            ("limits", limits_schema(), limits(dice)),
        ];
        let mut case = Case { sources, steps: Vec::new(), views: Vec::new() };
        case.steps.push(Step {
            name: "corrected".to_owned(),
            kind: "corrected",
            from: StreamId::Source(0),
            beside: None,
            planned: corrected(),
        });
        let few = 2 + dice.below(3);
        case.latest("readings", StreamId::Source(0), &readings_schema(), 1, None);
        case.latest("limits", StreamId::Source(1), &limits_schema(), 1, None);
        case.latest("corrected", StreamId::Step(0), &corrected_schema(), 1, None);
        let within = dice.one_in(2).then(|| dice.of(0, 15));
        case.latest("readings", StreamId::Source(0), &readings_schema(), few, within);
        case.latest("corrected", StreamId::Step(0), &corrected_schema(), few, within);
        for _ in 0..3 + dice.below(5) {
            case.another(dice);
        }
        case
    }

    pub(crate) fn pipeline(&self, kept: Vec<StreamId>) -> Pipeline {
        let view = |v: &Made| (v.name.clone(), v.relation.clone(), v.kind.clone());
        Pipeline {
            sources: self.sources.clone(),
            relations: Vec::new(),
            steps: self.steps.clone(),
            views: self.views.iter().map(view).collect(),
            kept,
        }
    }

    /// A view of the latest rows of a stream, and the step that stands for it.
    fn latest(
        &mut self,
        stream: &str,
        from: StreamId,
        schema: &Schema,
        rows: usize,
        within: Option<i64>,
    ) {
        let name = format!("v{}", self.views.len());
        let relation = Relation::of_latest(schema, rows).unwrap();
        let columns = names(relation.columns()).join(", ");
        let key = &schema.columns()[schema.key()[0]].name;
        let time = &schema.columns()[schema.time()].name;
        let recent = within.map_or(String::new(), |w| format!("AND {time} >= newest - {w}"));
        let gone = if stream == "corrected" { "AND NOT op" } else { "" };
        let table = if stream == "corrected" { "readings" } else { stream };
        let sql = format!(
            "WITH told AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY {key}, {time} ORDER BY position DESC) AS nth
                 FROM {table}),
               there AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {time} DESC) AS place,
                 MAX({time}) OVER (PARTITION BY {key}) AS newest FROM told WHERE nth = 1 {gone})
             SELECT {columns} FROM there WHERE place <= {rows} {recent}"
        );
        let planned = latest(schema, rows, within);
        self.steps.push(Step { name: name.clone(), kind: "latest", from, beside: None, planned });
        let kind = ViewKind::Standing(StreamId::Step(self.steps.len() - 1));
        let exact = vec![true; relation.columns().len()];
        self.views.push(Made { name, relation, kind, sql, exact });
    }

    /// One more view, of those that are there.
    fn another(&mut self, dice: &mut Dice) {
        let of = dice.below(self.views.len());
        let name = format!("v{}", self.views.len());
        let made = match dice.below(8) {
            0 => filter(dice, of, &self.views[of]),
            1 => derive(dice, of, &self.views[of], &name),
            2 | 3 => self.join(dice, of, &name),
            4 | 5 => self.asof(dice, of, &name),
            6 => group(dice, of, &self.views[of], &name),
            _ => top(dice, of, &self.views[of]),
        };
        self.views.extend(made.map(|(relation, kind, sql, exact)| Made {
            name,
            relation,
            kind,
            sql,
            exact,
        }));
    }

    fn join(&self, dice: &mut Dice, left: usize, name: &str) -> Option<Parts> {
        let right = dice.below(self.views.len());
        let [l, r] = [left, right].map(|v| &self.views[v]);
        let mut on = Vec::new();
        for &key in r.relation.key() {
            let wanted = &r.relation.columns()[key];
            let fits = |c: &usize| l.relation.columns()[*c].data_type == wanted.data_type;
            let fitting: Vec<usize> = (0..l.relation.columns().len()).filter(fits).collect();
            let same = l.relation.index_of(&wanted.name).filter(|c| fitting.contains(c));
            let other = (!fitting.is_empty()).then(|| *dice.pick(&fitting));
            on.push((same.filter(|_| !dice.one_in(4)).or(other)?, key));
        }
        let rest: Vec<usize> = (0..r.relation.columns().len())
            .filter(|c| !r.relation.key().contains(c) || dice.one_in(4))
            .collect();
        let take = if rest.is_empty() || dice.one_in(8) { vec![] } else { dice.some(&rest, 3) };
        let unmatched = dice.one_in(2);
        let mut columns = l.relation.columns().to_vec();
        let mut exact = l.exact.clone();
        let mut selected = vec!["l.*".to_owned()];
        for (i, &c) in take.iter().enumerate() {
            let taken = &r.relation.columns()[c];
            let new = format!("{name}_{i}");
            selected.push(format!("r.{} AS {new}", taken.name));
            columns.push(Column::new(new, taken.data_type.clone()));
            exact.push(r.exact[c]);
        }
        let agree = on.iter().map(|&(a, b)| {
            format!("l.{} = r.{}", l.relation.columns()[a].name, r.relation.columns()[b].name)
        });
        let sql = format!(
            "SELECT {} FROM {} l {} JOIN {} r ON {}",
            selected.join(", "),
            l.name,
            if unmatched { "LEFT" } else { "INNER" },
            r.name,
            agree.collect::<Vec<_>>().join(" AND ")
        );
        let relation = Relation::new(columns, l.relation.key().to_vec()).unwrap();
        Some((relation, ViewKind::Join { left, right, on, take, unmatched }, sql, exact))
    }

    fn asof(&self, dice: &mut Dice, left: usize, name: &str) -> Option<Parts> {
        let right = dice.below(self.views.len());
        let [l, r] = [left, right].map(|v| &self.views[v]);
        let column = |view: &Made, name: &str| view.relation.index_of(name).unwrap();
        let times = [l, r].map(|view| of_type(view, &DataType::Int64));
        if times.iter().any(Vec::is_empty) {
            return None;
        }
        let (here, there) = (dice.pick(&times[0]), dice.pick(&times[1]));
        let time = (column(l, here), column(r, there));
        let texts = [l, r].map(|view| of_type(view, &DataType::Utf8));
        let mut on = Vec::new();
        if texts.iter().all(|names| !names.is_empty()) && !dice.one_in(6) {
            let same = texts[0].iter().find(|name| texts[1].contains(name));
            let pair = match same.filter(|_| !dice.one_in(4)) {
                Some(name) => (name, name),
                None => (dice.pick(&texts[0]), dice.pick(&texts[1])),
            };
            on.push((column(l, pair.0), column(r, pair.1)));
        }
        let all: Vec<usize> = (0..r.relation.columns().len()).collect();
        let take = if dice.one_in(8) { vec![] } else { dice.some(&all, 3) };
        let unmatched = dice.one_in(2);
        let mut columns = l.relation.columns().to_vec();
        let mut exact = l.exact.clone();
        let mut inner = vec!["l.*".to_owned()];
        let mut outer = names(&columns);
        for (i, &c) in take.iter().enumerate() {
            let taken = &r.relation.columns()[c];
            let new = format!("{name}_{i}");
            inner.push(format!("r.{} AS {new}", taken.name));
            outer.push(new.clone());
            columns.push(Column::new(new, taken.data_type.clone()));
            exact.push(r.exact[c]);
        }
        let agree = on.iter().map(|&(a, b)| {
            format!("l.{} = r.{}", l.relation.columns()[a].name, r.relation.columns()[b].name)
        });
        let agree: Vec<String> = agree.chain([format!("r.{there} <= l.{here}")]).collect();
        let of = |view: &Made, alias: &str, order: &str| {
            let key = view.relation.key().iter();
            let key = key.map(|&k| format!("{alias}.{}{order}", view.relation.columns()[k].name));
            key.collect::<Vec<_>>().join(", ")
        };
        // A view without a key has one row.
        let parts = of(l, "l", "");
        let parts = if parts.is_empty() { parts } else { format!("PARTITION BY {parts}") };
        let ties = of(r, "r", " DESC NULLS LAST");
        let ties = if ties.is_empty() { ties } else { format!(", {ties}") };
        let sql = format!(
            "SELECT {} FROM (SELECT {}, ROW_NUMBER() OVER ({parts} ORDER BY r.{there} DESC NULLS LAST{ties}) AS place
                 FROM {} l {} JOIN {} r ON {}) WHERE place = 1",
            outer.join(", "),
            inner.join(", "),
            l.name,
            if unmatched { "LEFT" } else { "INNER" },
            r.name,
            agree.join(" AND ")
        );
        let relation = Relation::new(columns, l.relation.key().to_vec()).unwrap();
        Some((relation, ViewKind::AsOf { left, right, on, time, take, unmatched }, sql, exact))
    }
}

/// Relation, kind, query and which columns are exact.
type Parts = (Relation, ViewKind, String, Vec<bool>);

fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|c| c.name.clone()).collect()
}

/// The columns of a view that are of a type.
fn of_type(view: &Made, data_type: &DataType) -> Vec<String> {
    let columns = view.relation.columns().iter().filter(|c| c.data_type == *data_type);
    columns.map(|c| c.name.clone()).collect()
}

fn compiled(sql: &str, view: &Made) -> Arc<dyn Expression> {
    let compiled = SqlExpressions::new().compile(sql, &view.relation.log());
    compiled.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

fn filter(dice: &mut Dice, of: usize, view: &Made) -> Option<Parts> {
    let (ours, theirs) = condition(dice, view)?;
    let kind = ViewKind::Filter { of, condition: compiled(&ours, view) };
    let sql = format!("SELECT * FROM {} WHERE {theirs}", view.name);
    Some((view.relation.clone(), kind, sql, view.exact.clone()))
}

/// A condition, and the same as a query would have it: one row that cannot be computed would fail all of it.
fn condition(dice: &mut Dice, view: &Made) -> Option<(String, String)> {
    let floats = of_type(view, &DataType::Float64);
    let ints = of_type(view, &DataType::Int64);
    let texts = of_type(view, &DataType::Utf8);
    let same = |sql: String| Some((sql.clone(), sql));
    let most = QUARTER * dice.of(-10, 60) as f64;
    match dice.below(8) {
        0 | 1 if !floats.is_empty() => same(format!("{} > {most:?}", dice.pick(&floats))),
        2 if !floats.is_empty() => same(format!("{} IS NULL", dice.pick(&floats))),
        3 if floats.len() > 1 => same(format!("{} < {}", dice.pick(&floats), dice.pick(&floats))),
        4 if !floats.is_empty() => same(format!("NOT (abs({}) <= {most:?})", dice.pick(&floats))),
        5 if !ints.is_empty() => {
            let (by, rest) = (dice.of(2, 4), dice.of(0, 2));
            same(format!("{} % {by} = {rest}", dice.pick(&ints)))
        }
        6 if !ints.is_empty() => {
            let by = dice.pick(&ints);
            Some((format!("10 / {by} > 1"), format!("10 / NULLIF({by}, 0) > 1")))
        }
        _ if !texts.is_empty() => {
            let text = dice.pick(&texts);
            let condition = match dice.below(3) {
                0 => format!("{text} IN ('L0', 'L1', 'm1', 'm2', 'm3', 'S1')"),
                1 => format!("{text} LIKE '%1'"),
                _ => format!("{text} IS NOT NULL"),
            };
            same(condition)
        }
        _ => None,
    }
}

fn derive(dice: &mut Dice, of: usize, view: &Made, name: &str) -> Option<Parts> {
    let mut columns = view.relation.columns().to_vec();
    let mut cells: Vec<Cell> = (0..columns.len()).map(Cell::Column).collect();
    let mut selected = names(&columns);
    let mut exact = view.exact.clone();
    for i in 0..1 + dice.below(2) {
        let (ours, theirs, is_exact) = computed(dice, view)?;
        let expression = compiled(&ours, view);
        let rest = (0..view.relation.columns().len()).filter(|c| !view.relation.key().contains(c));
        let rest: Vec<usize> = rest.collect();
        let replaced = (!rest.is_empty() && dice.one_in(4)).then(|| *dice.pick(&rest));
        let new = replaced.map_or(format!("{name}_{i}"), |c| columns[c].name.clone());
        let column = Column::new(new.clone(), expression.data_type());
        let (cell, text) = (Cell::Computed(expression), format!("{theirs} AS {new}"));
        match replaced {
            Some(c) => {
                (columns[c], cells[c], selected[c], exact[c]) = (column, cell, text, is_exact)
            }
            None => {
                columns.push(column);
                cells.push(cell);
                selected.push(text);
                exact.push(is_exact);
            }
        }
    }
    let relation = Relation::new(columns, view.relation.key().to_vec()).unwrap();
    let sql = format!("SELECT {} FROM {}", selected.join(", "), view.name);
    Some((relation, ViewKind::Derive { of, cells }, sql, exact))
}

/// An expression, the same as a query would have it, and whether sums of it are exact.
fn computed(dice: &mut Dice, view: &Made) -> Option<(String, String, bool)> {
    let floats = of_type(view, &DataType::Float64);
    let ints = of_type(view, &DataType::Int64);
    let texts = of_type(view, &DataType::Utf8);
    let exact = |column: &str| view.exact[view.relation.index_of(column).unwrap()];
    let same = |sql: String, exact: bool| Some((sql.clone(), sql, exact));
    match dice.below(8) {
        0 if !floats.is_empty() && !ints.is_empty() => {
            let (x, n) = (dice.pick(&floats), dice.pick(&ints));
            same(format!("{x} + {n}"), exact(x))
        }
        1 | 2 if !floats.is_empty() => {
            let (x, y) = (dice.pick(&floats), dice.pick(&floats));
            same(
                format!("CASE WHEN {x} > {y} THEN {x} ELSE coalesce({y}, 0.5) END"),
                exact(x) && exact(y),
            )
        }
        3 if !floats.is_empty() => same(format!("{} / 3", dice.pick(&floats)), false),
        4 if !ints.is_empty() => {
            let n = dice.pick(&ints);
            Some((format!("10 / {n}"), format!("10 / NULLIF({n}, 0)"), true))
        }
        5 if !ints.is_empty() => same(format!("{} % 3", dice.pick(&ints)), true),
        6 if !floats.is_empty() => same(format!("{} > 5", dice.pick(&floats)), true),
        _ if !texts.is_empty() => same(format!("{} || '1'", dice.pick(&texts)), true),
        _ => None,
    }
}

fn group(dice: &mut Dice, of: usize, view: &Made, name: &str) -> Option<Parts> {
    let all: Vec<usize> = (0..view.relation.columns().len()).collect();
    let column = |c: usize| &view.relation.columns()[c];
    let is_float = |c: &usize| column(*c).data_type == DataType::Float64;
    let by: Vec<usize> = all.iter().copied().filter(|c| !is_float(c)).collect();
    let by = dice.some(&by, 2);
    let mut columns: Vec<Column> = by.iter().map(|&c| column(c).clone()).collect();
    let mut exact: Vec<bool> = by.iter().map(|&c| view.exact[c]).collect();
    let mut selected: Vec<String> = by.iter().map(|&c| column(c).name.clone()).collect();
    let mut found = Vec::new();
    let mut aggregates = Vec::new();
    for i in 0..1 + dice.below(6) {
        let function = [
            Function::Count,
            Function::Sum,
            Function::Mean,
            Function::Min,
            Function::Max,
            Function::Distinct,
            Function::Quantile([0.0, 0.1, 0.5, 0.75, 1.0][dice.below(5)]),
        ][dice.below(7)];
        let fits = |c: &usize| match function {
            Function::Count | Function::Distinct => true,
            // DataFusion rounds a sum after each value; where it need not, its sums are the exact ones.
            Function::Sum | Function::Mean => column(*c).data_type.is_numeric() && view.exact[*c],
            Function::Min | Function::Max => column(*c).data_type != DataType::Boolean,
            Function::Quantile(_) => column(*c).data_type.is_numeric(),
        };
        let fitting: Vec<usize> = all.iter().copied().filter(fits).collect();
        let counts_rows = function == Function::Count && dice.one_in(2);
        let input = (!counts_rows && !fitting.is_empty()).then(|| *dice.pick(&fitting));
        if input.is_none() && function != Function::Count {
            continue;
        }
        let new = format!("{name}_{i}");
        let (inner, outer) = query_of(function, input.map(|c| column(c).name.as_str()), &new);
        selected.extend(inner);
        found.push(outer);
        let data_type = function.data_type(input.map(|c| &column(c).data_type)).unwrap();
        columns.push(Column::new(new, data_type));
        exact.push(match function {
            Function::Mean | Function::Quantile(_) => false,
            _ => input.is_none_or(|c| view.exact[c]),
        });
        aggregates.push(Aggregate { function, column: input });
    }
    let relation = Relation::new(columns, (0..by.len()).collect()).unwrap();
    let keys = names(&relation.columns()[..by.len()]).join(", ");
    let outer: Vec<String> = std::iter::once(keys.clone()).chain(found).collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {} GROUP BY {keys})",
        outer.join(", "),
        selected.join(", "),
        view.name
    );
    Some((relation, ViewKind::Group { of, by, aggregates }, sql, exact))
}

/// What is found of each group, and what the result is made from that.
fn query_of(function: Function, column: Option<&str>, new: &str) -> (Vec<String>, String) {
    let Some(c) = column else { return (vec![format!("COUNT(*) AS {new}")], new.to_owned()) };
    let found = match function {
        Function::Count => format!("COUNT({c})"),
        Function::Sum => format!("SUM(CAST({c} AS DOUBLE))"),
        Function::Mean => format!("SUM(CAST({c} AS DOUBLE)) / COUNT({c})"),
        Function::Min => format!("MIN({c})"),
        Function::Max => format!("MAX({c})"),
        Function::Distinct => format!("COUNT(DISTINCT {c})"),
        Function::Quantile(q) => {
            let place = format!("({q:?} * (n_{new} - 1))");
            let at = |side: &str| format!("s_{new}[CAST({side}({place}) AS BIGINT) + 1]");
            let (below, above) = (at("floor"), at("ceil"));
            let result = format!("{below} + ({above} - {below}) * ({place} - floor({place}))");
            let sorted = format!(
                "array_sort(array_agg(CAST({c} AS DOUBLE)) FILTER (WHERE {c} IS NOT NULL)) AS s_{new}"
            );
            return (vec![sorted, format!("COUNT({c}) AS n_{new}")], result);
        }
    };
    (vec![format!("{found} AS {new}")], new.to_owned())
}

fn top(dice: &mut Dice, of: usize, view: &Made) -> Option<Parts> {
    let all: Vec<usize> = (0..view.relation.columns().len()).collect();
    let column = |c: usize| view.relation.columns()[c].name.as_str();
    let within = if dice.one_in(3) { vec![] } else { dice.some(&all, 2) };
    let order: Vec<(usize, bool)> =
        dice.some(&all, 2).into_iter().map(|c| (c, dice.one_in(2))).collect();
    let n = 1 + dice.below(4);
    let ranks = order.iter().map(|&(c, greatest)| {
        format!("{} {} NULLS LAST", column(c), if greatest { "DESC" } else { "ASC" })
    });
    let ties = view.relation.key().iter().map(|&c| format!("{} ASC NULLS FIRST", column(c)));
    let ranks = ranks.chain(ties).collect::<Vec<_>>().join(", ");
    let parts = match within.is_empty() {
        true => String::new(),
        false => {
            let names: Vec<&str> = within.iter().map(|&c| column(c)).collect();
            format!("PARTITION BY {}", names.join(", "))
        }
    };
    let sql = format!(
        "SELECT {} FROM (SELECT *, ROW_NUMBER() OVER ({parts} ORDER BY {ranks}) AS place FROM {}) WHERE place <= {n}",
        names(view.relation.columns()).join(", "),
        view.name
    );
    Some((view.relation.clone(), ViewKind::Top { of, within, order, n }, sql, view.exact.clone()))
}

fn readings_schema() -> Schema {
    Schema::new(readings_columns(), &["machine"], "cycle").unwrap()
}

fn readings_columns() -> Vec<Column> {
    vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("x", DataType::Float64),
        Column::new("n", DataType::Int64),
        Column::new("line", DataType::Utf8),
        Column::new("op", DataType::Boolean),
    ]
}

/// As readings, but a row takes the place of one with the same machine and cycle.
fn corrected_schema() -> Schema {
    let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
    Schema::with_primary_key(readings_columns(), vec![0], 1, primary_key).unwrap()
}

fn limits_schema() -> Schema {
    let columns = vec![
        Column::new("line", DataType::Utf8),
        Column::new("since", DataType::Int64),
        Column::new("most", DataType::Float64),
        Column::new("site", DataType::Utf8),
    ];
    Schema::new(columns, &["line"], "since").unwrap()
}

/// Readings of a few machines, forwards, backwards and on the spot in time.
fn readings(dice: &mut Dice) -> RecordBatch {
    let (n_rows, n_machines) = (dice.below(150), 1 + dice.below(9));
    let machines: Vec<String> =
        (0..n_rows).map(|_| format!("m{}", dice.below(n_machines))).collect();
    let cycles: Int64Array = (0..n_rows).map(|_| Some(dice.of(0, 40))).collect();
    let mut sometimes = |from, to| (!dice.one_in(8)).then(|| dice.of(from, to));
    let x: Float64Array =
        (0..n_rows).map(|_| sometimes(-20, 80).map(|x| x as f64 * QUARTER)).collect();
    let n: Int64Array = (0..n_rows).map(|_| sometimes(0, 6)).collect();
    let line: StringArray =
        (0..n_rows).map(|_| sometimes(0, 4).map(|line| format!("L{line}"))).collect();
    let op: BooleanArray = (0..n_rows).map(|_| Some(dice.one_in(5))).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("machine", Arc::new(StringArray::from(machines))),
        ("cycle", Arc::new(cycles)),
        ("x", Arc::new(x)),
        ("n", Arc::new(n)),
        ("line", Arc::new(line)),
        ("op", Arc::new(op)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn limits(dice: &mut Dice) -> RecordBatch {
    let n_rows = dice.below(50);
    let lines: StringArray = (0..n_rows).map(|_| Some(format!("L{}", dice.below(4)))).collect();
    let since: Int64Array = (0..n_rows).map(|_| Some(dice.of(0, 40))).collect();
    let mut sometimes = |from, to| (!dice.one_in(8)).then(|| dice.of(from, to));
    let most: Float64Array =
        (0..n_rows).map(|_| sometimes(-20, 80).map(|x| x as f64 * QUARTER)).collect();
    let site: StringArray =
        (0..n_rows).map(|_| sometimes(0, 3).map(|site| format!("S{site}"))).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("line", Arc::new(lines)),
        ("since", Arc::new(since)),
        ("most", Arc::new(most)),
        ("site", Arc::new(site)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A step that takes a reading as a revision of the one with the same machine and cycle, or as its deletion.
fn corrected() -> Planned {
    Planned {
        output: corrected_schema(),
        late: LateSupport::Itself,
        state_version: 1,
        build: Arc::new(|_| Ok(Box::new(Corrected { horizon: None }))),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

struct Corrected {
    horizon: Option<Watermarks>,
}

impl Operator for Corrected {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let Input { rows, late, .. } = inputs[0];
        let n = (rows.len() + late.len()) as u64;
        out.count(Account { used: n, ..Account::default() });
        if let Some(horizon) = self.horizon.take() {
            out.horizon(horizon);
        }
        let schema = corrected_schema();
        let all = [rows, late].into_iter().filter(|b| !b.is_empty()).cloned();
        let all: Vec<Batch> = all.collect();
        if all.is_empty() {
            return Ok(());
        }
        let all = Batch::concat(schema.arrow(), &all)?;
        // Of several rows in an epoch that take one another's place the last one counts.
        let times = all.times(&schema);
        let at = |row: usize| (all.key_hash.value(row), times[row], all.position.value(row));
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&row| at(row));
        let place = |row: usize| (at(row).0, at(row).1);
        let mut last: Vec<u32> = Vec::new();
        for (i, &row) in order.iter().enumerate() {
            if order.get(i + 1).is_none_or(|&next| place(next) != place(row)) {
                last.push(u32::try_from(row).unwrap());
            }
        }
        let mut told = all.take(&last.into())?;
        // The place in the source goes up from epoch to epoch, as a revision must.
        let revision = told.position.values().iter().map(|p| Some((p & 0xffff_ffff) as u32));
        told.revision = Some(revision.collect());
        let op = told.rows.column(5);
        told.deleted = Some(arrow::array::AsArray::as_boolean(op).clone());
        out.emit(told);
        Ok(())
    }

    fn horizon(&mut self, _: usize, horizon: &Watermarks) {
        self.horizon = Some(horizon.clone());
    }
}
