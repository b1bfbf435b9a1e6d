//! Compilation in a child process.
//!
//! A few kilobytes of WebAssembly can keep a compiler busy for minutes or take gigabytes, and the compiler may panic.
//! A child with limits of its own takes that risk instead of the pipeline.
//!
//! Who is the child: the program in `FORELINE_COMPILE_CHILD` if that is set; else this program if it is `foreline`; else
//! a `foreline` or `foreline-compile-plugin` beside it or one folder up, which is where Cargo puts them for tests. It is
//! started with `compile-plugin`, gets the component on stdin and answers with the artefact on stdout. Where there is
//! none, only the plugins that come with Foreline are compiled, in this process.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use wasmtime::Engine;

use super::admit::{AdmitError, MAX_PLUGIN_BYTES};
use super::settings::{self, Setup};
use crate::builtin::is_builtin;

/// The hidden subcommand of `foreline` that compiles one plugin.
pub const COMPILE_SUBCOMMAND: &str = "compile-plugin";
/// The environment variable that names the program to compile with.
pub const COMPILE_CHILD_VARIABLE: &str = "FORELINE_COMPILE_CHILD";

/// Bytes of an artefact. A Python plugin takes 40 MB, a neural network runtime 65 MB.
pub(super) const MAX_ARTEFACT_BYTES: u64 = 128 << 20;
/// Address space of the child. Large plugins take 600 MiB.
#[cfg(target_os = "linux")]
const MAX_CHILD_BYTES: u64 = 2 << 30;
/// CPU time of the child. Large plugins take 35 s.
#[cfg(target_os = "linux")]
const MAX_CHILD_CPU_S: u64 = 120;
/// How long the parent waits, for systems without the limits above or with too little to do.
const MAX_WAIT: Duration = Duration::from_secs(180);
/// Bytes of what the child says when it fails.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;

/// The machine code of a component.
pub(super) fn compile(component: &[u8], setup: Setup) -> Result<Vec<u8>, AdmitError> {
    match child_program() {
        Some(program) => compile_in(&program, component, setup),
        None if is_builtin(component) => {
            compile_here(component, setup).map_err(|e| AdmitError::Compile(format!("{e:#}")))
        }
        None => Err(AdmitError::Host(format!(
            "there is no program to compile plugins with; set {COMPILE_CHILD_VARIABLE} to the path of `foreline`"
        ))),
    }
}

fn compile_here(component: &[u8], setup: Setup) -> wasmtime::Result<Vec<u8>> {
    Engine::new(&settings::config(setup))?.precompile_component(component)
}

fn child_program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os(COMPILE_CHILD_VARIABLE) {
        return Some(program.into());
    }
    let this = std::env::current_exe().ok()?;
    if this.file_stem() == Some(OsStr::new("foreline")) {
        return Some(this);
    }
    let folders = this.ancestors().skip(1).take(2);
    let names = ["foreline-compile-plugin", "foreline"];
    let mut programs = folders.flat_map(|folder| {
        names.map(|name| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
    });
    programs.find(|program| program.is_file())
}

fn compile_in(program: &Path, component: &[u8], setup: Setup) -> Result<Vec<u8>, AdmitError> {
    let failed = |e: std::io::Error| AdmitError::Host(format!("'{}': {e}", program.display()));
    let mut child = Command::new(program)
        .arg(COMPILE_SUBCOMMAND)
        .args(setup.argument())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let answer = converse(&mut child, component);
    if answer.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(failed)?;
    let (artefact, complaint) = answer?;
    match (status.success(), artefact.len() as u64 > MAX_ARTEFACT_BYTES) {
        (true, false) => Ok(artefact),
        (true, true) => Err(AdmitError::Compile(format!(
            "its machine code is larger than {MAX_ARTEFACT_BYTES} bytes"
        ))),
        (false, _) => Err(AdmitError::Compile(match complaint.trim() {
            "" => format!("the compiler was stopped ({status}); it took too much time or memory"),
            complaint => complaint.to_owned(),
        })),
    }
}

/// Sends the component and takes in what the child says, all at once: either pipe may fill up first.
fn converse(child: &mut Child, component: &[u8]) -> Result<(Vec<u8>, String), AdmitError> {
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(AdmitError::Host("the compiler has no pipes".to_owned()));
    };
    let component = component.to_vec();
    let (to_parent, answers) = mpsc::channel();
    // A child that was stopped closes its pipes, so none of these threads outlives it for long. What they fail with
    // shows in the child's exit status.
    std::thread::spawn(move || stdin.write_all(&component));
    std::thread::spawn(move || {
        let (mut artefact, mut complaint) = (Vec::new(), Vec::new());
        let _ = stdout.by_ref().take(MAX_ARTEFACT_BYTES + 1).read_to_end(&mut artefact);
        let _ = stderr.by_ref().take(MAX_COMPLAINT_BYTES).read_to_end(&mut complaint);
        let _ = to_parent.send((artefact, String::from_utf8_lossy(&complaint).into_owned()));
    });
    answers.recv_timeout(MAX_WAIT).map_err(|_| {
        AdmitError::Compile(format!("the compiler was not done after {} s", MAX_WAIT.as_secs()))
    })
}

/// What `foreline compile-plugin` does: a component on stdin, its machine code on stdout. It limits itself first.
#[must_use]
pub fn compile_child_main() -> ExitCode {
    let work = || -> wasmtime::Result<()> {
        limit_this_process()?;
        let mut component = Vec::new();
        std::io::stdin().lock().take(MAX_PLUGIN_BYTES + 1).read_to_end(&mut component)?;
        let setup = Setup::from_argument(std::env::args().nth(2).as_deref());
        let artefact = compile_here(&component, setup)?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&artefact)?;
        stdout.flush()?;
        Ok(())
    };
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The parent reads this and says it at the place in the pipeline file.
            let _ = writeln!(std::io::stderr(), "{e:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn limit_this_process() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    for (resource, most) in
        [(Resource::As, MAX_CHILD_BYTES), (Resource::Cpu, MAX_CHILD_CPU_S), (Resource::Core, 0)]
    {
        // Who started this process may allow it less.
        let most = getrlimit(resource).maximum.map_or(most, |given| given.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn limit_this_process() -> std::io::Result<()> {
    Ok(())
}
