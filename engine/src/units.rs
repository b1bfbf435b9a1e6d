//! Which units of measure can be converted into one another, and how.
//!
//! What a reader would get wrong: `g` is UCUM's gram; the acceleration is `[g]`. Numbers are held as fractions whose
//! parts are exact, so that `[in_i]/s` to `mm/s` is a multiplication by 25.4 and by nothing near it. Temperatures are
//! points on a scale, so they have an offset; a *difference* of temperatures is converted by the factor alone, which
//! is not done here.

use crate::schema::Unit;

/// What a unit measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Length,
    Velocity,
    Acceleration,
    Temperature,
    Pressure,
    Frequency,
    Time,
    Mass,
    Force,
    Torque,
    Power,
    Energy,
    Voltage,
    Current,
    Resistance,
    Angle,
    Volume,
    VolumeFlow,
    MassFlow,
    Ratio,
}

/// A unit of the table. `over / times` of it are one base unit of the dimension; `zero` is its reading where the base
/// unit reads 0 on a scale all of the dimension share: the freezing point of water for temperatures, else 0.
struct Measure {
    code: &'static str,
    dimension: Dimension,
    times: f64,
    over: f64,
    zero: f64,
}

const fn unit(code: &'static str, dimension: Dimension, times: f64, over: f64) -> Measure {
    Measure { code, dimension, times, over, zero: 0.0 }
}

const fn degrees(code: &'static str, times: f64, over: f64, zero: f64) -> Measure {
    Measure { code, dimension: Dimension::Temperature, times, over, zero }
}

/// Standard gravity, m/s2.
const GRAVITY: f64 = 9.80665;
/// Newtons of a pound-force: 0.45359237 kg times standard gravity.
const POUND_FORCE: f64 = 4.448_221_615_260_5;

/// The units that can be converted, by what they measure.
const MEASURES: &[Measure] = &[
    unit("m", Dimension::Length, 1.0, 1.0),
    unit("km", Dimension::Length, 1e3, 1.0),
    unit("cm", Dimension::Length, 1.0, 1e2),
    unit("mm", Dimension::Length, 1.0, 1e3),
    unit("um", Dimension::Length, 1.0, 1e6),
    unit("nm", Dimension::Length, 1.0, 1e9),
    unit("[in_i]", Dimension::Length, 254.0, 1e4),
    unit("[ft_i]", Dimension::Length, 3048.0, 1e4),
    unit("[mi_i]", Dimension::Length, 1_609_344.0, 1e3),
    unit("[mil_i]", Dimension::Length, 254.0, 1e7),
    unit("m/s", Dimension::Velocity, 1.0, 1.0),
    unit("cm/s", Dimension::Velocity, 1.0, 1e2),
    unit("mm/s", Dimension::Velocity, 1.0, 1e3),
    unit("um/s", Dimension::Velocity, 1.0, 1e6),
    unit("m/min", Dimension::Velocity, 1.0, 60.0),
    unit("km/h", Dimension::Velocity, 1e3, 3600.0),
    unit("[in_i]/s", Dimension::Velocity, 254.0, 1e4),
    unit("[ft_i]/s", Dimension::Velocity, 3048.0, 1e4),
    unit("[ft_i]/min", Dimension::Velocity, 3048.0, 6e5),
    unit("[mi_i]/h", Dimension::Velocity, 1_609_344.0, 3.6e6),
    unit("[kn_i]", Dimension::Velocity, 1852.0, 3600.0),
    unit("m/s2", Dimension::Acceleration, 1.0, 1.0),
    unit("mm/s2", Dimension::Acceleration, 1.0, 1e3),
    unit("cm/s2", Dimension::Acceleration, 1.0, 1e2),
    unit("[g]", Dimension::Acceleration, GRAVITY, 1.0),
    unit("m[g]", Dimension::Acceleration, GRAVITY, 1e3),
    unit("[in_i]/s2", Dimension::Acceleration, 254.0, 1e4),
    unit("[ft_i]/s2", Dimension::Acceleration, 3048.0, 1e4),
    degrees("K", 1.0, 1.0, 273.15),
    degrees("Cel", 1.0, 1.0, 0.0),
    degrees("[degF]", 5.0, 9.0, 32.0),
    degrees("[degR]", 5.0, 9.0, 491.67),
    unit("Pa", Dimension::Pressure, 1.0, 1.0),
    unit("mPa", Dimension::Pressure, 1.0, 1e3),
    unit("hPa", Dimension::Pressure, 1e2, 1.0),
    unit("kPa", Dimension::Pressure, 1e3, 1.0),
    unit("MPa", Dimension::Pressure, 1e6, 1.0),
    unit("bar", Dimension::Pressure, 1e5, 1.0),
    unit("mbar", Dimension::Pressure, 1e2, 1.0),
    unit("ubar", Dimension::Pressure, 1.0, 10.0),
    unit("atm", Dimension::Pressure, 101_325.0, 1.0),
    unit("Torr", Dimension::Pressure, 101_325.0, 760.0),
    unit("mTorr", Dimension::Pressure, 101_325.0, 760e3),
    unit("[psi]", Dimension::Pressure, POUND_FORCE * 1e8, 64_516.0),
    unit("Hz", Dimension::Frequency, 1.0, 1.0),
    unit("kHz", Dimension::Frequency, 1e3, 1.0),
    unit("MHz", Dimension::Frequency, 1e6, 1.0),
    unit("mHz", Dimension::Frequency, 1.0, 1e3),
    unit("{rpm}", Dimension::Frequency, 1.0, 60.0),
    unit("/min", Dimension::Frequency, 1.0, 60.0),
    unit("/s", Dimension::Frequency, 1.0, 1.0),
    unit("rad/s", Dimension::Frequency, 1.0, std::f64::consts::TAU),
    unit("deg/s", Dimension::Frequency, 1.0, 360.0),
    unit("s", Dimension::Time, 1.0, 1.0),
    unit("ms", Dimension::Time, 1.0, 1e3),
    unit("us", Dimension::Time, 1.0, 1e6),
    unit("ns", Dimension::Time, 1.0, 1e9),
    unit("min", Dimension::Time, 60.0, 1.0),
    unit("h", Dimension::Time, 3600.0, 1.0),
    unit("d", Dimension::Time, 86_400.0, 1.0),
    unit("wk", Dimension::Time, 604_800.0, 1.0),
    unit("kg", Dimension::Mass, 1.0, 1.0),
    unit("g", Dimension::Mass, 1.0, 1e3),
    unit("mg", Dimension::Mass, 1.0, 1e6),
    unit("t", Dimension::Mass, 1e3, 1.0),
    unit("[lb_av]", Dimension::Mass, 45_359_237.0, 1e8),
    unit("N", Dimension::Force, 1.0, 1.0),
    unit("kN", Dimension::Force, 1e3, 1.0),
    unit("mN", Dimension::Force, 1.0, 1e3),
    unit("[lbf_av]", Dimension::Force, POUND_FORCE, 1.0),
    unit("N.m", Dimension::Torque, 1.0, 1.0),
    unit("kN.m", Dimension::Torque, 1e3, 1.0),
    unit("[lbf_av].[ft_i]", Dimension::Torque, POUND_FORCE * 3048.0, 1e4),
    unit("W", Dimension::Power, 1.0, 1.0),
    unit("mW", Dimension::Power, 1.0, 1e3),
    unit("kW", Dimension::Power, 1e3, 1.0),
    unit("MW", Dimension::Power, 1e6, 1.0),
    unit("[HP]", Dimension::Power, POUND_FORCE * 3048.0 * 550.0, 1e4),
    unit("J", Dimension::Energy, 1.0, 1.0),
    unit("kJ", Dimension::Energy, 1e3, 1.0),
    unit("MJ", Dimension::Energy, 1e6, 1.0),
    unit("W.h", Dimension::Energy, 3600.0, 1.0),
    unit("kW.h", Dimension::Energy, 3.6e6, 1.0),
    unit("MW.h", Dimension::Energy, 3.6e9, 1.0),
    unit("V", Dimension::Voltage, 1.0, 1.0),
    unit("mV", Dimension::Voltage, 1.0, 1e3),
    unit("uV", Dimension::Voltage, 1.0, 1e6),
    unit("kV", Dimension::Voltage, 1e3, 1.0),
    unit("A", Dimension::Current, 1.0, 1.0),
    unit("mA", Dimension::Current, 1.0, 1e3),
    unit("uA", Dimension::Current, 1.0, 1e6),
    unit("kA", Dimension::Current, 1e3, 1.0),
    unit("Ohm", Dimension::Resistance, 1.0, 1.0),
    unit("kOhm", Dimension::Resistance, 1e3, 1.0),
    unit("MOhm", Dimension::Resistance, 1e6, 1.0),
    unit("rad", Dimension::Angle, 1.0, std::f64::consts::TAU),
    unit("deg", Dimension::Angle, 1.0, 360.0),
    unit("{rev}", Dimension::Angle, 1.0, 1.0),
    unit("m3", Dimension::Volume, 1.0, 1.0),
    unit("l", Dimension::Volume, 1.0, 1e3),
    unit("ml", Dimension::Volume, 1.0, 1e6),
    unit("[gal_us]", Dimension::Volume, 3_785_411_784.0, 1e12),
    unit("m3/s", Dimension::VolumeFlow, 1.0, 1.0),
    unit("m3/h", Dimension::VolumeFlow, 1.0, 3600.0),
    unit("l/s", Dimension::VolumeFlow, 1.0, 1e3),
    unit("l/min", Dimension::VolumeFlow, 1.0, 6e4),
    unit("l/h", Dimension::VolumeFlow, 1.0, 3.6e6),
    unit("ml/min", Dimension::VolumeFlow, 1.0, 6e7),
    unit("[gal_us]/min", Dimension::VolumeFlow, 3_785_411_784.0, 6e13),
    unit("kg/s", Dimension::MassFlow, 1.0, 1.0),
    unit("kg/min", Dimension::MassFlow, 1.0, 60.0),
    unit("kg/h", Dimension::MassFlow, 1.0, 3600.0),
    unit("g/s", Dimension::MassFlow, 1.0, 1e3),
    unit("t/h", Dimension::MassFlow, 1e3, 3600.0),
    unit("1", Dimension::Ratio, 1.0, 1.0),
    unit("%", Dimension::Ratio, 1.0, 1e2),
    unit("[ppm]", Dimension::Ratio, 1.0, 1e6),
    unit("[ppb]", Dimension::Ratio, 1.0, 1e9),
];

/// How numbers in one unit become numbers in another: `(x - zero) * times / over + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    zero: f64,
    times: f64,
    over: f64,
    shift: f64,
}

impl Conversion {
    /// The number in the other unit.
    #[must_use]
    pub fn apply(&self, x: f64) -> f64 {
        (x - self.zero) * self.times / self.over + self.shift
    }
}

/// Why there is no conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConversion {
    /// The unit to convert from is not in the table.
    UnknownFrom,
    /// The unit to convert to is not in the table.
    UnknownTo,
    /// They do not measure the same.
    Incompatible,
}

impl Unit {
    fn measure(&self) -> Option<&'static Measure> {
        MEASURES.iter().find(|m| m.code == self.code())
    }

    /// How numbers in this unit become numbers in `to`.
    ///
    /// # Errors
    /// When one of them is not known or they do not measure the same.
    pub fn conversion(&self, to: &Unit) -> Result<Conversion, NoConversion> {
        let from = self.measure().ok_or(NoConversion::UnknownFrom)?;
        let to = to.measure().ok_or(NoConversion::UnknownTo)?;
        if from.dimension != to.dimension {
            return Err(NoConversion::Incompatible);
        }
        let (times, over) = reduced(from.times * to.over, from.over * to.times);
        Ok(Conversion { zero: from.zero, times, over, shift: to.zero })
    }

    /// The codes that can be converted into this unit; all that are known where it is not known itself.
    #[must_use]
    pub fn alike(&self) -> Vec<&'static str> {
        let dimension = self.measure().map(|m| m.dimension);
        let fits = |m: &&Measure| dimension.is_none_or(|d| d == m.dimension);
        MEASURES.iter().filter(fits).map(|m| m.code).collect()
    }

    /// Whether a number means the same in both: the codes are equal, or two spellings of one unit.
    #[must_use]
    pub fn is_same(&self, other: &Unit) -> bool {
        let same = |c: Conversion| {
            c.times.total_cmp(&c.over).is_eq() && c.zero.total_cmp(&c.shift).is_eq()
        };
        self == other || self.conversion(other).is_ok_and(same)
    }
}

/// The same fraction with the parts as small as a division can make them, so that one of them is mostly 1.
fn reduced(times: f64, over: f64) -> (f64, f64) {
    if times % over == 0.0 {
        return (times / over, 1.0);
    }
    if over % times == 0.0 {
        return (1.0, over / times);
    }
    (times, over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(x: f64, from: &str, to: &str) -> f64 {
        Unit::new(from).conversion(&Unit::new(to)).unwrap().apply(x)
    }

    #[test]
    fn agrees_with_the_definitions() {
        let cases = [
            (1.0, "in/s", "mm/s", 25.4),
            (25.4, "mm/s", "in/s", 1.0),
            (1.0, "[g]", "m/s2", 9.80665),
            (0.0, "degC", "degF", 32.0),
            (100.0, "degC", "degF", 212.0),
            (212.0, "degF", "degC", 100.0),
            (-40.0, "degF", "degC", -40.0),
            (25.0, "degC", "K", 298.15),
            (32.0, "degF", "K", 273.15),
            (1.0, "bar", "mbar", 1000.0),
            (1.0, "bar", "Pa", 1e5),
            (1.0, "psi", "Pa", 6_894.757_293_168_361),
            (14.695_948_775_513_45, "psi", "Pa", 101_325.0),
            (760.0, "Torr", "Pa", 101_325.0),
            (1500.0, "rpm", "Hz", 25.0),
            (25.0, "Hz", "rpm", 1500.0),
            (36.0, "km/h", "m/s", 10.0),
            (1.0, "mil", "um", 25.4),
            (1.0, "hp", "W", 745.699_871_582_270_2),
            (2.0, "h", "min", 120.0),
            (50.0, "%", "1", 0.5),
        ];
        for (x, from, to, want) in cases {
            let got = convert(x, from, to);
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{x} {from} is {got} {to}");
        }
    }

    #[test]
    fn every_unit_converts_there_and_back() {
        for one in MEASURES {
            for other in MEASURES.iter().filter(|o| o.dimension == one.dimension) {
                let back = convert(convert(17.25, one.code, other.code), other.code, one.code);
                assert!((back - 17.25).abs() < 1e-11, "{} {} {back}", one.code, other.code);
            }
            assert_eq!(MEASURES.iter().filter(|m| m.code == one.code).count(), 1, "{}", one.code);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_apart() {
        let no = |a: &str, b: &str| Unit::new(a).conversion(&Unit::new(b)).unwrap_err();
        assert_eq!(no("mm/s", "[g]"), NoConversion::Incompatible);
        assert_eq!(no("furlong", "m"), NoConversion::UnknownFrom);
        assert_eq!(no("m", "furlong"), NoConversion::UnknownTo);
        assert!(Unit::new("rpm").is_same(&Unit::new("/min")));
        assert!(!Unit::new("K").is_same(&Unit::new("Cel")));
        assert!(!Unit::new("K").is_same(&Unit::new("[degR]")));
        assert!(
            Unit::new("x").is_same(&Unit::new("x")) && !Unit::new("x").is_same(&Unit::new("y"))
        );
        assert_eq!(Unit::new("g").alike(), ["kg", "g", "mg", "t", "[lb_av]"]);
    }
}
