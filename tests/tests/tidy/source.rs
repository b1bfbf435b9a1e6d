//! Rules for a Rust file: its head, and words that must not be in it.

use super::{Complaint, File, none, repository};

/// What no file may hold, and what to do instead. The words are put together here, so that this file holds none.
const BANNED: &[(&str, &str)] = &[
    (concat!("to", "do!"), "write it, or leave it out"),
    (concat!("unimple", "mented!"), "write it, or return an error"),
    (concat!("#[ig", "nore"), "a test runs or goes"),
    (concat!("thread::", "sleep"), "wait on a channel or a condition"),
    (concat!("serde_", "yaml"), "serde-saphyr keeps the place of every value"),
    (concat!("TO", "DO"), "do it, or write down an issue"),
    (concat!("FIX", "ME"), "fix it, or write down an issue"),
];

/// What only tests may hold.
const BANNED_OUTSIDE_TESTS: &[(&str, &str)] =
    &[(concat!(".un", "wrap()"), "return the error, or `expect` with why it holds")];

/// A file opens with `//!` and a sentence.
fn head(file: &File) -> Option<Complaint> {
    let first = file.text.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix("//! ").is_some_and(|words| words.contains(' '));
    (!sentence)
        .then(|| format!("{}:1: open with `//!` and a sentence that says what it is", file.path))
}

/// Banned words in the lines that are not documentation.
fn banned(file: &File, words: &[(&str, &str)], lines: usize) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (at, line) in file.text.lines().take(lines).enumerate() {
        let documentation =
            line.trim_start().starts_with("///") || line.trim_start().starts_with("//!");
        let found = words.iter().filter(|(word, _)| !documentation && line.contains(word));
        complaints.extend(
            found.map(|(word, instead)| format!("{}:{}: `{word}`: {instead}", file.path, at + 1)),
        );
    }
    complaints
}

/// How many lines of a file come before its tests.
fn lines_before_tests(file: &File) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    let is_tests = |pair: &[&str]| {
        pair[0].starts_with("#[cfg(")
            && pair[0].contains("test")
            && pair[1].starts_with("mod ")
            && pair[1].ends_with('{')
    };
    lines.windows(2).position(is_tests).unwrap_or(lines.len())
}

/// Modules in files of their own that are compiled for tests only, as `folder/name`.
fn test_modules(files: &[File]) -> Vec<String> {
    let mut modules = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let name = pair[1].strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
            let (true, Some((_, name))) =
                (pair[0].starts_with("#[cfg(") && pair[0].contains("test"), name)
            else {
                continue;
            };
            modules.push(format!("{}/{name}", module_folder(&file.path)));
        }
    }
    modules
}

/// Where the modules that a file declares are.
fn module_folder(path: &str) -> &str {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.rsplit_once('/') {
        Some((folder, "lib" | "main" | "mod" | "all")) => folder,
        _ => stem,
    }
}

/// Whether a file is compiled for tests only.
fn is_test(path: &str, modules: &[String]) -> bool {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let below = |module: &String| stem == module || stem.starts_with(&format!("{module}/"));
    path.starts_with("tests/tests/") || path.contains("/tests/") || modules.iter().any(below)
}

#[test]
fn every_file_opens_with_what_it_is() {
    let files = repository();
    none(&files.iter().filter(|file| file.is_rust()).filter_map(head).collect::<Vec<_>>());
}

#[test]
fn banned_words_are_nowhere() {
    let files = repository();
    let rust = files.iter().filter(|file| file.is_rust());
    none(&rust.flat_map(|file| banned(file, BANNED, usize::MAX)).collect::<Vec<_>>());
}

#[test]
fn what_only_tests_may_do_is_in_tests() {
    let files = repository();
    let modules = test_modules(&files);
    let ours = files.iter().filter(|file| file.is_rust() && !is_test(&file.path, &modules));
    let complaints =
        ours.flat_map(|file| banned(file, BANNED_OUTSIDE_TESTS, lines_before_tests(file)));
    none(&complaints.collect::<Vec<_>>());
}

#[test]
fn bad_heads_are_found() {
    for text in ["", "use std::fmt;", "//!", "//! Word", "// A comment.", "\n//! Too late here."] {
        assert!(head(&File::new("a.rs", text)).is_some(), "{text:?}");
    }
    assert_eq!(head(&File::new("a.rs", "//! A sentence.\n")), None);
}

#[test]
fn each_banned_word_is_found_in_code_and_not_in_documentation() {
    for (word, _) in BANNED.iter().chain(BANNED_OUTSIDE_TESTS) {
        let words = [BANNED, BANNED_OUTSIDE_TESTS].concat();
        let code = File::new("a.rs", &format!("fn f() {{\n    {word}\n}}"));
        let found = banned(&code, &words, usize::MAX);
        assert!(found.len() == 1 && found[0].starts_with("a.rs:2: "), "{word}: {found:?}");
        let doc = File::new("a.rs", &format!("/// About {word}.\nfn f() {{}}"));
        assert_eq!(banned(&doc, &words, usize::MAX), [""; 0]);
    }
}

#[test]
fn tests_begin_where_they_begin() {
    let body = "//! A.\nfn f() {}\n";
    let cases = [
        (body.to_owned(), 2),
        (format!("{body}#[cfg(test)]\nmod tests {{\n}}\n"), 2),
        (format!("{body}#[cfg(any(test, feature = \"testing\"))]\nmod more;\nfn g() {{}}\n"), 5),
        (format!("#[cfg(test)]\nuse x;\n{body}"), 4),
    ];
    for (text, expected) in cases {
        assert_eq!(lines_before_tests(&File::new("a.rs", &text)), expected, "{text}");
    }
}

#[test]
fn modules_of_tests_are_known_by_their_declaration() {
    let files = [
        File::new("engine/src/lib.rs", "#[cfg(test)]\nmod oracle;\nmod plain;\n"),
        File::new(
            "engine/src/order.rs",
            "#[cfg(any(test, feature = \"testing\"))]\npub mod cases;\n",
        ),
    ];
    let modules = test_modules(&files);
    assert_eq!(modules, ["engine/src/oracle", "engine/src/order/cases"]);
    for path in ["engine/src/oracle.rs", "engine/src/oracle/deep.rs", "sql/tests/reference.rs"] {
        assert!(is_test(path, &modules), "{path}");
    }
    for path in ["engine/src/plain.rs", "engine/src/oracles.rs", "tests/src/lib.rs"] {
        assert!(!is_test(path, &modules), "{path}");
    }
}
