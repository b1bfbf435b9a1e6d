//! What is looked at before any code of a plugin runs.
//!
//! In this order: size, not precompiled, a component at all, its parts within bounds, its imports and exports. The
//! digest is compared by the step, which knows what the pipeline file says.

use std::fs;
use std::io::Read;
use std::path::Path;

use wasmparser::{FunctionBody, Operator, Parser, Payload};
use wasmtime::{Engine, Precompiled};

use super::contract::{Contract, PRESENT};

/// Bytes of a component. A Python plugin takes 18 MB; without a cap a custom section of any size would load.
pub(crate) const MAX_PLUGIN_BYTES: u64 = 32 << 20;
/// Bytes of a weights file: twice what fits into the default memory limit.
pub(crate) const MAX_WEIGHTS_BYTES: u64 = 256 << 20;
/// Functions of all modules. A Python plugin has about 20,000.
const MAX_FUNCTIONS: usize = 200_000;
/// Locals of a function; the same limit as browsers have.
const MAX_LOCALS: u64 = 50_000;
/// Blocks within blocks of a function.
const MAX_NESTING: usize = 2_000;
/// Locals times nesting of a function: what the register allocator's time grows with. Interpreters compiled to
/// WebAssembly stay below 200,000.
const MAX_LOCALS_TIMES_NESTING: u64 = 1_000_000;

/// Why a plugin or its weights were not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The file cannot be read.
    #[error("'{path}' cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The file is larger than a plugin or weights may be.
    #[error("'{path}' is larger than {max} bytes, which is the most that is read")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit.
        max: u64,
    },
    /// Machine code instead of WebAssembly.
    #[error("this is a precompiled artefact, and only WebAssembly is let in")]
    Precompiled,
    /// A module, not a component.
    #[error(
        "this is a core module, not a component; `foreline model check FILE -o OUT` makes one of it"
    )]
    CoreModule,
    /// The bytes are not valid WebAssembly.
    #[error("this is not WebAssembly that can be read: {0}")]
    Malformed(String),
    /// Something in it is larger than the compiler should be asked to take.
    #[error("{0}")]
    TooComplex(String),
    /// It wants something that a plugin does not get.
    #[error("it imports '{0}', and a plugin may import nothing but the log; build it without WASI")]
    Import(String),
    /// It does not export what a plugin must.
    #[error(
        "it exports neither 'foreline:model/scorer@0.2.x' nor '@0.1.x', so it is not a plugin for this version of foreline"
    )]
    NoScorer,
    /// Its imports or exports have the right names and wrong types.
    #[error("its interface does not fit: {0}")]
    Interface(String),
    /// The compiler refused it, or took more time or memory than it may.
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    /// The sandbox itself cannot start.
    #[error("the sandbox cannot start: {0}")]
    Host(String),
}

/// Reads a weights file.
pub(crate) fn read_weights(path: &Path) -> Result<Vec<u8>, AdmitError> {
    read_capped(path, MAX_WEIGHTS_BYTES)
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_capped(path: &Path, max: u64) -> Result<Vec<u8>, AdmitError> {
    let name = path.display().to_string();
    let unreadable =
        |e: std::io::Error| AdmitError::Unreadable { path: name.clone(), why: e.to_string() };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(AdmitError::TooLarge { path: name, max });
    }
    Ok(bytes)
}

/// Checks everything that can be seen without compiling; the contract that it was built for.
pub(super) fn inspect(component: &[u8]) -> Result<Contract, AdmitError> {
    let seen = survey(component)?;
    if let Some(imports) = seen.forbidden() {
        return Err(AdmitError::Import(imports));
    }
    seen.scorer.map(|(contract, _)| contract).ok_or(AdmitError::NoScorer)
}

/// Walks over a component: what it imports and exports. Fails where it is none, or larger than the compiler should
/// be asked to take.
pub(crate) fn survey(component: &[u8]) -> Result<Survey, AdmitError> {
    if component.len() as u64 > MAX_PLUGIN_BYTES {
        let path = "the plugin".to_owned();
        return Err(AdmitError::TooLarge { path, max: MAX_PLUGIN_BYTES });
    }
    if Engine::detect_precompiled(component)
        .is_some_and(|p| matches!(p, Precompiled::Component | Precompiled::Module))
    {
        return Err(AdmitError::Precompiled);
    }
    if Parser::is_core_wasm(component) {
        return Err(AdmitError::CoreModule);
    }
    if !Parser::is_component(component) {
        return Err(AdmitError::Malformed("it does not start as a component does".to_owned()));
    }
    let mut seen = Survey::default();
    for payload in Parser::new(0).parse_all(component) {
        seen.part(payload.map_err(malformed)?)?;
    }
    Ok(seen)
}

fn malformed(e: impl std::fmt::Display) -> AdmitError {
    AdmitError::Malformed(e.to_string())
}

/// What the walk over a component has met.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Modules and components around the present place.
    depth: usize,
    /// Functions of all modules.
    pub(crate) functions: usize,
    /// What it imports.
    pub(crate) imports: Vec<String>,
    /// The contract that it exports, and its name there. Of two, the present one.
    pub(crate) scorer: Option<(Contract, String)>,
}

impl Survey {
    /// The imports that a plugin may not have, in one text.
    pub(crate) fn forbidden(&self) -> Option<String> {
        let forbidden = self.imports.iter().filter(|name| !Contract::allows(name));
        let names: Vec<&str> = forbidden.map(String::as_str).collect();
        (!names.is_empty()).then(|| names.join("', '"))
    }

    fn part(&mut self, payload: Payload<'_>) -> Result<(), AdmitError> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if self.depth == 0 => {
                for import in imports {
                    let name = import.map_err(malformed)?.name.name;
                    self.imports.push(name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if self.depth == 0 => {
                for export in exports {
                    let name = export.map_err(malformed)?.name.name;
                    if let Some(contract) = Contract::of_export(name)
                        && self.scorer.as_ref().is_none_or(|(known, _)| *known != PRESENT)
                    {
                        self.scorer = Some((contract, name.to_owned()));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                self.functions += 1;
                if self.functions > MAX_FUNCTIONS {
                    let message = format!("it has more than {MAX_FUNCTIONS} functions");
                    return Err(AdmitError::TooComplex(message));
                }
                check_function(&body)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), AdmitError> {
    let mut locals = 0_u64;
    for group in body.get_locals_reader().map_err(malformed)? {
        locals += u64::from(group.map_err(malformed)?.0);
    }
    let (mut nesting, mut deepest) = (0_usize, 0_usize);
    for operator in body.get_operators_reader().map_err(malformed)? {
        match operator.map_err(malformed)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => nesting += 1,
            Operator::End => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(nesting);
    }
    if locals > MAX_LOCALS
        || deepest > MAX_NESTING
        || locals * deepest as u64 > MAX_LOCALS_TIMES_NESTING
    {
        return Err(AdmitError::TooComplex(format!(
            "one of its functions has {locals} locals and {deepest} nested blocks, more than the compiler is asked to take"
        )));
    }
    Ok(())
}
