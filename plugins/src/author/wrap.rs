//! A component of a core module, so that authors need no other tool.
//!
//! `wit-bindgen` notes the world in a section of the module; where a module was written by hand or by a C compiler that
//! section is missing, and is added here. Which of the two worlds it is, the imports say; of which version, the exports.

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::AuthorError;
use crate::sandbox::{AdmitError, Contract, MAX_PLUGIN_BYTES, PRESENT, PREVIOUS};

/// How the section with the world begins.
const WORLD_SECTION: &str = "component-type";

/// A component of `plugin`, and what was done for it; a component is answered as it is.
///
/// # Errors
/// When a core module imports what a plugin may not, or does not export the contract with its types.
pub fn wrap(plugin: &[u8]) -> Result<(Vec<u8>, &'static str), AuthorError> {
    if plugin.len() as u64 > MAX_PLUGIN_BYTES {
        let path = "the plugin".to_owned();
        return Err(AdmitError::TooLarge { path, max: MAX_PLUGIN_BYTES }.into());
    }
    if !Parser::is_core_wasm(plugin) {
        return Ok((plugin.to_vec(), "a component"));
    }
    let module = Module::read(plugin)?;
    if !module.forbidden.is_empty() {
        return Err(AdmitError::Import(module.forbidden.join("', '")).into());
    }
    if module.has_world {
        return Ok((encode(plugin)?, "a core module, made a component"));
    }
    let world = if module.logs { "model-with-log" } else { "model" };
    let mut with_world = plugin.to_vec();
    let contract = if module.is_previous { PREVIOUS } else { PRESENT };
    embed(&mut with_world, contract, world).map_err(|e| AuthorError::Wrap(format!("{e:#}")))?;
    Ok((
        encode(&with_world)?,
        "a core module; the contract was added to it, and it was made a component",
    ))
}

fn embed(
    module: &mut Vec<u8>,
    contract: Contract,
    world: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("model.wit", contract.wit).map_err(|e| e.to_string())?;
    let world = resolve.select_world(&[package], Some(world)).map_err(|e| e.to_string())?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
        .map_err(|e| e.to_string())?;
    Ok(())
}

fn encode(module: &[u8]) -> Result<Vec<u8>, AuthorError> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| AuthorError::Wrap(format!("{e:#}")))
}

/// What is looked at in a core module before it becomes a component.
#[derive(Default)]
struct Module {
    has_world: bool,
    logs: bool,
    /// Whether it exports the contract before the present one, and not this.
    is_previous: bool,
    /// Imports that a plugin may not have, each `module.name`.
    forbidden: Vec<String>,
}

impl Module {
    fn read(bytes: &[u8]) -> Result<Self, AdmitError> {
        let mut module = Module::default();
        let mut has_present = false;
        let malformed = |e: wasmparser::BinaryReaderError| AdmitError::Malformed(e.to_string());
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.map_err(malformed)?;
                        if Contract::allows(import.module) {
                            module.logs = true;
                        } else {
                            module.forbidden.push(format!("{}.{}", import.module, import.name));
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let contract = Contract::of_export(export.map_err(malformed)?.name);
                        module.is_previous |= contract == Some(PREVIOUS);
                        has_present |= contract == Some(PRESENT);
                    }
                }
                Payload::CustomSection(section) => {
                    module.has_world |= section.name().starts_with(WORLD_SECTION);
                }
                _ => {}
            }
        }
        module.is_previous &= !has_present;
        Ok(module)
    }
}
