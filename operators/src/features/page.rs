//! Holds docs/features.md against the tables; `FORELINE_UPDATE=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use super::{Feature, THEMES, UnitRule};

const INTRODUCTION: &str = "# Window features

What `window` can say of a column. `x` are the n values of a window that are not null, in order of event time; `mean` is their mean,
`m2`, `m3`, `m4` are the means of `(x - mean)^2`, `^3`, `^4`. A feature that is not defined is null. The output column is `<column>_<feature>`; its unit follows from
the column's.

```yaml
features: { from: readings, window: { tumbling: 1m, remove_mean: true, features: { vibration: [rms, q95, autocorrelation: { lag: 2 }] } } }
```

Parameters are a map, and those that are given become part of the output column's name: `vibration_autocorrelation_2`; `as` gives another name:
`quantile: { q: 0.9, as: p90 }` makes `vibration_p90`. With `min_values` a window with fewer values has no features but `count`, `missing` and `missing_share`.
With `remove_mean` amplitudes (`rms`, `peak`, `mean_abs`, the factors) are of the values less their mean.

Features marked *tsfresh* have the name and the definition that tsfresh 0.21 has, and are compared with it to 1e-9. Two names mean
something else here than there: `skewness` and `kurtosis` are the biased moments that vibration analysis uses, not the unbiased ones of pandas, and kurtosis is not
excess. `std` and `var` divide by n - 1, `standard_deviation` and `variance` by n. Quantiles are exact: all values are sorted, and linear between two.

This page is made from the code by a test.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for theme in THEMES {
        let _ = write!(
            page,
            "\n## {}\n\n| feature | parameters | unit | what it is |\n|---|---|---|---|\n",
            theme.title
        );
        for feature in theme.features {
            let doc = feature.doc.replace('|', "\\|");
            let (parameters, unit) = (parameters(feature), unit(feature.unit));
            let _ = writeln!(page, "| `{}` | {parameters} | {unit} | {doc} |", feature.name);
        }
    }
    page
}

fn parameters(feature: &Feature) -> String {
    let each = feature.params.iter().map(|p| {
        let default = p.default.map(|d| format!("; {} unless given", p.written(d)));
        let default = default.unwrap_or_default();
        format!("`{}`: {}, {}{default}", p.name, p.doc, p.range())
    });
    each.collect::<Vec<_>>().join("<br>")
}

fn unit(rule: UnitRule) -> &'static str {
    match rule {
        UnitRule::Same => "the column's",
        UnitRule::Squared => "its square",
        UnitRule::Cubed => "its third power",
        UnitRule::PerTime => "the column's by time",
        UnitRule::Ratio => "1",
        UnitRule::Degrees => "deg",
        UnitRule::Aggregate(_) => "the column's, its square for `var`",
        UnitRule::Term(_) => "1, the column's for 0",
        UnitRule::Count => "count (`int64`)",
        UnitRule::Flag => "0 or 1 (`int64`)",
    }
}

#[test]
fn the_page_says_what_the_tables_say() {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&own).join("../docs/features.md");
    let page = page();
    if std::env::var_os("FORELINE_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "FORELINE_UPDATE=1 accepts it");
}
