#!/usr/bin/env python3
"""Counts what a device clock's limit does to the recorded wireless sensors, for tests/tests/pipelines/clocks.rs.

    python3 tests/reference/device_clock.py FOLDER_WITH_xep_vibration

Needs pandas. Writes device_clock.csv beside this file. Files in the order of the first arrival in each; of a sensor, a
row is late when its event time is below the greatest before it.
"""

import sys
from pathlib import Path

import pandas as pd

LIMITS_S = [30, 120, 480, 3_600, 86_400, 126_000_000, 130_000_000, 200_000_000]


def readings(folder):
    """The rows that can be read, in the order of reading: sensor, arrival and device's stamp in milliseconds."""
    files = []
    for path in folder.glob("vibrationdata_*.csv"):
        rows = pd.read_csv(path, dtype=str, usecols=["Timestamp", "SensorID", "DeviceTime"])
        for column in ["Timestamp", "DeviceTime"]:
            rows[column] = pd.to_numeric(rows[column], errors="coerce")
        files.append(rows.dropna())
    files.sort(key=lambda rows: rows["Timestamp"].iloc[0])
    rows = pd.concat(files, ignore_index=True)
    rows["device"] = rows.pop("DeviceTime").astype("int64") * 1000
    rows["arrival"] = rows.pop("Timestamp").astype("int64")
    return rows


def late(rows, time):
    """Which rows are behind the greatest time before them of their sensor."""
    return time < time.groupby(rows["SensorID"]).cummax().groupby(rows["SensorID"]).shift().fillna(time)


def main():
    rows = readings(Path(sys.argv[1]))
    out = []
    for limit in LIMITS_S:
        off = (rows["device"] - rows["arrival"]).abs() > limit * 1000
        time = rows["device"].where(~off, rows["arrival"])
        is_late = late(rows, time)
        believed = rows[~off]
        out.append({
            "limit_s": limit,
            "rows": len(rows),
            "off": off.sum(),
            "late": is_late.sum(),
            "marked": (off & ~is_late).sum(),
            "late_of_believed": late(believed, believed["device"]).sum(),
        })
    pd.DataFrame(out).to_csv(Path(__file__).with_suffix(".csv"), index=False, lineterminator="\n")


main()
