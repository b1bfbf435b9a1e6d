//! Rules for the crates: which may see which, and who owns what is heavy.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use foreline_tests::root;
use serde_json::Value;

use super::{Complaint, none, text};

/// What each crate of ours may use of ours. A crate that is not here has no place in the design.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("foreline-engine", &[]),
    ("foreline-sdk", &[]),
    ("foreline-operators", &["foreline-engine"]),
    ("foreline-plugins", &["foreline-engine", "foreline-sdk"]),
    ("foreline-sql", &["foreline-engine"]),
    ("foreline-connectors", &["foreline-engine"]),
    ("foreline-server", &["foreline-engine", "foreline-connectors"]),
    (
        "foreline-spec",
        &[
            "foreline-engine",
            "foreline-operators",
            "foreline-plugins",
            "foreline-sql",
            "foreline-connectors",
        ],
    ),
    (
        "foreline",
        &[
            "foreline-engine",
            "foreline-operators",
            "foreline-plugins",
            "foreline-sdk",
            "foreline-sql",
            "foreline-spec",
            "foreline-connectors",
            "foreline-server",
        ],
    ),
    ("foreline-servers", &[]),
    ("xtask", &[]),
];

/// Crates that measure and test the whole may use everything.
const UNBOUND: &[&str] = &["foreline-benches", "foreline-tests"];

/// Heavy dependencies, by the beginning of their name, and the one crate that may see them.
const OWNERS: &[(&str, &str)] = &[
    ("timely", "foreline-engine"),
    ("differential-dataflow", "foreline-engine"),
    ("differential-dataflow", "foreline-engine"),
    ("wasmtime", "foreline-plugins"),
    ("smartcore", "foreline-plugins"),
    ("datafusion", "foreline-sql"),
    ("object_store", "foreline-connectors"),
    ("tokio-postgres", "foreline-connectors"),
    ("rumqttc", "foreline-connectors"),
    ("encoding_rs", "foreline-connectors"),
    ("serde-saphyr", "foreline-spec"),
    ("miette", "foreline-spec"),
    ("axum", "foreline-server"),
    ("indicatif", "foreline"),
];

/// Crates in which nothing may wait, so that replay is the same.
const SYNCHRONOUS: &[&str] = &["foreline-engine", "foreline-operators", "foreline-sdk"];

/// What a crate depends on, tests left out; optional dependencies count.
type Manifests = BTreeMap<String, BTreeSet<String>>;

fn manifests() -> Manifests {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let name = |value: &Value| value["name"].as_str().expect("it has a name").to_owned();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("there is a list");
        let ours = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        (name(package), ours.map(name).collect())
    };
    packages.iter().map(package).collect()
}

/// Dependencies of ours that point up or aside.
fn directions(manifests: &Manifests) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let bound = manifests.iter().filter(|(name, _)| !UNBOUND.contains(&name.as_str()));
    for (name, dependencies) in bound {
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(known, _)| known == name) else {
            complaints.push(format!("crate '{name}': give it a place in `DIRECTIONS`"));
            continue;
        };
        let ours = dependencies.iter().filter(|dependency| manifests.contains_key(*dependency));
        let wrong = ours.filter(|dependency| !allowed.contains(&dependency.as_str()));
        complaints
            .extend(wrong.map(|dependency| format!("crate '{name}' must not see '{dependency}'")));
    }
    complaints
}

/// Heavy dependencies outside their owner, and anything asynchronous where nothing may wait.
fn owners(manifests: &Manifests) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, dependencies) in
        manifests.iter().filter(|(name, _)| !UNBOUND.contains(&name.as_str()))
    {
        for dependency in dependencies {
            let owner = OWNERS.iter().find(|(heavy, _)| dependency.starts_with(heavy));
            if let Some((_, owner)) = owner.filter(|(_, owner)| owner != name) {
                complaints.push(format!("crate '{name}': '{dependency}' belongs to '{owner}'"));
            }
            if SYNCHRONOUS.contains(&name.as_str()) && dependency.starts_with("tokio") {
                complaints.push(format!("crate '{name}': '{dependency}' would make it wait"));
            }
        }
    }
    complaints
}

/// The crates that `deny.toml` bans.
fn denied(deny: &str) -> Vec<&str> {
    let quoted = |line: &'_ str| -> Option<(usize, usize)> {
        let start = line.find("crate = \"")? + "crate = \"".len();
        Some((start, start + line[start..].find('"')?))
    };
    deny.lines().filter_map(|line| quoted(line).map(|(from, to)| &line[from..to])).collect()
}

/// Banned crates that are locked, directly or through another.
fn bans(deny: &str, lock: &str) -> Vec<Complaint> {
    let locked: BTreeSet<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    let found =
        denied(deny).into_iter().filter(|name| locked.contains(format!("\"{name}\"").as_str()));
    found.map(|name| format!("Cargo.lock: '{name}' is banned in deny.toml; `cargo tree -i {name}` says who wants it")).collect()
}

/// Packages that come from elsewhere than the registry.
fn sources(lock: &str) -> Vec<Complaint> {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let foreign = sources.filter(|source| {
        !source.starts_with("\"registry+https://github.com/rust-lang/crates.io-index")
    });
    foreign.map(|source| format!("Cargo.lock: {source} is not the registry")).collect()
}

#[test]
fn crates_see_only_what_lies_below() {
    none(&directions(&manifests()));
}

#[test]
fn heavy_dependencies_have_one_owner() {
    none(&owners(&manifests()));
}

#[test]
fn banned_crates_are_not_locked() {
    let deny = text("deny.toml").expect("there is a deny.toml");
    assert!(denied(&deny).len() >= 3, "deny.toml bans nothing");
    for lock in ["Cargo.lock", "plugins/guests/Cargo.lock", "plugins/guests/onnx/Cargo.lock"] {
        let Some(lock) = text(lock) else { continue };
        none(&bans(&deny, &lock));
        none(&sources(&lock));
    }
}

fn example(crates: &[(&str, &[&str])]) -> Manifests {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    crates.iter().map(|(name, dependencies)| ((*name).to_owned(), owned(dependencies))).collect()
}

#[test]
fn wrong_directions_are_found() {
    let bad = example(&[
        ("foreline-engine", &["foreline-operators", "arrow"]),
        ("foreline-operators", &["foreline-engine", "foreline-sql"]),
        ("foreline-sql", &["foreline-engine"]),
        ("foreline-tests", &["foreline-sql", "foreline-operators"]),
        ("foreline-more", &[]),
    ]);
    let found = directions(&bad);
    assert_eq!(
        found,
        [
            "crate 'foreline-engine' must not see 'foreline-operators'",
            "crate 'foreline-more': give it a place in `DIRECTIONS`",
            "crate 'foreline-operators' must not see 'foreline-sql'",
        ]
    );
}

#[test]
fn wrong_owners_are_found() {
    let bad = example(&[
        ("foreline-engine", &["timely", "tokio", "datafusion-common"]),
        ("foreline-sql", &["datafusion", "timely"]),
        ("foreline-connectors", &["tokio"]),
    ]);
    assert_eq!(
        owners(&bad),
        [
            "crate 'foreline-engine': 'datafusion-common' belongs to 'foreline-sql'",
            "crate 'foreline-engine': 'tokio' would make it wait",
            "crate 'foreline-sql': 'timely' belongs to 'foreline-engine'",
        ]
    );
}

#[test]
fn a_banned_crate_and_a_foreign_source_are_found() {
    let deny = "[bans]\ndeny = [\n    { crate = \"openssl\", reason = \"x\" },\n    { crate = \"other\" },\n]\n";
    let lock = "[[package]]\nname = \"openssl\"\nsource = \"git+https://example.org/x\"\n\n[[package]]\nname = \"openssl-probe\"\n";
    assert_eq!(denied(deny), ["openssl", "other"]);
    assert_eq!(bans(deny, lock).len(), 1);
    assert_eq!(sources(lock).len(), 1);
    assert_eq!(
        sources("source = \"registry+https://github.com/rust-lang/crates.io-index\""),
        [""; 0]
    );
}
