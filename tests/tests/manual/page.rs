//! The pages.

use std::fmt::Write as _;

use foreline_engine::{Family, Registration};

use super::head::{self, Head};
use super::{options, page_of};

/// What a chapter opens with.
fn about(family: Family) -> &'static str {
    match family {
        Family::Shape => "Steps that choose, name, convert and join columns and rows.",
        Family::Time => "Steps that put rows on other times, or look at the time between them.",
        Family::Quality => {
            "Steps that say how far a value can be trusted and what a machine is doing. They flag; they never remove."
        }
        Family::Smoothing => {
            "Steps that take noise out of a signal. All are causal: none looks ahead."
        }
        Family::Scaling => {
            "Steps that make columns comparable, or fewer, as a training has found them to be."
        }
        Family::Features => "Steps that say many rows with a few numbers.",
        Family::Spectrum => {
            "Steps over waveforms: columns whose values are lists of samples at a known rate, from bursts or cut by `waveform`."
        }
        Family::Detection => "Steps that find what is out of the ordinary.",
        Family::Models => "The step that asks a model in the sandbox: [models.md](../models.md).",
    }
}

/// The page that leads to the others.
pub(super) fn index(kinds: &[Registration]) -> String {
    let mut text = "# Steps\n\nEvery kind of step, by what it is for. `foreline operators NAME` prints the options of one.\n\
        The examples read the streams of [streams.yaml](../../operators/examples/streams.yaml); rows and pictures are what the\n\
        engine made of them. The pages are made from the code by a test.\n"
        .to_owned();
    for &family in Family::ALL {
        let page = page_of(family);
        write!(text, "\n**[{}]({page})**\n\n| step | what it does |\n|---|---|\n", family.name())
            .unwrap();
        for kind in kinds.iter().filter(|k| k.family == family) {
            let (name, summary) = (kind.name, kind.summary);
            writeln!(text, "| [{name}]({page}#{name}) | {summary} |").unwrap();
        }
    }
    text
}

pub(super) fn opening(family: Family) -> String {
    let name = family.name();
    let (first, rest) = name.split_at(1);
    format!("# {}{rest}\n\n{} [All steps](README.md)\n", first.to_uppercase(), about(family))
}

/// The section of a kind.
pub(super) fn of(kind: &Registration, rows: Option<&str>, has_picture: bool) -> String {
    let Registration { name, summary, example, .. } = kind;
    let head = head::of(name).unwrap_or_default();
    let mut text = format!("\n## {name}\n\n");
    let opening = if head.opening.is_empty() { *summary } else { &head.opening };
    writeln!(text, "{}\n\n```yaml\nsteps:", plain(opening)).unwrap();
    for line in example.lines() {
        writeln!(text, "  {line}").unwrap();
    }
    text += "```\n";
    if has_picture {
        write!(text, "\n![what {name} makes of the example]({name}.svg)\n").unwrap();
    }
    if let Some(rows) = rows {
        write!(text, "\n{rows}").unwrap();
    }
    facts(&mut text, &head);
    write!(text, "\n{}", plain(&options::of(kind))).unwrap();
    text
}

fn facts(text: &mut String, head: &Head) {
    if !head.parts.is_empty() {
        *text += "\n| | |\n|---|---|\n";
    }
    for (part, said) in &head.parts {
        writeln!(text, "| {part} | {} |", plain(said).replace('|', "\\|")).unwrap();
    }
    for note in &head.notes {
        write!(text, "\n{}\n", plain(note)).unwrap();
    }
}

/// Text of a doc comment without the links that only a compiler follows.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[`") {
        let Some(end) = rest[at..].find("`]") else { break };
        out.push_str(&rest[..at]);
        out.push_str(&rest[at + 1..=at + end]);
        rest = &rest[at + end + 2..];
        if rest.starts_with('(')
            && let Some(close) = rest.find(')')
        {
            rest = &rest[close + 1..];
        }
    }
    out + rest
}

/// The stream that an entry of the steps reads first.
pub(super) fn reads(example: &str, entry: &str) -> String {
    let at = example.find(&format!("{entry}:")).unwrap_or_default();
    let (_, after) = example[at..].split_once("from:").unwrap_or_default();
    let first = after.trim_start().trim_start_matches('[');
    first.split([',', ' ', '\n', ']', '}']).next().unwrap_or_default().to_owned()
}

#[test]
fn links_of_the_compiler_become_text() {
    assert_eq!(
        plain("see [`a::b`] and [`C`](crate::c::C), [x](y.md)"),
        "see `a::b` and `C`, [x](y.md)"
    );
    assert_eq!(reads("a: { from: x, f: 1 }\nb:\n  from: [a, c]\n", "b"), "a");
}
