//! Rebuilds the reference plugins from source into `plugins/prebuilt`.
//!
//! `onnx` is too large for the repository and for a build that is made in passing: it is built when it is asked for by its
//! name, in a workspace of its own, and git ignores it.
//!
//! Two toolchains can do it: rustup's with the target `wasm32-unknown-unknown`, or Debian's `rustc-web`, which builds
//! the standard library itself. They give other bytes for the same source, so a rebuilt plugin has another digest;
//! the tests of `foreline-plugins` check that it behaves the same.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::outside;

/// The guests, by crate and file name.
const GUESTS: [&str; 6] = ["boosted", "degradation", "forest", "knn", "linear", "pca_t2q"];
/// The folder of those that are built to be compared, below that of what cargo builds.
const REBUILT: &str = "guests-rebuilt";
/// The guest that is built only by its name.
const LARGE: &str = "onnx";
/// A dependency of tract asks for randomness where it can have some; here there is none, and none is drawn.
const NO_RANDOMNESS: &str = "--cfg getrandom_backend=\"unsupported\"";
/// The target of all plugins: no WASI, so that there is nothing to import.
const TARGET: &str = "wasm32-unknown-unknown";
/// Trees gain nothing from it, networks a factor of three; one setting for all guests.
const TARGET_FEATURES: &str = "-Ctarget-feature=+simd128";
/// What Debian's compiler is called, so that it does not hide behind rustup's.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Cargo of the same version.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// The source of its standard library.
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library";

/// What to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A plugin that is built only by its name; without one, all that come with Foreline.
    #[arg(value_parser = [LARGE])]
    name: Option<String>,
    /// Leave those in the repository as they are, and put what was built beside what else cargo builds, where tests compare it
    /// with them.
    #[arg(long, conflicts_with = "name")]
    compare: bool,
    /// Begin a model as `foreline model new` has it, build it and try it as its README says; nothing is kept.
    #[arg(long, conflicts_with_all = ["name", "compare"])]
    template: bool,
}

/// Builds the guests, makes components of them, and writes those that changed with their digests.
///
/// # Errors
/// When no toolchain can build for wasm32, or a build fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = crate::test::workspace();
    // Beside what else is built, so that a clean checkout need not build it anew.
    let folder = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| root.join("target"));
    if options.template {
        return template(&folder);
    }
    if options.name.is_some() {
        let target = folder.join("guest-onnx");
        build(&root, &root.join("plugins/guests/onnx"), &target, NO_RANDOMNESS, true)?;
        write(&root, &target, LARGE)?;
        return Ok(());
    }
    if options.compare {
        let target = folder.join("guests");
        build(&root, &root.join("plugins/guests"), &target, "", true)?;
        for guest in GUESTS {
            let component = built(&target, guest)?;
            let file = folder.join(REBUILT).join(format!("{guest}.wasm"));
            std::fs::create_dir_all(folder.join(REBUILT)).context("a folder for plugins")?;
            std::fs::write(&file, component).with_context(|| file.display().to_string())?;
            writeln!(std::io::stdout(), "{}", file.display())?;
        }
        return Ok(());
    }
    let target = root.join("target/guests");
    build(&root, &root.join("plugins/guests"), &target, "", true)?;
    let mut digests = String::new();
    for guest in GUESTS {
        let digest = write(&root, &target, guest)?;
        writeln!(digests, "{digest}  {guest}.wasm")?;
    }
    // The format of `sha256sum`, so that `sha256sum -c digests.txt` works.
    std::fs::write(root.join("plugins/prebuilt/digests.txt"), digests)?;
    Ok(())
}

/// The component of what was built.
fn built(target: &Path, guest: &str) -> Result<Vec<u8>> {
    let module = target.join(TARGET).join(format!("release/foreline_{guest}.wasm"));
    let module = std::fs::read(&module).with_context(|| module.display().to_string())?;
    componentise(&module).with_context(|| format!("plugin '{guest}'"))
}

/// Puts what was built among the prebuilt ones; its digest.
fn write(root: &Path, target: &Path, guest: &str) -> Result<String> {
    let component = built(target, guest)?;
    let digest: String = Sha256::digest(&component).iter().map(|b| format!("{b:02x}")).collect();
    let file = root.join("plugins/prebuilt").join(format!("{guest}.wasm"));
    let same = std::fs::read(&file).is_ok_and(|old| old == component);
    let what = if same { "unchanged" } else { "rewritten" };
    writeln!(std::io::stdout(), "{guest}: {what}, {} bytes, {digest}", component.len())?;
    std::fs::write(&file, &component).with_context(|| file.display().to_string())?;
    Ok(digest)
}

/// A component of a core module in which `wit-bindgen` has noted the world.
fn componentise(module: &[u8]) -> Result<Vec<u8>> {
    wit_component::ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// What an author does first: a model of the template is built, checked and tested with the command that was built last.
fn template(folder: &Path) -> Result<()> {
    let command = folder.join("debug/foreline");
    let own = folder.join("template");
    // What an earlier run built is kept, what it began is not.
    let model = own.join("drift");
    if model.exists() {
        std::fs::remove_dir_all(&model).with_context(|| model.display().to_string())?;
    }
    std::fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
    let foreline = |arguments: &[&str]| {
        let status = Command::new(&command).args(arguments).current_dir(&own).status();
        match status.with_context(|| command.display().to_string())? {
            status if status.success() => Ok(()),
            status => bail!("`foreline {}` ended with {status}", arguments.join(" ")),
        }
    };
    foreline(&["model", "new", "drift"])?;
    let target = own.join("target");
    // It comes without versions of its dependencies; they are looked up.
    build(folder, &model, &target, "", false)?;
    let module = target.join(TARGET).join("release/drift.wasm");
    let module = module.to_str().context("the folder's name is no text")?;
    foreline(&["model", "check", module, "-o", "drift.wasm"])?;
    foreline(&["model", "test", "drift.wasm", "--cases", "drift/cases.yaml"])?;
    foreline(&[
        "model",
        "pack",
        "drift.wasm",
        "--card",
        "drift/card.yaml",
        "-o",
        "drift.model.wasm",
    ])
}

fn build(root: &Path, guests: &Path, target: &Path, flags: &str, is_locked: bool) -> Result<()> {
    // The large guest is not kept, so its bytes need not be the same everywhere; and a checkout elsewhere must not build all
    // of its dependencies anew, as it does when the flags differ.
    let keeps_bytes = flags.is_empty();
    let flags = format!("{} {flags}", rustflags(keeps_bytes.then_some(root)));
    let mut cargo = if rustup_has_target() { with_rustup(&flags) } else { with_debian(&flags)? };
    let status = cargo
        .args(["build", "--release", "--target", TARGET])
        .args(is_locked.then_some("--locked"))
        .env("CARGO_TARGET_DIR", target)
        .current_dir(guests)
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("the guests cannot be built: cargo ended with {status}");
    }
    Ok(())
}

/// Panic messages name source files; where this checkout (`root`) and Cargo's folder lie must not be part of a plugin.
fn rustflags(root: Option<&Path>) -> String {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cargo = home("CARGO_HOME").or_else(|| home("HOME").map(|home| home.join(".cargo")));
    let mut flags = TARGET_FEATURES.to_owned();
    if let Some(root) = root {
        let _ = write!(flags, " --remap-path-prefix={}=foreline", root.display());
    }
    if let Some(cargo) = cargo {
        let registry = cargo.join("registry/src");
        // Cargo's folder of a registry has a hash in its name.
        for entry in std::fs::read_dir(registry).into_iter().flatten().flatten() {
            let _ = write!(flags, " --remap-path-prefix={}=crates", entry.path().display());
        }
    }
    flags
}

/// Whether the compiler at hand has a standard library for the target.
fn rustup_has_target() -> bool {
    sysroot().is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn sysroot() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn with_rustup(flags: &str) -> Command {
    let mut cargo = outside::command("cargo");
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags);
    cargo
}

/// Debian's toolchain, which is allowed to build the standard library for the target.
fn with_debian(flags: &str) -> Result<Command> {
    let needed = [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_STD];
    let there = needed.iter().all(|path| Path::new(path).exists());
    let (true, Some(linker)) = (there, linker()) else {
        bail!(
            "nothing here builds for {TARGET}; run `rustup target add {TARGET}`, or on Debian `apt install rustc-web cargo-web rust-web-src lld`"
        );
    };
    let mut cargo = outside::command(DEBIAN_CARGO);
    // Forgets what the cargo that runs this task told it about itself.
    for name in ["CARGO", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo
        .arg("-Zbuild-std=std,panic_abort")
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            format!("-Clinker-flavor=wasm-ld {flags}"),
        );
    Ok(cargo)
}

/// A linker for WebAssembly: the one that comes with every Rust, else LLVM's.
fn linker() -> Option<PathBuf> {
    let host = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", std::env::consts::ARCH);
    let rusts = sysroot().map(|root| root.join(host));
    let others = ["/usr/bin/rust-lld", "/usr/bin/wasm-ld"].map(PathBuf::from);
    rusts.into_iter().chain(others).find(|linker| linker.is_file())
}
