//! The cases of steps that scale, choose and name columns.

use serde_json::{Value, json};

use super::super::loops::scaling as loops;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    let both = |mut options: Value| {
        options["columns"] = json!(["x", "y"]);
        options
    };
    let k_means = json!({ "columns": ["x", "y"], "regimes": 4 });
    vec![
        chosen("anova", json!({ "keep": 1 }), "the 1 columns with the greatest F"),
        chosen(
            "drop_constant",
            json!({ "below": 0.1 }),
            "the columns with a standard deviation of at least 0.1",
        ),
        chosen(
            "drop_correlated",
            json!({ "above": 0.9 }),
            "the columns with a correlation of at most 0.9",
        ),
        case("minmax", "by a truth value", x(json!({ "by": ["on"] })), "x", loops::minmax)
            .fitted("summary", &summary(&["on"]))
            .because("a regime is found from columns of any kind, and then its figures"),
        case(
            "one_hot",
            "3 of 100 machines",
            json!({ "columns": { "machine": ["M-001", "M-002", "M-003"] } }),
            "machine_M-002",
            loops::one_hot,
        ),
        case(
            "pca",
            "2 columns, T2 and Q",
            both(json!({ "components": 1, "t2": "t2", "q": "q" })),
            "q",
            loops::pca,
        )
        .fitted("pca", &projection()),
        case(
            "regime",
            "rounded",
            json!({ "round": { "x": 1, "y": 0 } }),
            "regime",
            loops::regime_rounded,
        ),
        case("regime", "k-means", json!({ "k_means": k_means }), "regime", loops::regime_nearest)
            .fitted("regimes", &centres()),
        case("robust", "from a file", x(json!({})), "x", loops::robust)
            .fitted("summary", &summary(&[])),
        case(
            "robust",
            "learnt from 1,000 rows",
            x(json!({ "online": { "rows": 1000 } })),
            "x",
            loops::robust_online,
        ),
        case("standard", "from a file", x(json!({})), "x", loops::standard)
            .fitted("summary", &summary(&[])),
        case("standard", "online", x(json!({ "online": true })), "x", loops::standard_online),
    ]
}

/// A step that keeps column `y` alone.
fn chosen(step: &'static str, options: Value, rule: &str) -> Case {
    let judged =
        |column: &str, kept: bool| json!({ "column": column, "kept": kept, "figure": null });
    let fitted = json!({ "rule": rule, "columns": [judged("x", false), judged("y", true)] });
    case(step, "", options, "y", loops::kept).fitted("selection", &fitted)
}

fn summary(by: &[&str]) -> Value {
    let figures = |unit: &str, mean: f64, spread: f64| {
        json!({
            "column": "x", "unit": unit, "count": 1000, "mean": mean, "std": spread / 2.0,
            "min": mean - spread, "max": mean + spread, "low": mean - spread / 2.0,
            "median": mean, "high": mean + spread / 2.0
        })
    };
    let overall = figures("mm/s", 2.0, 1.0);
    let regimes = match by {
        [] => json!([]),
        _ => json!([
            { "regime": ["false"], "columns": [figures("mm/s", 1.25, 0.25)] },
            { "regime": ["true"], "columns": [figures("mm/s", 2.25, 0.75)] },
        ]),
    };
    json!({ "by": by, "quantiles": [0.25, 0.75], "overall": [overall], "regimes": regimes })
}

fn projection() -> Value {
    let component = |eigenvalue: f64, variance: f64, loadings: [f64; 2]| {
        json!({
            "eigenvalue": eigenvalue, "variance": variance, "t2_95": 0.0, "t2_99": 0.0,
            "q_95": 0.0, "q_99": 0.0, "loadings": loadings
        })
    };
    json!({
        "standardize": true,
        "columns": [
            { "column": "x", "mean": 2.0, "scale": 0.5 },
            { "column": "y", "mean": 60.0, "scale": 5.0 },
        ],
        "components": [component(1.5, 0.75, [0.6, 0.8]), component(0.5, 1.0, [0.8, -0.6])],
    })
}

fn centres() -> Value {
    let centre = |(i, center): (usize, &[f64; 2])| json!({ "regime": (i + 1).to_string(), "rows": 250, "center": center });
    let regimes: Vec<Value> = loops::CENTRES.iter().enumerate().map(centre).collect();
    json!({ "columns": ["x", "y"], "scale": loops::SCALES, "regimes": regimes })
}
