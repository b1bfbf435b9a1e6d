//! What must come of it, computed plainly: the relation at the end of each epoch, and all that follows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use foreline_engine::{Batch, Partition, Position, SourceId};

use crate::World;
use crate::feed::{Counts, Kind, Line, Reading};
use crate::toys::{group_of, numbers, said, texts};

/// What a row shows: from when it counts, and the limit.
type Shown = (Option<i64>, i64);
/// All rows: by machine, and the time from which they count.
type All = BTreeMap<String, BTreeMap<i64, Shown>>;
/// Rows by their key, as text.
type Rows = BTreeMap<String, Vec<String>>;

/// The relation at the end of an epoch.
#[derive(Debug, Clone, Default)]
struct Stage {
    all: All,
    stands: Rows,
    /// Positions of the lines that could not be used.
    dead: BTreeSet<u64>,
    n_lines: u64,
    n_told: u64,
}

fn name(machine: u64) -> String {
    format!("m{machine}")
}

/// Takes a table or changes in.
fn take(kind: Kind, all: &mut All, lines: &[(u64, Line)], clock_ns: i64, stage: &mut Stage) {
    if kind.whole {
        all.clear();
    }
    for (position, line) in lines {
        let given = line.since.filter(|_| kind.counts != Counts::Always);
        let of_machine = all.entry(name(line.machine)).or_default();
        match (line.gone, given) {
            (true, Some(from)) => drop(of_machine.remove(&from)),
            (true, None) => of_machine.clear(),
            (false, _) => {
                // A change that does not say from when counts from its epoch on.
                let from_now = !kind.whole && kind.counts == Counts::Time;
                let from = given.or(from_now.then_some(clock_ns)).unwrap_or(i64::MIN);
                let since = line.since.or(from_now.then_some(clock_ns));
                if kind.whole && of_machine.contains_key(&from) {
                    stage.dead.insert(*position);
                } else {
                    of_machine.insert(from, (since, line.limit));
                }
            }
        }
    }
    stage.n_lines += lines.len() as u64;
}

fn stands(kind: Kind, all: &All, clock_ns: i64) -> Rows {
    let now = if kind.counts == Counts::Cycle { i64::MAX } else { clock_ns };
    let rows = all.iter().filter_map(|(machine, rows)| {
        let (_, (since, limit)) = rows.range(..=now).next_back()?;
        Some((machine.clone(), vec![machine.clone(), text(*since), limit.to_string()]))
    });
    rows.collect()
}

fn text(number: Option<i64>) -> String {
    number.map_or("-".to_owned(), |n| n.to_string())
}

/// The stages, by epoch.
fn stages(world: &World) -> BTreeMap<u64, Stage> {
    let (seen, outside) = (world.seen.lock().unwrap(), world.outside.lock().unwrap());
    let (mut stages, mut stage) = (BTreeMap::new(), Stage::default());
    for (&epoch, (clock_ns, inputs)) in &*seen {
        stage =
            Stage { all: std::mem::take(&mut stage.all), stands: stage.stands, ..Stage::default() };
        for input in inputs.iter().filter(|input| input.source == SourceId(1)) {
            let ordinals = input.range.first_ordinal..input.range.end_ordinal;
            let line = |o| {
                let position = Position::new(input.partition, o).0;
                (position, outside.lines[&position].clone())
            };
            let lines: Vec<_> = ordinals.map(line).collect();
            let mut all = std::mem::take(&mut stage.all);
            take(world.kind, &mut all, &lines, *clock_ns, &mut stage);
            stage.all = all;
        }
        let before = std::mem::take(&mut stage.stands);
        stage.stands = stands(world.kind, &stage.all, *clock_ns);
        let changes = changes(&before, &stage.stands);
        let n_rows = |(machine, _): (&String, _)| {
            u64::from(before.contains_key(machine)) + u64::from(stage.stands.contains_key(machine))
        };
        stage.n_told = changes.iter().map(n_rows).sum();
        stages.insert(epoch, stage.clone());
    }
    stages
}

/// What is different, by key: the row that came, or the one that went, and whether it went.
fn changes(before: &Rows, after: &Rows) -> BTreeMap<String, (Vec<String>, bool)> {
    let came = after.iter().filter(|(key, row)| before.get(*key) != Some(row));
    let came = came.map(|(key, row)| (key.clone(), (row.clone(), false)));
    let went = before.iter().filter(|(key, _)| !after.contains_key(*key));
    came.chain(went.map(|(key, row)| (key.clone(), (row.clone(), true)))).collect()
}

/// The cells of the columns of a batch, floats by their bits.
fn cells(batch: &Batch, columns: &[usize]) -> Vec<Vec<String>> {
    let column = |&c: &usize| -> Vec<String> {
        let column = batch.rows.column(c);
        let cell = |cell: Option<String>| cell.unwrap_or("-".to_owned());
        match column.data_type() {
            t if t.is_floating() => {
                let floats = column.as_primitive::<Float64Type>().iter();
                floats.map(|v| cell(v.map(|v| format!("{v:?}")))).collect()
            }
            t if t.is_integer() || t.is_temporal() => {
                numbers(column).into_iter().map(text).collect()
            }
            _ => texts(column).into_iter().map(cell).collect(),
        }
    };
    let columns: Vec<Vec<String>> = columns.iter().map(column).collect();
    (0..batch.len()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect()
}

/// The rows of a sink, by epoch.
fn book(world: &World, name: &str, columns: &[usize]) -> BTreeMap<u64, Vec<Vec<String>>> {
    let book = world.books[name].lock().unwrap();
    let pages = book.pages.iter().map(|(epoch, batches)| {
        (*epoch, batches.iter().flat_map(|batch| cells(batch, columns)).collect())
    });
    pages.collect()
}

/// What is wrong with what a world has come to; how many tables or changes there were.
pub(crate) fn check(world: &World) -> Result<u64, String> {
    let stages = stages(world);
    let found = book(world, "found", &[0, 1, 2, 3]);
    check_found(world, &stages, &found)?;
    check_sums(world, &found)?;
    check_dead(world, &stages)?;
    check_accounts(world, &stages)?;
    if world.has_views {
        check_views(world, &stages, &joined(&stages, &found))?;
    }
    Ok(stages.values().filter(|s| s.n_told > 0).count() as u64)
}

/// The views, their logs, and the table that is kept like one of them.
fn check_views(
    world: &World,
    stages: &BTreeMap<u64, Stage>,
    joined: &BTreeMap<u64, Rows>,
) -> Result<(), String> {
    check_log(world, "log", 3, stages.iter().map(|(epoch, s)| (*epoch, s.stands.clone())))?;
    check_log(world, "joined", 5, joined.iter().map(|(epoch, rows)| (*epoch, rows.clone())))?;
    check_state(world, stages)?;
    let last = stages.values().last().zip(joined.values().last());
    let (stage, joined) = last.ok_or("there was an epoch")?;
    check_table(world, 0, &stage.stands)?;
    check_table(world, 2, joined)
}

/// Each reading is there once, with all that the relation had of its machine in the reading's epoch.
fn check_found(
    world: &World,
    stages: &BTreeMap<u64, Stage>,
    found: &BTreeMap<u64, Vec<Vec<String>>>,
) -> Result<(), String> {
    let reading =
        |(machine, cycle, v): &Reading| vec![name(*machine), cycle.to_string(), format!("{v:?}")];
    let mut readings: Vec<Vec<String>> = world.readings.iter().map(reading).collect();
    let mut rows: Vec<Vec<String>> =
        found.values().flatten().map(|row| row[..3].to_vec()).collect();
    readings.sort();
    rows.sort();
    if rows != readings {
        return Err(format!("{} rows, {} readings, or others", rows.len(), readings.len()));
    }
    let seen = world.seen.lock().unwrap();
    let first = seen.iter().find(|(_, (_, inputs))| inputs.iter().any(|i| i.source == SourceId(1)));
    let first = *first.ok_or("the relation was never there")?.0;
    for (epoch, rows) in found {
        let all = &stages[epoch].all;
        for row in rows {
            let want = said(all.get(&row[0]).into_iter().flat_map(|rows| rows.values().copied()));
            if *epoch < first {
                return Err(format!("epoch {epoch}: {row:?} was read before the relation"));
            }
            if row[3] != want {
                let what = &row[3];
                return Err(format!("epoch {epoch}: {row:?} found '{what}', not '{want}'"));
            }
        }
    }
    Ok(())
}

/// The rows of each group are summed in the order of the contract, epoch by epoch.
fn check_sums(world: &World, found: &BTreeMap<u64, Vec<Vec<String>>>) -> Result<(), String> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let got = book(world, "sums", &[0, 1, 2, 3]);
    for (epoch, rows) in found {
        let mut rows: Vec<(i64, &Vec<String>)> =
            rows.iter().map(|row| (row[1].parse().unwrap(), row)).collect();
        rows.sort_by_key(|(cycle, _)| *cycle);
        let sum = |(cycle, row): &(i64, &Vec<String>)| {
            let group = group_of(*cycle);
            let sum = sums.entry(group.clone()).or_default();
            *sum += row[2].parse::<f64>().unwrap();
            vec![group, cycle.to_string(), row[0].clone(), format!("{sum:?}")]
        };
        let mut want: Vec<Vec<String>> = rows.iter().map(sum).collect();
        let mut got = got.get(epoch).cloned().unwrap_or_default();
        want.sort();
        got.sort();
        if got != want {
            return Err(format!("epoch {epoch}: the sums are {got:?}, not {want:?}"));
        }
    }
    if got.values().flatten().count() != world.readings.len() {
        return Err("there are more sums than readings".to_owned());
    }
    Ok(())
}

/// The joined view at the end of each epoch: the latest row of each machine, with the limit that stands.
fn joined(
    stages: &BTreeMap<u64, Stage>,
    found: &BTreeMap<u64, Vec<Vec<String>>>,
) -> BTreeMap<u64, Rows> {
    let mut latest = Rows::new();
    let all = stages.iter().map(|(epoch, stage)| {
        let rows = found.get(epoch).into_iter().flatten();
        latest.extend(rows.map(|row| (row[0].clone(), row.clone())));
        let beside = |(machine, row): (&String, &Vec<String>)| {
            let limit = stage.stands.get(machine).map_or("-".to_owned(), |row| row[2].clone());
            (machine.clone(), [&row[..], &[limit]].concat())
        };
        (*epoch, latest.iter().map(beside).collect())
    });
    all.collect()
}

/// A log says in each epoch what is different after it, with the epoch's clock, and nothing else.
fn check_log(
    world: &World,
    log: &str,
    n_columns: usize,
    tables: impl Iterator<Item = (u64, Rows)>,
) -> Result<(), String> {
    let columns: Vec<usize> = (0..n_columns + 2).collect();
    let mut pages = book(world, log, &columns);
    let mut before = Rows::new();
    for (epoch, after) in tables {
        let clock_ns = world.seen.lock().unwrap()[&epoch].0;
        let want = changes(&before, &after).into_values().map(|(mut row, gone)| {
            row.extend([clock_ns.to_string(), gone.to_string()]);
            row
        });
        let mut want: Vec<Vec<String>> = want.collect();
        let mut got = pages.remove(&epoch).unwrap_or_default();
        want.sort();
        got.sort();
        if got != want {
            return Err(format!("epoch {epoch}: '{log}' says {got:?}, not {want:?}"));
        }
        before = after;
    }
    if pages.is_empty() { Ok(()) } else { Err(format!("'{log}' has epochs that nobody saw")) }
}

/// The table that is kept like the relation: of each key the row with the greatest revision, which is its epoch.
fn check_state(world: &World, stages: &BTreeMap<u64, Stage>) -> Result<(), String> {
    let mut kept = Rows::new();
    let book = world.books["state"].lock().unwrap();
    for (epoch, batches) in &book.pages {
        for batch in batches {
            let (revision, gone) = batch.revision.as_ref().zip(batch.deleted.as_ref()).unwrap();
            for (i, row) in cells(batch, &[0, 1, 2]).into_iter().enumerate() {
                if u64::from(revision.value(i)) != *epoch {
                    return Err(format!("epoch {epoch}: {row:?} has another revision"));
                }
                match gone.value(i) {
                    true => drop(kept.remove(&row[0])),
                    false => drop(kept.insert(row[0].clone(), row)),
                }
            }
        }
    }
    let want = stages.values().last().map(|s| s.stands.clone()).unwrap_or_default();
    if kept == want { Ok(()) } else { Err(format!("the kept table is {kept:?}, not {want:?}")) }
}

/// Lines that repeat a key of their table are dead letters, each once.
fn check_dead(world: &World, stages: &BTreeMap<u64, Stage>) -> Result<(), String> {
    let book = world.books["dead"].lock().unwrap();
    for (epoch, stage) in stages {
        let batches = book.pages.get(epoch).into_iter().flatten();
        let mut got = Vec::new();
        for batch in batches {
            for row in cells(batch, &[0, 1, 5, 6]) {
                if row[..2] != ["machines", "repeated_key"] {
                    return Err(format!("epoch {epoch}: a dead letter {row:?}"));
                }
                let version: u32 = row[2].strip_prefix("version ").unwrap().parse().unwrap();
                let line = row[3].parse().unwrap();
                got.push(Position::new(Partition(version), line).0);
            }
        }
        got.sort_unstable();
        let want: Vec<u64> = stage.dead.iter().copied().collect();
        if got != want {
            return Err(format!("epoch {epoch}: dead letters {got:?}, not {want:?}"));
        }
    }
    Ok(())
}

fn check_accounts(world: &World, stages: &BTreeMap<u64, Stage>) -> Result<(), String> {
    let report = world.report.as_ref().ok_or("nobody pulled the plug")?;
    let whole = report.accounts.values().all(|a| a.balances() && a.in_flight == 0);
    let n = world.readings.len() as u64;
    let lines: u64 = stages.values().map(|s| s.n_lines).sum();
    let dead: u64 = stages.values().map(|s| s.dead.len() as u64).sum();
    let told: u64 = stages.values().map(|s| s.n_told).sum();
    let relation = &report.accounts["machines"];
    let said = (relation.input, relation.used, relation.dead, relation.emitted);
    if said != (lines, lines - dead, dead, told) {
        return Err(format!("of {lines} lines, {dead} of them dead, {told} told: {relation:?}"));
    }
    let each = ["readings", "find", "regroup", "sum", "latest"].map(|name| report.accounts[name]);
    if !whole || each.iter().any(|a| (a.input, a.used) != (n, n)) {
        return Err(format!("of {n} readings: {each:?}"));
    }
    Ok(())
}

/// The table that is read from outside.
fn check_table(world: &World, view: usize, want: &Rows) -> Result<(), String> {
    let page = world.tables[view].all().map_err(|e| e.to_string())?;
    let batch = Batch { rows: page.rows, ..Batch::default() };
    let columns: Vec<usize> = (0..batch.rows.num_columns()).collect();
    let rows = cells(&batch, &columns);
    let want: Vec<Vec<String>> = want.values().cloned().collect();
    if rows == want { Ok(()) } else { Err(format!("view {view} has {rows:?}, not {want:?}")) }
}
