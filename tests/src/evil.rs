//! Plugins that mean harm, for pipelines that should go on: each is `evil.wat`, a good plugin that echoes its one feature `x` as
//! `y`, with code in one or more of its marked places.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// The value that wakes the evil.
pub const EVIL: f64 = 666.0;

/// Where the feature of row `$i` lies.
const FEATURE: &str = "(i32.add (local.get $f) (i32.shl (local.get $i) (i32.const 3)))";

/// Code for `SCORE` that runs `code` where some row's feature is `value`.
#[must_use]
pub fn when(value: f64, code: &str) -> String {
    format!("(local $i i32) {}", at(value, code))
}

/// The same behind other code of `SCORE`, which has a local `$i`.
#[must_use]
pub fn at(value: f64, code: &str) -> String {
    format!(
        "(local.set $i (i32.const 0)) (block $good (loop $next
           (br_if $good (i32.ge_u (local.get $i) (local.get $rows)))
           (if (f64.eq (f64.load {FEATURE}) (f64.const {value})) (then {code}))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))"
    )
}

/// A component with code in these places. It has the log where something is in `IMPORT`.
///
/// # Panics
/// When there is no such place, or the text is not WebAssembly.
#[must_use]
pub fn component(places: &[(&str, &str)]) -> Vec<u8> {
    let mut text = include_str!("../../plugins/tests/all/evil.wat").to_owned();
    for (place, code) in places {
        let mark = format!("(;{place};)");
        assert!(text.contains(&mark), "there is no place {mark}");
        text = text.replace(&mark, code);
    }
    let mut module = wat::parse_str(&text).expect("it is WebAssembly");
    let mut resolve = wit_parser::Resolve::default();
    let contract = include_str!("../../plugins/wit/model.wit");
    let package = resolve.push_str("model.wit", contract).expect("the contract is one");
    let logs = places.iter().any(|(place, _)| *place == "IMPORT");
    let world = resolve
        .select_world(&[package], Some(if logs { "model-with-log" } else { "model" }))
        .expect("the contract has the world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("a module takes a section");
    let encoder = ComponentEncoder::default().module(&module).expect("it has the world");
    encoder.validate(false).encode().expect("it is made of a module")
}

/// A plugin with state: of each key the sum of what it saw, which is its answer.
#[must_use]
pub fn summing() -> Vec<u8> {
    let slot = "(i32.add (local.get $st) (i32.shl (i32.load (i32.add (local.get $sl) (i32.shl (local.get $i) (i32.const 2)))) (i32.const 3)))";
    let score = format!(
        "(local $i i32) (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
           (if (f64.ne (f64.load {slot}) (f64.load {slot})) (then (f64.store {slot} (f64.const 0))))
           (f64.store {slot} (f64.add (f64.load {slot}) (f64.load {FEATURE})))
           (f64.store {FEATURE} (f64.load {slot}))
           (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next)))
         (drop (call $ok (local.get $f) (local.get $rows)))
         (i32.store (i32.const 2060) (local.get $st)) (i32.store (i32.const 2064) (local.get $nst))
         (return (i32.const 2048))"
    );
    // The descriptor's state width and state version.
    let width = r#"(data (i32.const 1060) "\01\00\00\00\01\00\00\00")"#;
    component(&[("SCORE", &score), ("LAST", width)])
}
