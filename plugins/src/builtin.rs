//! The plugins that come with Foreline, and what family a plugin reads.

use foreline_sdk::weights::Family;
use wasmparser::{Parser, Payload};

/// What a plugin path starts with when it names one of ours: `builtin:forest`.
pub(crate) const BUILTIN_PREFIX: &str = "builtin:";

/// The custom section in which the SDK writes the family's number, two bytes, little endian.
const FAMILY_SECTION: &str = "foreline:family";

const BUILTINS: &[(&str, &[u8])] = &[
    ("boosted", include_bytes!("../prebuilt/boosted.wasm")),
    ("degradation", include_bytes!("../prebuilt/degradation.wasm")),
    ("forest", include_bytes!("../prebuilt/forest.wasm")),
    ("knn", include_bytes!("../prebuilt/knn.wasm")),
    ("linear", include_bytes!("../prebuilt/linear.wasm")),
    ("pca_t2q", include_bytes!("../prebuilt/pca_t2q.wasm")),
];

/// The component of a plugin that comes with Foreline. `name` may start with `builtin:`.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    let name = name.strip_prefix(BUILTIN_PREFIX).unwrap_or(name);
    BUILTINS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// The names that [`builtin`] knows, with the prefix.
pub(crate) fn builtin_names() -> impl Iterator<Item = String> {
    BUILTINS.iter().map(|(name, _)| format!("{BUILTIN_PREFIX}{name}"))
}

/// Whether these are the bytes of a plugin that comes with Foreline.
pub(crate) fn is_builtin(plugin: &[u8]) -> bool {
    BUILTINS.iter().any(|(_, bytes)| *bytes == plugin)
}

/// The family of weights that a plugin reads, as its SDK noted it in the component; `None` where it does not say.
/// No code of the plugin runs.
#[must_use]
pub fn family_of(plugin: &[u8]) -> Option<Family> {
    let sections = Parser::new(0).parse_all(plugin).map_while(Result::ok);
    let code = sections.into_iter().find_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == FAMILY_SECTION => {
            section.data().first_chunk::<2>().map(|code| u16::from_le_bytes(*code))
        }
        _ => None,
    })?;
    Family::ALL.into_iter().find(|family| family.code() == code)
}
