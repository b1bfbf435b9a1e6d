//! Links in the prose are alive: a relative link names a file, and its anchor a heading there.

use super::{Complaint, File, none, paths, repository, text};

/// A link of a Markdown file.
#[derive(Debug, PartialEq)]
struct Link {
    line: usize,
    target: String,
}

/// The lines that are prose: neither in a fenced block nor the fence itself.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    })
}

/// A line without what stands in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("` `")
}

/// The inline links of a text, images among them.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (at, line) in prose(text) {
        let line = without_code(line);
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            links.push(Link { line: at + 1, target: target.to_owned() });
        }
    }
    links
}

/// The anchors of a text's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let Some(title) =
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))
        else {
            continue;
        };
        let kept =
            title.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let anchor = anchor.to_lowercase();
        let same = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
    }
    anchors
}

/// What a relative `target` in the file `from` means, from the root: a path, without `.` and `..`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Links of `file` that lead nowhere. `paths` are all there are, `read` gives the text of one.
fn dead(file: &File, paths: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for link in links(&file.text) {
        if link.target.contains("://") || link.target.starts_with("mailto:") {
            continue;
        }
        let (target, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
        let path = if target.is_empty() { file.path.clone() } else { resolve(&file.path, target) };
        let folder = paths.iter().any(|other| other.starts_with(&format!("{path}/")));
        if !paths.contains(&path) && !folder {
            complaints.push(format!("{}:{}: there is no '{path}'", file.path, link.line));
        } else if !anchor.is_empty() && path.ends_with(".md") {
            let there = read(&path).is_some_and(|text| anchors(&text).iter().any(|a| a == anchor));
            if !there {
                complaints.push(format!(
                    "{}:{}: '{path}' has no heading '#{anchor}'",
                    file.path, link.line
                ));
            }
        }
    }
    complaints
}

#[test]
fn links_are_alive() {
    let paths = paths();
    let files = repository();
    let prose = files.iter().filter(|file| file.path.ends_with(".md"));
    none(&prose.flat_map(|file| dead(file, &paths, text)).collect::<Vec<_>>());
}

/// A page that is not in the book's list is found by nobody who reads it.
#[test]
fn the_book_has_every_page() {
    let listed: Vec<String> = links(&text("docs/SUMMARY.md").unwrap_or_default())
        .iter()
        .map(|link| resolve("docs/SUMMARY.md", &link.target))
        .collect();
    let is_page = |path: &&String| {
        path.starts_with("docs/") && path.ends_with(".md") && *path != "docs/SUMMARY.md"
    };
    let forgotten: Vec<_> =
        paths().iter().filter(is_page).filter(|p| !listed.contains(p)).cloned().collect();
    none(&forgotten);
    assert!(listed.len() > 20, "{listed:?}");
}

#[test]
fn dead_links_are_found() {
    let paths = ["docs/a.md", "docs/b.md", "README.md", "engine/src/lib.rs"].map(str::to_owned);
    let read =
        |path: &str| (path == "docs/b.md").then(|| "# Title\n## The `x` step, 2nd\n".to_owned());
    let complaints = |text: &str| dead(&File::new("docs/a.md", text), &paths, read);
    for good in [
        "[x](b.md) and [y](../README.md)",
        "[x](../engine)",
        "[x](b.md#the-x-step-2nd)",
        "[x](https://example.org/none.md)",
        "`[x](none.md)`",
        "```\n[x](none.md)\n```",
        "![picture](b.md \"title\")",
    ] {
        assert_eq!(complaints(good), [""; 0], "{good}");
    }
    for bad in ["[x](none.md)", "ok\n[a](b.md) [x](README.md)", "[x](b.md#none)", "[x](#none)"] {
        assert_eq!(complaints(bad).len(), 1, "{bad}");
    }
    assert_eq!(complaints("\n[x](none.md)"), ["docs/a.md:2: there is no 'docs/none.md'"]);
}

#[test]
fn equal_headings_get_numbers() {
    assert_eq!(
        anchors("# A b\n## A b\n```\n# no\n```\n#no\n# Über-alles_1!"),
        ["a-b", "a-b-1", "über-alles_1"]
    );
}
