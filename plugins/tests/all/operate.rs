//! Several versions of a model in one step: which acts, which look on, and what happens when that changes.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use foreline_engine::{LateSupport, Schema};
use foreline_plugins::train::{ModelMeta, train};
use foreline_plugins::{NotAdmitted, Switchboard, digest};
use serde_json::{Value, json};

use crate::bench::{Folder, Said, Step, batch};
use crate::evil::{component, summing, when_evil};
use crate::good::{input, native, noise, rows, trained, training_set};

/// The value that evil plugins trip over.
const EVIL: f64 = 666.0;

/// A linear model with a forest as its version `next`.
fn model() -> (Folder, Value) {
    let folder = Folder::new();
    folder.write("linear", &trained("linear"));
    folder.write("forest", &trained("forest"));
    let config = json!({
        "plugin": "builtin:linear", "weights": "linear", "output": "rul",
        "versions": { "next": { "plugin": "builtin:forest", "weights": "forest" } },
    });
    (folder, config)
}

/// The digest of the model that acted, by machine; each machine has one.
fn acted(said: &Said) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for batch in &said.rows {
        let machines =
            arrow::compute::cast(batch.rows.column(0), &arrow::datatypes::DataType::Utf8);
        let machines = machines.unwrap();
        let digests = batch.rows.column_by_name("model_digest").unwrap().as_string::<i32>();
        for (machine, digest) in machines.as_string::<i32>().iter().zip(digests) {
            let of = found.entry(machine.unwrap().to_owned()).or_default();
            of.insert(digest.unwrap().to_owned());
        }
    }
    let one = |(machine, mut digests): (String, BTreeSet<String>)| {
        assert_eq!(digests.len(), 1, "{machine} has one model");
        (machine, digests.pop_first().unwrap())
    };
    found.into_iter().map(one).collect()
}

/// The scores of the two models natively, by row.
fn expected(x: &[f64]) -> [Vec<u64>; 2] {
    ["linear", "forest"].map(|of| native(&trained(of), x).iter().map(|v| v.to_bits()).collect())
}

fn row(t: i64) -> usize {
    usize::try_from(t).unwrap()
}

#[test]
fn a_shadow_scores_every_row_and_changes_none() {
    let (folder, mut config) = model();
    let x = noise(500 * 4);
    let alone = folder.step(&config, &input()).feed(&rows(&x));
    config["shadow"] = json!("next");
    let planned = folder.plan(&config, &input()).unwrap();
    let names: Vec<&str> = planned.output.columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names[6..], ["rul", "model_name", "model_version", "model_digest", "next_rul"]);
    assert_eq!(planned.output.column("next_rul").unwrap().unit.as_ref().unwrap().code(), "h");
    assert_eq!(planned.late, LateSupport::Stateless);
    assert_eq!(planned.depends_on.len(), 2, "{:?}", planned.depends_on);
    let said = folder.step(&config, &input()).feed(&rows(&x));
    assert_eq!(said.numbers("rul"), alone.numbers("rul"));
    assert_eq!(acted(&said), acted(&alone));
    let [_, forest] = expected(&x);
    for ((_, t), score) in said.numbers("next_rul") {
        assert_eq!(score, Some(forest[row(t)]));
    }
}

#[test]
fn rows_are_routed_by_a_column() {
    let (folder, mut config) = model();
    config["route"] = json!({ "by": "machine", "to": { "m1": "next", "m3": "next" } });
    let x = noise(500 * 4);
    let [linear, forest] = expected(&x);
    let said = folder.step(&config, &input()).feed(&rows(&x));
    for ((machine, t), score) in said.numbers("rul") {
        let of = if ["m1", "m3"].contains(&machine.as_str()) { &forest } else { &linear };
        assert_eq!(score, Some(of[row(t)]), "{machine}");
    }
    let acted = acted(&said);
    assert!(acted["m1"] == acted["m3"] && acted["m0"] == acted["m2"] && acted["m0"] != acted["m1"]);
    // The value is itself the name of a version; one that is none has the champion act.
    config["route"] = json!({ "by": "machine" });
    let x = noise(8);
    let [linear, forest] = expected(&x);
    let some = |x: &[f64]| x.iter().map(|&v| Some(v)).collect();
    let two = batch(&input(), &[("next", some(&x[..4])), ("nobody", some(&x[4..]))]);
    let said = folder.step(&config, &input()).feed(&two).numbers("rul");
    assert_eq!(said[&("next".to_owned(), 0)], Some(forest[0]));
    assert_eq!(said[&("nobody".to_owned(), 1)], Some(linear[1]));
}

#[test]
fn a_canary_acts_on_whole_machines_and_grows() {
    let (folder, mut config) = model();
    let names: Vec<String> = (0..400).map(|i| format!("m{i}")).collect();
    let x = noise(400 * 4);
    let some = |x: &[f64]| x.iter().map(|&v| Some(v)).collect();
    let each = names.iter().zip(x.chunks_exact(4)).map(|(m, x)| (m.as_str(), some(x)));
    let all = batch(&input(), &each.collect::<Vec<_>>());
    let champion = acted(&folder.step(&config, &input()).feed(&all))["m0"].clone();
    let mut before = BTreeSet::new();
    for (share, least, most) in [(0.0, 0, 0), (0.1, 20, 60), (0.5, 160, 240), (1.0, 400, 400)] {
        config["canary"] = json!({ "version": "next", "share": share });
        let acted = acted(&folder.step(&config, &input()).feed(&all));
        let inside: BTreeSet<String> =
            acted.into_iter().filter(|(_, d)| *d != champion).map(|(m, _)| m).collect();
        assert!((least..=most).contains(&inside.len()), "{} machines of {share}", inside.len());
        assert!(inside.is_superset(&before), "a machine of a canary stays in it");
        before = inside;
    }
}

fn evil_config(champion: &[u8], next: &[u8]) -> Value {
    json!({
        "plugin": "good.wasm", "sha256": digest(champion),
        "limits": { "fuel_per_row": 100_000, "memory": "16MiB" },
        "versions": { "next": { "plugin": "next.wasm", "sha256": digest(next) } },
    })
}

fn one_feature() -> Schema {
    crate::bench::schema(&[("x", None)])
}

fn feed(step: &mut Step, rows: &[(&str, f64)]) -> Said {
    let rows: Vec<_> = rows.iter().map(|(m, x)| (*m, vec![Some(*x)])).collect();
    step.feed(&batch(&one_feature(), &rows))
}

#[test]
fn a_failing_shadow_touches_no_row() {
    let (good, evil) = (component(&[]), component(&[("SCORE", &when_evil("unreachable"))]));
    let folder = Folder::new();
    folder.write("good.wasm", &good);
    folder.write("next.wasm", &evil);
    let mut config = evil_config(&good, &evil);
    config["shadow"] = json!(["next"]);
    config["on_error"] = json!("fail");
    let (mut step, ledger, _) = folder.counted(&config, &one_feature(), None);
    // So often that its breaker opens.
    for _ in 0..8 {
        let said = feed(&mut step, &[("a", 1.0), ("b", EVIL), ("b", 2.0)]);
        assert!(said.dead.is_empty() && said.account.used == 3);
        assert_eq!(said.numbers("y")[&("b".to_owned(), 1)], Some(EVIL.to_bits()));
        assert_eq!(said.numbers("next_y")[&("b".to_owned(), 1)], None);
        assert_eq!(said.numbers("next_y")[&("a".to_owned(), 0)], Some(1_f64.to_bits()));
    }
    let works = ledger.works();
    assert_eq!((works["champion"].acted, works["champion"].failed), (24, 0));
    assert_eq!((works["next"].acted, works["next"].shadowed), (0, 24));
    assert!(works["next"].shadow_failed >= 8, "{works:?}");
    assert_eq!((works["champion"].kept_back, works["next"].kept_back), (0, 1));
    // Where it acts, its failures count.
    config["on_error"] = json!("dead_letter");
    config["canary"] = json!({ "version": "next", "share": 1.0 });
    let said = feed(&mut folder.step(&config, &one_feature()), &[("a", 1.0), ("b", EVIL)]);
    assert_eq!(said.reasons(), BTreeMap::from([("plugin_trap", 1)]));
    assert_eq!(said.numbers("y").len(), 1);
}

/// A model that answers the sum of what it saw of a key, with the same as `next`, which only its options tell apart.
fn sums() -> (Folder, Value) {
    let plugin = summing("unreachable");
    let folder = Folder::new();
    folder.write("good.wasm", &plugin);
    let mut config = evil_config(&plugin, &plugin);
    config["versions"] =
        json!({ "next": { "config": { "a": "1" } }, "third": { "config": { "a": "2" } } });
    (folder, config)
}

fn sum(said: &Said, machine: &str) -> f64 {
    let numbers = said.numbers("y");
    let (_, last) = numbers.iter().rfind(|((m, _), _)| m == machine).unwrap();
    f64::from_bits(last.unwrap())
}

#[test]
fn a_swap_goes_on_from_the_state_and_a_rollback_from_its_own() {
    let (folder, config) = sums();
    let (mut step, switchboard) = folder.operated(&config, &one_feature());
    assert!(matches!(step.planned.late, LateSupport::Refuses(_)));
    let first = feed(&mut step, &[("a", 1.0), ("b", 10.0)]);
    assert_eq!((sum(&first, "a"), switchboard.since()), (1.0, Some(1)));
    let next = ("", None, Some("next"), None);
    step.told(&[], &[next]);
    let second = feed(&mut step, &[("a", 2.0), ("c", 5.0)]);
    assert_eq!((sum(&second, "a"), sum(&second, "c")), (3.0, 5.0), "1 + 2");
    assert_ne!(acted(&first)["a"], acted(&second)["a"]);
    assert_eq!(switchboard.since(), Some(2));
    step.told(&[next], &[("", None, Some("champion"), None)]);
    let third = feed(&mut step, &[("a", 4.0), ("c", 6.0)]);
    assert_eq!(acted(&third)["a"], acted(&first)["a"]);
    assert_eq!(sum(&third, "a"), 5.0, "1 + 4: it has not seen what the other scored");
    assert_eq!(sum(&third, "c"), 11.0, "of a key that only the other saw it takes the state over");
    // Nothing that is told has the champion of the file act, and so has a version that is gone.
    step.told(&[("", None, Some("champion"), None)], &[("", None, Some("lost"), None)]);
    assert_eq!(acted(&feed(&mut step, &[("a", 0.0)]))["a"], acted(&first)["a"]);
}

#[test]
fn state_of_all_versions_outlives_a_restart() {
    let (folder, mut config) = sums();
    config["shadow"] = json!(["champion", "third"]);
    let (mut first, _) = folder.operated(&config, &one_feature());
    feed(&mut first, &[("a", 1.0), ("b", 10.0)]);
    let next = ("", None, Some("next"), None);
    first.told(&[], &[next]);
    feed(&mut first, &[("a", 2.0), ("d", 7.0)]);
    let (mut second, _) = folder.operated(&config, &one_feature());
    for shard in first.operator.dirty().iter().collect::<Vec<_>>() {
        let saved = first.operator.save(shard).unwrap().unwrap();
        second.operator.load(shard, 3, saved).unwrap();
    }
    assert_eq!(first.operator.dirty().iter().count(), 0);
    second.told(&[], &[next]);
    let rows = [("a", 4.0), ("b", 5.0), ("d", 1.0), ("e", 2.0)];
    let (one, other) = (feed(&mut first, &rows), feed(&mut second, &rows));
    for column in ["y", "champion_y", "third_y"] {
        assert_eq!(one.numbers(column), other.numbers(column), "{column}");
    }
    assert_eq!(acted(&one), acted(&other));
    assert_eq!(one.numbers("y")[&("a".to_owned(), 0)], Some(7_f64.to_bits()));
    assert_eq!(one.numbers("third_y")[&("a".to_owned(), 0)], Some(7_f64.to_bits()), "each once");
}

#[test]
fn a_version_that_acts_and_looks_on_scores_a_row_once() {
    let (folder, mut config) = sums();
    config["shadow"] = json!("next");
    config["canary"] = json!({ "version": "next", "share": 1.0 });
    let mut step = folder.step(&config, &one_feature());
    feed(&mut step, &[("a", 1.0)]);
    let said = feed(&mut step, &[("a", 2.0)]);
    assert_eq!(said.numbers("y"), said.numbers("next_y"));
    assert_eq!(sum(&said, "a"), 3.0);
}

/// Weights of another training, with another output if it is named.
fn other_weights(width: usize, output: Option<&str>) -> Vec<u8> {
    let mut set = training_set(300, width);
    set.y.iter_mut().for_each(|y| *y += 100.0);
    let mut meta = ModelMeta::remaining_life("pump", "h");
    if let Some(name) = output {
        meta.output.name = name.to_owned();
    }
    train("linear", &Value::Null, &set, &meta).unwrap().weights
}

fn refusal(switchboard: &Switchboard, bytes: &[u8]) -> String {
    match switchboard.admit(bytes) {
        Err(NotAdmitted::Refused(why)) => why,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[test]
fn a_version_that_comes_is_tried_before_anybody_hears_of_it() {
    let (folder, mut config) = model();
    config["shadow"] = json!(["challenger"]);
    let (mut step, switchboard) = folder.operated(&config, &input());
    let x = noise(40 * 4);
    let before = step.feed(&rows(&x));
    assert!(before.numbers("challenger_rul").values().all(Option::is_none), "nobody is there yet");
    let good = other_weights(4, None);
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let cut = good[..good.len() - 9].to_vec();
    for (bytes, why) in [
        (damaged, "digest"),
        (cut, ""),
        (b"FLWEIGHT".to_vec(), ""),
        (b"nothing of the kind".to_vec(), "neither weights"),
        (Vec::new(), "neither weights"),
        (other_weights(5, None), "the model needs a column 'f4'"),
        (other_weights(4, Some("another")), "its outputs are another"),
        (trained("forest"), "family"),
        (component(&[]), "must be signed"),
    ] {
        let found = refusal(&switchboard, &bytes);
        assert!(found.contains(why), "{found}");
    }
    let kept = folder.write("x", b"").parent().unwrap().join("models");
    assert!(!kept.exists(), "nothing is kept");
    assert!(switchboard.check_name("next").is_err() && switchboard.check_name("champion").is_err());
    let (file, facts) = switchboard.admit(&good).unwrap();
    assert_eq!(file, digest(&good));
    step.told(&[], &[("challenger", Some(&file), None, None)]);
    let looked_on = step.feed(&rows(&x));
    assert_eq!(looked_on.numbers("rul"), before.numbers("rul"));
    let natively = native(&good, &x);
    for ((_, t), score) in looked_on.numbers("challenger_rul") {
        assert_eq!(score, Some(natively[row(t)].to_bits()));
    }
    let acts = ("", None, Some("challenger"), None);
    step.told(&[], &[acts]);
    let swapped = step.feed(&rows(&x));
    assert_eq!(swapped.numbers("rul"), looked_on.numbers("challenger_rul"));
    assert_eq!(acted(&swapped)["m0"], facts.model_digest);

    // A restart finds it under its digest, and says so when it is gone.
    let (mut again, _) = folder.operated(&config, &input());
    again.told(&[], &[("challenger", Some(&file), None, None), acts]);
    assert_eq!(again.feed(&rows(&x)).numbers("rul"), swapped.numbers("rul"));
    again.told(&[("challenger", Some(&file), None, None), acts], &[]);
    assert_eq!(
        again.feed(&rows(&x)).numbers("rul"),
        before.numbers("rul"),
        "all is as the file says"
    );
    let kept = kept.join(&file);
    std::fs::write(&kept, b"damaged").unwrap();
    let (_, fresh) = folder.operated(&config, &input());
    assert!(fresh.facts(&file).unwrap_err().message.contains("it is damaged"));
    std::fs::remove_file(kept).unwrap();
    assert!(fresh.facts(&file).unwrap_err().message.contains("is gone"));
}

#[test]
fn a_stateful_version_does_not_come_to_a_stateless_step() {
    let plugin = component(&[]);
    let folder = Folder::new();
    folder.write("good.wasm", &plugin);
    let remembering = summing("unreachable");
    folder.write("next.wasm", &remembering);
    let planned = folder.plan(&evil_config(&plugin, &remembering), &one_feature()).unwrap();
    assert!(matches!(planned.late, LateSupport::Refuses(_)), "in the file it is known in time");
}

#[test]
fn what_does_not_fit_together_is_said_at_once() {
    let (folder, config) = model();
    let errors = |change: Value| {
        let mut config = config.clone();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        let errors = folder.plan(&config, &input()).unwrap_err();
        errors.into_iter().map(|e| format!("{}: {}", e.at, e.message)).collect::<Vec<_>>()
    };
    assert_eq!(
        errors(json!({ "versions": null, "shadow": "next", "route": { "by": "machine" } })),
        ["shadow: the model has no other versions", "route: the model has no other versions",]
    );
    assert_eq!(
        errors(json!({
            "route": { "by": "f0", "to": { "1": "nobody" } },
            "canary": { "version": "nobody", "share": 2.0 },
        })),
        [
            "route.to.1: the model has no version 'nobody'",
            "route.by: 'f0' is float64, and names no version",
            "canary.version: the model has no version 'nobody'",
            "canary.share: '2' is no share",
        ]
    );
    folder.write("another", &other_weights(4, Some("another")));
    let found = errors(json!({ "versions": {
        "A": { "weights": "forest" }, "same": {}, "champion": { "weights": "linear" },
        "another": { "weights": "another" }, "gone": { "weights": "nowhere" },
    } }));
    let at: Vec<&str> = found.iter().map(|e| e.split(": ").next().unwrap()).collect();
    assert_eq!(
        at,
        [
            "versions.A",
            "versions.another",
            "versions.champion",
            "versions.gone.weights",
            "versions.same",
        ],
        "{found:?}"
    );
}
