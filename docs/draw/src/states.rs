//! The state machine of a connection, drawn from the table in its source.

use svg::node::element::Path;

use crate::style::{middle, picture, rectangle, round, text};

const HEIGHT: f64 = 780.0;
const BOX: (f64, f64) = (150.0, 30.0);

/// Where each state is drawn: the middle of its box.
const PLACES: [(&str, f64, f64); 13] = [
    ("Connecting", 320.0, 40.0),
    ("ConnectingToFinish", 84.0, 120.0),
    ("ConnectingToClose", 556.0, 120.0),
    ("Open", 320.0, 210.0),
    ("Finishing", 84.0, 300.0),
    ("Closing", 556.0, 300.0),
    ("PeerFinished", 406.0, 350.0),
    ("Finished", 84.0, 420.0),
    ("Lingering", 556.0, 420.0),
    ("BothFinishing", 84.0, 540.0),
    ("BothClosing", 556.0, 540.0),
    ("Broken", 234.0, 350.0),
    ("Closed", 320.0, 640.0),
];

/// Draws the table of `src/state.rs`: a colour and a number for each input.
pub(crate) fn draw(source: &str) -> String {
    let rows: Vec<Vec<&str>> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! |")?.strip_suffix('|'))
        .filter(|row| !row.starts_with('-'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let inputs = &rows[0][1..];
    let mut edges = Vec::new();
    for row in &rows[1..] {
        for (number, cell) in row[1..].iter().enumerate() {
            if let Some(next) = cell.split(' ').next().filter(|next| !["", "·"].contains(next)) {
                edges.push((row[0], next, number));
            }
        }
    }
    let described: Vec<String> = edges
        .iter()
        .map(|(from, to, input)| format!("{from} to {to} by {}", inputs[*input].trim_matches('`')))
        .collect();
    let title = "The state machine of a connection";
    let mut document = picture(title, &format!("{}.", described.join("; ")), HEIGHT);
    for (number, (from, to, input)) in edges.iter().enumerate() {
        let parallel = edges[..number].iter().filter(|it| (it.0, it.1) == (*from, *to)).count();
        let (path, label) = edge(place(from), place(to), parallel);
        document = document
            .add(Path::new().set("d", path).set("class", format!("edge i{input}")))
            .add(rectangle(label.0 - 8.0, label.1 - 9.0, 16.0, 18.0, "back"))
            .add(middle(text(label.0, label.1 + 5.0, (input + 1).to_string(), "small strong")));
    }
    for (name, x, y) in PLACES {
        document = document
            .add(rectangle(x - BOX.0 / 2.0, y - BOX.1 / 2.0, BOX.0, BOX.1, "box").set("rx", 6.0))
            .add(middle(text(x, y + 5.0, name, if name.len() > 14 { "small strong" } else { "" })));
    }
    for (number, input) in inputs.iter().enumerate() {
        let (x, y) = (30.0 + 200.0 * (number % 3) as f64, 710.0 + 34.0 * (number / 3) as f64);
        let path = format!("M{x},{y} h34");
        document =
            document.add(Path::new().set("d", path).set("class", format!("edge i{number}"))).add(
                text(x + 44.0, y + 5.0, format!("{}  {}", number + 1, input.trim_matches('`')), ""),
            );
    }
    format!("{document}\n")
}

fn place(state: &str) -> (f64, f64) {
    PLACES.iter().find(|place| place.0 == state).map_or((0.0, 0.0), |place| (place.1, place.2))
}

/// The path from one box to another with its tip, and where its number is.
fn edge(from: (f64, f64), to: (f64, f64), parallel: usize) -> (String, (f64, f64)) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy).max(1.0);
    let (ux, uy) = (dx / length, dy / length);
    let leave = |(x, y): (f64, f64), way: f64| {
        let across = (BOX.0 / 2.0 / ux.abs().max(1e-6)).min(BOX.1 / 2.0 / uy.abs().max(1e-6));
        (x + way * ux * across, y + way * uy * across)
    };
    let shift = parallel as f64 * 22.0;
    let (start, end) = (leave(from, 1.0), leave(to, -1.0));
    let (start, end) = ((start.0 + shift, start.1), (end.0 + shift, end.1));
    let back = |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        (end.0 - 10.0 * (ux * cos - uy * sin), end.1 - 10.0 * (ux * sin + uy * cos))
    };
    let point = |(x, y): (f64, f64)| format!("{},{}", round(x), round(y));
    let (left, right) = (back(0.45), back(-0.45));
    let path = format!(
        "M{} L{} M{} L{} L{}",
        point(start),
        point(end),
        point(left),
        point(end),
        point(right)
    );
    let label = (start.0 + (end.0 - start.0) * 0.42, start.1 + (end.1 - start.1) * 0.42);
    (path, label)
}
