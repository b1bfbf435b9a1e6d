//! The search for lines in the envelope spectrum of a waveform.

use crate::signal::bearing::{Line, Search};
use crate::signal::envelope::{Band, Envelope};
use crate::signal::kurtogram::Kurtogram;
use crate::signal::shape::lines_in;
use crate::signal::taper::Taper;
use crate::signal::{count, place};
use crate::waveforms::{Analysis, Found, Refusal, TOO_SHORT, Wave, at_least};

/// Lines that the background must reach to at either side for its median to mean anything.
const BACKGROUND_LINES: f64 = 8.0;

/// How many times the highest expected line a chosen band is wide at least, so that sidebands of its carrier pass.
const BAND_WIDTH: f64 = 3.0;

/// What is looked for, and how.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) rate: f64,
    pub(super) orders: Vec<f64>,
    pub(super) band: Option<[f64; 2]>,
    pub(super) search: Search,
    pub(super) threshold: f64,
    pub(super) harmonics: usize,
    pub(super) sidebands: usize,
    pub(super) taper: Taper,
    pub(super) keep_hz: Option<f64>,
}

impl Settings {
    /// How many findings there are of each line.
    fn columns(&self) -> usize {
        let more = [self.harmonics, self.sidebands, self.harmonics + self.sidebands];
        5 + more.iter().filter(|&&n| n > 0).count()
    }
}

/// The analysis.
#[derive(Debug)]
pub(super) struct Lines {
    settings: Settings,
    envelope: Envelope,
    kurtogram: Kurtogram,
    around: Vec<f64>,
}

impl Lines {
    pub(super) fn new(settings: Settings) -> Self {
        let (envelope, kurtogram) = (Envelope::new(settings.taper), Kurtogram::default());
        Lines { settings, envelope, kurtogram, around: Vec::new() }
    }

    /// The band whose envelope is taken.
    fn band(&mut self, wave: &Wave<'_>) -> Result<Band, Refusal> {
        if let Some([low, high]) = self.settings.band {
            return Ok(Band { low, high });
        }
        let fix = "send longer ones, or give the 'band'";
        at_least(wave.samples.len(), Kurtogram::MIN_SAMPLES, fix)?;
        let highest = self.settings.orders.iter().copied().fold(0.0, f64::max);
        let width = BAND_WIDTH * highest * wave.speed_hz.unwrap_or(0.0);
        let choice = self.kurtogram.choose(wave.samples, self.settings.rate, width);
        // Samples that do not move have no band; any shows that there is nothing in it.
        let all = Band { low: 0.0, high: self.settings.rate / 2.0 };
        Ok(choice.map_or(all, |choice| choice.band))
    }
}

impl Analysis for Lines {
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal> {
        let (n, rate) = (wave.samples.len(), self.settings.rate);
        let wanted = BACKGROUND_LINES * rate / self.settings.search.background_hz;
        at_least(n, place(wanted.ceil()).max(2), "send longer ones, or widen 'background'")?;
        let band = self.band(wave)?;
        let step = rate / count(n);
        let settings = &self.settings;
        let lines = self.envelope.spectrum(wave.samples, rate, band);
        if lines.iter().any(|line| !line.is_finite()) {
            return Err((TOO_SHORT, "the envelope has no spectrum".to_owned()));
        }
        for &order in &settings.orders {
            let spectrum = Spectrum { settings, lines, step, speed_hz: wave.speed_hz };
            spectrum.look(order, &mut self.around, found);
        }
        found.extend([band.low, band.high].map(Found::Number));
        if let Some(keep_hz) = settings.keep_hz {
            let kept = lines_in(0.0, keep_hz + step / 2.0, step, lines.len());
            found.push(Found::List(lines[kept].to_vec()));
            found.push(Found::Number(step));
        }
        Ok(())
    }
}

/// An envelope spectrum and what is looked for in it.
struct Spectrum<'a> {
    settings: &'a Settings,
    lines: &'a [f64],
    step: f64,
    speed_hz: Option<f64>,
}

impl Spectrum<'_> {
    /// The sum of the squares of all lines but that at 0.
    fn energy(&self) -> f64 {
        self.lines.iter().skip(1).map(|line| line * line).sum()
    }

    /// Appends what is found of the line at `order`.
    fn look(&self, order: f64, around: &mut Vec<f64>, found: &mut Vec<Found>) {
        let before = found.len();
        let Settings { search, threshold, harmonics, sidebands, .. } = self.settings;
        let expected = self.speed_hz.map(|hz| order * hz);
        let line = expected.and_then(|hz| search.find(self.lines, self.step, hz, around));
        if let (Some(expected), Some(line)) = (expected, line) {
            let is_found = line.ratio > *threshold;
            found.push(Found::Flag(is_found));
            let only_found = |x| if is_found { Found::Number(x) } else { Found::Null };
            found.push(only_found(line.hz));
            found.push(only_found(line.hz / expected - 1.0));
            found.extend([line.ratio, line.amplitude].map(Found::Number));
            let mut energy = line.amplitude * line.amplitude;
            if *harmonics > 0 {
                let places = (2..=*harmonics + 1).map(|k| count(k) * line.hz);
                found.push(self.family(line, places, around, &mut energy));
            }
            if *sidebands > 0 {
                let apart = self.speed_hz.unwrap_or(f64::NAN);
                let each = (1..=*sidebands).flat_map(|k| [count(k) * apart, -count(k) * apart]);
                let places = each.map(|d| line.hz + d);
                found.push(self.family(line, places, around, &mut energy));
            }
            if *harmonics + *sidebands > 0 {
                found.push(only_found(energy / self.energy()));
            }
        }
        let columns = self.settings.columns();
        found.resize(before + columns, Found::Null);
    }

    /// How many lines are found at `places`, where `line` itself was found; looked for as near as that one is. Their
    /// energy is added to `energy`.
    fn family(
        &self,
        line: Line,
        places: impl Iterator<Item = f64>,
        around: &mut Vec<f64>,
        energy: &mut f64,
    ) -> Found {
        if line.ratio <= self.settings.threshold {
            return Found::Count(0);
        }
        // The line is known to the spectrum's resolution, and so its multiples are to so many lines.
        let near = |hz: f64| {
            let tolerance = (self.step * (hz / line.hz).max(1.0) / hz).min(0.2);
            let search = Search { tolerance, ..self.settings.search };
            search.find(self.lines, self.step, hz, around)
        };
        let strong = |l: &Line| l.ratio > self.settings.threshold;
        let mut n = 0;
        for other in places.filter(|&hz| hz > self.step).filter_map(near).filter(strong) {
            n += 1;
            *energy += other.amplitude * other.amplitude;
        }
        Found::Count(n)
    }
}
