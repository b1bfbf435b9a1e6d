#!/usr/bin/env python3
"""Writes the reference values of the steps that shape streams.

    python3 operators/reference/shape.py

Needs numpy, pandas and pint. Times are nanoseconds of UTC.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
SECOND = 1_000_000_000


def write(name, frame):
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.17g", lineterminator="\n")


# Our code, and the name that pint has for the unit.
UNITS = [
    {"mm/s": "mm/s", "[in_i]/s": "inch/s", "km/h": "km/h", "[ft_i]/min": "foot/min", "[kn_i]": "knot", "m/s": "m/s"},
    {"[g]": "standard_gravity", "m/s2": "m/s**2", "mm/s2": "mm/s**2", "[in_i]/s2": "inch/s**2"},
    {"Cel": "degC", "[degF]": "degF", "K": "kelvin", "[degR]": "degR"},
    {"bar": "bar", "mbar": "mbar", "[psi]": "psi", "Pa": "Pa", "Torr": "torr", "atm": "atm", "kPa": "kPa"},
    {"{rpm}": "rpm", "Hz": "revolution/s", "rad/s": "rad/s", "deg/s": "deg/s"},
    {"um": "um", "[mil_i]": "thou", "[mi_i]": "mile", "[ft_i]": "foot"},
    {"N.m": "N*m", "[lbf_av].[ft_i]": "lbf*foot"},
    {"W": "W", "[HP]": "horsepower", "kW": "kW"},
    {"J": "J", "kW.h": "kWh"},
    {"kg": "kg", "[lb_av]": "lb", "g": "g"},
    {"l/min": "l/min", "m3/h": "m**3/h", "[gal_us]/min": "gallon/min"},
    {"deg": "deg", "rad": "rad"},
]


def conversions():
    import pint

    registry = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    rows = []
    for units in UNITS:
        for ours, theirs in units.items():
            for to, other in units.items():
                value = registry.Quantity(12.375, registry.parse_units(theirs)).to(other).magnitude
                rows.append({"from": ours, "to": to, "x": 12.375, "y": float(value)})
    return pd.DataFrame(rows)


def readings():
    """The readings that `make.py` wrote."""
    return pd.read_csv(HERE / "readings.csv")


def on_grid(frame, every, max_gap, method):
    """Each column of each machine on a grid: `hold` by pandas, `linear` by numpy between near neighbours."""
    out = []
    for machine, rows in frame.groupby("machine"):
        last = rows["ts"].max() + max_gap
        grid = np.arange(-(-rows["ts"].min() // every) * every, last + 1, every)
        columns = {"machine": machine, "ts": grid}
        for column in ["x", "y"]:
            points = rows.dropna(subset=column)
            columns[column] = method(points["ts"].to_numpy(), points[column].to_numpy(), grid, max_gap)
        out.append(pd.DataFrame(columns).dropna(how="all", subset=["x", "y"]))
    return pd.concat(out)


def hold(times, values, grid, max_gap):
    series = pd.Series(values, index=times).groupby(level=0).last()
    return series.reindex(grid, method="ffill", tolerance=max_gap).to_numpy()


def linear(times, values, grid, max_gap):
    base = times[0]  # a float holds no nanoseconds since 1970
    line = np.interp(grid - base, times - base, values, left=np.nan, right=np.nan)
    after = np.searchsorted(times, grid, side="left")
    before = np.searchsorted(times, grid, side="right") - 1
    near = [
        b >= 0 and a < len(times) and times[a] - times[b] <= max_gap for a, b in zip(after, before)
    ]
    return np.where(near, line, np.nan)


def sensors(seed=11):
    """Four sensors of two machines with rates of their own, as the KAMP rotor bed has; a dropout of sensor 3."""
    rng = np.random.default_rng(seed)
    rows = []
    for machine in ["g1", "g2"]:
        for sensor, rate_hz in enumerate([1358.7, 1315.8, 1400.6, 1314.1], start=1):
            start = rng.integers(0, 800_000)
            times = 1_700_000_000 * SECOND + start + (np.arange(90) * SECOND / rate_hz).astype(int)
            if sensor == 3:
                times = np.delete(times, slice(30, 45))
            seconds = (times - times[0]) / SECOND
            values = sensor + np.sin(2 * np.pi * 25 * seconds) + 0.1 * rng.normal(size=len(times))
            rows += [(machine, t, str(sensor), v) for t, v in zip(times, values)]
    frame = pd.DataFrame(rows, columns=["machine", "ts", "sensor:string", "value"])
    return frame.sort_values("ts", kind="stable")


def aligned(frame, every, max_gap):
    out = []
    for machine, rows in frame.groupby("machine"):
        grid = np.arange(-(-rows["ts"].min() // every) * every, rows["ts"].max() + 1, every)
        columns = {"machine": machine, "ts": grid}
        for sensor, points in rows.groupby("sensor:string"):
            columns[sensor] = linear(points["ts"].to_numpy(), points["value"].to_numpy(), grid, max_gap)
        out.append(pd.DataFrame(columns).dropna(how="all", subset=list("1234")))
    return pd.concat(out)


def long_rows(n_rows=300, seed=12):
    rng = np.random.default_rng(seed)
    ts = 1_700_000_000 * SECOND + np.sort(rng.integers(0, 60, n_rows)) * SECOND
    frame = pd.DataFrame({
        "machine": rng.choice(["a", "b"], n_rows),
        "ts": ts,
        "sensor:string": rng.choice(["p", "q", "r", "s"], n_rows),
        "value": rng.normal(size=n_rows),
    })
    return frame


def pivoted(frame):
    listed = frame[frame["sensor:string"].isin(["p", "q", "r"])]
    return listed.pivot_table(
        index=["machine", "ts"], columns="sensor:string", values="value", aggfunc="last"
    ).reset_index()


def filled(frame, function):
    out = frame.copy()
    for _, rows in frame.groupby("machine"):
        for column in ["x", "y"]:
            out.loc[rows.index, column] = function(rows["ts"], rows[column])
    return out


def fill_previous(max_gap):
    def fill(times, values):
        since = times - times.where(values.notna()).ffill()
        return values.ffill().where(since <= max_gap)

    return fill


def fill_linear(max_gap):
    def fill(times, values):
        base = times.iloc[0]  # a float holds no nanoseconds since 1970
        line = values.set_axis(times - base).interpolate("index", limit_area="inside")
        here = times.where(values.notna())
        near = here.bfill() - here.ffill() <= max_gap
        return values.where(values.notna(), line.set_axis(values.index).where(near))

    return fill


def swinging_door(rows, deviation, max_gap):
    """The rows of a machine that go on: from the last that did, a row is passed over as long as the line to the next
    is near all rows in between. Looks at all of them each time, where the step keeps two slopes."""
    times, values = rows["ts"].to_list(), rows["x"].to_list()

    def near(a, b):
        slope = (values[b] - values[a]) / (times[b] - times[a])
        line = [values[a] + slope * (times[i] - times[a]) for i in range(a + 1, b)]
        return all(abs(y - values[i]) <= deviation for i, y in zip(range(a + 1, b), line))

    passed, last, waits = [], None, None
    for i, (t, x) in enumerate(zip(times, values)):
        if waits is not None and (np.isnan(x) or t - times[last] > max_gap or not near(last, i)):
            passed.append(waits)
            last, waits = waits, None
        if np.isnan(x):
            if i == 0 or not np.isnan(values[i - 1]):
                passed.append(i)
            last = None
        elif last is None or t - times[last] > max_gap:
            passed.append(i)
            last = i
        elif t == times[last]:
            if abs(x - values[last]) > deviation:
                passed.append(i)
                last = i
        else:
            waits = i
    if waits is not None:
        passed.append(waits)
    return rows.iloc[passed]


def events(n_rows=90, seed=13):
    """Another device on the same machines, and on one more; a text and a number, with nulls."""
    rng = np.random.default_rng(seed)
    ts = 1_700_000_000 * SECOND + np.cumsum(rng.choice([0, 500, 2500, 7000], n_rows)) * 1_000_000
    frame = pd.DataFrame({
        "machine": rng.choice(["a", "b", "d"], n_rows),
        "ts": ts,
        "state:string": rng.choice(["run", "idle", "off"], n_rows),
        "level": rng.normal(size=n_rows),
    })
    frame.loc[rng.random(n_rows) < 0.1, ["state:string", "level"]] = [None, np.nan]
    return frame


def near(left, right, before, after):
    pairs = left.merge(right.rename(columns={"ts": "at:int64"}), on="machine")
    gap = pairs["at:int64"] - pairs["ts"]
    pairs = pairs[(gap >= -before) & (gap <= after)]
    return pairs[[*left.columns, *right.columns[2:], "at:int64"]]


def main():
    write("convert_units", conversions())
    frame = sensors()
    write("align_sensors", frame)
    write("align_linear", aligned(frame, SECOND // 1000, SECOND // 200))
    frame = long_rows()
    write("pivot_long", frame)
    write("pivot_wide", pivoted(frame))
    frame = readings()
    write("fill_previous", filled(frame, fill_previous(8 * SECOND)))
    write("fill_linear", filled(frame, fill_linear(8 * SECOND)))
    doors = [swinging_door(rows, 0.8, 20 * SECOND) for _, rows in frame.groupby("machine")]
    write("swinging_door_x", pd.concat(doors))
    right = events()
    write("asof_join_right", right)
    joined = pd.merge_asof(frame, right, on="ts", by="machine", tolerance=6 * SECOND)
    write("asof_join_within", joined)
    write("interval_join_near", near(right, frame, 3 * SECOND // 2, 2 * SECOND))
    long = frame.melt(["machine", "ts"], ["x", "y"], var_name="name:string", ignore_index=False)
    long = long.dropna().sort_index(kind="stable")
    write("explode_long", long)
    write("resample_hold", on_grid(frame, SECOND, 5 * SECOND, hold))
    write("resample_linear", on_grid(frame, SECOND, 5 * SECOND, linear))


if __name__ == "__main__":
    main()
