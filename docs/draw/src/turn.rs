//! One turn of the loop as a circle, made from the stages in the source.

use std::f64::consts::TAU;

use svg::node::element::Circle;

use crate::style::{WIDTH, line, middle, picture, round, text};

const HEIGHT: f64 = 470.0;
const RADIUS: f64 = 150.0;

/// What each stage does. A stage that has no line here makes the picture fail.
const WORDS: [(&str, &str); 8] = [
    ("Over", "wait for the kernel (epoll_wait)"),
    ("Alarms", "timers and deadlines"),
    ("Wake", "another thread woke it"),
    ("Sources", "foreign sources"),
    ("Fresh", "serve: fill, deliver, settle"),
    ("Accepting", "up to a budget"),
    ("Deferred", "one that yielded"),
    ("Last", "the turn ends"),
];

/// Draws the stages of `enum Stage`.
pub(crate) fn draw(source: &str) -> String {
    let stages = stages(source);
    let description = format!("A turn goes through these stages: {}.", stages.join(", "));
    let mut document = picture("One turn of the loop", &description, HEIGHT);
    let center = (WIDTH / 2.0, HEIGHT / 2.0);
    let circle = Circle::new()
        .set("cx", center.0)
        .set("cy", center.1)
        .set("r", RADIUS)
        .set("class", "strong-line");
    document = document
        .add(circle)
        .add(middle(text(center.0, center.1 - 12.0, "after each event:", "strong")))
        .add(middle(text(center.0, center.1 + 10.0, "settle what the program", "")))
        .add(middle(text(center.0, center.1 + 30.0, "did: flush, epoll_ctl", "")));
    for (number, stage) in stages.iter().enumerate() {
        let angle = TAU * number as f64 / stages.len() as f64 - TAU / 4.0;
        let (x, y) = (center.0 + RADIUS * angle.cos(), center.1 + RADIUS * angle.sin());
        let words = WORDS.iter().find(|words| words.0 == stage).map_or("?", |words| words.1);
        let dot = Circle::new().set("cx", round(x)).set("cy", round(y)).set("r", 7.0);
        document =
            document.add(dot.set("class", if number == 0 { "writable" } else { "readable" }));
        let name = if number == 0 { "Wait" } else { stage };
        let anchor = match angle.cos() {
            cos if cos > 0.3 => "start",
            cos if cos < -0.3 => "end",
            _ => "middle",
        };
        let (dx, dy) = match anchor {
            "start" => (14.0, 0.0),
            "end" => (-14.0, 0.0),
            _ => (0.0, if angle.sin() < 0.0 { -36.0 } else { 24.0 }),
        };
        for (row, (line, class)) in [(name, "strong"), (words, "small")].into_iter().enumerate() {
            let y = y + dy + 17.0 * row as f64 - if anchor == "middle" { 0.0 } else { 2.0 };
            document = document.add(text(x + dx, y, line, class).set("text-anchor", anchor));
        }
    }
    // The way round, at half past one.
    let angle = -TAU / 8.0 + TAU / 16.0;
    let (x, y) = (center.0 + RADIUS * angle.cos(), center.1 + RADIUS * angle.sin());
    document = document.add(line((x - 9.0, y - 6.0), (x + 1.0, y + 3.0), "strong-line")).add(line(
        (x + 7.0, y - 9.0),
        (x + 1.0, y + 3.0),
        "strong-line",
    ));
    format!("{document}\n")
}

/// The variants of the enum, in order.
fn stages(source: &str) -> Vec<String> {
    let body = source.split("enum Stage {").nth(1).unwrap_or("");
    let body = body.split("\n}").next().unwrap_or("");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(|first: char| first.is_uppercase()));
    variants.map(|line| line.chars().take_while(|c| c.is_alphanumeric()).collect()).collect()
}
