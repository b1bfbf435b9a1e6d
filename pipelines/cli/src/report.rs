//! Reports of training and evaluation: one HTML page that needs nothing from anywhere, or the same figures as JSON.
//!
//! Plots are SVG in the page. Their marks are thinned to what an eye can tell apart; the JSON has every figure, and the
//! predictions are those of `evaluate --rows`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::metrics::ComparisonReport;
use crate::metrics::classes::ClassReport;
use crate::metrics::prognosis::Course;
use crate::train::write_whole;
use crate::validate::Importance;

mod plot;

/// The page's look: the reader's own fonts, light or dark as the reader's system is.
const STYLE: &str = include_str!("report/style.css");
/// Bars of a plot of importance.
const MOST_BARS: usize = 25;

/// What is said of one training or evaluation.
#[derive(Debug, Default)]
pub struct Page {
    title: String,
    body: String,
    data: Value,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(title: String) -> Self {
        Page { title, ..Page::default() }
    }

    /// Something that the reader must not overlook.
    pub fn warn(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"warning\" role=\"note\">{}</p>", escaped(text));
    }

    /// Text as a terminal shows it.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escaped(text.trim_end()));
    }

    /// Figures of numbers.
    pub fn numbers(&mut self, report: &ComparisonReport) {
        self.text(&report.to_string());
    }

    /// Figures of classes: the table, the confusion matrix, the reliability.
    pub fn classes(&mut self, report: &ClassReport) {
        let text = report.to_string();
        // The matrix comes as a table that can be read by colour.
        self.text(text.split("\ntrue \\ predicted").next().unwrap_or(&text));
        self.confusion(report);
        let bins = report.reliability.iter().filter(|b| b.rows > 0);
        let points: Vec<(f64, f64)> =
            bins.map(|b| (b.probability / b.rows as f64, b.right as f64 / b.rows as f64)).collect();
        if !points.is_empty() {
            self.figure(
                "Reliability: how often the predicted class was right, by its probability",
                &plot::reliability(&points, "probability of the predicted class", "share right"),
            );
        }
    }

    fn confusion(&mut self, report: &ClassReport) {
        let mut table = "<table><caption>Rows by true and predicted class</caption><tr><th scope=\"col\">true \\ predicted</th>".to_owned();
        for label in &report.labels {
            let _ = write!(table, "<th scope=\"col\">{}</th>", escaped(label));
        }
        table.push_str("</tr>\n");
        for (label, counts) in report.labels.iter().zip(&report.confusion) {
            let of_class: u64 = counts.iter().sum();
            let _ = write!(table, "<tr><th scope=\"row\">{}</th>", escaped(label));
            for &count in counts {
                let share = count as f64 / of_class.max(1) as f64;
                let _ = write!(table, "<td style=\"--share:{share:.3}\">{count}</td>");
            }
            table.push_str("</tr>\n");
        }
        let _ = writeln!(self.body, "{table}</table>");
    }

    /// Predictions over lives: against the truth, the error by what is left, and whether they mean what they say.
    pub fn courses(&mut self, courses: &[Course], cap: Option<f64>) {
        let usable = |c: &Course| c.points.iter().any(|p| p.predicted.is_finite());
        if !courses.iter().any(usable) {
            return;
        }
        self.figure("Predicted against true remaining life", &plot::against_truth(courses, cap));
        let bins = plot::by_horizon(courses, cap);
        if bins.len() > 1 {
            self.figure(
                "Error by how much life was left: median, and the middle 80 % of rows; above 0 is late",
                &plot::error_bands(&bins),
            );
        }
        let points = plot::calibration(courses, cap);
        if points.len() > 1 {
            self.figure(
                "Reliability: mean truth of rows with about the same prediction",
                &plot::reliability(&points, "predicted", "truth"),
            );
        }
    }

    /// What features are worth; `what` says what was looked at when a feature's values were dealt among rows.
    pub fn importance(&mut self, what: &str, importance: &[Importance]) {
        let bars: Vec<(&str, f64)> = importance
            .iter()
            .take(MOST_BARS)
            .map(|one| (one.feature.as_str(), one.increase))
            .collect();
        if !bars.is_empty() {
            let caption = format!(
                "What features are worth: {what} when a feature's values are dealt among rows"
            );
            self.figure(&caption, &plot::bars(&bars));
        }
    }

    /// What the JSON report says of it.
    pub fn data(&mut self, data: impl Serialize) {
        self.data = serde_json::to_value(data).unwrap_or(Value::Null);
    }

    fn figure(&mut self, caption: &str, svg: &str) {
        let _ = writeln!(
            self.body,
            "<figure><figcaption>{}</figcaption>\n{svg}</figure>",
            escaped(caption)
        );
    }
}

/// The bytes of a report with some pages: HTML.
#[must_use]
pub fn html(title: &str, pages: &[Page]) -> String {
    let title = escaped(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    for page in pages {
        let _ =
            write!(out, "<section>\n<h2>{}</h2>\n{}</section>\n", escaped(&page.title), page.body);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// Writes a report to `path`: JSON where its name ends in `.json`, else HTML.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, title: &str, pages: &[Page]) -> Result<()> {
    let bytes = if path.extension().is_some_and(|e| e == "json") {
        let data: Vec<&Value> = pages.iter().map(|p| &p.data).collect();
        serde_json::to_vec_pretty(&data).context("the report as JSON")?
    } else {
        html(title, pages).into_bytes()
    };
    write_whole(path, &bytes)
}

/// Text for a place in HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::prognosis::Point;

    #[test]
    fn a_page_stands_alone_and_escapes_names() {
        let mut page = Page::new("<script>".to_owned());
        page.warn("a < b");
        let points = (0..200).map(|i| Point {
            truth: f64::from(200 - i),
            predicted: f64::from(190 - i),
            between: (f64::NAN, f64::NAN),
        });
        page.courses(&[Course { name: "P-1".to_owned(), points: points.collect() }], Some(150.0));
        page.importance(
            "how far answers move",
            &[Importance { feature: "a&b".to_owned(), increase: 2.0 }],
        );
        let html = html("t", &[page]);
        assert!(html.contains("&lt;script&gt;") && html.contains("a&amp;b"));
        assert!(!html.contains("<script") && !html.contains("http"), "nothing from elsewhere");
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(!html.contains("NaN"), "no mark without a place");
    }

    #[test]
    fn nothing_to_draw_draws_nothing() {
        let mut page = Page::new(String::new());
        page.courses(&[], None);
        page.importance("", &[]);
        assert!(!html("t", &[page]).contains("<svg"));
    }
}
