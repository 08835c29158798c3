//! A progress bar for bytes that fits 40 columns.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// What is always there takes 35 columns at most, and the bar the rest.
const TEMPLATE: &str = "{wide_bar} {done}/{all} {rate} {eta} left";

/// Returns a bar on standard error, until it is dropped. Where that is no terminal, nothing is
/// drawn.
pub(crate) fn progress_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let Ok(style) = ProgressStyle::with_template(TEMPLATE) else { return bar };
    let done = |state: &ProgressState, out: &mut dyn Write| write_bytes(out, state.pos(), "");
    let all = move |_: &ProgressState, out: &mut dyn Write| write_bytes(out, total, "");
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        write_bytes(out, state.per_sec() as u64, "/s");
    };
    let style = style.with_key("done", done).with_key("all", all).with_key("rate", rate);
    bar.with_style(style.progress_chars("#-"))
}

/// Writes a number of bytes with three digits: the units of indicatif have up to six.
fn write_bytes(out: &mut dyn Write, count: u64, behind: &str) {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut whole, mut thousandths, mut unit) = (count, 0, 0);
    while whole >= 1000 {
        (whole, thousandths, unit) = (whole / 1000, whole % 1000, unit + 1);
    }
    let unit = UNITS[unit];
    // What the screen does not take cannot be helped.
    let _ = match whole {
        _ if unit == "B" => write!(out, "{whole} B{behind}"),
        0..10 => write!(out, "{whole}.{:02} {unit}{behind}", thousandths / 10),
        10..100 => write!(out, "{whole}.{} {unit}{behind}", thousandths / 100),
        _ => write!(out, "{whole} {unit}{behind}"),
    };
}
