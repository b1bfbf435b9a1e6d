//! Powers of units as UCUM writes them: `mm/s` squared is `mm2/s2`.

use foreline_engine::Unit;

/// `unit` to the power of `n`.
pub(super) fn power(unit: &Unit, n: i32) -> Unit {
    let code = unit.code();
    let raised = raise(code, n);
    Unit::new(&raised.unwrap_or_else(|| {
        // `/` divides by the next factor alone, so a row of equal terms is their product.
        vec![code; usize::try_from(n).unwrap_or(1)].join(".")
    }))
}

/// A term of letters, each perhaps with a whole exponent, with every exponent multiplied by `n`.
fn raise(code: &str, n: i32) -> Option<String> {
    let mut out = String::new();
    for part in code.split_inclusive(['.', '/']) {
        let symbol = part.trim_end_matches(['.', '/']);
        out.push_str(&raise_symbol(symbol, n)?);
        out.push_str(&part[symbol.len()..]);
    }
    Some(out)
}

fn raise_symbol(symbol: &str, n: i32) -> Option<String> {
    if symbol.is_empty() || symbol == "1" {
        return Some(symbol.to_owned());
    }
    let end = symbol.find(|c: char| c.is_ascii_digit() || c == '-').unwrap_or(symbol.len());
    let (name, exponent) = symbol.split_at(end);
    let plain = name.chars().all(|c| c.is_alphabetic() || "[]_%'".contains(c));
    if name.is_empty() || !plain {
        return None;
    }
    let exponent = if exponent.is_empty() { 1 } else { exponent.parse::<i32>().ok()? };
    Some(format!("{name}{}", exponent * n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_multiplied() {
        let cases = [
            ("mm/s", "mm2/s2"),
            ("m/s2", "m2/s4"),
            ("Cel", "Cel2"),
            ("/s", "/s2"),
            ("1", "1"),
            ("kg.m2/s3", "kg2.m4/s6"),
            ("[g]", "[g]2"),
            ("{rpm}", "{rpm}.{rpm}"),
            ("10*3/ul", "10*3/ul.10*3/ul"),
        ];
        for (unit, squared) in cases {
            assert_eq!(power(&Unit::new(unit), 2).code(), squared);
        }
        assert_eq!(power(&Unit::new("mm/s"), 3).code(), "mm3/s3");
    }
}
