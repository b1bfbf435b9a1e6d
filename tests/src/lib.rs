//! What the tests of the whole system share: where the repository is, where recorded data may be, what lies in a sink.

pub mod evil;
pub mod lake;
pub mod live;
pub mod torture;

use std::path::{Path, PathBuf};

/// The variable that names the folder of recorded data.
pub const DATA: &str = "FORELINE_DATA";

/// The root of the repository in which the tests run.
///
/// It is asked for at run time: checkouts that share a target folder share what is compiled, not where they are.
///
/// # Panics
/// When the tests are not run by cargo.
#[must_use]
pub fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    Path::new(&own).parent().expect("this crate lies below the root").to_owned()
}

/// A file or folder of recorded data, which is too large for the repository; `None`, said loudly, where it is not
/// there. It is looked for in the folder that [`DATA`] names, else in `shared/data` beside the repository.
///
/// ```
/// let Some(cmapss) = foreline_tests::data("no/such/recording") else { return };
/// # unreachable!("{}", cmapss.display());
/// ```
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that is skipped must say so")]
pub fn data(path: &str) -> Option<PathBuf> {
    let named = std::env::var_os(DATA).map(PathBuf::from);
    let found = named.unwrap_or_else(|| root().join("../shared/data")).join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: '{path}' is not there ({DATA} names the folder of recorded data)");
    None
}
