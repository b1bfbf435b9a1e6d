//! The cases of steps that cut waveforms and look at them.

use serde_json::{Value, json};

use super::super::bursts::bursts;
use super::super::loops::spectrum as loops;
use super::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let on_bursts = |step, what, mut options: Value, sum, plain| {
        options["column"] = json!("a");
        case(step, what, options, sum, plain).on(bursts)
    };
    let bearing = json!({ "balls": 9, "ball_diameter": 7.94, "pitch_diameter": 39.04 });
    let orders = json!({ "unbalance": 1, "misalignment": 2, "mesh": 23 });
    let iso = json!({ "edition": "ISO 10816-3:2009", "group": 2, "mounting": "rigid" });
    vec![
        case(
            "waveform",
            "256 samples",
            json!({ "columns": ["x"], "sample_rate": 10, "samples": 256 }),
            "x",
            loops::waveform,
        )
        .because("it looks at the time of every sample, which the loop takes for granted"),
        on_bursts(
            "spectrum",
            "4,096 points, beside realfft",
            json!({ "segment": 4096, "features": [], "peaks": 0, "keep": "density" }),
            "a_spectrum",
            loops::density,
        ),
        on_bursts(
            "spectrum",
            "segments of 1,024, shape, peak",
            json!({}),
            "a_entropy",
            loops::welch,
        ),
        on_bursts("severity", "", iso, "a_velocity_rms", loops::severity),
        on_bursts(
            "cepstrum",
            "",
            json!({ "from": 0.005, "to": 0.2 }),
            "a_rahmonic1",
            loops::cepstrum,
        ),
        on_bursts(
            "orders",
            "3 orders",
            json!({ "speed": "speed", "orders": orders }),
            "a_misalignment",
            loops::orders,
        ),
        on_bursts(
            "envelope",
            "of a band",
            json!({ "speed": "speed", "bearing": bearing, "band": [1500, 2500] }),
            "a_bpfo_ratio",
            loops::envelope,
        ),
        on_bursts(
            "envelope",
            "of the band it chooses",
            json!({ "speed": "speed", "bearing": bearing }),
            "a_bpfo_ratio",
            loops::envelope_chosen,
        ),
    ]
}
