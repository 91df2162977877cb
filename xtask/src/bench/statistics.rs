//! What is said about many measurements of one thing.

/// Milliseconds, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// None if there is nothing to say anything about.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Sample> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Sample(values))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1]
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample = Sample::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!((sample.least(), sample.median(), sample.percentile(99)), (1.0, 100.0, 198.0));
        let one = Sample::of(vec![7.0]).unwrap();
        assert_eq!((one.median(), one.percentile(99)), (7.0, 7.0));
        assert!(Sample::of(Vec::new()).is_none());
    }
}
