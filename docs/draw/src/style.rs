//! What all pictures share: their size, their colours for light and dark, and their text.

use svg::Document;
use svg::node::element::{Description, Line, Rectangle, Style, Text, Title};

/// The width of every picture, in its own units. Text of 15 units is legible at 400 pixels.
pub(crate) const WIDTH: f64 = 640.0;

const CSS: &str = "
.back { fill: #ffffff; }
text { font: 15px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 13px; fill: #59636e; }
.strong { font-weight: 600; }
.line { stroke: #818b98; stroke-width: 1; fill: none; }
.strong-line { stroke: #1f2328; stroke-width: 1.6; fill: none; }
.box { fill: #f6f8fa; stroke: #818b98; }
.readable { fill: #1f77d0; } .writable { fill: #d9730d; } .both { fill: #8250df; }
.none { fill: #afb8c1; } .sleep { fill: #eaeef2; } .level { fill: #54aeff; }
.on-colour { fill: #ffffff; font-weight: 600; }
.i0 { stroke: #1f77d0; } .i1 { stroke: #d9730d; } .i2 { stroke: #59636e; }
.i3 { stroke: #1a7f37; } .i4 { stroke: #8250df; } .i5 { stroke: #cf222e; }
.edge { stroke-width: 1.8; fill: none; }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117; }
text { fill: #e6edf3; } .small { fill: #9198a1; }
.line { stroke: #656c76; } .strong-line { stroke: #e6edf3; }
.box { fill: #151b23; stroke: #656c76; }
.none { fill: #3d444d; } .sleep { fill: #1c2129; } .level { fill: #316dca; }
.on-colour { fill: #ffffff; }
.i0 { stroke: #58a6ff; } .i1 { stroke: #f0883e; } .i2 { stroke: #9198a1; }
.i3 { stroke: #3fb950; } .i4 { stroke: #bc8cff; } .i5 { stroke: #ff7b72; }
}
";

/// Begins a picture. The description is its alternative text.
pub(crate) fn picture(title: &str, description: &str, height: f64) -> Document {
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("role", "img")
        .add(Title::new(title))
        .add(Description::new().add(svg::node::Text::new(description)))
        .add(Style::new(CSS))
        .add(rectangle(0.0, 0.0, WIDTH, height, "back"))
}

pub(crate) fn rectangle(x: f64, y: f64, width: f64, height: f64, class: &str) -> Rectangle {
    Rectangle::new()
        .set("x", round(x))
        .set("y", round(y))
        .set("width", round(width.max(0.0)))
        .set("height", round(height.max(0.0)))
        .set("class", class)
}

pub(crate) fn text(x: f64, y: f64, words: impl Into<String>, class: &str) -> Text {
    let text = Text::new(words).set("x", round(x)).set("y", round(y));
    if class.is_empty() { text } else { text.set("class", class) }
}

pub(crate) fn middle(text: Text) -> Text {
    text.set("text-anchor", "middle")
}

pub(crate) fn line(from: (f64, f64), to: (f64, f64), class: &str) -> Line {
    Line::new()
        .set("x1", round(from.0))
        .set("y1", round(from.1))
        .set("x2", round(to.0))
        .set("y2", round(to.1))
        .set("class", class)
}

/// A coordinate with one digit, so that a picture is the same on every machine.
pub(crate) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A number of bytes in a few letters.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} KiB", count / 1_024),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
