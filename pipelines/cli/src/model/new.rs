//! `foreline model new`: the beginning of a plugin.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_plugins::author::files;

use crate::failure::Outcome;

/// What `foreline model new` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the plugin is called.
    name: String,
    /// Where its folder is made; default: here.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Writes a new plugin.
#[expect(clippy::print_stdout, reason = "what was written is said")]
pub(super) fn new(arguments: &Arguments) -> Outcome {
    let files = files(&arguments.name).map_err(|e| anyhow!(e))?;
    let folder = arguments.dir.join(&arguments.name);
    if folder.exists() {
        return Err(anyhow!("'{}' is there already", folder.display()).into());
    }
    for file in files {
        let path = folder.join(&file.path);
        let what = || format!("write '{}'", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(what)?;
        }
        std::fs::write(&path, &file.text).with_context(what)?;
    }
    println!("wrote '{}'; its README.md says how it is built", folder.display());
    Ok(())
}
