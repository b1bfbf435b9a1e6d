//! Values from outside the file reach the kind that needs them, and nobody else.

use foreline_spec::{RenderStyle, explain};

use crate::kinds::{CANARY, check};

fn file(url: &str) -> String {
    format!(
        "version: 1
sources:
  readings:
    csv: {{ path: a.csv }}
    columns: {{ machine: string, ts: timestamp, v: float64 }}
    key: [machine]
    time: ts
sinks:
  out: {{ from: readings, postbox: {{ url: \"{url}\" }} }}
"
    )
}

#[test]
fn a_secret_is_put_in_after_parsing() {
    for reference in ["x://u:${env:CANARY}@host", "x://${file:canary.txt}", "x://a$${b}"] {
        let checked = check("f.yaml", &file(reference));
        assert!(checked.plan.is_some(), "{}", checked.diagnostics.render(RenderStyle::PLAIN));
    }
}

#[test]
fn a_secret_is_in_no_message_and_no_plan() {
    let refused = check("f.yaml", &file("${env:CANARY}"));
    let text = refused.diagnostics.render(RenderStyle::PLAIN);
    assert!(text.contains("'***' is not an address"), "{text}");
    let shown = [text, refused.diagnostics.to_json().to_string(), format!("{refused:?}")];
    let planned = check("f.yaml", &file("x://${env:CANARY}")).plan.unwrap();
    for text in shown.iter().chain(&[format!("{planned:?}"), explain(&planned)]) {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn keys_are_not_replaced() {
    let text = file("x://h").replace("  out:", "  \"${env:CANARY}\":");
    assert!(check("f.yaml", &text).plan.is_none(), "the key is taken as it stands");
}
