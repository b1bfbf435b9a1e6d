//! Cepstra against NumPy's, and the mistakes of a configuration.

use serde_json::json;

use crate::testing::try_plan;
use crate::waveforms::tests::{agrees, utc, waves};

#[test]
fn agrees_with_numpy() {
    let config = json!({ "column": "w", "from": 0.01, "to": 0.08, "peaks": 2, "keep": 0.08 });
    agrees("cepstrum", &config, &waves(), include_str!("../../reference/cepstrum.csv"));
}

#[test]
fn says_what_is_wrong() {
    let input = utc("m,t,w:wave@2000\n");
    let config = json!({ "column": "w", "from": 0.1, "to": 0.1, "peaks": 0, "keep": -1 });
    let errors = try_plan("cepstrum", &config, &input.schema).unwrap_err();
    let expected = [
        "from: '0.1' to '0.1' is no range",
        "peaks: '0' is not a number of peaks",
        "keep: '-1' is out of range",
    ];
    assert_eq!(errors, expected);
}
