//! How an error reads: one sentence on a line of its own, then its hints. Which exit code it means is in `exit`.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use super::Failure;

/// Prints the error to standard error.
pub(super) fn print(failure: &Failure) {
    let bold = Style::new().bold();
    let red = bold.fg_color(Some(AnsiColor::Red.into()));
    let cyan = bold.fg_color(Some(AnsiColor::Cyan.into()));
    let (sentence, hints) = sentence_and_hints(failure.error());
    let mut err = anstream::stderr().lock();
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(err, "{red}error:{red:#} {sentence}");
    for hint in hints {
        let _ = writeln!(err, "{cyan}hint:{cyan:#} {hint}");
    }
}

/// The chain of causes as one sentence, and the hints that stood in second lines of it.
fn sentence_and_hints(error: &anyhow::Error) -> (String, Vec<String>) {
    let mut sentences = Vec::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let mut lines = text.split("\nhint: ");
        sentences.extend(lines.next().map(ToOwned::to_owned));
        hints.extend(lines.map(ToOwned::to_owned));
    }
    (sentences.join(": "), hints)
}

/// Clap's message for wrong usage in our form: its first paragraph is the sentence, its tips are the hints.
pub(super) fn of_usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let sentence = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut hints: Vec<&str> = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    if hints.is_empty() {
        hints.push("--help after a command explains it");
    }
    Failure::usage(anyhow::anyhow!("{sentence}\nhint: {}", hints.join("\nhint: ")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use anyhow::Context as _;

    #[test]
    fn causes_make_one_sentence_and_hints_come_last() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file\nhint: make it")).context("routes").unwrap_err();
        assert_eq!(sentence_and_hints(&error), ("routes: no such file".to_owned(), vec!["make it".to_owned()]));
    }
}
