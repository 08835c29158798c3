//! From the rounds of one server in one scenario to the figures that are shown.
//!
//! Noise has one side: another program can take time away and give none. So the best round says
//! what a server can do, and the median what to expect.

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
        self.spread(true, |report| Some(report.messages as f64 / report.seconds))
    }

    /// Microseconds of the server's processor time for a unit.
    pub(crate) fn server_time(&self) -> Option<Spread> {
        self.spread(false, |report| a_unit(report.server_time, report))
    }

    /// The same of the load.
    pub(crate) fn load_time(&self) -> Option<Spread> {
        self.spread(false, |report| a_unit(report.load_time, report))
    }

    /// In microseconds.
    pub(crate) fn latency(&self, quantile: impl Fn(Latency) -> u64) -> Option<Spread> {
        self.spread(false, |report| Some(quantile(report.latency?) as f64 / 1e3))
    }

    /// Megabytes a second that came back to the groups that are not measured.
    pub(crate) fn background(&self) -> Option<Spread> {
        self.spread(true, |report| match report.background_bytes {
            0 => None,
            bytes => Some(bytes as f64 / report.seconds / 1e6),
        })
    }

    fn spread(&self, more: bool, figure: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure).collect(), more)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
