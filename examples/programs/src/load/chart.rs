//! A chart of the latencies over the time of a load, as SVG.

use std::error::Error;
use std::time::Duration;

use plotters::prelude::*;

use super::Sample;

const SIZE: (u32, u32) = (960, 540);

/// A line of the chart: its label, its colour, and what it shows of an interval.
type Line = (&'static str, RGBColor, fn(&Sample) -> Duration);

/// The colours differ also for people who do not distinguish red from green.
const LINES: [Line; 3] = [
    ("max", RGBColor(0xb0, 0x30, 0x60), |sample| sample.max),
    ("p99", RGBColor(0xd0, 0x80, 0x00), |sample| sample.p99),
    ("p50", RGBColor(0x00, 0x60, 0xa0), |sample| sample.p50),
];

/// Draws the chart.
///
/// # Errors
///
/// Returns what plotters cannot draw.
pub fn draw(title: &str, samples: &[Sample]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let nanos = |time: Duration| time.as_nanos().max(1) as f64;
        let low = samples.iter().map(|sample| nanos(sample.p50)).fold(f64::INFINITY, f64::min);
        let high = samples.iter().map(|sample| nanos(sample.max)).fold(1.0, f64::max);
        let end = samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..end, (low.min(high) / 1.5..high * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc("latency")
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 14))
            .light_line_style(TRANSPARENT)
            .y_label_formatter(&|nanos| format!("{:?}", Duration::from_nanos(*nanos as u64)))
            .draw()?;
        for (label, colour, value) in LINES {
            let points = samples.iter().map(|it| (it.at.as_secs_f64(), nanos(value(it))));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 14))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
