//! The rows behind the examples: half an hour of two machines, five seconds of an accelerometer, and what is known of the
//! machines.
//!
//! The same rows on every machine: nothing but additions and multiplications, so an oscillation is a rotation by a fixed
//! angle, and a decay a fixed factor.

use std::fmt::Write as _;
use std::path::Path;

use foreline_operators::testing::Dice;
use foreline_tests::root;

/// The file that declares the streams.
pub(super) fn declared() -> String {
    std::fs::read_to_string(root().join("operators/examples/streams.yaml")).unwrap()
}

/// Writes the rows of all streams, and those of the reference, into `folder`.
pub(super) fn write(folder: &Path) {
    let streams = [
        ("readings.csv", readings()),
        ("vacuum.csv", vacuum()),
        ("sensors.csv", sensors()),
        ("samples.csv", samples()),
        ("machines.csv", machines()),
    ];
    for (name, rows) in streams {
        std::fs::write(folder.join(name), rows).unwrap();
    }
    let statistics = root().join("operators/examples/statistics");
    for entry in std::fs::read_dir(&statistics).into_iter().flatten() {
        let path = entry.unwrap().path();
        std::fs::create_dir_all(folder.join("statistics")).unwrap();
        std::fs::copy(&path, folder.join("statistics").join(path.file_name().unwrap())).unwrap();
    }
}

/// `seconds` after six in the morning.
fn stamp(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "less than an hour")]
    let micros = (seconds * 1e6 + 0.5).floor() as i64;
    let (minute, rest) = (micros / 60_000_000, micros % 60_000_000);
    format!("2026-03-02T06:{minute:02}:{:02}.{:06}Z", rest / 1_000_000, rest % 1_000_000)
}

/// An oscillation: a rotation by a fixed angle, and a damping.
struct Swing {
    x: f64,
    y: f64,
    cos: f64,
    sin: f64,
}

impl Swing {
    /// With the cosine and sine of the angle of one step, times the damping.
    fn new(cos: f64, sin: f64) -> Self {
        Swing { x: 1.0, y: 0.0, cos, sin }
    }

    fn next(&mut self) -> f64 {
        (self.x, self.y) =
            (self.cos * self.x - self.sin * self.y, self.sin * self.x + self.cos * self.y);
        self.y
    }
}

/// Half an hour, a row a second: two recipes in turn, a stop, a gap, missing values, spikes, and wear towards the end.
fn readings() -> String {
    let mut out = "machine,ts,vibration,temperature,speed,load,running,recipe\n".to_owned();
    for (machine, seed) in [("P-1", 1), ("P-2", 2)] {
        let mut dice = Dice::new(seed);
        let mut swing = Swing::new(0.998_026_728, 0.062_790_520);
        let (mut warm, mut speed) = (25.0, 0.0);
        for t in 0..1_800_u32 {
            let running = t >= 60 && !(1_080..1_140).contains(&t);
            let etch = t / 300 % 2 == 0;
            let (load, target) = match (running, etch) {
                (false, _) => (0.0, 25.0),
                (true, true) => (72.0 + f64::from(t % 30) * 0.6, 68.0),
                (true, false) => (44.0 + f64::from(t % 30) * 0.3, 60.0),
            };
            warm += (target - warm) * 0.008;
            speed += ((if running { 1_480.0 } else { 0.0 }) - speed) * 0.2;
            let wear = f64::from(t.saturating_sub(1_300)) * 0.006;
            let swung = swing.next();
            let mut vibration = if running { 1.3 + 0.3 * swung + wear } else { 0.05 };
            vibration += 0.12 * dice.unit() * (0.3 + f64::from(u8::from(running)));
            if t % 397 == 200 {
                vibration += 3.0;
            }
            let temperature = warm + 0.25 * dice.unit() + if t >= 1_400 { 6.0 } else { 0.0 };
            let (load, speed) = (load + 0.8 * dice.unit(), speed + 4.0 * dice.unit());
            if (900..940).contains(&t) {
                continue;
            }
            let temperature = match (600..620).contains(&t) {
                true => String::new(),
                false => format!("{temperature:.2}"),
            };
            let (ts, recipe) = (stamp(f64::from(t)), if etch { "etch" } else { "clean" });
            writeln!(
                out,
                "{machine},{ts},{vibration:.3},{temperature},{speed:.1},{load:.1},{running},{recipe}"
            )
            .unwrap();
        }
    }
    out
}

/// Every five seconds, a little beside the readings.
fn vacuum() -> String {
    let mut out = "machine,ts,pressure,current\n".to_owned();
    for (machine, seed) in [("P-1", 3), ("P-2", 4)] {
        let mut dice = Dice::new(seed);
        let mut pressure = 900.0;
        for t in 0..360_u32 {
            pressure += (8.0 - pressure) * 0.05;
            let (shown, current) = (pressure + 0.2 * dice.unit(), 11.0 + 0.6 * dice.unit());
            let ts = stamp(f64::from(t) * 5.0 + 0.3);
            writeln!(out, "{machine},{ts},{shown:.2},{current:.2}").unwrap();
        }
    }
    out
}

/// Two sensors of one machine, each at a rate of its own: 1,359 and 1,000 values a second.
fn sensors() -> String {
    let mut rows = Vec::new();
    for (sensor, step, seed) in [("sensor 1", 0.000_736, 5), ("sensor 2", 0.001, 6)] {
        let mut dice = Dice::new(seed);
        let mut swing = Swing::new(0.992_114_701, 0.125_333_234);
        let mut t = 0.0_f64;
        while t < 0.3 {
            rows.push((t, sensor, 2.0 * swing.next() + 0.1 * dice.unit()));
            t += step;
        }
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut out = "machine,ts,sensor,value\n".to_owned();
    for (t, sensor, value) in rows {
        writeln!(out, "P-1,{},{sensor},{value:.3}", stamp(t)).unwrap();
    }
    out
}

/// Five seconds at 12 kHz: the shaft at 1,797 rpm, and a defect of the outer race that rings at 3 kHz 107.36 times a second.
fn samples() -> String {
    const RATE: f64 = 12_000.0;
    const TURNS: f64 = 1_797.0 / 60.0;
    const STRIKES: f64 = 107.36;
    let mut out = "machine,ts,acceleration,speed,tacho\n".to_owned();
    let mut dice = Dice::new(7);
    let mut shaft = Swing::new(0.999_877_040, 0.015_681_409);
    let mut ring = Swing { x: 0.0, y: 0.0, cos: 0.0, sin: 0.93 };
    let (mut turn, mut strike) = (0.0, 0.0);
    for i in 0..60_000_u32 {
        strike += STRIKES / RATE;
        if strike >= 1.0 {
            strike -= 1.0;
            ring.x += 1.0 + 0.2 * dice.unit();
        }
        turn += TURNS / RATE;
        if turn >= 1.0 {
            turn -= 1.0;
        }
        let acceleration = 0.1 * shaft.next() + ring.next() + 0.05 * dice.unit();
        let (ts, tacho) = (stamp(f64::from(i) / RATE), if turn < 0.03 { 5.0 } else { 0.0 });
        let speed = 1_797.0 + dice.unit();
        writeln!(out, "P-1,{ts},{acceleration:.4},{speed:.1},{tacho:.1}").unwrap();
    }
    out
}

/// Both machines, each on a line of its own.
fn machines() -> String {
    "machine,line,limit\nP-1,L1,2.8\nP-2,L2,4.5\n".to_owned()
}
