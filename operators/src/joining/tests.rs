//! What happens when one stream does not come as far as the other.

use std::sync::Arc;

use foreline_engine::TimeDomain::Logical;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Input, Operator, Out, Schema, Watermarks, WorkerContext,
    hash_keys,
};

use serde_json::json;

use super::{Joining, Pairing, Shape};
use crate::testing::{Table, try_plan_joined};

#[derive(Default)]
struct Heard {
    rows: usize,
    dead: Vec<DeadLetter>,
    account: Account,
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        self.rows += rows.len();
    }
    fn emit_late(&mut self, _: Batch) {}
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
        self.account.dead += 1;
    }
    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

fn batch(text: &str) -> (Schema, Batch) {
    let table = Table::parse(Logical, text);
    let hashes = hash_keys(&table.rows, table.schema.key());
    let positions = (0..table.len() as u64).collect::<Vec<_>>();
    (table.schema, Batch::new(table.rows, hashes, positions.into()).unwrap())
}

fn hear(
    joining: &mut dyn Operator,
    left: &Batch,
    right: &Batch,
    schema: &Schema,
    low: i64,
) -> Heard {
    let none = Batch::empty(Arc::clone(schema.arrow()));
    let known = Watermarks { low, ..Watermarks::none(schema.key_arrow()) };
    let epoch = Epoch { id: 0, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
    let input = |rows| Input { rows, late: &none, revised: &none, watermarks: &known };
    let mut heard = Heard::default();
    joining.epoch(&epoch, &[input(left), input(right)], &mut heard).unwrap();
    heard.account.input = (left.len() + right.len()) as u64;
    heard
}

/// Gives each side four rows while the other has none: `max_rows`, which is two, wait, and two are dead letters.
pub(crate) fn fills_up(shape: &Shape, pairing: &Pairing) {
    let (schema, left) = batch("m,t,x\na,0,1\na,1,2\na,2,3\na,3,4\n");
    let (_, right) = batch("m,t,y\na,0,1\na,1,2\na,2,3\na,3,4\n");
    let (_, no_left) = batch("m,t,x\n");
    let (_, no_right) = batch("m,t,y\n");
    let mut joining = Joining::new(shape.clone(), pairing.clone()).unwrap();
    let heard = hear(&mut joining, &left, &no_right, &schema, i64::MIN);
    assert!(heard.account.balances(), "{:?}", heard.account);
    let dead: Vec<_> = heard.dead.iter().map(|d| (d.time, d.reason.0)).collect();
    assert_eq!(dead, [(Some(2), "waiting_full"), (Some(3), "waiting_full")]);
    let heard = hear(&mut joining, &no_left, &no_right, &schema, Watermarks::END);
    assert_eq!((heard.rows, heard.account.in_flight), (2, -2));

    let mut joining = Joining::new(shape.clone(), pairing.clone()).unwrap();
    let heard = hear(&mut joining, &no_left, &right, &schema, i64::MIN);
    assert!(heard.account.balances(), "{:?}", heard.account);
    let dead: Vec<_> = heard.dead.iter().map(|d| (d.time, d.reason.0)).collect();
    assert_eq!(dead, [(Some(2), "waiting_full"), (Some(3), "waiting_full")]);
}

/// Gives one stream four rows while the other has none.
pub(crate) fn fills_up_union() {
    let (schema, rows) = batch("m,t,x\na,0,1\na,1,2\na,2,3\na,3,4\n");
    let (_, none) = batch("m,t,x\n");
    let inputs = [schema.clone(), schema.clone()];
    let planned = try_plan_joined("union", &json!({ "max_rows": 3 }), &inputs).unwrap();
    let mut union = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
    let heard = hear(&mut *union, &rows, &none, &schema, i64::MIN);
    assert!(heard.account.balances(), "{:?}", heard.account);
    let dead: Vec<_> = heard.dead.iter().map(|d| (d.time, d.reason.0)).collect();
    assert_eq!(dead, [(Some(3), "waiting_full")]);
    let heard = hear(&mut *union, &none, &none, &schema, Watermarks::END);
    assert_eq!((heard.rows, heard.account.in_flight), (3, -3));
}
