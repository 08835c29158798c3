//! A run as a timeline: for each connection its interest, and how many bytes are where.
//!
//! Time that nothing happens in is cut short, so that what does happen has room.

use std::time::Duration;

use svg::Document;
use svg::node::element::Polygon;

use crate::recorder::Record;
use crate::style::{WIDTH, bytes, line, middle, picture, rectangle, round, text};

const LEFT: f64 = 16.0;
const RIGHT: f64 = WIDTH - 16.0;
/// A pause is drawn as no longer than this, and a long one as this many times as long.
const PAUSE: Duration = Duration::from_micros(400);
const LONG_PAUSE: (Duration, u32) = (Duration::from_millis(100), 20);
/// The places of a connection's bytes, as a gauge names them, on their way in and out.
const PLACES: [(&str, &str); 4] = [
    ("kernel_in", "in the kernels, on the way in"),
    ("received", "read buffer"),
    ("unsent", "write buffer"),
    ("kernel_out", "in the kernels, on the way out"),
];

/// Draws a run.
pub(crate) fn draw(name: &str, run: &[Record]) -> String {
    let scale = Scale::new(run);
    let mut ids: Vec<&str> = Vec::new();
    for record in run.iter().filter(|record| record.step == "interest") {
        if !ids.contains(&record.id.as_str()) {
            ids.push(&record.id);
        }
    }
    let height = 96.0 + 250.0 * ids.len() as f64;
    let title = format!("Timeline of the run {name}");
    let mut document = picture(&title, &description(run, &ids), height);
    for (number, id) in ids.iter().enumerate() {
        document = draw_connection(document, run, id, 16.0 + 250.0 * number as f64, &scale);
    }
    let y = height - 64.0;
    document = draw_turns(document, run, y, &scale);
    format!("{document}\n")
}

fn description(run: &[Record], ids: &[&str]) -> String {
    let switches = run.iter().filter(|record| record.step == "interest");
    let switches: Vec<String> = switches
        .map(|record| {
            let (from, to) = (record.field("from"), record.field("to"));
            format!("{} from {from} to {to} at {}", record.id, seconds(record.at))
        })
        .collect();
    format!("Connections: {}. Interest changes: {}.", ids.join(", "), switches.join("; "))
}

/// Where a time is in the picture.
struct Scale {
    /// Each time of the run, and how far along it is drawn.
    stops: Vec<(Duration, f64)>,
}

impl Scale {
    fn new(run: &[Record]) -> Self {
        let mut stops = vec![(Duration::ZERO, 0.0)];
        for record in run {
            let (last, along) = stops[stops.len() - 1];
            if record.at > last {
                let pause = record.at - last;
                let is_long = pause >= LONG_PAUSE.0;
                let step = if is_long { PAUSE * LONG_PAUSE.1 } else { pause.min(PAUSE) };
                stops.push((record.at, along + step.as_secs_f64()));
            }
        }
        let end = stops[stops.len() - 1].1.max(f64::MIN_POSITIVE);
        for stop in &mut stops {
            stop.1 = LEFT + (RIGHT - LEFT) * stop.1 / end;
        }
        Self { stops }
    }

    fn x(&self, at: Duration) -> f64 {
        let place = self.stops.partition_point(|stop| stop.0 < at);
        self.stops.get(place).map_or(RIGHT, |stop| stop.1)
    }
}

fn draw_connection(
    mut document: Document,
    run: &[Record],
    id: &str,
    y: f64,
    scale: &Scale,
) -> Document {
    let own: Vec<&Record> = run.iter().filter(|record| record.id == id).collect();
    document = document.add(text(LEFT, y + 14.0, format!("{id}: interest"), "strong"));
    document = draw_interest(document, &own, y + 22.0, scale);
    let gauges: Vec<&Record> = own.into_iter().filter(|record| record.step == "gauge").collect();
    for (number, (field, words)) in PLACES.into_iter().enumerate() {
        let top = y + 62.0 + 47.0 * number as f64;
        let most = gauges.iter().map(|gauge| gauge.number(field)).max().unwrap_or(0);
        document = document.add(text(
            LEFT,
            top + 12.0,
            format!("{words}: at most {}", bytes(most)),
            "small",
        ));
        let (base, full) = (top + 42.0, 24.0);
        let level = |gauge: &Record| base - full * gauge.number(field) as f64 / most.max(1) as f64;
        let mut points = vec![(LEFT, base)];
        for gauge in &gauges {
            let before = points[points.len() - 1].1;
            points.push((scale.x(gauge.at), before));
            points.push((scale.x(gauge.at), level(gauge)));
        }
        points.extend([(RIGHT, points[points.len() - 1].1), (RIGHT, base)]);
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", round(*x), round(*y))).collect();
        document = document
            .add(Polygon::new().set("points", points.join(" ")).set("class", "level"))
            .add(line((LEFT, base), (RIGHT, base), "line"));
    }
    document
}

/// The interest over time, as a band with its names.
fn draw_interest(mut document: Document, own: &[&Record], y: f64, scale: &Scale) -> Document {
    let switches: Vec<&&Record> = own.iter().filter(|record| record.step == "interest").collect();
    let end = own.iter().find(|record| record.step == "closed").map_or(RIGHT, |it| scale.x(it.at));
    for (number, record) in switches.iter().enumerate() {
        let interest = record.field("to");
        let from = scale.x(record.at);
        let to = switches.get(number + 1).map_or(end.max(from), |next| scale.x(next.at));
        let (class, words) = match interest {
            "readable" => ("readable", "readable"),
            "writable" => ("writable", "writable"),
            "none" => ("none", "none"),
            _ => ("both", "both"),
        };
        document = document.add(rectangle(from, y, to - from, 26.0, class));
        if to - from > 9.0 * words.len() as f64 {
            let label = text(f64::midpoint(from, to), y + 18.0, words, "on-colour");
            document = document.add(middle(label));
        }
    }
    document
}

/// The turns as ticks, the pauses between them in words, and the axis.
fn draw_turns(mut document: Document, run: &[Record], y: f64, scale: &Scale) -> Document {
    document = document.add(text(LEFT, y + 12.0, "turns of the loop (a tick each)", "small"));
    let mut last = Duration::ZERO;
    for record in run {
        let pause = record.at.saturating_sub(last);
        if pause >= LONG_PAUSE.0 {
            let (from, to) = (scale.x(last), scale.x(record.at));
            let words = format!("{} asleep", seconds(pause));
            document = document
                .add(rectangle(from, y + 18.0, to - from, 14.0, "none"))
                .add(middle(text(f64::midpoint(from, to), y + 50.0, words, "small strong")));
        }
        if record.step == "waited" {
            let x = scale.x(record.at);
            document = document.add(line((x, y + 18.0), (x, y + 32.0), "strong-line"));
        }
        last = record.at;
    }
    let end = run.last().map_or(Duration::ZERO, |record| record.at);
    document
        .add(line((LEFT, y + 32.0), (RIGHT, y + 32.0), "line"))
        .add(text(LEFT, y + 50.0, "0 s", "small"))
        .add(text(RIGHT, y + 50.0, seconds(end), "small").set("text-anchor", "end"))
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis if millis < 1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
