//! The name that was most likely meant.

/// The name of `known` that `name` is a slip of, if one is close enough: a third of its letters may differ.
pub(crate) fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let allowed = (lower.chars().count().div_ceil(3)).max(1);
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), *k))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["ema", "window", "moving_average", "filter"];
        for (name, meant) in [
            ("windw", Some("window")),
            ("Window", Some("window")),
            ("moving_avrage", Some("moving_average")),
            ("fitler", Some("filter")),
            ("ewma", Some("ema")),
            ("kalman", None),
        ] {
            assert_eq!(closest(name, &known), meant, "{name}");
        }
    }
}
