//! From the rounds of one server in one scenario to the figures that are shown.
//!
//! Noise has one side: another program can take time away and give none. So the best round says
//! what a server can do, and the median what to expect. Two servers are compared best round by
//! round: what disturbs one for seconds disturbs the other too.

use serde::Serialize;

use crate::load::{Latency, Report};

/// One server in one scenario.
#[derive(Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) server: String,
    pub(crate) rounds: Vec<Report>,
    /// Why it was given up.
    pub(crate) failure: Option<String>,
}

impl Cell {
    pub(crate) fn new(server: &str) -> Self {
        Self { server: server.to_owned(), rounds: Vec::new(), failure: None }
    }

    /// Units a second.
    pub(crate) fn rate(&self) -> Option<Spread> {
        self.spread(true, a_second)
    }

    /// Returns the rate in ratio to another server's.
    pub(crate) fn rate_to(&self, other: &Cell) -> Option<Paired> {
        self.paired(other, a_second)
    }

    /// Microseconds of the server's processor time for a unit.
    pub(crate) fn server_time(&self) -> Option<Spread> {
        self.spread(false, server_time_a_unit)
    }

    /// Returns the server's time in ratio to another server's.
    pub(crate) fn server_time_to(&self, other: &Cell) -> Option<Paired> {
        self.paired(other, server_time_a_unit)
    }

    /// Returns the load's time for a unit.
    pub(crate) fn load_time(&self) -> Option<Spread> {
        self.spread(false, |report| a_unit(report.load_time, report))
    }

    /// In microseconds.
    pub(crate) fn latency(&self, quantile: impl Fn(Latency) -> u64) -> Option<Spread> {
        self.spread(false, |report| Some(quantile(report.latency?) as f64 / 1e3))
    }

    /// Returns the megabytes a second that were echoed to the groups that are not measured.
    pub(crate) fn background(&self) -> Option<Spread> {
        self.spread(true, |report| match report.background_bytes {
            0 => None,
            bytes => Some(bytes as f64 / report.seconds / 1e6),
        })
    }

    fn spread(&self, more: bool, figure: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        let rounds = self.rounds.iter().filter(|_| self.failure.is_none());
        Spread::of(rounds.filter_map(figure).collect(), more)
    }

    fn paired(&self, other: &Cell, figure: impl Fn(&Report) -> Option<f64>) -> Option<Paired> {
        if self.failure.is_some() || other.failure.is_some() {
            return None;
        }
        let rounds = self.rounds.iter().zip(&other.rounds);
        let ratios = rounds.filter_map(|(one, other)| Some(figure(one)? / figure(other)?));
        Paired::of(&ratios.collect::<Vec<f64>>())
    }
}

fn a_second(report: &Report) -> Option<f64> {
    Some(report.messages as f64 / report.seconds)
}

fn server_time_a_unit(report: &Report) -> Option<f64> {
    a_unit(report.server_time, report)
}

fn a_unit(nanoseconds: u64, report: &Report) -> Option<f64> {
    match report.messages {
        0 => None,
        messages => Some(nanoseconds as f64 / messages as f64 / 1e3),
    }
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) best: f64,
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

impl Spread {
    /// `more`: whether more is better.
    pub(crate) fn of(mut figures: Vec<f64>, more: bool) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => f64::midpoint(figures[middle - 1], figures[middle]),
            _ => figures[middle],
        };
        let (best, worst) = if more { (most, least) } else { (least, most) };
        Some(Self { best, median, worst })
    }

    pub(crate) fn ratio_to(self, other: Self) -> Self {
        Self {
            best: self.best / other.best,
            median: self.median / other.median,
            worst: self.worst / other.worst,
        }
    }
}

/// The ratio of two servers round by round: its mean, and the standard error of that. The mean is
/// the geometric one, so that it makes no difference which figure is divided by which.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Paired {
    pub(crate) mean: f64,
    pub(crate) error: f64,
}

impl Paired {
    /// Returns the ratio of two rounds at least, since one does not show how sure it is.
    fn of(ratios: &[f64]) -> Option<Self> {
        let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let count = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / count;
        let squares: f64 = logarithms.iter().map(|one| (one - mean).powi(2)).sum();
        let error = (squares / (count - 1.0) / count).sqrt();
        let paired = Self { mean: mean.exp(), error: mean.exp() * error };
        (ratios.len() > 1 && paired.error.is_finite()).then_some(paired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_round_by_round_does_not_see_what_disturbs_both() {
        let disturbed = [1.0, 7.0, 3.0];
        let ratios = disturbed.map(|speed| (speed * 2.0) / speed);
        assert_eq!(Paired::of(&ratios), Some(Paired { mean: 2.0, error: 0.0 }));
    }

    #[test]
    fn ratio_is_as_sure_as_the_rounds_agree() {
        let paired = Paired::of(&[0.5, 2.0]).unwrap();
        assert!((paired.mean - 1.0).abs() < 1e-9, "half and double cancel out: {paired:?}");
        // Both are ln 2 off, so that is the standard error of the two.
        assert!((paired.error - 2f64.ln()).abs() < 1e-9, "{paired:?}");
        let more = Paired::of(&[0.5, 2.0, 0.5, 2.0, 0.5, 2.0]).unwrap();
        assert!(more.error < paired.error / 2.0);
    }

    #[test]
    fn one_round_and_one_without_messages_tell_no_ratio() {
        for ratios in [&[][..], &[1.0], &[1.0, 0.0], &[1.0, f64::NAN]] {
            assert_eq!(Paired::of(ratios), None, "{ratios:?}");
        }
    }

    #[test]
    fn best_is_most_or_least() {
        let figures = vec![3.0, 1.0, 2.0, 10.0];
        let more = Spread::of(figures.clone(), true);
        assert_eq!(more, Some(Spread { best: 10.0, median: 2.5, worst: 1.0 }));
        let less = Spread::of(figures, false);
        assert_eq!(less, Some(Spread { best: 1.0, median: 2.5, worst: 10.0 }));
        assert_eq!(Spread::of(Vec::new(), true), None);
    }
}
