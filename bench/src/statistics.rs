//! What the samples of one cell of the table say together.

/// The middle of a set of samples, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without samples, or if one of them is no number.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        if samples.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// The spread of `numerators[i] / denominators[i]`: both of one round, so that what slowed the
    /// whole machine for a while slowed both. `None` if the rounds do not pair up or one
    /// denominator is not above zero.
    pub(crate) fn of_ratios(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let pairs_up = numerators.len() == denominators.len();
        if !pairs_up || !denominators.iter().all(|denominator| *denominator > 0.0) {
            return None;
        }
        let ratios: Vec<f64> = numerators.iter().zip(denominators).map(|(n, d)| n / d).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_of_the_sorted_samples() {
        let spread = |median, min, max| Some(Spread { median, min, max });
        let cases = [
            (vec![], None),
            (vec![2.0], spread(2.0, 2.0, 2.0)),
            (vec![4.0, 1.0], spread(2.5, 1.0, 4.0)),
            (vec![9.0, 1.0, 2.0], spread(2.0, 1.0, 9.0)),
            (vec![9.0, 3.0, 1.0, 2.0], spread(2.5, 1.0, 9.0)),
            (vec![1.0, f64::NAN], None),
        ];
        for (samples, expected) in cases {
            assert_eq!(Spread::of(&samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn ratios_pair_the_rounds() {
        // The machine was half as fast in the second round: the ratio does not see it.
        let found = Spread::of_ratios(&[12.0, 24.0, 13.0], &[10.0, 20.0, 10.0]);
        assert_eq!(found, Some(Spread { median: 1.2, min: 1.2, max: 1.3 }));
    }

    #[test]
    fn ratios_need_pairs_and_a_denominator() {
        assert_eq!(Spread::of_ratios(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[], &[]), None);
    }
}
