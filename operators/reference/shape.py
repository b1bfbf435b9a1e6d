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


def main():
    write("convert_units", conversions())
    frame = readings()
    write("resample_hold", on_grid(frame, SECOND, 5 * SECOND, hold))
    write("resample_linear", on_grid(frame, SECOND, 5 * SECOND, linear))


if __name__ == "__main__":
    main()
