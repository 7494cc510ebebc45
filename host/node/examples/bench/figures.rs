//! Figures: what several runs of a benchmark measured, and how two such sets compare. Pure: nothing
//! here reads a clock or a file.

use std::collections::HashMap;

use serde_json::{Value, json};

/// A measured value: the figure's name and the number.
pub(crate) type Sample = (String, f64);

/// The prefix of a line that holds a sample; the name, a tab and the value follow.
pub(crate) const MARK: &str = "sample\t";

/// Returns the samples among the lines that a run has printed.
pub(crate) fn samples(text: &str) -> Vec<Sample> {
    text.lines()
        .filter_map(|line| {
            let (figure, value) = line.strip_prefix(MARK)?.rsplit_once('\t')?;
            Some((figure.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// A figure and the values of all runs, sorted. There is at least one value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    runs: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: &str, mut runs: Vec<f64>) -> Option<Figure> {
        if runs.is_empty() || runs.iter().any(|value| !value.is_finite()) {
            return None;
        }
        runs.sort_by(f64::total_cmp);
        let name = name.to_owned();
        Some(Figure { name, runs })
    }

    /// Returns the median; for an even number of runs, the greater of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.runs[self.runs.len() / 2]
    }

    pub(crate) fn min(&self) -> f64 {
        self.runs[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.runs[self.runs.len() - 1]
    }

    /// Returns whether the ranges of two figures overlap. Only if they do not is a difference
    /// reported: medians of the same binary may differ by half on a shared machine.
    pub(crate) fn overlaps(&self, other: &Figure) -> bool {
        self.min() <= other.max() && other.min() <= self.max()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "figure": self.name, "median": self.median(), "min": self.min(),
            "max": self.max(), "runs": self.runs,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Figure> {
        let runs = value["runs"].as_array()?.iter().map(Value::as_f64);
        Figure::new(value["figure"].as_str()?, runs.collect::<Option<_>>()?)
    }
}

/// Collects samples to figures, in the order of their first samples.
pub(crate) fn gather(samples: impl IntoIterator<Item = Sample>) -> Vec<Figure> {
    let mut order: Vec<(String, Vec<f64>)> = Vec::new();
    let mut places = HashMap::new();
    for (name, value) in samples {
        let place = *places.entry(name.clone()).or_insert_with(|| {
            order.push((name, Vec::new()));
            order.len() - 1
        });
        order[place].1.push(value);
    }
    order
        .into_iter()
        .filter_map(|(name, runs)| Figure::new(&name, runs))
        .collect()
}

/// Returns whether greater is better: it is for rates, and not for times and bytes.
pub(crate) fn more_is_better(name: &str) -> bool {
    base(name).ends_with("/s")
}

/// Returns a figure's name without the variant that may follow it in brackets: `spawn, thousand/s
/// [off heap]` is a variant of `spawn, thousand/s`.
pub(crate) fn base(name: &str) -> &str {
    match name.split_once(" [") {
        Some((base, rest)) if rest.ends_with(']') => base,
        _ => name,
    }
}

/// The result of comparing two figures of the same work.
pub(crate) enum Against {
    /// The ranges overlap: there is no significant difference.
    Noise,
    /// Better by this factor, by the medians.
    Better(f64),
    /// Worse by this factor.
    Worse(f64),
}

impl Against {
    pub(crate) fn of(ours: &Figure, theirs: &Figure) -> Against {
        if ours.overlaps(theirs) {
            return Against::Noise;
        }
        let ratio = ours.median() / theirs.median();
        let better = (ratio > 1.0) == more_is_better(&ours.name);
        let times = if ratio > 1.0 { ratio } else { 1.0 / ratio };
        if better {
            Against::Better(times)
        } else {
            Against::Worse(times)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, runs: &[f64]) -> Figure {
        Figure::new(name, runs.to_vec()).unwrap()
    }

    #[test]
    fn samples_are_read_and_other_lines_are_skipped() {
        let text =
            "warming up\nsample\tring of 503, ns/hop\t12.5\nsample\tbroken\tx\nsample\tb\t3\r";
        let expected = vec![
            ("ring of 503, ns/hop".to_owned(), 12.5),
            ("b".to_owned(), 3.0),
        ];
        assert_eq!(samples(text), expected);
    }

    #[test]
    fn runs_are_grouped_by_name_in_order() {
        let samples = [("b", 3.0), ("a", 1.0), ("b", 1.0), ("b", 2.0)];
        let figures = gather(samples.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(
            figures,
            [figure("b", &[1.0, 2.0, 3.0]), figure("a", &[1.0])]
        );
        assert_eq!(
            (figures[0].median(), figures[0].min(), figures[0].max()),
            (2.0, 1.0, 3.0)
        );
    }

    #[test]
    fn a_value_that_is_not_a_number_is_skipped() {
        assert_eq!(Figure::new("a", vec![1.0, f64::NAN]), None);
        assert_eq!(Figure::new("a", vec![]), None);
    }

    #[test]
    fn a_figure_survives_json() {
        let before = figure("a", &[2.0, 1.0, 4.5]);
        assert_eq!(Figure::from_json(&before.to_json()), Some(before));
    }

    #[test]
    fn touching_ranges_count_as_noise() {
        let one = figure("a, ns", &[1.0, 2.0]);
        assert!(matches!(
            Against::of(&one, &figure("a, ns", &[2.0, 9.0])),
            Against::Noise
        ));
        assert!(matches!(
            Against::of(&one, &figure("a, ns", &[0.0, 9.0])),
            Against::Noise
        ));
    }

    #[test]
    fn less_time_or_a_higher_rate_is_better() {
        let (low, high) = (figure("a, ns", &[1.0]), figure("a, ns", &[2.0]));
        assert!(matches!(Against::of(&low, &high), Against::Better(times) if times == 2.0));
        assert!(matches!(Against::of(&high, &low), Against::Worse(times) if times == 2.0));
        let (low, high) = (figure("a/s", &[1.0]), figure("a/s [b]", &[4.0]));
        assert!(matches!(Against::of(&low, &high), Against::Worse(times) if times == 4.0));
        assert!(matches!(Against::of(&high, &low), Against::Better(times) if times == 4.0));
    }

    #[test]
    fn a_variant_is_in_brackets_at_the_end() {
        assert_eq!(
            base("idle memory, B/process [plain]"),
            "idle memory, B/process"
        );
        assert_eq!(base("a [b] c"), "a [b] c");
        assert_eq!(base("a"), "a");
    }
}
