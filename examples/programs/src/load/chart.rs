//! A chart of the latencies over the time of a load, as SVG.

use std::time::Duration;

use html_escape::encode_text;

use super::Sample;

/// Draws the chart: its axes in `chart.svg` are for 100 to 940 across, and 480 to 50 up. The
/// latencies are on a logarithmic scale of whole powers of ten.
pub fn draw(title: &str, samples: &[Sample]) -> String {
    let power = |time: Duration| (time.as_nanos().max(1) as f64).log10();
    let low = samples.iter().map(|sample| power(sample.p50)).fold(9.0, f64::min).floor();
    let high = samples.iter().map(|sample| power(sample.max)).fold(low + 1.0, f64::max).ceil();
    let end = samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
    let x = |seconds: f64| 100.0 + 840.0 * seconds / end;
    let y = |power: f64| 480.0 - 430.0 * (power - low) / (high - low);

    let points = |latency: fn(&Sample) -> Duration| -> String {
        let point = |sample: &Sample| (x(sample.at.as_secs_f64()), y(power(latency(sample))));
        samples.iter().map(point).map(|(x, y)| format!("{x:.1},{y:.1} ")).collect()
    };
    let latencies = (low as i32..=high as i32).map(|power| {
        let (y, latency) = (y(power.into()), Duration::from_secs_f64(10_f64.powi(power - 9)));
        let line = format!("<path stroke=\"#ddd\" d=\"M100 {y:.1}H940\"/>");
        format!("{line}<text x=\"92\" y=\"{:.1}\">{latency:?}</text>", y + 5.0)
    });
    let seconds = (0..=5).map(|fifths| end * f64::from(fifths) / 5.0);
    let seconds = seconds.map(|at| format!("<text x=\"{:.1}\" y=\"500\">{at:.1}</text>", x(at)));
    format!(
        include_str!("chart.svg"),
        title = encode_text(title),
        latencies = latencies.collect::<String>(),
        seconds = seconds.collect::<String>(),
        max = points(|sample| sample.max),
        p99 = points(|sample| sample.p99),
        p50 = points(|sample| sample.p50),
    )
}
