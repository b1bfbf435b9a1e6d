//! `foreline graph`: a pipeline as a drawing.

use clap::{Args, ValueEnum};

use crate::commands::{File, Format};
use crate::failure::Outcome;
use crate::session::{Purpose, load};

/// What `foreline graph` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    file: std::path::PathBuf,
    /// The language of the drawing.
    #[arg(long, short, value_enum, default_value_t = Language::Mermaid)]
    format: Language,
}

/// The language of a drawing.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// For Markdown pages.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// Prints a drawing.
///
/// # Errors
/// When the file has mistakes.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn graph(arguments: &Arguments) -> Outcome {
    let file = File { file: arguments.file.clone(), format: Format::Text };
    let purpose = Purpose { checking: true, ..Purpose::default() };
    let plan = load(&file.file, file.format, purpose)?;
    let drawing = match arguments.format {
        Language::Mermaid => foreline_spec::mermaid(&plan),
        Language::Dot => foreline_spec::dot(&plan),
        Language::Svg => foreline_spec::svg(&plan),
    };
    println!("{}", drawing.trim_end());
    Ok(())
}
