#!/usr/bin/env python3
"""Writes the reference values of the steps over waveforms.

    python3 operators/reference/spectrum.py

Needs numpy and scipy. Waveforms are written with nine digits, which is every bit of a 32-bit float, and computed
with as 64-bit floats of those. Expected files have the key, the time and what the step adds.

Three definitions are ours and are written out here: which spectral peak is a peak (scipy's `find_peaks` agrees where no two
neighbours are equal), the gain of the band-pass without delay, and the lines below which a logarithm is not taken.
"""

from pathlib import Path

import numpy as np
from scipy import interpolate, signal

HERE = Path(__file__).parent
SECOND = 1_000_000_000
RATE = 2000.0
START = 1_700_000_000 * SECOND


def text(value):
    """A cell of a table: nothing for what is missing, numbers of a list with spaces between."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, np.ndarray):
        digits = ".9g" if value.dtype == np.float32 else ".17g"
        return " ".join(format(float(x), digits) for x in value)
    if isinstance(value, (str, int, np.integer)):
        return str(value)
    return "" if value is None or not np.isfinite(value) else format(float(value), ".17g")


def write(name, header, rows):
    lines = [header] + [",".join(text(cell) for cell in row) for row in rows]
    (HERE / f"{name}.csv").write_text("\n".join(lines) + "\n")


def waves(seed=11):
    """Noise with tones, and with shocks that ring at 620 Hz, 37.5 a second; lengths differ, the speed is missing once."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, (machine, n, speed) in enumerate([("a", 1000, 600.0), ("b", 1200, 630.0), ("a", 801, None)]):
        t = np.arange(n) / RATE
        x = 0.3 + 0.2 * rng.normal(size=n) + 0.8 * np.sin(2 * np.pi * 50.3 * t) + 0.4 * np.cos(2 * np.pi * 211 * t)
        if i < 2:
            since = np.mod(t, 1 / 37.5)
            x += 5 * np.exp(-120 * since) * np.sin(2 * np.pi * 620 * since)
        rows.append((machine, START + i * SECOND, x.astype(np.float32), speed))
    return rows


def each(rows, find):
    return [(m, t, *find(w.astype(np.float64), speed)) for m, t, w, speed in rows]


def spectrum(window, segment, overlap, bands, orders, n_peaks, keep):
    def find(x, speed):
        shared = dict(fs=RATE, window=window, nperseg=segment, noverlap=overlap, detrend="constant")
        f, p = signal.welch(x, scaling="density", **shared)
        amplitude = np.sqrt(2 * signal.welch(x, scaling="spectrum", **shared)[1])
        share = p / p.sum()
        centroid = (f * share).sum()
        out = [centroid, np.sqrt(((f - centroid) ** 2 * share).sum()), -(share[share > 0] * np.log(share[share > 0])).sum()]
        hz = np.nan if speed is None else speed / 60
        for low, high in bands + [(low * hz, high * hz) for low, high in orders]:
            inside = (f >= low) & (f < high)
            unknown = np.isnan(high) or high > RATE / 2
            out += [None, None] if unknown else [np.sqrt(p[inside].sum() * f[1]), share[inside].sum()]
        peaks, _ = signal.find_peaks(p)
        for k in peaks[np.argsort(-p[peaks], kind="stable")][:n_peaks]:
            out += [f[k], amplitude[k]]
        return out + [p if keep == "density" else amplitude, f[1]]

    return find


def severity(scale, velocity=False, band=(10, 900)):
    """The velocity itself, by division of complex lines, and its energy by Parseval's theorem."""

    def find(x, _):
        n = len(x)
        w = signal.get_window("hann", n)
        lines = np.fft.rfft((x - x.mean()) * w)
        f = np.fft.rfftfreq(n, 1 / RATE)
        inside = (f >= band[0]) & (f <= band[1])
        v = np.zeros_like(lines)
        v[inside] = lines[inside] * scale / (1 if velocity else 2j * np.pi * f[inside])
        rms = np.sqrt((np.fft.irfft(v, n) ** 2).sum() / (w**2).sum())
        return [rms, "ABCD"[np.searchsorted([0.5, 1.5, 400.0], rms)]]

    return find


def gain(f, low, high):
    """The absolute value of the response of an analog Butterworth band-pass of order 4."""
    numerator, denominator = signal.butter(4, [2 * np.pi * low, 2 * np.pi * high], "bandpass", analog=True)
    return np.abs(signal.freqs(numerator, denominator, 2 * np.pi * f)[1])


def amplitudes(x):
    """What a sine on each line would have as its amplitude; nothing mirrors the first and, of an even length, the last."""
    w = signal.get_window("hann", len(x))
    lines = 2 * np.abs(np.fft.rfft(w * (x - x.mean()))) / w.sum()
    lines[0] /= 2
    if len(x) % 2 == 0:
        lines[-1] /= 2
    return lines


def envelope_lines(x, low, high):
    n = len(x)
    f = np.fft.rfftfreq(n, 1 / RATE)
    e = np.abs(signal.hilbert(np.fft.irfft(np.fft.rfft(x - x.mean()) * gain(f, low, high), n)))
    return f, amplitudes(e)


def find_line(f, lines, hz, tolerance, background):
    near = np.abs(f - hz) == np.abs(f - hz).min()
    inside = (np.abs(f - hz) <= tolerance * hz) | near
    k = np.flatnonzero(inside)[np.argmax(lines[inside])]
    return f[k], lines[k], lines[k] / np.median(lines[np.abs(f - hz) <= background])


def band_of_shocks(x, width):
    """The band of greatest spectral kurtosis."""
    best = (-np.inf,)
    for n in [16, 32, 64, 128, 256]:
        if n > 16 and 2 * RATE / n < width:
            break
        f, _, frames = signal.stft(x - x.mean(), RATE, "hann", n, n // 2, boundary=None, padded=False)
        if frames.shape[1] < 32:
            break
        power = np.abs(frames) ** 2
        kurtosis = (power**2).mean(axis=1) / power.mean(axis=1) ** 2 - 2
        k = 2 + np.argmax(kurtosis[2 : n // 2 - 1])
        if kurtosis[k] > best[0]:
            best = (kurtosis[k], f[k - 1], f[k + 1])
    return best[1:]


def envelope(orders, band, threshold):
    def find(x, speed):
        width = 0 if speed is None else 3 * max(orders) * speed / 60
        low, high = band or band_of_shocks(x, width)
        f, lines = envelope_lines(x, low, high)
        out = []
        for order in orders:
            if speed is None:
                out += [None] * 5
                continue
            expected = order * speed / 60
            hz, amplitude, ratio = find_line(f, lines, expected, 0.02, 30)
            found = ratio > threshold
            out += [found, hz if found else None, hz / expected - 1 if found else None, ratio, amplitude]
        return out + [low, high, lines[f <= 120], f[1]]

    return find


def cepstrum(first, to, n_peaks):
    def find(x, _):
        lines = np.abs(np.fft.rfft(signal.get_window("hann", len(x)) * (x - x.mean())))
        c = np.fft.irfft(np.log(np.maximum(lines, 1e-12 * lines.max())), len(x))
        q = np.arange(len(c)) / RATE
        peaks, _ = signal.find_peaks(c[: len(c) // 2])
        peaks = [k for k in peaks if first - 1e-9 <= q[k] <= to + 1e-9]
        highest = sorted(peaks, key=lambda k: -c[k])[:n_peaks]
        out = [v for k in highest for v in (q[k], c[k])]
        return out + [c[q <= to + 1e-9], 1 / RATE]

    return find


def tracked(seed=5):
    """A shaft that speeds up: orders 1 and 3.5, noise, a pulse a turn with edges of two samples; and its speed."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, n in enumerate([900, 1001]):
        t = np.arange(n) / RATE
        speed = 18 + 9 * t + i
        turns = np.cumsum(speed) / RATE + 0.3
        x = np.sin(2 * np.pi * turns) + 0.5 * np.cos(2 * np.pi * 3.5 * turns) + 0.05 * rng.normal(size=n)
        pulse = np.clip((np.mod(turns, 1) - 0.1) * 30, 0, 5)
        pulse[np.mod(turns, 1) > 0.6] = 0
        row = [np.round(v, digits).astype(np.float32) for v, digits in [(x, 5), (pulse, 2), (speed * 60, 1)]]
        rows.append(("a", START + i * SECOND, *row))
    return rows


def order_lines(x, places, turns, per_turn):
    """Amplitudes of the lines of the whole turns, the signal without what a turn's samples cannot hold."""
    n, whole = len(x), int(turns[-1] + 1e-9)
    slowest = (np.diff(turns) / np.diff(places)).min()
    lines = np.fft.rfft(x)
    lines[np.fft.rfftfreq(n) > slowest * per_turn / 2] = 0
    low = np.fft.irfft(lines, n)
    tangents = np.gradient(low)
    spline = interpolate.CubicHermiteSpline(np.arange(n), low, tangents)
    at = np.interp(np.arange(whole * per_turn) / per_turn, turns, places)
    y = spline(at)
    return whole, amplitudes(y)


def orders(how, wanted, per_turn):
    out = []
    for machine, time, x, pulse, rpm in tracked():
        x, pulse, hz = x.astype(float), pulse.astype(float), rpm.astype(float) / 60
        if how == "pulses":
            k = np.flatnonzero((pulse[:-1] <= 2.5) & (pulse[1:] > 2.5))
            places = k + (2.5 - pulse[k]) / (pulse[k + 1] - pulse[k])
            turns = np.arange(len(k), dtype=float)
        else:
            places = np.arange(len(x), dtype=float)
            turns = np.concatenate([[0], np.cumsum((hz[1:] + hz[:-1]) / 2 / RATE)])
        whole, lines = order_lines(x, places, turns, per_turn)
        at = np.arange(len(lines)) / whole
        found = [find_line(at, lines, order, 0.02, 1)[1] for order in wanted]
        out.append((machine, time, whole, *found, lines[at <= 4 + 1e-9], 1 / whole))
    return out


def hilbert():
    """Rows of samples and their Hilbert transforms, of an even and an odd length."""
    rng = np.random.default_rng(3)
    for name, n in [("even", 64), ("odd", 75)]:
        x = rng.normal(size=n)
        pairs = zip(x, signal.hilbert(x).imag)
        write(f"signal_hilbert_{name}", "x,imaginary", pairs)


def tapers():
    names = {"hann": "hann", "blackman": "blackman", "rectangular": "boxcar"}
    columns = [signal.get_window(scipy_name, 33) for scipy_name in names.values()]
    write("signal_tapers", ",".join(names), zip(*columns))


def main():
    rows = waves()
    write("waves", "m,t,w:wave@2000,speed", rows)
    peaks = ",".join(f"w_peak{i}_hz,w_peak{i}" for i in (1, 2, 3))
    found = "m,t,w_centroid,w_spread,w_entropy,w_low_rms,w_low_energy,w_high_rms,w_high_energy,w_mesh_rms,w_mesh_energy"
    header = f"{found},{peaks},w_spectrum:list,w_spectrum_step"
    bands, mesh = [(10, 100), (100, 1000)], [(4.5, 5.5)]
    write("spectrum_hann", header, each(rows, spectrum("hann", 256, 128, bands, mesh, 3, "density")))
    write("spectrum_blackman", header, each(rows, spectrum("blackman", 175, 43, bands, mesh, 3, "amplitude")))
    write("spectrum_rectangular", header, each(rows, spectrum("boxcar", 801, 0, bands, mesh, 3, "density")))
    header = "m,t,w_velocity_rms,w_zone:string"
    write("severity_g", header, each(rows, severity(9806.65)))
    write("severity_inch", header, each(rows, severity(25.4, velocity=True)))
    found = ",".join(f"w_{l}_found:bool,w_{l}_hz,w_{l}_error,w_{l}_ratio,w_{l}_amplitude" for l in ("shocks", "other"))
    header = f"m,t,{found},w_band_low,w_band_high,w_envelope_spectrum:list,w_envelope_spectrum_step"
    write("envelope_band", header, each(rows, envelope((3.7, 5.2), (500, 800), 8)))
    write("envelope_chosen", header, each(rows, envelope((3.7, 5.2), None, 8)))
    header = "m,t,w_quefrency1,w_rahmonic1,w_quefrency2,w_rahmonic2,w_cepstrum:list,w_cepstrum_step"
    write("cepstrum", header, each(rows, cepstrum(0.01, 0.08, 2)))
    write("tracked", "m,t,w:wave@2000,tacho:wave@2000,rpm:wave@2000", tracked())
    header = "m,t,w_turns:int64,w_first,w_half,w_order_spectrum:list,w_order_spectrum_step"
    write("orders_pulses", header, orders("pulses", (1, 3.5), 128))
    write("orders_speed", header, orders("speed", (1, 3.5), 32))
    hilbert()
    tapers()


if __name__ == "__main__":
    main()
