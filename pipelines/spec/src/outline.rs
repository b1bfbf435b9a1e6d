//! What a file can be trained and judged on, before its pipeline is planned.
//!
//! `foreline train` and `foreline evaluate` plan a file once for every entry, with that entry's inputs and only as far
//! as its stream; this tells them what entries there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::check::{ReadError, SourceOverride, read_text};
use crate::file::EvaluationConfig;
use crate::kinds::{Kinds, Language};
use crate::read::Reader;
use crate::secret::{ProcessEnvironment, Secrets};
use crate::yaml::parse;

/// The entries of `training` and `evaluation` that can be read; what is wrong with others is for a check to say.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The inputs of each training, by name.
    pub trainings: BTreeMap<String, BTreeMap<String, SourceOverride>>,
    /// Each evaluation, by name.
    pub evaluations: BTreeMap<String, EvaluationConfig>,
}

/// Reads the outline of a file; empty where the file is not YAML.
///
/// # Errors
/// When the file cannot be read.
pub fn outline(file: &Path) -> Result<Outline, ReadError> {
    let text = read_text(file)?;
    let Ok((mut root, _)) = parse(&text) else { return Ok(Outline::default()) };
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut out = Vec::new();
    Secrets::new(&ProcessEnvironment, folder).resolve(&mut root, &mut out);
    let kinds = Kinds::all();
    let language = Language::new(&kinds);
    let read = Reader { kinds: &kinds, language: &language, out: &mut out }.file(&root);
    let Some(read) = read else { return Ok(Outline::default()) };
    let inputs = |input: &BTreeMap<String, String>| {
        let paths = input.iter().map(|(source, path)| (source.clone(), PathBuf::from(path)));
        paths.map(|(source, path)| (source, SourceOverride::Path(path))).collect()
    };
    Ok(Outline {
        trainings: read
            .training
            .iter()
            .map(|t| (t.name.to_owned(), inputs(&t.config.input)))
            .collect(),
        evaluations: read.evaluation.into_iter().map(|e| (e.name.to_owned(), e.config)).collect(),
    })
}
