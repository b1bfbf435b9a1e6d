//! `foreline model test`: golden cases.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use foreline_plugins::author::{self, CaseReport};
use serde_json::Value;

use super::{Model, cache, text_of, unusable};
use crate::failure::{Failure, Outcome};
use crate::train::write_whole;

/// What `foreline model test` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: Model,
    /// The cases, YAML or JSON.
    #[arg(long)]
    cases: PathBuf,
    /// Write the scores that come out into the file of cases, instead of comparing. Comments behind its first key go.
    #[arg(long)]
    update: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out cases.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn test(arguments: &Arguments) -> Outcome {
    let cache = cache()?;
    let path = &arguments.cases;
    let text = text_of(path)?;
    let file = foreline_spec::read_values(&text)
        .map_err(|e| Failure::Unreadable(anyhow!("'{}': {e}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let subject = arguments.model.read(cache.path())?;
    let report = author::test(&subject, folder, &file, arguments.update).map_err(unusable)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        for case in &report.cases {
            print!("{}", told(case));
        }
    }
    if !report.passed() {
        return Err(Failure::Answer);
    }
    if let Some(updated) = &report.updated {
        let is_json = path.extension().is_some_and(|e| e == "json");
        let new = if is_json { json(updated)? } else { yaml(updated, &text)? };
        if new != text {
            write_whole(path, new.as_bytes())?;
        }
    }
    Ok(())
}

fn told(case: &CaseReport) -> String {
    let CaseReport { name, rows, expected, variations, failures } = case;
    if !failures.is_empty() {
        let failures = failures.iter().map(|f| format!("      {f}\n"));
        return format!("FAIL  {name}\n{}", failures.collect::<String>());
    }
    match (rows, expected) {
        (0, _) => format!("pass  {name}: it does not start\n"),
        (rows, 0) => format!(
            "pass  {name}: {rows} rows in {variations} ways, nothing expected of them (--update writes what comes out)\n"
        ),
        (rows, expected) => {
            format!("pass  {name}: {rows} rows in {variations} ways, {expected} expected\n")
        }
    }
}

fn json(file: &Value) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(file).map_err(anyhow::Error::from)? + "\n")
}

/// The file as YAML with a row a line, behind the comments that it began with. JSON is YAML, so a row is JSON.
fn yaml(file: &Value, old: &str) -> Result<String, Failure> {
    let comments = old.lines().take_while(|l| l.starts_with('#') || l.trim().is_empty());
    let mut text: String = comments.map(|line| format!("{line}\n")).collect();
    let on_a_line = |value: &Value| serde_json::to_string(value).map_err(anyhow::Error::from);
    for (key, value) in file.as_object().into_iter().flatten() {
        if key != "cases" {
            text += &format!("{key}: {}\n", on_a_line(value)?);
            continue;
        }
        text += "cases:\n";
        for case in value.as_array().into_iter().flatten() {
            let mut lead = "- ";
            for (key, value) in case.as_object().into_iter().flatten() {
                match value.as_array().filter(|_| key == "rows") {
                    None => text += &format!("{lead}{key}: {}\n", on_a_line(value)?),
                    Some(rows) => {
                        text += &format!("{lead}rows:\n");
                        for row in rows {
                            text += &format!("  - {}\n", on_a_line(row)?);
                        }
                    }
                }
                lead = "  ";
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_to_the_bit() {
        let old = "# why\n\nweights: w # gone\ncases:\n- name: a\n  tolerance: 1.0e-9\n  rows:\n  - {\"features\":{\"x\":0.1,\"y\":null}}\n";
        let mut file = foreline_spec::read_values(old).unwrap();
        let bits = [0x3fb9_9999_9999_999b, 0x0000_0000_0000_0001, 0x8000_0000_0000_0000];
        for bits in bits.into_iter().chain([1e300_f64.to_bits(), (1.0_f64 / 3.0).to_bits()]) {
            file["cases"][0]["rows"][0]["features"]["x"] = f64::from_bits(bits).into();
            let text = yaml(&file, old).unwrap();
            assert!(text.starts_with("# why\n\nweights: \"w\"\ncases:\n- name: \"a\"\n"), "{text}");
            let again = foreline_spec::read_values(&text).unwrap();
            let x = again["cases"][0]["rows"][0]["features"]["x"].as_f64().unwrap();
            assert_eq!(x.to_bits(), bits, "{text}");
            assert_eq!(yaml(&again, &text).unwrap(), text);
        }
    }
}
