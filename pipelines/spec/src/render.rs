//! Shows diagnostics to a person: place, source line, label, advice.
//!
//! Only this file knows the crate that draws them.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity as Level,
    SourceCode, ThemeCharacters, ThemeStyles,
};

use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::yaml::Span;

/// How diagnostics look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderStyle {
    /// Whether lines are drawn with box characters; ASCII otherwise.
    pub unicode: bool,
    /// Whether colours are used.
    pub color: bool,
    /// Columns of the terminal; advice is wrapped to it.
    pub width: usize,
}

impl RenderStyle {
    /// For a log or a file: ASCII, no colours, 100 columns.
    pub const PLAIN: RenderStyle = RenderStyle { unicode: false, color: false, width: 100 };

    /// For standard error as it is: plain unless it is a terminal; no colours where `NO_COLOR` is set.
    #[must_use]
    pub fn of_stderr() -> Self {
        use std::io::IsTerminal;
        if !std::io::stderr().is_terminal() {
            return Self::PLAIN;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        RenderStyle { unicode: !dumb, color: !dumb && !set("NO_COLOR"), width: 100 }
    }
}

impl Diagnostics {
    /// All diagnostics as text, in the order of the file, an empty line between them.
    #[must_use]
    pub fn render(&self, style: RenderStyle) -> String {
        let source = NamedSource::new(self.file().display().to_string(), Arc::clone(self.text()));
        let theme = GraphicalTheme {
            characters: match style.unicode {
                true => ThemeCharacters::unicode(),
                false => ThemeCharacters::ascii(),
            },
            styles: if style.color { ThemeStyles::ansi() } else { ThemeStyles::none() },
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(style.width)
            .with_context_lines(1)
            .with_links(false);
        let mut text = String::new();
        for (i, diagnostic) in self.all().iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            let shown = Shown { diagnostic, source: &source };
            if handler.render_report(&mut text, &shown).is_err() {
                // The drawing failed, not the check: say it in words.
                let _ = writeln!(text, "{shown}");
            }
        }
        text
    }
}

/// A diagnostic as miette sees it.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a NamedSource<Arc<str>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.diagnostic.code.0, self.diagnostic.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Level> {
        Some(match self.diagnostic.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        })
    }

    fn help<'h>(&'h self) -> Option<Box<dyn fmt::Display + 'h>> {
        let help = self.diagnostic.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let length = |span: Span| span.end.saturating_sub(span.start);
        let d = self.diagnostic;
        let main =
            LabeledSpan::new_primary_with_span(d.label.clone(), (d.span.start, length(d.span)));
        let related = d
            .related
            .as_ref()
            .map(|(span, what)| LabeledSpan::new(Some(what.clone()), span.start, length(*span)));
        Some(Box::new(std::iter::once(main).chain(related)))
    }
}
