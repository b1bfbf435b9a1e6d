//! Plugins that mean harm: each is `evil.wat`, a good plugin that echoes its one feature, with one place filled in.
//!
//! After each of them the next good batch on the same worker scores, and the reason in the dead letters is exact.
//! They score rows whose feature is 666 in their evil way and all others well.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_engine::{Batch, LateSupport, Schema, shard_of};
use foreline_plugins::{CHAMPION, Ledger, digest};
use serde_json::json;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::bench::{Folder, Step, batch, schema};

/// The value that wakes the evil.
const EVIL: f64 = 666.0;

/// The contracts that the host runs: the package of the WIT, as exports are named, and the WIT.
const CONTRACTS: [(&str, &str); 2] = [
    ("@0.2.0", include_str!("../../wit/model.wit")),
    ("@0.1.0", include_str!("../../wit/previous/model.wit")),
];

pub(crate) fn core(marks: &[(&str, &str)]) -> Vec<u8> {
    core_of(CONTRACTS[0].0, marks)
}

/// The module for a contract. The one before the present one was not told the times.
fn core_of(version: &str, marks: &[(&str, &str)]) -> Vec<u8> {
    let mut text = include_str!("evil.wat").replace(CONTRACTS[0].0, version);
    if version == CONTRACTS[1].0 {
        text = text.replace("(param $t i32) (param $nt i32)", "");
    }
    for (mark, filling) in marks {
        let mark = format!("(;{mark};)");
        assert!(text.contains(&mark), "there is no place {mark}");
        text = text.replace(&mark, filling);
    }
    wat::parse_str(&text).unwrap()
}

pub(crate) fn component(marks: &[(&str, &str)]) -> Vec<u8> {
    component_of(CONTRACTS[0], marks)
}

fn component_of((version, wit): (&str, &str), marks: &[(&str, &str)]) -> Vec<u8> {
    let mut module = core_of(version, marks);
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("model.wit", wit).unwrap();
    let logs = marks.iter().any(|(mark, _)| *mark == "IMPORT");
    let world = if logs { "model-with-log" } else { "model" };
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(false).encode().unwrap()
}

/// Code that runs where some row is the evil one.
pub(crate) fn when_evil(code: &str) -> String {
    format!(
        "(local $i i32) (block $good (loop $next
           (br_if $good (i32.ge_u (local.get $i) (local.get $rows)))
           (if (f64.eq (f64.load (i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))) (f64.const {EVIL}))
             (then {code}))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))"
    )
}

fn input() -> Schema {
    schema(&[("x", None)])
}

fn config(component: &[u8]) -> serde_json::Value {
    json!({
        "plugin": "evil.wasm",
        "sha256": digest(component),
        "limits": { "fuel_per_row": 100_000, "memory": "16MiB" },
    })
}

fn step(component: &[u8]) -> Step {
    let folder = Folder::new();
    folder.write("evil.wasm", component);
    folder.step(&config(component), &input())
}

/// The same with what it says of its work.
fn counted(component: &[u8]) -> (Step, Arc<Ledger>) {
    let folder = Folder::new();
    folder.write("evil.wasm", component);
    let (step, ledger, _) = folder.counted(&config(component), &input(), None);
    (step, ledger)
}

/// What planning a plugin says.
fn refusal(component: &[u8]) -> String {
    let folder = Folder::new();
    folder.write("evil.wasm", component);
    let errors = folder.plan(&config(component), &input()).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].at, "plugin");
    errors[0].message.clone()
}

/// Twenty machines with three rows each; one row of one machine is evil.
fn rows(evil: bool) -> Vec<(String, Vec<Option<f64>>)> {
    let value = |machine: usize, row: usize| {
        if evil && machine == 7 && row == 1 { EVIL } else { (machine * 10 + row) as f64 }
    };
    let places = (0..3).flat_map(|row| (0..20).map(move |machine| (machine, row)));
    places.map(|(m, r)| (format!("m{m}"), vec![Some(value(m, r))])).collect()
}

fn feed(step: &mut Step, evil: bool) -> crate::bench::Said {
    let rows = rows(evil);
    let rows: Vec<_> = rows.iter().map(|(m, x)| (m.as_str(), x.clone())).collect();
    step.feed(&batch(&input(), &rows))
}

/// One poison row is found, its machine's other rows and all other machines score, and so does the next batch: under
/// each contract.
fn poisons(marks: &[(&str, &str)], reason: &str) {
    for contract in CONTRACTS {
        poisons_of(&component_of(contract, marks), reason);
    }
}

fn poisons_of(component: &[u8], reason: &str) {
    let mut step = step(component);
    for _ in 0..2 {
        let said = feed(&mut step, true);
        assert_eq!(said.reasons(), BTreeMap::from([(reason, 1)]), "{:?}", said.dead);
        assert_eq!(said.dead[0].key.as_deref(), Some("m7"));
        let scores = said.numbers("y");
        assert_eq!(scores.len(), 59);
        assert_eq!(scores[&("m7".to_owned(), 47)], Some(72_f64.to_bits()));
        assert_eq!(feed(&mut step, false).numbers("y").len(), 60, "the next good batch scores");
    }
}

#[test]
fn a_good_plugin_echoes() {
    for contract in CONTRACTS {
        let said = feed(&mut step(&component_of(contract, &[])), false);
        assert_eq!(said.numbers("y")[&("m3".to_owned(), 3)], Some(30_f64.to_bits()));
        assert!(said.dead.is_empty());
    }
}

#[test]
fn endless_loop_runs_out_of_fuel() {
    poisons(&[("SCORE", &when_evil("(loop (br 0))"))], "plugin_fuel");
    let init = refusal(&component(&[("INIT", "(loop (br 0))")]));
    assert!(init.contains("plugin_fuel"), "{init}");
    let start = refusal(&component(&[("MORE", "(func $s (loop (br 0))) (start $s)")]));
    assert!(start.contains("plugin_fuel"), "{start}");
}

#[test]
fn memory_bomb_is_stopped() {
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    poisons(&[("SCORE", &when_evil(grow))], "plugin_memory");
}

#[test]
fn several_memories_are_summed() {
    // Three that are too much together, and one of all that there can be.
    for memories in ["(memory 100)".repeat(3), "(memory 65536)".to_owned()] {
        let message = refusal(&component(&[("MORE", &memories)]));
        assert!(message.contains("plugin_memory"), "{message}");
    }
}

#[test]
fn table_bomb_is_stopped() {
    let grow = "(drop (table.grow $t (ref.null func) (i32.const 200000)))";
    poisons(&[("MORE", "(table $t 0 funcref)"), ("SCORE", &when_evil(grow))], "plugin_memory");
    let message = refusal(&component(&[("MORE", "(table 10000000 funcref)")]));
    assert!(message.contains("plugin_memory"), "{message}");
}

#[test]
fn stack_overflow_is_a_trap() {
    let deep = "(func $r (param i32) (result i32) (i32.add (call $r (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";
    poisons(
        &[("MORE", deep), ("SCORE", &when_evil("(drop (call $r (local.get 0)))"))],
        "plugin_trap",
    );
}

#[test]
fn unreachable_is_a_trap() {
    poisons(&[("SCORE", &when_evil("unreachable"))], "plugin_trap");
}

#[test]
fn a_list_outside_memory_breaks_the_rule() {
    let far = "(return (call $ok (i32.const 8) (i32.const 0x7fffffff)))";
    poisons(&[("SCORE", &when_evil(far))], "plugin_broken_rule");
}

#[test]
fn a_huge_list_is_not_taken() {
    let big = "(drop (memory.grow (i32.const 192))) (return (call $ok (i32.const 0) (i32.const 0x180000)))";
    poisons(&[("SCORE", &when_evil(big))], "plugin_too_much_output");
}

#[test]
fn wrong_lengths_and_places_break_the_rule() {
    for answer in [
        "(return (call $ok (local.get $f) (i32.add (local.get $rows) (i32.const 1))))",
        "(return (call $ok (local.get $f) (i32.const 0)))",
        "(return (call $ok (i32.add (local.get $f) (i32.const 4)) (local.get $rows)))",
        "(drop (call $ok (local.get $f) (local.get $rows))) (i32.store (i32.const 2064) (i32.const 2)) (return (i32.const 2048))",
        "(i32.store8 (i32.const 2048) (i32.const 7)) (return (i32.const 2048))",
    ] {
        poisons(&[("SCORE", &when_evil(answer))], "plugin_broken_rule");
    }
}

#[test]
fn infinity_is_a_bad_output_and_any_nan_is_null() {
    let place = "(i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))";
    let infinite = format!("(f64.store {place} (f64.const inf))");
    poisons(&[("SCORE", &when_evil(&infinite))], "plugin_bad_output");
    let odd_nan = format!("(i64.store {place} (i64.const 0x7ff800000000beef))");
    let component = component(&[("SCORE", &when_evil(&odd_nan))]);
    let (mut step, ledger) = counted(&component);
    let said = feed(&mut step, true);
    assert!(said.dead.is_empty());
    assert_eq!(said.numbers("y")[&("m7".to_owned(), 27)], None);
    let work = ledger.works()[CHAMPION];
    assert_eq!((work.acted, work.failed, work.unscored), (60, 0, 1));
}

#[test]
fn a_plugin_that_says_so_is_believed_row_by_row() {
    // err(invalid-input("x")): result tag 1, error tag 2, string at 1300.
    let error = "(i32.store8 (i32.const 2048) (i32.const 1)) (i32.store8 (i32.const 2052) (i32.const 2))
        (i32.store (i32.const 2056) (i32.const 1300)) (i32.store (i32.const 2060) (i32.const 1)) (return (i32.const 2048))";
    poisons(&[("SCORE", &when_evil(error))], "plugin_invalid_input");
}

#[test]
fn on_error_decides_what_becomes_of_poison() {
    let component = component(&[("SCORE", &when_evil("unreachable"))]);
    let folder = Folder::new();
    folder.write("evil.wasm", &component);
    let with = |on_error: &str| {
        let mut config = config(&component);
        config["on_error"] = json!(on_error);
        folder.step(&config, &input())
    };
    let said = feed(&mut with("null"), true);
    assert!(said.dead.is_empty());
    assert_eq!(said.numbers("y").len(), 60);
    assert_eq!(said.numbers("y")[&("m7".to_owned(), 27)], None);
    let none = Batch::empty(Arc::clone(input().arrow()));
    let fault = with("fail").epoch(&batch(&input(), &[("m7", vec![Some(EVIL)])]), &none, &none);
    let message = fault.unwrap_err().message;
    assert!(message.contains("'m7'") && message.contains("plugin_trap"), "{message}");
}

#[test]
fn a_trap_storm_opens_the_breaker() {
    let component = component(&[("SCORE", "unreachable")]);
    let (mut step, ledger) = counted(&component);
    for _ in 0..5 {
        assert_eq!(ledger.works()[CHAMPION].kept_back, 0);
        let said = feed(&mut step, false);
        assert_eq!(said.reasons(), BTreeMap::from([("plugin_trap", 60)]));
    }
    let work = ledger.works()[CHAMPION];
    assert_eq!((work.acted, work.failed, work.unscored), (300, 300, 0));
    assert!((21..=40).contains(&work.kept_back), "20 keys and their shards: {work:?}");
    for _ in 0..16 {
        let said = feed(&mut step, false);
        assert_eq!(said.reasons(), BTreeMap::from([("plugin_breaker_open", 60)]));
    }
    assert_eq!(feed(&mut step, false).reasons(), BTreeMap::from([("plugin_trap", 60)]));
    assert_eq!(feed(&mut step, false).reasons(), BTreeMap::from([("plugin_breaker_open", 60)]));
    assert_eq!(ledger.works()[CHAMPION].kept_back, work.kept_back);
    drop(step);
    assert_eq!(ledger.works()[CHAMPION].kept_back, 0, "nobody keeps anything back any more");
}

/// A machine whose row failed often enough goes on once it has a good one after its wait, and is not counted any more.
#[test]
fn a_breaker_that_closes_is_not_counted() {
    let (mut step, ledger) = counted(&component(&[("SCORE", &when_evil("unreachable"))]));
    for _ in 0..5 {
        feed(&mut step, true);
    }
    assert_eq!(ledger.works()[CHAMPION].kept_back, 1, "m7");
    for _ in 0..16 {
        let said = feed(&mut step, false);
        assert_eq!(said.reasons(), BTreeMap::from([("plugin_breaker_open", 3)]));
    }
    assert_eq!(ledger.works()[CHAMPION].kept_back, 1);
    assert!(feed(&mut step, false).dead.is_empty());
    assert_eq!(ledger.works()[CHAMPION].kept_back, 0);
}

#[test]
fn the_search_for_poison_has_a_bound() {
    let component = component(&[("SCORE", "unreachable")]);
    let mut step = step(&component);
    let rows: Vec<_> = (0..100).map(|i| ("one", vec![Some(f64::from(i))])).collect();
    let reasons = step.feed(&batch(&input(), &rows)).reasons();
    assert_eq!(reasons.values().sum::<usize>(), 100);
    assert!(reasons["plugin_not_isolated"] > 50, "{reasons:?}");
    assert!(reasons["plugin_trap"] > 5, "{reasons:?}");
}

#[test]
fn the_same_rows_are_blamed_on_any_number_of_workers() {
    let component = component(&[("SCORE", &when_evil("unreachable"))]);
    let whole = feed(&mut step(&component), true);
    let all = rows(true);
    let all: Vec<_> = all.iter().map(|(m, x)| (m.as_str(), x.clone())).collect();
    let all = batch(&input(), &all);
    let mut dead = Vec::new();
    let mut scored = 0;
    for worker in 0..4 {
        let mine: arrow::array::BooleanArray = all
            .key_hash
            .values()
            .iter()
            .map(|&h| Some(foreline_engine::worker_of(foreline_engine::shard_of(h), 4) == worker))
            .collect();
        let said = step(&component).feed(&all.filter(&mine).unwrap());
        scored += said.numbers("y").len();
        dead.extend(said.dead);
    }
    assert_eq!(dead, whole.dead);
    assert_eq!(scored, 59);
}

/// A guest whose every so many-th call traps is not the rows' fault: in a fresh instance they score.
#[test]
fn what_a_fresh_instance_scores_is_scored() {
    let component = component(&[
        ("MORE", "(global $n (mut i32) (i32.const 0))"),
        (
            "SCORE",
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (if (i32.eq (global.get $n) (i32.const 1000)) (then unreachable))",
        ),
    ]);
    let (mut step, ledger) = counted(&component);
    for _ in 0..1100 {
        let said = feed(&mut step, false);
        assert!(said.dead.is_empty(), "{:?}", said.dead);
        assert_eq!(said.numbers("y").len(), 60);
    }
    assert_eq!(ledger.works()[CHAMPION].healed, 1);
}

/// A plugin that keeps one number for a key, the sum of what it saw, and answers it.
pub(crate) fn summing(evil: &str) -> Vec<u8> {
    summing_of(CONTRACTS[0], evil)
}

/// What such a plugin does with rows.
fn summing_marks(evil: &str) -> String {
    let at = "(i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))";
    let slot = "(i32.add (local.get $st) (i32.shl (i32.load (i32.add (local.get $sl) (i32.shl (local.get $i) (i32.const 2)))) (i32.const 3)))";
    format!(
        "(local $i i32) (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
           (if (f64.eq (f64.load {at}) (f64.const {EVIL})) (then {evil}))
           (if (f64.ne (f64.load {slot}) (f64.load {slot})) (then (f64.store {slot} (f64.const 0))))
           (f64.store {slot} (f64.add (f64.load {slot}) (f64.load {at})))
           (f64.store {at} (f64.load {slot}))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))
         (drop (call $ok (local.get $f) (local.get $rows)))
         (i32.store (i32.const 2060) (local.get $st)) (i32.store (i32.const 2064) (local.get $nst))
         (return (i32.const 2048))"
    )
}

fn summing_of(contract: (&str, &str), evil: &str) -> Vec<u8> {
    let score = summing_marks(evil);
    let width = r#"(data (i32.const 1060) "\01\00\00\00\03\00\00\00")"#;
    component_of(contract, &[("SCORE", &score), ("LAST", width)])
}

#[test]
fn a_plugin_of_the_contract_before_keeps_state_too() {
    let [present, previous] = CONTRACTS.map(|contract| summing_of(contract, "unreachable"));
    let said = [&present, &previous].map(|plugin| feed(&mut step(plugin), true));
    assert_eq!(said[0].numbers("y"), said[1].numbers("y"));
    assert_eq!(said[0].dead, said[1].dead);
    assert_eq!(said[0].numbers("y")[&("m7".to_owned(), 47)], Some(142_f64.to_bits()));
}

#[test]
fn a_plugin_with_state_is_told_the_times() {
    // It answers the time of each row, and keeps a number to have state.
    let at = "(i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))";
    let time = "(i64.load (i32.add (local.get $t) (i32.shl (local.get $i) (i32.const 3))))";
    let score = format!(
        "(local $i i32) (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
           (f64.store {at} (f64.convert_i64_s {time}))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))
         (drop (call $ok (local.get $f) (local.get $nt)))
         (i32.store (i32.const 2060) (local.get $st)) (i32.store (i32.const 2064) (local.get $nst))
         (return (i32.const 2048))"
    );
    let width = r#"(data (i32.const 1060) "\01\00\00\00\03\00\00\00")"#;
    let component = component(&[("SCORE", &score), ("LAST", width)]);
    let folder = Folder::new();
    folder.write("evil.wasm", &component);
    for rows in [2, 4096] {
        let mut config = config(&component);
        config["limits"]["rows"] = json!(rows);
        let said = feed(&mut folder.step(&config, &input()), false);
        let scores = said.numbers("y");
        assert_eq!(scores.len(), 60);
        for ((_, time), score) in scores {
            assert_eq!(score, Some((time as f64).to_bits()));
        }
    }
}

#[test]
fn state_is_kept_by_key_and_a_trap_loses_nothing() {
    let component = summing("unreachable");
    let mut first = step(&component);
    assert!(matches!(first.planned.late, LateSupport::Refuses(_)));
    assert_eq!(first.planned.state_version, 3);
    let x = |m: &'static str, x: f64| (m, vec![Some(x)]);
    let said =
        first.feed(&batch(&input(), &[x("a", 1.0), x("b", 10.0), x("a", EVIL), x("a", 2.0)]));
    let scores = said.numbers("y");
    assert_eq!(said.reasons(), BTreeMap::from([("plugin_trap", 1)]));
    assert_eq!(scores[&("a".to_owned(), 3)], Some(3_f64.to_bits()), "1 + 2, without the poison");
    let dirty: Vec<u8> = first.operator.dirty().iter().collect();
    let hashes = batch(&input(), &[x("a", 0.0), x("b", 0.0)]).key_hash;
    assert!(hashes.values().iter().all(|&h| dirty.contains(&shard_of(h))));
    let mut second = step(&component);
    for shard in dirty {
        let saved = first.operator.save(shard).unwrap().unwrap();
        second.operator.load(shard, 3, saved).unwrap();
    }
    assert_eq!(first.operator.dirty().iter().count(), 0);
    let next = batch(&input(), &[x("b", 5.0), x("a", 4.0), x("c", 1.0)]);
    let expected = first.feed(&next).numbers("y");
    assert_eq!(expected[&("a".to_owned(), 1)], Some(7_f64.to_bits()));
    assert_eq!(expected[&("c".to_owned(), 2)], Some(1_f64.to_bits()), "a new key starts anew");
    assert_eq!(second.feed(&next).numbers("y"), expected);
}

#[test]
fn state_of_another_version_must_be_migrated() {
    let component = summing("unreachable");
    let mut first = step(&component);
    first.feed(&batch(&input(), &[("a", vec![Some(1.0)])]));
    let shard = first.operator.dirty().iter().next().unwrap();
    let saved = first.operator.save(shard).unwrap().unwrap();
    let fault = step(&component).operator.load(shard, 2, saved.clone()).unwrap_err();
    assert!(fault.message.contains("state of version 2"), "{fault}");
    assert!(fault.message.contains("'state: reset'"), "{fault}");
    // Who says so begins anew.
    let folder = Folder::new();
    folder.write("evil.wasm", &component);
    let mut config = config(&component);
    config["state"] = json!("reset");
    let mut anew = folder.step(&config, &input());
    anew.operator.load(shard, 2, saved).unwrap();
    let said = anew.feed(&batch(&input(), &[("a", vec![Some(5.0)])]));
    assert_eq!(said.numbers("y")[&("a".to_owned(), 0)], Some(5_f64.to_bits()));
}

#[test]
fn state_is_migrated_by_the_plugin() {
    let old = summing("unreachable");
    let mut first = step(&old);
    let x = |m: &'static str, x: f64| (m, vec![Some(x)]);
    first.feed(&batch(&input(), &[x("a", 1.0), x("b", 2.0)]));
    // The next version counts in tenths: it takes ten times what there was.
    let tenfold = "(local $i i32) (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $nst)))
           (f64.store (i32.add (local.get $st) (i32.shl (local.get $i) (i32.const 3)))
             (f64.mul (f64.const 10) (f64.load (i32.add (local.get $st) (i32.shl (local.get $i) (i32.const 3))))))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))
         (return (call $ok (local.get $st) (local.get $nst)))";
    let of_version_4 = r#"(data (i32.const 1060) "\01\00\00\00\04\00\00\00")"#;
    for contract in CONTRACTS {
        let sum = summing_marks("unreachable");
        let marks = [("SCORE", &*sum), ("MIGRATE", tenfold), ("LAST", of_version_4)];
        let mut next = step(&component_of(contract, &marks));
        let dirty: Vec<u8> = first.operator.dirty().iter().collect();
        for &shard in &dirty {
            let saved = first.operator.save(shard).unwrap().unwrap();
            next.operator.load(shard, 3, saved).unwrap();
        }
        let said = next.feed(&batch(&input(), &[x("a", 5.0), x("b", 5.0)])).numbers("y");
        assert_eq!(said[&("a".to_owned(), 0)], Some(15_f64.to_bits()));
        assert_eq!(said[&("b".to_owned(), 1)], Some(25_f64.to_bits()));
        first.feed(&batch(&input(), &[x("a", 0.0), x("b", 0.0)]));
    }
}

#[test]
fn how_rows_are_cut_does_not_show_in_state() {
    let component = summing("unreachable");
    let whole = feed(&mut step(&component), true);
    let folder = Folder::new();
    folder.write("evil.wasm", &component);
    let mut config = config(&component);
    config["limits"]["rows"] = json!(2);
    let cut = feed(&mut folder.step(&config, &input()), true);
    assert_eq!(cut.numbers("y"), whole.numbers("y"));
    assert_eq!(cut.dead, whole.dead);
}

#[test]
fn imports_are_refused_by_name() {
    let text = r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64))))))"#;
    let message = refusal(&wat::parse_str(text).unwrap());
    assert!(message.contains("wasi:clocks/monotonic-clock@0.2.0"), "{message}");
}

#[test]
fn what_is_no_plugin_is_refused() {
    assert!(refusal(&core(&[])).contains("core module"));
    assert!(refusal(&wat::parse_str("(component)").unwrap()).contains("scorer"));
    assert!(refusal(b"MZ").contains("not WebAssembly"));
    let large = vec![0; (32 << 20) + 1];
    assert!(refusal(&large).contains("larger than"));
}

#[test]
fn a_bad_descriptor_is_refused() {
    for (data, said) in [
        (r#"(data (i32.const 1060) "\ff\ff\ff\ff")"#, "too much state"),
        (r#"(data (i32.const 1200) "\ff")"#, "plugin_broken_rule"),
        (r#"(data (i32.const 1032) "\00\00\10\00")"#, "plugin_"),
    ] {
        // After the good data, so that it wins.
        let component = component(&[("INIT", ""), ("LAST", data)]);
        let message = refusal(&component);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_bad_allocator_is_refused() {
    for place in ["-8", "1001"] {
        let filling = format!("(return (i32.const {place}))");
        let component = component(&[("ALLOC", &filling)]);
        let folder = Folder::new();
        folder.write("evil.wasm", &component);
        folder.write("weights", b"some bytes that init needs room for");
        let mut config = config(&component);
        config["weights"] = json!("weights");
        let errors = folder.plan(&config, &input()).unwrap_err();
        assert!(errors[0].message.contains("plugin_broken_rule"), "{errors:?}");
    }
}

#[test]
fn a_compile_bomb_is_refused_without_compiling() {
    let locals = "(local f64)".repeat(3000);
    let loops = "(loop ".repeat(900);
    let ends = ")".repeat(900);
    let bomb = format!("(func {locals} {loops} (local.set 1 (local.get 2)) {ends})");
    let message = refusal(&component(&[("MORE", &bomb)]));
    assert!(message.contains("3000 locals"), "{message}");
}

#[test]
fn a_plugin_that_remembers_is_refused() {
    let component = component(&[
        ("MORE", "(global $n (mut f64) (f64.const 0))"),
        (
            "SCORE",
            "(global.set $n (f64.add (global.get $n) (f64.const 1))) (f64.store (local.get $f) (global.get $n))",
        ),
    ]);
    let folder = Folder::new();
    folder.write("evil.wasm", &component);
    let config = json!({ "plugin": "evil.wasm", "sha256": digest(&component) });
    let errors = folder.plan(&config, &input()).unwrap_err();
    assert!(errors[0].message.contains("differently the second time"), "{errors:?}");
}

#[test]
fn other_proposals_are_refused() {
    for more in [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(type (struct))",
        "(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
    ] {
        let message = refusal(&component(&[("MORE", more)]));
        assert!(message.contains("compile") || message.contains("not WebAssembly"), "{message}");
    }
}
