//! Numbers and truth values from the bytes of a field.
//!
//! A number may be surrounded by blanks. Floats are correctly rounded: short decimals by one exact division,
//! everything else by the Eisel-Lemire method of `fast-float2`.

use fast_float2::FastFloat;

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Whole numbers up to here are doubles.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// So many digits fit in 64 bits, whatever they are.
const DIGITS_MAX: usize = 19;

/// The double that `text` writes; `decimal` is the decimal point. Infinities and NaN are values here.
pub(crate) fn float(text: &[u8], decimal: u8, scratch: &mut Vec<u8>) -> Option<f64> {
    short_float(text, decimal).or_else(|| any_float(text, decimal, scratch))
}

/// Reads sign, digits and decimals when their whole number and the power of ten are both exact doubles:
/// the one division is then correctly rounded.
#[inline]
fn short_float(text: &[u8], decimal: u8) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut n_digits = 0;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa * 10 + u64::from(digit);
            n_digits += 1;
        } else if byte == decimal && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    if n_digits == 0 || mantissa > EXACT_INTEGER_MAX {
        return None;
    }
    let decimals = point.map_or(0, |at| digits.len() - at - 1);
    #[expect(clippy::cast_precision_loss, reason = "whole numbers up to 2^53 are doubles")]
    let value = mantissa as f64 / EXACT_POWERS[decimals];
    Some(if negative { -value } else { value })
}

#[cold]
fn any_float(text: &[u8], decimal: u8, scratch: &mut Vec<u8>) -> Option<f64> {
    parsed(text, decimal, scratch)
}

/// The sample of a waveform that `text` writes: rounded once, and not to a double before. Infinities and NaN are values
/// here.
#[inline]
pub(crate) fn sample(text: &[u8], decimal: u8, scratch: &mut Vec<u8>) -> Option<f32> {
    parsed(text, decimal, scratch)
}

fn parsed<F: FastFloat>(text: &[u8], decimal: u8, scratch: &mut Vec<u8>) -> Option<F> {
    let text = trim(text);
    let text = text.strip_prefix(b"+").filter(|rest| !rest.starts_with(b"-")).unwrap_or(text);
    if decimal == b'.' {
        return fast_float2::parse(text).ok();
    }
    if text.contains(&b'.') {
        return None;
    }
    scratch.clear();
    scratch.extend(text.iter().map(|&b| if b == decimal { b'.' } else { b }));
    fast_float2::parse(&*scratch).ok()
}

/// The whole number that `text` writes; decimals must be zeros, as in `12.0`.
pub(crate) fn int(text: &[u8], decimal: u8) -> Option<i64> {
    plain_int(text).or_else(|| {
        let text = trim(text);
        let text = text.strip_prefix(b"+").filter(|rest| !rest.starts_with(b"-")).unwrap_or(text);
        match text.iter().position(|&b| b == decimal) {
            None => plain_int(text),
            Some(point) => {
                let zeros = text[point + 1..].iter().all(|&b| b == b'0');
                zeros.then(|| plain_int(&text[..point])).flatten()
            }
        }
    })
}

#[inline]
fn plain_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut value = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// `true`, `t`, `yes`, `y`, `on`, `1` and their opposites, in any case.
pub(crate) fn truth(text: &[u8]) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| w.as_bytes().eq_ignore_ascii_case(trim(text)));
    match () {
        () if is(&["true", "t", "yes", "y", "on", "1"]) => Some(true),
        () if is(&["false", "f", "no", "n", "off", "0"]) => Some(false),
        () => None,
    }
}

/// `text` without the spaces and tabs around it.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<f64> {
        float(text.as_bytes(), b'.', &mut Vec::new())
    }

    #[test]
    fn floats() {
        assert_eq!(parse("0.55"), Some(0.55));
        assert_eq!(parse("-12"), Some(-12.0));
        assert_eq!(parse("+1.5e-3"), Some(0.0015));
        assert_eq!(parse(" .5\t"), Some(0.5));
        assert_eq!(parse("5."), Some(5.0));
        assert_eq!(parse("-0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
        assert_eq!(parse("9007199254740993"), Some(9_007_199_254_740_992.0));
        assert_eq!(parse("1e999"), Some(f64::INFINITY));
        assert!(parse("nan").is_some_and(f64::is_nan));
        for bad in ["", "-", ".", "1,5", "1.2.3", "0x10", "1 2", "--1", "+-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_decimal_comma() {
        let parse = |text: &str| float(text.as_bytes(), b',', &mut Vec::new());
        assert_eq!(parse("3,305"), Some(3.305));
        assert_eq!(parse("3,305e2"), Some(330.5));
        assert_eq!(parse("1.234,5"), None);
        assert_eq!(parse("3.305"), None);
    }

    #[test]
    fn samples_are_rounded_once() {
        let sample = |text: &str, decimal| sample(text.as_bytes(), decimal, &mut Vec::new());
        assert_eq!(sample("0.1", b'.'), Some(0.1));
        assert_eq!(sample(" -1,5e-3", b','), Some(-0.0015));
        // Halfway between two samples but for a digit that a double does not keep.
        assert_eq!(sample("1.00000005960464477539062500001", b'.'), Some(1.000_000_1));
        assert_eq!(sample("1e39", b'.'), Some(f32::INFINITY));
        assert_eq!(sample("1.5", b','), None);
        assert_eq!(sample("x", b'.'), None);
    }

    #[test]
    fn ints() {
        let parse = |text: &str| int(text.as_bytes(), b'.');
        assert_eq!(parse("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse("9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse(" +12.0 "), Some(12));
        for bad in ["", "-", "9223372036854775808", "12.5", "1e3", "99999999999999999999", "x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn truths() {
        assert_eq!(truth(b" Yes"), Some(true));
        assert_eq!(truth(b"0"), Some(false));
        assert_eq!(truth(b"2"), None);
    }

    proptest! {
        #[test]
        fn floats_are_correctly_rounded(mantissa in 0_u64..=u64::MAX, shift in 0_u32..64, decimals in 0_usize..20) {
            let digits = (mantissa >> shift).to_string();
            let point = digits.len().saturating_sub(decimals);
            let text = format!("{}.{}", &digits[..point], &digits[point..]);
            prop_assert_eq!(parse(&text), text.parse().ok());
        }
    }
}
