//! Two kernel queues and two buffers under back-pressure: four moments of a run.

use svg::Document;

use crate::recorder::Record;
use crate::style::{WIDTH, bytes, line, middle, picture, rectangle, text};

const FIELDS: [(&str, &str); 4] = [
    ("kernel_in", "kernels, in"),
    ("received", "read buffer"),
    ("unsent", "write buffer"),
    ("kernel_out", "kernels, out"),
];
const ROW: f64 = 92.0;

/// Draws the moments of a run in which a peer does not read.
pub(crate) fn draw(run: &[Record]) -> String {
    let moments = moments(run);
    let height = 74.0 + ROW * moments.len() as f64;
    let described: Vec<String> = moments
        .iter()
        .map(|(words, gauge)| {
            let levels =
                FIELDS.map(|(field, name)| format!("{name} {}", bytes(gauge.number(field))));
            format!("{words}: {}", levels.join(", "))
        })
        .collect();
    let description = described.join(". ");
    let title = "Two kernel queues and two buffers, while the peer does not read";
    let mut document = picture(title, &description, height);
    let gauges = || run.iter().filter(|record| record.step == "gauge");
    let most =
        FIELDS.map(|(field, _)| gauges().map(|it| it.number(field)).max().unwrap_or(1).max(1));
    document = head(document);
    for (number, (words, gauge)) in moments.iter().enumerate() {
        document = row(document, words, gauge, most, 62.0 + ROW * number as f64);
    }
    format!("{document}\n")
}

/// The moments that the picture shows: what each is, and its gauge.
fn moments(run: &[Record]) -> Vec<(&'static str, &Record)> {
    let gauges: Vec<&Record> = run.iter().filter(|record| record.step == "gauge").collect();
    let switch = |to: &str| {
        let it = run.iter().find(|it| it.step == "interest" && it.field("to") == to);
        it.map_or(std::time::Duration::MAX, |it| it.at)
    };
    let stalled = switch("writable");
    let before = gauges
        .iter()
        .filter(|gauge| gauge.at < stalled && gauge.number("unsent") == 0)
        .max_by_key(|gauge| gauge.number("kernel_out"));
    let full = gauges.iter().max_by_key(|gauge| gauge.number("kernel_in"));
    let again = gauges
        .iter()
        .filter(|gauge| {
            gauge.at > stalled && gauge.number("kernel_in") + gauge.number("unsent") == 0
        })
        .max_by_key(|gauge| gauge.number("kernel_out"));
    let first = gauges.iter().find(|gauge| gauge.at >= stalled && gauge.number("unsent") > 0);
    let moments = [
        ("The peer writes and does not read; the answers collect in the kernels", before),
        ("No more room: unsent bytes stay, and the loop stops reading", first),
        ("Now the peer's bytes collect too, until it cannot write: nothing moves", full),
        ("The peer reads again: everything drains", again),
    ];
    moments.into_iter().filter_map(|(words, gauge)| Some((words, *gauge?))).collect()
}

fn column(number: usize) -> f64 {
    118.0 + number as f64 * 106.0
}

fn head(mut document: Document) -> Document {
    document = document.add(text(16.0, 24.0, "peer →", "strong"));
    document = document.add(text(WIDTH - 16.0, 24.0, "→ peer", "strong").set("text-anchor", "end"));
    for (number, (_, name)) in FIELDS.into_iter().enumerate() {
        document = document.add(middle(text(column(number) + 43.0, 24.0, name, "small strong")));
    }
    document.add(line((16.0, 36.0), (WIDTH - 16.0, 36.0), "line"))
}

fn row(mut document: Document, words: &str, gauge: &Record, most: [u64; 4], y: f64) -> Document {
    document = document.add(text(16.0, y, words, ""));
    for (number, (field, _)) in FIELDS.into_iter().enumerate() {
        let (x, top, width, height) = (column(number), y + 14.0, 86.0, 30.0);
        let count = gauge.number(field);
        let share = (count as f64 / most[number] as f64).min(1.0);
        document = document
            .add(rectangle(x, top, width, height, "box"))
            .add(rectangle(x, top, width * share, height, "level"))
            .add(middle(text(x + width / 2.0, top + 20.0, bytes(count), "strong")));
        let arrow = text(x - 16.0, top + 20.0, "→", "small");
        document = document.add(arrow);
    }
    document.add(text(column(3) + 90.0, y + 34.0, "→", "small"))
}
