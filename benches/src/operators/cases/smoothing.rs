//! The cases of steps that smooth.

use serde_json::json;

use super::super::loops::smoothing as loops;
use super::{Case, case, x};

pub(super) fn cases() -> Vec<Case> {
    let filter = |mut options: serde_json::Value| {
        options["every"] = json!("100ms");
        options["start"] = json!("zero");
        x(options)
    };
    vec![
        case(
            "band_pass",
            "order 2",
            filter(json!({ "low_hz": 0.5, "high_hz": 2, "order": 2 })),
            "x",
            loops::band_pass,
        ),
        case("clip", "", x(json!({ "lower": 1.5, "upper": 2.5 })), "x", loops::clip),
        case("ema", "alpha", x(json!({ "alpha": 0.1 })), "x", loops::ema),
        case("ema", "half-life", x(json!({ "half_life": "3s" })), "x", loops::ema_timed),
        case("hampel", "15 rows", x(json!({ "rows": 15 })), "x", loops::hampel),
        case(
            "high_pass",
            "order 4",
            filter(json!({ "cutoff_hz": 1, "order": 4 })),
            "x",
            loops::high_pass,
        ),
        case(
            "kalman_1d",
            "",
            x(json!({ "process_variance": 0.01, "measurement_variance": 0.25 })),
            "x",
            loops::kalman,
        ),
        case(
            "low_pass",
            "order 4",
            filter(json!({ "cutoff_hz": 1, "order": 4 })),
            "x",
            loops::low_pass,
        ),
        case("monotone", "", x(json!({ "running": "maximum" })), "x", loops::monotone),
        case("moving_average", "20 rows", x(json!({ "rows": 20 })), "x", loops::moving_average)
            .because("times are kept, nulls counted out; the loop adds 20 numbers"),
        case("moving_median", "9 rows", x(json!({ "rows": 9 })), "x", loops::moving_median),
        case("savitzky_golay", "15 rows", x(json!({ "rows": 15 })), "x", loops::savitzky_golay)
            .because("weights are of any number, and of distances; the loop has 15 of values"),
    ]
}
