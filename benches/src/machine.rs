//! The machine on which was measured: without it a figure says little.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::process;

#[derive(Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    /// How much of all processors others used in the second before the measurement, in per cent:
    /// their work spoils it.
    busy: f64,
    /// When it was looked at, in UTC.
    date: String,
}

/// How long is looked at how busy the machine is.
const LOOK: Duration = Duration::from_secs(1);

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            processor: name.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: process::cores().map_or(0, |cores| cores.len()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            busy: busy(),
            date: date(SystemTime::now()),
        }
    }

    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        let [processor, kernel, date] =
            ["R&D <1>", "6.18", "2026-11-28 05:06 UTC"].map(str::to_owned);
        Self { processor, cores: 2, kernel, busy: 3.0, date }
    }
}

/// Returns a time to the minute, as it is written.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut days, minutes) = (since / 86_400, since / 60 % 1_440);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour, minute) = (days + 1, minutes / 60, minutes % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn busy() -> f64 {
    let look = || processor_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let before = look();
    thread::sleep(LOOK);
    let after = look();
    let [all, idle] = [0, 1].map(|nth| after[nth].saturating_sub(before[nth]) as f64);
    100.0 * (all - idle) / all.max(1.0)
}

/// Returns the time of all processors since the start, and how much of it was idle: what the first
/// line of `/proc/stat` shows, in ticks. Time that the host took away counts as busy.
fn processor_ticks(stat: &str) -> [u64; 2] {
    let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // The guests' time, behind these eight, is in the user's already.
    let ticks: Vec<u64> = ticks.take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    let idle = ticks.iter().skip(3).take(2).sum();
    [ticks.iter().sum(), idle]
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, busy, date } = self;
        write!(out, "{processor}, {cores} cores used, Linux {kernel}, ")?;
        write!(out, "{busy:.0} % busy before, {date}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_that_of_the_calendar() {
        let dates = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_795_842_360, "2026-11-28 05:06 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ];
        for (seconds, expected) in dates {
            assert_eq!(date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn waiting_for_a_disk_is_idle_and_time_taken_by_the_host_is_not() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(processor_ticks(stat), [100 + 20 + 30 + 4000 + 500 + 6 + 7 + 80, 4500]);
        assert_eq!(processor_ticks(""), [0, 0]);
    }
}
