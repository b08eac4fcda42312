//! A figure over the rounds of a run: median, smallest and largest.

use serde::Serialize;

/// The median of some rounds and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of the figures that are finite; `None` if there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// `figure / base` of every round in which both were measured. Quotients are taken within a round, because what
/// slows the machine down slows both sides of it.
pub(crate) fn quotients(figures: &[Option<f64>], base: &[Option<f64>]) -> Vec<f64> {
    pairs(figures, base)
        .filter(|(_, base)| *base > 0.0)
        .map(|(figure, base)| figure / base)
        .collect()
}

/// `figure − base` of every round in which both were measured.
pub(crate) fn differences(figures: &[Option<f64>], base: &[Option<f64>]) -> Vec<f64> {
    pairs(figures, base).map(|(figure, base)| figure - base).collect()
}

fn pairs(figures: &[Option<f64>], base: &[Option<f64>]) -> impl Iterator<Item = (f64, f64)> {
    figures
        .iter()
        .zip(base)
        .filter_map(|(figure, base)| Some(((*figure)?, (*base)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let cases = [
            (&[][..], None),
            (&[3.0], Some((3.0, 3.0, 3.0))),
            (&[5.0, 1.0, 3.0], Some((3.0, 1.0, 5.0))),
            (&[4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0))),
            (&[f64::NAN, 2.0, f64::INFINITY], Some((2.0, 2.0, 2.0))),
        ];
        for (figures, expected) in cases {
            let got =
                Spread::of(figures.iter().copied()).map(|spread| (spread.median, spread.min, spread.max));
            assert_eq!(got, expected, "{figures:?}");
        }
    }

    #[test]
    fn quotients_and_differences_are_taken_round_by_round() {
        let figures = [Some(50.0), None, Some(90.0), Some(10.0)];
        let base = [Some(100.0), Some(100.0), Some(60.0), None];
        assert_eq!(quotients(&figures, &base), [0.5, 1.5]);
        assert_eq!(differences(&figures, &base), [-50.0, 30.0]);
    }

    #[test]
    fn a_base_of_nothing_has_no_quotient() {
        assert!(quotients(&[Some(1.0)], &[Some(0.0)]).is_empty());
    }
}
