//! Tables for people, JSON for programs, and the comparison with a saved run.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::aims::Aim;
use crate::figures::{Against, Figure, base};
use crate::machine::Machine;

pub(crate) const HEAD: &str = "| figure | median | min | max | aim |
| --- | ---: | ---: | ---: | --- |";

/// Returns a figure's line in the table of [`HEAD`].
pub(crate) fn row(figure: &Figure) -> String {
    let aim = match Aim::of(&figure.name) {
        Some(aim) if aim.is_met(figure.median()) => format!("{aim}: met"),
        Some(aim) => format!("{aim}: **missed**"),
        None => String::new(),
    };
    format!(
        "| {} | {} | {} | {} | {aim} |",
        figure.name,
        short(figure.median()),
        short(figure.min()),
        short(figure.max())
    )
}

/// Returns all figures as JSON: what `--json` prints and `--save` writes.
pub(crate) fn to_json(machine: &Machine, ours: &[Figure], beam: Option<&[Figure]>) -> Value {
    let mut figures: Vec<Value> = Vec::new();
    for figure in ours {
        let mut value = figure.to_json();
        if let Some(aim) = Aim::of(&figure.name) {
            value["aim"] = json!(aim.to_string());
            value["met"] = json!(aim.is_met(figure.median()));
        }
        figures.push(value);
    }
    let mut report = json!({ "machine": machine, "figures": figures });
    if let Some(beam) = beam {
        report["beam"] = beam.iter().map(Figure::to_json).collect();
    }
    report
}

/// A saved run.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
}

impl Saved {
    /// Reads what `--save` has written.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a saved run.
    pub(crate) fn read(path: &Path) -> Result<Saved, String> {
        let shown = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        Saved::parse(&text).ok_or_else(|| {
            format!("{shown} is no saved run; `cargo xtask bench --save {shown}` writes one")
        })
    }

    fn parse(text: &str) -> Option<Saved> {
        let report: Value = serde_json::from_str(text).ok()?;
        let figures = report["figures"].as_array()?.iter().map(Figure::from_json);
        Some(Saved {
            machine: serde_json::from_value(report["machine"].clone()).ok()?,
            figures: figures.collect::<Option<_>>()?,
        })
    }
}

/// Returns the comparison with a saved run, in lines.
pub(crate) fn compare(machine: &Machine, now: &[Figure], saved: &Saved) -> Vec<String> {
    let mut lines = Vec::new();
    if saved.machine != *machine {
        lines.push("**Another machine: these differences mean little.**".to_owned());
        lines.push(format!("saved on: {}", saved.machine));
        lines.push(String::new());
    }
    lines.push("| figure | saved | now | now / saved | |".to_owned());
    lines.push("| --- | ---: | ---: | ---: | --- |".to_owned());
    for figure in now {
        let line = match saved.figures.iter().find(|old| old.name == figure.name) {
            Some(old) => {
                let word = match Against::of(figure, old) {
                    Against::Noise => String::new(),
                    Against::Better(times) => format!("better, {times:.2} times"),
                    Against::Worse(times) => format!("**worse, {times:.2} times**"),
                };
                pair(
                    &figure.name,
                    old,
                    figure,
                    figure.median() / old.median(),
                    &word,
                )
            }
            None => format!("| {} | not there | {} | | |", figure.name, range(figure)),
        };
        lines.push(line);
    }
    lines
}

pub(crate) const BEAM_HEAD: &str = "| figure | Exuvia | BEAM | Exuvia / BEAM | better |
| --- | ---: | ---: | ---: | --- |";

/// Returns the lines of the BEAM's figures that have one of ours to compare with.
pub(crate) fn against_beam(ours: &[Figure], beam: &[Figure]) -> Vec<String> {
    let mut lines = Vec::new();
    for theirs in beam {
        let Some(figure) = ours.iter().find(|figure| figure.name == base(&theirs.name)) else {
            continue;
        };
        let word = match Against::of(figure, theirs) {
            Against::Noise => "neither: the ranges overlap".to_owned(),
            Against::Better(times) => format!("Exuvia, {times:.2} times"),
            Against::Worse(times) => format!("BEAM, {times:.2} times"),
        };
        lines.push(pair(
            &theirs.name,
            figure,
            theirs,
            figure.median() / theirs.median(),
            &word,
        ));
    }
    lines
}

fn pair(name: &str, left: &Figure, right: &Figure, ratio: f64, word: &str) -> String {
    format!(
        "| {name} | {} | {} | {ratio:.2} | {word} |",
        range(left),
        range(right)
    )
}

fn range(figure: &Figure) -> String {
    format!(
        "{} ({} to {})",
        short(figure.median()),
        short(figure.min()),
        short(figure.max())
    )
}

/// Formats a value with about three digits.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, runs: &[f64]) -> Figure {
        Figure::new(name, runs.to_vec()).unwrap()
    }

    #[test]
    fn a_row_says_whether_the_target_is_met() {
        assert_eq!(
            row(&figure("fib(32) on a node, ms", &[20.0, 13.0, 12.25])),
            "| fib(32) on a node, ms | 13.0 | 12.2 | 20.0 | <= 14: met |"
        );
        assert!(row(&figure("fib(32) on a node, ms", &[15.0])).contains("**missed**"));
        assert_eq!(
            row(&figure("a", &[1234.5])),
            "| a | 1234 | 1234 | 1234 |  |"
        );
    }

    #[test]
    fn a_saved_run_is_read_again() {
        let figures = [figure("a, ns", &[1.0, 2.0, 3.0]), figure("b/s", &[7.0])];
        let machine = Machine::this();
        let text = to_json(&machine, &figures, None).to_string();
        let saved = Saved::parse(&text).unwrap();
        assert_eq!((saved.machine, saved.figures), (machine, figures.to_vec()));
    }

    #[test]
    fn another_file_is_rejected_as_a_saved_run() {
        assert!(Saved::parse("{\"figures\": []}").is_none());
        assert!(Saved::parse("figures").is_none());
        let error = Saved::read(Path::new("no/such/file.json")).unwrap_err();
        assert!(error.contains("cannot read no/such/file.json"), "{error}");
    }

    #[test]
    fn only_differences_beyond_the_noise_are_marked() {
        let machine = Machine::this();
        let saved = Saved {
            machine: machine.clone(),
            figures: vec![figure("a, ns", &[1.0, 3.0]), figure("b, ns", &[4.0])],
        };
        let now = [
            figure("a, ns", &[2.0]),
            figure("b, ns", &[8.0]),
            figure("c", &[1.0]),
        ];
        let lines = compare(&machine, &now, &saved);
        assert_eq!(lines.len(), 5);
        assert_eq!(
            lines[2],
            "| a, ns | 3.00 (1.00 to 3.00) | 2.00 (2.00 to 2.00) | 0.67 |  |"
        );
        assert!(
            lines[3].ends_with("| 2.00 | **worse, 2.00 times** |"),
            "{}",
            lines[3]
        );
        assert!(lines[4].contains("not there"));
    }

    #[test]
    fn a_different_machine_is_reported_first() {
        let machine = Machine::this();
        let mut other = serde_json::to_value(&machine).unwrap();
        other["cores"] = json!(4096);
        let machine_of_old = serde_json::from_value(other).unwrap();
        let saved = Saved {
            machine: machine_of_old,
            figures: Vec::new(),
        };
        assert!(compare(&machine, &[], &saved)[0].contains("Another machine"));
    }

    #[test]
    fn variants_of_the_beam_are_beside_one_of_ours() {
        let ours = [figure("m, B", &[100.0])];
        let beam = [
            figure("m, B [plain]", &[400.0]),
            figure("m, B [hibernated]", &[50.0]),
            figure("x", &[1.0]),
        ];
        let lines = against_beam(&ours, &beam);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with("| 0.25 | Exuvia, 4.00 times |"),
            "{}",
            lines[0]
        );
        assert!(
            lines[1].ends_with("| 2.00 | BEAM, 2.00 times |"),
            "{}",
            lines[1]
        );
    }
}
