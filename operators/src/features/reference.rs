//! Every feature against tsfresh, SciPy and NumPy, and what they say of few values.

use foreline_engine::TimeDomain;
use serde_json::{Value, json};

use crate::features::{Args, Feature, FeatureCall, Param, ParamKind, Passes, Sample};
use crate::testing::recorded::recorded;
use crate::testing::{Table, check, sameness};

fn utc(text: &str) -> Table {
    Table::parse(TimeDomain::UtcNanos, text)
}

/// The features that the reference has columns for.
fn calls() -> Vec<Value> {
    serde_json::from_str(include_str!("../../reference/features_calls.json")).unwrap()
}

#[test]
fn windows_of_few_values_agree_with_tsfresh() {
    let mut features = vec![json!("missing"), json!("missing_share"), json!("intercept")];
    features.extend(calls());
    let config = json!({ "tumbling": "1m", "features": { "x": features } });
    let readings = utc(include_str!("../../reference/readings.csv"));
    let expected = utc(include_str!("../../reference/features_short.csv"));
    check("window", &config, &readings, &expected);
}

#[test]
fn windows_of_many_values_agree_with_tsfresh() {
    let config = json!({ "count": { "rows": 160 }, "features": { "s": calls(), "d": calls() } });
    let signal = utc(include_str!("../../reference/features_signal.csv"));
    let expected = utc(include_str!("../../reference/features_long.csv"));
    check("window", &config, &signal, &expected);
}

#[test]
fn one_long_window_agrees_with_tsfresh() {
    let config = json!({ "count": { "rows": 480 }, "features": { "s": calls(), "d": calls() } });
    let signal = utc(include_str!("../../reference/features_signal.csv"));
    let expected = utc(include_str!("../../reference/features_longest.csv"));
    check("window", &config, &signal, &expected);
}

/// Features whose reference values are in the files of `window`.
const ELSEWHERE: &str = "count missing missing_share intercept mean std min max range rms skewness kurtosis crest_factor slope first last";

#[test]
fn every_feature_has_reference_values() {
    let called: Vec<FeatureCall> =
        calls().into_iter().map(|call| serde_json::from_value(call).unwrap()).collect();
    let mut names: Vec<&str> = called.iter().map(|c| c.resolve().unwrap().feature.name).collect();
    names.extend(ELSEWHERE.split(' '));
    for feature in Feature::all() {
        assert!(names.contains(&feature.name), "{} has no reference value", feature.name);
    }
}

/// Each feature with parameters that it takes.
fn each() -> Vec<Value> {
    let told = |f: &Feature| {
        let given = (0..).zip(f.params.iter().filter(|p| p.default.is_none()));
        let least = |p: &Param| if let ParamKind::Whole(least, _) = p.kind { least } else { 0 };
        let given: serde_json::Map<String, Value> =
            given.map(|(i, p)| (p.name.to_owned(), json!(least(p).max(i)))).collect();
        if given.is_empty() { json!(f.name) } else { json!({ f.name: given }) }
    };
    Feature::all().map(told).collect()
}

#[test]
fn nothing_and_little_is_no_trouble() {
    let input =
        Table::parse(TimeDomain::Logical, "m,t,x\na,0,\na,10,3\na,20,3\na,21,3\na,30,0\na,31,\n");
    let config = json!({ "tumbling": 10, "features": { "x": each() } });
    let outcome = sameness("window", &config, &input);
    let empty = &outcome.rows.iter().find(|row| row.time == 10).unwrap().cells;
    let there: Vec<_> = empty[2..].iter().filter_map(|cell| cell.number()).collect();
    assert_eq!(there, [0.0, 1.0, 1.0], "count, missing and missing_share alone");
    assert_eq!(outcome.numbers("x_mad")[1..], [Some(0.0); 3]);
}

#[test]
fn min_values_makes_features_null_and_leaves_counts() {
    let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,1\na,1,\na,10,3\na,11,5\n");
    let features = json!({ "x": ["count", "missing", "mean", "zero_crossings"] });
    let config = json!({ "tumbling": 10, "min_values": 2, "features": features });
    let expected = Table::parse(
        TimeDomain::Logical,
        "m,window_end,x_count:int64,x_missing:int64,x_mean,x_zero_crossings:int64\n\
         a,10,1,1,,\na,20,2,0,4,0\n",
    );
    check("window", &config, &input, &expected);
}

#[test]
fn sliding_windows_say_what_windows_on_their_own_say() {
    let features =
        json!(["median", "mad", "q05", "iqr", "has_duplicate", "std", "mean", "kurtosis", "min"]);
    let input = Table::random(21, 110, TimeDomain::Logical);
    let config = json!({ "sliding": { "length": 100, "every": 5 }, "features": { "n": features, "x": features } });
    let sliding = sameness("window", &config, &input);
    // A window that slides by its length shares nothing with the one before.
    for shift in [0, 65] {
        let mut shifted = input.clone();
        let times: Vec<i64> = input.times().iter().map(|t| t + shift).collect();
        let mut columns = input.rows.columns().to_vec();
        columns[1] = crate::columns::time_column(times, TimeDomain::Logical);
        shifted.rows =
            arrow::array::RecordBatch::try_new(input.schema.arrow().clone(), columns).unwrap();
        let config = json!({ "tumbling": 100, "features": { "n": features, "x": features } });
        let alone = sameness("window", &config, &shifted);
        for row in &alone.rows {
            let same = |other: &&crate::testing::Row| {
                other.hash == row.hash && other.time == row.time - shift
            };
            let other = sliding.rows.iter().find(same).unwrap();
            let mut pairs = other.cells.iter().zip(&row.cells).skip(2);
            assert!(pairs.all(|(a, b)| a.close_to(b, 1e-9)), "{other:?} {row:?}");
        }
    }
}

/// Mean, rms, peak and kurtosis in g of the bearing recordings of Case Western Reserve University.
const BEARINGS: [(&str, [f64; 4]); 10] = [
    ("Normal_0", [0.0126, 0.0727, 0.299, 2.76]),
    ("IR007_0", [0.0134, 0.2912, 1.726, 5.40]),
    ("IR014_0", [0.0344, 0.1948, 2.045, 21.96]),
    ("IR021_0", [0.0141, 0.5252, 3.774, 7.45]),
    ("B007_0", [0.0126, 0.1387, 0.620, 2.98]),
    ("B014_0", [0.0047, 0.1526, 2.273, 17.77]),
    ("B021_0", [0.0214, 0.1339, 1.639, 8.55]),
    ("OR007_at6_0", [0.0232, 0.6691, 3.607, 7.65]),
    ("OR014_at6_0", [0.0144, 0.0996, 0.565, 3.06]),
    ("OR021_at6_0", [0.0047, 0.5832, 6.648, 21.01]),
];

/// Features of `values` on their own.
fn of(values: &[f64], names: &[&str], remove_mean: bool) -> Vec<f64> {
    let features: Vec<_> = names.iter().map(|n| Feature::find(n).unwrap()).collect();
    let passes = Passes::of(&features.iter().map(|f| f.needs), remove_mean);
    let moments = passes.moments(values);
    let sample = Sample {
        values,
        times: &[],
        n_rows: values.len(),
        moments,
        absolute: passes.absolute(values, if remove_mean { moments.mean } else { 0.0 }),
        sorted: &[],
        remove_mean,
        ticks: 1.0,
    };
    features.iter().map(|f| (f.value)(&sample, &Args::default()).unwrap()).collect()
}

#[test]
fn amplitudes_without_the_mean_are_those_of_centred_values() {
    let names = [
        "rms",
        "peak",
        "mean_abs",
        "crest_factor",
        "shape_factor",
        "impulse_factor",
        "clearance_factor",
    ];
    let mut dice = crate::testing::Dice::new(8);
    let values: Vec<f64> = (0..999).map(|_| 40.0 + dice.unit()).collect();
    let mean = values.iter().sum::<f64>() / 999.0;
    let centred: Vec<f64> = values.iter().map(|x| x - mean).collect();
    for (a, b) in of(&values, &names, true).iter().zip(of(&centred, &names, false)) {
        assert!((a - b).abs() < 1e-11 * b, "{a} {b}");
    }
}

#[test]
fn recorded_bearings_have_their_known_features() {
    let Some(folder) = recorded("cwru") else { return };
    for (name, known) in BEARINGS {
        let text = std::fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap();
        let values: Vec<f64> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
        let got = of(&values, &["mean", "rms", "peak", "kurtosis"], true);
        // Half of the last digit that is known.
        for ((got, known), digit) in got.iter().zip(known).zip([1e-4, 1e-4, 1e-3, 1e-2]) {
            assert!((got - known).abs() <= 0.5001 * digit, "{name}: {got} should be {known}");
        }
    }
}
